/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A new root is made the way containers do it: the directory is bound onto itself so that it is a
 * mount of its own, pivot_root() puts it in the place of the old root and the old one on top of it,
 * and what is on top is taken off. From then on no path leads out, and no descriptor should that
 * the caller did not mean to keep.
 *
 * The system call filter is a plain list of comparisons. Its length costs next to nothing: the
 * kernel evaluates it once per call number and remembers which are allowed whatever their
 * arguments.
 */
#include "lib/sandbox.h"

#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define SANDBOX_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define SANDBOX_ARCH AUDIT_ARCH_AARCH64
#else
#error "sandbox_seccomp() does not know this machine's AUDIT_ARCH"
#endif

#define SANDBOX_MAX_CALLS 256

static int sandbox_failed(const char *step, const char *advice)
{
	int error = errno;

	log_error("sandbox: %s: %s; %s", step, strerror(error), advice);
	return -error;
}

/* Who started us may want us to die with it: the kernel forgets that when user or privileges change. */
static int sandbox_death_signal(void)
{
	int signo = 0;

	prctl(PR_GET_PDEATHSIG, &signo);
	return signo;
}

static int sandbox_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n, saved;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	saved = errno;
	close(fd);
	errno = (int)saved;
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* Maps our user and group to themselves, so that the owners of files look as they did. */
static int sandbox_user_namespace(void)
{
	unsigned int uid = geteuid();
	unsigned int gid = getegid();
	int death_signal = sandbox_death_signal();
	char map[64];

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return sandbox_failed("new user namespace", "run as root, or allow them (sysctl "
							    "kernel.unprivileged_userns_clone=1, "
							    "user.max_user_namespaces>0)");
	prctl(PR_SET_PDEATHSIG, death_signal);
	/* The kernel lets us map a group only once it is sure that we cannot drop one. */
	if (sandbox_write("/proc/self/setgroups", "deny") < 0)
		return sandbox_failed("/proc/self/setgroups", "is /proc mounted?");
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	if (sandbox_write("/proc/self/uid_map", map) < 0)
		return sandbox_failed("/proc/self/uid_map", "is /proc mounted?");
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	if (sandbox_write("/proc/self/gid_map", map) < 0)
		return sandbox_failed("/proc/self/gid_map", "is /proc mounted?");
	return 0;
}

/*
 * The flags for a remount of `dir`. In a user namespace those that it was mounted with are locked,
 * and a remount that would clear one is refused.
 */
static unsigned long sandbox_mount_flags(const char *dir)
{
	static const struct {
		unsigned long statvfs, mount;
	} kept[] = {
		{ST_RDONLY, MS_RDONLY},
		{ST_NOATIME, MS_NOATIME},
		{ST_NODIRATIME, MS_NODIRATIME},
		{ST_RELATIME, MS_RELATIME},
	};
	unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	struct statvfs st;

	if (statvfs(dir, &st) < 0)
		return flags;
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		if ((st.f_flag & kept[i].statvfs) != 0)
			flags |= kept[i].mount;
	}
	return flags;
}

/* A mount namespace of our own, in which what we mount appears nowhere else. */
static int sandbox_mount_namespace(void)
{
	int error;

	if (unshare(CLONE_NEWNS) < 0) {
		error = sandbox_user_namespace();
		if (error != 0)
			return error;
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return sandbox_failed("private mounts", "is the root a mount point?");
	return 0;
}

/* What is mounted at `dir` becomes the root, and all else goes. */
static int sandbox_pivot(const char *dir)
{
	if (chdir(dir) < 0)
		return sandbox_failed(dir, "the process must be allowed to enter it");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return sandbox_failed("pivot_root", "not possible on an initramfs");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return sandbox_failed("leaving the old root", "no way is known to mend this");
	return 0;
}

int sandbox_enter_root(const char *dir)
{
	int error = sandbox_mount_namespace();

	if (error != 0)
		return error;
	if (mount(dir, dir, NULL, MS_BIND, NULL) < 0)
		return sandbox_failed(dir, "it must be a directory, with nothing mounted below it");
	if (mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND | sandbox_mount_flags(dir), NULL) < 0)
		return sandbox_failed(dir, "could not be remounted without devices and programs");
	return sandbox_pivot(dir);
}

int sandbox_enter_nothing(void)
{
	/* Any directory will do: nobody sees any more that this one is covered. */
	static const char dir[] = "/proc";
	int error = sandbox_mount_namespace();

	if (error != 0)
		return error;
	if (mount("nothing", dir, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "size=4k,nr_inodes=1,mode=0555") < 0)
		return sandbox_failed("an empty file system", "the kernel needs CONFIG_TMPFS");
	return sandbox_pivot(dir);
}

