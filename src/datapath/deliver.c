/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Delivery of a group of packets to one port, in three steps that repeat until the group is done: reserve buffers
 * for as many packets (or segments of them) as there are, copy without a lock, publish. The reservation holds
 * units: a unit is a frame as it is, or one segment or completed frame that offload_plan() describes.
 *
 * What is copied is the staged head, which was parsed and checked, and behind it the payload from the sender's
 * memory: once, whatever happens to it on the way.
 */
#include <string.h>

#include "datapath/checksum.h"
#include "datapath/copy.h"
#include "datapath/forward.h"
#include "datapath/hold.h"

/* A place in a list of pieces. */
struct cursor {
	const struct chain_piece *piece;
	uint32_t offset;
};

static void cursor_skip(struct cursor *cursor, uint32_t bytes)
{
	while (bytes >= cursor->piece->length - cursor->offset) {
		bytes -= cursor->piece->length - cursor->offset;
		cursor->offset = 0;
		cursor->piece++;
		if (bytes == 0)
			return;
	}
	cursor->offset += bytes;
}

/* This and the next return the bytes they copied. */
static uint32_t cursor_write(struct cursor *to, const uint8_t *from, uint32_t size)
{
	uint32_t copied = 0;

	while (size > 0) {
		uint32_t part = min(size, to->piece->length - to->offset);

		copy_bytes(to->piece->data + to->offset, from, part);
		from += part;
		size -= part;
		copied += part;
		cursor_skip(to, part);
	}
	return copied;
}

/* With sum, adds the bytes up as they go by. */
static uint32_t cursor_copy(struct cursor *to, struct cursor *from, uint32_t size, uint64_t *sum, int odd)
{
	uint32_t copied = 0;

	while (size > 0) {
		uint32_t part = min(size, to->piece->length - to->offset);
		uint8_t *dst = to->piece->data + to->offset;
		const uint8_t *src = from->piece->data + from->offset;

		part = min(part, from->piece->length - from->offset);
		if (sum) {
			*sum = checksum_copy(*sum, dst, src, part, odd);
			odd ^= part & 1;
		} else {
			copy_bytes(dst, src, part);
		}
		size -= part;
		copied += part;
		cursor_skip(to, part);
		cursor_skip(from, part);
	}
	return copied;
}

static uint32_t copy_scattered(const struct packet *packet, const struct virtio_net_hdr_mrg_rxbuf *net,
			       uint32_t net_hdr_len, const struct chain_piece *pieces)
{
	struct cursor to = {.piece = pieces};
	struct cursor from = {.piece = packet->pieces};
	uint32_t copied;

	cursor_write(&to, (const uint8_t *)net, net_hdr_len);
	copied = cursor_write(&to, packet->head, packet->head_length);
	if (packet->length > packet->head_length) {
		cursor_skip(&from, packet->head_length);
		copied += cursor_copy(&to, &from, packet->length - packet->head_length, NULL, 0);
	}
	return copied;
}

/* Everything in one buffer on both sides. */
static force_inline uint32_t copy_plain(const struct packet *packet, uint8_t *to)
{
	const uint32_t head = packet->head_length;
	const uint32_t rest = packet->length - head;

	copy_bytes(to, &packet->net, VIRTIO_NET_HDR_LEN + head);
	if (rest)
		copy_bytes(to + VIRTIO_NET_HDR_LEN + head, packet->pieces->data + head, rest);
	return head + rest;
}

/* The net header of a frame as it is. */
static void whole_net(const struct packet *packet, const struct rxq_unit *unit, struct virtio_net_hdr_mrg_rxbuf *net)
{
	offload_net(packet, (struct offload_todo){0}, net);
	net->num_buffers = unit->buffers;
}

