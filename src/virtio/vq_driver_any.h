/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver side of a virtqueue of either kind: what was negotiated decides once, at init, and then one branch a
 * call. What the functions do is said in vq_driver.h.
 */
#ifndef LASTHOP_VIRTIO_VQ_DRIVER_ANY_H
#define LASTHOP_VIRTIO_VQ_DRIVER_ANY_H

#include "virtio/vq_driver_packed.h"

struct vq_driver {
	bool is_packed;
	union {
		struct vq_driver_split split;
		struct vq_driver_packed packed;
	};
};

static inline int vq_driver_init(struct vq_driver *vq, const struct vring_any *ring,
				 const struct vq_driver_indirect *indirect, bool event_idx)
{
	vq->is_packed = ring->is_packed;
	return ring->is_packed ? vq_driver_packed_init(&vq->packed, &ring->packed, indirect, event_idx)
			       : vq_driver_split_init(&vq->split, &ring->split, indirect, event_idx);
}

/* Also for one that is all zero. */
static inline void vq_driver_fini(struct vq_driver *vq)
{
	if (vq->is_packed)
		vq_driver_packed_fini(&vq->packed);
	else
		vq_driver_split_fini(&vq->split);
}

static inline void vq_driver_reset(struct vq_driver *vq)
{
	if (vq->is_packed)
		vq_driver_packed_reset(&vq->packed);
	else
		vq_driver_split_reset(&vq->split);
}

static inline int vq_driver_add(struct vq_driver *vq, const struct vq_buffer *buffers, unsigned int out,
				unsigned int in, uint32_t tag)
{
	return vq->is_packed ? vq_driver_packed_add(&vq->packed, buffers, out, in, tag)
			     : vq_driver_split_add(&vq->split, buffers, out, in, tag);
}

static inline int vq_driver_prepare(struct vq_driver *vq, const struct vq_buffer *buffers, unsigned int out,
				    unsigned int in, uint32_t tag)
{
	return vq->is_packed ? vq_driver_packed_prepare(&vq->packed, buffers, out, in, tag)
			     : vq_driver_split_prepare(&vq->split, buffers, out, in, tag);
}

static inline int vq_driver_resize(struct vq_driver *vq, uint16_t head, uint32_t len)
{
	return vq->is_packed ? vq_driver_packed_resize(&vq->packed, head, len)
			     : vq_driver_split_resize(&vq->split, head, len);
}

static inline int vq_driver_release(struct vq_driver *vq, uint16_t head)
{
	return vq->is_packed ? vq_driver_packed_release(&vq->packed, head) : vq_driver_split_release(&vq->split, head);
}

static inline int vq_driver_post(struct vq_driver *vq, const struct vq_used *slots, unsigned int n)
{
	return vq->is_packed ? vq_driver_packed_post(&vq->packed, slots, n)
			     : vq_driver_split_post(&vq->split, slots, n);
}

static inline void vq_driver_publish(struct vq_driver *vq)
{
	if (vq->is_packed)
		vq_driver_packed_publish(&vq->packed);
	else
		vq_driver_split_publish(&vq->split);
}

static inline bool vq_driver_kick_due(struct vq_driver *vq)
{
	return vq->is_packed ? vq_driver_packed_kick_due(&vq->packed) : vq_driver_split_kick_due(&vq->split);
}

static inline int vq_driver_collect(struct vq_driver *vq, struct vq_used *used, unsigned int max)
{
	return vq->is_packed ? vq_driver_packed_collect(&vq->packed, used, max)
			     : vq_driver_split_collect(&vq->split, used, max);
}

static inline void vq_driver_disable_callbacks(struct vq_driver *vq)
{
	if (vq->is_packed)
		vq_driver_packed_disable_callbacks(&vq->packed);
	else
		vq_driver_split_disable_callbacks(&vq->split);
}

static inline bool vq_driver_enable_callbacks(struct vq_driver *vq, uint16_t after)
{
	return vq->is_packed ? vq_driver_packed_enable_callbacks(&vq->packed, after)
			     : vq_driver_split_enable_callbacks(&vq->split, after);
}

static inline unsigned int vq_driver_in_flight(const struct vq_driver *vq)
{
	return vq->is_packed ? vq->packed.in_flight : vq_driver_split_in_flight(&vq->split);
}

static inline bool vq_driver_pending(const struct vq_driver *vq)
{
	return vq->is_packed ? vq_driver_packed_pending(&vq->packed) : vq_driver_split_pending(&vq->split);
}

static inline bool vq_driver_is_prepared(const struct vq_driver *vq, uint16_t head)
{
	return vq->is_packed ? vq->packed.descs[head].prepared : vq->split.chains[head].prepared;
}

static inline enum vq_driver_fault vq_driver_fault(const struct vq_driver *vq)
{
	return vq->is_packed ? vq->packed.fault : vq->split.fault;
}

/*
 * Where a device starts or stopped, as vhost-user says it: for a packed ring the position of the next available
 * descriptor in the lower half, and that of the next used one in the upper.
 */
static inline uint32_t vq_driver_packed_base(uint16_t position)
{
	return position | (uint32_t)position << 16;
}

static inline uint32_t vq_driver_base_first(const struct vq_driver *vq)
{
	return vq->is_packed ? vq_driver_packed_base(VRING_PACKED_START) : 0;
}

/* vq_driver_split_resume. *base: where the device starts. 0, -EPROTO, -ENOMEM. */
static inline int vq_driver_resume(struct vq_driver *vq, uint32_t *base)
{
	int at = vq->is_packed ? vq_driver_packed_resume(&vq->packed) : vq_driver_split_resume(&vq->split);

	if (at < 0)
		return at;
	*base = vq->is_packed ? vq_driver_packed_base((uint16_t)at) : (uint32_t)at;
	return 0;
}

/* Whether a device that was shown what this queue has published may have stopped there. */
static inline bool vq_driver_base_possible(const struct vq_driver *vq, uint32_t base)
{
	const struct vq_driver_packed *packed = &vq->packed;
	const struct vq_driver_split *split = &vq->split;

	if (!vq->is_packed)
		return base <= UINT16_MAX &&
		       (uint16_t)(base - split->used_next) <= (uint16_t)(split->avail_shown - split->used_next);
	return vring_packed_index((uint16_t)base) < packed->ring.size &&
	       vring_packed_index((uint16_t)(base >> 16)) < packed->ring.size &&
	       vring_packed_distance(vq_driver_packed_position(packed, packed->used_next), (uint16_t)base,
				     packed->ring.size) <= packed->avail_shown - packed->used_next;
}

#endif
