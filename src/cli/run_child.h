/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A child of `lasthop run`: how it is started, and started again after it has ended. The first time at once, then with
 * delays that grow until it has lived for a while. Functions print what goes wrong.
 */
#ifndef LASTHOP_CLI_RUN_CHILD_H
#define LASTHOP_CLI_RUN_CHILD_H

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/run_output.h"
#include "lib/compiler.h"
#include "lib/loop.h"

struct run_child {
	struct loop *loop;
	const char *name;
	char path[PATH_MAX];
	char **argv; /* NULL-terminated */
	int argc;
	int keep_fds[2];           /* are passed on although they are closed on exec; -1: none */
	struct run_output *output; /* for all that it prints; NULL: it has our standard output and error */
	pid_t pid;                 /* 0: does not run */
	uint64_t started_ns;
	uint64_t wait_ns; /* before the next restart */
	struct loop_timer timer;
	void (*started)(struct run_child *child); /* whenever it was; may be NULL */
};

/* `room` for so many arguments. 0; -ENOENT: there is no such program, which is not said here; -ENOMEM. */
int run_child_init(struct run_child *child, struct loop *loop, const char *name, int room) must_check;
void run_child_free(struct run_child *child);

/* value may be NULL; both must outlive the child. */
void run_child_argument(struct run_child *child, const char *option, const char *value);
/* Takes the last `count` arguments away again. */
void run_child_forget_arguments(struct run_child *child, int count);

/* Tries again later by itself if it cannot be started. It will not outlive us. */
void run_child_start(struct run_child *child);

/* waitpid() said so. */
void run_child_ended(struct run_child *child);
void run_child_describe_end(const struct run_child *child, int wait_status);
/* How it ended, in a few words. */
void run_child_end_text(int wait_status, char *text, size_t size);
/* Now or in a while; run_child_stop() prevents it. */
void run_child_restart(struct run_child *child);
/* After this time, which does not grow. */
void run_child_restart_after(struct run_child *child, uint64_t wait_ns);

/* Sends it a signal (0: none) to end it; it is not started again. Harmless if it does not run. */
void run_child_stop(struct run_child *child, int signo);

#endif
