/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A NIC of the kernel's through AF_XDP: its frames are written into the pool, and sent from it, by its own kernel
 * driver where that can (zero copy), or else by the kernel (one copy, of its own). Nothing is copied here: a frame goes
 * from the device to the switch, and back, in the buffer it was put in.
 *
 *	from the device   | headroom ............ | net header | frame        the kernel puts the frame at 256
 *	to the device     | net header | frame                                the switch writes, the kernel reads
 *
 * AF_XDP knows no offloads: each frame is whole and alone, so none of GUEST_* is negotiated, and the switch segments
 * and finishes what it sends here. From a veth, however, come frames with unfinished checksums: partial_checksum.h.
 */
#include "driver/af_xdp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/partial_checksum.h"
#include "lib/clock.h"
#include "lib/log.h"

#define RETRY_US 100 /* until a device that was full is tried again */
#define LOOK_NS  (100 * NS_PER_MS)

static uint32_t buffer_of(const struct driver_pool *pool, uint64_t chunk)
{
	return (uint32_t)((pool->first + chunk) / DRIVER_UNIT);
}

/* What the kernel lost counts as ours. */
static void count_losses(struct driver_queue *queue)
{
	struct af_xdp_queue *state = queue->state;
	struct driver_counters *counters = &queue->counters;
	uint64_t now = clock_now_ns();
	struct xsk_losses lost;

	if (now < state->look_ns || xsk_queue_losses(state->xsk, &lost) != 0)
		return;
	state->look_ns = now + LOOK_NS;
	if (lost.too_long > state->lost.too_long && !state->warned) {
		state->warned = true;
		log_warn("%s: frames came from it that are too large for AF_XDP, and are lost: turn segmentation "
			 "offload "
			 "off where they are sent (ethtool -K DEVICE tso off gso off), and receive offload here "
			 "(ethtool "
			 "-K %s gro off lro off)",
			 queue->dev->config->device, queue->dev->config->device);
	}
	/* The kernel's counts, but for the first, which is a difference, do not go back. */
	DRIVER_COUNT(counters->drops[DRIVER_DROP_TOO_LONG], lost.too_long - min(lost.too_long, state->lost.too_long));
	DRIVER_COUNT(counters->drops[DRIVER_DROP_NO_BUFFER], lost.no_buffer - state->lost.no_buffer);
	DRIVER_COUNT(counters->drops[DRIVER_DROP_DEVICE_ERROR], lost.bad - state->lost.bad);
	DRIVER_COUNT(counters->drops[DRIVER_DROP_DEVICE_ERROR], state->xsk->lies - state->lies);
	lost.too_long = max(lost.too_long, state->lost.too_long);
	state->lost = lost;
	state->lies = state->xsk->lies;
}

static int af_xdp_rx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	const struct driver_pool *pool = &queue->dev->pool;
	const struct af_xdp *device = queue->dev->state;
	struct af_xdp_queue *state = queue->state;
	struct xsk_frame received[DRIVER_BATCH];
	uint64_t chunk_mask = device->chunk_size - 1;

	n = xsk_queue_receive(state->xsk, received, n);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t addr = received[i].addr, chunk = addr & ~chunk_mask;
		struct driver_frame *frame = &frames[i];

		*frame = (struct driver_frame){.data = pool->memory + pool->first + addr - pool->header,
					       .size = received[i].size + pool->header,
					       .room = (uint32_t)(chunk + device->chunk_size - addr) + pool->header,
					       .buffer = buffer_of(pool, chunk)};
		/* Without room for the net header it is no frame; an empty one is dropped, and its buffer is not. */
		if (unlikely(addr - chunk < pool->header)) {
			frame->size = 0;
			continue;
		}
		memset(frame->data, 0, pool->header);
		if (device->repair)
			partial_checksum(frame->data + pool->header, received[i].size,
					 (struct virtio_net_hdr *)(void *)frame->data);
	}
	count_losses(queue);
	return (int)n;
}

static int af_xdp_rx_give(struct driver_queue *queue, const uint32_t *buffers, unsigned int n)
{
	struct af_xdp_queue *state = queue->state;
	uint64_t chunks[DRIVER_BATCH];
	unsigned int given;

	n = min(n, DRIVER_BATCH);
	for (unsigned int i = 0; i < n; i++)
		chunks[i] = (uint64_t)buffers[i] * DRIVER_UNIT - queue->dev->pool.first;
	given = xsk_queue_give(state->xsk, chunks, n);
	xsk_queue_kick_fill(state->xsk);
	return (int)given;
}

/* Tells the kernel to send what is in the ring. */
static int kick(struct af_xdp_queue *state)
{
	int err = xsk_queue_kick(state->xsk);

	state->down = err == -ENETDOWN;
	return err;
}

