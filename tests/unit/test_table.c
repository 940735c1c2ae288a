/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Quantities as people read them, and aligned tables.
 */
#include "unit.h"

#include "cli/table.h"

#include <stdio.h>
#include <string.h>

static void test_quantities(void **state)
{
	char text[QUANTITY_SIZE];

	(void)state;
	assert_string_equal(quantity(text, 0), "0");
	assert_string_equal(quantity(text, 9999), "9999");
	assert_string_equal(quantity(text, 10000), "10.0k");
	assert_string_equal(quantity(text, 999499), "999k");
	assert_string_equal(quantity(text, 999500), "1.00M");
	assert_string_equal(quantity(text, 12345678901ULL), "12.3G");
	assert_string_equal(quantity(text, UINT64_MAX), "18447P");
	assert_string_equal(quantity_bytes(text, 0), "0 B");
	assert_string_equal(quantity_bytes(text, 999), "999 B");
	assert_string_equal(quantity_bytes(text, 1000), "1.00 kB");
	assert_string_equal(quantity_bytes(text, 1518), "1.52 kB");
	assert_string_equal(quantity_bytes(text, 268435456), "268 MB");
	assert_string_equal(quantity_seconds(text, 59), "59s");
	assert_string_equal(quantity_seconds(text, 60), "1m00s");
	assert_string_equal(quantity_seconds(text, 3600), "1h00m");
	assert_string_equal(quantity_seconds(text, 90061), "1d01h");
}

/* What `table` prints. */
static const char *printed(struct table *table)
{
	static char text[8192];
	struct unit_capture capture = unit_capture_begin(STDOUT_FILENO);

	assert_int_equal(table_print(table), 0);
	unit_capture_end(capture, text, sizeof(text));
	return text;
}

static void test_columns(void **state)
{
	struct table table;

	(void)state;
	table_init(&table, "NAME|>COUNT|NOTE");
	table_add(&table, "a");
	table_add(&table, "%d", 12345678);
	table_add(&table, "first");
	table_add(&table, "long name");
	table_add(&table, "%d", 7);
	table_end_row(&table);
	assert_string_equal(printed(&table), "NAME          COUNT  NOTE\n"
					     "a          12345678  first\n"
					     "long name         7  \n");
}

/* A list has no end that the table would know of. */
static void test_extended(void **state)
{
	char expected[8192] = "PORTS\n";
	struct table table;

	(void)state;
	table_init(&table, "PORTS");
	table_add(&table, "first");
	strcat(expected, "first");
	for (int i = 0; i < 255; i++) {
		table_extend(&table, " %s%03d", "a-long-port-name", i);
		sprintf(expected + strlen(expected), " a-long-port-name%03d", i);
	}
	strcat(expected, "\n");
	assert_string_equal(printed(&table), expected);
}

static void test_empty(void **state)
{
	struct table table;

	(void)state;
	table_init(&table, "A|>B");
	assert_string_equal(printed(&table), "A  B\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantities),
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_extended),
		cmocka_unit_test(test_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
