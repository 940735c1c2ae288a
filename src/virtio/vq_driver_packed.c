/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driver side of a packed virtqueue.
 *
 * A chain is kept in private descriptors, linked by next; the first one's number is its buffer id. Posting copies it
 * into the ring. All descriptors of the chains that exist are never more than the ring has, so there is always room.
 *
 * What is posted becomes visible with the first descriptor of a publication: its word (length, id and flags) stays in
 * first_word until then, and all that follow are written at once, because no device looks behind a descriptor that is
 * not available.
 *
 * In flight are the descriptors from used_next to avail_next; those from avail_shown on the device cannot know yet. A
 * used descriptor must name a chain that it was shown. How many descriptors that frees is what we know of the chain,
 * so the sum of all chains in flight is what lies between the two counts, in whatever order they come back.
 */
#include "virtio/vq_driver_packed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/vq_driver_internal.h"

int vq_driver_packed_init(struct vq_driver_packed *vq, const struct vring_packed *ring,
			  const struct vq_driver_indirect *indirect, bool event_idx)
{
	memset(vq, 0, sizeof(*vq));
	if (!is_power_of_two(ring->size) || ring->size > VRING_SIZE_MAX)
		return -EINVAL;

	vq->ring = *ring;
	vq->mask = ring->size - 1;
	vq->event_idx = event_idx;
	if (indirect)
		vq->indirect = *indirect;
	vq->descs = calloc(ring->size, sizeof(*vq->descs));
	if (!vq->descs) {
		vq_driver_packed_fini(vq);
		return -ENOMEM;
	}

	vq_driver_packed_reset(vq);
	return 0;
}

void vq_driver_packed_fini(struct vq_driver_packed *vq)
{
	free(vq->descs);
	memset(vq, 0, sizeof(*vq));
}

static void say_event(struct vq_driver_packed *vq, uint32_t event)
{
	if (vq->event_said == event)
		return;
	vq->event_said = event;
	vring_packed_event_store(vq->ring.driver, event);
}

void vq_driver_packed_reset(struct vq_driver_packed *vq)
{
	unsigned int size = vq->ring.size;

	memset(vq->ring.desc, 0, vring_packed_desc_bytes(size));
	memset(vq->ring.driver, 0, sizeof(*vq->ring.driver));
	memset(vq->ring.device, 0, sizeof(*vq->ring.device));
	memset(vq->descs, 0, size * sizeof(*vq->descs));
	for (unsigned int i = 0; i < size; i++)
		vq->descs[i].next = (uint16_t)((i + 1) & vq->mask);

	vq->fault = VQ_DRIVER_FAULT_NONE;
	vq->avail_next = 0;
	vq->avail_shown = 0;
	vq->avail_kicked = 0;
	vq->used_next = 0;
	vq->event_said = 0;
	vq->in_flight = 0;
	vq->free_head = 0;
	vq->free_count = (uint16_t)size;
	vq_driver_packed_disable_callbacks(vq);
}

/* The descriptor at `count`, but for its word, which is returned. */
static inline uint64_t write_desc(struct vq_driver_packed *vq, uint32_t count, const struct vq_driver_packed_desc *desc,
				  uint16_t id)
{
	uint16_t flags = desc->flags | (uint16_t)(count & vq->ring.size ? VRING_PACKED_USED : VRING_PACKED_AVAIL);

	/* In the line that is written anyway: to know whether it is there already would cost more. */
	store_relaxed(&vq->ring.desc[count & vq->mask].addr, desc->addr);
	return vring_packed_word_of(desc->len, id, flags);
}

static inline void post(struct vq_driver_packed *vq, uint16_t id)
{
	struct vq_driver_packed_desc *head = &vq->descs[id];
	const struct vq_driver_packed_desc *desc = head;
	uint32_t count = vq->avail_next;

	head->state = VQ_DRIVER_CHAIN_POSTED;
	head->position = count;
	for (unsigned int i = head->count;; desc = &vq->descs[desc->next]) {
		uint64_t word = write_desc(vq, count, desc, id);

		if (count == vq->avail_shown)
			vq->first_word = word;
		else
			store_relaxed(vring_packed_word_at(&vq->ring, count & vq->mask), word);
		count++;
		if (--i == 0)
			break;
	}
	vq->avail_next = count;
	vq->in_flight++;
}

void vq_driver_packed_publish(struct vq_driver_packed *vq)
{
	if (vq->avail_shown == vq->avail_next)
		return;
	store_release(vring_packed_word_at(&vq->ring, vq->avail_shown & vq->mask), vq->first_word);
	vq->avail_shown = vq->avail_next;
}

/* Where a chain was posted, seen from used_next: what the device overtook is behind it. */
static int by_age(const void *a, const void *b, void *arg)
{
	const struct vq_driver_packed *vq = arg;
	uint32_t first = vq->descs[*(const uint16_t *)a].position, second = vq->descs[*(const uint16_t *)b].position;

	return first == second ? 0 : (int32_t)(first - second) < 0 ? -1 : 1;
}

