/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * After each stage of the sandbox, what it takes away is gone. Each check runs in a child, once as
 * whoever runs the test and, if that is root, once more as nobody.
 */
#include "unit.h"

#include "lib/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define NOBODY 65534

static char dir[64];

/* In a child: tells which expectation failed and makes it the exit status. */
#define EXPECT(condition)                                                                                 \
	do {                                                                                              \
		if (!(condition)) {                                                                       \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
			return 1;                                                                         \
		}                                                                                         \
	} while (0)

static int setup(void **state)
{
	char path[96];
	int fd;

	(void)state;
	if (unit_temporary_dir(dir) == NULL || chmod(dir, 0777) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/inside", dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	char path[96];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, i == 0 ? "inside" : "made");
		unlink(path);
	}
	return rmdir(dir);
}

static int become_nobody(void)
{
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return -errno;
	/* Changing ids gave our /proc to root. */
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static int check_root(void *as_nobody)
{
	int fd;

	EXPECT(as_nobody == NULL || become_nobody() == 0);
	EXPECT(sandbox_enter_root(dir) == 0);
	EXPECT(access("/inside", R_OK) == 0);
	EXPECT(access("inside", R_OK) == 0);
	EXPECT(access("/..//etc", F_OK) < 0 && errno == ENOENT);
	EXPECT(open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 && errno == ENOENT);
	EXPECT(open("/proc/self/mem", O_RDONLY | O_CLOEXEC) < 0 && errno == ENOENT);
	unlink("/made");
	fd = open("/made", O_CREAT | O_RDWR | O_CLOEXEC, 0700);
	EXPECT(fd >= 0);
	EXPECT(write(fd, "#!/bin/sh\n", 10) == 10);
	close(fd);
	EXPECT(execl("/made", "made", (char *)NULL) < 0 && errno == EACCES);
	return 0;
}

static int check_nothing(void *as_nobody)
{
	EXPECT(as_nobody == NULL || become_nobody() == 0);
	EXPECT(sandbox_enter_nothing() == 0);
	EXPECT(access("/", X_OK) == 0);
	EXPECT(access("/..//etc", F_OK) < 0 && errno == ENOENT);
	EXPECT(open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 && errno == ENOENT);
	EXPECT(open("/proc/self/mem", O_RDONLY | O_CLOEXEC) < 0 && errno == ENOENT);
	EXPECT(open("/made", O_CREAT | O_RDWR | O_CLOEXEC, 0700) < 0 && errno == EROFS);
	EXPECT(mkdir("/made", 0700) < 0 && errno == EROFS);
	return 0;
}

static int check_missing_root(void *as_nobody)
{
	EXPECT(as_nobody == NULL || become_nobody() == 0);
	EXPECT(sandbox_enter_root("/nonexistent") == -ENOENT);
	return 0;
}

static int check_privilege(void *as_nobody)
{
	bool was_root = geteuid() == 0;
	uid_t uids[3];
	int death_signal = 0;

	EXPECT(as_nobody == NULL || become_nobody() == 0);
	EXPECT(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
	EXPECT(sandbox_enter_root(dir) == 0);
	EXPECT(sandbox_drop_privilege(NOBODY, NOBODY) == 0);
	EXPECT(prctl(PR_GET_PDEATHSIG, &death_signal) == 0 && death_signal == SIGUSR1);
	EXPECT(getresuid(&uids[0], &uids[1], &uids[2]) == 0);
	if (was_root)
		EXPECT(uids[0] == NOBODY && uids[1] == NOBODY && uids[2] == NOBODY);
	if (was_root && as_nobody == NULL)
		EXPECT(getgroups(0, NULL) == 0);
	EXPECT(setresuid(0, 0, 0) < 0);
	EXPECT(chroot("/") < 0 && errno == EPERM);
	EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	EXPECT(prctl(PR_CAPBSET_READ, 0, 0, 0, 0) == 0);
	EXPECT(access("/inside", R_OK) == 0);
	return 0;
}

static const int few_calls[] = {SYS_write, SYS_exit_group, SYS_close};

static int check_filter(void *arg)
{
	(void)arg;
	EXPECT(sandbox_seccomp(few_calls, ARRAY_SIZE(few_calls), SANDBOX_EPERM) == 0);
	EXPECT(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EPERM);
	EXPECT(syscall(SYS_execve, NULL, NULL, NULL) < 0 && errno == EPERM);
	EXPECT(syscall(SYS_unlinkat, AT_FDCWD, "x", 0) < 0 && errno == EPERM);
	EXPECT(close(-1) < 0 && errno == EBADF);
	return 0;
}

static int check_kill(void *arg)
{
	(void)arg;
	EXPECT(sandbox_seccomp(few_calls, ARRAY_SIZE(few_calls), SANDBOX_KILL) == 0);
	socket(AF_UNIX, SOCK_STREAM, 0);
	return 0;
}

static int check_too_many_calls(void *arg)
{
	static int calls[1000];

	(void)arg;
	EXPECT(sandbox_seccomp(calls, ARRAY_SIZE(calls), SANDBOX_KILL) == -E2BIG);
	return 0;
}

static void in_child(int (*check)(void *arg))
{
	assert_int_equal(unit_in_child(check, NULL), 0);
	if (geteuid() == 0)
		assert_int_equal(unit_in_child(check, dir), 0);
}

static void test_root(void **state)
{
	(void)state;
	in_child(check_root);
}

static void test_nothing(void **state)
{
	(void)state;
	in_child(check_nothing);
}

static void test_missing_root(void **state)
{
	(void)state;
	in_child(check_missing_root);
}

static void test_privilege(void **state)
{
	(void)state;
	in_child(check_privilege);
}

static void test_filter(void **state)
{
	(void)state;
	assert_int_equal(unit_in_child(check_filter, NULL), 0);
	assert_int_equal(unit_in_child(check_too_many_calls, NULL), 0);
}

static void test_filter_kills(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(check_kill(NULL));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_root, setup, teardown),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test_setup_teardown(test_missing_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_privilege, setup, teardown),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_filter_kills),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
