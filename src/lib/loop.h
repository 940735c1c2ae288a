/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An event loop over epoll: descriptors, timers and signals for one thread.
 *
 * A loop and everything registered with it belong to one thread, the one that calls loop_run();
 * other threads reach it through a descriptor (an eventfd, a pipe) that it watches. The structures
 * are embedded in their user's and live there: nothing is allocated per registration.
 *
 * Callbacks may add, change and remove anything, themselves included, and may free what they
 * removed: an event that was already fetched for a removed entry is forgotten.
 *
 * Functions return 0 or a negative errno. Moments are nanoseconds of clock_now_ns(); timers fire up
 * to a millisecond late, never early.
 */
#ifndef LIB_LOOP_H
#define LIB_LOOP_H

#include "lib/compiler.h"

#include <signal.h>
#include <sys/epoll.h>

/* Events fetched at once; between two such batches timers have their turn. */
#define LOOP_BATCH 64

struct loop;

struct loop_io {
	int fd;
	/* `events` is what epoll said; EPOLLERR and EPOLLHUP come unasked. */
	void (*ready)(struct loop_io *io, uint32_t events);
	/* private */
	uint32_t watched;
};

struct loop_timer {
	void (*expired)(struct loop_timer *timer);
	/* private */
	uint64_t at_ns;
	struct loop_timer *next;
	struct loop_timer **link; /* what points to us; NULL when not running */
};

struct loop_signals {
	void (*caught)(struct loop_signals *signals, int signo);
	/* private */
	struct loop_io io;
	sigset_t before;
};

/* Running timers point into it: it must not be moved. */
struct loop {
	int epoll_fd;
	bool stopped;
	struct loop_timer *timers;             /* soonest first */
	uint64_t timers_now_ns;                /* not 0 while timers are being fired */
	struct epoll_event events[LOOP_BATCH]; /* the batch being handled */
	int n_events;
};

int loop_init(struct loop *loop) must_check;

/* Forgets all that is registered; closes none of it. */
void loop_cleanup(struct loop *loop);

/* `io->fd` and `io->ready` are set by the caller; `events` is a mask of EPOLLIN and its like. */
int loop_add(struct loop *loop, struct loop_io *io, uint32_t events) must_check;

/* Does nothing when `events` is what is watched already. */
int loop_modify(struct loop *loop, struct loop_io *io, uint32_t events) must_check;

/* To be called before the descriptor is closed; harmless for what is not registered. */
void loop_remove(struct loop *loop, struct loop_io *io);

/*
 * Starts a timer, or moves one that runs. It fires once. A moment that has passed means the next
 * round, so a timer that starts itself anew cannot starve descriptors. The cost grows with the
 * number of running timers that are due sooner: meant for tens of them.
 */
void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t at_ns);
void loop_timer_stop(struct loop_timer *timer);
bool loop_timer_running(const struct loop_timer *timer);

/*
 * Delivers the signals of the zero-terminated list through the loop. Blocks them in the calling
 * thread, so call it before other threads are started: they inherit that.
 */
int loop_signals_add(struct loop *loop, struct loop_signals *signals, const int *signos) must_check;

/* Also gives the thread its old signal mask back. */
void loop_signals_remove(struct loop *loop, struct loop_signals *signals);

/* Waits at most `timeout_ms` (-1: for ever) for anything to happen and handles it. */
int loop_run_once(struct loop *loop, int timeout_ms);

/* Until loop_stop(), whose effect is remembered if it was called before. */
int loop_run(struct loop *loop);

/* From a callback. */
void loop_stop(struct loop *loop);

#endif
