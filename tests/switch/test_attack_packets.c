/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets that promise what they do not keep, or ask for more work than any honest one: each is forwarded or dropped
 * by name, and who has not negotiated an offload never sees one.
 */
#include "attack.h"

#include <errno.h>
#include <string.h>

#include "datapath/bytes.h"
#include "lib/clock.h"

#define HEADERS 54u /* Ethernet, IPv4, TCP */
#define FRAMES  3000u

static const struct dp_port_add patient = {.wait_us = 10000000};

static uint32_t random_next(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

static void write_tcp(uint8_t *frame, uint32_t size)
{
	testbed_frame(frame, size, 2, 1, 0);
	bytes_store16(frame + 12, 0x0800);
	memset(frame + 14, 0, HEADERS - 14);
	frame[14] = 0x45;
	bytes_store16(frame + 16, (uint16_t)(size - 14));
	frame[22] = 64;
	frame[23] = 6;
	bytes_store32(frame + 26, 0x0a000001);
	bytes_store32(frame + 30, 0x0a000002);
	frame[46] = 0x50;
	frame[47] = 0x18;
}

static struct virtio_net_hdr tcp_segments(uint16_t size)
{
	return (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = HEADERS,
		.gso_size = size,
		.csum_start = 34,
		.csum_offset = 16,
	};
}

/* Takes what has arrived, none of which may ask for an offload. Returns how many frames that were. */
static uint32_t swallow(struct netfront *nf, uint32_t size)
{
	struct netfront_frame frames[32];
	uint32_t count = 0;
	int n;

	while ((n = netfront_receive(nf, 0, frames, 32)) > 0) {
		for (int i = 0; i < n; i++) {
			assert_int_equal(frames[i].header.hdr.flags, 0);
			assert_int_equal(frames[i].header.hdr.gso_type, 0);
			if (size)
				assert_int_equal(frames[i].size, size);
		}
		count += (uint32_t)n;
	}
	assert_int_equal(n, 0);
	return count;
}

static uint32_t swallow_until(struct netfront *nf, uint32_t count, uint32_t size)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	uint32_t got = 0;

	while (got < count && clock_now_ns() < deadline) {
		got += swallow(nf, size);
		assert_true(netfront_wait(nf, 0, NETFRONT_WAIT_RX, 10) >= 0);
	}
	return got;
}

static void send_with(struct attack *attack, const struct virtio_net_hdr *header, const uint8_t *frame, uint32_t size,
		      uint32_t *swallowed)
{
	const struct iovec iov = {.iov_base = (void *)(uintptr_t)frame, .iov_len = size};
	int error;

	while ((error = netfront_send(attack->evil, 0, header, &iov, 1, false)) == -ENOBUFS)
		*swallowed += swallow(attack->peer, 0);
	assert_int_equal(error, 0);
}

static struct virtio_net_hdr random_header(uint32_t *state)
{
	static const uint16_t interesting[] = {0, 1, 2, 14, 16, 34, 54, 100, 1000, 1399, 1400, 0x7fff, 0xfffe, 0xffff};
	static const uint8_t types[] = {0, 1, 3, 4, 5, 0x80, 0x81, 0x84, 0x85, 2, 6, 0xff};
	uint16_t fields[4];

	for (unsigned int i = 0; i < 4; i++) {
		uint32_t choice = random_next(state);

		fields[i] = choice & 1 ? interesting[(choice >> 1) % ARRAY_SIZE(interesting)] : (uint16_t)(choice >> 1);
	}
	return (struct virtio_net_hdr){
		.flags = (uint8_t)(random_next(state) % 3 ? 1 : random_next(state)),
		.gso_type = types[random_next(state) % ARRAY_SIZE(types)],
		.hdr_len = fields[0],
		.gso_size = fields[1],
		.csum_start = random_next(state) % 2 ? 34 : fields[2],
		.csum_offset = random_next(state) % 2 ? 16 : fields[3],
	};
}

static void net_headers_at_random(void **state)
{
	const struct netfront_config config = {
		.features = NETFRONT_FEATURES | NETFRONT_FEATURES_TSO | VIRTIO_BIT(VIRTIO_NET_F_HOST_USO) |
			    VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN),
	};
	uint64_t refused = 0, lost = 0;
	struct stats_port in, out;
	struct attack attack;
	uint32_t random = 42, swallowed = 0;
	uint8_t frame[1400];

	(void)state;
	attack_start(&attack, 1, &config, NULL, &patient);
	for (uint32_t i = 0; i < FRAMES; i++) {
		struct virtio_net_hdr header = random_header(&random);
		uint32_t size = 60 + random_next(&random) % (sizeof(frame) - 59);

		write_tcp(frame, size);
		for (uint32_t j = 0; i % 3 == 2 && j < size; j++)
			frame[j] = (uint8_t)random_next(&random);
		send_with(&attack, &header, frame, size, &swallowed);
		swallowed += swallow(attack.peer, 0);
	}
	testbed_wait_in(&attack.bed, attack.evil_port, FRAMES);
	testbed_stats(&attack.bed, attack.evil_port, &in);
	testbed_stats(&attack.bed, attack.peer_port, &out);
	swallowed += swallow_until(attack.peer, (uint32_t)(out.out_packets - swallowed), 0);
	assert_int_equal(swallowed, out.out_packets);
	for (unsigned int i = 0; i < DROP_COUNT; i++) {
		if (i == DROP_OFFLOAD_INVALID || i == DROP_OFFLOAD_UNNEGOTIATED || i == DROP_HEADERS_TOO_LONG)
			refused += in.drops[i];
		else
			assert_int_equal(in.drops[i], 0);
		if (i == DROP_OUT_OFFLOAD)
			lost += out.drops[i];
		else
			assert_int_equal(out.drops[i], 0);
	}
	assert_in_range(refused, FRAMES / 10, FRAMES);
	assert_true(out.out_packets >= FRAMES - refused - lost);
	attack_drain(&attack);
	attack_stop(&attack);
}

