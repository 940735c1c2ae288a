/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbers of options, whom a program becomes, and how it ends.
 */
#include "unit.h"

#include "lib/program.h"

#include <signal.h>
#include <string.h>

static void test_numbers(void **state)
{
	static const char *const wrong[] = {"", "x", "-1", "4x", "2", "11", "18446744073709551616", "+"};
	uint64_t number;

	(void)state;
	assert_true(program_parse_number("3", "n", 3, 10, &number));
	assert_int_equal(number, 3);
	assert_true(program_parse_number("10", "n", 3, 10, &number));
	assert_int_equal(number, 10);
	assert_true(program_parse_number("18446744073709551615", "n", 0, UINT64_MAX, &number));
	assert_true(number == UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_false(program_parse_number(wrong[i], "n", 3, 10, &number));
}

static void test_users(void **state)
{
	static const char *const usual[] = {"lasthop-has-no-such-user", "nobody", NULL};
	static const char *const none[] = {"lasthop-has-no-such-user", NULL};
	uid_t uid;
	gid_t gid;

	(void)state;
	if (getuid() != 0) {
		assert_true(program_find_user("root", none, &uid, &gid));
		assert_int_equal(uid, getuid());
		assert_int_equal(gid, getgid());
		return;
	}
	assert_true(program_find_user(NULL, usual, &uid, &gid));
	assert_int_equal(uid, 65534);
	assert_true(program_find_user("nobody", none, &uid, &gid));
	assert_int_equal(uid, 65534);
	assert_false(program_find_user(NULL, none, &uid, &gid));
	assert_false(program_find_user(none[0], usual, &uid, &gid));
	assert_false(program_find_user("root", usual, &uid, &gid));
}

static void test_end(void **state)
{
	static const int signos[] = {SIGTERM, SIGINT};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(signos); i++) {
		struct program_end end;
		struct loop loop;

		memset(&end, 0xff, sizeof(end));
		assert_int_equal(loop_init(&loop), 0);
		assert_int_equal(program_end_by_signals(&end, &loop), 0);
		/* It is blocked, and waits for the loop. */
		raise(signos[i]);
		assert_int_equal(loop_run(&loop), 0);
		loop_signals_remove(&loop, &end.signals);
		loop_cleanup(&loop);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
