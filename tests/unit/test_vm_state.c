/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reader of VM states, with the test in the observer's place: plain memory files for the tables, the other end of
 * the socket for the requests.
 */
#include "unit.h"

#include "engine/vm_state.h"
#include "lib/fdpass.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

static struct loop loop;
static int sock; /* the observer's end */
static int fds[2];
static struct observer_slot *slots;
static struct observer_cpu *cpus;

static void *make_table(int *fd, size_t size)
{
	void *table;

	*fd = memfd_create("table", MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, (off_t)size) < 0)
		return NULL;
	table = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	return table == MAP_FAILED ? NULL : table;
}

static int setup(void **state)
{
	int pair[2];

	(void)state;
	slots = make_table(&fds[0], OBSERVER_SLOTS * sizeof(*slots));
	cpus = make_table(&fds[1], OBSERVER_CPUS * sizeof(*cpus));
	if (slots == NULL || cpus == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	sock = pair[1];
	if (fcntl(sock, F_SETFL, O_NONBLOCK) < 0 || loop_init(&loop) < 0)
		return -1;
	return vm_state_open(&loop, pair[0]);
}

static int teardown(void **state)
{
	(void)state;
	vm_state_close();
	vm_state_close();
	loop_cleanup(&loop);
	munmap(slots, OBSERVER_SLOTS * sizeof(*slots));
	munmap(cpus, OBSERVER_CPUS * sizeof(*cpus));
	fdpass_close(fds, 2);
	close(sock);
	return 0;
}

static void notice(uint32_t type, uint32_t version, const int *with, size_t n_fds)
{
	struct observer_notice packet = {type, version, OBSERVER_SLOTS, OBSERVER_CPUS};
	struct iovec iov = {.iov_base = &packet, .iov_len = sizeof(packet)};

	assert_int_equal(fdpass_send(sock, &iov, 1, with, n_fds), sizeof(packet));
	assert_int_equal(loop_run_once(&loop, 1000), 0);
}

static void hello(void)
{
	notice(OBSERVER_HELLO, OBSERVER_VERSION, fds, 2);
	assert_true(vm_state_available());
}

/* Returns the request's type, 0 if there is none. */
static uint32_t next_request(struct observer_request *request)
{
	size_t n_fds;
	ssize_t n = fdpass_recv(sock, request, sizeof(*request), NULL, 0, &n_fds);

	if (n != (ssize_t)sizeof(*request))
		return 0;
	return request->type;
}

static void expect_request(uint32_t type, int slot, pid_t pid)
{
	struct observer_request request;

	assert_int_equal(next_request(&request), type);
	assert_int_equal(request.slot, slot);
	assert_int_equal(request.pid, pid);
}

static void expect_no_request(void)
{
	struct observer_request request;

	assert_int_equal(next_request(&request), 0);
}

static void test_unknown_without_observer(void **state)
{
	(void)state;
	assert_false(vm_state_available());
	assert_int_equal(vm_state_get(0), VM_STATE_UNKNOWN);
	assert_int_equal(vm_state_get(-1), VM_STATE_UNKNOWN);
	assert_int_equal(vm_state_get(OBSERVER_SLOTS), VM_STATE_UNKNOWN);
	assert_int_equal(vm_state_cpu(0), OBSERVER_CPU_UNKNOWN);
	assert_int_equal(vm_state_cpu(OBSERVER_CPUS), OBSERVER_CPU_UNKNOWN);
	assert_false(vm_state_cpu_is_idle(0));
	assert_false(vm_state_cpu_is_wanted(0));
	assert_false(vm_state_cpu_is_wanted(OBSERVER_CPUS));
	assert_int_equal(vm_state_cpu_thread(0), 0);
}

static void test_states(void **state)
{
	static const struct {
		uint64_t counts;
		uint32_t vcpus;
		enum vm_state state;
	} cases[] = {
		{0, 0, VM_STATE_BLOCKED},
		{1, 0, VM_STATE_RUNNING},
		{0x10000, 0, VM_STATE_RUNNABLE},
		{0x10001, 0, VM_STATE_RUNNING},
		{0x00030000, 0, VM_STATE_RUNNABLE},
		/* Once there are vCPUs, the others do not matter. */
		{0x00010001, 1, VM_STATE_BLOCKED},
		{0x0000000100000000, 1, VM_STATE_RUNNING},
		{0x0002000000000001, 1, VM_STATE_RUNNABLE},
		{0x0002000100000000, 1, VM_STATE_RUNNING},
	};

	(void)state;
	hello();
	assert_int_equal(vm_state_get(7), VM_STATE_UNKNOWN);
	slots[7].watch = 1024 + 7;
	slots[7].cpu = 5;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		slots[7].counts = cases[i].counts;
		slots[7].vcpus = cases[i].vcpus;
		assert_int_equal(vm_state_get(7), cases[i].state);
	}
	assert_int_equal(vm_state_last_cpu(7), 5);
	assert_int_equal(vm_state_get(6), VM_STATE_UNKNOWN);
	assert_int_equal(vm_state_get(8), VM_STATE_UNKNOWN);
	slots[OBSERVER_SLOTS - 1].watch = 1;
	assert_int_equal(vm_state_get(OBSERVER_SLOTS - 1), VM_STATE_BLOCKED);
}

