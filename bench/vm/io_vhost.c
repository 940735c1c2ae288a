/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VM's device is virtio-net behind vhost-user: its path is a socket of the switch.
 *
 * Transmit buffers are filled once and only offered again. Received frames are counted if they have
 * the right length; a sample of them is read and must have the right addresses and signature.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "vm.h"

#define SAMPLE 8 /* one frame in so many is read */

static void vhost_open(struct vm *vm)
{
	uint32_t whole = VIRTIO_NET_HDR_LEN + opt.size;
	struct netfront_config config = {
		.path = vm->path,
		.listen = opt.server,
		.polling = !opt.irq && !vm->pings,
		.timeout_ms = WAIT_S * 1000,
		.features = NETFRONT_FEATURES,
		.rx_size = opt.rx_ring,
		.tx_size = opt.ring,
		.rx_buffer = opt.rx_buffer,
		.tx_buffer = max(whole, 2048u),
		.piece = opt.piece,
		.header_apart = opt.header_apart,
	};
	const char *step;
	int err;

	if (!opt.mergeable)
		config.features &= ~VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (opt.packed) {
		config.features |= NETFRONT_FEATURES_PACKED;
		config.required |= NETFRONT_FEATURES_PACKED;
	}
	if (opt.gso) {
		config.features |= NETFRONT_FEATURES_TSO;
		config.required |= VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) |
				   VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4);
	}
	err = netfront_open(&vm->nf, &config, &step);
	if (err)
		fail("%s: %s: %s", vm->path, step, strerror(-err));
	vm->shared->features = vm->nf->features;
}

static void vhost_close(struct vm *vm)
{
	netfront_close(vm->nf);
}

static void vhost_say(struct vm *vm, const uint8_t *frame, uint32_t size)
{
	netfront_send_frame(vm->nf, 0, frame, size);
}

static unsigned int vhost_hear(struct vm *vm, uint8_t frames[BATCH_MAX][HELLO_SIZE])
{
	struct netfront_frame got[BATCH_MAX];
	int n = netfront_receive(vm->nf, 0, got, BATCH_MAX);
	unsigned int heard = 0;

	for (int i = 0; i < n; i++)
		if (netfront_frame_copy(&got[i], 0, frames[heard], HELLO_SIZE) == HELLO_SIZE)
			heard++;
	netfront_recycle(vm->nf, 0);
	return heard;
}

static void vhost_prepare(struct vm *vm)
{
	uint64_t deadline = clock_now_ns() + WAIT_S * NS_PER_S;
	struct virtio_net_hdr header;
	uint8_t *frame = malloc(opt.size);

	if (!frame)
		fail("out of memory");
	/* Only buffers that are not on their way can be prepared. */
	while (netfront_reclaim(vm->nf, 0) >= 0 &&
	       netfront_tx(vm->nf, 0)->idle_count < netfront_tx(vm->nf, 0)->buffer_count) {
		if (clock_now_ns() > deadline)
			fail("%s: the switch keeps the first frames", vm->path);
		usleep(1000);
	}
	frame_make(vm, vm->first_peer, frame, opt.size, opt.gso);
	frame_gso_header(&header);
	if (netfront_tx_prepare(vm->nf, 0, opt.gso ? &header : NULL, frame, opt.size))
		fail("%s: frames do not fit", vm->path);
	free(frame);
}

static void count_sent(struct vm *vm, unsigned int n)
{
	add_relaxed(&vm->shared->counters.sent, n);
	store_relaxed(&vm->shared->kicks, netfront_tx(vm->nf, 0)->kicks + netfront_rx(vm->nf, 0)->kicks);
}

static int vhost_send(struct vm *vm, unsigned int max)
{
	struct vq_used slots[BATCH_MAX];
	struct netfront *nf = vm->nf;
	/* Chains that the back end does not have are handed out first; the others it has consumed. */
	uint32_t held = netfront_tx(nf, 0)->held_count;
	int n = netfront_tx_take(nf, 0, slots, max);

	if (n < 0)
		fail("%s: the transmit ring broke", vm->path);
	if (n == 0)
		return 0;
	for (int i = 0; frame_differs(vm) && i < n; i++)
		frame_next(vm, netfront_buffer(nf, slots[i].tag) + nf->hdr_len);
	netfront_tx_give(nf, 0, slots, (unsigned int)n);
	count_sent(vm, (uint32_t)n - min(held, (uint32_t)n));
	return n;
}

