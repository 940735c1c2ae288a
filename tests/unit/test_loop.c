/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The event loop: what happens to entries that are removed while their event is on its way, the
 * order of timers, signals.
 */
#include "unit.h"

#include "lib/clock.h"
#include "lib/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

static struct loop loop;

static int setup(void **state)
{
	(void)state;
	return loop_init(&loop);
}

static int teardown(void **state)
{
	(void)state;
	loop_cleanup(&loop);
	return 0;
}

struct entry {
	struct loop_io io;
	struct entry *victim;
	int calls;
};

/* The first that is called removes the other, whose event is in the same batch. */
static void entry_ready(struct loop_io *io, uint32_t events)
{
	struct entry *entry = container_of(io, struct entry, io);

	assert_true((events & EPOLLIN) != 0);
	entry->calls++;
	if (entry->victim != NULL) {
		loop_remove(&loop, &entry->victim->io);
		close(entry->victim->io.fd);
		/* Whoever calls it now calls NULL. */
		memset(entry->victim, 0, sizeof(*entry->victim));
		entry->victim = NULL;
	}
}

static void entry_init(struct entry *entry, struct entry *victim, unsigned int counter)
{
	entry->io.fd = eventfd(counter, EFD_NONBLOCK | EFD_CLOEXEC);
	entry->io.ready = entry_ready;
	entry->victim = victim;
	entry->calls = 0;
	assert_true(entry->io.fd >= 0);
	assert_int_equal(loop_add(&loop, &entry->io, EPOLLIN), 0);
}

static void test_remove_other(void **state)
{
	struct entry a, b;

	(void)state;
	entry_init(&a, &b, 1);
	entry_init(&b, &a, 1);
	assert_int_equal(loop_run_once(&loop, 0), 0);
	assert_int_equal(a.calls + b.calls, 1);
	loop_remove(&loop, a.calls > 0 ? &a.io : &b.io);
	close(a.calls > 0 ? a.io.fd : b.io.fd);
}

static void test_remove_self(void **state)
{
	struct entry a;

	(void)state;
	entry_init(&a, &a, 1);
	assert_int_equal(loop_run_once(&loop, 0), 0);
	assert_null(a.io.ready);
	assert_int_equal(loop_run_once(&loop, 0), 0);
}

static void test_modify(void **state)
{
	struct entry a;

	(void)state;
	entry_init(&a, NULL, 1);
	assert_int_equal(loop_modify(&loop, &a.io, 0), 0);
	assert_int_equal(loop_run_once(&loop, 0), 0);
	assert_int_equal(a.calls, 0);
	assert_int_equal(loop_modify(&loop, &a.io, EPOLLIN), 0);
	assert_int_equal(loop_modify(&loop, &a.io, EPOLLIN), 0);
	assert_int_equal(loop_run_once(&loop, 0), 0);
	assert_int_equal(a.calls, 1);
	loop_remove(&loop, &a.io);
	loop_remove(&loop, &a.io);
	close(a.io.fd);
	assert_int_equal(loop_add(&loop, &a.io, EPOLLIN), -EBADF);
}

struct alarm {
	struct loop_timer timer;
	char name;
	struct alarm *stops;
	bool again;
};

static char fired[32];

static void alarm_expired(struct loop_timer *timer)
{
	struct alarm *alarm = container_of(timer, struct alarm, timer);

	assert_true(strlen(fired) < sizeof(fired) - 1);
	fired[strlen(fired)] = alarm->name;
	assert_false(loop_timer_running(timer));
	if (alarm->stops != NULL)
		loop_timer_stop(&alarm->stops->timer);
	if (alarm->again)
		loop_timer_start(&loop, timer, 0);
}

static void test_timer_order(void **state)
{
	struct alarm a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'}, d = {.name = 'd'};
	struct alarm *all[] = {&a, &b, &c, &d};
	uint64_t now = clock_now_ns();

	(void)state;
	memset(fired, 0, sizeof(fired));
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		all[i]->timer.expired = alarm_expired;
	b.stops = &d;
	c.again = true;
	loop_timer_start(&loop, &c.timer, now - 1);
	loop_timer_start(&loop, &d.timer, now);
	loop_timer_start(&loop, &a.timer, now - 3);
	loop_timer_start(&loop, &b.timer, now + 3600 * NS_PER_S);
	loop_timer_start(&loop, &b.timer, now - 2);
	assert_int_equal(loop_run_once(&loop, -1), 0);
	/* d was stopped by b although it was due; c, started anew in the past, waits its turn. */
	assert_string_equal(fired, "abc");
	assert_false(loop_timer_running(&d.timer));
	assert_int_equal(loop_run_once(&loop, -1), 0);
	assert_string_equal(fired, "abcc");
	loop_timer_stop(&c.timer);
	loop_timer_stop(&c.timer);
	assert_int_equal(loop_run_once(&loop, 0), 0);
	assert_string_equal(fired, "abcc");
}

static void test_timer_never_early(void **state)
{
	struct alarm a = {.name = 'a', .timer.expired = alarm_expired};
	uint64_t at = clock_now_ns() + 20 * NS_PER_MS;

	(void)state;
	memset(fired, 0, sizeof(fired));
	loop_timer_start(&loop, &a.timer, at);
	while (fired[0] == '\0')
		assert_int_equal(loop_run_once(&loop, -1), 0);
	assert_true(clock_now_ns() >= at);
}

static int caught_signo;

static void caught(struct loop_signals *signals, int signo)
{
	(void)signals;
	caught_signo = signo;
	loop_stop(&loop);
}

static void test_signals(void **state)
{
	struct loop_signals signals = {.caught = caught};

	(void)state;
	assert_int_equal(loop_signals_add(&loop, &signals, (const int[]){SIGTERM, SIGINT, SIGCHLD, 0}), 0);
	kill(getpid(), SIGTERM);
	assert_int_equal(loop_run(&loop), 0);
	assert_int_equal(caught_signo, SIGTERM);
	kill(getpid(), SIGCHLD);
	assert_int_equal(loop_run(&loop), 0);
	assert_int_equal(caught_signo, SIGCHLD);
	loop_signals_remove(&loop, &signals);
	loop_signals_remove(&loop, &signals);
}

static void test_stop_before_run(void **state)
{
	(void)state;
	loop_stop(&loop);
	assert_int_equal(loop_run(&loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_remove_other, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_self, setup, teardown),
		cmocka_unit_test_setup_teardown(test_modify, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timer_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timer_never_early, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_before_run, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