/* The frame as it is. Returns the bytes of it that were copied, as does copy_segment. */
static force_inline uint32_t copy_whole(struct packet *packet, const struct rxq *rxq, const struct rxq_unit *unit,
					const struct chain_piece *pieces)
{
	packet->net.num_buffers = unit->buffers;
	if (unlikely(packet->net.hdr.flags | packet->net.hdr.gso_type)) {
		struct virtio_net_hdr_mrg_rxbuf net;

		whole_net(packet, unit, &net);
		return copy_scattered(packet, &net, rxq->net_hdr_len, pieces);
	}
	if (pieces->length >= VIRTIO_NET_HDR_LEN + packet->length && rxq->net_hdr_len == VIRTIO_NET_HDR_LEN &&
	    packet->piece_count == 1)
		return copy_plain(packet, pieces->data);
	return copy_scattered(packet, &packet->net, rxq->net_hdr_len, pieces);
}

/* One segment, or a frame whose checksum is completed. The payload goes first: its sum is part of the headers. */
static uint32_t copy_segment(const struct packet *packet, const struct offload_plan *plan, struct offload_todo todo,
			     unsigned int segment, const struct rxq *rxq, const struct rxq_unit *unit,
			     const struct chain_piece *pieces)
{
	struct virtio_net_hdr_mrg_rxbuf net;
	uint8_t header[PACKET_HEAD_MAX];
	uint32_t payload_offset, payload_length, copied = 0;
	struct cursor to = {.piece = pieces};
	struct cursor from = {.piece = packet->pieces};
	uint64_t sum = 0;

	offload_segment(packet, plan, segment, header, &payload_offset, &payload_length);
	offload_net(packet, todo, &net);
	net.num_buffers = unit->buffers;
	if (payload_length > 0) {
		cursor_skip(&to, rxq->net_hdr_len + plan->header_length);
		cursor_skip(&from, payload_offset);
		copied = cursor_copy(&to, &from, payload_length, todo.checksum ? &sum : NULL, plan->payload_odd);
	}
	if (todo.checksum)
		offload_checksum(plan, header, sum);
	to = (struct cursor){.piece = pieces};
	cursor_write(&to, (const uint8_t *)&net, rxq->net_hdr_len);
	return copied + cursor_write(&to, header, plan->header_length);
}

static uint32_t segment_bytes(const struct offload_plan *plan, unsigned int segment)
{
	uint32_t before = segment * plan->segment_size;

	return plan->header_length + min(plan->segment_size, plan->payload_length - before);
}

/* State of one call of deliver(). */
struct progress {
	struct forwarder *fwd;
	struct port *to;
	struct rxq *rxq;
	const struct delivery *delivery;
	unsigned int next;   /* of delivery->indexes */
	unsigned int simple; /* likewise: where the reservation's simple units begin */
	bool planned;        /* plans[] holds the next packet's */
	unsigned int reason; /* != 0: the rest is lost for this reason; enum drop_reason + 1 */
	bool empty;          /* the rest has to wait */
	bool over;           /* likewise, because the turn has done enough */
	unsigned int segments_max;
	bool incomplete; /* something was lost or waits */
};

static void lose(struct progress *p, unsigned int reason)
{
	p->fwd->batch.packets[p->delivery->indexes[p->next]].reason = (uint16_t)reason;
	p->incomplete = true;
	p->next++;
	p->planned = false;
}

/* What becomes of a packet that got no buffers. True: go on with the next one. */
static bool take_refused(struct progress *p, enum rxq_answer answer)
{
	switch (answer) {
	case RXQ_TOO_LONG:
		lose(p, DROP_OUT_TOO_LONG + 1);
		return true;
	case RXQ_BAD:
		lose(p, DROP_OUT_BUFFER + 1);
		return true;
	case RXQ_EMPTY:
		p->empty = true;
		return false;
	case RXQ_BROKEN:
		p->reason = DROP_OUT_DOWN + 1;
		return false;
	default:
		return false;
	}
}

