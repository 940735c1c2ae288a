/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A round of the loop fetches a batch of events, handles it, then fires the timers that are due.
 *
 * The batch lies in the loop and not on the stack so that loop_remove() can strike out events of
 * the entry that goes: its memory may be freed or used for something else before we would get
 * there.
 *
 * @syscalls core: epoll_create1
 * @syscalls core driver: epoll_ctl epoll_wait epoll_pwait close
 * @syscalls core: signalfd4 rt_sigprocmask read
 */
#include "lib/loop.h"

#include "lib/clock.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

int loop_init(struct loop *loop)
{
	memset(loop, 0, sizeof(*loop));
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return loop->epoll_fd < 0 ? -errno : 0;
}

void loop_cleanup(struct loop *loop)
{
	while (loop->timers != NULL)
		loop_timer_stop(loop->timers);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	loop->epoll_fd = -1;
	loop->n_events = 0;
}

static int loop_control(struct loop *loop, int op, struct loop_io *io, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = io};

	if (epoll_ctl(loop->epoll_fd, op, io->fd, &event) < 0)
		return -errno;
	io->watched = events;
	return 0;
}

int loop_add(struct loop *loop, struct loop_io *io, uint32_t events)
{
	return loop_control(loop, EPOLL_CTL_ADD, io, events);
}

int loop_modify(struct loop *loop, struct loop_io *io, uint32_t events)
{
	if (io->watched == events)
		return 0;
	return loop_control(loop, EPOLL_CTL_MOD, io, events);
}

void loop_remove(struct loop *loop, struct loop_io *io)
{
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
	io->watched = 0;
	for (int i = 0; i < loop->n_events; i++) {
		if (loop->events[i].data.ptr == io)
			loop->events[i].data.ptr = NULL;
	}
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
	struct loop_timer **link = &loop->timers;

	loop_timer_stop(timer);
	if (loop->timers_now_ns != 0)
		at_ns = max(at_ns, loop->timers_now_ns + 1);
	while (*link != NULL && (*link)->at_ns <= at_ns)
		link = &(*link)->next;
	timer->at_ns = at_ns;
	timer->next = *link;
	timer->link = link;
	if (timer->next != NULL)
		timer->next->link = &timer->next;
	*link = timer;
}

void loop_timer_stop(struct loop_timer *timer)
{
	if (timer->link == NULL)
		return;
	*timer->link = timer->next;
	if (timer->next != NULL)
		timer->next->link = timer->link;
	timer->next = NULL;
	timer->link = NULL;
}

bool loop_timer_running(const struct loop_timer *timer)
{
	return timer->link != NULL;
}

static void loop_fire_timers(struct loop *loop)
{
	if (loop->timers == NULL)
		return;
	loop->timers_now_ns = clock_now_ns();
	while (loop->timers != NULL && loop->timers->at_ns <= loop->timers_now_ns) {
		struct loop_timer *timer = loop->timers;

		loop_timer_stop(timer);
		timer->expired(timer);
	}
	loop->timers_now_ns = 0;
}

static void loop_signals_ready(struct loop_io *io, uint32_t events)
{
	struct loop_signals *signals = container_of(io, struct loop_signals, io);
	struct signalfd_siginfo info;

	(void)events;
	/* One at a time: the callback may have removed us. epoll tells of the next one. */
	if (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		signals->caught(signals, (int)info.ssi_signo);
}

int loop_signals_add(struct loop *loop, struct loop_signals *signals, const int *signos)
{
	sigset_t mask;
	int error;

	sigemptyset(&mask);
	for (; *signos != 0; signos++)
		sigaddset(&mask, *signos);
	signals->io.ready = loop_signals_ready;
	signals->io.fd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signals->io.fd < 0)
		return -errno;
	error = loop_add(loop, &signals->io, EPOLLIN);
	if (error == 0)
		error = -pthread_sigmask(SIG_BLOCK, &mask, &signals->before);
	if (error != 0) {
		close(signals->io.fd);
		signals->io.fd = -1;
	}
	return error;
}

void loop_signals_remove(struct loop *loop, struct loop_signals *signals)
{
	if (signals->io.fd < 0)
		return;
	loop_remove(loop, &signals->io);
	close(signals->io.fd);
	signals->io.fd = -1;
	pthread_sigmask(SIG_SETMASK, &signals->before, NULL);
}

/* What is left of `timeout_ms` when the next timer must not be missed. */
static int loop_timeout(const struct loop *loop, int timeout_ms)
{
	uint64_t now, wait_ms;

	if (loop->timers == NULL)
		return timeout_ms;
	now = clock_now_ns();
	if (loop->timers->at_ns <= now)
		return 0;
	/* Rounded up, lest we spin through the last fraction of a millisecond. */
	wait_ms = (loop->timers->at_ns - now - 1) / NS_PER_MS + 1;
	wait_ms = min(wait_ms, (uint64_t)INT_MAX);
	return timeout_ms < 0 ? (int)wait_ms : min((int)wait_ms, timeout_ms);
}

int loop_run_once(struct loop *loop, int timeout_ms)
{
	int n = epoll_wait(loop->epoll_fd, loop->events, LOOP_BATCH, loop_timeout(loop, timeout_ms));

	if (n < 0 && errno != EINTR)
		return -errno;
	loop->n_events = max(n, 0);
	for (int i = 0; i < loop->n_events; i++) {
		struct loop_io *io = loop->events[i].data.ptr;

		if (io != NULL)
			io->ready(io, loop->events[i].events);
	}
	loop->n_events = 0;
	loop_fire_timers(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	int error = 0;

	while (!loop->stopped && error == 0)
		error = loop_run_once(loop, -1);
	loop->stopped = false;
	return error;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
