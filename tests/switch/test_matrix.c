/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two front ends of every kind with each other. Each side has a dozen properties; all their
 * combinations are too many, but faults hide in pairs of them: rows are chosen until every pair of
 * values of any two properties, of one side or of both, has met in some row that is legal. The
 * choice is random from a fixed seed, so that every run tests the same rows.
 */
#include <sched.h>
#include <string.h>

#include "lib/compiler.h"
#include "testbed.h"
#include "traffic.h"

enum {
	OFFLOAD,
	MERGEABLE,
	INDIRECT,
	EVENT_IDX,
	VERSION_1,
	HEADER_APART,
	PIECE,
	RX_SIZE,
	TX_SIZE,
	RX_BUFFER,
	POLLING,
	REGIONS,
	SIDE_PROPERTIES,
	PROPERTIES = 2 * SIDE_PROPERTIES
};

enum { OFFLOAD_NONE, OFFLOAD_CSUM, OFFLOAD_TSO, OFFLOAD_USO, OFFLOADS };

#define VALUES_MAX 16 /* of one property: the ring sizes, 1 to 32768 */

static const uint32_t pieces[] = {0, 7, 100, 1000};
static const uint32_t rx_buffers[] = {128, 2048, 10240};

static const uint8_t value_counts[SIDE_PROPERTIES] = {
	[OFFLOAD] = OFFLOADS,
	[MERGEABLE] = 2,
	[INDIRECT] = 2,
	[EVENT_IDX] = 2,
	[VERSION_1] = 2,
	[HEADER_APART] = 2,
	[PIECE] = ARRAY_SIZE(pieces),
	[RX_SIZE] = 16,
	[TX_SIZE] = 16,
	[RX_BUFFER] = ARRAY_SIZE(rx_buffers),
	[POLLING] = 2,
	[REGIONS] = 2,
};

#define JUMBO       4000 /* bytes of the largest frame in a row where it fits */
#define JUMBO_TX    9216
#define RX_USED_MAX 256 /* buffers of a receive ring, however large it is */

static uint8_t covered[PROPERTIES][VALUES_MAX][PROPERTIES][VALUES_MAX];

static uint32_t random_state = 12345;

static uint32_t random_below(uint32_t bound)
{
	random_state = random_state * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)random_state * bound >> 32);
}

static bool header_is_long(const uint8_t *side)
{
	return side[MERGEABLE] || side[VERSION_1];
}

/* Descriptors of a chain that covers so many bytes. */
static uint32_t chain_length(const uint8_t *side, uint32_t bytes)
{
	uint32_t piece = pieces[side[PIECE]];

	if (!piece)
		return 1U + side[HEADER_APART];
	return side[HEADER_APART] + (bytes + piece - 1) / piece;
}

static uint32_t rx_buffer(const uint8_t *side)
{
	return rx_buffers[side[RX_BUFFER]];
}

static uint32_t tx_buffer(const uint8_t *side)
{
	return pieces[side[PIECE]] == 7 ? 2048 : JUMBO_TX;
}

/* Receive buffers that the ring has room for. */
static uint32_t rx_count(const uint8_t *side)
{
	uint32_t size = 1U << side[RX_SIZE];
	uint32_t chain = side[INDIRECT] ? 1 : chain_length(side, rx_buffer(side));

	size = size / chain;
	return min(size, (uint32_t)RX_USED_MAX);
}

/* The largest frame that this side can receive, all its buffers together. */
static uint32_t rx_frame_max(const uint8_t *side)
{
	uint32_t header = header_is_long(side) ? VIRTIO_NET_HDR_LEN : VIRTIO_NET_HDR_LEN_LEGACY;

	uint32_t most = (side[MERGEABLE] ? rx_count(side) : 1) * rx_buffer(side) - header;

	/* A packet may lie in 1024 pieces. */
	return pieces[side[PIECE]] == 7 ? min(most, (uint32_t)JUMBO) : most;
}

static bool tx_fits(const uint8_t *side, uint32_t frame)
{
	uint32_t bytes = frame + VIRTIO_NET_HDR_LEN;

	return bytes <= tx_buffer(side) && (side[INDIRECT] || chain_length(side, bytes) <= 1U << side[TX_SIZE]);
}

