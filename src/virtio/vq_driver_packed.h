/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver side of a packed virtqueue (virtio 1.2, section 2.8): what vq_driver.h is for a split one, with the
 * same functions, the same trust in the device (none), and the same two ways to use chains. A head is a buffer id.
 *
 * The device overwrites what it has used, so a prepared chain is written again each time that it is posted, from a
 * private copy; an indirect table is not.
 *
 * Thread safety, sizes and results as in vq_driver.h.
 */
#ifndef LASTHOP_VIRTIO_VQ_DRIVER_PACKED_H
#define LASTHOP_VIRTIO_VQ_DRIVER_PACKED_H

#include "virtio/vq_driver.h"

/* A descriptor as it is written when its chain is posted, and what is private about the chain that it heads. */
struct vq_driver_packed_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags; /* without AVAIL and USED */
	uint16_t next;  /* descriptor: the next one of its chain, or of the free list */
	uint32_t tag;
	uint32_t writable; /* bytes of the chain that the device may write */
	uint32_t position; /* in vq's count: where the chain was posted */
	uint16_t count;    /* descriptors of the ring in this chain, 1 if indirect */
	uint8_t state;     /* enum vq_driver_chain_state */
	bool prepared;     /* collecting does not free it */
};

struct vq_driver_packed {
	struct vring_packed ring;
	struct vq_driver_indirect indirect;
	bool event_idx; /* VIRTIO_F_EVENT_IDX is negotiated */
	uint8_t fault;  /* enum vq_driver_fault; not NONE: nothing is collected any more */
	uint16_t mask;  /* size - 1 */
	/* Descriptors since the last reset, modulo 2^32; their low bits are the index in the ring. */
	uint32_t avail_next;   /* after the last one posted */
	uint32_t avail_shown;  /* what the device can see of that */
	uint32_t avail_kicked; /* avail_shown when a kick was decided on last */
	uint32_t used_next;    /* the first one not collected */
	uint64_t first_word;   /* what makes the descriptor at avail_shown, and all behind it, available */
	uint32_t event_said;   /* what ring.driver holds */
	uint16_t in_flight;    /* chains posted and not collected */
	uint16_t free_head;
	uint16_t free_count;
	uint64_t clamped; /* lengths that exceeded what was writable */
	struct vq_driver_packed_desc *descs;
};

/*
 * As vq_driver_split_init. (Packed rings of any size exist, but no driver of ours needs one: -EINVAL for what is no
 * power of two.)
 */
int vq_driver_packed_init(struct vq_driver_packed *vq, const struct vring_packed *ring,
			  const struct vq_driver_indirect *indirect, bool event_idx);
void vq_driver_packed_fini(struct vq_driver_packed *vq);
void vq_driver_packed_reset(struct vq_driver_packed *vq);

/* Returns the position that the device is to start at. */
int vq_driver_packed_resume(struct vq_driver_packed *vq);

int vq_driver_packed_add(struct vq_driver_packed *vq, const struct vq_buffer *buffers, unsigned int out,
			 unsigned int in, uint32_t tag);
int vq_driver_packed_prepare(struct vq_driver_packed *vq, const struct vq_buffer *buffers, unsigned int out,
			     unsigned int in, uint32_t tag);
int vq_driver_packed_resize(struct vq_driver_packed *vq, uint16_t head, uint32_t len);
int vq_driver_packed_release(struct vq_driver_packed *vq, uint16_t head);
int vq_driver_packed_post(struct vq_driver_packed *vq, const struct vq_used *slots, unsigned int n);
void vq_driver_packed_publish(struct vq_driver_packed *vq);
bool vq_driver_packed_kick_due(struct vq_driver_packed *vq);
int vq_driver_packed_collect(struct vq_driver_packed *vq, struct vq_used *used, unsigned int max);
void vq_driver_packed_disable_callbacks(struct vq_driver_packed *vq);

/*
 * As vq_driver_split_enable_callbacks; with chains of several descriptors in flight `after` is only about right, and
 * false means that one chain is there.
 */
bool vq_driver_packed_enable_callbacks(struct vq_driver_packed *vq, uint16_t after);

/* A position of the queue's count as the device writes it. */
static inline uint16_t vq_driver_packed_position(const struct vq_driver_packed *vq, uint32_t count)
{
	return (uint16_t)((count & vq->mask) | (count & vq->ring.size ? 0 : VRING_PACKED_WRAP));
}

static inline bool vq_driver_packed_used_at(const struct vq_driver_packed *vq, uint32_t count)
{
	return vring_packed_is_used(vring_packed_flags(&vq->ring, count & vq->mask),
				    vq_driver_packed_position(vq, count));
}

static inline bool vq_driver_packed_pending(const struct vq_driver_packed *vq)
{
	return vq->used_next != vq->avail_shown && vq_driver_packed_used_at(vq, vq->used_next);
}

#endif
