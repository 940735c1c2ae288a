/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line of lasthop-driver. Strings point into argv. Main thread.
 */
#ifndef LASTHOP_DRIVER_OPTIONS_H
#define LASTHOP_DRIVER_OPTIONS_H

#include <stdbool.h>

#include "driver/device.h"

struct options {
	struct driver_config config;
	const struct driver_kind *kind;
	const char *user;
	bool remove;
	bool sandbox;
	int log_level;
};

/* Returns -1 to go on, or an exit status; what is wrong is on standard error. */
int options_parse(struct options *options, int argc, char **argv);

#endif
