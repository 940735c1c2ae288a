/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Large frames in bursts between two front ends, whose copies two workers share: the test plays the observer, for whom
 * all CPUs are idle always. Every byte and the order are compared, while queues stop and start; and it goes on until
 * many copies were really made by two.
 */
#include "observer.h"

#include <sched.h>
#include <string.h>

#include "lib/clock.h"

#define LARGE        60000u
#define BURST        8u
#define ENOUGH       100u /* copies made by two */
#define ROUNDS_LEAST 50u
#define STOP_EVERY   7u

struct end {
	struct netfront *nf;
	uint32_t number; /* of the next frame to send */
	uint32_t expected;
};

static uint8_t frame[LARGE], got[LARGE];

/* Large frames differ in where their pattern begins, small ones are a few bytes of it. */
static void make(uint32_t number, uint32_t size, uint8_t id)
{
	testbed_frame(frame, size, (uint8_t)(3 - id), id, number);
	memcpy(frame + 14, &number, sizeof(number));
}

static uint32_t size_of(uint32_t number)
{
	return number % BURST == 0 ? 64 : LARGE - number % 1000;
}

static void send_burst(struct end *end, uint8_t id)
{
	for (unsigned int i = 0; i < BURST; i++) {
		const struct virtio_net_hdr none = {0};
		struct iovec iov = {.iov_base = frame, .iov_len = size_of(end->number)};

		make(end->number, size_of(end->number), id);
		assert_int_equal(netfront_send(end->nf, 0, &none, &iov, 1, i < BURST - 1), 0);
		end->number++;
	}
}

/* Until all that the other end has sent is there. */
static void receive_all(struct end *end, const struct end *other, uint8_t id)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;

	while (end->expected < other->number && clock_now_ns() < deadline) {
		struct netfront_frame received;
		int n = netfront_receive(end->nf, 0, &received, 1);

		assert_true(n >= 0);
		if (n == 0) {
			sched_yield();
			continue;
		}
		make(end->expected, size_of(end->expected), (uint8_t)(3 - id));
		assert_int_equal(received.size, size_of(end->expected));
		assert_int_equal(netfront_frame_copy(&received, 0, got, sizeof(got)), received.size);
		assert_memory_equal(got, frame, received.size);
		assert_true(netfront_recycle(end->nf, 0) >= 0);
		end->expected++;
	}
	assert_int_equal(end->expected, other->number);
}

/* All buffers come back, and so nothing is taken twice after a stop. */
static void reclaim_all(struct end *end)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;

	while (vq_driver_in_flight(&netfront_tx(end->nf, 0)->vq) > 0 && clock_now_ns() < deadline)
		assert_true(netfront_reclaim(end->nf, 0) >= 0);
	assert_int_equal(vq_driver_in_flight(&netfront_tx(end->nf, 0)->vq), 0);
}

static void made_by_two(uint32_t rx_buffer, uint64_t without)
{
	struct netfront_config config = {
		.ack = true,
		.tx_buffer = 65550,
		.tx_size = 32,
		.rx_buffer = rx_buffer,
	};
	const struct dp_port_add options = {.wait_us = 10000000};
	struct end ends[2] = {{0}};
	struct observer observer;
	struct stats_worker sum = {0};
	struct testbed bed;
	uint32_t ports[2];
	uint64_t deadline;
	cpu_set_t cpus;

	assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	if (CPU_COUNT(&cpus) < 2)
		skip();
	observer_open(&observer);
	for (unsigned int i = 0; i < OBSERVER_CPUS; i++)
		observer.cpus[i].running = (uint64_t)OBSERVER_CPU_IDLE << OBSERVER_CPU_STATE_SHIFT;
	/* A test is no VM that sends without a break: its workers shall stay awake all the same. */
	testbed_start_lingering(&bed, min((unsigned int)CPU_COUNT(&cpus), STATS_WORKERS_MAX - 1U), observer.their,
				200 * NS_PER_MS);
	observer_say(&observer, OBSERVER_HELLO);
	for (unsigned int i = 0; i < 2; i++) {
		const char *name = i ? "b" : "a";

		ports[i] = testbed_port(&bed, name, &options);
		config.features = (NETFRONT_FEATURES | testbed_rings(&bed)) & ~without;
		ends[i].nf = testbed_attach(&bed, name, &config);
		testbed_wait_state(&bed, ports[i], DP_PORT_UP);
	}
	testbed_wire(&bed, ports[0], ports[1]);
	testbed_wire(&bed, ports[1], ports[0]);
	deadline = clock_now_ns() + PATIENCE_NS;
	for (unsigned int round = 0; round < ROUNDS_LEAST || (sum.copies_handed < ENOUGH && clock_now_ns() < deadline);
	     round++) {
		send_burst(&ends[0], 1);
		send_burst(&ends[1], 2);
		receive_all(&ends[1], &ends[0], 2);
		receive_all(&ends[0], &ends[1], 1);
		if (round % STOP_EVERY == 0) {
			struct netfront *nf = ends[round / STOP_EVERY % 2].nf;

			/* Perhaps before they have come back. */
			assert_int_equal(netfront_stop(nf), 0);
			assert_int_equal(netfront_start(nf), 0);
		}
		reclaim_all(&ends[0]);
		reclaim_all(&ends[1]);
		testbed_totals(&bed, &sum);
	}
	print_message("%llu copies made by two of %u bursts\n", (unsigned long long)sum.copies_handed,
		      ends[0].expected / BURST + ends[1].expected / BURST);
	assert_true(sum.copies_handed >= ENOUGH);
	/* Whoever copied it: every byte once. */
	assert_int_equal(sum.copied_bytes, sum.delivered_bytes);
	netfront_close(ends[0].nf);
	netfront_close(ends[1].nf);
	testbed_stop(&bed);
	observer_close(&observer);
}

static void into_merged_buffers(void **state)
{
	(void)state;
	made_by_two(4096, 0);
}

static void into_large_buffers(void **state)
{
	(void)state;
	made_by_two(65550, VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(into_merged_buffers),
		cmocka_unit_test(into_large_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