static bool side_is_legal(const uint8_t *side)
{
	/* One descriptor has at most NETFRONT_PIECES_MAX pieces. */
	if (chain_length(side, rx_buffer(side)) > 1000)
		return false;
	/* Whoever takes large segments has to give room for them. */
	if (side[OFFLOAD] >= OFFLOAD_TSO && rx_frame_max(side) < JUMBO_TX)
		return false;
	return rx_count(side) > 0 && rx_frame_max(side) >= 1514 && tx_fits(side, 1514);
}

static void random_row(uint8_t row[PROPERTIES])
{
	for (unsigned int side = 0; side < 2; side++) {
		uint8_t *values = row + side * SIDE_PROPERTIES;

		do {
			for (unsigned int i = 0; i < SIDE_PROPERTIES; i++)
				values[i] = (uint8_t)random_below(value_counts[i]);
		} while (!side_is_legal(values));
	}
}

static unsigned int cover(const uint8_t row[PROPERTIES], bool mark)
{
	unsigned int news = 0;

	for (unsigned int i = 0; i < PROPERTIES; i++) {
		for (unsigned int j = i + 1; j < PROPERTIES; j++) {
			news += !covered[i][row[i]][j][row[j]];
			if (mark)
				covered[i][row[i]][j][row[j]] = 1;
		}
	}
	return news;
}

/* The best of many; false if none of them has a pair that was not there before. */
static bool choose_row(uint8_t row[PROPERTIES])
{
	uint8_t candidate[PROPERTIES];
	unsigned int best = 0;

	for (unsigned int i = 0; i < 200; i++) {
		unsigned int news;

		random_row(candidate);
		news = cover(candidate, false);
		if (news > best) {
			best = news;
			memcpy(row, candidate, sizeof(candidate));
		}
	}
	if (best)
		cover(row, true);
	return best > 0;
}

static uint64_t offload_features(uint8_t offload)
{
	switch (offload) {
	case OFFLOAD_CSUM:
		return NETFRONT_FEATURES_CSUM;
	case OFFLOAD_TSO:
		return NETFRONT_FEATURES_TSO;
	case OFFLOAD_USO:
		return NETFRONT_FEATURES_TSO | NETFRONT_FEATURES_USO;
	default:
		return 0;
	}
}

static void configure(const uint8_t *side, struct netfront_config *config)
{
	*config = (struct netfront_config){
		.header_apart = side[HEADER_APART],
		.polling = side[POLLING],
		.regions = side[REGIONS] ? 3 : 1,
		.mem_slots = side[REGIONS],
		.piece = pieces[side[PIECE]],
		.rx_size = 1U << side[RX_SIZE],
		.tx_size = 1U << side[TX_SIZE],
		.rx_buffer = rx_buffer(side),
		.rx_buffers = rx_count(side),
		.tx_buffer = tx_buffer(side),
		.features = offload_features(side[OFFLOAD]) | VIRTIO_BIT(VIRTIO_F_ANY_LAYOUT) |
			    (uint64_t)side[MERGEABLE] << VIRTIO_NET_F_MRG_RXBUF |
			    (uint64_t)side[INDIRECT] << VIRTIO_RING_F_INDIRECT_DESC |
			    (uint64_t)side[EVENT_IDX] << VIRTIO_RING_F_EVENT_IDX |
			    (uint64_t)side[VERSION_1] << VIRTIO_F_VERSION_1,
	};
	config->required = config->features;
}