int sandbox_enter_removed(void)
{
	char dir[] = "/tmp/lasthop-XXXXXX";

	if (!mkdtemp(dir))
		return sandbox_failed(dir, "a directory has to be made there for a moment");
	if (chdir(dir) < 0 || rmdir(dir) < 0)
		return sandbox_failed(dir, "could not be entered and removed");
	if (chroot(".") < 0)
		return sandbox_failed("chroot", "a process with threads of others takes root for this");
	return 0;
}

static int sandbox_become(uid_t uid, gid_t gid)
{
	static const char advice[] = "root of a container may lack the right; start unprivileged";

	if (setgroups(0, NULL) < 0)
		return sandbox_failed("setgroups", advice);
	if (setresgid(gid, gid, gid) < 0)
		return sandbox_failed("setresgid", advice);
	if (setresuid(uid, uid, uid) < 0)
		return sandbox_failed("setresuid", advice);
	return 0;
}

static int sandbox_drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}, {0}};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return sandbox_failed("ambient capabilities", "the kernel is older than 4.3");
	if (syscall(SYS_capset, &header, none) < 0)
		return sandbox_failed("capset", "no way is known to mend this");
	return 0;
}

int sandbox_drop_privilege(uid_t uid, gid_t gid)
{
	int death_signal = sandbox_death_signal();
	int error;

	/* Needs a capability to drop them; without it the set is not ours to use anyway. */
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (geteuid() == 0 && (uid != 0 || gid != 0)) {
		error = sandbox_become(uid, gid);
		if (error != 0)
			return error;
	}
	error = sandbox_drop_capabilities();
	if (error != 0)
		return error;
	prctl(PR_SET_PDEATHSIG, death_signal);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return sandbox_failed("no_new_privs", "the kernel is older than 3.5");
	return 0;
}

#ifdef SANITIZED
static const int sandbox_sanitizer_calls[] = {
	SYS_mmap,
	SYS_munmap,
	SYS_mprotect,
	SYS_madvise,
	SYS_mremap,
	SYS_sched_yield,
	SYS_sched_getaffinity,
	SYS_getpid,
	SYS_gettid,
	SYS_tgkill,
	SYS_sigaltstack,
	SYS_rt_sigaction,
	SYS_rt_sigreturn,
	SYS_prctl,
	SYS_openat,
	SYS_read,
	SYS_rt_sigprocmask,
	SYS_write,
	SYS_close,
	SYS_futex,
	SYS_prlimit64,
	SYS_newfstatat,
	SYS_fstat,
	SYS_readlinkat,
	SYS_clone,
	SYS_clone3,
	SYS_wait4,
	SYS_ptrace,
	SYS_exit,
	SYS_getdents64,
	SYS_lseek,
	SYS_exit_group,
	SYS_getrandom,
	SYS_set_robust_list,
	SYS_rseq,
	SYS_clock_nanosleep,
#ifdef __x86_64__
	SYS_readlink,
	SYS_open,
	SYS_stat,
#endif
};
#else
static const int sandbox_sanitizer_calls[] = {};
#endif

struct sandbox_program {
	struct sock_filter code[2 * SANDBOX_MAX_CALLS + 8];
	unsigned short length;
};

static void sandbox_emit(struct sandbox_program *program, struct sock_filter instruction)
{
	program->code[program->length++] = instruction;
}

static void sandbox_allow(struct sandbox_program *program, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		sandbox_emit(program,
			     (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1));
		sandbox_emit(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	}
}

int sandbox_seccomp(const int *allowed, size_t n, enum sandbox_verdict verdict)
{
	uint32_t other = verdict == SANDBOX_EPERM ? (SECCOMP_RET_ERRNO | EPERM) : SECCOMP_RET_KILL_PROCESS;
	struct sandbox_program program = {.length = 0};
	struct sock_fprog filter;
	long result;

	if (n + ARRAY_SIZE(sandbox_sanitizer_calls) > SANDBOX_MAX_CALLS) {
		errno = E2BIG;
		return sandbox_failed("seccomp", "raise SANDBOX_MAX_CALLS");
	}
	/* A number means another call under another architecture's convention. */
	sandbox_emit(&program,
		     (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
	sandbox_emit(&program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SANDBOX_ARCH, 1, 0));
	sandbox_emit(&program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
	sandbox_emit(&program,
		     (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	sandbox_allow(&program, allowed, n);
	sandbox_allow(&program, sandbox_sanitizer_calls, ARRAY_SIZE(sandbox_sanitizer_calls));
	sandbox_emit(&program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, other));

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return sandbox_failed("no_new_privs", "the kernel is older than 3.5");
	filter.len = program.length;
	filter.filter = program.code;
	/* TSYNC answers with the id of a thread that has a filter of its own. */
	result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
	if (result > 0)
		errno = ESRCH;
	if (result != 0)
		return sandbox_failed("seccomp", "the kernel needs CONFIG_SECCOMP_FILTER");
	return 0;
}