int vq_driver_packed_resume(struct vq_driver_packed *vq)
{
	unsigned int size = vq->ring.size, count = 0;
	uint16_t *ids;

	if (vq->fault)
		return -EPROTO;
	ids = malloc(size * sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	for (unsigned int i = 0; i < size; i++) {
		if (vq->descs[i].state == VQ_DRIVER_CHAIN_POSTED)
			ids[count++] = (uint16_t)i;
	}
	qsort_r(ids, count, sizeof(*ids), by_age, vq);

	vq->avail_next = vq->avail_shown = vq->used_next;
	vq->in_flight = 0;
	for (unsigned int i = 0; i < count; i++)
		post(vq, ids[i]);
	free(ids);
	/* Behind them, nothing may look as if it were available, or used in this lap. */
	for (uint32_t i = vq->avail_next; i != vq->used_next + size; i++) {
		uint16_t flags = vring_packed_used_flags(vq_driver_packed_position(vq, i - size));

		store_relaxed(vring_packed_word_at(&vq->ring, i & vq->mask), vring_packed_word_of(0, 0, flags));
	}
	vq_driver_packed_publish(vq);
	vq->avail_kicked = vq->used_next;
	return vq_driver_packed_position(vq, vq->used_next);
}

static void put_free(struct vq_driver_packed *vq, uint16_t head)
{
	struct vq_driver_packed_desc *chain = &vq->descs[head];
	uint16_t last = head;

	for (unsigned int i = 1; i < chain->count; i++)
		last = vq->descs[last].next;
	vq->descs[last].next = vq->free_head;
	vq->free_head = head;
	vq->free_count += chain->count;
	chain->state = VQ_DRIVER_CHAIN_FREE;
	chain->prepared = false;
}

static uint16_t direction(unsigned int i, unsigned int out)
{
	return i >= out ? VRING_DESC_F_WRITE : 0;
}

/* Takes `count` private descriptors off the free list, linked by next; there are as many. */
static uint16_t fill_direct(struct vq_driver_packed *vq, const struct vq_buffer *buffers, unsigned int out,
			    unsigned int count)
{
	uint16_t head = vq->free_head, at = head;

	for (unsigned int i = 0; i < count; i++) {
		struct vq_driver_packed_desc *desc = &vq->descs[at];

		desc->addr = buffers[i].addr;
		desc->len = buffers[i].len;
		desc->flags = direction(i, out) | (i + 1 < count ? VRING_DESC_F_NEXT : 0);
		at = desc->next;
	}
	vq->free_head = at;
	vq->free_count -= (uint16_t)count;
	return head;
}

static uint16_t fill_indirect(struct vq_driver_packed *vq, const struct vq_buffer *buffers, unsigned int out,
			      unsigned int count)
{
	uint16_t head = vq->free_head;
	struct vq_driver_packed_desc *desc = &vq->descs[head];
	size_t first = (size_t)head * vq->indirect.entries;
	struct vring_packed_desc *table = (struct vring_packed_desc *)(void *)(vq->indirect.tables + first);

	for (unsigned int i = 0; i < count; i++)
		table[i] = (struct vring_packed_desc){
			.addr = buffers[i].addr,
			.len = buffers[i].len,
			.flags = direction(i, out),
		};
	desc->addr = vq->indirect.addr + first * sizeof(*table);
	desc->len = (uint32_t)(count * sizeof(*table));
	desc->flags = VRING_DESC_F_INDIRECT;
	vq->free_head = desc->next;
	vq->free_count--;
	return head;
}

static int make_chain(struct vq_driver_packed *vq, const struct vq_buffer *buffers, unsigned int out, unsigned int in,
		      uint32_t tag, bool prepared)
{
	unsigned int count = out + in;
	bool indirect;
	int error = vq_chain_check(count, vq->indirect.entries, vq->ring.size, vq->free_count, &indirect);
	struct vq_driver_packed_desc *chain;
	uint16_t head;

	if (error)
		return error;

	head = indirect ? fill_indirect(vq, buffers, out, count) : fill_direct(vq, buffers, out, count);
	chain = &vq->descs[head];
	chain->tag = tag;
	chain->writable = vq_chain_writable(buffers, out, count);
	chain->count = (uint16_t)(indirect ? 1 : count);
	chain->prepared = prepared;
	chain->state = VQ_DRIVER_CHAIN_IDLE;
	return head;
}

int vq_driver_packed_add(struct vq_driver_packed *vq, const struct vq_buffer *buffers, unsigned int out,
			 unsigned int in, uint32_t tag)
{
	int head = make_chain(vq, buffers, out, in, tag, false);

	if (head >= 0)
		post(vq, (uint16_t)head);
	return head;
}

int vq_driver_packed_prepare(struct vq_driver_packed *vq, const struct vq_buffer *buffers, unsigned int out,
			     unsigned int in, uint32_t tag)
{
	return make_chain(vq, buffers, out, in, tag, true);
}

static bool is_idle(const struct vq_driver_packed *vq, uint16_t head)
{
	return head < vq->ring.size && vq->descs[head].state == VQ_DRIVER_CHAIN_IDLE;
}

int vq_driver_packed_resize(struct vq_driver_packed *vq, uint16_t head, uint32_t len)
{
	struct vq_driver_packed_desc *chain = &vq->descs[head];

	if (!is_idle(vq, head) || chain->count != 1 || chain->flags & VRING_DESC_F_INDIRECT)
		return -EINVAL;
	if (chain->writable)
		chain->writable = len;
	chain->len = len;
	return 0;
}

int vq_driver_packed_release(struct vq_driver_packed *vq, uint16_t head)
{
	if (!is_idle(vq, head))
		return -EINVAL;
	put_free(vq, head);
	return 0;
}

int vq_driver_packed_post(struct vq_driver_packed *vq, const struct vq_used *slots, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (unlikely(!is_idle(vq, slots[i].head)))
			return -EINVAL;
		post(vq, slots[i].head);
	}
	return 0;
}

