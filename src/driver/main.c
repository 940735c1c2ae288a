/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lasthop-driver: one device, one port, one process. Opens both with the privilege it was started with, gives that up,
 * and moves frames until either is gone.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
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

/* Puts another file in the place of descriptor fd. If that cannot be had it stays as it is. */
static void replace(int fd, const char *path, int flags)
{
	int other = open(path, flags | O_NOCTTY | O_CLOEXEC);

	if (other < 0)
		return;
	if (dup2(other, fd) < 0)
		log_debug("descriptor %d stays as it is", fd);
	if (other != fd)
		close(other);
}

/*
 * What whoever started us has open is not for a process that a device talks to. A terminal is usually open three times
 * over for reading and writing: of what is typed there nothing is for us.
 */
static void leave_descriptors(void)
{
	char path[32];

	close_range(STDERR_FILENO + 1, UINT_MAX, 0);
	replace(STDIN_FILENO, "/dev/null", O_RDONLY);
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (isatty(fd))
			replace(fd, path, O_WRONLY);
	}
}

static int serve(struct driver *driver, const struct options *options)
{
	int status = driver_open(driver);

	if (status == EXIT_SUCCESS && !options->sandbox)
		log_warn("runs without a sandbox: a fault in it is a fault of all that its user may do");
	if (status == EXIT_SUCCESS && options->sandbox && confine_sight(options->user, options->kind))
		status = EXIT_FAILURE;
	if (status == EXIT_SUCCESS)
		status = driver_start(driver);
	if (status == EXIT_SUCCESS && options->sandbox && confine_calls(options->kind, SANDBOX_KILL))
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
	leave_descriptors();
	driver.config = options.config;
	driver.kind = options.kind;
	if (options.remove)
		return driver_remove(options.kind, &options.config);
	status = serve(&driver, &options);
	driver_close(&driver);
	return status;
}
