/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a driver gives up what it does not need, once its device is open and its port connected. In two steps, because
 * its threads are started between them:
 *
 *	step             gone afterwards
 *	confine_sight    files (an empty, read-only root), the host's network, IPC and host name (namespaces of its
 *	                 own), root, capabilities, gaining any; being traced or dumped by its own user
 *	confine_calls    new descriptors, new processes (resource limits), and every system call that no
 *	                 `@syscalls driver:` tag of its sources names
 *
 * What remains is what it holds: the device, the port's socket, its eventfds, its own memory. None of these is another
 * process's memory, or leads to it: the port's socket is a driver's way to give memory away, not to get any.
 *
 * Both return 0 or a negative errno after a line in the log; the process must not go on then. Main thread, the first
 * one before there are others.
 */
#ifndef LASTHOP_DRIVER_CONFINE_H
#define LASTHOP_DRIVER_CONFINE_H

#include <stdbool.h>

#include "lib/sandbox.h"

/*
 * user: whom to become if we are root; NULL: lasthop-driver, or else lasthop, or else nobody. keep_network: the device
 * does not work from another network namespace.
 */
int confine_sight(const char *user, bool keep_network) must_check;

int confine_calls(enum sandbox_verdict verdict) must_check;

#endif
