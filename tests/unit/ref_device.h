/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A split virtqueue's device side, as the specification words it: the plainest possible, no
 * batching, no tricks, nothing shared with the switch's own. What the driver side is tested
 * against.
 */
#ifndef TESTS_UNIT_REF_DEVICE_H
#define TESTS_UNIT_REF_DEVICE_H

#include <stdlib.h>
#include <string.h>

#include "lib/compiler.h"
#include "virtio/vring.h"

#define REF_PIECES_MAX 2048

struct ref_device {
	struct vring_split ring;
	bool event_idx;
	uint16_t avail_next; /* of the chain that is taken next */
	uint16_t used_next;
	uint16_t called_at; /* used index when the driver was last thought of */
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

static inline bool ref_has(const struct ref_device *dev)
{
	return load_acquire(&dev->ring.avail->idx) != dev->avail_next;
}

/* Takes a chain. False: there is none, or (chain->out and in are 0 then) it is not well-formed. */
static inline bool ref_take(struct ref_device *dev, struct ref_chain *chain)
{
	struct vring_desc first;

	chain->out = chain->in = 0;
	chain->indirect = false;
	if (!ref_has(dev))
		return false;
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

/* Writes used entry number `ahead` behind the used index, which stays: see ref_publish(). */
static inline void ref_put(struct ref_device *dev, unsigned int ahead, uint32_t id, uint32_t len)
{
	struct vring_used_elem *elem = &dev->ring.used->ring[(dev->used_next + ahead) & dev->ring.mask];

	store_relaxed(&elem->id, id);
	store_relaxed(&elem->len, len);
}

static inline void ref_publish(struct ref_device *dev, unsigned int count)
{
	dev->used_next += (uint16_t)count;
	store_release(&dev->ring.used->idx, dev->used_next);
}

static inline void ref_give_back(struct ref_device *dev, uint32_t id, uint32_t len)
{
	ref_put(dev, 0, id, len);
	ref_publish(dev, 1);
}

/* Whether the driver is to be called for what was published since the last time. */
static inline bool ref_call_due(struct ref_device *dev)
{
	uint16_t old = dev->called_at, event;

	full_barrier();
	dev->called_at = dev->used_next;
	if (old == dev->used_next)
		return false;
	if (!dev->event_idx)
		return !(load_relaxed(&dev->ring.avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	event = load_relaxed(vring_split_used_event(&dev->ring));
	return (uint16_t)(dev->used_next - event - 1) < (uint16_t)(dev->used_next - old);
}

/* Asks the driver not to kick, or to. True: nothing arrived meanwhile, so one may sleep. */
static inline bool ref_want_kick(struct ref_device *dev, bool want)
{
	if (!dev->event_idx)
		store_relaxed(&dev->ring.used->flags, want ? 0 : VRING_USED_F_NO_NOTIFY);
	else
		store_relaxed(vring_split_avail_event(&dev->ring), (uint16_t)(dev->avail_next - (want ? 0 : 1)));
	full_barrier();
	return !ref_has(dev);
}

#endif
