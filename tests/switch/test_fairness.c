/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One port floods, another sends now and then, or as much as it can: its packets all arrive, after no more than so
 * many of the flooder's. Counted, not timed: both send to one receiver, who sees in which order the switch took them;
 * the switch's counters say how many there were when another one was sent.
 *
 * Two regimes. While the flood is limited by the receiver's buffers, the test's thread plays everybody, and before it
 * gives some buffers back both senders' rings are full: what comes then is the switch's choice alone. While the flood
 * is limited by the switch, threads of their own flood and receive; as they and the switch share CPUs, a single packet
 * may find anything, and the median counts.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/compiler.h"
#include "testbed.h"
#include "traffic.h"

#define RECEIVER_ID 9
#define FLOODER_ID  1
#define OTHER_ID    2
#define SAMPLES     61u
#define SMALL       64u
/* A kick is seen within 16 rounds; a turn is 32 packets or 256 segments. A sender that is served already waits a turn.
 */
#define ROUNDS      16u

static const struct dp_port_add patient = {.wait_us = 10000000};

enum kind { KIND_SMALL, KIND_LARGE, KIND_MISS };

struct fair {
	struct testbed bed;
	uint32_t ports[3]; /* flooder, other, receiver */
	struct netfront *flooder, *other, *receiver;
	enum kind kind;
	struct frame large;
	uint32_t misses;
	/* at the receiver */
	uint64_t from_flooder, from_other;
	/* with threads, atomic */
	pthread_t threads[2];
	bool stop;
	uint32_t failed;   /* source line */
	uint32_t arrived;  /* packets of the other's */
	uint64_t position; /* of the last one of them: packets that the receiver got before it */
};

static void nap_us(long us)
{
	nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

static void start(struct fair *fair, enum kind kind, uint32_t rx_buffers)
{
	const struct frame_spec spec = {.version = 4, .proto = IPPROTO_TCP, .payload = 60000};
	const struct netfront_config flooder = {
		.features = NETFRONT_FEATURES | (kind == KIND_LARGE ? NETFRONT_FEATURES_TSO : 0),
		.tx_size = kind == KIND_LARGE ? 64 : 256,
		.tx_buffer = kind == KIND_LARGE ? 65536 : 0,
	};
	const struct netfront_config receiver = {.rx_size = 1024, .rx_buffers = rx_buffers};
	uint8_t mac[6];

	memset(fair, 0, sizeof(*fair));
	fair->kind = kind;
	testbed_start(&fair->bed, 1);
	fair->ports[0] = testbed_port(&fair->bed, "flooder", &patient);
	fair->ports[1] = testbed_port(&fair->bed, "other", &patient);
	fair->ports[2] = testbed_port(&fair->bed, "receiver", &patient);
	fair->flooder = testbed_attach(&fair->bed, "flooder", &flooder);
	fair->other = testbed_attach(&fair->bed, "other", NULL);
	fair->receiver = testbed_attach(&fair->bed, "receiver", &receiver);
	testbed_mac(mac, RECEIVER_ID);
	for (unsigned int i = 0; i < 2; i++)
		testbed_flow(&fair->bed, fair->ports[i], mac, &fair->ports[2], 1);
	for (unsigned int i = 0; i < 3; i++)
		testbed_wait_state(&fair->bed, fair->ports[i], DP_PORT_UP);
	frame_build(&fair->large, &spec);
	testbed_mac(fair->large.data, RECEIVER_ID);
	testbed_mac(fair->large.data + 6, FLOODER_ID);
}

static void stop(struct fair *fair)
{
	netfront_close(fair->flooder);
	netfront_close(fair->other);
	netfront_close(fair->receiver);
	testbed_stop(&fair->bed);
}

static int send_one(struct fair *fair)
{
	const struct virtio_net_hdr header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = (uint16_t)fair->large.payload,
		.gso_size = 1448,
		.csum_start = (uint16_t)fair->large.l4,
		.csum_offset = 16,
	};
	struct iovec iov = {fair->large.data, fair->large.length};
	uint8_t frame[SMALL];

	if (fair->kind == KIND_LARGE)
		return netfront_send(fair->flooder, 0, &header, &iov, 1, false);
	testbed_frame(frame, sizeof(frame), RECEIVER_ID, FLOODER_ID, 0);
	if (fair->kind == KIND_MISS) {
		frame[0] = 0x06;
		fair->misses++;
		memcpy(frame + 2, &fair->misses, sizeof(fair->misses));
	}
	return netfront_send_frame(fair->flooder, 0, frame, sizeof(frame));
}

static int send_other(struct fair *fair)
{
	uint8_t frame[SMALL];

	testbed_frame(frame, sizeof(frame), RECEIVER_ID, OTHER_ID, 0);
	return netfront_send_frame(fair->other, 0, frame, sizeof(frame));
}

/* Counts who sent what has come, up to max of them. Returns how many, or a negative errno. */
static int receive(struct fair *fair, unsigned int max)
{
	struct netfront_frame frames[32];
	int n = netfront_receive(fair->receiver, 0, frames, min(max, (unsigned int)ARRAY_SIZE(frames)));

	for (int i = 0; i < n; i++) {
		uint8_t from[12];

		netfront_frame_copy(&frames[i], 0, from, sizeof(from));
		if (from[11] == FLOODER_ID) {
			fair->from_flooder++;
			continue;
		}
		fair->from_other++;
		store_relaxed(&fair->position, fair->from_flooder + fair->from_other - 1);
		store_release(&fair->arrived, (uint32_t)fair->from_other);
	}
	return n;
}