static void test_cpus(void **state)
{
	(void)state;
	hello();
	cpus[3].running = (uint64_t)OBSERVER_CPU_IDLE << OBSERVER_CPU_STATE_SHIFT;
	assert_true(vm_state_cpu_is_idle(3));
	assert_int_equal(vm_state_cpu_thread(3), 0);
	cpus[3].running = (uint64_t)OBSERVER_CPU_BUSY << OBSERVER_CPU_STATE_SHIFT | 4711;
	assert_false(vm_state_cpu_is_idle(3));
	assert_int_equal(vm_state_cpu_thread(3), 4711);
	cpus[3].running = (uint64_t)OBSERVER_CPU_YIELDING << OBSERVER_CPU_STATE_SHIFT | 4711;
	assert_int_equal(vm_state_cpu(3), OBSERVER_CPU_YIELDING);
	assert_false(vm_state_cpu_is_wanted(3));
	cpus[3].wanted = 1;
	assert_true(vm_state_cpu_is_wanted(3));
	cpus[3].switches = 7;
	cpus[3].idles = 2;
	assert_int_equal(vm_state_cpu_history(3).switches, 7);
	assert_int_equal(vm_state_cpu_history(3).idles, 2);
	cpus[0].switches = 1;
	assert_int_equal(vm_state_cpu_history(OBSERVER_CPUS).switches, 0);
}

static void test_requests(void **state)
{
	int a, b, again;

	(void)state;
	expect_request(OBSERVER_RESET, 0, 0);
	assert_int_equal(vm_state_watch(0), -EINVAL);
	assert_int_equal(vm_state_watch(-5), -EINVAL);
	a = vm_state_watch(100);
	b = vm_state_watch(200);
	assert_true(a >= 0 && b >= 0 && a != b);
	/* Nobody is there yet. */
	expect_no_request();
	hello();
	expect_request(OBSERVER_WATCH, min(a, b), a < b ? 100 : 200);
	expect_request(OBSERVER_WATCH, max(a, b), a < b ? 200 : 100);
	/* Two devices of one VM. */
	again = vm_state_watch(100);
	assert_int_equal(again, a);
	expect_request(OBSERVER_WATCH, a, 100);
	vm_state_forget(a);
	expect_no_request();
	vm_state_forget(a);
	expect_request(OBSERVER_FORGET, a, 0);
	vm_state_forget(a);
	vm_state_forget(-1);
	vm_state_forget(OBSERVER_SLOTS);
	expect_no_request();
	/* A new observer is told what the last one was, and not what is over. */
	notice(OBSERVER_GONE, 0, NULL, 0);
	assert_false(vm_state_available());
	hello();
	expect_request(OBSERVER_WATCH, b, 200);
	expect_no_request();
}

static void test_slot_is_not_reused_at_once(void **state)
{
	int first = vm_state_watch(100);

	(void)state;
	vm_state_forget(first);
	assert_int_not_equal(vm_state_watch(101), first);
}

static void test_more_than_slots(void **state)
{
	int last = -1;

	(void)state;
	for (int i = 0; i < OBSERVER_SLOTS; i++) {
		last = vm_state_watch(1000 + i);
		assert_true(last >= 0 && last < OBSERVER_SLOTS);
	}
	assert_int_equal(vm_state_watch(999), -ENOSPC);
	assert_true(vm_state_watch(1000) >= 0);
	vm_state_forget(last);
	assert_int_equal(vm_state_watch(999), last);
}

