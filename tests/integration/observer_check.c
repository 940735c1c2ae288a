/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether lasthop-observer and its reader tell the truth about processes that do as they are told.
 *
 * Other processes may keep the machine busy meanwhile. So a process that spins is expected never to be seen blocked,
 * and to be seen running some day; one that sleeps, never to be seen running.
 *
 * Usage: observer_check OBSERVER. Exit status 77 if the kernel does not permit it.
 */
#include "../unit/unit.h"

#include "engine/vm_state.h"
#include "lib/clock.h"
#include "lib/fdpass.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Until something that should happen counts as not happening. */
#define PATIENCE_NS (60 * NS_PER_S)
#define SAMPLES     2000
#define CROWD       64

/* observed processes */

enum mode { BLOCK, SPIN, LOOK_LIKE_VCPU, START_THREAD, START_PROCESS, END };

/* Shared with an observed process: what each of its threads does. */
enum { MAIN, THREAD, SECOND_THREAD, CHILD, ACTORS };

struct life {
	int mode[ACTORS];
	pid_t child;
};

struct body {
	pid_t pid;
	struct life *life;
};

struct actor {
	struct life *life;
	int who;
};

static void *act(void *arg);

static void start_thread(struct life *life, int who)
{
	static struct actor threads[ACTORS];
	pthread_t thread;

	store_relaxed(&life->mode[who], BLOCK);
	threads[who] = (struct actor){life, who};
	if (pthread_create(&thread, NULL, act, &threads[who]) != 0)
		_exit(1);
	pthread_detach(thread);
}

static void start_process(struct life *life)
{
	struct actor actor = {life, CHILD};
	pid_t pid;

	store_relaxed(&life->mode[CHILD], BLOCK);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		act(&actor);
		_exit(0);
	}
	store_relaxed(&life->child, pid);
}

static void *act(void *arg)
{
	const struct actor *actor = arg;
	int *mode = &actor->life->mode[actor->who];

	for (;;) {
		switch (load_relaxed(mode)) {
		case BLOCK:
			syscall(SYS_futex, mode, FUTEX_WAIT, BLOCK, NULL, NULL, 0);
			continue;
		case SPIN:
			cpu_relax();
			continue;
		case LOOK_LIKE_VCPU:
			prctl(PR_SET_NAME, "CPU 0/KVM");
			break;
		case START_THREAD:
			start_thread(actor->life,
				     load_relaxed(&actor->life->mode[THREAD]) == END ? THREAD : SECOND_THREAD);
			break;
		case START_PROCESS:
			start_process(actor->life);
			break;
		default:
			_exit(0);
		}
		store_relaxed(mode, BLOCK);
	}
	return NULL;
}

/* `wanted_pid` 0: any. Returns false if it cannot be had. */
static bool body_start(struct body *body, pid_t wanted_pid)
{
	pid_t tids[1] = {wanted_pid};
	struct clone_args arguments = {
		.exit_signal = SIGCHLD,
		.set_tid = (uint64_t)(uintptr_t)tids,
		.set_tid_size = wanted_pid != 0,
	};
	struct actor actor = {.who = MAIN};

	body->life = mmap(NULL, sizeof(*body->life), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(body->life, MAP_FAILED);
	actor.life = body->life;
	/* Not started yet. */
	for (int who = THREAD; who < ACTORS; who++)
		body->life->mode[who] = END;
	body->pid = wanted_pid != 0 ? (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments)) : fork();
	if (body->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		act(&actor);
		_exit(0);
	}
	if (body->pid < 0)
		munmap(body->life, sizeof(*body->life));
	return body->pid > 0;
}

