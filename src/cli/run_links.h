/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hears from the kernel of network interfaces that come or change, in our own network namespace.
 */
#ifndef LASTHOP_CLI_RUN_LINKS_H
#define LASTHOP_CLI_RUN_LINKS_H

#include "lib/compiler.h"

/* A descriptor to watch for input, which the caller closes; or a negative errno. Needs no privilege. */
int run_links_open(void) must_check;

/* Calls `came` with the name of each interface that was told of; if some were missed, for none of these. */
void run_links_read(int fd, void (*came)(void *arg, const char *name), void *arg);

#endif