/* Reserves for the next packet, which needs work. True: go on with the next one. */
static bool reserve_segments(struct progress *p, struct offload_todo todo)
{
	struct forwarder *fwd = p->fwd;
	unsigned int index = p->delivery->indexes[p->next];
	struct offload_plan *plan = &fwd->plans[index];

	if (!p->planned) {
		unsigned int reason = offload_plan(&fwd->batch.packets[index], todo, plan);

		if (reason) {
			lose(p, reason);
			return true;
		}
		p->planned = true;
	}
	while (fwd->segment[index] < plan->segment_count) {
		unsigned int unit = fwd->res.unit_count;
		enum rxq_answer answer;

		if (unlikely(fwd->segments >= p->segments_max)) {
			p->over = true;
			return false;
		}
		answer = rxq_take(p->rxq, &fwd->res, p->rxq->net_hdr_len + segment_bytes(plan, fwd->segment[index]));

		if (answer != RXQ_TAKEN)
			return take_refused(p, answer);
		fwd->units[unit].packet = (uint8_t)index;
		fwd->units[unit].whole = false;
		fwd->units[unit].segment = fwd->segment[index]++;
		fwd->segments++;
		fwd->unclean = true;
	}
	p->next++;
	p->planned = false;
	return true;
}

/* The leading packets that go as they are, into one buffer each. */
static force_inline void reserve_simple(struct progress *p)
{
	struct forwarder *fwd = p->fwd;
	const uint8_t *indexes = p->delivery->indexes + p->next;
	const unsigned int left = p->delivery->count - p->next;
	const uint32_t net_hdr_len = p->rxq->net_hdr_len;
	uint32_t bytes[TXQ_BATCH];
	const bool plain = fwd->batch.plain;
	unsigned int count;

	for (count = 0; count < left; count++) {
		const struct packet *packet = &fwd->batch.packets[indexes[count]];

		if (unlikely(!plain && (packet->net.hdr.flags | packet->net.hdr.gso_type)))
			break;
		bytes[count] = net_hdr_len + packet->length;
	}
	p->simple = p->next;
	p->next += rxq_take_simple(p->rxq, &fwd->res, bytes, count);
}

/* Part of the packet went out in segments already, the last time that it was tried. */
static bool is_begun(struct progress *p, unsigned int index)
{
	struct forwarder *fwd = p->fwd;

	/* What went elsewhere, before its flow changed, is of no use here. */
	if (!p->planned && fwd->waits[index].port != p->to->index)
		fwd->segment[index] = 0;
	return fwd->segment[index] > 0;
}

static force_inline bool reserve_next(struct progress *p)
{
	struct forwarder *fwd = p->fwd;
	unsigned int index = p->delivery->indexes[p->next];
	const struct packet *packet = &fwd->batch.packets[index];
	unsigned int unit = fwd->res.unit_count;
	enum rxq_answer answer;

	if (unlikely(packet->net.hdr.flags | packet->net.hdr.gso_type)) {
		struct offload_todo todo = offload_todo(packet, p->rxq->features);

		/* The rest goes the same way, whatever the receiver may take by now. */
		todo.segment |= is_begun(p, index);
		if (todo.segment || todo.checksum)
			return reserve_segments(p, todo);
	}
	answer = rxq_take(p->rxq, &fwd->res, p->rxq->net_hdr_len + packet->length);
	if (unlikely(answer != RXQ_TAKEN))
		return take_refused(p, answer);
	fwd->units[unit].packet = (uint8_t)index;
	fwd->units[unit].whole = true;
	p->next++;
	return true;
}

/* Returns the bytes of frames that were copied. */
static force_inline uint64_t copy_simple(struct progress *p)
{
	struct forwarder *fwd = p->fwd;
	const uint8_t *indexes = p->delivery->indexes + p->simple;
	const struct rxq_unit one = {.piece_count = 1, .buffers = 1};
	const unsigned int count = fwd->res.simple;
	uint64_t copied = 0;

	if (likely(fwd->batch.plain && p->rxq->net_hdr_len == VIRTIO_NET_HDR_LEN)) {
		for (unsigned int i = 0; i < count; i++)
			copied += copy_plain(&fwd->batch.packets[indexes[i]], fwd->res.pieces[i].data);
		return copied;
	}
	for (unsigned int i = 0; i < count; i++)
		copied += copy_whole(&fwd->batch.packets[indexes[i]], p->rxq, &one, &fwd->res.pieces[i]);
	return copied;
}

