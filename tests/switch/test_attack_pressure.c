/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receivers that take nothing and senders that make work for the control plane: both wait and lose for a while by
 * name, and nobody else does.
 */
#include "attack.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"

#define EVIL_ID  2
#define OTHER_ID 9
#define FRAMES   100u

static void nap_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void send_to(struct netfront *from, uint8_t id, uint32_t seed)
{
	uint8_t frame[ATTACK_FRAME];

	testbed_frame(frame, sizeof(frame), id, 1, seed);
	assert_int_equal(netfront_send_frame(from, 0, frame, sizeof(frame)), 0);
}

static void expect_from(struct netfront *to, uint8_t id, uint32_t seed)
{
	uint8_t frame[ATTACK_FRAME], received[2048];

	testbed_frame(frame, sizeof(frame), id, 1, seed);
	assert_int_equal(testbed_receive(to, 0, NULL, received, sizeof(received)), sizeof(frame));
	assert_memory_equal(received, frame, sizeof(frame));
}

/* A receiver that gives no buffers back costs its sender a bounded time, and not the sender's other receivers. */
static void a_receiver_that_takes_nothing(void **state)
{
	const struct netfront_config config = {.rx_buffers = 4};
	const struct dp_port_add options = {.wait_us = 20000};
	struct stats_port stats, before;
	struct netfront *other;
	struct attack attack;
	uint32_t other_port;
	uint8_t mac[6];

	(void)state;
	attack_start(&attack, 1, &config, NULL, &options);
	attack_expect_traffic(&attack);
	other_port = testbed_port(&attack.bed, "other", NULL);
	other = testbed_attach(&attack.bed, "other", NULL);
	testbed_wait_state(&attack.bed, other_port, DP_PORT_UP);
	assert_int_equal(datapath_client_flow_del(attack.bed.client, attack.flows[1]), 0);
	testbed_mac(mac, EVIL_ID);
	testbed_flow(&attack.bed, attack.peer_port, mac, &attack.evil_port, 1);
	testbed_mac(mac, OTHER_ID);
	testbed_flow(&attack.bed, attack.peer_port, mac, &other_port, 1);
	testbed_stats(&attack.bed, attack.evil_port, &before);
	for (uint32_t i = 0; i < FRAMES; i++) {
		send_to(attack.peer, EVIL_ID, i);
		send_to(attack.peer, OTHER_ID, i);
	}
	for (uint32_t i = 0; i < FRAMES; i++)
		expect_from(other, OTHER_ID, i);
	attack_expect_drops(&attack, attack.evil_port, &before, DROP_OUT_FULL, FRAMES - 4);
	testbed_stats(&attack.bed, attack.peer_port, &stats);
	assert_in_range(stats.waits, 1, FRAMES);
	/* When it takes again, it gets again. */
	for (uint32_t i = 0; i < 4; i++)
		expect_from(attack.evil, EVIL_ID, i);
	send_to(attack.peer, EVIL_ID, FRAMES);
	expect_from(attack.evil, EVIL_ID, FRAMES);
	netfront_close(other);
	attack_stop(&attack);
}

static void a_receiver_that_comes_back_in_time(void **state)
{
	const struct netfront_config config = {.rx_buffers = 4};
	const struct dp_port_add options = {.wait_us = 10000000};
	struct stats_port stats;
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &config, NULL, &options);
	attack_expect_traffic(&attack);
	for (uint32_t i = 0; i < FRAMES; i++)
		send_to(attack.peer, EVIL_ID, i);
	nap_ms(300);
	for (uint32_t i = 0; i < FRAMES; i++)
		expect_from(attack.evil, EVIL_ID, i);
	testbed_stats(&attack.bed, attack.evil_port, &stats);
	for (unsigned int i = 0; i < DROP_COUNT; i++)
		assert_int_equal(stats.drops[i], 0);
	attack_drain(&attack);
	attack_stop(&attack);
}

/* Pages that the core has in use. */
static unsigned long resident(pid_t pid)
{
	unsigned long pages;
	char text[64], *end;
	FILE *file;

	snprintf(text, sizeof(text), "/proc/%d/statm", (int)pid);
	file = fopen(text, "r");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	/* The size, then what is resident. */
	strtoul(text, &end, 10);
	pages = strtoul(end, NULL, 10);
	assert_true(pages > 0);
	fclose(file);
	return pages;
}

