/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lasthop-observer: puts a BPF program into the kernel that keeps two tables of what runs where, hands the tables to
 * the process at the other end of its socket, gives up its privileges, and then watches the processes that it is
 * asked to watch until the socket closes.
 *
 * All that needs privilege is done before the first byte is read. Afterwards it is nobody, without capabilities, files
 * or the right to open any, and its descriptors let it do no more than its requests ask for.
 *
 * What libc and the event loop need on top of the tags at the places of use:
 *
 * @syscalls observer: read write close munmap mmap brk madvise rt_sigprocmask rt_sigreturn exit exit_group futex
 * @syscalls observer: epoll_ctl epoll_wait epoll_pwait poll ppoll clock_gettime restart_syscall getpid gettid
 */
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/program.h"
#include "lib/sandbox.h"
#include "observer/sched_tables.h"
#include "observer/seccomp_filter.h"
#include "observer/watches.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXIT_USAGE 2

static const char usage[] =
	"Usage: lasthop-observer --socket-fd N [options]\n"
	"\n"
	"Tells lasthop-core which VMs run, wait or sleep, and which CPUs are idle. Usually started by `lasthop run`;\n"
	"see lasthop(1). Needs root, or CAP_BPF and CAP_PERFMON, until it has started.\n"
	"\n"
	"  --socket-fd N    a connected SOCK_SEQPACKET socket; it ends when the other side closes\n"
	"  --user NAME      whom to become if started as root (default: lasthop, or else nobody)\n"
	"  --no-sandbox     keep privileges and system calls; for debugging only\n"
	"  --log-level N    0 errors, 1 warnings, 2 information (default), 3 debugging\n"
	"  --version, --help\n"
	"\n"
	"Exit status: 0 the socket closed or SIGTERM or SIGINT came, 1 failed, 2 wrong usage, 3 the kernel does not\n"
	"permit it: do not start it again.\n";

struct options {
	int sock;
	const char *user;
	bool sandbox;
	int log_level;
};

/* Returns -1 to go on, or an exit status. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{"socket-fd", required_argument, NULL, 's'},
		{"user", required_argument, NULL, 'u'},
		{"no-sandbox", no_argument, NULL, 'n'},
		{"log-level", required_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	uint64_t number;
	bool ok = true;
	int option;

	*options = (struct options){.sock = -1, .sandbox = true, .log_level = LOG_INFO};
	while (ok && (option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case 's':
			ok = program_parse_number(optarg, "socket-fd", 0, INT_MAX, &number);
			options->sock = (int)number;
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
			puts("lasthop-observer " LASTHOP_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		default:
			ok = false;
		}
	}
	if (!ok)
		return EXIT_USAGE;
	if (optind < argc || options->sock < 0) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	return -1;
}

static bool take_socket(int sock)
{
	int type = 0, flags = fcntl(sock, F_GETFL);
	socklen_t size = sizeof(type);

	if (flags < 0 || getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET) {
		log_error("--socket-fd %d is no SOCK_SEQPACKET socket", sock);
		return false;
	}
	return fcntl(sock, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(sock, F_SETFD, FD_CLOEXEC) == 0;
}

/* What whoever started us has open is not for a process that has seen privilege. */
static void close_others(int sock)
{
	if (sock > 3)
		close_range(3, (unsigned int)sock - 1, 0);
	close_range((unsigned int)max(sock, STDERR_FILENO) + 1, UINT_MAX, 0);
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
		log_warn("runs without a sandbox");
		return true;
	}
	if (!program_find_user(options->user, usual, &uid, &gid) || sandbox_drop_privilege(uid, gid) != 0)
		return false;
#ifdef SANITIZED
	is_confined = true;
#endif
	return sandbox_seccomp(seccomp_observer, ARRAY_SIZE(seccomp_observer), SANDBOX_KILL) == 0;
}

static int run(const struct options *options, struct sched_tables *tables)
{
	static struct loop loop;
	static struct watches watches;
	struct program_end end;
	int error = loop_init(&loop);

	if (error == 0)
		error = program_end_by_signals(&end, &loop);
	if (error == 0 && !enter_sandbox(options))
		error = -EPERM;
	if (error == 0)
		error = watches_init(&watches, &loop, tables, options->sock);
	if (error != 0) {
		log_error("cannot start: %s", strerror(-error));
		return EXIT_FAILURE;
	}
	log_info("shows the states of VMs and CPUs");
	error = loop_run(&loop);
	watches_cleanup(&watches);
	loop_cleanup(&loop);
	return error != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static struct sched_tables tables;
	struct options options;
	int status = parse_options(argc, argv, &options);

	if (status >= 0)
		return status;
	log_init("lasthop-observer", options.log_level);
	if (!take_socket(options.sock))
		return EXIT_USAGE;
	close_others(options.sock);
	/* One a slot, and a few. */
	program_raise_descriptor_limit();
	if (sched_tables_open(&tables) != 0)
		return OBSERVER_EXIT_NOT_PERMITTED;
	status = run(&options, &tables);
	sched_tables_close(&tables);
	return status;
}
