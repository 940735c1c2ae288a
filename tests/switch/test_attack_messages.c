/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Front ends that change everything while traffic flows, and front ends that mean harm: memory taken away, calls that
 * block, answers that nobody reads, connections without end.
 */
#include "attack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "lib/clock.h"

#define ROUNDS 40
#define OTHERS 40u

/* Nothing may be lost for want of patience. */
static const struct dp_port_add patient = {.wait_us = 10000000};

static void send_one(struct netfront *from, uint32_t seed)
{
	uint8_t frame[ATTACK_FRAME];

	testbed_frame(frame, sizeof(frame), 2, 1, seed);
	assert_int_equal(netfront_send_frame(from, 0, frame, sizeof(frame)), 0);
}

static void expect_one(struct netfront *to, uint32_t seed)
{
	uint8_t frame[ATTACK_FRAME], received[2048];

	testbed_frame(frame, sizeof(frame), 2, 1, seed);
	assert_int_equal(testbed_receive(to, 0, NULL, received, sizeof(received)), sizeof(frame));
	assert_memory_equal(received, frame, sizeof(frame));
}

/* Frames under way in both directions while `change` is made. */
static void expect_traffic_over(struct attack *attack, uint32_t round, void (*change)(struct attack *attack))
{
	for (uint32_t i = 0; i < 8; i++) {
		send_one(attack->evil, round * 8 + i);
		send_one(attack->peer, round * 8 + i);
	}
	change(attack);
	for (uint32_t i = 0; i < 8; i++) {
		expect_one(attack->peer, round * 8 + i);
		expect_one(attack->evil, round * 8 + i);
	}
}

static void change_memory_table(struct attack *attack)
{
	assert_int_equal(netfront_share_memory(attack->evil), 0);
}

/* As memory is plugged and unplugged. */
static void change_regions(struct attack *attack)
{
	struct netfront *nf = attack->evil;
	const struct vhost_user_region region = {
		.guest_addr = NETFRONT_GUEST_BASE << 8,
		.user_addr = 0x10000,
		.size = nf->memory_size,
	};

	assert_int_equal(vhost_frontend_add_mem_region(&nf->fe, &region, nf->memfd), 0);
	assert_int_equal(vhost_frontend_rem_mem_region(&nf->fe, &region), 0);
}

static void change_calls(struct attack *attack)
{
	struct netfront *nf = attack->evil;

	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(vhost_frontend_set_vring_fd(&nf->fe, VHOST_USER_SET_VRING_CALL, nf->queues[i].index,
							     nf->queues[i].call_fd),
				 0);
}

static void change_kicks(struct attack *attack)
{
	struct netfront *nf = attack->evil;

	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(vhost_frontend_set_vring_fd(&nf->fe, VHOST_USER_SET_VRING_KICK, nf->queues[i].index,
							     nf->queues[i].kick_fd),
				 0);
}

static void change_enabled(struct attack *attack)
{
	struct netfront *nf = attack->evil;
	unsigned int index = netfront_tx(nf, 0)->index;

	assert_int_equal(vhost_frontend_set_vring_enable(&nf->fe, index, false), 0);
	assert_int_equal(vhost_frontend_set_vring_enable(&nf->fe, index, true), 0);
}

static void change_rings(struct attack *attack)
{
	struct netfront_queue *tx = netfront_tx(attack->evil, 0);

	assert_int_equal(netfront_stop_queue(attack->evil, tx), 0);
	assert_int_equal(netfront_start_queue(attack->evil, tx), 0);
}

static void changes_under_traffic(void **state)
{
	static void (*const changes[])(struct attack * attack) = {change_memory_table, change_regions, change_calls,
								  change_kicks,        change_enabled, change_rings};
	const struct netfront_config config = {.regions = 3, .ack = true};
	struct attack attack;

	(void)state;
	attack_start(&attack, 2, &config, NULL, &patient);
	for (uint32_t round = 0; round < ROUNDS * ARRAY_SIZE(changes); round++)
		expect_traffic_over(&attack, round, changes[round / ROUNDS]);
	attack_stop(&attack);
}

/* Without their buffers frames are lost, without the rings there are none; nothing else happens. */
static void regions_that_are_in_use(void **state)
{
	const struct netfront_config config = {.regions = 3, .ack = true};
	struct attack attack;

	(void)state;
	attack_start(&attack, 2, &config, NULL, NULL);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct netfront *nf = attack.evil;
		const struct vhost_user_region *region = &nf->regions[round % nf->region_count];

		for (uint32_t i = 0; i < 8; i++) {
			send_one(nf, i);
			send_one(attack.peer, i);
		}
		assert_int_equal(vhost_frontend_rem_mem_region(&nf->fe, region), 0);
		assert_int_equal(vhost_frontend_add_mem_region(&nf->fe, region, nf->memfd), 0);
		/* Buffers without memory came back empty, which no driver takes for a frame. */
		attack_reconnect(&attack);
		attack_drain(&attack);
	}
	attack_stop(&attack);
}

