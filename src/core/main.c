/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lasthop-core: opens what it needs in its directory, gives up its privileges and its sight of everything else,
 * starts its workers and serves. Ports come to it through the datapath protocol, with their sockets.
 *
 * What libc, threads and RCU need on top of the tags at the places of use:
 *
 * @syscalls core: read write close mmap munmap mprotect mremap madvise brk futex rt_sigaction rt_sigprocmask
 * @syscalls core: rt_sigreturn clone clone3 set_robust_list rseq exit exit_group getrandom clock_gettime
 * @syscalls core: clock_nanosleep nanosleep sched_yield membarrier epoll_ctl epoll_wait epoll_pwait epoll_pwait2
 * @syscalls core: eventfd2 poll ppoll recvmsg sendmsg accept4 getsockopt fcntl fstat newfstatat fstatfs getpid gettid
 * @syscalls core: tgkill restart_syscall sched_getaffinity prlimit64 sigaltstack
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"
#include "core/seccomp_filter.h"
#include "lib/log.h"
#include "lib/program.h"
#include "lib/sandbox.h"

#define EXIT_USAGE        2
#define LINGER_US_DEFAULT 20
#define FLOWS_DEFAULT     (1U << 20)
#define WORKERS_MAX       (STATS_WORKERS_MAX - 1)

static const char usage[] =
	"Usage: lasthop-core --dir DIR [options]\n"
	"\n"
	"The data plane of lasthop. Usually started by `lasthop run`; see lasthop(1).\n"
	"\n"
	"  --dir DIR          directory for datapath.sock and stats; the only one it sees later\n"
	"  --workers N        forwarding threads, 1 to 63 (default: one for each CPU it may use)\n"
	"  --linger-us N      microseconds that a worker looks for more before it sleeps, 0 to 1000000 (default 20)\n"
	"  --flows-max N      size of the flow table in flows, 16 to 16777216 (default 1048576)\n"
	"  --no-state-batching, --no-preemptive-copy, --no-offload\n"
	"                     work without one of the engine's mechanisms, to see what it is good for\n"
	"  --no-pinning       leave it to the kernel where workers run\n"
	"  --class NAME       of the scheduler: batch, normal, idle; else by what the VMs do\n"
	"  --observer-fd N    a SOCK_SEQPACKET socket, with lasthop-observer at its other end now or later\n"
	"  --user NAME        whom to become if started as root (default: lasthop, or else nobody)\n"
	"  --no-sandbox       keep privileges and sight of the file system; for debugging only\n"
	"  --log-level N      0 errors, 1 warnings, 2 information (default), 3 debugging\n"
	"  --version, --help\n"
	"\n"
	"Exit status: 0 ended by SIGTERM or SIGINT, 1 failed, 2 wrong usage.\n";

struct options {
	struct core_config core;
	const char *user;
	bool sandbox;
	int log_level;
};

static bool parse_class(const char *text, enum worker_class *class)
{
	static const char *const names[] = {
		[WORKER_BATCH] = "batch", [WORKER_NORMAL] = "normal", [WORKER_IDLE] = "idle"};

	for (unsigned int i = WORKER_BATCH; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(text, names[i])) {
			*class = (enum worker_class)i;
			return true;
		}
	}
	fprintf(stderr, "lasthop-core: --class takes batch, normal or idle, not '%s'\n", text);
	return false;
}

static unsigned int cpus_allowed(void)
{
	cpu_set_t allowed;

	return sched_getaffinity(0, sizeof(allowed), &allowed) ? 1 : (unsigned int)CPU_COUNT(&allowed);
}

