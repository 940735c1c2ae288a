/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a child that is not trusted writes, on its way to our own standard error: by lines, each with whose it is in
 * front, control characters made visible, long lines cut. A child may write a burst of RUN_OUTPUT_BURST lines, then one
 * a second, however often it is started again; what is more is read and left out, and it is said how many lines that
 * were.
 *
 * Owns the pipe's reading end. One thread, that of the loop, which is never made to wait: a child that writes without
 * end is read a bit at a time, and a line for which our standard error has no room is left out.
 */
#ifndef LASTHOP_CLI_RUN_OUTPUT_H
#define LASTHOP_CLI_RUN_OUTPUT_H

#include "lib/log.h"
#include "lib/loop.h"

#include <stddef.h>

#define RUN_OUTPUT_BURST    100
#define RUN_OUTPUT_LINE_MAX 512 /* bytes of a line that are kept; cut lines end in " [cut]" */

struct run_output {
	struct loop *loop;
	const char *name; /* stands in front of each line */
	/* Private from here on. */
	struct loop_io io;              /* fd -1: not open */
	struct loop_timer pause_timer;  /* reads on */
	struct loop_timer report_timer; /* says what was left out if no line does */
	struct log_limit limit;         /* of lines; suppressed: since it was said */
	size_t used;                    /* of `line` */
	bool cut;                       /* and more of it came */
	char line[RUN_OUTPUT_LINE_MAX];
};

/* `name` must outlive it. */
void run_output_init(struct run_output *output, struct loop *loop, const char *name);

/*
 * A pipe for a child that is about to be started. Returns its writing end, which is closed on exec and the caller's; or
 * a negative errno. The one before must have been finished.
 */
int run_output_open(struct run_output *output) must_check;

/* The child has ended: takes what it left, and closes. Harmless if it is not open. */
void run_output_finish(struct run_output *output);

/* Finishes, says what is still to be said, and stops the timers. */
void run_output_close(struct run_output *output);

#endif