static void disconnects_under_traffic(void **state)
{
	struct attack attack;

	(void)state;
	attack_start(&attack, 2, NULL, NULL, NULL);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < 100; i++) {
			uint8_t frame[ATTACK_FRAME];

			testbed_frame(frame, sizeof(frame), 2, 1, i);
			/* Full or not: it is about what is under way when the connection ends. */
			netfront_send_frame(attack.evil, 0, frame, sizeof(frame));
			netfront_send_frame(attack.peer, 0, frame, sizeof(frame));
		}
		attack_reconnect(&attack);
		while (netfront_reclaim(attack.peer, 0) > 0)
			;
		attack_drain(&attack);
	}
	attack_stop(&attack);
}

/* A front end that hangs up with half a message sent, or half-way through its set-up. */
static void set_up_half_way(struct attack *attack, unsigned int step)
{
	struct netfront *nf = attack->evil;
	const uint32_t half[2] = {VHOST_USER_SET_MEM_TABLE, VHOST_USER_VERSION};

	vhost_frontend_close(&nf->fe);
	assert_int_equal(netfront_connect(nf), 0);
	if (step > 0)
		assert_int_equal(netfront_negotiate(nf), 0);
	if (step > 1)
		assert_int_equal(netfront_share_memory(nf), 0);
	if (step > 2)
		assert_int_equal(netfront_start_queue(nf, netfront_tx(nf, 0)), 0);
	assert_int_equal(vhost_frontend_send_bytes(&nf->fe, half, sizeof(half), &nf->memfd, 1), 0);
	vhost_frontend_close(&nf->fe);
	netfront_tx(nf, 0)->started = false;
	testbed_wait_state(&attack->bed, attack->evil_port, DP_PORT_DOWN);
}

static unsigned int count_guest_mappings(pid_t pid)
{
	unsigned int count = 0;
	char line[512];
	FILE *maps;

	snprintf(line, sizeof(line), "/proc/%d/maps", (int)pid);
	maps = fopen(line, "r");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		count += strstr(line, "memfd:netfront") != NULL;
	fclose(maps);
	return count;
}

static void connections_leave_nothing(void **state)
{
	const struct netfront_config config = {.regions = 5};
	struct attack attack;
	unsigned int descriptors, mappings;

	(void)state;
	attack_start(&attack, 1, &config, NULL, NULL);
	set_up_half_way(&attack, 0);
	descriptors = testbed_count_descriptors(attack.bed.core);
	mappings = count_guest_mappings(attack.bed.core);
	for (unsigned int round = 0; round < 100; round++) {
		if (round % 4)
			set_up_half_way(&attack, round % 5);
		else
			attack_reconnect(&attack);
	}
	set_up_half_way(&attack, 0);
	assert_int_equal(testbed_count_descriptors(attack.bed.core), descriptors);
	assert_int_equal(count_guest_mappings(attack.bed.core), mappings);
	attack_reconnect(&attack);
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

static void shrink(struct attack *attack, uint64_t size)
{
	assert_int_equal(ftruncate(attack->evil->memfd, (off_t)size), 0);
}

/* Afterwards there is memory again, and the guest begins anew. */
static void expect_shrunk(struct attack *attack)
{
	attack_expect_disconnect(attack, "memory-shrunk");
	shrink(attack, attack->evil->memory_size);
	attack_reconnect(attack);
	/* What was read as zeros was a frame all the same. */
	attack_drain(attack);
}

static void memory_that_goes_away(void **state)
{
	const struct netfront_config config = {.unsealed = true};
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &config, NULL, NULL);
	for (unsigned int round = 0; round < 5; round++) {
		uint32_t size;

		/* A sender's buffers. */
		attack_expect_traffic(&attack);
		size = attack_write_frame(&attack, 0, NULL);
		shrink(&attack, attack.evil->buffers_offset);
		attack_offer_buffer(&attack, 0, size);
		expect_shrunk(&attack);

		/* A receiver's. */
		shrink(&attack, attack.evil->buffers_offset);
		send_one(attack.peer, round);
		expect_shrunk(&attack);

		/* Rings and all, by the sender's kick and by somebody else's frame. */
		shrink(&attack, 0);
		netfront_kick(netfront_tx(attack.evil, 0));
		expect_shrunk(&attack);
		shrink(&attack, 0);
		send_one(attack.peer, round);
		expect_shrunk(&attack);

		/* From the very beginning: nothing was ever sent. */
		attack_reconnect(&attack);
		shrink(&attack, 0);
		netfront_kick(netfront_tx(attack.evil, 0));
		expect_shrunk(&attack);
	}
	attack_stop(&attack);
}

static void set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	assert_true(flags >= 0);
	assert_int_equal(fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK), 0);
}

static void fill(int fd)
{
	const uint64_t most = UINT64_MAX - 1;
	uint64_t count;

	set_blocking(fd, false);
	if (read(fd, &count, sizeof(count)) < 0)
		assert_int_equal(errno, EAGAIN);
	assert_int_equal(write(fd, &most, sizeof(most)), sizeof(most));
	set_blocking(fd, true);
}

static void empty(int fd)
{
	uint64_t count;

	set_blocking(fd, false);
	assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
}