/* Whoever is to block spins, or is blocked already: a wake-up might only come when he has blocked. */
static void body_do(struct body *body, int who, enum mode mode)
{
	store_relaxed(&body->life->mode[who], (int)mode);
	if (mode != BLOCK)
		syscall(SYS_futex, &body->life->mode[who], FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void body_end(struct body *body)
{
	kill(body->pid, SIGKILL);
	waitpid(body->pid, NULL, 0);
	munmap(body->life, sizeof(*body->life));
}

static void pin(pid_t pid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	assert_int_equal(sched_setaffinity(pid, sizeof(set), &set), 0);
}

/* the observer */

static const char *observer_path;
static pid_t observer_pid;
static struct loop loop;
static int observer_end; /* of the socket; kept, as lasthop run may do */
static int raw;          /* the reader's end, for what the reader would never send */
static cpu_set_t all_cpus;

static pid_t observer_start(int sock, bool privileged)
{
	char number[16];
	pid_t pid;

	snprintf(number, sizeof(number), "%d", sock);
	pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fcntl(sock, F_SETFD, 0);
	for (int cap = 0; !privileged && cap <= CAP_LAST_CAP; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	execl(observer_path, observer_path, "--socket-fd", number, NULL);
	_exit(126);
}

static bool observer_has_ended(int *status)
{
	return waitpid(observer_pid, status, WNOHANG) == observer_pid;
}

/* Sleeps a little and lets the reader read, for as long as `condition` does not hold. */
#define wait_until(condition)                                         \
	do {                                                          \
		uint64_t end_ns_ = clock_now_ns() + PATIENCE_NS;      \
		while (!(condition)) {                                \
			if (clock_now_ns() > end_ns_)                 \
				fail_msg("never: %s", #condition);    \
			assert_int_equal(loop_run_once(&loop, 1), 0); \
		}                                                     \
	} while (0)

/* For what is not seen while one sleeps. */
#define spin_until(condition)                                      \
	do {                                                       \
		uint64_t end_ns_ = clock_now_ns() + PATIENCE_NS;   \
		while (!(condition)) {                             \
			if (clock_now_ns() > end_ns_)              \
				fail_msg("never: %s", #condition); \
		}                                                  \
	} while (0)

static int setup_group(void **state)
{
	static char nothing;
	int pair[2], status;

	*state = &nothing;
	if (sched_getaffinity(0, sizeof(all_cpus), &all_cpus) < 0 || loop_init(&loop) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	observer_end = pair[1];
	raw = fcntl(pair[0], F_DUPFD_CLOEXEC, 0);
	observer_pid = observer_start(observer_end, true);
	if (vm_state_open(&loop, pair[0]) < 0)
		return -1;
	for (int i = 0; i < 60000 && !vm_state_available(); i++) {
		if (observer_has_ended(&status))
			return -1;
		loop_run_once(&loop, 1);
	}
	return vm_state_available() ? 0 : -1;
}

static int teardown_group(void **state)
{
	(void)state;
	vm_state_close();
	close(raw);
	close(observer_end);
	loop_cleanup(&loop);
	kill(observer_pid, SIGKILL);
	waitpid(observer_pid, NULL, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
}

static int any_cpu(void)
{
	int cpu = 0;

	while (!CPU_ISSET(cpu, &all_cpus))
		cpu++;
	return cpu;
}

/* -1: there is only one. */
static int other_cpu(int than)
{
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &all_cpus) && cpu != than)
			return cpu;
	}
	return -1;
}

static bool is_active(int slot)
{
	return vm_state_get(slot) == VM_STATE_RUNNING || vm_state_get(slot) == VM_STATE_RUNNABLE;
}

static void expect_always_blocked(int slot)
{
	for (int i = 0; i < SAMPLES; i++)
		assert_int_equal(vm_state_get(slot), VM_STATE_BLOCKED);
}

static void expect_always_active(int slot)
{
	for (int i = 0; i < SAMPLES; i++)
		assert_int_not_equal(vm_state_get(slot), VM_STATE_BLOCKED);
}

/* tests */

static void test_spins_and_sleeps(void **state)
{
	struct body body;
	int slot, cpu = any_cpu();

	(void)state;
	assert_true(body_start(&body, 0));
	pin(body.pid, cpu);
	slot = vm_state_watch(body.pid);
	assert_true(slot >= 0);
	wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
	for (int round = 0; round < 20; round++) {
		body_do(&body, MAIN, SPIN);
		wait_until(vm_state_get(slot) == VM_STATE_RUNNING);
		assert_int_equal(vm_state_last_cpu(slot), cpu);
		expect_always_active(slot);
		body_do(&body, MAIN, BLOCK);
		wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
		expect_always_blocked(slot);
	}
	vm_state_forget(slot);
	wait_until(vm_state_get(slot) == VM_STATE_UNKNOWN);
	body_end(&body);
}

/* What it does when the watch begins is seen although it does not change. */
static void test_first_state(void **state)
{
	struct body body;
	int slot;

	(void)state;
	for (int round = 0; round < 20; round++) {
		assert_true(body_start(&body, 0));
		body_do(&body, MAIN, round % 2 == 0 ? SPIN : BLOCK);
		/* It has settled. */
		usleep(20000);
		slot = vm_state_watch(body.pid);
		wait_until(vm_state_get(slot) != VM_STATE_UNKNOWN);
		if (round % 2 == 0) {
			wait_until(is_active(slot));
			expect_always_active(slot);
		} else {
			wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
			expect_always_blocked(slot);
		}
		vm_state_forget(slot);
		body_end(&body);
	}
}

static void test_two_on_one_cpu(void **state)
{
	struct body one, two;
	int slot1, slot2, cpu = any_cpu();

	(void)state;
	assert_true(body_start(&one, 0) && body_start(&two, 0));
	pin(one.pid, cpu);
	pin(two.pid, cpu);
	slot1 = vm_state_watch(one.pid);
	slot2 = vm_state_watch(two.pid);
	body_do(&one, MAIN, SPIN);
	body_do(&two, MAIN, SPIN);
	wait_until(vm_state_get(slot1) == VM_STATE_RUNNING);
	wait_until(vm_state_get(slot2) == VM_STATE_RUNNING);
	wait_until(vm_state_get(slot1) == VM_STATE_RUNNABLE);
	wait_until(vm_state_get(slot2) == VM_STATE_RUNNABLE);
	wait_until(vm_state_cpu_is_wanted((unsigned int)cpu));
	expect_always_active(slot1);
	expect_always_active(slot2);
	vm_state_forget(slot1);
	vm_state_forget(slot2);
	body_end(&one);
	body_end(&two);
}

static bool is_initial_pid_namespace(void)
{
	char link[64] = "";

	return readlink("/proc/self/ns/pid", link, sizeof(link) - 1) > 0 && strcmp(link, "pid:[4026531836]") == 0;
}

static void test_running_cpu(void **state)
{
	struct body body;
	int cpu = any_cpu(), far = other_cpu(cpu);
	struct sched_param none = {0};
	int right = 0;

	(void)state;
	pin(0, cpu);
	for (int i = 0; i < SAMPLES; i++) {
		if (vm_state_cpu((unsigned int)cpu) == OBSERVER_CPU_BUSY &&
		    (!is_initial_pid_namespace() || vm_state_cpu_thread((unsigned int)cpu) == gettid()))
			right++;
		else
			usleep(1); /* a switch of which the kernel has told nothing is made good by the next */
	}
	assert_true(right > SAMPLES / 2);
	if (far < 0 || !is_initial_pid_namespace())
		return;
	assert_true(body_start(&body, 0));
	pin(body.pid, far);
	body_do(&body, MAIN, SPIN);
	spin_until(vm_state_cpu_thread((unsigned int)far) == body.pid);
	assert_int_equal(sched_setscheduler(body.pid, SCHED_IDLE, &none), 0);
	spin_until(vm_state_cpu_thread((unsigned int)far) == body.pid &&
		   vm_state_cpu((unsigned int)far) == OBSERVER_CPU_YIELDING);
	body_end(&body);
}

/* Ticks that the CPU has been idle. */
static unsigned long idle_ticks(int cpu)
{
	unsigned long user, nice, system, idle = 0;
	char line[256], name[16];
	FILE *file = fopen("/proc/stat", "re");
	size_t length = (size_t)snprintf(name, sizeof(name), "cpu%d ", cpu);

	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, name, length) == 0 &&
		    sscanf(line + length, "%lu %lu %lu %lu", &user, &nice, &system, &idle) == 4)
			break;
	}
	fclose(file);
	return idle;
}

/* Where the kernel counts idle time, it is seen; where something spins, it is not. */
static void test_idle_cpu(void **state)
{
	int cpu = any_cpu(), far = other_cpu(cpu);
	unsigned int idle = 0, samples = 0;
	struct cpu_history history;
	unsigned long before;
	uint64_t end_ns;
	struct body body;

	(void)state;
	if (far < 0)
		return;
	pin(0, cpu);
	before = idle_ticks(far);
	end_ns = clock_now_ns() + 2 * NS_PER_S;
	while (clock_now_ns() < end_ns && idle == 0) {
		idle += vm_state_cpu_is_idle((unsigned int)far);
		samples++;
	}
	if (idle == 0 && idle_ticks(far) - before > 50)
		fail_msg("CPU %d was idle for %lu ticks and never in %u samples", far, idle_ticks(far) - before,
			 samples);
	if (idle == 0)
		print_message("CPU %d was never idle here, so that could not be seen\n", far);
	assert_true(body_start(&body, 0));
	pin(body.pid, far);
	body_do(&body, MAIN, SPIN);
	spin_until(!vm_state_cpu_is_idle((unsigned int)far));
	/* It may have been anyone who kept it busy; wait until it is certainly the spinner's turn. */
	usleep(100000);
	history = vm_state_cpu_history((unsigned int)far);
	for (int i = 0; i < SAMPLES; i++)
		assert_false(vm_state_cpu_is_idle((unsigned int)far));
	assert_int_equal(vm_state_cpu_history((unsigned int)far).idles, history.idles);
	body_end(&body);
	if (idle > 0)
		spin_until(vm_state_cpu_history((unsigned int)far).idles != history.idles);
}

static void wait_for(struct body *body, int who, enum mode mode)
{
	wait_until(load_relaxed(&body->life->mode[who]) == (int)mode);
}

/* Threads that come after the watch count; once one looks like a vCPU, only such do. */
static void test_vcpu_threads(void **state)
{
	struct body body;
	int slot;

	(void)state;
	assert_true(body_start(&body, 0));
	slot = vm_state_watch(body.pid);
	wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
	body_do(&body, MAIN, START_THREAD);
	wait_for(&body, MAIN, BLOCK);
	body_do(&body, MAIN, START_THREAD);
	wait_for(&body, MAIN, BLOCK);
	body_do(&body, SECOND_THREAD, SPIN);
	wait_until(vm_state_get(slot) == VM_STATE_RUNNING);
	body_do(&body, THREAD, LOOK_LIKE_VCPU);
	wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
	expect_always_blocked(slot);
	body_do(&body, THREAD, SPIN);
	wait_until(vm_state_get(slot) == VM_STATE_RUNNING);
	expect_always_active(slot);
	body_do(&body, SECOND_THREAD, BLOCK);
	body_do(&body, THREAD, BLOCK);
	wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
	expect_always_blocked(slot);
	vm_state_forget(slot);
	body_end(&body);
}

/* User-mode Linux runs its guest's programs in processes of their own. */
static void test_processes_of_a_process(void **state)
{
	struct body body;
	int slot, child_slot;

	(void)state;
	for (int before = 0; before < 2; before++) {
		assert_true(body_start(&body, 0));
		slot = before != 0 ? -1 : vm_state_watch(body.pid);
		if (slot >= 0)
			wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
		body_do(&body, MAIN, START_PROCESS);
		wait_until(load_relaxed(&body.life->child) != 0);
		body_do(&body, CHILD, SPIN);
		if (slot < 0)
			slot = vm_state_watch(body.pid);
		wait_until(vm_state_get(slot) == VM_STATE_RUNNING);
		expect_always_active(slot);
		/* It is somebody of its own as soon as it is watched, and the other is without it. */
		child_slot = vm_state_watch(body.life->child);
		wait_until(vm_state_get(child_slot) == VM_STATE_RUNNING);
		wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
		expect_always_blocked(slot);
		expect_always_active(child_slot);
		body_do(&body, MAIN, SPIN);
		body_do(&body, CHILD, BLOCK);
		wait_until(vm_state_get(slot) == VM_STATE_RUNNING);
		wait_until(vm_state_get(child_slot) == VM_STATE_BLOCKED);
		expect_always_blocked(child_slot);
		vm_state_forget(slot);
		vm_state_forget(child_slot);
		kill(body.life->child, SIGKILL);
		body_end(&body);
	}
}

static void test_process_ends(void **state)
{
	struct body body;
	int slot;

	(void)state;
	assert_true(body_start(&body, 0));
	slot = vm_state_watch(body.pid);
	body_do(&body, MAIN, SPIN);
	wait_until(vm_state_get(slot) == VM_STATE_RUNNING);
	body_end(&body);
	wait_until(vm_state_get(slot) == VM_STATE_UNKNOWN);
	vm_state_forget(slot);
	/* And one that had ended before. */
	slot = vm_state_watch(body.pid);
	for (int i = 0; i < 20; i++)
		assert_int_equal(loop_run_once(&loop, 1), 0);
	assert_int_equal(vm_state_get(slot), VM_STATE_UNKNOWN);
	vm_state_forget(slot);
}

static void test_pid_comes_round(void **state)
{
	struct body first, second;
	int slot, slot_again;

	(void)state;
	for (int round = 0; round < 10; round++) {
		assert_true(body_start(&first, 0));
		slot = vm_state_watch(first.pid);
		body_do(&first, MAIN, SPIN);
		wait_until(vm_state_get(slot) == VM_STATE_RUNNING);
		body_end(&first);
		if (!body_start(&second, first.pid)) {
			print_message("a pid cannot be chosen here: %s\n", strerror(errno));
			vm_state_forget(slot);
			return;
		}
		body_do(&second, MAIN, SPIN);
		if (round % 2 == 0) {
			wait_until(vm_state_get(slot) == VM_STATE_UNKNOWN);
			for (int i = 0; i < SAMPLES; i++)
				assert_int_equal(vm_state_get(slot), VM_STATE_UNKNOWN);
		}
		slot_again = vm_state_watch(second.pid);
		assert_int_equal(slot_again, slot);
		wait_until(vm_state_get(slot) == VM_STATE_RUNNING);
		body_do(&second, MAIN, BLOCK);
		wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
		expect_always_blocked(slot);
		vm_state_forget(slot);
		vm_state_forget(slot);
		body_end(&second);
	}
}

static void test_crowd(void **state)
{
	static struct body crowd[CROWD];
	int slots[CROWD];

	(void)state;
	for (int i = 0; i < CROWD; i++) {
		assert_true(body_start(&crowd[i], 0));
		slots[i] = vm_state_watch(crowd[i].pid);
	}
	for (int i = 0; i < CROWD; i++)
		wait_until(vm_state_get(slots[i]) == VM_STATE_BLOCKED);
	for (int who = 0; who < CROWD; who += 9) {
		body_do(&crowd[who], MAIN, SPIN);
		wait_until(vm_state_get(slots[who]) == VM_STATE_RUNNING);
		for (int i = 0; i < CROWD; i++)
			assert_true(i == who ? is_active(slots[i]) : vm_state_get(slots[i]) == VM_STATE_BLOCKED);
		body_do(&crowd[who], MAIN, BLOCK);
		wait_until(vm_state_get(slots[who]) == VM_STATE_BLOCKED);
	}
	for (int i = 0; i < CROWD; i++) {
		vm_state_forget(slots[i]);
		body_end(&crowd[i]);
	}
	for (int i = 0; i < CROWD; i++)
		wait_until(vm_state_get(slots[i]) == VM_STATE_UNKNOWN);
}

/* Many sleeps and wake-ups leave the counts as they were. */
static void test_counts_stay_true(void **state)
{
	struct body body;
	int slot;

	(void)state;
	assert_true(body_start(&body, 0));
	slot = vm_state_watch(body.pid);
	wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
	for (int i = 0; i < 20000; i++) {
		body_do(&body, MAIN, SPIN);
		if (i % 3 == 0)
			sched_yield();
		body_do(&body, MAIN, BLOCK);
	}
	wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
	usleep(10000);
	assert_int_equal(vm_state_tables.slots[slot].counts, 0);
	vm_state_forget(slot);
	body_end(&body);
}

static void send_raw(const void *packet, size_t size)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)packet, .iov_len = size};
	int fd = 0;

	while (fdpass_send(raw, &iov, 1, &fd, size % 2) == -EAGAIN)
		usleep(1000);
}

