/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the drivers of both kinds of rings think about a chain that they are asked for. Owns nothing.
 */
#ifndef LASTHOP_VIRTIO_VQ_DRIVER_INTERNAL_H
#define LASTHOP_VIRTIO_VQ_DRIVER_INTERNAL_H

#include <errno.h>

#include "virtio/vq_driver.h"

/*
 * Whether there can be a chain of `count` buffers in a ring of `size` descriptors, of which `unused` are, with
 * indirect tables of `entries`; *indirect: it goes into one of these. 0, -EINVAL: never, -ENOSPC: not now.
 */
static inline int vq_chain_check(unsigned int count, unsigned int entries, unsigned int size, unsigned int unused,
				 bool *indirect)
{
	*indirect = count > 1 && count <= entries;
	if (count == 0 || (!*indirect && count > size))
		return -EINVAL;
	return unused < (*indirect ? 1 : count) ? -ENOSPC : 0;
}

/* Bytes of the chain that the device may write: those of buffers from `out` on. */
static inline uint32_t vq_chain_writable(const struct vq_buffer *buffers, unsigned int out, unsigned int count)
{
	uint64_t writable = 0;

	for (unsigned int i = out; i < count; i++)
		writable += buffers[i].len;
	return (uint32_t)min(writable, (uint64_t)UINT32_MAX);
}

#endif