/* Nobody hangs for good, neither who calls nor who waits for that one in a grace period. */
static void calls_that_block(void **state)
{
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, NULL, NULL, NULL);
	for (unsigned int round = 0; round < 4; round++) {
		struct netfront_queue *rx = netfront_rx(attack.evil, 0);

		attack_expect_traffic(&attack);
		assert_true(netfront_arm(rx, 1));
		fill(rx->call_fd);
		/* The worker hangs; the main thread; the main thread waits for the worker that hangs. */
		if (round != 1)
			send_one(attack.peer, round);
		if (round != 0)
			assert_int_equal(vhost_frontend_set_vring_enable(&attack.evil->fe, 1, true), 0);
		attack_expect_disconnect(&attack, "call-blocked");
		empty(rx->call_fd);
		attack_reconnect(&attack);
	}
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

/* A turn calls as well when it has more receivers than it can keep in mind; nobody else calls anybody here. */
static void a_call_that_blocks_in_a_turn(void **state)
{
	struct netfront *from, *evil, *others[OTHERS];
	uint32_t from_port, to[1 + OTHERS];
	struct netfront_queue *rx;
	struct testbed bed;
	uint8_t mac[6], frame[ATTACK_FRAME], received[2048];

	(void)state;
	testbed_start(&bed, 1);
	from_port = testbed_port(&bed, "from", NULL);
	to[0] = testbed_port(&bed, "evil", NULL);
	from = testbed_attach(&bed, "from", NULL);
	evil = testbed_attach(&bed, "evil", NULL);
	for (unsigned int i = 0; i < OTHERS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "n%u", i);
		to[1 + i] = testbed_port(&bed, name, NULL);
		others[i] = testbed_attach(&bed, name, NULL);
		testbed_wait_state(&bed, to[1 + i], DP_PORT_UP);
	}
	testbed_mac(mac, 2);
	testbed_flow(&bed, from_port, mac, to, 1 + OTHERS);
	rx = netfront_rx(evil, 0);
	assert_true(netfront_arm(rx, 1));
	fill(rx->call_fd);
	/* The watchdog falls asleep. */
	usleep(500000);
	testbed_frame(frame, sizeof(frame), 2, 1, 0);
	assert_int_equal(netfront_send_frame(from, 0, frame, sizeof(frame)), 0);
	testbed_wait_fault(&bed, to[0], 1, "call-blocked");
	for (unsigned int i = 0; i < OTHERS; i++) {
		assert_int_equal(testbed_receive(others[i], 0, NULL, received, sizeof(received)), sizeof(frame));
		netfront_close(others[i]);
	}
	netfront_close(from);
	netfront_close(evil);
	testbed_stop(&bed);
}

static void set_call(struct attack *attack, int fd)
{
	struct netfront *nf = attack->evil;

	assert_int_equal(vhost_frontend_set_vring_fd(&nf->fe, VHOST_USER_SET_VRING_CALL, 0, fd), 0);
}

static void pipes_for_calls(void **state)
{
	const struct netfront_config config = {.ack = true};
	struct attack attack;
	int fds[2];

	(void)state;
	attack_start(&attack, 1, &config, NULL, NULL);
	/* Nobody reads it any more: the write is answered by SIGPIPE. */
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	set_call(&attack, fds[1]);
	close(fds[1]);
	for (unsigned int i = 0; i < 3; i++) {
		assert_true(netfront_arm(netfront_rx(attack.evil, 0), 1));
		send_one(attack.peer, i);
		expect_one(attack.evil, i);
	}
	/* A full one blocks as an eventfd does. */
	assert_int_equal(pipe(fds), 0);
	set_call(&attack, fds[1]);
	while (write(fds[1], fds, sizeof(fds)) > 0)
		;
	set_blocking(fds[1], true);
	assert_true(netfront_arm(netfront_rx(attack.evil, 0), 1));
	send_one(attack.peer, 0);
	attack_expect_disconnect(&attack, "call-blocked");
	close(fds[0]);
	close(fds[1]);
	attack_reconnect(&attack);
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

/* Answers pile up until the socket takes no more. */
static void answers_that_nobody_reads(void **state)
{
	struct attack attack;
	int error = 0;

	(void)state;
	attack_start(&attack, 1, NULL, NULL, NULL);
	for (unsigned int i = 0; i < 1000000 && !error; i++)
		error = vhost_frontend_send(&attack.evil->fe, VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, NULL, 0,
					    NULL, 0);
	assert_int_not_equal(error, 0);
	attack_expect_disconnect(&attack, "io");
	attack_reconnect(&attack);
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_under_traffic),        cmocka_unit_test(regions_that_are_in_use),
		cmocka_unit_test(disconnects_under_traffic),    cmocka_unit_test(connections_leave_nothing),
		cmocka_unit_test(memory_that_goes_away),        cmocka_unit_test(calls_that_block),
		cmocka_unit_test(a_call_that_blocks_in_a_turn), cmocka_unit_test(pipes_for_calls),
		cmocka_unit_test(answers_that_nobody_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
