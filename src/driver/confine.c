/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sight first, as that takes privilege; then privilege; system calls last. See lib/sandbox.c for the mechanics.
 *
 * A process namespace is not among them: it would take another process in between, and there is nothing to be seen
 * of others without /proc, and nothing to be done to them without kill and ptrace.
 *
 * What threads and libc need on top of the tags at the places of use:
 *
 * @syscalls driver: read write close futex exit exit_group munmap madvise brk rt_sigprocmask rt_sigreturn clock_gettime
 * @syscalls driver: restart_syscall set_robust_list rseq getrandom
 */
#include "driver/confine.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "driver/seccomp_filter.h"
#include "lib/log.h"
#include "lib/program.h"

/* What is done to the calling thread alone, and so is for processes that have no other yet. */
static int enter_namespaces(const struct driver_kind *kind)
{
	int err = sandbox_enter_nothing();

	if (err)
		return err;
	if (unshare(CLONE_NEWIPC | CLONE_NEWUTS | (kind->keeps_network ? 0 : CLONE_NEWNET)) < 0) {
		err = -errno;
		log_error("sandbox: new namespaces: %s; the kernel needs CONFIG_NAMESPACES", strerror(errno));
	}
	return err;
}

int confine_sight(const char *user, const struct driver_kind *kind)
{
	static const char *const usual[] = {"lasthop-driver", "lasthop", "nobody", NULL};
	uid_t uid;
	gid_t gid;
	int err;

	if (!program_find_user(user, usual, &uid, &gid))
		return -EPERM;
	err = kind->has_threads ? sandbox_enter_removed() : enter_namespaces(kind);
	if (err)
		return err;
	err = sandbox_drop_privilege(uid, gid);
	if (err)
		return err;
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	return 0;
}

int confine_calls(const struct driver_kind *kind, enum sandbox_verdict verdict)
{
	/* Lower descriptors than these are taken, and poll() wants the limit to be no less than what it watches. */
	const struct rlimit files = {8, 8}, none = {0, 0};

	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_NPROC, &none) < 0 ||
	    setrlimit(RLIMIT_NOFILE, &files) < 0)
		return -errno;
	if (kind->calls)
		return sandbox_seccomp(kind->calls, kind->call_count, verdict);
	return sandbox_seccomp(seccomp_driver, ARRAY_SIZE(seccomp_driver), verdict);
}