/* Unit i is one segment, or a frame whose checksum is completed. */
static uint32_t copy_cut(struct progress *p, unsigned int i)
{
	struct forwarder *fwd = p->fwd;
	struct stats_port *stats = &fwd->stats[p->to->index];
	const struct rxq_unit *unit = &fwd->res.units[i];
	const struct packet *packet = &fwd->batch.packets[fwd->units[i].packet];
	const struct offload_plan *plan = &fwd->plans[fwd->units[i].packet];
	struct offload_todo todo = offload_todo(packet, p->rxq->features);

	todo.segment = plan->ip_version != 0;
	stats_add(&stats->out_segmented, todo.segment);
	stats_add(&stats->out_checksummed, todo.checksum);
	return copy_segment(packet, plan, todo, fwd->units[i].segment, p->rxq, unit, &fwd->res.pieces[unit->piece]);
}

static void copy_units(struct progress *p)
{
	struct forwarder *fwd = p->fwd;
	uint64_t copied = copy_simple(p);

	for (unsigned int i = fwd->res.simple; i < fwd->res.unit_count; i++) {
		const struct rxq_unit *unit = &fwd->res.units[i];

		if (fwd->units[i].whole)
			copied += copy_whole(&fwd->batch.packets[fwd->units[i].packet], p->rxq, unit,
					     &fwd->res.pieces[unit->piece]);
		else
			copied += copy_cut(p, i);
	}
	stats_add(&fwd->worker_stats->copied_bytes, copied);
}

/*
 * Net header and staged bytes; the rest goes into the job, or is copied if it has no room. Returns the bytes of the
 * frame that were copied.
 */
static uint32_t begin_whole(struct progress *p, struct copy_job *job, struct packet *packet,
			    const struct rxq_unit *unit, const struct chain_piece *pieces)
{
	const uint32_t net_hdr_len = p->rxq->net_hdr_len;
	uint32_t left = packet->length - packet->head_length, copied;
	struct virtio_net_hdr_mrg_rxbuf net;
	struct cursor to = {.piece = pieces};
	struct cursor from = {.piece = packet->pieces};

	whole_net(packet, unit, &net);
	cursor_write(&to, (const uint8_t *)&net, net_hdr_len);
	copied = cursor_write(&to, packet->head, packet->head_length);
	if (left > 0)
		cursor_skip(&from, packet->head_length);
	while (left > 0) {
		uint32_t part = min(left, to.piece->length - to.offset);
		uint8_t *dst = to.piece->data + to.offset;
		const uint8_t *src = from.piece->data + from.offset;
		uint32_t added;

		part = min(part, from.piece->length - from.offset);
		added = copy_job_add(job, dst, src, part);
		if (unlikely(added < part)) {
			copy_bytes(dst + added, src + added, part - added);
			copied += part - added;
		}
		left -= part;
		cursor_skip(&to, part);
		cursor_skip(&from, part);
	}
	return copied;
}

/* Whether others may have a part of it: much to copy, for one queue's turn, and somebody has the time. */
static force_inline bool is_worth_sharing(const struct progress *p)
{
	const struct forwarder *fwd = p->fwd;

	return unlikely(fwd->res.bytes >= COPY_SHARE_MIN) && fwd->helpers && p->delivery->may_wait && fwd->txq &&
	       fwd->helpers->ask(fwd->helpers);
}

/*
 * Copies what was reserved, together with who comes. False: not all is copied yet, and who does the rest publishes the
 * reservation. Segments are cut here and now: their sums are part of their headers.
 */
