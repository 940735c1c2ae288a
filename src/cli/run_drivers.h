/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver domains of `lasthop run`: one lasthop-driver for each port whose settings name one. Which there are is
 * read from DIR/state.json whenever the control plane says that it has changed; how they are is written to
 * DIR/drivers.json, where the control plane finds it. So either can die, and whoever comes next finds the truth in the
 * files.
 *
 * A driver that ends is started again; one whose heartbeats stop is killed first; one whose port is deleted is ended,
 * and what it would leave behind (a TAP) is removed. One thread, that of the loop. What goes wrong is printed.
 */
#ifndef LASTHOP_CLI_RUN_DRIVERS_H
#define LASTHOP_CLI_RUN_DRIVERS_H

#include "cli/run_child.h"
#include "proto/stats_reader.h"

#include <sys/queue.h>

#define RUN_DRIVERS_FILE "drivers.json"

struct run_driver;

struct run_drivers {
	struct loop *loop;
	const char *dir;
	const struct run_child *core; /* while it stands still nobody's heartbeats are missed */
	bool keep_devices;            /* at our end; what belongs to a port that is deleted goes all the same */
	/* Private from here on. */
	TAILQ_HEAD(, run_driver) list;
	const char *arguments[8]; /* of all drivers */
	unsigned int argument_count;
	int changed_fds[2]; /* the control plane writes to the second, which is kept for its successors */
	struct loop_io changed_io;
	struct loop_io links_io; /* netlink: interfaces that come; fd -1: not to be had */
	struct loop_timer heartbeat_timer;
	struct stats_reader stats;
	bool stats_open;
	bool program_missing; /* and that was said */
	bool stopping;
};

/* 0 or a negative errno; run_drivers_close() in any case. */
int run_drivers_open(struct run_drivers *drivers, struct loop *loop, const char *dir) must_check;
void run_drivers_close(struct run_drivers *drivers);

/* An option for all drivers, before the first one is started; value may be NULL. Both must outlive them. */
void run_drivers_argument(struct run_drivers *drivers, const char *option, const char *value);

/* To be written to, a byte, whenever the ports in DIR/state.json have changed. */
static inline int run_drivers_changed_fd(const struct run_drivers *drivers)
{
	return drivers->changed_fds[1];
}

/* Once the loop runs: begins to listen. */
int run_drivers_start(struct run_drivers *drivers) must_check;

/* waitpid() said so. False: it is none of them. */
bool run_drivers_ended(struct run_drivers *drivers, pid_t pid, int wait_status);

/* Ends all of them. They are gone when none is left; run_drivers_kill() if that takes too long. */
void run_drivers_stop(struct run_drivers *drivers);
void run_drivers_kill(struct run_drivers *drivers);
bool run_drivers_left(const struct run_drivers *drivers);

#endif