static void test_nonsense(void **state)
{
	static const struct observer_request wrong[] = {
		{OBSERVER_WATCH, OBSERVER_SLOTS, 1, 0},
		{OBSERVER_WATCH, UINT32_MAX, 1, 0},
		{OBSERVER_WATCH, 0, 0, 0},
		{OBSERVER_WATCH, 0, -1, 0},
		{OBSERVER_WATCH, 0, INT32_MIN, 0},
		{OBSERVER_WATCH, 0, INT32_MAX, 0},
		{OBSERVER_FORGET, OBSERVER_SLOTS, 0, 0},
		{OBSERVER_FORGET, 3, 0, 0},
		{0, 0, 0, 0},
		{99, 0, 1, 0},
	};
	char bytes[4096] = {1};
	int status;

	(void)state;
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
			send_raw(&wrong[i], sizeof(wrong[i]));
		for (size_t size = 1; size <= 20; size++)
			send_raw(bytes, size);
		send_raw(bytes, sizeof(bytes));
	}
	/* One process in every slot, one after the other: the last one has it. */
	for (uint32_t slot = 0; slot < OBSERVER_SLOTS; slot++) {
		struct observer_request request = {OBSERVER_WATCH, slot, getpid(), 0};

		send_raw(&request, sizeof(request));
	}
	wait_until(vm_state_get(OBSERVER_SLOTS - 1) == VM_STATE_RUNNING);
	for (int slot = 0; slot < OBSERVER_SLOTS - 1; slot++)
		assert_int_equal(vm_state_get(slot), VM_STATE_UNKNOWN);
	assert_false(observer_has_ended(&status));
	test_spins_and_sleeps(state);
	send_raw(&(struct observer_request){OBSERVER_RESET, 0, 0, 0}, sizeof(struct observer_request));
	wait_until(vm_state_get(OBSERVER_SLOTS - 1) == VM_STATE_UNKNOWN);
}

