/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ports whose front end listens: the controller connects and hands the socket over, again after each end of the
 * connection.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/compiler.h"
#include "lib/fdpass.h"
#include "testbed.h"
#include "traffic.h"

static const struct traffic_frame some_frames[] = {{.size = 60}, {.size = 1514}, {.size = 200}};

static uint32_t add_client_port(struct testbed *bed, const char *name)
{
	struct dp_port_add config = {.mode = DP_PORT_CLIENT, .pairs = 1, .wait_us = 10000000};
	uint32_t port;

	strncpy(config.name, name, sizeof(config.name) - 1);
	strncpy(config.path, testbed_path(bed, name), sizeof(config.path) - 1);
	assert_int_equal(datapath_client_port_add(bed->client, &config, -1, &port), 0);
	return port;
}

/* A front end that has its socket, and nobody there yet. */
static struct netfront *listen_at(struct testbed *bed, const char *name)
{
	const struct netfront_config config = {
		.path = testbed_path(bed, name),
		.features = NETFRONT_FEATURES | testbed_rings(bed),
		.listen = true,
	};
	struct netfront *nf;

	assert_int_equal(netfront_create(&nf, &config), 0);
	nf->listen_fd = vhost_frontend_listen(config.path);
	assert_true(nf->listen_fd >= 0);
	return nf;
}

/* What the control plane does. */
static int connect_port(struct testbed *bed, uint32_t port, const char *name)
{
	int sock = fdpass_connect(testbed_path(bed, name), SOCK_STREAM);
	int error;

	assert_true(sock >= 0);
	error = datapath_client_port_connect(bed->client, port, sock);
	close(sock);
	return error;
}

static void front_ends_that_listen(void **state)
{
	static struct testbed bed;
	struct netfront *a, *b;
	struct dp_port_info info;

	(void)state;
	testbed_start(&bed, 2);
	uint32_t pa = add_client_port(&bed, "a");
	uint32_t pb = add_client_port(&bed, "b");

	testbed_wire(&bed, pa, pb);
	testbed_wire(&bed, pb, pa);
	a = listen_at(&bed, "a");
	b = listen_at(&bed, "b");
	assert_int_equal(connect_port(&bed, pa, "a"), 0);
	assert_int_equal(connect_port(&bed, pb, "b"), 0);
	assert_int_equal(netfront_attach(a), 0);
	assert_int_equal(netfront_attach(b), 0);
	testbed_wait_state(&bed, pa, DP_PORT_UP);
	testbed_wait_state(&bed, pb, DP_PORT_UP);
	traffic_expect(a, b, some_frames, ARRAY_SIZE(some_frames));

	for (unsigned int round = 0; round < 20; round++) {
		/* It is there: another connection is not taken. */
		assert_int_equal(connect_port(&bed, pb, "b"), -EISCONN);
		traffic_expect(a, b, some_frames, ARRAY_SIZE(some_frames));
		traffic_expect(b, a, some_frames, ARRAY_SIZE(some_frames));
		netfront_close(b);
		testbed_wait_state(&bed, pb, DP_PORT_DOWN);
		b = listen_at(&bed, "b");
		assert_int_equal(connect_port(&bed, pb, "b"), 0);
		assert_int_equal(netfront_attach(b), 0);
		testbed_wait_state(&bed, pb, DP_PORT_UP);
		testbed_info(&bed, pb, &info);
		assert_int_equal(info.connections, round + 2);
	}
	netfront_close(a);
	netfront_close(b);
	testbed_stop(&bed);
}

/* The core dies; its successor connects to front ends that kept their rings. */
static void reconnected_by_the_next_core(void **state)
{
	static struct testbed bed;
	static const char *const names[] = {"a", "b"};
	struct netfront *ends[2];
	uint32_t ports[2];
	uint8_t frame[100], got[100];
	uint32_t sent = 0;

	(void)state;
	testbed_start(&bed, 1);
	for (unsigned int i = 0; i < 2; i++)
		ends[i] = listen_at(&bed, names[i]);
	for (unsigned int round = 0; round < 5; round++) {
		for (unsigned int i = 0; i < 2; i++)
			ports[i] = add_client_port(&bed, names[i]);
		testbed_wire(&bed, ports[0], ports[1]);
		for (unsigned int i = 2; i-- > 0;) {
			assert_int_equal(connect_port(&bed, ports[i], names[i]), 0);
			assert_int_equal(round ? netfront_reconnect(ends[i], false) : netfront_attach(ends[i]), 0);
			testbed_wait_state(&bed, ports[i], DP_PORT_UP);
		}
		/* What was sent while nobody was there. */
		for (uint32_t received = sent - (round ? 10 : 0); received < sent; received++) {
			testbed_frame(frame, sizeof(frame), 2, 1, received);
			assert_int_equal(testbed_receive(ends[1], 0, NULL, got, sizeof(got)), sizeof(got));
			assert_memory_equal(frame, got, sizeof(got));
		}
		traffic_expect(ends[0], ends[1], some_frames, ARRAY_SIZE(some_frames));
		while (netfront_reclaim(ends[0], 0) > 0)
			;
		testbed_wait_in(&bed, ports[0], 3 + (round ? 10 : 0));
		testbed_kill(&bed);
		for (unsigned int i = 0; i < 10; i++) {
			testbed_frame(frame, sizeof(frame), 2, 1, sent++);
			assert_int_equal(netfront_send_frame(ends[0], 0, frame, sizeof(frame)), 0);
		}
		testbed_restart(&bed);
	}
	netfront_close(ends[0]);
	netfront_close(ends[1]);
	testbed_stop(&bed);
}

static void not_a_front_end(void **state)
{
	static struct testbed bed;
	uint32_t port, server;
	int fds[2], event = eventfd(0, 0);

	(void)state;
	testbed_start(&bed, 1);
	port = add_client_port(&bed, "a");
	server = testbed_port(&bed, "server", NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(datapath_client_port_connect(bed.client, 999, fds[0]), -ENOENT);
	assert_int_equal(datapath_client_port_connect(bed.client, 4000, fds[0]), -ENOENT);
	assert_int_equal(datapath_client_port_connect(bed.client, server, fds[0]), -EINVAL);
	assert_int_equal(datapath_client_port_connect(bed.client, port, -1), -EINVAL);
	/* One that says nothing, and goes. */
	assert_int_equal(datapath_client_port_connect(bed.client, port, fds[0]), 0);
	testbed_wait_state(&bed, port, DP_PORT_CONNECTED);
	close(fds[0]);
	close(fds[1]);
	testbed_wait_state(&bed, port, DP_PORT_DOWN);
	/* Something that is no socket: it is found out as soon as it is read. */
	if (datapath_client_port_connect(bed.client, port, event) == 0) {
		const uint64_t one = 1;

		assert_int_equal(write(event, &one, sizeof(one)), sizeof(one));
		testbed_wait_state(&bed, port, DP_PORT_DOWN);
	}
	close(event);
	assert_int_equal(datapath_client_port_del(bed.client, port), 0);
	testbed_stop(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(front_ends_that_listen),
		cmocka_unit_test(reconnected_by_the_next_core),
		cmocka_unit_test(not_a_front_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