static int af_xdp_tx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	const struct driver_pool *pool = &queue->dev->pool;
	const struct af_xdp *device = queue->dev->state;
	struct af_xdp_queue *state = queue->state;
	uint32_t largest = load_relaxed(&device->tx_max) + pool->header;
	struct xsk_frame sent[DRIVER_BATCH];
	unsigned int taken = 0, room, count = 0;

	if (unlikely(state->down) && kick(state) == -ENETDOWN)
		return -ENETDOWN;
	n = min(n, DRIVER_BATCH);
	room = xsk_prod_nb_free(&state->xsk->tx, n);
	for (; taken < n && count < room; taken++) {
		struct driver_frame *frame = &frames[taken];

		if (unlikely(frame->size > largest || frame->next)) {
			driver_refuse(queue, frame, DRIVER_DROP_TOO_LONG);
			continue;
		}
		sent[count++] =
			(struct xsk_frame){.addr = (uint64_t)(frame->data - pool->memory) - pool->first + pool->header,
					   .size = frame->size - pool->header};
	}
	/* All go in, as there is room, and all are ours. */
	if (xsk_queue_send(state->xsk, sent, count) != count)
		return -EIO;
	return kick(state) == -ENODEV ? -ENODEV : (int)taken;
}

static int af_xdp_tx_done(struct driver_queue *queue, uint32_t *buffers, unsigned int n)
{
	const struct af_xdp *device = queue->dev->state;
	struct af_xdp_queue *state = queue->state;
	uint64_t chunks[DRIVER_BATCH];

	n = xsk_queue_completed(state->xsk, chunks, min(n, DRIVER_BATCH));
	for (unsigned int i = 0; i < n; i++)
		buffers[i] = buffer_of(&queue->dev->pool, align_down(chunks[i], device->chunk_size));
	return (int)n;
}

static int af_xdp_arm(struct driver_queue *queue)
{
	struct af_xdp_queue *state = queue->state;

	count_losses(queue);
	if (xsk_queue_unsent(state->xsk) > 0)
		kick(state);
	if (state->down)
		return DRIVER_FOREVER;
	/* Nothing is readable when a frame was sent. The switch can wait for a few buffers, not for most of them. */
	return xsk_queue_unsent(state->xsk) > 0 || state->xsk->sending > AF_XDP_RING_SIZE / 2 ? RETRY_US
											      : DRIVER_FOREVER;
}

static int af_xdp_events(struct driver_device *dev)
{
	struct af_xdp *state = dev->state;

	if (dev->facts.mtu > AF_XDP_MTU(state->chunk_size)) {
		log_error("%s: its MTU is %u now, and its buffers were made for %u at most: the driver has to start "
			  "again",
			  dev->config->device, dev->facts.mtu, AF_XDP_MTU(state->chunk_size));
		return -ERANGE;
	}
	store_relaxed(&state->tx_max, dev->facts.mtu + AF_XDP_ETH_MAX);
	return 0;
}

/* Closing. */

/*
 * In copy mode the kernel keeps no buffer for frames from the device but those in its rings: one that it was given and
 * does not have is lost for good.
 */
static void account(const struct driver_device *dev, const struct af_xdp *state)
{
	for (unsigned int i = 0; i < state->pool.queue_count; i++) {
		const struct xsk_queue *xsk = &state->pool.queues[i];
		uint32_t waiting = xsk_queue_unfilled(xsk) + xsk_queue_unread(xsk);

		log_debug("%s: queue %u: of %u buffers for frames from it the kernel has %u, and %u frames to it",
			  dev->config->device, i, AF_XDP_RING_SIZE, xsk->receiving, xsk->sending);
		if (!state->pool.zero_copy && xsk->receiving != waiting)
			log_warn("%s: queue %u: the kernel was given %u buffers, and has %u", dev->config->device, i,
				 xsk->receiving, waiting);
		if (xsk->lies > 0)
			log_warn("%s: queue %u: the kernel named %llu buffers that it did not have",
				 dev->config->device, i, (unsigned long long)xsk->lies);
	}
	if (state->keep.count > 0 && state->pool.queue_count > 0)
		log_info("%s: %llu frames were left to the kernel", dev->config->device,
			 (unsigned long long)xdp_prog_kept(&state->prog));
}

static void af_xdp_close(struct driver_device *dev)
{
	struct af_xdp *state = dev->state;

	if (!state)
		return;
	account(dev, state);
	xdp_prog_close(&state->prog);
	xsk_pool_close(&state->pool);
	if (state->promiscuous_fd >= 0)
		close(state->promiscuous_fd);
	free(state->queues);
	free(state);
	dev->state = NULL;
}

const struct driver_kind driver_af_xdp = {
	.name = "af_xdp",
	.summary = "a NIC of the kernel's through AF_XDP, in place",
	.options = af_xdp_options,
	.comes_small = true,
	.open = af_xdp_open,
	.bind = af_xdp_bind,
	.rx = af_xdp_rx,
	.rx_give = af_xdp_rx_give,
	.tx = af_xdp_tx,
	.tx_done = af_xdp_tx_done,
	.arm = af_xdp_arm,
	.events = af_xdp_events,
	.close = af_xdp_close,
};