static bool copy_shared(struct progress *p)
{
	struct forwarder *fwd = p->fwd;
	struct copy_job *job = copy_job_begin(fwd, fwd->txq);
	uint64_t copied = 0;
	uint32_t packets = 0;

	if (!job) {
		copy_units(p);
		return true;
	}
	for (unsigned int i = 0; i < fwd->res.unit_count; i++) {
		const bool simple = i < fwd->res.simple;
		const struct rxq_unit one = {.piece = (uint16_t)i, .piece_count = 1, .buffers = 1};
		const struct rxq_unit *unit = simple ? &one : &fwd->res.units[i];
		unsigned int index = simple ? p->delivery->indexes[p->simple + i] : fwd->units[i].packet;

		if (!simple && !fwd->units[i].whole) {
			copied += copy_cut(p, i);
			continue;
		}
		copied += begin_whole(p, job, &fwd->batch.packets[index], unit, &fwd->res.pieces[unit->piece]);
		packets |= 1U << index;
	}
	stats_add(&fwd->worker_stats->copied_bytes, copied);
	if (copy_job_share(fwd, job, p->to, (unsigned int)(p->rxq - p->to->rxq), fwd->res.ticket))
		return true;
	fwd->batch.copying[job->place] |= packets;
	fwd->batch.keeps = true;
	return false;
}

/* False: it will be published by somebody else. */
static force_inline bool publish(struct progress *p, unsigned int queue)
{
	struct publication what = rxq_publish(p->rxq, &p->fwd->res);

	notice_add(p->fwd, p->to, queue, false, what);
	return likely(!rxq_was_left(&p->fwd->res, what));
}

/* The sender's ring keeps what was reserved for until that is published. */
static no_inline void hold(struct progress *p, unsigned int queue)
{
	const struct forwarder *fwd = p->fwd;

	if (fwd->txq && fwd->res.unit_count > 0)
		hold_add(p->fwd, p->to, queue, fwd->res.ticket,
			 fwd->res.simple ? p->delivery->indexes[p->simple] : fwd->units[0].packet);
}

/* What the guest is told to have received: by the lengths in the used ring, not by what was copied. */
static void count_delivered(struct progress *p)
{
	struct forwarder *fwd = p->fwd;
	struct stats_port *stats = &fwd->stats[p->to->index];
	const unsigned int packets = fwd->res.unit_count;
	const uint64_t bytes = fwd->res.bytes - (uint64_t)packets * p->rxq->net_hdr_len;

	stats_add(&fwd->worker_stats->delivered_bytes, bytes);
	stats_add(&stats->out_packets, packets);
	stats_add(&stats->out_bytes, bytes);
}

static void wait_for_buffers(struct progress *p)
{
	struct forwarder *fwd = p->fwd;

	p->incomplete = true;
	for (; p->next < p->delivery->count; p->next++) {
		unsigned int index = p->delivery->indexes[p->next];
		struct txq_waiting *wait = &fwd->waits[index];

		/* One that waits already keeps its time, unless it got on meanwhile. */
		if (wait->since_ns == 0 || wait->reason != DROP_OUT_FULL || wait->port != p->to->index ||
		    wait->segment != fwd->segment[index] || p->over)
			wait->since_ns = forward_now(fwd);
		wait->reason = p->over ? TXQ_NEXT_TURN : DROP_OUT_FULL;
		wait->segment = fwd->segment[index];
		wait->port = p->to->index;
		fwd->wait[index] = wait;
		fwd->unclean = true;
	}
}

/* What is left cannot go now. */
static void defer(struct progress *p)
{
	if (p->delivery->may_wait) {
		wait_for_buffers(p);
		return;
	}
	while (p->next < p->delivery->count)
		lose(p, DROP_OUT_FULL + 1);
}

/* Several receive queues: every connection keeps to one. */
static unsigned int choose_queue(const struct packet *packet, uint32_t pairs)
{
	return (unsigned int)(((uint64_t)packet_hash(packet) * pairs) >> 32);
}

/*
 * What a switch does that does not copy preemptively: the guest wakes while its packets are on their way. It may look
 * before they are there and sleep again, so the notice comes all the same.
 */
static void wake_before_copy(struct forwarder *fwd, struct port *to, const struct rxq *rxq)
{
	uint16_t from = fwd->res.used_start;

	full_barrier();
	if (fwd->res.elem_count && rxq_wants_call(rxq, from, (uint16_t)(from + fwd->res.elem_count)))
		forward_call(fwd, to, rxq->call_fd);
}

