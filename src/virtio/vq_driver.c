/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driver side of a split virtqueue.
 *
 * Every descriptor has a private twin in vq->chains. It links the free list and the descriptors of
 * a chain, and it knows whether the device has the chain; nothing is ever read back from the
 * descriptor table. The available ring has a private shadow: an entry that already holds the right
 * head is not written again, so that its cache line stays shared between driver and device. With
 * prepared chains and a device that works in order, that is always.
 *
 * In flight are avail_next - used_next chains, modulo 2^16, never more than the ring's size. The
 * device may use what it was shown, avail_shown - used_next; a used index beyond is a lie.
 */
#include "virtio/vq_driver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/vq_driver_internal.h"

/*
 * Where the event index is put to say "do not call": as far from the used index as can be. The
 * device may be a ring's size ahead of us, or not have thought of calling us for that much yet.
 * Said again before it comes near.
 */
#define EVENT_FAR  0x8000
#define EVENT_NEAR 0x7000

int vq_driver_split_init(struct vq_driver_split *vq, const struct vring_split *ring,
			 const struct vq_driver_indirect *indirect, bool event_idx)
{
	memset(vq, 0, sizeof(*vq));
	if (!is_power_of_two(ring->size) || ring->size > VRING_SIZE_MAX)
		return -EINVAL;

	vq->ring = *ring;
	vq->ring.mask = ring->size - 1;
	vq->event_idx = event_idx;
	if (indirect)
		vq->indirect = *indirect;

	vq->chains = calloc(ring->size, sizeof(*vq->chains));
	vq->avail_shadow = calloc(ring->size, sizeof(*vq->avail_shadow));
	if (!vq->chains || !vq->avail_shadow) {
		vq_driver_split_fini(vq);
		return -ENOMEM;
	}

	vq_driver_split_reset(vq);
	return 0;
}

void vq_driver_split_fini(struct vq_driver_split *vq)
{
	free(vq->chains);
	free(vq->avail_shadow);
	memset(vq, 0, sizeof(*vq));
}

void vq_driver_split_reset(struct vq_driver_split *vq)
{
	unsigned int size = vq->ring.size;

	memset(vq->ring.desc, 0, vring_desc_bytes(size));
	memset(vq->ring.avail, 0, vring_avail_bytes(size));
	memset(vq->ring.used, 0, vring_used_bytes(size));
	memset(vq->avail_shadow, 0, size * sizeof(*vq->avail_shadow));
	memset(vq->chains, 0, size * sizeof(*vq->chains));
	for (unsigned int i = 0; i < size; i++)
		vq->chains[i].next = (uint16_t)((i + 1) & vq->ring.mask);

	vq->fault = VQ_DRIVER_FAULT_NONE;
	vq->avail_next = 0;
	vq->avail_shown = 0;
	vq->avail_kicked = 0;
	vq->used_next = 0;
	vq->used_seen = 0;
	vq->free_head = 0;
	vq->free_count = (uint16_t)size;
	vq->callbacks = true;
	vq_driver_split_disable_callbacks(vq);
}

static void post(struct vq_driver_split *vq, uint16_t head)
{
	uint16_t slot = vq->avail_next & vq->ring.mask;

	vq->chains[head].state = VQ_DRIVER_CHAIN_POSTED;
	if (vq->avail_shadow[slot] != head) {
		vq->avail_shadow[slot] = head;
		store_relaxed(&vq->ring.avail->ring[slot], head);
	}
	vq->avail_next++;
}