/* Returns -1 to go on, or an exit status. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{"dir", required_argument, NULL, 'd'},
		{"workers", required_argument, NULL, 'w'},
		{"linger-us", required_argument, NULL, 'l'},
		{"flows-max", required_argument, NULL, 'f'},
		{"no-state-batching", no_argument, NULL, 'B'},
		{"no-preemptive-copy", no_argument, NULL, 'C'},
		{"no-offload", no_argument, NULL, 'O'},
		{"no-pinning", no_argument, NULL, 'P'},
		{"class", required_argument, NULL, 'K'},
		{"observer-fd", required_argument, NULL, 'o'},
		{"user", required_argument, NULL, 'u'},
		{"no-sandbox", no_argument, NULL, 'n'},
		{"log-level", required_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	unsigned int cpus = cpus_allowed();
	uint64_t number;
	int option;

	if (cpus > WORKERS_MAX)
		cpus = WORKERS_MAX;
	*options = (struct options){
		.core = {.workers = cpus,
			 .linger_ns = LINGER_US_DEFAULT * 1000ULL,
			 .state_batching = true,
			 .preemptive_copy = true,
			 .offload = true,
			 .pinned = true,
			 .flows_max = FLOWS_DEFAULT,
			 .observer_fd = -1},
		.sandbox = true,
		.log_level = LOG_INFO,
	};
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		bool ok = true;

		switch (option) {
		case 'd':
			options->core.dir = optarg;
			break;
		case 'w':
			ok = program_parse_number(optarg, "workers", 1, WORKERS_MAX, &number);
			options->core.workers = (unsigned int)number;
			break;
		case 'l':
			ok = program_parse_number(optarg, "linger-us", 0, 1000000, &number);
			options->core.linger_ns = number * 1000;
			break;
		case 'f':
			ok = program_parse_number(optarg, "flows-max", 16, 1U << 24, &number);
			options->core.flows_max = (uint32_t)number;
			break;
		case 'B':
			options->core.state_batching = false;
			break;
		case 'C':
			options->core.preemptive_copy = false;
			break;
		case 'O':
			options->core.offload = false;
			break;
		case 'P':
			options->core.pinned = false;
			break;
		case 'K':
			ok = parse_class(optarg, &options->core.class);
			break;
		case 'o':
			ok = program_parse_number(optarg, "observer-fd", 0, INT_MAX, &number);
			options->core.observer_fd = (int)number;
			break;
		case 'u':
			options->user = optarg;
			break;
		case 'n':
			options->sandbox = false;
			break;
		case 'v':
			ok = program_parse_number(optarg, "log-level", LOG_ERROR, LOG_DEBUG, &number);
			options->log_level = (int)number;
			break;
		case 'V':
			puts("lasthop-core " LASTHOP_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		default:
			ok = false;
		}
		if (!ok)
			return EXIT_USAGE;
	}
	if (optind < argc || !options->core.dir) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	return -1;
}

#ifdef SANITIZED
static bool is_confined;
int __lsan_is_turned_off(void);

/* LeakSanitizer traces its own process when it ends, and where it may not it waits for ever. */
int __lsan_is_turned_off(void)
{
	return is_confined;
}
#endif

static bool enter_sandbox(const struct options *options)
{
	static const char *const usual[] = {"lasthop", "nobody", NULL};
	uid_t uid;
	gid_t gid;

	if (!options->sandbox) {
		log_warn("runs without a sandbox: a fault in it is a fault of all that its user may do");
		return true;
	}
	if (!program_find_user(options->user, usual, &uid, &gid))
		return false;
	if (sandbox_enter_root(options->core.dir) != 0 || sandbox_drop_privilege(uid, gid) != 0)
		return false;
#ifdef SANITIZED
	is_confined = true;
#endif
	return true;
}

#ifdef SANITIZED
/* The search for leaks needs /proc and ptrace, which the sandbox takes away; tests/switch looks for leaks without it.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

int main(int argc, char **argv)
{
	static struct core core;
	struct program_end end;
	struct options options;
	int status = parse_options(argc, argv, &options);
	int error;

	if (status >= 0)
		return status;
	log_init("lasthop-core", options.log_level);
	/* Every ring has up to three, every port two sockets. */
	program_raise_descriptor_limit();
	error = core_open(&core, &options.core);
	if (!error)
		error = program_end_by_signals(&end, &core.loop);
	if (!error && !enter_sandbox(&options))
		error = -EPERM;
	if (!error)
		error = core_start(&core);
	if (!error && options.sandbox)
		error = sandbox_seccomp(seccomp_core, ARRAY_SIZE(seccomp_core), SANDBOX_KILL);
	if (error) {
		log_error("cannot start: %s", strerror(-error));
		return EXIT_FAILURE;
	}
	log_info("serves %s/%s with %u workers", options.core.dir, DP_SOCKET_NAME, options.core.workers);
	error = core_run(&core);
	core_close(&core);
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
