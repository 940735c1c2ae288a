/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * AF_XDP sockets, one a queue of the device, over one pool of chunks (the kernel's word for our buffers): the four
 * rings of each, and which chunks the kernel has.
 *
 *	fill         chunks for frames to come        --> kernel
 *	receive      frames in them                   <-- kernel
 *	transmit     frames to be sent                --> kernel
 *	completion   their chunks, when they were     <-- kernel
 *
 * Chunks are a power of two, aligned to themselves, and do not cross a page, so that NICs that copy nothing take them.
 * What the kernel says in its rings is checked: a chunk must be the pool's, be with the kernel, in this queue and
 * this direction, and hold the whole frame. What is none counts as `lies` and is left alone.
 *
 * Set up and taken down by one thread; then each queue by one thread. Sizes are bytes, addresses offsets in the pool.
 */
#ifndef LASTHOP_DRIVER_XSK_POOL_H
#define LASTHOP_DRIVER_XSK_POOL_H

#include <xdp/xsk.h>

#include "lib/compiler.h"

#define XSK_QUEUES_MAX 64
#define XSK_HEADROOM   256u /* before each frame from the device: the kernel's XDP_PACKET_HEADROOM */

struct xsk_frame {
	uint64_t addr; /* of its first byte */
	uint32_t size;
};

/* Frames that the kernel lost, of one queue, since the socket was made. */
struct xsk_losses {
	uint64_t too_long;  /* larger than a chunk; or else not taken */
	uint64_t no_buffer; /* the fill ring was empty, or the receive ring full */
	uint64_t bad;       /* descriptors of ours that it did not like */
};

struct xsk_queue {
	struct xsk_pool *pool;
	struct xsk_socket *socket;
	struct xsk_ring_prod fill, tx;
	struct xsk_ring_cons rx, completion;
	int fd;
	uint8_t here;       /* in pool->where, + 1: chunks in fill; + 2: in transmit */
	uint32_t receiving; /* chunks that the kernel has for frames to come */
	uint32_t sending;   /* and with frames to be sent */
	uint64_t lies;
} cache_aligned;

struct xsk_pool {
	struct xsk_umem *umem;
	uint8_t *memory;
	uint64_t size;
	uint32_t chunk_size;
	unsigned int chunk_shift;
	uint8_t *where; /* for each chunk: 0, or which queue and direction of the kernel's has it */
	struct xsk_queue *queues;
	unsigned int queue_count;
	bool zero_copy;
};

struct xsk_pool_config {
	const char *device;
	uint8_t *memory; /* page-aligned */
	uint64_t size;   /* what is behind the last whole chunk is not used */
	uint32_t chunk_size;
	uint32_t ring_size; /* of each ring: as many as a queue has chunks for a direction */
	unsigned int queues;
	bool copy; /* do not ask for zero copy */
};

/*
 * Registers the memory and binds a socket to each queue. 0 or a negative errno after a line in the log that says
 * what to do; nothing is left then.
 */
int xsk_pool_open(struct xsk_pool *pool, const struct xsk_pool_config *config) must_check;
void xsk_pool_close(struct xsk_pool *pool); /* also of one that is all zero */

/* The kernel may fill these chunks. Returns how many it took. */
unsigned int xsk_queue_give(struct xsk_queue *queue, const uint64_t *chunks, unsigned int n);

/* Frames that came, whose chunks are the caller's again. */
unsigned int xsk_queue_receive(struct xsk_queue *queue, struct xsk_frame *frames, unsigned int n);

/* Puts frames into the transmit ring; each must lie in one chunk. Returns how many went in. xsk_queue_kick() sends. */
unsigned int xsk_queue_send(struct xsk_queue *queue, const struct xsk_frame *frames, unsigned int n);

/* Chunks whose frames were sent, or lost by the device, and which are the caller's again. */
unsigned int xsk_queue_completed(struct xsk_queue *queue, uint64_t *chunks, unsigned int n);

/*
 * Makes the kernel look at the transmit ring, if it wants to be told. 0; -EAGAIN: it could not take all, try again
 * later; -ENETDOWN; -ENODEV: the device is gone.
 */
int xsk_queue_kick(struct xsk_queue *queue);

/* Makes the kernel look at the fill ring, if it wants to be told. */
void xsk_queue_kick_fill(struct xsk_queue *queue);

/* Frames in the transmit ring that the kernel has not looked at. */
uint32_t xsk_queue_unsent(const struct xsk_queue *queue);

/* Frames in the receive ring, and chunks in the fill ring, for those who count. */
uint32_t xsk_queue_unread(const struct xsk_queue *queue);
uint32_t xsk_queue_unfilled(const struct xsk_queue *queue);

int xsk_queue_losses(const struct xsk_queue *queue, struct xsk_losses *losses);

#endif