static bool deliver_to_queue(struct forwarder *fwd, struct port *to, struct rxq *rxq, const struct delivery *delivery)
{
	struct progress p = {
		.fwd = fwd,
		.to = to,
		.rxq = rxq,
		.delivery = delivery,
		/* In this turn nothing overtakes what has to go on in the next one. */
		.over = fwd->over && delivery->may_wait,
		.segments_max = delivery->may_wait ? FORWARD_SEGMENTS_MAX : FORWARD_SEGMENTS_FLOOD_MAX,
	};
	const unsigned int queue = (unsigned int)(rxq - to->rxq);

	while (p.next < delivery->count && !p.empty && !p.over && !p.reason) {
		bool published = true;

		if (!rxq_reserve_begin(rxq, &fwd->res)) {
			/* Others hold the queue, or the main thread changes the port; else it is down for good. */
			if (load_acquire(&rxq->live) || load_acquire(&to->pairs_running))
				p.empty = true;
			else
				p.reason = DROP_OUT_DOWN + 1;
			break;
		}
		reserve_simple(&p);
		while (p.next < delivery->count && reserve_next(&p))
			;
		if (unlikely(p.empty && load_relaxed(&rxq->stalled)))
			p.reason = DROP_OUT_FULL + 1;
		rxq_reserve_end(rxq, &fwd->res);
		if (unlikely(fwd->wakes_first))
			wake_before_copy(fwd, to, rxq);
		if (unlikely(is_worth_sharing(&p)))
			published = copy_shared(&p);
		else
			copy_units(&p);
		count_delivered(&p);
		if (likely(published))
			published = publish(&p, queue);
		if (unlikely(!published))
			hold(&p, queue);
	}
	if (unlikely(load_relaxed(&rxq->fault) != CHAIN_OK))
		forward_quarantine(fwd, to, load_relaxed(&rxq->fault));
	if (unlikely(guest_memory_faulted(to->memory)))
		forward_quarantine(fwd, to, PORT_FAULT_MEMORY_SHRUNK);
	while (unlikely(p.reason && p.next < delivery->count))
		lose(&p, p.reason);
	fwd->over |= p.over && delivery->may_wait;
	if (unlikely(p.empty || p.over))
		defer(&p);
	return !p.incomplete;
}

static bool deliver_to_queues(struct forwarder *fwd, struct port *to, uint32_t pairs, const struct delivery *delivery)
{
	uint8_t indexes[PORT_PAIRS_MAX][TXQ_BATCH] = {{0}};
	unsigned int counts[PORT_PAIRS_MAX] = {0};
	bool complete = true;

	for (unsigned int i = 0; i < delivery->count; i++) {
		unsigned int queue = choose_queue(&fwd->batch.packets[delivery->indexes[i]], pairs);

		indexes[queue][counts[queue]++] = delivery->indexes[i];
	}
	for (unsigned int i = 0; i < pairs; i++) {
		struct delivery part = {indexes[i], counts[i], delivery->may_wait};

		if (counts[i])
			complete &= deliver_to_queue(fwd, to, &to->rxq[i], &part);
	}
	return complete;
}

bool deliver(struct forwarder *fwd, uint32_t to, const struct delivery *delivery)
{
	struct port *port = datapath_port(fwd->dp, to);
	uint32_t pairs = port ? load_acquire(&port->pairs_running) : 0;
	struct progress changing = {.fwd = fwd, .to = port, .delivery = delivery};

	if (unlikely(pairs == 0 && port && delivery->may_wait &&
		     forward_now(fwd) < load_relaxed(&port->awaited_until_ns))) {
		defer(&changing);
		return false;
	}
	if (unlikely(pairs == 0)) {
		for (unsigned int i = 0; i < delivery->count; i++)
			fwd->batch.packets[delivery->indexes[i]].reason = DROP_OUT_DOWN + 1;
		return false;
	}
	if (unlikely(pairs == PORT_PAIRS_CHANGING)) {
		defer(&changing);
		return false;
	}
	if (likely(pairs == 1))
		return deliver_to_queue(fwd, port, &port->rxq[0], delivery);
	return deliver_to_queues(fwd, port, pairs, delivery);
}
