/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the programs of a switch have in common besides their sandbox: how they end, whom they become, how their options
 * say numbers. Main thread, as they start.
 */
#ifndef LIB_PROGRAM_H
#define LIB_PROGRAM_H

#include "lib/loop.h"

#include <sys/types.h>

struct program_end {
	/* private */
	struct loop_signals signals;
	struct loop *loop;
};

/* Stops `loop` by SIGTERM and SIGINT. 0 or a negative errno. */
int program_end_by_signals(struct program_end *end, struct loop *loop) must_check;

/*
 * Whom to become: who we are unless that is root; else the user `name`, or, if it is NULL, the first that there is of
 * `usual`, which ends with NULL. False, after a line in the log, if there is none, or only one who is root again.
 */
bool program_find_user(const char *name, const char *const *usual, uid_t *uid, gid_t *gid) must_check;

/* As many descriptors as may be; a line in the log if that fails. */
void program_raise_descriptor_limit(void);

/* A decimal number. False, after a line on standard error, if it is none or not from `least` to `most`. */
bool program_parse_number(const char *text, const char *option, uint64_t least, uint64_t most, uint64_t *number)
	must_check;

#endif