/* The same without any offload negotiated: whoever uses one all the same is refused. */
static void offloads_that_were_not_negotiated(void **state)
{
	struct virtio_net_hdr headers[] = {tcp_segments(100), tcp_segments(100), tcp_segments(100)};
	struct stats_port before;
	struct attack attack;
	uint32_t swallowed = 0;
	uint8_t frame[1400];

	(void)state;
	headers[1].gso_type = 0;
	headers[2].flags = 0;
	attack_start(&attack, 1, NULL, NULL, NULL);
	attack_expect_traffic(&attack);
	testbed_stats(&attack.bed, attack.evil_port, &before);
	write_tcp(frame, sizeof(frame));
	for (unsigned int i = 0; i < ARRAY_SIZE(headers); i++)
		send_with(&attack, &headers[i], frame, sizeof(frame), &swallowed);
	attack_expect_drops(&attack, attack.evil_port, &before, DROP_OFFLOAD_UNNEGOTIATED, ARRAY_SIZE(headers));
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

static void tiny_segments(void **state)
{
	static const struct {
		uint16_t size;
		uint32_t payload;
	} cuts[] = {{8, 8000}, {1, 8000}, {3, 10}, {7999, 8000}};
	const struct netfront_config config = {.features = NETFRONT_FEATURES | NETFRONT_FEATURES_TSO,
					       .tx_buffer = 16384};
	static uint8_t frame[16384];
	struct virtio_net_hdr header;
	struct stats_port before;
	struct attack attack;
	uint32_t swallowed = 0;

	(void)state;
	attack_start(&attack, 1, &config, NULL, &patient);
	attack_expect_traffic(&attack);
	for (unsigned int i = 0; i < ARRAY_SIZE(cuts); i++) {
		uint32_t segments = (cuts[i].payload + cuts[i].size - 1) / cuts[i].size;

		header = tcp_segments(cuts[i].size);
		write_tcp(frame, HEADERS + cuts[i].payload);
		send_with(&attack, &header, frame, HEADERS + cuts[i].payload, &swallowed);
		assert_int_equal(swallow_until(attack.peer, segments, 0), segments);
		attack_expect_others(&attack);
	}
	/* There is a limit. */
	testbed_stats(&attack.bed, attack.evil_port, &before);
	header = tcp_segments(1);
	write_tcp(frame, HEADERS + 9000);
	send_with(&attack, &header, frame, HEADERS + 9000, &swallowed);
	attack_expect_drops(&attack, attack.evil_port, &before, DROP_OFFLOAD_INVALID, 1);
	attack_drain(&attack);
	attack_stop(&attack);
}

static void frames_of_64_kib(void **state)
{
	const struct netfront_config config = {.tx_buffer = 70000, .tx_size = 64, .piece = 4000};
	const struct netfront_config whole = {
		.features = NETFRONT_FEATURES & ~VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF),
	};
	static uint8_t frame[70000], received[70000];

	(void)state;
	for (unsigned int merged = 0; merged < 2; merged++) {
		struct stats_port before, before_peer;
		struct attack attack;

		attack_start(&attack, 1, &config, merged ? NULL : &whole, &patient);
		attack_expect_traffic(&attack);
		testbed_stats(&attack.bed, attack.evil_port, &before);
		testbed_stats(&attack.bed, attack.peer_port, &before_peer);
		testbed_frame(frame, VIRTIO_NET_FRAME_MAX + 1, 2, 1, merged);
		assert_int_equal(netfront_send_frame(attack.evil, 0, frame, VIRTIO_NET_FRAME_MAX), 0);
		if (merged) {
			assert_int_equal(testbed_receive(attack.peer, 0, NULL, received, sizeof(received)),
					 VIRTIO_NET_FRAME_MAX);
			assert_memory_equal(received, frame, VIRTIO_NET_FRAME_MAX);
		} else {
			attack_expect_drops(&attack, attack.peer_port, &before_peer, DROP_OUT_TOO_LONG, 1);
		}
		assert_int_equal(netfront_send_frame(attack.evil, 0, frame, VIRTIO_NET_FRAME_MAX + 1), 0);
		attack_expect_drops(&attack, attack.evil_port, &before, DROP_FRAME_TOO_LONG, 1);
		attack_expect_traffic(&attack);
		attack_stop(&attack);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(net_headers_at_random),
		cmocka_unit_test(offloads_that_were_not_negotiated),
		cmocka_unit_test(tiny_segments),
		cmocka_unit_test(frames_of_64_kib),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
