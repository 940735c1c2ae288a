/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waking a VM from another CPU takes an interrupt between the two, and on a host that is a VM itself, or whose idle
 * CPUs sleep deeply, tens of microseconds in which the VM's CPU does nothing. Woken by a thread on its own CPU it runs
 * after two. So a call for a VM that sleeps is left to the worker of the VM's CPU, if that one is awake: it comes to
 * run there as soon as nobody else does.
 *
 * Such a call is posted in a slot of that worker, and whoever takes it out of the slot makes it. The poster comes back
 * for what is not taken in time (perhaps a VM computes on that CPU and the worker must wait), and before it sleeps, so
 * that no call is lost.
 *
 * While many calls go to a CPU its worker is on duty: it stays awake for them though it has no queue, on a CPU that
 * would be idle; whenever somebody else wants the CPU it yields.
 */
#include "engine/engine_internal.h"
#include "lib/clock.h"

/* A post that was not taken for so long is taken back. */
#define CHASE_NS   15000ULL
/* A worker is put on duty when so many calls went to its CPU in this time, and stays so long after the last one. */
#define DUTY_CALLS 16
#define DUTY_NS    1000000ULL
#define DUTY_STAYS 300000ULL

static uint32_t post_of(uint32_t port, uint32_t queue, bool transmit)
{
	return (queue_id(port, queue) << 1 | transmit) + 1;
}

static void make_posted(struct worker *worker, uint32_t post)
{
	uint32_t id = (post - 1) >> 1;
	struct port *port = datapath_port(worker->pool->config.dp, id / PORT_PAIRS_MAX);

	if (port)
		notice_call(worker->fwd, port, id % PORT_PAIRS_MAX, (post - 1) & 1);
}

void call_take_posts(struct worker *worker)
{
	bool any = false;

	for (unsigned int i = 0; i < CALL_POSTS; i++) {
		uint32_t post = load_relaxed(&worker->posts[i]);

		if (likely(post == 0))
			continue;
		post = __atomic_exchange_n(&worker->posts[i], 0, __ATOMIC_ACQUIRE);
		if (post == 0)
			continue;
		make_posted(worker, post);
		any = true;
	}
	if (any)
		store_relaxed(&worker->duty_until_ns, clock_now_ns() + DUTY_STAYS);
}

void call_chase(struct worker *worker, bool all)
{
	uint64_t now;

	if (likely(worker->posted_count == 0))
		return;
	now = clock_now_ns();
	for (unsigned int i = worker->posted_count; i-- > 0;) {
		struct posted *posted = &worker->posted[i];
		uint32_t post = posted->post;

		if (load_relaxed(posted->slot) == post) {
			if (!all && now - posted->since_ns < CHASE_NS)
				continue;
			if (__atomic_compare_exchange_n(posted->slot, &post, 0, false, __ATOMIC_ACQ_REL,
							__ATOMIC_RELAXED))
				make_posted(worker, post);
		}
		*posted = worker->posted[--worker->posted_count];
	}
}

/* The worker of the CPU where the VM sleeps, if it is awake there. */
static struct worker *find_caller(struct worker *worker, const struct port *port)
{
	int slot = load_relaxed(&port->vm_slot);
	struct worker *other;

	if (!worker->pool->config.offload || vm_state_get(slot) != VM_STATE_BLOCKED)
		return NULL;
	other = homes_at(worker->pool, vm_state_last_cpu(slot));
	return other == worker ? NULL : other;
}

/* Many calls to a CPU: its worker shall be there for them. */
static void count_call(struct worker *other)
{
	uint32_t calls = load_relaxed(&other->calls_from_afar) + 1;
	uint64_t now;

	store_relaxed(&other->calls_from_afar, calls);
	if (calls % DUTY_CALLS)
		return;
	now = clock_now_ns();
	if (now - load_relaxed(&other->afar_since_ns) < DUTY_NS) {
		store_relaxed(&other->duty_until_ns, now + DUTY_STAYS);
		worker_wake(other);
	}
	store_relaxed(&other->afar_since_ns, now);
}

static bool post(struct worker *worker, struct worker *other, uint32_t what)
{
	if (worker->posted_count == CALL_POSTS)
		return false;
	for (unsigned int i = 0; i < CALL_POSTS; i++) {
		uint32_t none = 0;

		if (load_relaxed(&other->posts[i]) || !__atomic_compare_exchange_n(&other->posts[i], &none, what, false,
										   __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		stats_add(&worker->fwd->worker_stats->calls_posted, 1);
		worker->posted[worker->posted_count++] = (struct posted){
			.slot = &other->posts[i],
			.post = what,
			.since_ns = clock_now_ns(),
		};
		return true;
	}
	return false;
}

/* Or else it makes its calls when it gets its CPU, which may take all those who wait for that. */
static bool has_its_cpu(const struct worker *other)
{
	return vm_state_cpu_thread(other->cpu) == load_relaxed(&other->tid);
}

void call_give(struct worker *worker, unsigned int index)
{
	const struct notice notice = worker->fwd->notices.entries[index];
	const bool sparse = merge_is_sparse(worker, &notice);
	struct port *port = notice_take(worker->fwd, index);
	struct worker *other;

	merge_learn(worker, &notice);
	worker->guests_asked++;
	if (!port)
		return;
	worker->guests_called++;
	other = find_caller(worker, port);
	if (other && !load_relaxed(&other->asleep) && (!sparse || has_its_cpu(other)) &&
	    post(worker, other, post_of(notice.port, notice.queue, notice.transmit)))
		return;
	if (other)
		count_call(other);
	notice_call(worker->fwd, port, notice.queue, notice.transmit);
}
