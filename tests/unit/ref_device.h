/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtqueue's device side, split or packed, as the specification words it: the plainest possible,
 * no batching, no tricks, nothing shared with the switch's own. What the driver side is tested
 * against. Sizes are powers of two, so that a packed ring's positions can be counted, too.
 */
#ifndef TESTS_UNIT_REF_DEVICE_H
#define TESTS_UNIT_REF_DEVICE_H

#include <stdlib.h>
#include <string.h>

#include "lib/compiler.h"
#include "virtio/vring.h"

#define REF_PIECES_MAX 2048

struct ref_device {
	bool is_packed;
	struct vring_split ring;
	struct vring_packed packed;
	bool event_idx;
	uint32_t avail_next; /* of the chain that is taken next; descriptors of a packed ring */
	uint32_t used_next;
	uint32_t called_at;             /* used_next when the driver was last thought of */
	uint32_t put;                   /* packed: where ref_put() goes on */
	uint16_t slots[VRING_SIZE_MAX]; /* packed: descriptors of the chain with this id */
	/* Memory of the guest's address addr is at memory + addr - base, or where translate says.
	 */
	uint8_t *memory;
	uint64_t base;
	void *(*translate)(void *arg, uint64_t addr, uint32_t len);
	void *arg;
};

struct ref_chain {
	uint16_t head;
	unsigned int out; /* readable pieces, then writable ones */
	unsigned int in;
	bool indirect;
	struct vring_desc pieces[REF_PIECES_MAX];
};

static inline void *ref_at(const struct ref_device *dev, uint64_t addr, uint32_t len)
{
	return dev->translate ? dev->translate(dev->arg, addr, len) : dev->memory + (addr - dev->base);
}

/* Walks one table from `at`. False: it is not well-formed. */
static inline bool ref_walk(const struct vring_desc *table, unsigned int size, unsigned int at, struct ref_chain *chain)
{
	for (unsigned int i = 0; i <= size; i++) {
		struct vring_desc desc;

		if (at >= size || chain->out + chain->in >= REF_PIECES_MAX)
			return false;
		desc = table[at];
		if (desc.flags & VRING_DESC_F_INDIRECT)
			return false;
		chain->pieces[chain->out + chain->in] = desc;
		if (desc.flags & VRING_DESC_F_WRITE)
			chain->in++;
		else if (chain->in == 0)
			chain->out++;
		else
			return false;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return true;
		at = desc.next;
	}
	return false;
}

/* The wrap counter at a place in a packed ring. */
static inline bool ref_wrap(const struct ref_device *dev, uint32_t at)
{
	return (at / dev->packed.size) % 2 == 0;
}

static inline struct vring_packed_desc *ref_slot(const struct ref_device *dev, uint32_t at)
{
	return &dev->packed.desc[at % dev->packed.size];
}

/* Length, id and flags, at once: both sides must use one size of access, or ThreadSanitizer cannot follow them. */
static inline uint64_t *ref_word(const struct ref_device *dev, uint32_t at)
{
	return (uint64_t *)(void *)&ref_slot(dev, at)->len;
}

static inline bool ref_has_packed(const struct ref_device *dev)
{
	uint16_t flags = (uint16_t)(load_acquire(ref_word(dev, dev->avail_next)) >> 48);
	bool avail = flags & (1u << VRING_PACKED_DESC_F_AVAIL), used = flags & (1u << VRING_PACKED_DESC_F_USED);

	return avail == ref_wrap(dev, dev->avail_next) && used != avail;
}

static inline bool ref_has(const struct ref_device *dev)
{
	if (dev->is_packed)
		return ref_has_packed(dev);
	return load_acquire(&dev->ring.avail->idx) != (uint16_t)dev->avail_next;
}

static inline bool ref_add_piece(struct ref_chain *chain, const struct vring_packed_desc *desc)
{
	if (chain->out + chain->in >= REF_PIECES_MAX || (chain->in > 0 && !(desc->flags & VRING_DESC_F_WRITE)))
		return false;
	chain->pieces[chain->out + chain->in] =
		(struct vring_desc){.addr = desc->addr, .len = desc->len, .flags = desc->flags & VRING_DESC_F_WRITE};
	if (desc->flags & VRING_DESC_F_WRITE)
		chain->in++;
	else
		chain->out++;
	return true;
}