int vq_driver_split_resume(struct vq_driver_split *vq)
{
	unsigned int size = vq->ring.size, window = vq_driver_split_in_flight(vq);
	unsigned int count = 0, at;
	uint16_t *heads;

	if (vq->fault)
		return -EPROTO;
	heads = malloc(size * sizeof(*heads));
	if (!heads)
		return -ENOMEM;
	for (unsigned int i = 0; i < size; i++) {
		vq->chains[i].mark = vq->chains[i].state == VQ_DRIVER_CHAIN_POSTED;
		count += vq->chains[i].mark;
	}

	/*
	 * What was posted last is still in the shadow, in order; a head may be there twice, if the
	 * device overtook an older chain, and then the later place counts. What was overtaken goes
	 * first, in no order.
	 */
	at = count;
	for (unsigned int i = window; i-- > 0;) {
		uint16_t head = vq->avail_shadow[(vq->used_next + i) & vq->ring.mask];

		if (vq->chains[head].mark) {
			vq->chains[head].mark = false;
			heads[--at] = head;
		}
	}
	for (unsigned int i = 0; i < size && at > 0; i++)
		if (vq->chains[i].mark)
			heads[--at] = (uint16_t)i;

	vq->avail_next = vq->used_next;
	for (unsigned int i = 0; i < count; i++)
		post(vq, heads[i]);
	free(heads);
	vq_driver_split_publish(vq);
	vq->avail_kicked = vq->used_next;
	return vq->used_next;
}

static struct vring_desc descriptor(const struct vq_buffer *buffer, bool writable, bool more, uint16_t next)
{
	return (struct vring_desc){
		.addr = buffer->addr,
		.len = buffer->len,
		.flags = (uint16_t)((writable ? VRING_DESC_F_WRITE : 0) | (more ? VRING_DESC_F_NEXT : 0)),
		.next = more ? next : 0,
	};
}

/* Takes `count` descriptors off the free list, linked by next; there are as many. */
static uint16_t take_free(struct vq_driver_split *vq, unsigned int count)
{
	uint16_t head = vq->free_head, last = head;

	for (unsigned int i = 1; i < count; i++)
		last = vq->chains[last].next;
	vq->free_head = vq->chains[last].next;
	vq->free_count -= (uint16_t)count;
	return head;
}

static void put_free(struct vq_driver_split *vq, uint16_t head)
{
	struct vq_driver_chain *chain = &vq->chains[head];
	uint16_t last = head;

	for (unsigned int i = 1; i < chain->count; i++)
		last = vq->chains[last].next;
	vq->chains[last].next = vq->free_head;
	vq->free_head = head;
	vq->free_count += chain->count;
	chain->state = VQ_DRIVER_CHAIN_FREE;
	chain->prepared = false;
}

static uint16_t write_direct(struct vq_driver_split *vq, const struct vq_buffer *buffers, unsigned int out,
			     unsigned int count)
{
	uint16_t head = take_free(vq, count), at = head;

	for (unsigned int i = 0; i < count; i++) {
		uint16_t next = vq->chains[at].next;

		vq->ring.desc[at] = descriptor(&buffers[i], i >= out, i + 1 < count, next);
		at = next;
	}
	return head;
}

static uint16_t write_indirect(struct vq_driver_split *vq, const struct vq_buffer *buffers, unsigned int out,
			       unsigned int count)
{
	uint16_t head = take_free(vq, 1);
	size_t first = (size_t)head * vq->indirect.entries;
	struct vring_desc *table = vq->indirect.tables + first;

	for (unsigned int i = 0; i < count; i++)
		table[i] = descriptor(&buffers[i], i >= out, i + 1 < count, (uint16_t)(i + 1));
	vq->ring.desc[head] = (struct vring_desc){
		.addr = vq->indirect.addr + first * sizeof(*table),
		.len = (uint32_t)(count * sizeof(*table)),
		.flags = VRING_DESC_F_INDIRECT,
	};
	return head;
}

static int write_chain(struct vq_driver_split *vq, const struct vq_buffer *buffers, unsigned int out, unsigned int in,
		       uint32_t tag, bool prepared)
{
	unsigned int count = out + in;
	bool indirect;
	int error = vq_chain_check(count, vq->indirect.entries, vq->ring.size, vq->free_count, &indirect);
	struct vq_driver_chain *chain;
	uint16_t head;

	if (error)
		return error;

	head = indirect ? write_indirect(vq, buffers, out, count) : write_direct(vq, buffers, out, count);
	chain = &vq->chains[head];
	chain->tag = tag;
	chain->writable = vq_chain_writable(buffers, out, count);
	chain->count = (uint16_t)(indirect ? 1 : count);
	chain->prepared = prepared;
	chain->indirect = indirect;
	chain->state = VQ_DRIVER_CHAIN_IDLE;
	return head;
}