static void expect_in_file(const char *path, const char *line)
{
	char text[8192];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	assert_true(n > 0);
	text[n] = '\0';
	if (strstr(text, line) == NULL)
		fail_msg("%s: no '%s' in\n%s", path, line, text);
}

static void test_privileges(void **state)
{
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/proc/%d/status", observer_pid);
	expect_in_file(path, "\nCapPrm:\t0000000000000000\n");
	expect_in_file(path, "\nCapEff:\t0000000000000000\n");
	expect_in_file(path, "\nCapBnd:\t0000000000000000\n");
	expect_in_file(path, "\nSeccomp:\t2\n");
	expect_in_file(path, "\nNoNewPrivs:\t1\n");
}

static int write_to_tables(void *arg)
{
	(void)arg;
	vm_state_tables.slots[0].watch = 1;
	return 0;
}

static void test_reader_cannot_write(void **state)
{
	(void)state;
	assert_int_not_equal(unit_in_child(write_to_tables, NULL), 0);
}

static void observer_replace(int signo)
{
	struct observer_notice gone = {.type = OBSERVER_GONE};
	struct iovec iov = {.iov_base = &gone, .iov_len = sizeof(gone)};

	kill(observer_pid, signo);
	waitpid(observer_pid, NULL, 0);
	assert_int_equal(fdpass_send(observer_end, &iov, 1, NULL, 0), sizeof(gone));
	wait_until(!vm_state_available());
	observer_pid = observer_start(observer_end, true);
	wait_until(vm_state_available());
}

