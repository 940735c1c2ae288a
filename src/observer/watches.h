/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which process is watched in which slot: carries out the requests that come over the socket.
 *
 * Owns the watched processes' pidfds; the tables, the loop and the socket are the caller's and outlive it. One
 * thread, the loop's. Requests are not trusted: each is checked, a wrong one is ignored with a line in the log,
 * and nothing grows beyond a descriptor a slot. Functions return 0 or a negative errno.
 */
#ifndef LASTHOP_OBSERVER_WATCHES_H
#define LASTHOP_OBSERVER_WATCHES_H

#include "lib/log.h"
#include "lib/loop.h"
#include "observer/sched_tables.h"

#include <sys/types.h>

struct watches;

struct watch {
	struct loop_io pidfd; /* -1: nobody is watched */
	pid_t pid;
	struct watches *watches;
};

struct watches {
	struct loop *loop;
	struct sched_tables *tables;
	struct loop_io sock;
	struct log_limit limit;
	struct watch slot[OBSERVER_SLOTS];
};

/* Says hello on `sock` and listens to it; the loop stops when it closes. */
int watches_init(struct watches *watches, struct loop *loop, struct sched_tables *tables, int sock) must_check;

/* Ends all of them. */
void watches_cleanup(struct watches *watches);

#endif
