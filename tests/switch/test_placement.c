/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VMs that move, run, wait and sleep, on CPUs that are idle or wanted, all at random and never true: the test plays
 * the observer. Queues go from worker to worker for it, calls are left to others, and workers wait for what does not
 * come. None of that may cost a packet or a wake-up: front ends that only ever wait to be called exchange bursts,
 * and stop and start their queues now and then.
 *
 * PLACEMENT_SECONDS is how long; 4 unless told.
 */
#include "observer.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "lib/clock.h"

#define COUPLES    3u
#define SLOTS      4u /* there is one process */
#define BURST_MAX  320u
#define FRAME      64u
/* Nobody sleeps so long but one that was not called. */
#define LOST_MS    10000
#define STOP_EVERY 64

struct couple {
	pthread_t thread;
	struct netfront *ends[2];
	uint32_t random;
	uint64_t frames;
	bool *stop;      /* atomic */
	uint32_t failed; /* source line, 0: nothing is wrong */
};

struct chaos {
	pthread_t thread;
	struct observer observer;
	cpu_set_t cpus;
	bool stop; /* atomic */
};

static uint32_t random_below(uint32_t *state, uint32_t bound)
{
	*state = *state * 1664525 + 1013904223;
	return (*state >> 8) % bound;
}

static uint32_t random_cpu(const struct chaos *chaos, uint32_t *random)
{
	for (;;) {
		uint32_t cpu = random_below(random, CPU_SETSIZE);

		if (CPU_ISSET(cpu, &chaos->cpus))
			return cpu;
	}
}

static void *chaos_main(void *arg)
{
	static const uint64_t counts[] = {0, 0, 1, 1ULL << OBSERVER_RUNNABLE_SHIFT};
	struct chaos *chaos = arg;
	uint32_t random = 7;

	while (!load_acquire(&chaos->stop)) {
		struct observer_slot *slot = &chaos->observer.slots[random_below(&random, SLOTS)];
		uint32_t cpu = random_cpu(chaos, &random);
		uint64_t state = OBSERVER_CPU_IDLE + random_below(&random, 3);
		struct observer_request request;

		store_relaxed(&slot->counts, counts[random_below(&random, 4)]);
		store_relaxed(&slot->cpu, random_cpu(chaos, &random));
		store_relaxed(&slot->watch, 1);
		store_relaxed(&chaos->observer.cpus[cpu].running, state << OBSERVER_CPU_STATE_SHIFT | 1);
		store_relaxed(&chaos->observer.cpus[cpu].wanted, random_below(&random, 2));
		store_relaxed(&chaos->observer.cpus[cpu].switches, random_below(&random, 4));
		store_relaxed(&chaos->observer.cpus[cpu].idles, random_below(&random, 2));
		nanosleep(&(struct timespec){.tv_nsec = 1000 + random_below(&random, 200000)}, NULL);
		while (recv(chaos->observer.sock, &request, sizeof(request), MSG_DONTWAIT) > 0)
			;
	}
	return NULL;
}

static bool fails(struct couple *couple, uint32_t line)
{
	couple->failed = line;
	return false;
}

/* Sleeps until it is called. */
static bool wait_for(struct couple *couple, struct netfront *end, unsigned int what, uint32_t line)
{
	uint64_t before = clock_now_ns();

	if (netfront_wait(end, 0, what, LOST_MS) <= 0 || clock_now_ns() - before >= LOST_MS * NS_PER_MS)
		return fails(couple, line);
	return true;
}

static bool receive(struct couple *couple, struct netfront *end, uint32_t count, uint8_t seed)
{
	uint8_t received[FRAME];

	for (uint32_t i = 0; i < count;) {
		struct netfront_frame frame;
		int n = netfront_receive(end, 0, &frame, 1);

		if (n < 0)
			return fails(couple, __LINE__);
		if (n == 0) {
			if (!wait_for(couple, end, NETFRONT_WAIT_RX, __LINE__))
				return false;
			continue;
		}
		if (netfront_frame_copy(&frame, 0, received, sizeof(received)) != sizeof(received) ||
		    received[FRAME - 1] != seed || received[FRAME - 2] != (uint8_t)i++)
			return fails(couple, __LINE__);
		if (netfront_recycle(end, 0) < 0)
			return fails(couple, __LINE__);
	}
	return true;
}

