/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Offloads between two that do not have the same: what a receiver cannot take is undone on the way,
 * and what it can take arrives untouched; either way the payload is copied once. traffic.c knows
 * what has to arrive.
 */
#include <string.h>

#include "lib/compiler.h"
#include "testbed.h"
#include "traffic.h"

#define GUEST_ALL (NETFRONT_FEATURES_TSO | NETFRONT_FEATURES_USO | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN))
#define HOST_ALL                                                                                                   \
	(VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | \
	 VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) | VIRTIO_BIT(VIRTIO_NET_F_HOST_USO))
#define BIG_BUFFER (FRAME_MAX + 64)

static const struct frame_spec specs[] = {
	{.version = 4, .proto = IPPROTO_TCP, .payload = 20000},
	{.version = 6, .proto = IPPROTO_TCP, .payload = 20001},
	{.version = 4, .proto = IPPROTO_UDP, .payload = 7777},
	{.version = 6, .proto = IPPROTO_UDP, .payload = 7777},
	{.version = 4, .proto = IPPROTO_TCP, .payload = 64000, .tags = 1, .tcp_options = 12},
	{.version = 6, .proto = IPPROTO_TCP, .payload = 64000, .tags = 2, .tcp_options = 40},
	{.version = 4, .proto = IPPROTO_TCP, .payload = 5000, .ip_options = 40, .padding = 3},
	{.version = 6,
	 .proto = IPPROTO_TCP,
	 .payload = 5001,
	 .extensions = {IPPROTO_HOPOPTS, IPPROTO_DSTOPTS},
	 .extension_count = 2,
	 .extension_size = 16},
	{.version = 6, .proto = IPPROTO_UDP, .payload = 3001, .extensions = {IPPROTO_HOPOPTS}, .extension_count = 1},
	{.version = 4, .proto = IPPROTO_UDP, .payload = 1},
	{.version = 4, .proto = IPPROTO_TCP, .payload = 0},
	{.version = 6, .proto = IPPROTO_UDP, .payload = 1401, .tags = 1},
};

/* Every spec cut in two sizes and, where it fits into a small buffer, lacking only its checksum. */
static unsigned int make_frames(struct traffic_frame frames[3 * ARRAY_SIZE(specs)])
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(specs); i++) {
		frames[count++] = (struct traffic_frame){.spec = &specs[i], .gso_size = 1448};
		frames[count++] = (struct traffic_frame){
			.spec = &specs[i],
			.gso_size = 999,
			.ecn = specs[i].proto == IPPROTO_TCP,
		};
		if (specs[i].payload < 1448)
			frames[count++] = (struct traffic_frame){.spec = &specs[i]};
	}
	return count;
}

struct pair {
	struct testbed bed;
	uint32_t a;
	uint32_t b;
	struct netfront *from;
	struct netfront *to;
};

static void start(struct pair *pair)
{
	const struct dp_port_add options = {.wait_us = 10000000};

	testbed_start(&pair->bed, 1);
	pair->a = testbed_port(&pair->bed, "a", &options);
	pair->b = testbed_port(&pair->bed, "b", &options);
	testbed_wire(&pair->bed, pair->a, pair->b);
}

static void attach(struct pair *pair, const struct netfront_config *from, const struct netfront_config *to)
{
	pair->from = testbed_attach(&pair->bed, "a", from);
	pair->to = testbed_attach(&pair->bed, "b", to);
	testbed_wait_state(&pair->bed, pair->a, DP_PORT_UP);
	testbed_wait_state(&pair->bed, pair->b, DP_PORT_UP);
}

static void detach(struct pair *pair)
{
	netfront_close(pair->from);
	netfront_close(pair->to);
}

static void expect_no_drops(struct pair *pair)
{
	struct stats_port a, b;

	testbed_stats(&pair->bed, pair->a, &a);
	testbed_stats(&pair->bed, pair->b, &b);
	for (unsigned int i = 0; i < DROP_COUNT; i++) {
		assert_int_equal(a.drops[i], 0);
		assert_int_equal(b.drops[i], 0);
	}
}

static const struct netfront_config senders[] = {
	{.tx_buffer = BIG_BUFFER, .tx_size = 64},
	{.tx_buffer = BIG_BUFFER, .tx_size = 64, .header_apart = true},
	{.tx_buffer = BIG_BUFFER, .tx_size = 64, .piece = 4096, .regions = 3},
	{.tx_buffer = BIG_BUFFER, .tx_size = 64, .piece = 67, .header_apart = true},
	/* The headers' pieces have odd sizes, and a net header of 10 bytes is in two of them. */
	{.tx_buffer = 9001, .tx_size = 64, .piece = 9},
};