int vq_driver_split_add(struct vq_driver_split *vq, const struct vq_buffer *buffers, unsigned int out, unsigned int in,
			uint32_t tag)
{
	int head = write_chain(vq, buffers, out, in, tag, false);

	if (head >= 0)
		post(vq, (uint16_t)head);
	return head;
}

int vq_driver_split_prepare(struct vq_driver_split *vq, const struct vq_buffer *buffers, unsigned int out,
			    unsigned int in, uint32_t tag)
{
	return write_chain(vq, buffers, out, in, tag, true);
}

static bool is_idle(const struct vq_driver_split *vq, uint16_t head)
{
	return head < vq->ring.size && vq->chains[head].state == VQ_DRIVER_CHAIN_IDLE;
}

int vq_driver_split_resize(struct vq_driver_split *vq, uint16_t head, uint32_t len)
{
	struct vq_driver_chain *chain = &vq->chains[head];

	if (!is_idle(vq, head) || chain->count != 1 || chain->indirect)
		return -EINVAL;
	if (chain->writable)
		chain->writable = len;
	vq->ring.desc[head].len = len;
	return 0;
}

int vq_driver_split_release(struct vq_driver_split *vq, uint16_t head)
{
	if (!is_idle(vq, head))
		return -EINVAL;
	put_free(vq, head);
	return 0;
}

int vq_driver_split_post(struct vq_driver_split *vq, const struct vq_used *slots, unsigned int n)
{
	/* What is written below might alias *vq, as far as the compiler knows. */
	struct vq_driver_chain *chains = vq->chains;
	uint16_t *shadow = vq->avail_shadow, *ring = vq->ring.avail->ring;
	const unsigned int size = vq->ring.size, mask = vq->ring.mask, next = vq->avail_next;
	unsigned int i;

	for (i = 0; i < n; i++) {
		const uint16_t head = slots[i].head;
		const unsigned int slot = (next + i) & mask;

		if (unlikely(head >= size || chains[head].state != VQ_DRIVER_CHAIN_IDLE))
			break;
		chains[head].state = VQ_DRIVER_CHAIN_POSTED;
		if (unlikely(shadow[slot] != head)) {
			shadow[slot] = head;
			store_relaxed(&ring[slot], head);
		}
	}
	vq->avail_next = (uint16_t)(next + i);
	return i == n ? 0 : -EINVAL;
}

void vq_driver_split_publish(struct vq_driver_split *vq)
{
	if (vq->avail_shown == vq->avail_next)
		return;
	vq->avail_shown = vq->avail_next;
	store_release(&vq->ring.avail->idx, vq->avail_next);
}

bool vq_driver_split_kick_due(struct vq_driver_split *vq)
{
	uint16_t old = vq->avail_kicked;

	if (vq->avail_shown == old)
		return false;
	vq->avail_kicked = vq->avail_shown;

	/* The index before the wish: the device writes its wish, then looks at the index again. */
	full_barrier();
	if (vq->event_idx) {
		uint16_t event = load_relaxed(vring_split_avail_event(&vq->ring));

		return vring_passes_event(event, vq->avail_shown, old);
	}
	return !(load_relaxed(&vq->ring.used->flags) & VRING_USED_F_NO_NOTIFY);
}

/* Reads the used index again. False: it is a lie, and the queue is faulty. */
static bool look_for_used(struct vq_driver_split *vq)
{
	uint16_t seen = load_acquire(&vq->ring.used->idx);

	if (unlikely((uint16_t)(seen - vq->used_next) > (uint16_t)(vq->avail_shown - vq->used_next))) {
		vq->fault = VQ_DRIVER_FAULT_INDEX;
		return false;
	}
	vq->used_seen = seen;
	return true;
}