/* More than fits into the socket, while the observer does not read: all come in the end, none twice. */
static void test_slow_observer(void **state)
{
	bool seen[OBSERVER_SLOTS] = {false};
	struct observer_request request;
	unsigned int count = 0;

	(void)state;
	expect_request(OBSERVER_RESET, 0, 0);
	hello();
	for (int i = 0; i < OBSERVER_SLOTS; i++)
		assert_true(vm_state_watch(1000 + i) >= 0);
	for (int round = 0; round < OBSERVER_SLOTS && count < OBSERVER_SLOTS; round++) {
		while (next_request(&request) == OBSERVER_WATCH) {
			assert_false(seen[request.slot]);
			seen[request.slot] = true;
			count++;
		}
		assert_int_equal(loop_run_once(&loop, 0), 0);
	}
	assert_int_equal(count, OBSERVER_SLOTS);
	assert_int_equal(loop_run_once(&loop, 0), 0);
	expect_no_request();
}

static void test_gone(void **state)
{
	(void)state;
	hello();
	slots[1].watch = 1;
	cpus[0].running = (uint64_t)OBSERVER_CPU_IDLE << OBSERVER_CPU_STATE_SHIFT;
	assert_int_equal(vm_state_get(1), VM_STATE_BLOCKED);
	assert_true(vm_state_cpu_is_idle(0));
	notice(OBSERVER_GONE, 0, NULL, 0);
	assert_int_equal(vm_state_get(1), VM_STATE_UNKNOWN);
	assert_false(vm_state_cpu_is_idle(0));
	hello();
	assert_int_equal(vm_state_get(1), VM_STATE_BLOCKED);
	close(sock);
	assert_int_equal(loop_run_once(&loop, 1000), 0);
	assert_false(vm_state_available());
	assert_int_equal(vm_state_get(1), VM_STATE_UNKNOWN);
	/* And goes on without. */
	assert_true(vm_state_watch(100) >= 0);
	sock = dup(0);
}

static void test_hello_that_is_none(void **state)
{
	int next = unit_next_fd();
	struct observer_notice packet = {OBSERVER_HELLO, OBSERVER_VERSION, OBSERVER_SLOTS / 2, OBSERVER_CPUS};
	struct iovec iov = {.iov_base = &packet, .iov_len = sizeof(packet)};
	int pipes[2];

	(void)state;
	notice(OBSERVER_HELLO, OBSERVER_VERSION + 1, fds, 2);
	assert_false(vm_state_available());
	notice(OBSERVER_HELLO, OBSERVER_VERSION, fds, 1);
	assert_false(vm_state_available());
	notice(4711, OBSERVER_VERSION, fds, 2);
	assert_false(vm_state_available());
	assert_int_equal(fdpass_send(sock, &iov, 1, fds, 2), sizeof(packet));
	assert_int_equal(loop_run_once(&loop, 1000), 0);
	assert_false(vm_state_available());
	assert_int_equal(unit_next_fd(), next);
	/* What cannot be mapped. */
	assert_int_equal(pipe(pipes), 0);
	hello();
	slots[1].watch = 1;
	notice(OBSERVER_HELLO, OBSERVER_VERSION, pipes, 2);
	assert_false(vm_state_available());
	assert_int_equal(vm_state_get(1), VM_STATE_UNKNOWN);
	fdpass_close(pipes, 2);
	/* What is no notice at all ends it. */
	iov.iov_len = 3;
	assert_int_equal(fdpass_send(sock, &iov, 1, NULL, 0), 3);
	assert_int_equal(loop_run_once(&loop, 1000), 0);
	assert_false(vm_state_available());
}

/* A reader of a slot never faults and never stops while observers come and go. */
static void *read_on(void *arg)
{
	const bool *stop = arg;
	uintptr_t sum = 0;

	while (!load_relaxed(stop))
		sum += (uintptr_t)vm_state_get(1) + (uintptr_t)vm_state_cpu(1);
	return (void *)sum;
}

static void test_remapped_under_a_reader(void **state)
{
	bool stop = false;
	pthread_t reader;

	(void)state;
	slots[1].watch = 1;
	assert_int_equal(pthread_create(&reader, NULL, read_on, &stop), 0);
	for (int i = 0; i < 200; i++) {
		hello();
		notice(OBSERVER_GONE, 0, NULL, 0);
	}
	store_relaxed(&stop, true);
	assert_int_equal(pthread_join(reader, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_unknown_without_observer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_states, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cpus, setup, teardown),
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slot_is_not_reused_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_more_than_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_observer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hello_that_is_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remapped_under_a_reader, setup, teardown),
	};

	log_init("test_vm_state", LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
