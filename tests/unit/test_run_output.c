/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What becomes of what a child prints: lines, their limit, and that nobody waits.
 */
#include "unit.h"

#include "cli/run_output.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct loop loop;
static struct run_output output;
static char printed[262144];
static int child; /* its end */

static void speak(const char *text, size_t size)
{
	assert_int_equal(write(child, text, size), size);
}

/* Runs the loop until nothing happens for 50 ms, with standard error going to `printed`. */
static void listen_with(void (*step)(void))
{
	struct unit_capture capture = unit_capture_begin(STDERR_FILENO);

	step();
	unit_capture_end(capture, printed, sizeof(printed));
}

static void run_loop(void)
{
	for (int i = 0; i < 20; i++)
		assert_int_equal(loop_run_once(&loop, 5), 0);
}

static void finish(void)
{
	run_output_finish(&output);
}

static int set_up(void **state)
{
	(void)state;
	assert_int_equal(loop_init(&loop), 0);
	run_output_init(&output, &loop, "port a");
	child = run_output_open(&output);
	assert_true(child >= 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (child >= 0)
		close(child);
	run_output_close(&output);
	loop_cleanup(&loop);
	return 0;
}

static unsigned int count(const char *what)
{
	unsigned int n = 0;

	for (const char *at = strstr(printed, what); at != NULL; at = strstr(at + 1, what))
		n++;
	return n;
}

static void lines_are_marked(void **state)
{
	(void)state;
	speak("one\ntw", 6);
	listen_with(run_loop);
	assert_string_equal(printed, "port a: one\n");
	speak("o\n\n", 3);
	listen_with(run_loop);
	assert_string_equal(printed, "port a: two\nport a: \n");
	speak("\033[2J\0\xc3\xa4\xc3\n", 9);
	listen_with(run_loop);
	assert_string_equal(printed, "port a: \\x1b[2J\\x00\xc3\xa4\\xc3\n");
	/* Half a line is said when nothing can follow. */
	speak("end", 3);
	close(child);
	child = -1;
	listen_with(run_loop);
	assert_string_equal(printed, "port a: end\n");
}

static void ended_child_is_heard(void **state)
{
	(void)state;
	speak("last", 4);
	/* Even if somebody still has its end. */
	listen_with(finish);
	assert_string_equal(printed, "port a: last\n");
	close(child);
	child = run_output_open(&output);
	assert_true(child >= 0);
	speak("first\n", 6);
	listen_with(run_loop);
	assert_string_equal(printed, "port a: first\n");
}

static void long_lines_are_cut(void **state)
{
	char line[3000];

	(void)state;
	memset(line, '\1', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	speak(line, sizeof(line));
	memset(line, 'x', sizeof(line));
	line[RUN_OUTPUT_LINE_MAX] = '\n';
	speak(line, RUN_OUTPUT_LINE_MAX + 1);
	line[RUN_OUTPUT_LINE_MAX] = 'x';
	line[RUN_OUTPUT_LINE_MAX + 1] = '\n';
	speak(line, RUN_OUTPUT_LINE_MAX + 2);
	listen_with(run_loop);
	assert_int_equal(count("port a: "), 3);
	assert_int_equal(count("\\x01 [cut]\n"), 1);
	assert_int_equal(count("x [cut]\n"), 1);
	assert_int_equal(count("xxx\n"), 1);
}

static void too_many_are_left_out(void **state)
{
	const unsigned int lines = RUN_OUTPUT_BURST + 1000;

	(void)state;
	for (unsigned int i = 0; i < lines; i++)
		speak("l\n", 2);
	listen_with(run_loop);
	/* A machine that is slow may have let a few more through. */
	assert_in_range(count("port a: l\n"), RUN_OUTPUT_BURST, RUN_OUTPUT_BURST + 30);
	/* Another start is no other burst; the count is not lost. */
	close(child);
	listen_with(finish);
	child = run_output_open(&output);
	assert_true(child >= 0);
	sleep(2);
	speak("m\n", 2);
	listen_with(run_loop);
	assert_int_equal(count("port a: m\n"), 1);
	assert_int_equal(count(" lines left out"), 1);
	assert_ptr_not_equal(strstr(printed, "lasthop: port a: "), NULL);
	assert_in_range(atoi(strstr(printed, "port a: ") + 8), 970, 1000);
}

static void run_few_rounds(void)
{
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_run_once(&loop, 0), 0);
}

/* Who floods is read a bit at a time; what it could not write shows how much. */
static void floods_wait(void **state)
{
	static char bytes[65536];
	ssize_t n;

	(void)state;
	memset(bytes, '\n', sizeof(bytes));
	assert_int_equal(fcntl(child, F_SETFL, O_NONBLOCK), 0);
	speak(bytes, sizeof(bytes));
	listen_with(run_few_rounds);
	n = write(child, bytes, sizeof(bytes));
	assert_in_range(n, 1, sizeof(bytes) - 1);
	/* And all of it is, in the end. */
	listen_with(run_loop);
	assert_int_equal(write(child, bytes, sizeof(bytes)), sizeof(bytes));
}

static void print_into_full_pipe(void)
{
	static char bytes[4096];
	int ends[2];

	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	while (write(ends[1], bytes, sizeof(bytes)) > 0)
		;
	assert_int_equal(fcntl(ends[1], F_SETFL, 0), 0);
	dup2(ends[1], STDERR_FILENO);
	run_loop();
	close(ends[0]);
	close(ends[1]);
}

/* A log that nobody reads is no reason to stand still. */
static void full_log_is_not_waited_for(void **state)
{
	(void)state;
	speak("one\ntwo\n", 8);
	listen_with(print_into_full_pipe);
	speak("three\n", 6);
	listen_with(run_loop);
	assert_int_equal(atoi(printed + strlen("lasthop: port a: ")), 2);
	assert_int_equal(count("port a: three\n"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lines_are_marked, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ended_child_is_heard, set_up, tear_down),
		cmocka_unit_test_setup_teardown(long_lines_are_cut, set_up, tear_down),
		cmocka_unit_test_setup_teardown(too_many_are_left_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(floods_wait, set_up, tear_down),
		cmocka_unit_test_setup_teardown(full_log_is_not_waited_for, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