/* A used entry, read once. */
static inline struct vring_used_elem used_fetch(const struct vring_used_elem *shared)
{
	struct vring_used_elem copy = {.id = load_relaxed(&shared->id), .len = load_relaxed(&shared->len)};

	return copy;
}

/* Takes `count` entries that are there; fewer, and a fault, if one is a lie. */
static unsigned int collect_ready(struct vq_driver_split *vq, struct vq_used *used, unsigned int count)
{
	/* What is written below might alias *vq, as far as the compiler knows. */
	const struct vring_used_elem *ring = vq->ring.used->ring;
	struct vq_driver_chain *chains = vq->chains;
	const unsigned int size = vq->ring.size, mask = vq->ring.mask, next = vq->used_next;
	unsigned int n;

	for (n = 0; n < count; n++) {
		struct vring_used_elem elem = used_fetch(&ring[(next + n) & mask]);
		struct vq_driver_chain *chain;

		if (unlikely(elem.id >= size)) {
			vq->fault = VQ_DRIVER_FAULT_ID;
			break;
		}
		chain = &chains[elem.id];
		if (unlikely(chain->state != VQ_DRIVER_CHAIN_POSTED)) {
			vq->fault = VQ_DRIVER_FAULT_STATE;
			break;
		}
		if (unlikely(elem.len > chain->writable)) {
			/* Some devices count what they read; only what they wrote can mislead us.
			 */
			vq->clamped += chain->writable != 0;
			elem.len = chain->writable;
		}

		used[n] = (struct vq_used){.tag = chain->tag, .len = elem.len, .head = (uint16_t)elem.id};
		if (likely(chain->prepared))
			chain->state = VQ_DRIVER_CHAIN_IDLE;
		else
			put_free(vq, (uint16_t)elem.id);
	}
	vq->used_next = (uint16_t)(next + n);
	return n;
}

int vq_driver_split_collect(struct vq_driver_split *vq, struct vq_used *used, unsigned int max)
{
	unsigned int ready, n;

	if (unlikely(vq->fault))
		return -EPROTO;
	ready = (uint16_t)(vq->used_seen - vq->used_next);
	if (ready < max) {
		if (unlikely(!look_for_used(vq)))
			return -EPROTO;
		ready = (uint16_t)(vq->used_seen - vq->used_next);
	}
	if (ready == 0)
		return 0;

	n = collect_ready(vq, used, min(ready, max));
	if (vq->event_idx && !vq->callbacks && (uint16_t)(vq->used_event - vq->used_next) < EVENT_NEAR)
		vq_driver_split_disable_callbacks(vq);
	return n > 0 || !vq->fault ? (int)n : -EPROTO;
}

void vq_driver_split_disable_callbacks(struct vq_driver_split *vq)
{
	if (vq->event_idx) {
		vq->used_event = vq->used_next + EVENT_FAR;
		store_relaxed(vring_split_used_event(&vq->ring), vq->used_event);
	} else if (vq->callbacks) {
		store_relaxed(&vq->ring.avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
	}
	vq->callbacks = false;
}

bool vq_driver_split_enable_callbacks(struct vq_driver_split *vq, uint16_t after)
{
	if (after == 0 || !vq->event_idx)
		after = 1;
	if (vq->event_idx) {
		vq->used_event = vq->used_next + after - 1;
		store_relaxed(vring_split_used_event(&vq->ring), vq->used_event);
	} else if (!vq->callbacks) {
		store_relaxed(&vq->ring.avail->flags, 0);
	}
	vq->callbacks = true;

	/* The wish before the index: the device writes its index, then reads the wish. */
	full_barrier();
	return (uint16_t)(load_relaxed(&vq->ring.used->idx) - vq->used_next) < after;
}
