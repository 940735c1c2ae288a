/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A split virtqueue's three areas (virtio 1.2, section 2.7), as both sides see them: pointers into shared
 * memory and the ring's size, which is private and never read back from the other side.
 *
 * Accessors read and write shared memory exactly once, with the ordering that the specification asks for.
 * Any thread that may use the ring may call them.
 */
#ifndef LASTHOP_VIRTIO_VRING_H
#define LASTHOP_VIRTIO_VRING_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/compiler.h"

#define VRING_SIZE_MAX 32768

struct vring_split {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t size; /* descriptors; a power of two, 1 to VRING_SIZE_MAX */
	uint16_t mask; /* size - 1 */
};

/* Bytes of each area, with the trailing event index. */
static inline size_t vring_desc_bytes(unsigned int size)
{
	return sizeof(struct vring_desc) * size;
}

static inline size_t vring_avail_bytes(unsigned int size)
{
	return sizeof(struct vring_avail) + sizeof(uint16_t) * (size + 1);
}

static inline size_t vring_used_bytes(unsigned int size)
{
	return sizeof(struct vring_used) + sizeof(struct vring_used_elem) * size + sizeof(uint16_t);
}

/* used_event is written by the driver behind avail's ring, avail_event by the device behind used's ring. */
static inline uint16_t *vring_split_used_event(const struct vring_split *ring)
{
	return &ring->avail->ring[ring->size];
}

static inline uint16_t *vring_split_avail_event(const struct vring_split *ring)
{
	return (uint16_t *)(void *)&ring->used->ring[ring->size];
}

/* Nothing says that an indirect table is aligned. */
struct vring_word {
	uint64_t value;
} __attribute__((packed, may_alias));

/* A descriptor fetched once: what was read is what is checked and used. */
static inline struct vring_desc vring_desc_fetch(const struct vring_desc *shared)
{
	const volatile struct vring_word *words = (const volatile struct vring_word *)(const void *)shared;
	union {
		uint64_t words[2];
		struct vring_desc desc;
	} copy;

	copy.words[0] = words[0].value;
	copy.words[1] = words[1].value;
	return copy.desc;
}

/* True if moving an index from old to new_idx passes event (virtio 1.2, section 2.7.7.2); all modulo 2^16. */
static inline bool vring_passes_event(uint16_t event, uint16_t new_idx, uint16_t old)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old);
}

#endif
