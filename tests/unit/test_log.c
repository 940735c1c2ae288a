/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What reaches standard error: the form of a line, what becomes of hostile bytes, the rate limit.
 */
#include "unit.h"

#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

static char logged[65536];

/* Runs `speak` with standard error going to `logged`. */
static void capture(void (*speak)(void))
{
	struct unit_capture capture = unit_capture_begin(STDERR_FILENO);

	speak();
	unit_capture_end(capture, logged, sizeof(logged));
}

static void speak_levels(void)
{
	log_error("no %s", "port");
	log_warn("w");
	log_info("i");
	log_debug("d");
	errno = ENOENT;
	log_info("%m");
	assert_int_equal(errno, ENOENT);
}

static void test_levels(void **state)
{
	(void)state;
	log_init("unit", LOG_INFO);
	capture(speak_levels);
	assert_string_equal(logged, "unit: error: no port\nunit: warning: w\nunit: info: i\n"
				    "unit: info: No such file or directory\n");
}

static void printf_like(1, 2) speak_as_library(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_write_va(LOG_INFO, format, args);
	va_end(args);
}

static void speak_foreign(void)
{
	speak_as_library("line %d\n\n", 1);
	speak_as_library("\n");
	speak_as_library("%*s\n", 2 * LOG_LINE_MAX, "x");
}

static void test_foreign_lines(void **state)
{
	const char *third = "unit: info: \nunit: info: ";

	(void)state;
	capture(speak_foreign);
	assert_int_equal(strncmp(logged, "unit: info: line 1\n", 19), 0);
	assert_int_equal(strncmp(logged + 19, third, strlen(third)), 0);
	assert_true(strlen(logged) <= 19 + 13 + LOG_LINE_MAX);
	assert_int_equal(logged[strlen(logged) - 1], '\n');
}

static void speak_hostile(void)
{
	log_info("%s", "a\nunit: error: forged\x1b[2J\x7f");
	log_info("%s", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
	log_info("%s", "\xc2\x9b \xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82");
}

static void test_hostile_bytes(void **state)
{
	(void)state;
	capture(speak_hostile);
	assert_string_equal(logged, "unit: info: a\\x0aunit: error: forged\\x1b[2J\\x7f\n"
				    "unit: info: gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80\n"
				    "unit: info: \\xc2\\x9b \\xc0\\xaf \\xed\\xa0\\x80 "
				    "\\xf4\\x90\\x80\\x80 \\xe2\\x82\n");
}

static void speak_long(void)
{
	static char text[4 * LOG_LINE_MAX];

	memset(text, '\n', sizeof(text) - 1);
	log_info("%s", text);
	memset(text, 'x', sizeof(text) - 1);
	log_info("%s", text);
}

static void test_long_lines(void **state)
{
	size_t first;

	(void)state;
	capture(speak_long);
	first = (size_t)(strchr(logged, '\n') - logged) + 1;
	assert_in_range(first, LOG_LINE_MAX - 4, LOG_LINE_MAX);
	assert_int_equal(strlen(logged + first), LOG_LINE_MAX);
	assert_int_equal(logged[first + LOG_LINE_MAX - 1], '\n');
}

static void speak_often(void)
{
	struct log_limit limit = {0};

	for (int i = 0; i < 1000; i++)
		log_limited(&limit, LOG_WARN, "packet %d", i);
	/* As if the bucket had had time to fill. */
	limit.next_ns = 0;
	log_limited(&limit, LOG_WARN, "later");
	log_limited(&limit, LOG_WARN, "and again");
}

static void test_limit(void **state)
{
	static const char shown[] = "unit: warning: packet 0\nunit: warning: packet 1\n"
				    "unit: warning: packet 2\nunit: warning: packet 3\n"
				    "unit: warning: packet 4\n";
	static const char later[] = "unit: warning: later (995 like this not shown)\n"
				    "unit: warning: and again\n";

	(void)state;
	capture(speak_often);
	assert_string_equal(logged + strlen(logged) - strlen(later), later);
	logged[strlen(shown)] = '\0';
	assert_string_equal(logged, shown);
}

static struct log_limit shared_limit;

static void *speak_in_thread(void *arg)
{
	for (int i = 0; i < 200; i++) {
		log_info("%s", (const char *)arg);
		log_limited(&shared_limit, LOG_INFO, "limited");
	}
	return NULL;
}

static void speak_together(void)
{
	static char words[4][8] = {"aaaaaaa", "bbbbbbb", "ccccccc", "ddddddd"};
	pthread_t threads[4];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, speak_in_thread, words[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
}

static void test_threads(void **state)
{
	unsigned int whole = 0;

	(void)state;
	capture(speak_together);
	for (char *line = strtok(logged, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		const char *word = line + strlen("unit: info: ");

		if (strncmp(word, "limited", 7) == 0)
			continue;
		assert_int_equal(strlen(word), 7);
		assert_int_equal(strspn(word, (char[]){word[0], '\0'}), 7);
		whole++;
	}
	assert_int_equal(whole, 800);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),        cmocka_unit_test(test_hostile_bytes),
		cmocka_unit_test(test_foreign_lines), cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_limit),         cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
