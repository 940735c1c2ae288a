/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A test in the observer's place: the socket's two ends and the two tables, which it fills as it likes. Used by one
 * thread, but for the tables. What cannot be set up fails the test.
 */
#ifndef TESTS_SWITCH_OBSERVER_H
#define TESTS_SWITCH_OBSERVER_H

#include "testbed.h"

#include "proto/observer_map.h"

struct observer {
	int sock;  /* ours */
	int their; /* the core's, for testbed_start_observed() */
	int fds[2];
	struct observer_slot *slots; /* [OBSERVER_SLOTS] */
	struct observer_cpu *cpus;   /* [OBSERVER_CPUS] */
};

void observer_open(struct observer *observer);
void observer_close(struct observer *observer);

/* OBSERVER_HELLO, with the tables, or OBSERVER_GONE. */
void observer_say(const struct observer *observer, uint32_t type);

#endif
