/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A worker that others keep off its CPU holds up the queues that it has. Another one that is awake and has nothing to
 * do finds it: it has made no round for a while, and somebody waits for its CPU. Queues that it holds between turns are
 * taken over; if it is in the middle of a turn, or of a part of another's copy, which nobody else could finish, its
 * thread is moved to the finder's CPU, and goes back by itself when it notices.
 */
#include <sched.h>

#include "engine/engine_internal.h"
#include "lib/clock.h"

/* Longer than any turn takes that is not interrupted. */
#define STALL_NS 200000ULL

static void pin(pid_t thread, uint32_t cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	/* It may have ended, or not want to: then it stays where it is. */
	(void)sched_setaffinity(thread, sizeof(cpus), &cpus);
}

static bool is_stalled(struct worker *worker, struct worker *other, uint64_t now)
{
	struct seen *seen = &worker->seen[other->index];
	uint32_t rounds = load_relaxed(&other->rounds);

	if (seen->since_ns == 0 || seen->rounds != rounds || load_relaxed(&other->asleep)) {
		*seen = (struct seen){.rounds = rounds, .since_ns = now};
		return false;
	}
	return now - seen->since_ns >= STALL_NS && vm_state_cpu_is_wanted(other->cpu);
}

static void rescue(struct worker *worker, struct worker *other)
{
	uint32_t count = min(load_relaxed(&other->active_count), (uint32_t)QUEUES_MAX);
	bool busy = load_relaxed(&other->copies);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t id = load_relaxed(&other->active[i]);
		uint32_t claim = load_relaxed(&worker->pool->seats[id].claim);

		busy |= claim == claim_busy(other->index);
		if (claim == claim_held(other->index))
			worker_take_over(worker, id, other->index);
	}
	if (!busy)
		return;
	pin(load_relaxed(&other->tid), worker->cpu);
	/* Not before: it might be back already, and would stay where it is moved to. */
	store_release(&other->moved, true);
	stats_add(&worker->fwd->worker_stats->rescues, 1);
}

void rescue_look(struct worker *worker)
{
	struct worker_pool *pool = worker->pool;
	uint64_t now;

	if (!pool->config.offload || worker->cpu == CPU_NONE || vm_state_cpu(worker->cpu) == OBSERVER_CPU_UNKNOWN)
		return;
	now = clock_now_ns();
	for (unsigned int i = 0; i < pool->started; i++) {
		struct worker *other = pool->workers[i];

		if (other != worker && is_stalled(worker, other, now))
			rescue(worker, other);
	}
}

void rescue_return(struct worker *worker)
{
	store_relaxed(&worker->moved, false);
	pin(0, worker->cpu);
}
