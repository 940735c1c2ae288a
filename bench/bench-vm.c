/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_vm: VMs that do nothing but send and receive.
 *
 * Each socket is a VM with one virtio-net device. A run: connect and get acquainted (vm/setup.c);
 * warm up, until each flow has been seen; measure (vm/traffic.c); stop sending, wait until nothing
 * arrives any more, and compare what the switch took with what it delivered (vm/report.c).
 *
 * In poll mode one thread serves all VMs (or one each, --threads). In irq mode each VM is a thread
 * that sleeps until its call descriptor is signalled; with --processes it is a process in a session
 * of its own, which is what a switch that asks the scheduler about its VMs finds behind the socket,
 * and what the scheduler weighs. The main thread only sleeps, moves the phases on, and takes
 * snapshots of the counters.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "vm/vm.h"

#define DRAIN_NS    (100 * NS_PER_MS)
#define SETUP_S     60
#define WARM_UP_S   60 /* for many flows, at most */
#define FLOW_ROUNDS 2
#define POLL_NS     (1 * NS_PER_MS)

struct shared *shared;
struct vm vms[VMS_MAX];
unsigned int vm_count;
static pthread_t poller;

void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench_vm: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	_exit(1);
}

static void pin(unsigned int thread)
{
	cpu_set_t set;

	if (opt.cpu_count == 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)opt.cpus[thread % opt.cpu_count], &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("cpu %d: %s", opt.cpus[thread % opt.cpu_count], strerror(errno));
}

static bool one_thread_polls(void)
{
	return !opt.irq && !opt.threads && !opt.processes;
}

static void *poll_all(void *arg)
{
	(void)arg;
	pin(0);
	while (load_relaxed(&shared->phase) != PHASE_END)
		for (unsigned int i = 0; i < vm_count; i++)
			if (!vms[i].idle)
				traffic_round(&vms[i]);
	return NULL;
}

/* The life of a VM. Where one thread polls for all, it ends when the VM is ready. */
static void *live(void *arg)
{
	struct vm *vm = arg;

	/* A paced sender's timer is to be as fine as that of a guest's kernel. */
	prctl(PR_SET_TIMERSLACK, 1);
	pin(vm->number);
	setup_run(vm);
	if (one_thread_polls())
		return NULL;
	while (load_acquire(&shared->phase) == PHASE_PREPARE)
		usleep(200);
	traffic_run(vm);
	return NULL;
}

static void start_vm(struct vm *vm)
{
	pid_t parent = getpid(), child;

	if (!opt.processes) {
		if (pthread_create(&vm->thread, NULL, live, vm))
			fail("no thread");
		return;
	}
	child = fork();
	if (child < 0)
		fail("no process");
	if (child > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* On a host each VM has a control group. The scheduler weighs sessions against each other in the same way. */
	setsid();
	if (getppid() == parent)
		live(vm);
	vm->io->close(vm);
	_exit(0);
}

/* A VM that failed has said why. */
static void check_children(void)
{
	if (opt.processes && load_relaxed(&shared->phase) != PHASE_END && waitpid(-1, NULL, WNOHANG) > 0)
		_exit(1);
}

static void sleep_ns(uint64_t ns)
{
	uint64_t until = clock_now_ns() + ns;
	struct timespec ts = {(time_t)(until / NS_PER_S), (long)(until % NS_PER_S)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
	check_children();
}

static void wait_for(const unsigned int *arrived, const char *what)
{
	uint64_t deadline = clock_now_ns() + SETUP_S * NS_PER_S;

	while (__atomic_load_n(arrived, __ATOMIC_ACQUIRE) < vm_count) {
		if (clock_now_ns() > deadline)
			fail("not all VMs are %s", what);
		sleep_ns(POLL_NS);
	}
}

/* Flows are set up as their first packets pass, which is not what is measured. */
static void warm_up(void)
{
	uint64_t deadline = clock_now_ns() + WARM_UP_S * NS_PER_S;
	struct snapshot now;

	if (opt.flows > 1 && (!opt.paced || opt.rate > 0)) {
		do {
			sleep_ns(10 * POLL_NS);
			report_snapshot(&now);
		} while (now.sent < (uint64_t)FLOW_ROUNDS * opt.flows && clock_now_ns() < deadline);
	}
	sleep_ns((uint64_t)(opt.warm_up * 1e9));
}

static void measure(void)
{
	static struct snapshot from, to, last, end;

	warm_up();
	store_relaxed(&shared->measuring, true);
	report_snapshot(&from);
	sleep_ns((uint64_t)(opt.seconds * 1e9));
	report_snapshot(&to);
	store_relaxed(&shared->measuring, false);

	store_relaxed(&shared->phase, PHASE_DRAIN);
	report_snapshot(&end);
	do {
		last = end;
		sleep_ns(DRAIN_NS);
		report_snapshot(&end);
	} while (end.delivered + end.delivered_slow != last.delivered + last.delivered_slow);
	store_release(&shared->phase, PHASE_END);
	report_print(&from, &to, &end);
}

static void finish(void)
{
	if (opt.processes) {
		while (wait(NULL) > 0)
			;
		return;
	}
	if (one_thread_polls())
		pthread_join(poller, NULL);
	for (unsigned int i = 0; i < vm_count; i++) {
		if (!one_thread_polls())
			pthread_join(vms[i].thread, NULL);
		vms[i].io->close(&vms[i]);
	}
}

int main(int argc, char **argv)
{
	options_parse(argc, argv);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		fail("out of memory");
	for (unsigned int i = 0; i < vm_count; i++) {
		vms[i].shared = &shared->vms[i];
		start_vm(&vms[i]);
	}
	wait_for(&shared->opened, "connected");
	wait_for(&shared->acquainted, "heard through the switch");
	store_release(&shared->phase, PHASE_PREPARE);
	wait_for(&shared->prepared, "ready");
	if (one_thread_polls()) {
		for (unsigned int i = 0; i < vm_count; i++)
			pthread_join(vms[i].thread, NULL);
		if (pthread_create(&poller, NULL, poll_all, NULL))
			fail("no thread");
	}
	store_release(&shared->phase, PHASE_RUN);
	measure();
	fflush(stdout);
	finish();
	return 0;
}