/* Everything each sender can send; then the counters must say that it was copied once. */
static void every_sender_to(struct pair *pair, const struct netfront_config *receiver)
{
	struct traffic_frame all[3 * ARRAY_SIZE(specs)], frames[3 * ARRAY_SIZE(specs)];
	unsigned int all_count = make_frames(all);

	for (unsigned int i = 0; i < ARRAY_SIZE(senders); i++) {
		struct netfront_config sender = senders[i];
		struct stats_worker before, after;
		struct traffic traffic = {.frames = frames, .dst = 2, .src = 1};

		sender.features = NETFRONT_FEATURES | HOST_ALL;
		if (sender.piece == 9)
			sender.features = HOST_ALL | VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC);
		attach(pair, &sender, receiver);
		for (unsigned int j = 0; j < all_count; j++) {
			if (all[j].spec->payload + 200 <= sender.tx_buffer)
				frames[traffic.frame_count++] = all[j];
		}
		traffic.from = pair->from;
		traffic.to = pair->to;
		traffic.limit = traffic.frame_count;
		testbed_totals(&pair->bed, &before);
		traffic_run(&traffic);
		/* Whoever stops a queue has its last numbers. */
		detach(pair);
		testbed_wait_state(&pair->bed, pair->a, DP_PORT_DOWN);
		testbed_totals(&pair->bed, &after);
		assert_int_equal(after.delivered_bytes - before.delivered_bytes, traffic.bytes);
		assert_int_equal(after.copied_bytes - before.copied_bytes, traffic.bytes);
	}
	expect_no_drops(pair);
}

static void undone_for_small_buffers(void **state)
{
	static const uint64_t takes[] = {
		0,
		VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM),
		/* Partial checksums are the condition of everything else: the core must not rely on
		   it. */
		VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4),
	};
	struct pair pair;

	(void)state;
	start(&pair);
	for (unsigned int i = 0; i < ARRAY_SIZE(takes); i++) {
		struct netfront_config receiver = {
			.features = VIRTIO_BIT(VIRTIO_F_VERSION_1) | takes[i],
		};

		every_sender_to(&pair, &receiver);
		/* The legacy header, and buffers of two descriptors. */
		receiver.features = takes[i];
		receiver.header_apart = true;
		every_sender_to(&pair, &receiver);
	}
	testbed_stop(&pair.bed);
}

static void each_offload_alone(void **state)
{
	static const unsigned int bits[] = {VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4,
					    VIRTIO_NET_F_GUEST_USO6};
	struct pair pair;

	(void)state;
	start(&pair);
	for (unsigned int i = 0; i < ARRAY_SIZE(bits); i++) {
		struct netfront_config receiver = {
			.features = NETFRONT_FEATURES | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(bits[i]),
			.rx_buffer = 1526,
		};

		every_sender_to(&pair, &receiver);
	}
	testbed_stop(&pair.bed);
}

/* A whole segment of 64 KiB in many buffers, or in one of many pieces. */
static void untouched_for_who_takes_it(void **state)
{
	static const struct netfront_config receivers[] = {
		{.rx_buffer = 200, .rx_size = 1024},
		{.rx_buffer = 64, .rx_size = 2048},
		{.rx_buffer = 4096, .piece = 1000},
		{.rx_buffer = BIG_BUFFER, .rx_size = 16, .features = VIRTIO_BIT(VIRTIO_F_VERSION_1)},
		{.rx_buffer = BIG_BUFFER,
		 .rx_size = 64,
		 .piece = 4096,
		 .header_apart = true,
		 .features = VIRTIO_BIT(VIRTIO_F_VERSION_1)},
		{.rx_buffer = BIG_BUFFER,
		 .rx_size = 4,
		 .piece = 67,
		 .header_apart = true,
		 .features = VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC)},
	};
	struct pair pair;
	struct stats_port stats;

	(void)state;
	start(&pair);
	for (unsigned int i = 0; i < ARRAY_SIZE(receivers); i++) {
		struct netfront_config receiver = receivers[i];

		receiver.features |= GUEST_ALL;
		if (!receivers[i].features)
			receiver.features |= NETFRONT_FEATURES;
		every_sender_to(&pair, &receiver);
	}
	testbed_stats(&pair.bed, pair.b, &stats);
	assert_int_equal(stats.out_segmented, 0);
	assert_int_equal(stats.out_checksummed, 0);
	testbed_stop(&pair.bed);
}