/* All of a chain must be available, as is said of each of its descriptors. */
static inline bool ref_take_packed(struct ref_device *dev, struct ref_chain *chain)
{
	uint32_t first = dev->avail_next;
	bool good = true;
	struct vring_packed_desc desc;

	do {
		if (!ref_has_packed(dev) || dev->avail_next - first >= dev->packed.size)
			return false;
		desc = *ref_slot(dev, dev->avail_next++);
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			const struct vring_packed_desc *table = ref_at(dev, desc.addr, desc.len);

			chain->indirect = true;
			good = dev->avail_next == first + 1 && !(desc.flags & VRING_DESC_F_NEXT) &&
			       desc.len % sizeof(*table) == 0;
			for (unsigned int i = 0; good && i < desc.len / sizeof(*table); i++)
				good = !(table[i].flags & ~VRING_DESC_F_WRITE) && ref_add_piece(chain, &table[i]);
		} else {
			good = good && ref_add_piece(chain, &desc);
		}
	} while (desc.flags & VRING_DESC_F_NEXT);
	chain->head = desc.id;
	dev->slots[chain->head % VRING_SIZE_MAX] = (uint16_t)(dev->avail_next - first);
	if (!good)
		chain->out = chain->in = 0;
	return good;
}

/* Takes a chain. False: there is none, or (chain->out and in are 0 then) it is not well-formed. */
static inline bool ref_take(struct ref_device *dev, struct ref_chain *chain)
{
	struct vring_desc first;

	chain->out = chain->in = 0;
	chain->indirect = false;
	if (!ref_has(dev))
		return false;
	if (dev->is_packed)
		return ref_take_packed(dev, chain);
	chain->head = load_relaxed(&dev->ring.avail->ring[dev->avail_next & dev->ring.mask]);
	dev->avail_next++;
	if (chain->head >= dev->ring.size)
		return false;
	first = dev->ring.desc[chain->head];
	if (first.flags & VRING_DESC_F_INDIRECT) {
		chain->indirect = true;
		if (first.flags != VRING_DESC_F_INDIRECT || first.len % sizeof(first) != 0 ||
		    !ref_walk(ref_at(dev, first.addr, first.len), first.len / sizeof(first), 0, chain))
			chain->out = chain->in = 0;
	} else if (!ref_walk(dev->ring.desc, dev->ring.size, chain->head, chain)) {
		chain->out = chain->in = 0;
	}
	return chain->out + chain->in > 0;
}

/*
 * Writes used entry number `ahead` behind the used index, which stays: see ref_publish(). In order from number 0 on. In
 * a packed ring everything but the flags.
 */
static inline void ref_put(struct ref_device *dev, unsigned int ahead, uint32_t id, uint32_t len)
{
	struct vring_used_elem *elem;

	if (dev->is_packed) {
		dev->put = ahead ? dev->put : dev->used_next;
		store_relaxed(&ref_slot(dev, dev->put)->id, (uint16_t)id);
		store_relaxed(&ref_slot(dev, dev->put)->len, len);
		dev->put += dev->slots[id % VRING_SIZE_MAX] ? dev->slots[id % VRING_SIZE_MAX] : 1;
		return;
	}
	elem = &dev->ring.used->ring[(dev->used_next + ahead) & dev->ring.mask];
	store_relaxed(&elem->id, id);
	store_relaxed(&elem->len, len);
}

static inline void ref_mark_used(const struct ref_device *dev, uint32_t at)
{
	const uint64_t flags = ref_wrap(dev, at) ? VRING_PACKED_AVAIL | VRING_PACKED_USED : 0;

	store_release(ref_word(dev, at), (load_relaxed(ref_word(dev, at)) & ~(0xffffULL << 48)) | flags << 48);
}

/* The first of them last, so that the driver sees all or none. */
static inline void ref_publish_packed(struct ref_device *dev, unsigned int count)
{
	uint32_t first = dev->used_next, at = first;

	for (unsigned int i = 0; i < count; i++) {
		uint16_t slots = dev->slots[ref_slot(dev, at)->id % VRING_SIZE_MAX];

		if (i > 0)
			ref_mark_used(dev, at);
		at += slots ? slots : 1;
	}
	dev->used_next = at;
	if (count > 0)
		ref_mark_used(dev, first);
}