static bool exchange(struct couple *couple, unsigned int from)
{
	struct netfront *end = couple->ends[from];
	uint32_t count = 1 + random_below(&couple->random, random_below(&couple->random, 2) ? 4 : BURST_MAX);
	uint8_t frame[FRAME], seed = (uint8_t)random_below(&couple->random, 256);

	testbed_frame(frame, sizeof(frame), 2, 1, seed);
	frame[FRAME - 1] = seed;
	for (uint32_t i = 0; i < count; i++) {
		frame[FRAME - 2] = (uint8_t)i;
		if (netfront_send_frame(end, 0, frame, sizeof(frame)))
			return fails(couple, __LINE__);
	}
	if (!receive(couple, couple->ends[!from], count, seed))
		return false;
	couple->frames += count;
	/* Its buffers come back, and it is called for them. */
	while (vq_driver_in_flight(&netfront_tx(end, 0)->vq) > 0) {
		if (netfront_reclaim(end, 0) < 0)
			return fails(couple, __LINE__);
		if (vq_driver_in_flight(&netfront_tx(end, 0)->vq) > 0 &&
		    !wait_for(couple, end, NETFRONT_WAIT_TX, __LINE__))
			return false;
	}
	return true;
}

static void *couple_main(void *arg)
{
	struct couple *couple = arg;

	for (uint32_t round = 1; !load_acquire(couple->stop) && exchange(couple, round % 2); round++) {
		struct netfront *end = couple->ends[random_below(&couple->random, 2)];

		if (round % STOP_EVERY == 0 && (netfront_stop(end) || netfront_start(end)))
			fails(couple, __LINE__);
		if (random_below(&couple->random, 4) == 0)
			nanosleep(&(struct timespec){.tv_nsec = random_below(&couple->random, 300000)}, NULL);
	}
	return NULL;
}

static void start_couple(struct testbed *bed, struct couple *couple, unsigned int number)
{
	const struct netfront_config config = {
		.tx_size = 512,
		.ack = true, /* what is sent to queues that do not run yet is lost */
		.features = number % 2 ? NETFRONT_FEATURES : NETFRONT_FEATURES & ~VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX),
	};
	const struct dp_port_add options = {.wait_us = 10000000};
	char names[2][8];
	uint32_t ports[2];

	for (unsigned int i = 0; i < 2; i++) {
		snprintf(names[i], sizeof(names[i]), "p%u%u", number, i);
		ports[i] = testbed_port(bed, names[i], &options);
		couple->ends[i] = testbed_attach(bed, names[i], &config);
		testbed_wait_state(bed, ports[i], DP_PORT_UP);
	}
	testbed_wire(bed, ports[0], ports[1]);
	testbed_wire(bed, ports[1], ports[0]);
	couple->random = number + 1;
	assert_int_equal(pthread_create(&couple->thread, NULL, couple_main, couple), 0);
}

static void nobody_is_forgotten(void **state)
{
	const char *seconds = getenv("PLACEMENT_SECONDS");
	struct couple couples[COUPLES] = {0};
	struct chaos chaos = {0};
	struct testbed bed;
	bool stop = false;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(chaos.cpus), &chaos.cpus), 0);
	observer_open(&chaos.observer);
	/* As many as there are CPUs, or they are not pinned and go nowhere. */
	testbed_start_observed(&bed, min((unsigned int)CPU_COUNT(&chaos.cpus), STATS_WORKERS_MAX - 1U),
			       chaos.observer.their);
	observer_say(&chaos.observer, OBSERVER_HELLO);
	assert_int_equal(pthread_create(&chaos.thread, NULL, chaos_main, &chaos), 0);
	for (unsigned int i = 0; i < COUPLES; i++) {
		couples[i].stop = &stop;
		start_couple(&bed, &couples[i], i);
	}
	nanosleep(&(struct timespec){.tv_sec = seconds ? atoi(seconds) : 4}, NULL);
	store_release(&stop, true);
	for (unsigned int i = 0; i < COUPLES; i++) {
		assert_int_equal(pthread_join(couples[i].thread, NULL), 0);
		print_message("couple %u: %llu frames\n", i, (unsigned long long)couples[i].frames);
		assert_int_equal(couples[i].failed, 0);
		assert_true(couples[i].frames > 0);
		netfront_close(couples[i].ends[0]);
		netfront_close(couples[i].ends[1]);
	}
	store_release(&chaos.stop, true);
	assert_int_equal(pthread_join(chaos.thread, NULL), 0);
	testbed_stop(&bed);
	observer_close(&chaos.observer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