/* Frames from and to addresses that nobody knows, for so long. True if a miss of the peer's came up meanwhile. */
static bool flood(struct attack *attack, uint64_t ns, uint64_t *sent)
{
	uint64_t deadline = clock_now_ns() + ns, next = 0;
	struct datapath_event event;
	bool seen = false;
	uint8_t frame[64];

	testbed_frame(frame, sizeof(frame), 0, 0, 0);
	while (clock_now_ns() < deadline) {
		memcpy(frame + 2, sent, 4);
		memcpy(frame + 8, sent, 4);
		if (netfront_send_frame(attack->evil, 0, frame, sizeof(frame)) == 0)
			++*sent;
		/* An honest port's frame now and then, and a control plane that keeps up. */
		if (clock_now_ns() > next) {
			next = clock_now_ns() + 10 * NS_PER_MS;
			netfront_send_frame(attack->peer, 0, frame, sizeof(frame));
		}
		while (datapath_client_event(attack->bed.client, &event) == 0)
			seen |= event.type == DP_EVENT_UPCALL && event.upcall.key.in_port == attack->peer_port;
	}
	return seen;
}

static void misses_without_end(void **state)
{
	unsigned long before, after;
	struct stats_port stats;
	struct attack attack;
	uint64_t sent = 0;

	(void)state;
	attack_start(&attack, 1, NULL, NULL, NULL);
	attack_expect_traffic(&attack);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(datapath_client_flow_del(attack.bed.client, attack.flows[i]), 0);
	assert_true(flood(&attack, NS_PER_S, &sent));
	before = resident(attack.bed.core);
	assert_true(flood(&attack, NS_PER_S, &sent));
	after = resident(attack.bed.core);
	assert_in_range(after, 0, before + 1024);
	attack_expect_others(&attack);
	/* All have waited enough by then. */
	testbed_wait_in(&attack.bed, attack.evil_port, sent + 1);
	nap_ms(200);
	testbed_stats(&attack.bed, attack.evil_port, &stats);
	for (unsigned int i = 0; i < DROP_COUNT; i++) {
		if (i == DROP_NO_FLOW || i == DROP_UPCALL_LIMIT)
			assert_in_range(stats.drops[i], 1, sent);
		else
			assert_int_equal(stats.drops[i], 0);
	}
	assert_int_equal(stats.drops[DROP_NO_FLOW] + stats.drops[DROP_UPCALL_LIMIT], sent);
	/* As soon as there are flows, all is well. */
	attack.flows[0] = testbed_wire(&attack.bed, attack.evil_port, attack.peer_port);
	attack.flows[1] = testbed_wire(&attack.bed, attack.peer_port, attack.evil_port);
	attack_drain(&attack);
	attack_stop(&attack);
}

/* The same with nobody to hear of it. */
static void misses_without_a_controller(void **state)
{
	struct stats_port stats;
	struct attack attack;
	uint8_t frame[64];

	(void)state;
	attack_start(&attack, 1, NULL, NULL, NULL);
	attack_expect_traffic(&attack);
	assert_int_equal(datapath_client_flow_del(attack.bed.client, attack.flows[0]), 0);
	testbed_close_client(&attack.bed);
	for (uint32_t i = 0; i < 2000; i++) {
		testbed_frame(frame, sizeof(frame), (uint8_t)i, (uint8_t)(i >> 8), i);
		while (netfront_send_frame(attack.evil, 0, frame, sizeof(frame)) == -ENOBUFS)
			nap_ms(1);
	}
	attack_expect_others(&attack);
	testbed_wait_in(&attack.bed, attack.evil_port, 2001);
	testbed_open_client(&attack.bed);
	nap_ms(200);
	testbed_stats(&attack.bed, attack.evil_port, &stats);
	assert_int_equal(stats.drops[DROP_NO_FLOW] + stats.drops[DROP_UPCALL_LIMIT], 2000);
	attack.flows[0] = testbed_wire(&attack.bed, attack.evil_port, attack.peer_port);
	attack_drain(&attack);
	attack_stop(&attack);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_receiver_that_takes_nothing),
		cmocka_unit_test(a_receiver_that_comes_back_in_time),
		cmocka_unit_test(misses_without_end),
		cmocka_unit_test(misses_without_a_controller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