/* Frames of several sizes, and what the sender's offloads allow. */
static unsigned int choose_frames(const uint8_t *from, const uint8_t *to, struct traffic_frame frames[32])
{
	static const uint32_t sizes[] = {14, 60, 115, 116, 117, 128, 129, 700, 1514, JUMBO};
	static const struct frame_spec specs[] = {
		{.version = 4, .proto = IPPROTO_UDP, .payload = 333},
		{.version = 6, .proto = IPPROTO_TCP, .payload = 1000, .tags = 1},
		{.version = 4, .proto = IPPROTO_TCP, .payload = 3600, .tcp_options = 12},
		{.version = 6, .proto = IPPROTO_TCP, .payload = 8801},
		{.version = 4, .proto = IPPROTO_UDP, .payload = 3000},
		{.version = 6, .proto = IPPROTO_UDP, .payload = 2999, .tags = 1},
	};
	static const unsigned int spec_counts[OFFLOADS] = {0, 2, 4, 6};
	unsigned int count = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (tx_fits(from, sizes[i]) && sizes[i] <= rx_frame_max(to))
			frames[count++] = (struct traffic_frame){.size = sizes[i]};
	}
	for (unsigned int i = 0; i < spec_counts[from[OFFLOAD]]; i++) {
		/* The headers of all of them fit into 200 bytes. */
		if (!tx_fits(from, specs[i].payload + 200))
			continue;
		frames[count++] = (struct traffic_frame){
			.spec = &specs[i],
			.gso_size = i < 2 ? 0 : 1201,
		};
	}
	return count;
}

static void describe(const char *name, const uint8_t *side)
{
	print_error("%s: offload %u mergeable %u indirect %u event %u version1 %u apart %u piece %u "
		    "rx %u tx %u buffer %u polling %u regions %u\n",
		    name, side[OFFLOAD], side[MERGEABLE], side[INDIRECT], side[EVENT_IDX], side[VERSION_1],
		    side[HEADER_APART], pieces[side[PIECE]], 1U << side[RX_SIZE], 1U << side[TX_SIZE], rx_buffer(side),
		    side[POLLING], side[REGIONS]);
}

struct matrix {
	struct testbed bed;
	uint32_t ports[2];
	uint8_t row[PROPERTIES];
};

static void run_row(struct matrix *matrix)
{
	const uint8_t *sides[2] = {matrix->row, matrix->row + SIDE_PROPERTIES};
	struct netfront *ends[2];
	struct netfront_config config;
	struct traffic_frame frames[32];

	for (unsigned int i = 0; i < 2; i++) {
		configure(sides[i], &config);
		ends[i] = testbed_attach(&matrix->bed, i ? "b" : "a", &config);
	}
	for (unsigned int i = 0; i < 2; i++)
		testbed_wait_state(&matrix->bed, matrix->ports[i], DP_PORT_UP);
	for (unsigned int i = 0; i < 2; i++) {
		unsigned int count = choose_frames(sides[i], sides[!i], frames);
		struct traffic traffic = {
			.from = ends[i],
			.to = ends[!i],
			.frames = frames,
			.frame_count = count,
			/* More than once round the small rings. */
			.limit = 2 * count,
			.dst = 2,
			.src = 1,
		};

		traffic_run(&traffic);
	}
	netfront_close(ends[0]);
	netfront_close(ends[1]);
}

static struct matrix *running;

/* cmocka does not say in which row it failed. */
static int tell_row(void **state)
{
	(void)state;
	if (running) {
		describe("a", running->row);
		describe("b", running->row + SIDE_PROPERTIES);
		kill(running->bed.core, SIGKILL);
	}
	return 0;
}

static void every_pair_of_properties(void **state)
{
	/* The worst that a slow machine may do to the test must not look like a full receiver. */
	const struct dp_port_add options = {.wait_us = 10000000};
	static struct matrix matrix;
	unsigned int rows = 0;
	struct stats_port stats;

	(void)state;
	testbed_start(&matrix.bed, 1);
	matrix.ports[0] = testbed_port(&matrix.bed, "a", &options);
	matrix.ports[1] = testbed_port(&matrix.bed, "b", &options);
	testbed_wire(&matrix.bed, matrix.ports[0], matrix.ports[1]);
	testbed_wire(&matrix.bed, matrix.ports[1], matrix.ports[0]);
	running = &matrix;
	while (choose_row(matrix.row)) {
		run_row(&matrix);
		rows++;
	}
	running = NULL;
	for (unsigned int i = 0; i < 2; i++) {
		testbed_stats(&matrix.bed, matrix.ports[i], &stats);
		for (unsigned int reason = 0; reason < DROP_COUNT; reason++)
			assert_int_equal(stats.drops[reason], 0);
	}
	testbed_stop(&matrix.bed);
	print_message("%u rows\n", rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(every_pair_of_properties, tell_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
