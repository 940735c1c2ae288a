/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which receivers are taken for those who get single packets and wait for each.
 */
#include "unit.h"

#include "engine/engine_internal.h"

#include <stdlib.h>

#define LATER_NS 1000000ULL

static struct worker_pool pool;
static struct worker *worker;

static int set_up(void **state)
{
	(void)state;
	worker = calloc(1, sizeof(*worker));
	worker->pool = &pool;
	worker->now_ns = LATER_NS;
	return homes_init(&pool);
}

static int tear_down(void **state)
{
	(void)state;
	homes_fini(&pool);
	free(worker);
	return 0;
}

static struct notice notice_of(uint32_t packets)
{
	return (struct notice){.port = 3, .queue = 1, .packets = packets};
}

/* It gets so many packets, a good while after the last ones. */
static bool get(uint32_t packets)
{
	const struct notice notice = notice_of(packets);
	bool sparse;

	worker->now_ns += LATER_NS;
	sparse = merge_is_sparse(worker, &notice);
	merge_learn(worker, &notice);
	return sparse;
}

static void single_packets(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 100; i++)
		assert_true(get(1));
}

static void in_short_order(void **state)
{
	const struct notice notice = notice_of(1);

	(void)state;
	assert_true(get(1));
	worker->now_ns += 1000;
	assert_false(merge_is_sparse(worker, &notice));
}

static void bursts(void **state)
{
	unsigned int single = 0;

	(void)state;
	(void)get(256);
	assert_false(get(1));
	/* A burst is remembered for a while, not for ever. */
	while (!get(1)) {
		single++;
		assert_true(single < 100);
	}
	assert_true(single > 10);
	/* Larger than what is remembered of it. */
	(void)get(UINT32_MAX);
	assert_false(get(1));
}

static void others(void **state)
{
	const struct notice other = {.port = 3, .queue = 2, .packets = 1};
	const struct notice sender = {.port = 3, .queue = 1, .packets = 1, .transmit = true};

	(void)state;
	(void)get(256);
	worker->now_ns += LATER_NS;
	assert_true(merge_is_sparse(worker, &other));
	assert_false(merge_is_sparse(worker, &sender));
	/* What a sender gets back says nothing of what it receives. */
	for (unsigned int i = 0; i < 100; i++)
		merge_learn(worker, &sender);
	assert_false(get(1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(single_packets, set_up, tear_down),
		cmocka_unit_test_setup_teardown(in_short_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bursts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(others, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
