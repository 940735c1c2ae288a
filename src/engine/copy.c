/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Large deliveries are copied by two workers where one would have an idle CPU beside it (datapath/copy_job.h). The
 * worker of the turn leaves the job in a slot of one that is awake and has nothing to do; who takes it out of the slot
 * by an exchange helps.
 *
 * A worker that sleeps would come too late: a wake-up takes as long as the copy. So a worker that makes many large
 * copies has one on an idle CPU put on duty (call.c), where it is at hand for the next ones, until there have been none
 * for a while or somebody else wants the CPU.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"
#include "lib/clock.h"

/* A helper is woken when there were so many large copies in this time, and stays so long after the last one. */
#define DUTY_COPIES 8
#define DUTY_NS     1000000ULL
#define DUTY_STAYS  300000ULL

static struct worker *of_helpers(struct copy_helpers *helpers)
{
	return container_of(helpers, struct copying, helpers)->worker;
}

/* Awake, with nothing to do and a CPU that nobody else wants. */
static bool has_time(struct worker *other)
{
	return load_relaxed(&other->at_hand) && !load_relaxed(&other->copy_slot) && !vm_state_cpu_is_wanted(other->cpu);
}

static struct worker *find_helper(struct worker *worker)
{
	struct worker_pool *pool = worker->pool;

	for (unsigned int i = 1; i < pool->started; i++) {
		struct worker *other = pool->workers[(worker->index + i) % pool->started];

		if (has_time(other))
			return other;
	}
	return NULL;
}

/* Nobody is at hand: somebody shall be, if this goes on. */
static void call_helper(struct worker *worker)
{
	struct copying *copying = worker->copying;
	struct worker *other;
	uint64_t now;

	if (++copying->missed % DUTY_COPIES)
		return;
	now = clock_now_ns();
	other = now - copying->missed_since_ns < DUTY_NS ? homes_find_idle(worker) : NULL;
	copying->missed_since_ns = now;
	if (!other || load_relaxed(&other->duty_until_ns) > now)
		return;
	store_relaxed(&other->duty_until_ns, now + DUTY_STAYS);
	worker_wake(other);
}

static bool ask(struct copy_helpers *helpers)
{
	struct worker *worker = of_helpers(helpers);

	worker->copying->helper = find_helper(worker);
	if (!worker->copying->helper)
		call_helper(worker);
	return worker->copying->helper;
}

static void offer(struct copy_helpers *helpers, struct copy_job *job)
{
	struct worker *worker = of_helpers(helpers);
	struct copy_job *none = NULL;

	/* Another worker may have been quicker: then nobody comes. */
	__atomic_compare_exchange_n(&worker->copying->helper->copy_slot, &none, job, false, __ATOMIC_RELEASE,
				    __ATOMIC_RELAXED);
}

static void withdraw(struct copy_helpers *helpers, struct copy_job *job)
{
	struct worker *worker = of_helpers(helpers);

	if (load_relaxed(&worker->copying->helper->copy_slot) == job)
		__atomic_compare_exchange_n(&worker->copying->helper->copy_slot, &job, NULL, false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
}

int copy_init(struct worker *worker)
{
	struct copying *copying;

	if (!worker->pool->config.offload)
		return 0;
	copying = aligned_alloc(CACHE_LINE, align_up(sizeof(*copying), CACHE_LINE));
	if (!copying)
		return -ENOMEM;
	memset(copying, 0, sizeof(*copying));
	copying->worker = worker;
	copying->helpers.ask = ask;
	copying->helpers.offer = offer;
	copying->helpers.withdraw = withdraw;
	worker->copying = copying;
	worker->fwd->helpers = &copying->helpers;
	return 0;
}

void copy_fini(struct worker *worker)
{
	free(worker->copying);
}

static void help(struct worker *worker, struct copy_job *job)
{
	const uint64_t before = worker->fwd->worker_stats->copied_bytes;
	struct copy_part part;
	bool any = false;

	/* Whoever finds us off the CPU in here has us moved (rescue.c). */
	store_relaxed(&worker->copies, true);
	while (copy_job_take(worker->fwd, job, &part)) {
		const uint32_t id = queue_id(part.from->index, load_relaxed(&job->from_queue));

		any = true;
		if (!copy_job_make(worker->fwd, &part))
			continue;
		/* Who has the sender's queue says that it sleeps before it looks for the last time (worker.c). */
		full_barrier();
		worker_activate(worker, id);
		break;
	}
	store_relaxed(&worker->copies, false);
	if (!any)
		return;
	stats_add(&worker->fwd->worker_stats->copies_handed, 1);
	/* It is no load of this worker's own. */
	worker->copied_before += worker->fwd->worker_stats->copied_bytes - before;
	store_relaxed(&worker->duty_until_ns, clock_now_ns() + DUTY_STAYS);
}

void copy_take(struct worker *worker)
{
	struct copy_job *job;

	if (likely(!load_relaxed(&worker->copy_slot)))
		return;
	job = __atomic_exchange_n(&worker->copy_slot, NULL, __ATOMIC_ACQUIRE);
	if (job)
		help(worker, job);
}

void copy_at_hand(struct worker *worker, bool at_hand)
{
	if (load_relaxed(&worker->at_hand) != at_hand)
		store_relaxed(&worker->at_hand, at_hand);
}
