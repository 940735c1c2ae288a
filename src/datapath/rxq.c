/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reserving takes descriptor chains from the available ring and gives each its place in the used ring, all
 * under a lock that is tried for a bounded time only. A reservation gets a ticket; tickets are published in
 * their order. The turn to publish goes from ticket to ticket. Who completes a reservation publishes if it has the
 * turn, and else leaves word that it is done, for whoever brings the turn. Both are exchanges of the ticket's state,
 * one of which sees the other: no ticket is forgotten and no one waits.
 *
 * The available index is read again only when what was seen of it is used up: the line that the guest writes
 * travels once a batch.
 */
#include "datapath/rxq.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/rxq_packed.h"

#define LOCK_TRIES 256

static bool try_lock(uint32_t *lock)
{
	return !load_relaxed(lock) && !__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE);
}

static void unlock(uint32_t *lock)
{
	store_release(lock, 0);
}

/* What both kinds of ring have in common. Not live yet. */
static void begin(struct rxq *rxq, const struct guest_memory *memory, uint64_t features, uint16_t base, int call_fd)
{
	const uint32_t ticket = rxq->ticket_next;

	rxq_stop(rxq);
	/* Senders may still ask for a ticket of before: that word is never anything else than the oldest one. */
	memset(rxq, 0, offsetof(struct rxq, ticket_oldest));
	memset(rxq->tickets, 0, sizeof(rxq->tickets));
	store_release(&rxq->ticket_oldest, ticket);
	rxq->ticket_next = ticket;
	rxq->walk = (struct chain_walk){
		.ring = &rxq->ring,
		.memory = memory,
		.indirect = features & VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC),
		.writable = true,
	};
	rxq->features = features;
	rxq->net_hdr_len = virtio_net_hdr_len(features);
	rxq->mergeable = features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	rxq->event_idx = features & VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX);
	rxq->call_fd = call_fd;
	rxq->last_avail = base;
	rxq->avail_seen = base;
	rxq->used_reserved = base;
	rxq->used_published = base;
	rxq->tickets[ticket % RXQ_TICKETS].state = RXQ_TICKET_TURN;
}

void rxq_start(struct rxq *rxq, const struct vring_split *ring, const struct guest_memory *memory, uint64_t features,
	       uint16_t base, int call_fd)
{
	begin(rxq, memory, features, base, call_fd);
	rxq->ring = *ring;
	/* Kicks are wanted only while packets wait for buffers. */
	WRITE_ONCE(rxq->ring.used->flags, VRING_USED_F_NO_NOTIFY);
	if (rxq->event_idx)
		WRITE_ONCE(*vring_split_avail_event(&rxq->ring), (uint16_t)(base - 1));
	store_release(&rxq->live, true);
}

int rxq_start_packed(struct rxq *rxq, const struct vring_packed *ring, const struct guest_memory *memory,
		     uint64_t features, uint16_t base, int call_fd)
{
	begin(rxq, memory, features, base, call_fd);
	rxq->packed = rxq_packed_create(ring, base);
	if (!rxq->packed)
		return -ENOMEM;
	rxq_packed_kicks_off(rxq);
	store_release(&rxq->live, true);
	return 0;
}

uint16_t rxq_stop(struct rxq *rxq)
{
	store_release(&rxq->live, false);
	free(rxq->packed);
	rxq->packed = NULL;
	return rxq->used_published;
}

bool rxq_reserve_begin(struct rxq *rxq, struct rxq_reservation *res)
{
	unsigned int tries = 0;

	if (unlikely(!load_acquire(&rxq->live)))
		return false;
	while (unlikely(!try_lock(&rxq->lock))) {
		if (++tries == LOCK_TRIES)
			return false;
		cpu_relax();
	}
	if (unlikely(rxq->ticket_next - load_acquire(&rxq->ticket_oldest) >= RXQ_TICKETS)) {
		unlock(&rxq->lock);
		return false;
	}
	res->simple = 0;
	res->unit_count = 0;
	res->piece_count = 0;
	res->elem_count = 0;
	res->bytes = 0;
	res->used_start = rxq->used_reserved;
	return true;
}

static bool look_for_buffers(struct rxq *rxq)
{
	uint16_t seen = load_acquire(&rxq->ring.avail->idx);

	rxq_tsan_available(rxq);
	if (unlikely((uint16_t)(seen - rxq->last_avail) > rxq->ring.size)) {
		store_relaxed(&rxq->fault, CHAIN_AVAIL);
		return false;
	}
	rxq->avail_seen = seen;
	return seen != rxq->last_avail;
}

