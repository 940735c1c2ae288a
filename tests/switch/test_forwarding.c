/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data plane between two front ends: frames arrive as they were sent, in order, copied once.
 */
#include "testbed.h"

#include <errno.h>
#include <string.h>

#define FRAMES 5000

/* The worst that a slow machine may do to the test must not look like a full receiver. */
static const struct dp_port_add patient = {.wait_us = 10000000};

static void frames_of_all_sizes(void **state)
{
	struct testbed bed;
	struct netfront *a, *b;

	(void)state;
	testbed_start(&bed, 1);
	uint32_t pa = testbed_port(&bed, "a", &patient);
	uint32_t pb = testbed_port(&bed, "b", &patient);

	a = testbed_attach(&bed, "a", NULL);
	b = testbed_attach(&bed, "b", NULL);
	testbed_wire(&bed, pa, pb);
	testbed_wire(&bed, pb, pa);
	testbed_wait_state(&bed, pa, DP_PORT_UP);
	testbed_wait_state(&bed, pb, DP_PORT_UP);
	for (uint32_t size = 14; size < 1600; size += 1 + size / 16)
		testbed_expect_traffic(a, b, size);
	netfront_close(a);
	netfront_close(b);
	testbed_stop(&bed);
}

/* Sends FRAMES frames as fast as it goes and checks that all arrive, in order; nothing may be lost. */
static void stream(struct netfront *a, struct netfront *b, uint32_t size)
{
	uint8_t frame[2048], received[2048];
	uint32_t sent = 0, got = 0;

	while (got < FRAMES) {
		struct netfront_frame frames[32];
		int n;

		while (sent < FRAMES) {
			testbed_frame(frame, size, 2, 1, sent);
			memcpy(frame + 14, &sent, sizeof(sent));
			int error = netfront_send_frame(a, 0, frame, size);

			if (error == -ENOBUFS)
				break;
			assert_int_equal(error, 0);
			sent++;
		}
		n = netfront_receive(b, 0, frames, 32);
		assert_true(n >= 0);
		for (int i = 0; i < n; i++, got++) {
			testbed_frame(frame, size, 2, 1, got);
			memcpy(frame + 14, &got, sizeof(got));
			assert_int_equal(netfront_frame_copy(&frames[i], 0, received, sizeof(received)), size);
			assert_memory_equal(received, frame, size);
		}
		if (n == 0)
			assert_true(netfront_wait(b, 0, NETFRONT_WAIT_RX, 1000) >= 0);
	}
	assert_true(netfront_recycle(b, 0) >= 0);
}

/* Between two front ends and one worker the payload of a delivered unicast packet is copied exactly once. */
static void payload_is_copied_once(void **state)
{
	const uint32_t size = 1000;
	struct testbed bed;
	struct stats_worker totals;
	struct stats_port in, out;
	struct netfront *a, *b;

	(void)state;
	testbed_start(&bed, 1);
	uint32_t pa = testbed_port(&bed, "a", &patient);
	uint32_t pb = testbed_port(&bed, "b", &patient);

	a = testbed_attach(&bed, "a", NULL);
	b = testbed_attach(&bed, "b", NULL);
	testbed_wire(&bed, pa, pb);
	testbed_wait_state(&bed, pb, DP_PORT_UP);
	stream(a, b, size);
	testbed_wait_in(&bed, pa, FRAMES);
	testbed_totals(&bed, &totals);
	testbed_stats(&bed, pa, &in);
	testbed_stats(&bed, pb, &out);
	assert_int_equal(in.in_packets, FRAMES);
	assert_int_equal(in.in_bytes, (uint64_t)FRAMES * size);
	assert_int_equal(out.out_packets, FRAMES);
	assert_int_equal(totals.delivered_bytes, (uint64_t)FRAMES * size);
	/* What the copies moved is what the receiver was told to have: each byte once. */
	assert_int_equal(totals.copied_bytes, totals.delivered_bytes);
	/*
	 * Only headers pass through private memory: two cache lines a frame, each time that it is taken. One that waits
	 * is taken in every turn, and nobody knows how many turns a busy machine makes of that, so they are counted.
	 */
	assert_int_equal(totals.staged_bytes, (FRAMES + totals.taken_again) * 128);
	assert_true(totals.taken_again >= in.waits);
	for (unsigned int i = 0; i < DROP_COUNT; i++) {
		assert_int_equal(in.drops[i], 0);
		assert_int_equal(out.drops[i], 0);
	}
	netfront_close(a);
	netfront_close(b);
	testbed_stop(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_of_all_sizes),
		cmocka_unit_test(payload_is_copied_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
