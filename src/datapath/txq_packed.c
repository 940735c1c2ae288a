/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The available and the used place of a chain are one, and to give it back one must know how many descriptors it took:
 * chains[] remembers that from the first walk, for those that wait, too. A chain that takes another number when it is
 * walked again was changed behind our back, and the ring makes no sense any more.
 *
 * What is given back becomes visible from its first descriptor on, which is written last: a driver that polls finds all
 * of a batch, and does not fetch the line while we write to it.
 */
#include "datapath/txq_packed.h"

#include <stdlib.h>

struct txq_packed *txq_packed_create(const struct vring_packed *ring)
{
	struct txq_packed *packed = calloc(1, sizeof(*packed) + ring->size * sizeof(packed->chains[0]));

	if (packed)
		packed->ring = *ring;
	return packed;
}

/* One direct buffer in the region that served last; what is not so simple is left to chain_packed_fetch. */
static force_inline bool take_simple(const struct vring_packed_desc *desc, const struct guest_region *region,
				     struct chain_piece *piece)
{
	uint64_t offset = desc->addr - region->guest_addr;

	if (unlikely((desc->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) ||
		     desc->len == 0 || offset >= region->size || desc->len > region->size - offset))
		return false;
	piece->data = region->host + offset;
	piece->length = desc->len;
	return true;
}

static force_inline void prefetch(const struct chain_piece *piece)
{
	__builtin_prefetch(piece->data);
	__builtin_prefetch(piece->data + CACHE_LINE);
}

/* State of one fetch. */
struct fetch {
	struct guest_region region;
	unsigned int simple; /* packets, from the first on */
	unsigned int pieces; /* taken of the batch's */
	unsigned int out;    /* descriptors from txq->used to txq->last_avail */
	uint64_t bytes;      /* of new chains */
};

enum fetched {
	FETCHED,
	FETCH_LATER, /* perhaps only our own room was too small: the rest is for the next turn */
	FETCH_BROKEN,
};

static force_inline enum fetched fetch_chain(struct txq *txq, struct txq_batch *batch, struct fetch *fetch,
					     unsigned int index, const struct vring_packed_desc *desc,
					     struct chain_extent *extent)
{
	struct packet *packet = &batch->packets[index];
	struct chain_piece *pieces = &batch->pieces[fetch->pieces];
	unsigned int room = min(TXQ_PIECES_MAX - fetch->pieces, (unsigned int)CHAIN_PIECES_MAX), count = 0;
	enum chain_verdict verdict;

	if (likely(fetch->simple == index && take_simple(desc, &fetch->region, pieces))) {
		*extent = (struct chain_extent){.slots = 1, .id = desc->id};
		fetch->simple++;
		fetch->pieces++;
		prefetch(pieces);
		return FETCHED;
	}
	packet->pieces = pieces;
	packet->reason = 0;
	verdict = chain_packed_fetch(&txq->walk, &txq->packed->ring, batch->position[index], desc, pieces, room, &count,
				     extent);
	if (unlikely(verdict >= CHAIN_BROKEN)) {
		txq->fault = verdict;
		return FETCH_BROKEN;
	}
	if (unlikely(verdict == CHAIN_LENGTH && room < CHAIN_PIECES_MAX))
		return FETCH_LATER;
	packet->piece_count = (uint16_t)count;
	if (unlikely(verdict != CHAIN_OK)) {
		packet->reason = (uint16_t)txq_verdict_reason(verdict);
		packet->length = 0;
		packet->piece_count = 0;
		return FETCHED;
	}
	prefetch(pieces);
	fetch->pieces += count;
	return FETCHED;
}

static enum fetched fetch_waiting(struct txq *txq, struct txq_batch *batch, struct fetch *fetch, unsigned int index)
{
	struct txq_packed *packed = txq->packed;
	unsigned int slot = vring_packed_index(txq->waiting[index].position);
	struct vring_packed_desc desc = vring_packed_fetch(&packed->ring, slot);
	struct chain_extent extent;
	enum fetched fetched;

	batch->position[index] = txq->waiting[index].position;
	fetched = fetch_chain(txq, batch, fetch, index, &desc, &extent);
	if (likely(fetched != FETCHED || extent.slots == packed->chains[slot].extent.slots))
		return fetched;
	txq->fault = CHAIN_AVAIL;
	return FETCH_BROKEN;
}