static inline void ref_publish(struct ref_device *dev, unsigned int count)
{
	if (dev->is_packed) {
		ref_publish_packed(dev, count);
		return;
	}
	dev->used_next += count;
	store_release(&dev->ring.used->idx, (uint16_t)dev->used_next);
}

static inline void ref_give_back(struct ref_device *dev, uint32_t id, uint32_t len)
{
	ref_put(dev, 0, id, len);
	ref_publish(dev, 1);
}

/* The other side's event suppression, for descriptors `from` up to `to`. */
static inline bool ref_event_due(const struct ref_device *dev, const struct vring_packed_desc_event *event,
				 uint32_t from, uint32_t to)
{
	uint16_t flags = load_relaxed(&event->flags), off_wrap = load_relaxed(&event->off_wrap);

	if (flags != VRING_PACKED_EVENT_FLAG_DESC)
		return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
	for (uint32_t at = from; at != to; at++) {
		if (at % dev->packed.size == (off_wrap & 0x7fffu) && ref_wrap(dev, at) == (off_wrap >> 15))
			return true;
	}
	return false;
}

/* Whether the driver is to be called for what was published since the last time. */
static inline bool ref_call_due(struct ref_device *dev)
{
	uint32_t old = dev->called_at;
	uint16_t event, now = (uint16_t)dev->used_next;

	full_barrier();
	dev->called_at = dev->used_next;
	if (old == dev->used_next)
		return false;
	if (dev->is_packed)
		return ref_event_due(dev, dev->packed.driver, old, dev->used_next);
	if (!dev->event_idx)
		return !(load_relaxed(&dev->ring.avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	event = load_relaxed(vring_split_used_event(&dev->ring));
	return (uint16_t)(now - event - 1) < (uint16_t)(now - (uint16_t)old);
}

static inline void ref_want_kick_packed(struct ref_device *dev, bool want)
{
	uint16_t flags = want ? VRING_PACKED_EVENT_FLAG_ENABLE : VRING_PACKED_EVENT_FLAG_DISABLE;

	if (want && dev->event_idx) {
		uint16_t at = (uint16_t)(dev->avail_next % dev->packed.size);

		store_relaxed(&dev->packed.device->off_wrap, at | (uint16_t)(ref_wrap(dev, dev->avail_next) << 15));
		flags = VRING_PACKED_EVENT_FLAG_DESC;
	}
	store_release(&dev->packed.device->flags, flags);
}

/* Asks the driver not to kick, or to. True: nothing arrived meanwhile, so one may sleep. */
static inline bool ref_want_kick(struct ref_device *dev, bool want)
{
	if (dev->is_packed)
		ref_want_kick_packed(dev, want);
	else if (!dev->event_idx)
		store_relaxed(&dev->ring.used->flags, want ? 0 : VRING_USED_F_NO_NOTIFY);
	else
		store_relaxed(vring_split_avail_event(&dev->ring), (uint16_t)(dev->avail_next - (want ? 0 : 1)));
	full_barrier();
	return !ref_has(dev);
}

/* Sets the ring and where to start, as vhost-user says it; the rest of *dev is zero. */
static inline void ref_start(struct ref_device *dev, const struct vring_any *ring, uint16_t base)
{
	dev->is_packed = ring->is_packed;
	dev->avail_next = base;
	if (ring->is_packed) {
		dev->packed = ring->packed;
		dev->avail_next = (base & 0x7fffu) + (base & 0x8000u ? 0 : ring->packed.size);
	} else {
		dev->ring = ring->split;
		dev->ring.mask = (uint16_t)(dev->ring.size - 1);
	}
	dev->used_next = dev->called_at = dev->avail_next;
}

static inline uint16_t ref_base(const struct ref_device *dev)
{
	if (!dev->is_packed)
		return (uint16_t)dev->avail_next;
	return (uint16_t)(dev->avail_next % dev->packed.size) | (uint16_t)(ref_wrap(dev, dev->avail_next) << 15);
}

#endif
