/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtqueue's three areas, split (virtio 1.2, section 2.7) or packed (section 2.8), as both sides see them:
 * pointers into shared memory and the ring's size, which is private and never read back from the other side.
 *
 * A place in a packed ring is a "position": the index in bits 0 to 14, and in bit 15 the wrap counter of whoever
 * gets there. Event suppression and vhost-user write it the same way. Positions repeat after two laps.
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
#include <string.h>

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

/* Copies `count` available entries from this position on: what is read once is what is used. */
static inline void vring_avail_copy(const struct vring_split *ring, uint16_t position, uint16_t *heads,
				    unsigned int count)
{
	const unsigned int slot = position & ring->mask;

	if (likely(slot + count <= ring->size)) {
		memcpy(heads, &ring->avail->ring[slot], count * sizeof(heads[0]));
		return;
	}
	for (unsigned int i = 0; i < count; i++)
		heads[i] = READ_ONCE(ring->avail->ring[(slot + i) & ring->mask]);
}

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

/*
 * Writes a used entry, unless it is there already: a driver that uses its buffers in order gets the same entries round
 * after round, and a line that nobody writes stays in both cores' caches. What it is compared with the driver may have
 * changed, which spoils nothing but what it reads itself.
 */
static inline void vring_used_put(struct vring_used_elem *shared, uint32_t id, uint32_t bytes)
{
	volatile struct vring_word *word = (volatile struct vring_word *)(void *)shared;
	union {
		struct vring_used_elem elem;
		uint64_t word;
	} entry = {.elem = {.id = id, .len = bytes}};

	if (word->value != entry.word)
		word->value = entry.word;
}

struct vring_packed {
	struct vring_packed_desc *desc;
	struct vring_packed_desc_event *driver; /* written by the driver: when it wants to be called */
	struct vring_packed_desc_event *device; /* written by the device: when it wants to be kicked */
	uint16_t size;                          /* descriptors; 1 to VRING_SIZE_MAX, not always a power of two */
};

#define VRING_PACKED_START 0x8000u /* the first position: index 0, wrap counter 1 */
#define VRING_PACKED_WRAP  0x8000u

#define VRING_PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define VRING_PACKED_USED  (1u << VRING_PACKED_DESC_F_USED)

/* Alignment that section 2.8.10.1 asks for, in bytes. */
#define VRING_PACKED_DESC_ALIGN  16
#define VRING_PACKED_EVENT_ALIGN 4

static inline size_t vring_packed_desc_bytes(unsigned int size)
{
	return sizeof(struct vring_packed_desc) * size;
}

static inline unsigned int vring_packed_index(uint16_t position)
{
	return position & ~VRING_PACKED_WRAP;
}

/* The position n descriptors on; n is at most size. */
static inline uint16_t vring_packed_advance(uint16_t position, unsigned int n, unsigned int size)
{
	unsigned int index = vring_packed_index(position) + n;
	unsigned int wrap = position & VRING_PACKED_WRAP;

	return (uint16_t)(index < size ? index | wrap : (index - size) | (wrap ^ VRING_PACKED_WRAP));
}

/* Descriptors from one position on to another, 0 to 2 * size - 1, if the index of both is in the ring. */
static inline unsigned int vring_packed_distance(uint16_t from, uint16_t to, unsigned int size)
{
	unsigned int laps = (from ^ to) & VRING_PACKED_WRAP ? size : 0;
	unsigned int distance = laps + vring_packed_index(to) - vring_packed_index(from);

	return distance < 2 * size ? distance : distance + 2 * size;
}

/* What AVAIL and USED of a descriptor at this position say once it is available, and once it is used. */
static inline uint16_t vring_packed_avail_flags(uint16_t position)
{
	return position & VRING_PACKED_WRAP ? VRING_PACKED_AVAIL : VRING_PACKED_USED;
}

static inline uint16_t vring_packed_used_flags(uint16_t position)
{
	return position & VRING_PACKED_WRAP ? VRING_PACKED_AVAIL | VRING_PACKED_USED : 0;
}

static inline bool vring_packed_is_avail(uint16_t flags, uint16_t position)
{
	return (flags & (VRING_PACKED_AVAIL | VRING_PACKED_USED)) == vring_packed_avail_flags(position);
}

static inline bool vring_packed_is_used(uint16_t flags, uint16_t position)
{
	return (flags & (VRING_PACKED_AVAIL | VRING_PACKED_USED)) == vring_packed_used_flags(position);
}

/*
 * All of a descriptor but its address is one aligned word, which both sides write at once: whoever sees the flags
 * sees the rest, and there is no moment at which it is half of either's.
 */
typedef uint64_t vring_packed_word __attribute__((may_alias));

static inline uint64_t vring_packed_word_of(uint32_t len, uint16_t id, uint16_t flags)
{
	return len | (uint64_t)id << 32 | (uint64_t)flags << 48;
}

static inline vring_packed_word *vring_packed_word_at(const struct vring_packed *ring, unsigned int index)
{
	return (vring_packed_word *)(void *)&ring->desc[index].len;
}

/* A descriptor fetched once, flags first: what was read is what is checked and used. */
static inline struct vring_packed_desc vring_packed_fetch(const struct vring_packed *ring, unsigned int index)
{
	uint64_t word = load_acquire(vring_packed_word_at(ring, index));

	return (struct vring_packed_desc){
		.addr = READ_ONCE(ring->desc[index].addr),
		.len = (uint32_t)word,
		.id = (uint16_t)(word >> 32),
		.flags = (uint16_t)(word >> 48),
	};
}

static inline uint16_t vring_packed_flags(const struct vring_packed *ring, unsigned int index)
{
	return (uint16_t)(load_acquire(vring_packed_word_at(ring, index)) >> 48);
}

/* Event suppression: position and flags are read and written at once, too. */
typedef uint32_t vring_packed_event_word __attribute__((may_alias));

static inline uint32_t vring_packed_event_of(uint16_t position, uint16_t flags)
{
	return position | (uint32_t)flags << 16;
}

static inline void vring_packed_event_store(struct vring_packed_desc_event *event, uint32_t value)
{
	store_relaxed((vring_packed_event_word *)(void *)event, value);
}

/*
 * True if whoever wrote *event wants to hear of `count` more descriptors, the last of which was the one before
 * `end`. The caller has had a full barrier since it wrote them.
 */
static inline bool vring_packed_event_due(const struct vring_packed_desc_event *event, bool event_idx, uint16_t end,
					  unsigned int count, unsigned int size)
{
	uint32_t value = load_relaxed((const vring_packed_event_word *)(const void *)event);
	unsigned int since;

	if (count == 0 || value >> 16 == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (!event_idx || value >> 16 != VRING_PACKED_EVENT_FLAG_DESC || count >= 2 * size)
		return true;
	since = vring_packed_distance((uint16_t)value, end, size);
	return since != 0 && since <= count;
}

/* Either kind. */
struct vring_any {
	bool is_packed;
	union {
		struct vring_split split;
		struct vring_packed packed;
	};
};

/* True if moving an index from old to new_idx passes event (virtio 1.2, section 2.7.7.2); all modulo 2^16. */
static inline bool vring_passes_event(uint16_t event, uint16_t new_idx, uint16_t old)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old);
}

#endif
