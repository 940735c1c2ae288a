/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which receivers are taken for those who get single packets and wait for each; and that such packets go before calls,
 * whatever that does to the notices. Calls and turns are played by the test.
 */
#include "unit.h"

#include "engine/engine_internal.h"

#include <stdlib.h>
#include <string.h>

#define LATER_NS 1000000ULL

static struct datapath dp; /* without ports: what is for nobody is given at once */
static struct worker_pool pool = {.config = {.dp = &dp, .state_batching = true}};
static struct worker *worker;
static struct forwarder *fwd;

/* What happened: 's' single packets were looked for, 'c' a call was made. */
static char history[64];
static enum { SERVES_NOBODY, SERVES_ONE, GIVES_ALL } turns;

static void add_notices(unsigned int count)
{
	while (count-- > 0)
		fwd->notices.entries[fwd->notices.count++] = (struct notice){.port = 3, .packets = 1};
}

void __wrap_call_give(struct worker *of, unsigned int index);
void __wrap_call_give(struct worker *of, unsigned int index)
{
	struct notices *notices = &of->fwd->notices;

	assert_true(index < notices->count);
	notices->entries[index] = notices->entries[--notices->count];
	strcat(history, "c");
}

void __wrap_worker_serve_sparse(struct worker *of);
void __wrap_worker_serve_sparse(struct worker *of)
{
	strcat(history, "s");
	if (turns == SERVES_ONE)
		add_notices(1);
	if (turns == GIVES_ALL)
		of->fwd->notices.count = 0;
}

static int set_up(void **state)
{
	(void)state;
	worker = calloc(1, sizeof(*worker));
	fwd = calloc(1, sizeof(*fwd));
	worker->pool = &pool;
	worker->fwd = fwd;
	history[0] = '\0';
	turns = SERVES_NOBODY;
	worker->now_ns = LATER_NS;
	return homes_init(&pool);
}

static int tear_down(void **state)
{
	(void)state;
	homes_fini(&pool);
	free(fwd);
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

static void before_each_call(void **state)
{
	(void)state;
	add_notices(3);
	merge_notices(worker, false);
	assert_string_equal(history, "scscsc");
	assert_int_equal(fwd->notices.count, 0);
	add_notices(2);
	merge_give_all(worker);
	assert_string_equal(history, "scscscscsc");
	merge_notices(worker, true);
	assert_string_equal(history, "scscscscsc");
}

static void more_before_each_call(void **state)
{
	(void)state;
	turns = SERVES_ONE;
	add_notices(3);
	merge_notices(worker, false);
	assert_string_equal(history, "scscsc");
	assert_int_equal(fwd->notices.count, 3);
	/* They may not keep it from ever being done. */
	merge_give_all(worker);
	assert_string_equal(history, "scscscscscscccc");
	assert_int_equal(fwd->notices.count, 0);
}

static void all_given_meanwhile(void **state)
{
	(void)state;
	turns = GIVES_ALL;
	add_notices(3);
	merge_notices(worker, false);
	assert_string_equal(history, "s");
	add_notices(3);
	merge_give_all(worker);
	assert_string_equal(history, "ss");
}

static void none_before_it_sleeps(void **state)
{
	(void)state;
	worker->asleep = true;
	add_notices(2);
	merge_give_all(worker);
	assert_string_equal(history, "cc");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(single_packets, set_up, tear_down),
		cmocka_unit_test_setup_teardown(in_short_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bursts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(others, set_up, tear_down),
		cmocka_unit_test_setup_teardown(before_each_call, set_up, tear_down),
		cmocka_unit_test_setup_teardown(more_before_each_call, set_up, tear_down),
		cmocka_unit_test_setup_teardown(all_given_meanwhile, set_up, tear_down),
		cmocka_unit_test_setup_teardown(none_before_it_sleeps, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