static void stop_wanting_kicks(struct rxq *rxq)
{
	rxq->kick_wanted = false;
	if (rxq->packed) {
		rxq_packed_kicks_off(rxq);
		return;
	}
	WRITE_ONCE(rxq->ring.used->flags, VRING_USED_F_NO_NOTIFY);
	if (rxq->event_idx)
		WRITE_ONCE(*vring_split_avail_event(&rxq->ring), (uint16_t)(rxq->last_avail - 1));
}

/* The reservation's used entries are written at once: nobody looks at them before they are published. */
static force_inline void put_used(const struct vring_split *ring, const struct rxq_reservation *res, unsigned int index,
				  uint32_t head, uint32_t bytes)
{
	vring_used_put(&ring->used->ring[(uint16_t)(res->used_start + index) & ring->mask], head, bytes);
}

/* What a reservation was before a unit, to go back there. */
struct before {
	unsigned int piece;
	unsigned int elem;
	uint64_t bytes;
	uint16_t avail;
};

/* Everything that a unit took so far goes back empty: its order in the ring is fixed already. */
static enum rxq_answer give_back_empty(struct rxq *rxq, struct rxq_reservation *res, const struct before *before)
{
	if (rxq->packed)
		rxq_packed_empty(rxq, before->avail);
	for (unsigned int i = before->elem; !rxq->packed && i < res->elem_count; i++)
		rxq->ring.used->ring[(uint16_t)(res->used_start + i) & rxq->ring.mask].len = 0;
	res->piece_count = before->piece;
	res->bytes = before->bytes;
	return RXQ_BAD;
}

static enum rxq_answer refuse(struct rxq *rxq, struct rxq_reservation *res, const struct before *before,
			      enum rxq_answer answer)
{
	rxq->last_avail = before->avail;
	res->elem_count = before->elem;
	res->piece_count = before->piece;
	res->bytes = before->bytes;
	return answer;
}

/*
 * Only a hint: the buffer with which the next reservation will probably begin. Its lines come from the guest's CPU
 * while nobody waits for them.
 */
static force_inline void prefetch_buffer(const struct vring_split *ring, const struct guest_region *region,
					 uint16_t head)
{
	uint64_t offset;

	if (unlikely(head >= ring->size))
		return;
	offset = READ_ONCE(ring->desc[head].addr) - region->guest_addr;
	if (unlikely(offset >= region->size || region->size - offset <= CACHE_LINE))
		return;
	prefetch_write(region->host + offset);
	prefetch_write(region->host + offset + CACHE_LINE);
}

static force_inline unsigned int take_simple_split(struct rxq *rxq, struct rxq_reservation *res, const uint32_t *bytes,
						   unsigned int count, uint64_t *total)
{
	const struct vring_split ring = rxq->ring;
	const struct guest_memory *memory = rxq->walk.memory;
	uint16_t heads[RXQ_UNITS_MAX];
	const uint16_t start = rxq->last_avail;
	unsigned int available = (uint16_t)(rxq->avail_seen - start);
	struct guest_region region;
	unsigned int taken;

	if (available < count && look_for_buffers(rxq))
		available = (uint16_t)(rxq->avail_seen - start);
	count = min(count, available);
	count = min(count, (unsigned int)RXQ_UNITS_MAX);
	if (unlikely(count == 0 || rxq->walk.hint >= memory->count))
		return 0;
	region = memory->regions[rxq->walk.hint];
	vring_avail_copy(&ring, start, heads, count);
	for (taken = 0; taken < count; taken++) {
		struct vring_desc desc;
		uint64_t offset;
		uint8_t *data;

		if (unlikely(heads[taken] >= ring.size))
			break;
		desc = vring_desc_fetch(&ring.desc[heads[taken]]);
		offset = desc.addr - region.guest_addr;
		if (unlikely(desc.flags != VRING_DESC_F_WRITE || desc.len < bytes[taken] || offset >= region.size ||
			     desc.len > region.size - offset))
			break;
		data = region.host + offset;
		prefetch_write(data);
		prefetch_write(data + CACHE_LINE);
		res->pieces[taken] = (struct chain_piece){data, desc.len};
		put_used(&ring, res, taken, heads[taken], bytes[taken]);
		*total += bytes[taken];
	}
	rxq->last_avail = (uint16_t)(start + taken);
	if (likely(available > taken))
		prefetch_buffer(&ring, &region, READ_ONCE(ring.avail->ring[rxq->last_avail & ring.mask]));
	return taken;
}