bool vq_driver_packed_kick_due(struct vq_driver_packed *vq)
{
	uint32_t count = vq->avail_shown - vq->avail_kicked;

	if (count == 0)
		return false;
	vq->avail_kicked = vq->avail_shown;

	/* The descriptors before the wish: the device writes its wish, then looks at them again. */
	full_barrier();
	return vring_packed_event_due(vq->ring.device, vq->event_idx, vq_driver_packed_position(vq, vq->avail_shown),
				      count, vq->ring.size);
}

int vq_driver_packed_collect(struct vq_driver_packed *vq, struct vq_used *used, unsigned int max)
{
	/* What is written below might alias *vq, as far as the compiler knows. */
	struct vq_driver_packed_desc *descs = vq->descs;
	const struct vring_packed ring = vq->ring;
	const unsigned int mask = vq->mask;
	const uint32_t shown = vq->avail_shown;
	uint32_t next = vq->used_next;
	unsigned int n;

	if (unlikely(vq->fault))
		return -EPROTO;
	for (n = 0; n < max; n++) {
		uint64_t word = load_acquire(vring_packed_word_at(&ring, next & mask));
		struct vq_driver_packed_desc *chain;
		uint32_t len = (uint32_t)word;
		uint16_t id = (uint16_t)(word >> 32);

		if (!vring_packed_is_used((uint16_t)(word >> 48), vq_driver_packed_position(vq, next)))
			break;
		if (unlikely(next == shown)) {
			vq->fault = VQ_DRIVER_FAULT_INDEX;
			break;
		}
		if (unlikely(id >= ring.size)) {
			vq->fault = VQ_DRIVER_FAULT_ID;
			break;
		}
		chain = &descs[id];
		if (unlikely(chain->state != VQ_DRIVER_CHAIN_POSTED || (int32_t)(shown - chain->position) <= 0)) {
			vq->fault = VQ_DRIVER_FAULT_STATE;
			break;
		}
		/* Whether VRING_DESC_F_WRITE is set tells nothing: QEMU writes a length without it. */
		if (unlikely(len > chain->writable)) {
			vq->clamped += chain->writable != 0;
			len = chain->writable;
		}

		used[n] = (struct vq_used){.tag = chain->tag, .len = len, .head = id};
		next += chain->count;
		if (likely(chain->prepared))
			chain->state = VQ_DRIVER_CHAIN_IDLE;
		else
			put_free(vq, id);
	}
	vq->used_next = next;
	vq->in_flight -= (uint16_t)n;
	return n > 0 || !vq->fault ? (int)n : -EPROTO;
}

void vq_driver_packed_disable_callbacks(struct vq_driver_packed *vq)
{
	say_event(vq, vring_packed_event_of(0, VRING_PACKED_EVENT_FLAG_DISABLE));
}

bool vq_driver_packed_enable_callbacks(struct vq_driver_packed *vq, uint16_t after)
{
	unsigned int in_flight = vq->avail_next - vq->used_next;
	bool plain = in_flight == vq->in_flight;
	uint32_t event = vq->used_next;

	if (vq->event_idx) {
		/* Past the last one in flight the call would never come. */
		if (after > 1 && (plain || after <= in_flight))
			event += after - 1u;
		say_event(vq,
			  vring_packed_event_of(vq_driver_packed_position(vq, event), VRING_PACKED_EVENT_FLAG_DESC));
	} else {
		say_event(vq, vring_packed_event_of(0, VRING_PACKED_EVENT_FLAG_ENABLE));
	}

	/* The wish before the descriptors: the device writes them, then reads the wish. */
	full_barrier();
	if (!plain)
		event = vq->used_next;
	return event - vq->used_next >= in_flight || !vq_driver_packed_used_at(vq, event);
}