static enum fetched fetch_new(struct txq *txq, struct txq_batch *batch, struct fetch *fetch, unsigned int index)
{
	struct txq_packed *packed = txq->packed;
	const uint16_t position = txq->last_avail;
	const unsigned int slot = vring_packed_index(position), first = fetch->pieces;
	struct vring_packed_desc desc;
	struct chain_extent extent;
	enum fetched fetched;

	if (unlikely(fetch->out == packed->ring.size))
		return FETCH_LATER;
	desc = vring_packed_fetch(&packed->ring, slot);
	if (!vring_packed_is_avail(desc.flags, position))
		return FETCH_LATER;
	batch->position[index] = position;
	fetched = fetch_chain(txq, batch, fetch, index, &desc, &extent);
	if (unlikely(fetched != FETCHED))
		return fetched;
	if (unlikely(extent.slots > packed->ring.size - fetch->out)) {
		txq->fault = CHAIN_AVAIL;
		return FETCH_BROKEN;
	}
	packed->chains[slot] = (struct txq_packed_chain){.extent = extent};
	fetch->out += extent.slots;
	for (unsigned int piece = first; piece < fetch->pieces; piece++)
		fetch->bytes += batch->pieces[piece].length;
	txq->last_avail = vring_packed_advance(position, extent.slots, packed->ring.size);
	return FETCHED;
}

int txq_packed_fetch(struct txq *txq, struct txq_batch *batch, unsigned int *simple)
{
	const struct guest_memory *memory = txq->walk.memory;
	struct fetch fetch = {
		.out = vring_packed_distance(txq->used, txq->last_avail, txq->packed->ring.size),
	};
	unsigned int count = 0;

	if (likely(txq->walk.hint < memory->count))
		fetch.region = memory->regions[txq->walk.hint];
	batch->retried = txq->waiting_count;
	while (count < TXQ_BATCH && fetch.bytes <= TXQ_BYTES_MAX) {
		enum fetched fetched = count < txq->waiting_count ? fetch_waiting(txq, batch, &fetch, count)
								  : fetch_new(txq, batch, &fetch, count);

		if (unlikely(fetched == FETCH_BROKEN))
			return -1;
		if (fetched != FETCHED)
			break;
		count++;
	}
	batch->retried = min(batch->retried, count);
	*simple = fetch.simple;
	return (int)count;
}

void txq_packed_mark_done(struct txq *txq, const struct txq_batch *batch, const struct txq_waiting *const *wait)
{
	for (unsigned int i = 0; i < batch->count; i++)
		txq->packed->chains[vring_packed_index(batch->position[i])].done = !wait || !wait[i];
}

void txq_packed_mark(struct txq *txq, uint16_t position, bool done)
{
	txq->packed->chains[vring_packed_index(position)].done = done;
}

struct publication txq_packed_publish(struct txq *txq, uint16_t end)
{
	struct txq_packed *packed = txq->packed;
	const struct txq_packed_chain *chains = packed->chains;
	const unsigned int size = packed->ring.size;
	const uint16_t first = txq->used;
	struct publication what = {.from = packed->used_count};
	uint16_t at = first;

	while (at != end && chains[vring_packed_index(at)].done) {
		struct chain_extent extent = chains[vring_packed_index(at)].extent;

		if (at != first)
			chain_packed_use(&packed->ring, at, extent, 0, false);
		at = vring_packed_advance(at, extent.slots, size);
		packed->used_count += extent.slots;
		what.packets++;
	}
	if (likely(at != first))
		chain_packed_use(&packed->ring, first, chains[vring_packed_index(first)].extent, 0, false);
	txq->used = at;
	what.to = packed->used_count;
	return what;
}

bool txq_packed_wants_call(const struct txq *txq, uint16_t from)
{
	const struct txq_packed *packed = txq->packed;

	return vring_packed_event_due(packed->ring.driver, txq->event_idx, txq->used,
				      (uint16_t)(packed->used_count - from), packed->ring.size);
}

bool txq_packed_has_at(const struct txq *txq, uint16_t position)
{
	const struct vring_packed *ring = &txq->packed->ring;

	return vring_packed_is_avail(vring_packed_flags(ring, vring_packed_index(position)), position);
}

void txq_packed_kicks(struct txq *txq, bool on)
{
	uint32_t event = vring_packed_event_of(0,
					       on ? VRING_PACKED_EVENT_FLAG_ENABLE : VRING_PACKED_EVENT_FLAG_DISABLE);

	if (on && txq->event_idx)
		event = vring_packed_event_of(txq->last_avail, VRING_PACKED_EVENT_FLAG_DESC);
	vring_packed_event_store(txq->packed->ring.device, event);
}
