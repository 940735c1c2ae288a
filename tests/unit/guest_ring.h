/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's memory with one split ring in it, written by the test itself and seen by device code through a table of
 * two regions, which touch in the guest's address space but not here. No mappings and no connection: an access past
 * a region is one past an allocation.
 *
 * Offsets count from the region's start. One thread.
 */
#ifndef TESTS_UNIT_GUEST_RING_H
#define TESTS_UNIT_GUEST_RING_H

#include "unit.h"

#include <string.h>

#include "vhost/chain.h"
#include "vhost/guest_memory.h"
#include "virtio/virtio_net.h"
#include "virtio/vring.h"

#define GUEST_BASE   0x100000ULL
#define GUEST_BYTES  0x40000u /* of each region */
#define GUEST_TABLES 0x10000u /* offset where indirect tables may go */
#define GUEST_DATA   0x20000u /* offset where buffers may go */

struct guest_ring {
	struct guest_memory memory;
	struct vring_split ring;
	uint8_t *bytes[2]; /* the regions; the ring is in the first */
};

static inline void guest_ring_init(struct guest_ring *guest, unsigned int size)
{
	uint64_t at = 0;

	guest_memory_reset(&guest->memory);
	for (unsigned int i = 0; i < 2; i++) {
		guest->bytes[i] = aligned_alloc(4096, GUEST_BYTES);
		assert_non_null(guest->bytes[i]);
		memset(guest->bytes[i], 0, GUEST_BYTES);
		guest->memory.regions[i] = (struct guest_region){
			.guest_addr = GUEST_BASE + i * (uint64_t)GUEST_BYTES,
			.size = GUEST_BYTES,
			.host = guest->bytes[i],
		};
	}
	guest->memory.count = 2;
	guest->ring.size = (uint16_t)size;
	guest->ring.mask = (uint16_t)(size - 1);
	guest->ring.desc = (struct vring_desc *)(void *)guest->bytes[0];
	at = align_up(vring_desc_bytes(size), 64);
	guest->ring.avail = (struct vring_avail *)(void *)(guest->bytes[0] + at);
	at = align_up(at + vring_avail_bytes(size), 64);
	guest->ring.used = (struct vring_used *)(void *)(guest->bytes[0] + at);
	assert_true(at + vring_used_bytes(size) <= GUEST_TABLES);
}

static inline void guest_ring_fini(struct guest_ring *guest)
{
	free(guest->bytes[0]);
	free(guest->bytes[1]);
}

static inline uint64_t guest_addr(uint32_t offset)
{
	return GUEST_BASE + offset;
}

static inline void guest_desc(struct guest_ring *guest, unsigned int index, uint64_t addr, uint32_t length,
			      uint16_t flags, uint16_t next)
{
	guest->ring.desc[index] = (struct vring_desc){.addr = addr, .len = length, .flags = flags, .next = next};
}

/* A descriptor of the indirect table at this offset, which need not be aligned. */
static inline void guest_indirect(struct guest_ring *guest, uint32_t table, unsigned int index, uint64_t addr,
				  uint32_t length, uint16_t flags, uint16_t next)
{
	struct vring_desc desc = {.addr = addr, .len = length, .flags = flags, .next = next};

	memcpy(guest->bytes[0] + table + index * sizeof(desc), &desc, sizeof(desc));
}

static inline void guest_offer(struct guest_ring *guest, uint16_t head)
{
	struct vring_avail *avail = guest->ring.avail;

	avail->ring[avail->idx & guest->ring.mask] = head;
	store_release(&avail->idx, (uint16_t)(avail->idx + 1));
}

#endif
