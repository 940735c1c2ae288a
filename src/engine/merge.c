/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When a guest is told what was published for it, by what its VM does at the moment. One that sleeps is told as soon as
 * the burst that it gets is complete in its memory: it wakes to finished packets. One that runs, or waits for a
 * CPU, will probably look at its ring by itself before long; it is told when the port's bound of time or packets is
 * reached, and what it has found by then it is not told at all. Whose state is unknown is taken for what its ring
 * says: a driver that asks for notifications sleeps.
 *
 * A VM that sleeps gains nothing from being told before the burst is over if its CPU is taken: it would take it from
 * the worker, or from the VM that sends, for a part of its packets, and each time costs two switches of the CPU and a
 * call. That holds for a sender that gets its buffers back as well. So a burst may last longer for it than what is
 * held back from one that runs. Where the CPU is idle it can begin while the rest is being copied.
 *
 * Whoever is called on the worker's own CPU takes it, for 10 us or so, and several are called in a row. So before each
 * call those are served who send single packets: a question would wait for all of them, and its answer again.
 */
#include "engine/engine_internal.h"

/* Whoever waits for single packets is told so often at most. */
#define SPARSE_NS 20000ULL

/* So much longer than the bound in time of one that runs may the burst for one that sleeps last. */
#define BURST_TIMES 5

void merge_give_all(struct worker *worker)
{
	struct notices *notices = &worker->fwd->notices;
	/* No more often than that: what is served adds notices. Nothing is to be added before the worker sleeps. */
	unsigned int left = load_relaxed(&worker->asleep) ? 0 : notices->count;

	while (notices->count > 0) {
		if (left > 0) {
			left--;
			worker_serve_sparse(worker);
		}
		if (notices->count > 0)
			call_give(worker, notices->count - 1);
	}
}

bool merge_is_sparse(const struct worker *worker, const struct notice *notice)
{
	const struct seat *seat = &worker->pool->seats[queue_id(notice->port, notice->queue)];

	return !notice->transmit && load_relaxed(&seat->bursts) <= SPARSE_PACKETS &&
	       worker->now_ns - load_relaxed(&seat->given_ns) >= SPARSE_NS;
}

void merge_learn(struct worker *worker, const struct notice *notice)
{
	struct seat *seat = &worker->pool->seats[queue_id(notice->port, notice->queue)];

	if (notice->transmit)
		return;
	store_relaxed(&seat->bursts, average_packets(load_relaxed(&seat->bursts), notice->packets));
	store_relaxed(&seat->given_ns, worker->now_ns);
}

static bool is_asleep(const struct port *port)
{
	enum vm_state state = vm_state_get(load_relaxed(&port->vm_slot));

	return state == VM_STATE_BLOCKED || state == VM_STATE_UNKNOWN;
}

static bool can_begin_at_once(const struct port *port)
{
	int slot = load_relaxed(&port->vm_slot);

	return vm_state_get(slot) == VM_STATE_BLOCKED && vm_state_cpu_is_idle(vm_state_last_cpu(slot));
}

/* The driver has said itself after how many of its buffers it wants to be told. */
static bool has_bound(const struct port *port, const struct notice *notice)
{
	const struct txq *txq = &port->txq[notice->queue];

	return notice->transmit && load_acquire(&txq->live) && txq->event_idx;
}

/*
 * It sleeps, and being told sooner would not help it: its CPU is the worker's own, or the worker has others to serve
 * meanwhile. (Where it has one sender only, on another CPU, that one fills its ring again while the worker copies.)
 */
static bool is_behind(const struct worker *worker, int slot)
{
	return vm_state_get(slot) == VM_STATE_BLOCKED &&
	       (vm_state_last_cpu(slot) == worker->cpu || worker->active_count > 1);
}

static bool is_due(struct worker *worker, struct notice *notice, bool idle)
{
	const struct port *port = datapath_port(worker->pool->config.dp, notice->port);
	uint64_t bound_ns;
	bool asleep, behind;

	if (!port)
		return true;
	asleep = is_asleep(port);
	if (asleep && merge_is_sparse(worker, notice))
		return true;
	behind = is_behind(worker, load_relaxed(&port->vm_slot));
	bound_ns = (behind ? BURST_TIMES : 1) * port->notify_ns;
	if (!behind && notice->packets >= port->notify_packets)
		return true;
	if (asleep && (idle || (!behind && has_bound(port, notice)) || can_begin_at_once(port)))
		return true;
	if (notice->since_ns == 0)
		notice->since_ns = worker->now_ns;
	return worker->now_ns - notice->since_ns >= bound_ns;
}

void merge_notices(struct worker *worker, bool idle)
{
	struct notices *notices = &worker->fwd->notices;

	if (notices->count == 0)
		return;
	if (!worker->pool->config.state_batching) {
		merge_give_all(worker);
		return;
	}
	for (unsigned int i = notices->count; i-- > 0;) {
		if (!is_due(worker, &notices->entries[i], idle))
			continue;
		worker_serve_sparse(worker);
		/* There may be fewer now: a turn that has no room for another notice gives all of them. */
		if (i < notices->count)
			call_give(worker, i);
		i = min(i, notices->count);
	}
}

void merge_give_sparse(struct worker *worker)
{
	struct notices *notices = &worker->fwd->notices;

	for (unsigned int i = notices->count; i-- > 0;) {
		const struct notice *notice = &notices->entries[i];
		const struct port *port = datapath_port(worker->pool->config.dp, notice->port);

		if (!port || (is_asleep(port) && merge_is_sparse(worker, notice)))
			call_give(worker, i);
	}
}
