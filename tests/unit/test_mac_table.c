/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The MAC table with a clock of the test's own, and the hash table below it.
 */
#include "unit.h"

#include "control/mac_table.h"

#include <string.h>

static struct mac_table table;
static struct mac_port ports[2];

static int setup(void **state)
{
	(void)state;
	assert_int_equal(mac_table_init(&table), 0);
	for (unsigned int i = 0; i < 2; i++) {
		memset(&ports[i], 0, sizeof(ports[i]));
		ports[i].index = i;
		ports[i].limit = 4;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mac_table_cleanup(&table);
	return 0;
}

static const uint8_t *mac_of(unsigned int i)
{
	static uint8_t mac[MAC_SIZE] = {0x52, 0x54};

	memcpy(mac + 2, &i, 4);
	return mac;
}

static int learn(unsigned int mac, unsigned int port, uint64_t now_ns)
{
	struct mac_entry *entry;

	return mac_table_learn(&table, mac_of(mac), &ports[port], now_ns, &entry);
}

static void test_place(void **state)
{
	struct mac_entry *entry;

	(void)state;
	assert_int_equal(learn(1, 0, 10), MAC_LEARNED);
	assert_int_equal(learn(1, 0, 20), MAC_KNOWN);
	entry = mac_table_find(&table, mac_of(1));
	assert_ptr_equal(entry->port, &ports[0]);
	assert_int_equal(entry->seen_ns, 20);
	/* It stays as long as it has a place. */
	mac_table_release(&table, entry);
	assert_ptr_equal(mac_table_find(&table, mac_of(1)), entry);
	mac_table_unplace(entry);
	mac_table_unplace(entry);
	assert_int_equal(ports[0].count, 0);
	mac_table_release(&table, entry);
	assert_null(mac_table_find(&table, mac_of(1)));
	/* A destination is there without a place. */
	entry = mac_table_get(&table, mac_of(2));
	assert_ptr_equal(mac_table_get(&table, mac_of(2)), entry);
	assert_null(entry->port);
	assert_int_equal(learn(2, 1, 30), MAC_LEARNED);
	assert_ptr_equal(entry->port, &ports[1]);
}

static void test_limit(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(learn(i, 0, 1), MAC_LEARNED);
	assert_int_equal(learn(9, 0, 1), MAC_FULL);
	assert_null(mac_table_find(&table, mac_of(9)));
	assert_int_equal(learn(3, 0, 1), MAC_KNOWN);
	assert_int_equal(learn(9, 1, 1), MAC_LEARNED);
	assert_int_equal(learn(9, 0, 1), MAC_FULL);
	assert_ptr_equal(mac_table_find(&table, mac_of(9))->port, &ports[1]);
	/* One moves away: there is room. */
	assert_int_equal(learn(0, 1, 1), MAC_MOVED);
	assert_int_equal(ports[0].count, 3);
	assert_int_equal(learn(9, 0, 1), MAC_MOVED);
}

static void test_hold(void **state)
{
	uint64_t now = 5 * MAC_MOVES_PERIOD_NS;

	(void)state;
	assert_int_equal(learn(1, 0, now), MAC_LEARNED);
	for (unsigned int i = 0; i < MAC_MOVES_MAX; i++)
		assert_int_equal(learn(1, (i + 1) % 2, now), MAC_MOVED);
	assert_int_equal(learn(1, (MAC_MOVES_MAX + 1) % 2, now), MAC_HELD);
	now += MAC_HOLD_NS - 1;
	assert_int_equal(learn(1, (MAC_MOVES_MAX + 1) % 2, now), MAC_HELD);
	assert_int_equal(learn(1, MAC_MOVES_MAX % 2, now), MAC_KNOWN);
	now++;
	assert_int_equal(learn(1, (MAC_MOVES_MAX + 1) % 2, now), MAC_MOVED);
	/* A station that wanders slowly is followed for ever. */
	for (unsigned int i = 0; i < 100; i++) {
		now += MAC_MOVES_PERIOD_NS / 4;
		assert_int_equal(learn(2, i % 2, now), i == 0 ? MAC_LEARNED : MAC_MOVED);
	}
}

static void test_many(void **state)
{
	struct mac_entry *entry = NULL;
	unsigned int count = 0;

	(void)state;
	ports[0].limit = 10000;
	for (unsigned int i = 0; i < 10000; i++)
		assert_int_equal(learn(i, 0, 1), MAC_LEARNED);
	for (unsigned int i = 0; i < 10000; i++)
		assert_non_null(mac_table_find(&table, mac_of(i)));
	assert_null(mac_table_find(&table, mac_of(10000)));
	while ((entry = mac_table_next(&table, entry)) != NULL)
		count++;
	assert_int_equal(count, 10000);
	for (unsigned int i = 0; i < 10000; i += 2) {
		entry = mac_table_find(&table, mac_of(i));
		mac_table_unplace(entry);
		mac_table_release(&table, entry);
	}
	assert_int_equal(table.hash.count, 5000);
	assert_int_equal(ports[0].count, 5000);
	assert_null(mac_table_find(&table, mac_of(4)));
	assert_non_null(mac_table_find(&table, mac_of(5)));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_place),
		TEST(test_limit),
		TEST(test_hold),
		TEST(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