unsigned int rxq_take_simple(struct rxq *rxq, struct rxq_reservation *res, const uint32_t *bytes, unsigned int count)
{
	uint64_t total = 0;
	unsigned int taken = unlikely(rxq->packed) ? rxq_packed_take_simple(rxq, res, bytes, count, &total)
						   : take_simple_split(rxq, res, bytes, count, &total);

	res->bytes = total;
	res->simple = taken;
	res->unit_count = taken;
	res->piece_count = taken;
	res->elem_count = taken;
	if (unlikely(load_relaxed(&rxq->stalled)) && taken)
		store_relaxed(&rxq->stalled, false);
	return taken;
}

static bool has_buffer(struct rxq *rxq)
{
	if (unlikely(rxq->packed))
		return rxq_packed_available(rxq);
	return likely(rxq->last_avail != rxq->avail_seen) || look_for_buffers(rxq);
}

/* Whether what was taken since `before` is all that the ring can ever have. */
static bool is_whole_ring(const struct rxq *rxq, const struct before *before)
{
	if (rxq->packed)
		return vring_packed_distance(before->avail, rxq->last_avail, rxq->packed->ring.size) ==
		       rxq->packed->ring.size;
	return (uint16_t)(rxq->last_avail - before->avail) == rxq->ring.size;
}

/* The next chain, which is there. extent->id is its head in a split ring. */
static force_inline enum chain_verdict fetch(struct rxq *rxq, struct chain_piece *pieces, unsigned int room,
					     unsigned int *count, struct chain_extent *extent)
{
	if (unlikely(rxq->packed))
		return rxq_packed_fetch(rxq, pieces, room, count, extent);
	extent->id = READ_ONCE(rxq->ring.avail->ring[rxq->last_avail & rxq->ring.mask]);
	return chain_fetch_one(&rxq->walk, extent->id, pieces, room, count);
}

enum rxq_answer rxq_take(struct rxq *rxq, struct rxq_reservation *res, uint32_t bytes)
{
	const struct before before = {res->piece_count, res->elem_count, res->bytes, rxq->last_avail};
	uint32_t left = bytes;
	struct rxq_unit *unit;

	if (res->unit_count == RXQ_UNITS_MAX)
		return RXQ_ROOM;
	do {
		unsigned int count = 0;
		uint32_t room = 0;
		enum chain_verdict verdict;
		struct chain_extent extent = {0};

		if (unlikely(!has_buffer(rxq)))
			return refuse(rxq, res, &before,
				      rxq->fault != CHAIN_OK        ? RXQ_BROKEN
				      : is_whole_ring(rxq, &before) ? RXQ_TOO_LONG
								    : RXQ_EMPTY);
		/* What goes back empty has a used entry, but no pieces. */
		if (unlikely(res->piece_count == RXQ_PIECES_MAX || res->elem_count == RXQ_PIECES_MAX))
			return refuse(rxq, res, &before, before.elem ? RXQ_ROOM : RXQ_TOO_LONG);
		verdict = fetch(rxq, &res->pieces[res->piece_count], RXQ_PIECES_MAX - res->piece_count, &count,
				&extent);
		if (unlikely(verdict >= CHAIN_BROKEN)) {
			store_relaxed(&rxq->fault, verdict);
			return refuse(rxq, res, &before, RXQ_BROKEN);
		}
		/* Not enough places for its pieces may be our own limit, not the guest's fault. */
		if (unlikely(verdict == CHAIN_LENGTH && res->elem_count &&
			     RXQ_PIECES_MAX - res->piece_count < CHAIN_PIECES_MAX))
			return refuse(rxq, res, &before, before.elem ? RXQ_ROOM : RXQ_TOO_LONG);
		for (unsigned int i = 0; i < count && room < left; i++)
			room += min(res->pieces[res->piece_count + i].length, left - room);
		if (unlikely(verdict == CHAIN_OK && !rxq->mergeable && room < left))
			return refuse(rxq, res, &before, RXQ_TOO_LONG);
		if (unlikely(rxq->packed))
			rxq_packed_put(rxq, extent, room);
		else
			put_used(&rxq->ring, res, res->elem_count, extent.id, room);
		rxq->last_avail += rxq->packed ? 0 : 1;
		res->elem_count++;
		res->piece_count += count;
		res->bytes += room;
		if (unlikely(verdict != CHAIN_OK))
			return give_back_empty(rxq, res, &before);
		left -= room;
	} while (unlikely(left > 0));