static void vhost_finish_send(struct vm *vm)
{
	int n = netfront_reclaim(vm->nf, 0);

	count_sent(vm, n > 0 ? (unsigned int)n : 0);
}

static uint32_t pieces_of(const struct vm *vm, const uint8_t *buffer)
{
	struct virtio_net_hdr_mrg_rxbuf header;

	if (!(vm->nf->features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)))
		return 1;
	memcpy(&header, buffer, sizeof(header));
	return header.num_buffers;
}

/* One receive buffer. Returns 1 if it ends a frame of the right kind. */
static unsigned int take_piece(struct vm *vm, const struct vq_used *slot, bool sample)
{
	struct netfront *nf = vm->nf;
	const uint8_t *buffer = netfront_buffer(nf, slot->tag);
	bool first = vm->frame_left == 0, small = opt.size + nf->hdr_len <= opt.rx_buffer;
	uint32_t skip = first ? nf->hdr_len : 0;

	if (first) {
		/* The header of a frame that fits is not looked at: its length tells enough. */
		vm->frame_left = small && slot->len == opt.size + nf->hdr_len ? 1 : pieces_of(vm, buffer);
		vm->frame_size = 0;
		/* Said before the run, and late. */
		if (slot->len == HELLO_SIZE + nf->hdr_len && opt.size != HELLO_SIZE) {
			vm->frame_left = 0;
			return 0;
		}
	}
	if (slot->len < skip || vm->frame_left == 0)
		fail("%s: broken frame received", vm->path);
	vm->frame_size += slot->len - skip;
	vm->frame_left--;
	if (opt.touch)
		frame_touch_read(vm, buffer + skip, slot->len - skip, first);
	if (first && vm->pings)
		vm->heard_seq = frame_seq(buffer + skip);
	if (first && sample && !frame_is_for(vm, buffer + skip, opt.gso)) {
		add_relaxed(&vm->shared->counters.wrong, 1);
		return 0;
	}
	if (vm->frame_left > 0)
		return 0;
	if (vm->frame_size != opt.size) {
		add_relaxed(&vm->shared->counters.wrong, 1);
		return 0;
	}
	return 1;
}

/* Returns the number of frames if it exchanges single ones, else of receive buffers. */
static int vhost_receive(struct vm *vm)
{
	struct vq_used slots[BATCH_MAX];
	int n = netfront_rx_take(vm->nf, 0, slots, opt.batch);
	unsigned int frames = 0;

	if (n < 0)
		fail("%s: the receive ring broke", vm->path);
	if (n == 0)
		return 0;
	for (int i = 0; i < n; i++)
		frames += take_piece(vm, &slots[i], i % SAMPLE == 0);
	netfront_rx_give(vm->nf, 0, slots, (unsigned int)n);
	add_relaxed(&vm->shared->counters.delivered, frames);
	return vm->pings ? (int)frames : n;
}

/* What was flooded goes back uncounted. */
static bool vhost_discard(struct vm *vm)
{
	struct vq_used slots[BATCH_MAX];
	int n = netfront_rx_take(vm->nf, 0, slots, BATCH_MAX);

	if (n > 0)
		netfront_rx_give(vm->nf, 0, slots, (unsigned int)n);
	return n > 0;
}

static void vhost_wait(struct vm *vm, bool transmit, uint64_t ns)
{
	struct netfront_queue *rx = netfront_rx(vm->nf, 0);
	struct pollfd pfd = {.fd = rx->call_fd, .events = POLLIN};
	struct timespec ts = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
	unsigned int what = NETFRONT_WAIT_RX | (transmit ? NETFRONT_WAIT_TX : 0);

	if (ns >= NS_PER_MS) {
		if (netfront_wait(vm->nf, 0, what, (int)(ns / NS_PER_MS)) < 0)
			fail("%s: the switch hung up", vm->path);
		return;
	}
	/* Finer than netfront_wait() could, which whoever sends evenly needs. */
	if (netfront_arm(rx, 1))
		ppoll(&pfd, 1, &ts, NULL);
	netfront_disarm(rx);
}

const struct io io_vhost = {
	.open = vhost_open,
	.close = vhost_close,
	.say = vhost_say,
	.hear = vhost_hear,
	.prepare = vhost_prepare,
	.send = vhost_send,
	.finish_send = vhost_finish_send,
	.receive = vhost_receive,
	.discard = vhost_discard,
	.wait = vhost_wait,
};
