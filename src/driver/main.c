/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lasthop-driver: one device, one port, one process. Opens both with the privilege it was started with, gives that up,
 * and moves frames until either is gone.
 */
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "driver/confine.h"
#include "driver/driver.h"
#include "driver/options.h"
#include "lib/log.h"

#ifdef SANITIZED
/* The search for leaks needs /proc and ptrace, which the sandbox takes away. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

static int serve(struct driver *driver, const struct options *options)
{
	int status = driver_open(driver);

	if (status == EXIT_SUCCESS && !options->sandbox)
		log_warn("runs without a sandbox: a fault in it is a fault of all that its user may do");
	if (status == EXIT_SUCCESS && options->sandbox && confine_sight(options->user, options->kind->keeps_network))
		status = EXIT_FAILURE;
	if (status == EXIT_SUCCESS)
		status = driver_start(driver);
	if (status == EXIT_SUCCESS && options->sandbox && confine_calls(SANDBOX_KILL))
		status = EXIT_FAILURE;
	if (status == EXIT_SUCCESS)
		status = driver_run(driver);
	return status;
}

int main(int argc, char **argv)
{
	static struct driver driver;
	struct options options;
	int status = options_parse(&options, argc, argv);

	if (status >= 0)
		return status;
	log_init("lasthop-driver", options.log_level);
	/* What whoever started us has open is not for a process that a device talks to. */
	close_range(STDERR_FILENO + 1, UINT_MAX, 0);
	driver.config = options.config;
	driver.kind = options.kind;
	if (options.remove)
		return driver_remove(options.kind, &options.config);
	status = serve(&driver, &options);
	driver_close(&driver);
	return status;
}
