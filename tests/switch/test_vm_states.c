/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ports' part in what is known of VMs, with the test in the observer's place: the process behind each socket is
 * watched for as long as it is connected, and what is seen of it is told of its port.
 */
#include "observer.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS ((int)(PATIENCE_NS / NS_PER_MS))

/* The next request, which must be of this type and process. Returns its slot. */
static uint32_t expect_request(const struct observer *observer, uint32_t type, pid_t pid)
{
	struct pollfd poll_fd = {.fd = observer->sock, .events = POLLIN};
	struct observer_request request;

	assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
	assert_int_equal(recv(observer->sock, &request, sizeof(request), 0), sizeof(request));
	assert_int_equal(request.type, type);
	assert_int_equal(request.pid, pid);
	assert_true(request.slot < OBSERVER_SLOTS);
	return request.slot;
}

static void expect_no_request(const struct observer *observer)
{
	struct pollfd poll_fd = {.fd = observer->sock, .events = POLLIN};

	assert_int_equal(poll(&poll_fd, 1, 50), 0);
}

static void see(const struct observer *observer, uint32_t slot, uint64_t counts)
{
	__atomic_store_n(&observer->slots[slot].counts, counts, __ATOMIC_RELAXED);
	__atomic_store_n(&observer->slots[slot].watch, OBSERVER_SLOTS + slot, __ATOMIC_RELAXED);
}

static void expect_vm(struct testbed *bed, uint32_t port, enum dp_vm_state state, pid_t pid)
{
	struct dp_port_info info;

	testbed_info(bed, port, &info);
	assert_int_equal(info.vm_state, state);
	assert_int_equal(info.peer_pid, pid);
}

static void wait_known(struct testbed *bed, bool known)
{
	struct stats_reader stats;

	assert_int_equal(stats_reader_open(&stats, bed->dir), 0);
	for (int i = 0; i < PATIENCE_MS && load_relaxed(&stats.header->vm_states) != known; i++)
		usleep(1000);
	assert_int_equal(load_relaxed(&stats.header->vm_states), known);
	stats_reader_close(&stats);
}

static void ports_are_watched(void **state)
{
	struct observer observer;
	struct netfront *a, *b;
	struct testbed bed;
	uint32_t port[2], slot;

	(void)state;
	observer_open(&observer);
	testbed_start_observed(&bed, 2, observer.their);
	port[0] = testbed_port(&bed, "a", NULL);
	port[1] = testbed_port(&bed, "b", NULL);
	expect_request(&observer, OBSERVER_RESET, 0);
	observer_say(&observer, OBSERVER_HELLO);
	wait_known(&bed, true);
	expect_vm(&bed, port[0], DP_VM_UNKNOWN, 0);

	a = testbed_attach(&bed, "a", NULL);
	testbed_wait_state(&bed, port[0], DP_PORT_UP);
	slot = expect_request(&observer, OBSERVER_WATCH, getpid());
	expect_vm(&bed, port[0], DP_VM_UNKNOWN, getpid());
	see(&observer, slot, 0);
	expect_vm(&bed, port[0], DP_VM_BLOCKED, getpid());
	see(&observer, slot, 1ULL << OBSERVER_RUNNABLE_SHIFT);
	expect_vm(&bed, port[0], DP_VM_RUNNABLE, getpid());
	see(&observer, slot, 1);
	expect_vm(&bed, port[0], DP_VM_RUNNING, getpid());
	expect_vm(&bed, port[1], DP_VM_UNKNOWN, 0);

	/* A second port of the same process, which is watched until both are gone. */
	b = testbed_attach(&bed, "b", NULL);
	testbed_wait_state(&bed, port[1], DP_PORT_UP);
	assert_int_equal(expect_request(&observer, OBSERVER_WATCH, getpid()), slot);
	expect_vm(&bed, port[1], DP_VM_RUNNING, getpid());
	netfront_close(a);
	testbed_wait_state(&bed, port[0], DP_PORT_DOWN);
	expect_no_request(&observer);
	expect_vm(&bed, port[0], DP_VM_UNKNOWN, 0);
	expect_vm(&bed, port[1], DP_VM_RUNNING, getpid());
	assert_int_equal(datapath_client_port_del(bed.client, port[1]), 0);
	assert_int_equal(expect_request(&observer, OBSERVER_FORGET, 0), slot);
	netfront_close(b);
	testbed_stop(&bed);
	observer_close(&observer);
}

static void without_observer(void **state)
{
	struct observer observer;
	struct netfront *a, *b;
	struct testbed bed;
	uint32_t port[2], slot;

	(void)state;
	observer_open(&observer);
	testbed_start_observed(&bed, 2, observer.their);
	port[0] = testbed_port(&bed, "a", NULL);
	port[1] = testbed_port(&bed, "b", NULL);
	testbed_wire(&bed, port[0], port[1]);
	testbed_wire(&bed, port[1], port[0]);
	a = testbed_attach(&bed, "a", NULL);
	b = testbed_attach(&bed, "b", NULL);
	testbed_wait_state(&bed, port[0], DP_PORT_UP);
	testbed_wait_state(&bed, port[1], DP_PORT_UP);
	expect_request(&observer, OBSERVER_RESET, 0);
	expect_no_request(&observer);
	expect_vm(&bed, port[0], DP_VM_UNKNOWN, getpid());
	testbed_expect_traffic(a, b, 100);

	/* It comes late, and goes, and comes again, in the middle of traffic. */
	for (int i = 0; i < 100; i++) {
		observer_say(&observer, OBSERVER_HELLO);
		testbed_expect_traffic(a, b, 100);
		slot = expect_request(&observer, OBSERVER_WATCH, getpid());
		see(&observer, slot, 1);
		expect_vm(&bed, port[0], DP_VM_RUNNING, getpid());
		testbed_expect_traffic(a, b, 100);
		observer_say(&observer, OBSERVER_GONE);
		testbed_expect_traffic(a, b, 100);
		wait_known(&bed, false);
		expect_vm(&bed, port[0], DP_VM_UNKNOWN, getpid());
		testbed_expect_traffic(a, b, 100);
	}
	netfront_close(a);
	netfront_close(b);
	testbed_stop(&bed);
	observer_close(&observer);
}

/* Nonsense ends the connection to it, and nothing else. */
static void broken_observer(void **state)
{
	struct observer observer;
	struct netfront *a;
	struct testbed bed;
	uint32_t port;

	(void)state;
	observer_open(&observer);
	testbed_start_observed(&bed, 1, observer.their);
	port = testbed_port(&bed, "a", NULL);
	observer_say(&observer, OBSERVER_HELLO);
	wait_known(&bed, true);
	assert_int_equal(send(observer.sock, "x", 1, 0), 1);
	wait_known(&bed, false);
	a = testbed_attach(&bed, "a", NULL);
	testbed_wait_state(&bed, port, DP_PORT_UP);
	expect_vm(&bed, port, DP_VM_UNKNOWN, getpid());
	netfront_close(a);
	testbed_wait_state(&bed, port, DP_PORT_DOWN);
	testbed_stop(&bed);
	observer_close(&observer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_are_watched),
		cmocka_unit_test(without_observer),
		cmocka_unit_test(broken_observer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