static void fill(struct fair *fair, bool other)
{
	int error;

	while ((error = send_one(fair)) == 0)
		;
	assert_int_equal(error, -ENOBUFS);
	while (other && (error = send_other(fair)) == 0)
		;
	assert_int_equal(error, -ENOBUFS);
}

/* Both rings are full all the time; the receiver gives `step` buffers back, and then as many again when they are used.
 */
static void scarce(enum kind kind, unsigned int step, unsigned int share)
{
	static struct fair fair;
	const uint64_t wanted = 40ULL * step * share;
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;

	start(&fair, kind, step);
	while (fair.from_flooder + fair.from_other < wanted && clock_now_ns() < deadline) {
		unsigned int got = 0;

		fill(&fair, true);
		while (got < step && clock_now_ns() < deadline) {
			int n = receive(&fair, step - got);

			assert_true(n >= 0);
			got += (unsigned int)n;
			if (n == 0)
				assert_true(netfront_wait(fair.receiver, 0, NETFRONT_WAIT_RX, 10) >= 0);
		}
	}
	if (fair.from_other < wanted / share)
		print_error("%u at a time: %llu and %llu\n", step, (unsigned long long)fair.from_flooder,
			    (unsigned long long)fair.from_other);
	assert_in_range(fair.from_other, wanted / share, wanted);
	assert_in_range(fair.from_flooder, wanted / share, wanted);
	stop(&fair);
}

static void scarce_buffers_are_shared(void **state)
{
	static const unsigned int steps[] = {8, 32, 100, 500};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++)
		scarce(KIND_SMALL, steps[i], 4);
}

/* In segments, which are what costs: a turn of 256 against one of 32. */
static void scarce_buffers_are_shared_with_segments(void **state)
{
	static const unsigned int steps[] = {32, 100, 500};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++)
		scarce(KIND_LARGE, steps[i], 16);
}

/* The threads' */

static void *flooder_main(void *arg)
{
	struct fair *fair = arg;

	while (!load_acquire(&fair->stop)) {
		int error = send_one(fair);

		if (error == -ENOBUFS)
			error = netfront_wait(fair->flooder, 0, NETFRONT_WAIT_TX, 100);
		if (error < 0)
			store_release(&fair->failed, __LINE__);
	}
	return NULL;
}

static void *receiver_main(void *arg)
{
	struct fair *fair = arg;

	while (!load_acquire(&fair->stop)) {
		int n = receive(fair, UINT32_MAX);

		if (n == 0)
			n = netfront_wait(fair->receiver, 0, NETFRONT_WAIT_RX, 100);
		if (n < 0)
			store_release(&fair->failed, __LINE__);
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Of the flooder's packets: what the receiver was given, or, without any there, what the switch is done with. */
static uint64_t count_of(struct fair *fair)
{
	struct stats_port stats;

	testbed_stats(&fair->bed, fair->ports[fair->kind == KIND_MISS ? 0 : 2], &stats);
	return fair->kind == KIND_MISS ? stats.in_packets : stats.out_packets;
}

static void busy(enum kind kind, unsigned int bound)
{
	static struct fair fair;
	uint64_t behind[SAMPLES];

	start(&fair, kind, 0);
	assert_int_equal(pthread_create(&fair.threads[0], NULL, flooder_main, &fair), 0);
	assert_int_equal(pthread_create(&fair.threads[1], NULL, receiver_main, &fair), 0);
	for (unsigned int i = 0; i < SAMPLES; i++) {
		uint64_t deadline = clock_now_ns() + PATIENCE_NS;
		uint64_t before, after;

		/* Long enough that nobody expects another one. */
		nap_us(2000);
		before = count_of(&fair);
		assert_int_equal(send_other(&fair), 0);
		while (load_acquire(&fair.arrived) != i + 1) {
			assert_int_equal(load_acquire(&fair.failed), 0);
			assert_true(clock_now_ns() < deadline);
			nap_us(20);
		}
		after = kind == KIND_MISS ? count_of(&fair) : load_relaxed(&fair.position);
		/* What a turn is about to publish is counted before. */
		behind[i] = after - min(before, after);
	}
	store_release(&fair.stop, true);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(fair.threads[i], NULL), 0);
	assert_int_equal(fair.failed, 0);
	qsort(behind, SAMPLES, sizeof(behind[0]), compare);
	print_message("behind so many of the flooder's: %llu, %llu, %llu\n", (unsigned long long)behind[0],
		      (unsigned long long)behind[SAMPLES / 2], (unsigned long long)behind[SAMPLES - 1]);
	/* There was something to be behind of. */
	assert_in_range(count_of(&fair), SAMPLES, UINT64_MAX);
	assert_in_range(behind[SAMPLES / 2], 0, bound);
	stop(&fair);
}

static void behind_small_packets(void **state)
{
	(void)state;
	busy(KIND_SMALL, ROUNDS * 32 * 2);
}

static void behind_segments(void **state)
{
	(void)state;
	busy(KIND_LARGE, ROUNDS * 256 * 2);
}

static void behind_misses(void **state)
{
	(void)state;
	busy(KIND_MISS, ROUNDS * 32 * 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scarce_buffers_are_shared),
		cmocka_unit_test(scarce_buffers_are_shared_with_segments),
		cmocka_unit_test(behind_small_packets),
		cmocka_unit_test(behind_segments),
		cmocka_unit_test(behind_misses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
