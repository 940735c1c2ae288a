/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A turn in stages over one batch: fetch, look up (classify.c), act.
 * Packets that go to one port are gathered over the batch, so that a receiver's ring is touched once; a packet
 * with several outputs is a fence between such groups, so that no receiver sees a sender's packets out of order.
 *
 * A packet without a flow, or whose receiver has no buffers, waits in its ring and comes again at the head of the
 * next batch, until its time is over. Packets behind it to the same receiver wait with it.
 */
#include "datapath/forward.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "datapath/classify.h"
#include "datapath/hold.h"
#include "lib/clock.h"

/*
 * Misses that one queue may send up: an answer gives back what its question took, so that whoever is answered goes as
 * fast as the answers come, with at most TXQ_BATCH on their way. Without answers it is this many at once, and one per
 * UPCALL_COST_NS on average: then misses are lost, but what has a flow does not wait behind them.
 */
#define UPCALL_BURST   128
#define UPCALL_COST_NS 5000000ULL

/* Whoever sleeps with a queue looks so often whether copies have ended. */
#define FORWARD_COPY_LOOK_NS 1000000ULL

struct forwarder *forwarder_create(struct datapath *dp, unsigned int reader, struct stats_port *stats,
				   struct stats_worker *worker_stats)
{
	struct forwarder *fwd = aligned_alloc(CACHE_LINE, align_up(sizeof(*fwd), CACHE_LINE));

	if (!fwd)
		return NULL;
	memset(fwd, 0, sizeof(*fwd));
	fwd->dp = dp;
	fwd->counters = flow_table_reader(dp->flows, reader);
	fwd->stats = stats;
	fwd->worker_stats = worker_stats;
	return fwd;
}

void forwarder_destroy(struct forwarder *fwd)
{
	free(fwd);
}

uint64_t forward_now(struct forwarder *fwd)
{
	if (!fwd->turn_now_ns)
		fwd->turn_now_ns = clock_now_ns();
	return fwd->turn_now_ns;
}

static void wake_main(struct forwarder *fwd)
{
	const uint64_t one = 1;

	/* A full counter means that it has been woken already. */
	if (write(fwd->dp->event_fd, &one, sizeof(one)) < 0)
		return;
}

