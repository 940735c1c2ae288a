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
#include <pwd.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "driver/seccomp_filter.h"
#include "lib/log.h"

static bool find_user(const char *name, uid_t *uid, gid_t *gid)
{
	static const char *const usual[] = {"lasthop-driver", "lasthop", "nobody"};
	const struct passwd *user = name ? getpwnam(name) : NULL;

	for (unsigned int i = 0; !name && !user && i < ARRAY_SIZE(usual); i++)
		user = getpwnam(usual[i]);
	if (!user || user->pw_uid == 0) {
		log_error("there is no user '%s' without privileges: name another with --user", name ? name : "nobody");
		return false;
	}
	*uid = user->pw_uid;
	*gid = user->pw_gid;
	return true;
}

int confine_sight(const char *user, bool keep_network)
{
	uid_t uid = getuid();
	gid_t gid = getgid();
	int death_signal = 0, err;

	if (uid == 0 && !find_user(user, &uid, &gid))
		return -EPERM;
	err = sandbox_enter_nothing();
	if (err)
		return err;
	if (unshare(CLONE_NEWIPC | CLONE_NEWUTS | (keep_network ? 0 : CLONE_NEWNET)) < 0) {
		err = -errno;
		log_error("sandbox: new namespaces: %s; the kernel needs CONFIG_NAMESPACES", strerror(errno));
		return err;
	}
	/* Who started us may want us to die with it: the kernel forgets that when the user changes. */
	prctl(PR_GET_PDEATHSIG, &death_signal);
	err = sandbox_drop_privilege(uid, gid);
	if (err)
		return err;
	prctl(PR_SET_PDEATHSIG, death_signal);
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	return 0;
}

int confine_calls(enum sandbox_verdict verdict)
{
	/* Lower descriptors than these are taken, and poll() wants the limit to be no less than what it watches. */
	const struct rlimit files = {8, 8}, none = {0, 0};

	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_NPROC, &none) < 0 ||
	    setrlimit(RLIMIT_NOFILE, &files) < 0)
		return -errno;
	return sandbox_seccomp(seccomp_driver, ARRAY_SIZE(seccomp_driver), verdict);
}
