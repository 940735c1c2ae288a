/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Misses on their way up: each key once in a while, in order, never more than the ring holds.
 */
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "datapath/upcall.h"
#include "lib/clock.h"

static int set_up(void **state)
{
	struct upcall_ring *ring = aligned_alloc(CACHE_LINE, align_up(sizeof(*ring), CACHE_LINE));

	assert_non_null(ring);
	memset(ring, 0, sizeof(*ring));
	*state = ring;
	return 0;
}

static int tear_down(void **state)
{
	free(*state);
	return 0;
}

static struct flow_key key_of(uint32_t number)
{
	struct flow_key key = {.in_port = 1};

	memcpy(key.eth_dst, &number, sizeof(number));
	return key;
}

static void comes_out_as_it_went_in(void **state)
{
	struct upcall_ring *ring = *state;
	struct upcall upcall;

	assert_false(upcall_get(ring, &upcall));
	/* Several times around. */
	for (uint32_t round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < 200; i++) {
			struct flow_key key = key_of(round * 200 + i);

			key.l4_dst = (uint16_t)i;
			assert_int_equal(upcall_put(ring, &key, 60 + i, NS_PER_S, true), UPCALL_SENT);
		}
		for (uint32_t i = 0; i < 200; i++) {
			struct flow_key key = key_of(round * 200 + i);

			key.l4_dst = (uint16_t)i;
			assert_true(upcall_get(ring, &upcall));
			assert_memory_equal(&upcall.key, &key, sizeof(key));
			assert_int_equal(upcall.length, 60 + i);
		}
		assert_false(upcall_get(ring, &upcall));
	}
}

static void the_same_again_waits(void **state)
{
	struct upcall_ring *ring = *state;
	struct flow_key key = key_of(1), port = key_of(1), other = key_of(2);
	uint64_t now = 5 * NS_PER_S;
	struct upcall upcall;

	assert_int_equal(upcall_put(ring, &key, 60, now, true), UPCALL_SENT);
	assert_int_equal(upcall_put(ring, &key, 60, now, true), UPCALL_PENDING);
	/* Even if it was fetched: the answer is on its way. */
	assert_true(upcall_get(ring, &upcall));
	assert_int_equal(upcall_put(ring, &key, 60, now + NS_PER_MS, true), UPCALL_PENDING);
	assert_int_equal(upcall_put(ring, &key, 60, now + NS_PER_MS, false), UPCALL_PENDING);
	/* Another connection between the same two needs no question of its own. */
	port.l4_dst = 99;
	assert_int_equal(upcall_put(ring, &port, 60, now + NS_PER_MS, true), UPCALL_PENDING);
	assert_int_equal(upcall_put(ring, &other, 60, now + NS_PER_MS, true), UPCALL_SENT);
	/* The answer did not come: again. */
	assert_int_equal(upcall_put(ring, &key, 60, now + NS_PER_S, true), UPCALL_SENT);
}

static void no_more_than_there_is_room_for(void **state)
{
	struct upcall_ring *ring = *state;
	struct upcall upcall;
	struct flow_key key;

	for (uint32_t i = 0; i < UPCALL_RING_SIZE; i++) {
		key = key_of(i);
		assert_int_equal(upcall_put(ring, &key, 60, NS_PER_S, false), UPCALL_REFUSED);
		assert_int_equal(upcall_put(ring, &key, 60, NS_PER_S, true), UPCALL_SENT);
	}
	key = key_of(UPCALL_RING_SIZE);
	assert_int_equal(upcall_put(ring, &key, 60, NS_PER_S, true), UPCALL_FULL);
	assert_true(upcall_get(ring, &upcall));
	/* What was refused was not noted as sent. */
	assert_int_equal(upcall_put(ring, &key, 60, NS_PER_S, true), UPCALL_SENT);
}

static void *put_all(void *arg)
{
	struct upcall_ring *ring = arg;

	for (uint32_t i = 0; i < 50000; i++) {
		struct flow_key key = key_of(i);

		while (upcall_put(ring, &key, i, NS_PER_S, true) == UPCALL_FULL)
			sched_yield();
	}
	return NULL;
}

static void two_threads(void **state)
{
	struct upcall_ring *ring = *state;
	struct upcall upcall;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, put_all, ring), 0);
	for (uint32_t i = 0; i < 50000; i++) {
		struct flow_key key = key_of(i);

		while (!upcall_get(ring, &upcall))
			sched_yield();
		assert_int_equal(upcall.length, i);
		assert_memory_equal(&upcall.key, &key, sizeof(key));
	}
	pthread_join(thread, NULL);
	assert_false(upcall_get(ring, &upcall));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(comes_out_as_it_went_in),
		TEST(the_same_again_waits),
		TEST(no_more_than_there_is_room_for),
		TEST(two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
