/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A split ring's used entries are written when buffers are reserved, because nobody looks at them before the index says
 * so. In a packed ring what is written is seen, in the place of a descriptor that is still needed if this process dies;
 * so chains[] keeps it until the turn to publish comes. A publication's first descriptor is written last: the guest
 * sees the buffers of one frame all or none.
 */
#include "datapath/rxq_packed.h"

#include <stdlib.h>
#include <string.h>

struct rxq_packed *rxq_packed_create(const struct vring_packed *ring, uint16_t base)
{
	size_t size = sizeof(struct rxq_packed) + ring->size * sizeof(struct rxq_packed_chain);
	struct rxq_packed *packed = aligned_alloc(CACHE_LINE, align_up(size, CACHE_LINE));

	if (!packed)
		return NULL;
	memset(packed, 0, size);
	packed->ring = *ring;
	packed->published = base;
	return packed;
}

/* Descriptors that are reserved and not given back: all of the ring's, if it is the guest who says so. */
static unsigned int count_out(const struct rxq *rxq)
{
	const struct rxq_packed *packed = rxq->packed;

	return vring_packed_distance((uint16_t)load_relaxed(&packed->published), rxq->last_avail, packed->ring.size);
}

static bool is_avail(const struct vring_packed *ring, uint16_t position)
{
	return vring_packed_is_avail(vring_packed_flags(ring, vring_packed_index(position)), position);
}

bool rxq_packed_available(struct rxq *rxq)
{
	const struct vring_packed *ring = &rxq->packed->ring;

	if (count_out(rxq) < ring->size && is_avail(ring, rxq->last_avail)) {
		rxq_tsan_available(rxq);
		return true;
	}
	rxq->avail_seen = rxq->last_avail;
	return false;
}

void rxq_packed_end(struct rxq *rxq)
{
	const unsigned int size = rxq->packed->ring.size;

	if (vring_packed_distance(rxq->last_avail, rxq->avail_seen, size) >= size)
		rxq->avail_seen = rxq->last_avail;
}

enum chain_verdict rxq_packed_fetch(struct rxq *rxq, struct chain_piece *pieces, unsigned int room, unsigned int *count,
				    struct chain_extent *extent)
{
	const struct vring_packed *ring = &rxq->packed->ring;
	struct vring_packed_desc desc = vring_packed_fetch(ring, vring_packed_index(rxq->last_avail));
	enum chain_verdict verdict = chain_packed_fetch(&rxq->walk, ring, rxq->last_avail, &desc, pieces, room, count,
							extent);

	if (verdict < CHAIN_BROKEN && extent->slots > ring->size - count_out(rxq))
		return CHAIN_AVAIL;
	return verdict;
}

void rxq_packed_put(struct rxq *rxq, struct chain_extent extent, uint32_t bytes)
{
	struct rxq_packed *packed = rxq->packed;

	packed->chains[vring_packed_index(rxq->last_avail)] = (struct rxq_packed_chain){.extent = extent,
											.bytes = bytes};
	rxq->last_avail = vring_packed_advance(rxq->last_avail, extent.slots, packed->ring.size);
}

void rxq_packed_empty(struct rxq *rxq, uint16_t from)
{
	struct rxq_packed *packed = rxq->packed;

	while (from != rxq->last_avail) {
		struct rxq_packed_chain *chain = &packed->chains[vring_packed_index(from)];

		chain->bytes = 0;
		from = vring_packed_advance(from, chain->extent.slots, packed->ring.size);
	}
}

unsigned int rxq_packed_take_simple(struct rxq *rxq, struct rxq_reservation *res, const uint32_t *bytes,
				    unsigned int count, uint64_t *total)
{
	struct rxq_packed *packed = rxq->packed;
	const struct vring_packed ring = packed->ring;
	const struct guest_memory *memory = rxq->walk.memory;
	struct guest_region region;
	uint16_t position = rxq->last_avail;
	unsigned int taken;

	count = min(count, ring.size - count_out(rxq));
	count = min(count, (unsigned int)RXQ_UNITS_MAX);
	if (unlikely(rxq->walk.hint >= memory->count))
		return 0;
	region = memory->regions[rxq->walk.hint];
	for (taken = 0; taken < count; taken++) {
		const unsigned int index = vring_packed_index(position);
		struct vring_packed_desc desc = vring_packed_fetch(&ring, index);
		uint64_t offset = desc.addr - region.guest_addr;
		uint8_t *data;

		if (unlikely(desc.flags != (vring_packed_avail_flags(position) | VRING_DESC_F_WRITE) ||
			     desc.len < bytes[taken] || offset >= region.size || desc.len > region.size - offset))
			break;
		rxq_tsan_available(rxq);
		data = region.host + offset;
		prefetch_write(data);
		prefetch_write(data + CACHE_LINE);
		res->pieces[taken] = (struct chain_piece){data, desc.len};
		packed->chains[index] = (struct rxq_packed_chain){{.slots = 1, .id = desc.id}, bytes[taken]};
		*total += bytes[taken];
		position = vring_packed_advance(position, 1, ring.size);
	}
	rxq->last_avail = position;
	return taken;
}

void rxq_packed_publish(struct rxq *rxq, uint16_t to)
{
	struct rxq_packed *packed = rxq->packed;
	const struct rxq_packed_chain *chains = packed->chains;
	const uint16_t first = rxq->used_published;
	uint16_t count = rxq_packed_count(packed), at = first;

	while (at != to) {
		const struct rxq_packed_chain *chain = &chains[vring_packed_index(at)];

		if (at != first)
			chain_packed_use(&packed->ring, at, chain->extent, chain->bytes, true);
		at = vring_packed_advance(at, chain->extent.slots, packed->ring.size);
		count += chain->extent.slots;
	}
	if (likely(to != first))
		chain_packed_use(&packed->ring, first, chains[vring_packed_index(first)].extent,
				 chains[vring_packed_index(first)].bytes, true);
	store_release(&packed->published, to | (uint32_t)count << 16);
}

bool rxq_packed_wants_call(const struct rxq *rxq, uint16_t from)
{
	const struct rxq_packed *packed = rxq->packed;
	uint32_t published = load_relaxed(&packed->published);

	/* What others have published since is theirs to tell of; to tell twice does no harm. */
	return vring_packed_event_due(packed->ring.driver, rxq->event_idx, (uint16_t)published,
				      (uint16_t)((published >> 16) - from), packed->ring.size);
}

void rxq_packed_kicks_off(struct rxq *rxq)
{
	vring_packed_event_store(rxq->packed->ring.device, vring_packed_event_of(0, VRING_PACKED_EVENT_FLAG_DISABLE));
}

bool rxq_packed_kicks_on(struct rxq *rxq)
{
	const struct vring_packed *ring = &rxq->packed->ring;
	uint32_t event = rxq->event_idx ? vring_packed_event_of(rxq->avail_seen, VRING_PACKED_EVENT_FLAG_DESC)
					: vring_packed_event_of(0, VRING_PACKED_EVENT_FLAG_ENABLE);

	vring_packed_event_store(ring->device, event);
	full_barrier();
	return is_avail(ring, rxq->avail_seen);
}
