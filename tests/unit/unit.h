/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every unit test includes first: cmocka, with the headers that it wants before it.
 */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs `check` in a child of its own, for what cannot be undone; returns its exit status or -1. */
static inline int unit_in_child(int (*check)(void *arg), void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		/* cmocka would take a fault here for one of the test that runs in the parent. */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		_exit(check(arg));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* A directory of its own under $TMPDIR or /tmp; the caller removes it. */
static inline char *unit_temporary_dir(char path[64])
{
	const char *tmp = getenv("TMPDIR");

	if (tmp == NULL || snprintf(path, 64, "%s/lasthop-unit-XXXXXX", tmp) >= 64)
		snprintf(path, 64, "/tmp/lasthop-unit-XXXXXX");
	return mkdtemp(path);
}

/* The lowest descriptor that is free: unchanged over what must not leak any. */
static inline int unit_next_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

#endif
