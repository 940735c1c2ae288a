/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver domain that was taken over: attaches to a driver's port as lasthop-driver does, and then writes garbage into
 * its rings, its indirect tables and its pool, says nonsense on the control virtqueue and kicks, again and again.
 *
 * Usage: hostile_driver SOCKET MILLISECONDS SEED. Prints how often it attached. What the switch does about it is no
 * failure here: whoever started this looks at the switch. Half of the garbage is near what would be right, because
 * what is plainly wrong is noticed at the first look.
 */
#include "lib/clock.h"
#include "proto/driver_status.h"
#include "vhost/netfront.h"

#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS      2000 /* of garbage on one connection, at most */
#define PATIENCE_NS (10 * NS_PER_S)

static uint64_t seed;

/* xorshift64: the same seed, the same attack. */
static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t below(uint64_t limit)
{
	return any() % limit;
}

static uint64_t any_address(const struct netfront *nf)
{
	switch (below(4)) {
	case 0:
		return any();
	case 1:
		return netfront_guest_addr(nf, nf->memory_size - below(4096));
	default:
		return netfront_guest_addr(nf, below(nf->memory_size));
	}
}

/* A descriptor has the same size in both kinds of ring, and in an indirect table. */
static void spoil_descriptor(const struct netfront *nf, struct vring_desc *desc, unsigned int size)
{
	desc->addr = any_address(nf);
	desc->len = (uint32_t)(below(2) ? below(70000) : any());
	desc->flags = (uint16_t)(below(2) ? below(8) : any());
	desc->next = (uint16_t)(below(2) ? below(size) : any());
}

static void spoil_ring(struct netfront *nf, struct netfront_queue *queue)
{
	struct vring_split *ring = &queue->ring;

	switch (below(6)) {
	case 0:
		ring->avail->idx = (uint16_t)(below(2) ? ring->avail->idx + below(2 * ring->size) : any());
		break;
	case 1:
		ring->avail->ring[below(ring->size)] = (uint16_t)(below(2) ? below(ring->size) : any());
		break;
	case 2:
		ring->avail->flags = (uint16_t)any();
		ring->used->idx = (uint16_t)any();
		break;
	case 3:
		if (queue->indirect.entries)
			spoil_descriptor(nf, &queue->indirect.tables[below(queue->indirect.entries)], ring->size);
		break;
	default:
		spoil_descriptor(nf, &ring->desc[below(ring->size)], ring->size);
	}
}

static void spoil_pool(struct netfront *nf)
{
	uint64_t at = nf->buffers_offset + below(nf->memory_size - nf->buffers_offset - sizeof(uint64_t));
	uint64_t garbage = any();

	memcpy(nf->memory + at, &garbage, sizeof(garbage));
}

static void lie(struct netfront *nf)
{
	uint64_t words[sizeof(struct driver_status) / sizeof(uint64_t)];
	struct driver_status *status = (void *)words;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		words[i] = any();
	if (below(2)) {
		memset(status, 0, 80);
		status->version = DRIVER_STATUS_VERSION;
		memset(status->kind, (int)below(256), sizeof(status->kind));
	}
	/* Refused, or not answered in time: both are fine. */
	if (netfront_control(nf, DRIVER_CTRL_CLASS, (uint8_t)below(3), words, (uint32_t)below(sizeof(words) + 1)) < 0)
		return;
}

static void send_something(struct netfront *nf)
{
	uint8_t frame[1500];
	struct iovec iov = {.iov_base = frame, .iov_len = 14 + below(sizeof(frame) - 14)};
	struct virtio_net_hdr header = {
		.flags = (uint8_t)below(4),
		.gso_type = (uint8_t)below(8),
		.hdr_len = (uint16_t)any(),
		.gso_size = (uint16_t)below(3000),
		.csum_start = (uint16_t)below(2000),
		.csum_offset = (uint16_t)below(64),
	};

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)any();
	/* From one of a few stations, to everybody, to one of them, or to whatever it is. */
	memcpy(frame + 6, "\x02\xee\x00\x00\x00", 5);
	frame[11] = (uint8_t)below(4);
	if (below(2))
		memset(frame, 0xff, 6);
	/* A ring that we have spoiled ourselves may refuse. */
	if (netfront_send(nf, 0, &header, &iov, 1, false) < 0)
		netfront_kick(netfront_tx(nf, 0));
}

static void misbehave(struct netfront *nf, uint64_t end)
{
	for (unsigned int round = 0; round < ROUNDS && clock_now_ns() < end; round++) {
		struct netfront_frame frames[8];
		struct netfront_queue *queue = below(2) ? netfront_rx(nf, 0) : netfront_tx(nf, 0);

		/* A while it is as good as any, so that there is something to take over. */
		if (round > 20) {
			for (uint64_t left = 1 + below(8); left > 0; left--)
				spoil_ring(nf, queue);
			spoil_pool(nf);
			netfront_kick(queue);
		}
		send_something(nf);
		if (below(200) == 0)
			lie(nf);
		if (netfront_receive(nf, 0, frames, 8) < 0 || vhost_frontend_check(&nf->fe) < 0)
			round = max(round, (unsigned int)ROUNDS - 20);
		if (below(16) == 0)
			netfront_wait(nf, 0, NETFRONT_WAIT_RX, 1);
	}
}

int main(int argc, char **argv)
{
	uint64_t end;
	const char *step = "time";
	unsigned int attached = 0;
	int error = 0;

	if (argc != 4) {
		fprintf(stderr, "Usage: hostile_driver SOCKET MILLISECONDS SEED\n");
		return 2;
	}
	end = clock_now_ns() + strtoull(argv[2], NULL, 10) * NS_PER_MS;
	seed = strtoull(argv[3], NULL, 10) * 2654435761u + 1;
	/* On a slow machine one attachment may take longer than that. */
	while (clock_now_ns() < (attached > 0 ? end : end + PATIENCE_NS)) {
		struct netfront_config config = {
			.path = argv[1],
			.timeout_ms = 500,
			.header_apart = below(2),
			.features = NETFRONT_FEATURES | NETFRONT_FEATURES_TSO | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) |
				    (below(2) ? NETFRONT_FEATURES_PACKED : 0),
		};
		struct netfront *nf;

		/* The port may be barred for a while after what we did. */
		error = netfront_open(&nf, &config, &step);
		if (error < 0)
			continue;
		attached++;
		misbehave(nf, max(end, clock_now_ns() + 50 * NS_PER_MS));
		netfront_close(nf);
	}
	printf("%u\n", attached);
	if (attached > 0)
		return EXIT_SUCCESS;
	fprintf(stderr, "hostile_driver: never attached: %s: %s\n", step, strerror(-error));
	return EXIT_FAILURE;
}