	unit = &res->units[res->unit_count++];
	unit->piece = (uint16_t)before.piece;
	unit->piece_count = (uint16_t)(res->piece_count - before.piece);
	unit->buffers = (uint16_t)(res->elem_count - before.elem);
	if (unlikely(load_relaxed(&rxq->stalled)))
		store_relaxed(&rxq->stalled, false);
	return RXQ_TAKEN;
}

void rxq_reserve_end(struct rxq *rxq, struct rxq_reservation *res)
{
	if (res->elem_count) {
		uint32_t ticket = rxq->ticket_next;

		if (unlikely(rxq->packed)) {
			rxq->used_reserved = rxq->last_avail;
			rxq_packed_end(rxq);
		} else {
			rxq->used_reserved = (uint16_t)(rxq->used_reserved + res->elem_count);
		}
		rxq->tickets[ticket % RXQ_TICKETS].used_end = rxq->used_reserved;
		rxq->tickets[ticket % RXQ_TICKETS].packets = (uint8_t)res->unit_count;
		res->ticket = ticket;
		store_release(&rxq->ticket_next, ticket + 1);
		if (unlikely(rxq->kick_wanted))
			stop_wanting_kicks(rxq);
	}
	unlock(&rxq->lock);
}

/*
 * Publishes from the ticket on, whose turn it is, as far as others are complete, and passes the turn on. Only who has
 * the turn writes the used index, so it must be written before the turn is passed.
 */
static struct publication publish_from(struct rxq *rxq, uint32_t ticket)
{
	struct rxq_packed *packed = rxq->packed;
	struct publication what = {.from = unlikely(packed) ? rxq_packed_count(packed) : rxq->used_published};
	uint8_t state;

	do {
		uint16_t to;

		do {
			to = rxq->tickets[ticket % RXQ_TICKETS].used_end;
			what.packets += rxq->tickets[ticket % RXQ_TICKETS].packets;
			store_relaxed(&rxq->tickets[ticket % RXQ_TICKETS].state, RXQ_TICKET_OPEN);
			ticket++;
		} while (load_acquire(&rxq->tickets[ticket % RXQ_TICKETS].state) == RXQ_TICKET_DONE);
		rxq_tsan_publish(rxq);
		if (unlikely(packed))
			rxq_packed_publish(rxq, to);
		else
			store_release(&rxq->ring.used->idx, to);
		rxq->used_published = to;
		what.to = unlikely(packed) ? rxq_packed_count(packed) : to;
		store_release(&rxq->ticket_oldest, ticket);
		state = __atomic_exchange_n(&rxq->tickets[ticket % RXQ_TICKETS].state, RXQ_TICKET_TURN,
					    __ATOMIC_ACQ_REL);
	} while (unlikely(state == RXQ_TICKET_DONE));
	return what;
}

struct publication rxq_publish_ticket(struct rxq *rxq, uint32_t ticket)
{
	uint8_t *state = &rxq->tickets[ticket % RXQ_TICKETS].state;

	/* Having the turn already is the common case, and nobody takes it from us. */
	if (likely(load_acquire(state) == RXQ_TICKET_TURN) ||
	    __atomic_exchange_n(state, RXQ_TICKET_DONE, __ATOMIC_ACQ_REL) == RXQ_TICKET_TURN)
		return publish_from(rxq, ticket);
	return (struct publication){0};
}

struct publication rxq_publish(struct rxq *rxq, struct rxq_reservation *res)
{
	return likely(res->elem_count) ? rxq_publish_ticket(rxq, res->ticket) : (struct publication){0};
}

bool rxq_wants_call(const struct rxq *rxq, uint16_t from, uint16_t to)
{
	if (unlikely(rxq->packed))
		return rxq_packed_wants_call(rxq, from);
	if (rxq->event_idx)
		return vring_passes_event(READ_ONCE(*vring_split_used_event(&rxq->ring)), to, from);
	return !(READ_ONCE(rxq->ring.avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}

bool rxq_want_kick(struct rxq *rxq)
{
	bool more;

	if (!load_acquire(&rxq->live))
		return false;
	if (!try_lock(&rxq->lock))
		return true;
	rxq->kick_wanted = true;
	if (rxq->packed) {
		more = rxq_packed_kicks_on(rxq);
	} else {
		if (rxq->event_idx)
			WRITE_ONCE(*vring_split_avail_event(&rxq->ring), rxq->avail_seen);
		WRITE_ONCE(rxq->ring.used->flags, 0);
		full_barrier();
		more = load_acquire(&rxq->ring.avail->idx) != rxq->avail_seen;
	}
	unlock(&rxq->lock);
	return more;
}
