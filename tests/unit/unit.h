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

/* One of our own standard streams, kept while what is written to it goes to a file. */
struct unit_capture {
	int fd;
	int file;
	int saved;
};

static inline struct unit_capture unit_capture_begin(int fd)
{
	char path[] = "/tmp/lasthop-capture-XXXXXX";
	struct unit_capture capture = {.fd = fd, .file = mkstemp(path), .saved = dup(fd)};

	assert_true(capture.file >= 0 && capture.saved >= 0);
	unlink(path);
	fflush(NULL);
	dup2(capture.file, fd);
	return capture;
}

/* What was written, as a string. */
static inline void unit_capture_end(struct unit_capture capture, char *text, size_t size)
{
	ssize_t n;

	fflush(NULL);
	dup2(capture.saved, capture.fd);
	close(capture.saved);
	n = pread(capture.file, text, size - 1, 0);
	close(capture.file);
	assert_true(n >= 0);
	text[n] = '\0';
}

/* The lowest descriptor that is free: unchanged over what must not leak any. */
static inline int unit_next_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

#endif
