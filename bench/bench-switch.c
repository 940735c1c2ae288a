/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What lasthop-observer costs: two processes on one CPU wake each other in turn, without the observer, with it, and
 * with it watching both; one after the other, so that all meet the same machine. And what it costs to ask. A sample is
 * the CPU time of both, the least of some short runs; what is printed is the median of the samples.
 *
 * Usage: bench_switch [OBSERVER] [ROUNDS]. Nanoseconds a context switch, with the wake-up that goes with it.
 */
#include "engine/vm_state.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIPS      2000
#define RUNS       20
#define ROUNDS_MAX 1000
#define READS      20000000

enum condition { WITHOUT, OBSERVED, WATCHED, CONDITIONS };

static const char *const condition_names[] = {"without observer", "with observer", "both watched"};

static double samples[CONDITIONS][ROUNDS_MAX];

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare);
	return values[n / 2];
}

/* Two eventfds: theirs to wake the other process, ours to be woken. */
struct ends {
	int theirs;
	int ours;
};

static bool trip(const struct ends *ends)
{
	uint64_t count = 1;

	return write(ends->theirs, &count, sizeof(count)) == (ssize_t)sizeof(count) &&
	       read(ends->ours, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static void echo(const struct ends *ends)
{
	uint64_t count;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (read(ends->ours, &count, sizeof(count)) != (ssize_t)sizeof(count))
		_exit(1);
	while (trip(ends))
		;
	_exit(0);
}

/* CPU time of both, so that others who want the CPU as well disturb less. */
static double cpu_time(clockid_t peer)
{
	struct timespec ours, its;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ours) < 0 || clock_gettime(peer, &its) < 0)
		return 0;
	return (double)(ours.tv_sec + its.tv_sec) * 1e9 + (double)(ours.tv_nsec + its.tv_nsec);
}

/* Nanoseconds a context switch. */
static double ping_pong(const struct ends *ends, clockid_t peer)
{
	double least = 0;

	for (int run = 0; run < RUNS; run++) {
		double start = cpu_time(peer), time;

		for (int i = 0; i < TRIPS; i++) {
			if (!trip(ends))
				exit(1);
		}
		time = (cpu_time(peer) - start) / (2.0 * TRIPS);
		if (run == 0 || time < least)
			least = time;
	}
	return least;
}

static pid_t start_observer(const char *path, int sock)
{
	char number[16];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fcntl(sock, F_SETFD, 0);
	snprintf(number, sizeof(number), "%d", sock);
	execl(path, path, "--socket-fd", number, "--log-level", "0", NULL);
	_exit(126);
}

static void settle(struct loop *loop, bool (*done)(int), int slot)
{
	for (int i = 0; i < 5000 && !done(slot); i++)
		(void)!loop_run_once(loop, 1);
	if (!done(slot)) {
		fprintf(stderr, "bench_switch: the observer does not answer\n");
		exit(1);
	}
}

static bool is_there(int slot)
{
	(void)slot;
	return vm_state_available();
}

static bool is_known(int slot)
{
	return vm_state_get(slot) != VM_STATE_UNKNOWN;
}

static double time_reads(int slot)
{
	uint64_t start = clock_now_ns();
	uint64_t sum = 0;

	for (int i = 0; i < READS; i++)
		sum += vm_state_get(slot);
	__asm__ __volatile__("" ::"r"(sum));
	return (double)(clock_now_ns() - start) / READS;
}

static double time_cpu_reads(unsigned int cpu)
{
	uint64_t start = clock_now_ns();
	uint64_t sum = 0;

	for (int i = 0; i < READS; i++)
		sum += vm_state_cpu_is_idle(cpu);
	__asm__ __volatile__("" ::"r"(sum));
	return (double)(clock_now_ns() - start) / READS;
}

static void round_of_all(struct loop *loop, const char *observer, const struct ends *ends, pid_t peer, int round)
{
	int pair[2], mine, its;
	clockid_t clock;
	pid_t pid;

	if (clock_getcpuclockid(peer, &clock) != 0)
		exit(1);

	samples[WITHOUT][round] = ping_pong(ends, clock);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		exit(1);
	pid = start_observer(observer, pair[1]);
	close(pair[1]);
	if (vm_state_open(loop, pair[0]) < 0)
		exit(1);
	settle(loop, is_there, 0);
	samples[OBSERVED][round] = ping_pong(ends, clock);
	mine = vm_state_watch(getpid());
	its = vm_state_watch(peer);
	settle(loop, is_known, its);
	settle(loop, is_known, mine);
	samples[WATCHED][round] = ping_pong(ends, clock);
	if (round == 0)
		printf("asking: vm_state_get %.2f ns, vm_state_cpu_is_idle %.2f ns\n", time_reads(mine),
		       time_cpu_reads(0));
	vm_state_close();
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	const char *observer = argc > 1 ? argv[1] : "./lasthop-observer";
	int rounds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 21;
	struct ends ours = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
	struct ends theirs = {ours.ours, ours.theirs};
	struct loop loop;
	cpu_set_t one;
	pid_t peer;

	rounds = max(1, min(rounds, ROUNDS_MAX));
	log_init("bench_switch", LOG_ERROR);
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (loop_init(&loop) < 0 || sched_setaffinity(0, sizeof(one), &one) < 0 || ours.ours < 0 || ours.theirs < 0) {
		perror("bench_switch");
		return 1;
	}
	peer = fork();
	if (peer == 0)
		echo(&theirs);
	for (int round = 0; round < rounds; round++)
		round_of_all(&loop, observer, &ours, peer, round);
	for (int condition = WITHOUT; condition < CONDITIONS; condition++) {
		double ns = median(samples[condition], (size_t)rounds);

		printf("%-18s %7.1f ns a switch  %+6.1f   (%.1f to %.1f)\n", condition_names[condition], ns,
		       ns - samples[WITHOUT][rounds / 2], samples[condition][rounds / 10],
		       samples[condition][rounds - 1 - rounds / 10]);
	}
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
	return 0;
}