/* 64 KiB become more segments than the receiver has buffers: the rest goes on as they come back. */
static void more_segments_than_buffers(void **state)
{
	const struct netfront_config sender = {
		.tx_buffer = BIG_BUFFER,
		.tx_size = 8,
		.features = NETFRONT_FEATURES | HOST_ALL,
	};
	static const struct frame_spec large = {.version = 4, .proto = IPPROTO_TCP, .payload = 65000};
	const struct traffic_frame frames[] = {
		{.spec = &large, .gso_size = 1448},
		{.size = 100},
		{.spec = &large, .gso_size = 536},
		{.spec = &large, .gso_size = 100},
	};
	struct stats_port before, after;
	struct pair pair;

	(void)state;
	start(&pair);
	for (unsigned int size = 1; size <= 64; size *= 4) {
		struct netfront_config receiver = {
			.rx_size = size,
			.features = VIRTIO_BIT(VIRTIO_F_VERSION_1) | (uint64_t)(size & 4) << VIRTIO_NET_F_GUEST_CSUM,
		};
		uint32_t segments = 0;

		attach(&pair, &sender, &receiver);
		testbed_stats(&pair.bed, pair.b, &before);
		for (unsigned int i = 0; i < ARRAY_SIZE(frames); i++)
			segments += traffic_segments(&frames[i], pair.to->features);
		traffic_expect(pair.from, pair.to, frames, ARRAY_SIZE(frames));
		detach(&pair);
		testbed_wait_state(&pair.bed, pair.b, DP_PORT_DOWN);
		testbed_stats(&pair.bed, pair.b, &after);
		assert_int_equal(after.out_packets - before.out_packets, segments);
		assert_int_equal(after.out_segmented - before.out_segmented, segments - 1);
	}
	expect_no_drops(&pair);
	testbed_stop(&pair.bed);
}

static void expect_drop(struct pair *pair, const struct traffic_frame *frame, enum drop_reason reason)
{
	const struct traffic_frame good = {.size = 60};
	struct traffic lost = {
		.from = pair->from,
		.to = pair->to,
		.frames = frame,
		.frame_count = 1,
		.limit = 1,
		.dst = 2,
		.src = 1,
	};
	struct stats_port before;

	testbed_stats(&pair->bed, pair->b, &before);
	while (!traffic_send(&lost))
		;
	traffic_expect(pair->from, pair->to, &good, 1);
	testbed_wait_drops(&pair->bed, pair->b, reason, before.drops[reason] + 1);
}

/* What fits nowhere is lost by name, and the next one passes. */
static void too_long_for_the_receiver(void **state)
{
	static const struct frame_spec large = {.version = 4, .proto = IPPROTO_TCP, .payload = 64000};
	static const struct frame_spec medium = {.version = 4, .proto = IPPROTO_TCP, .payload = 9000};
	const struct traffic_frame whole = {.spec = &large, .gso_size = 1448};
	const struct traffic_frame jumbo = {.size = 3000};
	const struct traffic_frame pieces = {.spec = &medium, .gso_size = 1448};
	const struct traffic_frame segment = {.spec = &large, .gso_size = 3000};
	const struct netfront_config sender = {
		.tx_buffer = BIG_BUFFER,
		.features = NETFRONT_FEATURES | HOST_ALL,
	};
	struct netfront_config receiver = {.features = VIRTIO_BIT(VIRTIO_F_VERSION_1)};
	struct pair pair;

	(void)state;
	start(&pair);
	/* One buffer a packet, and that is too small; for a segment, too. */
	attach(&pair, &sender, &receiver);
	expect_drop(&pair, &jumbo, DROP_OUT_TOO_LONG);
	expect_drop(&pair, &segment, DROP_OUT_TOO_LONG);
	detach(&pair);

	/* It said that it takes large segments, and gave no room for them. */
	receiver.features |= GUEST_ALL;
	attach(&pair, &sender, &receiver);
	expect_drop(&pair, &whole, DROP_OUT_TOO_LONG);
	detach(&pair);

	/* Mergeable, but the whole ring is not enough. */
	receiver.features = NETFRONT_FEATURES | GUEST_ALL;
	receiver.rx_size = 16;
	attach(&pair, &sender, &receiver);
	expect_drop(&pair, &whole, DROP_OUT_TOO_LONG);
	detach(&pair);

	/* Enough bytes, but in more pieces than a packet may lie in. */
	receiver.rx_size = 256;
	receiver.piece = 7;
	attach(&pair, &sender, &receiver);
	expect_drop(&pair, &pieces, DROP_OUT_TOO_LONG);
	detach(&pair);
	testbed_stop(&pair.bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(undone_for_small_buffers),   cmocka_unit_test(each_offload_alone),
		cmocka_unit_test(untouched_for_who_takes_it), cmocka_unit_test(more_segments_than_buffers),
		cmocka_unit_test(too_long_for_the_receiver),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