static void test_observer_is_replaced(void **state)
{
	struct body body;
	int slot;

	(void)state;
	assert_true(body_start(&body, 0));
	slot = vm_state_watch(body.pid);
	wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
	for (int round = 0; round < 3; round++) {
		observer_replace(round == 0 ? SIGTERM : SIGKILL);
		body_do(&body, MAIN, SPIN);
		wait_until(vm_state_get(slot) == VM_STATE_RUNNING);
		expect_always_active(slot);
		body_do(&body, MAIN, BLOCK);
		wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
	}
	vm_state_forget(slot);
	body_end(&body);
}

/* Another core takes over: what the first one had watched is forgotten. */
static void test_reader_is_replaced(void **state)
{
	struct body body;
	int slot;

	(void)state;
	assert_true(body_start(&body, 0));
	slot = vm_state_watch(body.pid);
	wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
	vm_state_close();
	assert_int_equal(vm_state_get(slot), VM_STATE_UNKNOWN);
	assert_int_equal(vm_state_open(&loop, dup(raw)), 0);
	wait_until(vm_state_available());
	assert_int_equal(vm_state_get(slot), VM_STATE_UNKNOWN);
	slot = vm_state_watch(body.pid);
	wait_until(vm_state_get(slot) == VM_STATE_BLOCKED);
	vm_state_forget(slot);
	body_end(&body);
}