void forward_quarantine(struct forwarder *fwd, struct port *port, unsigned int fault)
{
	uint32_t none = 0;

	/* Where memory is gone we read zeros, and what a ring of zeros is at fault for is not the guest's ring. */
	if (guest_memory_faulted(port->memory))
		fault = PORT_FAULT_MEMORY_SHRUNK;
	port_pause(port, false);
	if (__atomic_compare_exchange_n(&port->fault, &none, fault, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		wake_main(fwd);
}

/* @syscalls core: write */
bool forward_call(struct forwarder *fwd, struct port *port, int fd)
{
	const uint64_t one = 1;
	bool blocked;

	if (fd < 0)
		return true;
	/* The descriptor's other owner may make it block: the watcher looks for that, and interrupts us. */
	store_relaxed(&fwd->call_port, port->index);
	store_release(&fwd->calls, fwd->calls + 1);
	/* It looks once more after it has said that it sleeps: one of us sees the other. */
	full_barrier();
	if (unlikely(fwd->watcher && load_relaxed(&fwd->watcher->asleep)))
		fwd->watcher->wake(fwd->watcher);
	blocked = write(fd, &one, sizeof(one)) < 0 && errno == EINTR;
	store_release(&fwd->calls, fwd->calls + 1);
	if (unlikely(blocked))
		forward_quarantine(fwd, port, PORT_FAULT_CALL_BLOCKED);
	stats_add(&fwd->stats[port->index].calls, 1);
	return !blocked;
}

static void count_drop(struct forwarder *fwd, uint32_t port, unsigned int reason)
{
	stats_add(&fwd->stats[port].drops[reason - 1], 1);
}

static void lose(struct forwarder *fwd, uint32_t port, unsigned int index, enum drop_reason reason)
{
	fwd->batch.packets[index].reason = (uint16_t)(reason + 1);
	count_drop(fwd, port, reason + 1);
}

/* When they are done: one that waits may be taken anew, after its queue was stopped. */
static void count_received(struct forwarder *fwd, struct txq *txq)
{
	const struct txq_batch *batch = &fwd->batch;
	struct stats_port *stats = &fwd->stats[txq->port];
	uint64_t packets = batch->count, bytes = batch->bytes;

	for (unsigned int i = 0; unlikely(fwd->unclean) && i < batch->count; i++) {
		if (!fwd->wait[i])
			continue;
		packets--;
		bytes -= batch->packets[i].length;
	}
	if (unlikely(batch->retried))
		stats_add(&fwd->worker_stats->taken_again, batch->retried);
	stats_add(&fwd->worker_stats->staged_bytes, batch->staged_bytes);
	stats_add(&fwd->worker_stats->packets, packets);
	stats_add(&stats->in_bytes, bytes);
	/* Last: who sees that a packet is done finds all that it took. */
	stats_add(&stats->in_packets, packets);
}

static bool has_upcall_credit(struct forwarder *fwd, struct txq *txq)
{
	uint64_t now = forward_now(fwd);
	uint64_t oldest = now - UPCALL_BURST * UPCALL_COST_NS;

	if (txq->upcall_credit_ns < oldest)
		txq->upcall_credit_ns = oldest;
	return txq->upcall_credit_ns + UPCALL_COST_NS <= now;
}

/* What the batch's packets have waited for has come. */
static void refund_answers(struct forwarder *fwd, struct txq *txq)
{
	for (unsigned int i = 0; i < fwd->batch.retried; i++) {
		struct txq_waiting *wait = &fwd->waits[i];

		if (!fwd->flows[i])
			continue;
		txq->upcall_credit_ns -= wait->charged * UPCALL_COST_NS;
		wait->charged = 0;
	}
}

static bool is_asked_for(const struct txq_waiting *wait, uint64_t now)
{
	return wait->asked > 0 && now - wait->since_ns < wait->asked * UPCALL_RESEND_NS;
}

/* The packet has no flow: it waits for one that the control plane is asked for. */
static void miss(struct forwarder *fwd, struct txq *txq, unsigned int index)
{
	struct txq_waiting *wait = &fwd->waits[index];
	uint64_t now = forward_now(fwd);
	struct flow_key key;

	fwd->unclean = true;
	if (wait->since_ns == 0 || wait->reason != DROP_NO_FLOW)
		*wait = (struct txq_waiting){.segment = wait->segment, .reason = DROP_NO_FLOW, .since_ns = now};
	if (now - wait->since_ns > FORWARD_FLOW_WAIT_NS) {
		lose(fwd, txq->port, index, wait->asked ? DROP_NO_FLOW : DROP_UPCALL_LIMIT);
		return;
	}
	fwd->wait[index] = wait;
	if (is_asked_for(wait, now))
		return;
	packet_parse(&fwd->batch.packets[index], txq->port, PACKET_DEPTH_L4, &key);
	if (fwd->firsts[index])
		key.stage = (uint8_t)fwd->firsts[index]->next_stage;
	switch (upcall_put(&fwd->upcalls, &key, fwd->batch.packets[index].length, now, has_upcall_credit(fwd, txq))) {
	case UPCALL_SENT:
		txq->upcall_credit_ns += UPCALL_COST_NS;
		wait->asked++;
		wait->charged++;
		stats_add(&fwd->stats[txq->port].upcalls, 1);
		stats_add(&fwd->worker_stats->flow_misses, 1);
		fwd->upcalls_sent = true;
		break;
	case UPCALL_PENDING:
		wait->asked++;
		break;
	case UPCALL_REFUSED:
		if (wait->asked)
			break;
		fwd->wait[index] = NULL;
		lose(fwd, txq->port, index, DROP_UPCALL_LIMIT);
		break;
	case UPCALL_FULL:
		break;
	}
}

static void expire(struct forwarder *fwd, struct port *port, unsigned int index)
{
	fwd->wait[index] = NULL;
	fwd->batch.packets[index].reason = DROP_OUT_FULL + 1;
	/* Nothing was taken for so long: the next ones shall not wait in vain. */
	for (unsigned int queue = 0; queue < port_pairs(port); queue++)
		store_relaxed(&port->rxq[queue].stalled, true);
}

/* After a delivery that was not complete: what was lost is counted at the receiver, what has waited too long is lost.
 */
static void settle(struct forwarder *fwd, uint32_t to, const uint8_t *indexes, unsigned int count)
{
	struct port *port = datapath_port(fwd->dp, to);

	for (unsigned int i = 0; i < count; i++) {
		unsigned int index = indexes[i];

		if (likely(!fwd->wait[index] && !fwd->batch.packets[index].reason))
			continue;
		if (fwd->wait[index] && port && forward_now(fwd) > port_waits_until(port, fwd->waits[index].since_ns))
			expire(fwd, port, index);
		if (fwd->batch.packets[index].reason)
			count_drop(fwd, to, fwd->batch.packets[index].reason);
	}
}

static void send_group(struct forwarder *fwd, uint32_t to, const uint8_t *indexes, unsigned int count)
{
	struct delivery delivery = {.indexes = indexes, .count = count, .may_wait = true};

	if (unlikely(!deliver(fwd, to, &delivery)))
		settle(fwd, to, indexes, count);
}

/* One copy each for every output. Nobody waits for one of many. */
static void send_to_many(struct forwarder *fwd, const struct flow *flow, const uint8_t *indexes, unsigned int count)
{
	struct delivery delivery = {.indexes = indexes, .count = count};

	for (uint32_t action = 0; action < flow->action_count; action++) {
		uint32_t to = flow->actions[action].value;
		const struct port *port = datapath_port(fwd->dp, to);

		/* What is for all who are there is not lost where nobody is. */
		if (!port || !load_acquire(&port->pairs_running))
			continue;
		if (!deliver(fwd, to, &delivery))
			settle(fwd, to, indexes, count);
		for (unsigned int i = 0; i < count; i++) {
			fwd->batch.packets[indexes[i]].reason = 0;
			fwd->segment[indexes[i]] = 0;
		}
	}
}

static void drop_by_flow(struct forwarder *fwd, struct txq *txq, unsigned int index)
{
	const struct flow *flow = fwd->flows[index];

	lose(fwd, txq->port, index, flow->action_count ? (enum drop_reason)flow->actions[0].value : DROP_FLOW_DROP);
}

/* The packets from first to end have at most one output each: one delivery per receiver. */
static void send_unicast(struct forwarder *fwd, unsigned int first, unsigned int end)
{
	uint32_t left = 0;

	for (unsigned int i = first; i < end; i++)
		left |= (uint32_t)(fwd->flows[i] && !fwd->batch.packets[i].reason) << i;
	while (left) {
		unsigned int lead = (unsigned int)__builtin_ctz(left);
		uint32_t to = fwd->flows[lead]->output;
		uint8_t indexes[TXQ_BATCH];
		unsigned int count = 0;

		for (unsigned int i = lead; i < end; i++) {
			if (!(left >> i & 1))
				continue;
			if (fwd->flows[i]->output != to)
				continue;
			indexes[count++] = (uint8_t)i;
			left &= ~(1U << i);
		}
		send_group(fwd, to, indexes, count);
	}
}

_Static_assert(TXQ_BATCH <= 32, "a batch's packets are bits of a word");

/* A batch for one receiver: no sorting. */
static void act_on_all(struct forwarder *fwd, uint32_t to)
{
	static const uint8_t all[TXQ_BATCH] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
					       16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

	send_group(fwd, to, all, fwd->batch.count);
}

static void act(struct forwarder *fwd, struct txq *txq)
{
	struct txq_batch *batch = &fwd->batch;
	unsigned int fence = 0, i = 0;

	while (i < batch->count) {
		const struct flow *flow = fwd->flows[i];
		uint8_t indexes[TXQ_BATCH];
		unsigned int count = 0;

		if (unlikely(batch->packets[i].reason)) {
			count_drop(fwd, txq->port, batch->packets[i].reason);
			/* It has no flow to be counted for. */
			fwd->unclean = true;
			i++;
			continue;
		}
		if (unlikely(!flow)) {
			miss(fwd, txq, i++);
			continue;
		}
		if (likely(flow->output != FLOW_NO_OUTPUT)) {
			i++;
			continue;
		}
		if (flow->action_count == 0 || flow->actions[0].type == FLOW_ACTION_DROP) {
			drop_by_flow(fwd, txq, i++);
			continue;
		}
		send_unicast(fwd, fence, i);
		while (i < batch->count && fwd->flows[i] == flow)
			indexes[count++] = (uint8_t)i++;
		send_to_many(fwd, flow, indexes, count);
		fence = i;
	}
	send_unicast(fwd, fence, batch->count);
}

static void prepare_waits(struct forwarder *fwd, const struct txq *txq)
{
	if (unlikely(fwd->unclean)) {
		memset(fwd->wait, 0, sizeof(fwd->wait));
		memset(fwd->segment, 0, sizeof(fwd->segment));
		memset(fwd->waits, 0, sizeof(fwd->waits));
		fwd->unclean = false;
	}
	for (unsigned int i = 0; unlikely(i < fwd->batch.retried); i++) {
		fwd->waits[i] = txq->waiting[i];
		fwd->segment[i] = txq->waiting[i].segment;
		fwd->unclean = true;
	}
}

/* Returns how many of the batch's packets wait for somebody. */
static unsigned int count_waiting(struct forwarder *fwd, const struct txq *txq)
{
	unsigned int waiting = 0, new_waiting = 0;

	for (unsigned int i = 0; i < fwd->batch.count; i++) {
		if (!fwd->wait[i] || fwd->wait[i]->reason == TXQ_NEXT_TURN)
			continue;
		waiting++;
		new_waiting += i >= fwd->batch.retried;
	}
	if (new_waiting)
		stats_add(&fwd->stats[txq->port].waits, new_waiting);
	return waiting;
}

/* There is nothing new, but others have ended what was begun. */
static unsigned int complete_kept(struct forwarder *fwd, const struct port *port, struct txq *txq)
{
	notice_add(fwd, port, txq->queue, true, txq_complete(txq, &fwd->batch, NULL));
	return 1;
}

unsigned int forward_turn(struct forwarder *fwd, struct txq *txq)
{
	struct port *port = datapath_port(fwd->dp, txq->port);
	struct txq_batch *batch = &fwd->batch;
	unsigned int progress;
	bool ended = false;
	uint32_t to;

	if (unlikely(!port || !load_acquire(&txq->live)))
		return 0;
	fwd->turn_now_ns = 0;
	fwd->txq = txq;
	if (unlikely(txq->holds[0].count))
		ended = hold_look(fwd->dp, txq);
	if (unlikely(!txq_may_hold(txq))) {
		txq_fetch_nothing(batch);
		return 0;
	}
	if (unlikely(!txq_fetch(txq, batch))) {
		forward_quarantine(fwd, port, txq->fault);
		return 0;
	}
	if (batch->count == 0) {
		if (unlikely(guest_memory_faulted(port->memory)))
			forward_quarantine(fwd, port, PORT_FAULT_MEMORY_SHRUNK);
		ended |= txq_copy_ended(txq, txq_copies(txq));
		return unlikely(ended) ? complete_kept(fwd, port, txq) : 0;
	}
	prepare_waits(fwd, txq);
	fwd->over = false;
	fwd->segments = 0;
	to = classify(fwd, txq);
	if (unlikely(batch->retried))
		refund_answers(fwd, txq);
	if (likely(to != FLOW_NO_OUTPUT))
		act_on_all(fwd, to);
	else
		act(fwd, txq);
	if (unlikely(fwd->upcalls_sent)) {
		fwd->upcalls_sent = false;
		wake_main(fwd);
	}
	count_received(fwd, txq);
	stats_add(&fwd->worker_stats->turns, 1);
	progress = batch->count;
	if (likely(!fwd->unclean)) {
		classify_count_all(fwd, &txq->last, batch->bytes);
	} else {
		classify_count(fwd, &txq->last);
		progress -= min(count_waiting(fwd, txq), batch->retried);
	}
	notice_add(fwd, port, txq->queue, true, txq_complete(txq, batch, fwd->unclean ? fwd->wait : NULL));
	if (unlikely(guest_memory_faulted(port->memory)))
		forward_quarantine(fwd, port, PORT_FAULT_MEMORY_SHRUNK);
	return progress;
}

bool forward_arm(struct forwarder *fwd, struct txq *txq)
{
	bool ready = txq_copy_ended(txq, txq_copies(txq)) || hold_has_ended(fwd->dp, txq);

	if (!load_acquire(&txq->live))
		return false;
	for (unsigned int i = 0; i < txq->waiting_count; i++) {
		struct port *to;

		ready |= txq->waiting[i].reason == TXQ_NEXT_TURN;
		if (txq->waiting[i].reason != DROP_OUT_FULL)
			continue;
		if (i > 0 && txq->waiting[i].port == txq->waiting[i - 1].port)
			continue;
		to = datapath_port(fwd->dp, txq->waiting[i].port);
		for (unsigned int queue = 0; to && queue < port_pairs(to); queue++)
			ready |= rxq_want_kick(&to->rxq[queue]);
	}
	return txq_kicks_on(txq) || ready;
}

uint64_t forward_deadline(const struct forwarder *fwd, const struct txq *txq)
{
	uint64_t deadline = 0;

	if (unlikely(txq->holds[0].count))
		deadline = clock_now_ns() + HOLD_LOOK_NS;
	else if (unlikely(txq_copies(txq)))
		deadline = clock_now_ns() + FORWARD_COPY_LOOK_NS;

	for (unsigned int i = 0; i < txq->waiting_count; i++) {
		const struct txq_waiting *waiting = &txq->waiting[i];
		const struct port *to = datapath_port(fwd->dp, waiting->port);
		uint64_t until = waiting->since_ns;

		if (waiting->reason == DROP_NO_FLOW)
			until += FORWARD_FLOW_WAIT_NS;
		else if (waiting->reason != TXQ_NEXT_TURN && to)
			until = port_waits_until(to, until);
		if (deadline == 0 || until < deadline)
			deadline = until;
	}
	return deadline;
}

bool forward_frame(struct forwarder *fwd, uint32_t port, const uint8_t *frame, uint32_t length)
{
	struct packet *packet = &fwd->batch.packets[0];
	const uint8_t index = 0;
	struct delivery delivery = {.indexes = &index, .count = 1};

	fwd->turn_now_ns = 0;
	fwd->txq = NULL;
	memset(packet, 0, sizeof(*packet));
	fwd->batch.plain = false;
	fwd->over = false;
	fwd->segments = 0;
	fwd->wait[0] = NULL;
	fwd->segment[0] = 0;
	packet->net.num_buffers = 1;
	packet->length = length;
	packet->head_length = (uint16_t)min(length, (uint32_t)PACKET_HEAD_FIRST);
	memcpy(packet->head, frame, packet->head_length);
	fwd->batch.pieces[0].data = (uint8_t *)(uintptr_t)frame;
	fwd->batch.pieces[0].length = length;
	packet->pieces = fwd->batch.pieces;
	packet->piece_count = 1;
	if (!deliver(fwd, port, &delivery))
		settle(fwd, port, &index, 1);
	return packet->reason == 0;
}