static void test_without_permission(void **state)
{
	int pair[2], status;
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid = observer_start(pair[1], false);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), OBSERVER_EXIT_NOT_PERMITTED);
	fdpass_close(pair, 2);
}

static void test_socket_closes(void **state)
{
	int status = -1;

	(void)state;
	vm_state_close();
	close(raw);
	raw = dup(0);
	wait_until(observer_has_ended(&status));
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static bool is_permitted(void)
{
	int pair[2], status = -1;
	char hello;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return true;
	observer_pid = observer_start(pair[1], true);
	close(pair[1]);
	if (recv(pair[0], &hello, sizeof(hello), 0) < 0)
		perror("recv");
	close(pair[0]);
	waitpid(observer_pid, &status, 0);
	return !WIFEXITED(status) || WEXITSTATUS(status) != OBSERVER_EXIT_NOT_PERMITTED;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_spins_and_sleeps, teardown),
		cmocka_unit_test_teardown(test_first_state, teardown),
		cmocka_unit_test_teardown(test_two_on_one_cpu, teardown),
		cmocka_unit_test_teardown(test_running_cpu, teardown),
		cmocka_unit_test_teardown(test_idle_cpu, teardown),
		cmocka_unit_test_teardown(test_vcpu_threads, teardown),
		cmocka_unit_test_teardown(test_processes_of_a_process, teardown),
		cmocka_unit_test_teardown(test_process_ends, teardown),
		cmocka_unit_test_teardown(test_pid_comes_round, teardown),
		cmocka_unit_test_teardown(test_crowd, teardown),
		cmocka_unit_test_teardown(test_counts_stay_true, teardown),
		cmocka_unit_test_teardown(test_nonsense, teardown),
		cmocka_unit_test_teardown(test_privileges, teardown),
		cmocka_unit_test_teardown(test_reader_cannot_write, teardown),
		cmocka_unit_test_teardown(test_observer_is_replaced, teardown),
		cmocka_unit_test_teardown(test_reader_is_replaced, teardown),
		cmocka_unit_test_teardown(test_without_permission, teardown),
		cmocka_unit_test_teardown(test_socket_closes, teardown),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: observer_check OBSERVER\n");
		return 2;
	}
	observer_path = argv[1];
	log_init("observer_check", LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	if (!is_permitted())
		return 77;
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
