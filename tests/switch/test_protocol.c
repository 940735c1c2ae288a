/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The datapath's socket, spoken to by somebody who gets it wrong: messages too short and too long, unknown types,
 * wrong counts, indexes out of range, descriptors that nobody asked for. Each is refused, by an answer or by the end
 * of the connection; nothing changes, nothing leaks, and the packets go on.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/clock.h"
#include "lib/compiler.h"
#include "lib/fdpass.h"
#include "testbed.h"
#include "traffic.h"

#define MESSAGE_MAX (2 * DP_MESSAGE_MAX)

static const struct traffic_frame some_frames[] = {{.size = 60}, {.size = 1514}, {.size = 200}};

struct scene {
	struct testbed bed;
	uint32_t a;
	uint32_t b;
	struct netfront *from;
	struct netfront *to;
	unsigned int fds; /* of the core, with one controller */
};

static void start(struct scene *scene)
{
	const struct dp_port_add patient = {.wait_us = 10000000};

	testbed_start(&scene->bed, 1);
	scene->a = testbed_port(&scene->bed, "a", &patient);
	scene->b = testbed_port(&scene->bed, "b", &patient);
	testbed_wire(&scene->bed, scene->a, scene->b);
	scene->from = testbed_attach(&scene->bed, "a", NULL);
	scene->to = testbed_attach(&scene->bed, "b", NULL);
	testbed_wait_state(&scene->bed, scene->a, DP_PORT_UP);
	testbed_wait_state(&scene->bed, scene->b, DP_PORT_UP);
	scene->fds = testbed_count_descriptors(scene->bed.core);
	testbed_close_client(&scene->bed);
}

static void count_port(void *arg, const struct dp_port_info *info)
{
	(void)info;
	++*(unsigned int *)arg;
}

static void count_flow(void *arg, const struct dp_flow_info *info)
{
	(void)info;
	++*(unsigned int *)arg;
}

/* What was there before is there, and nothing else. */
static void expect_unchanged(struct scene *scene)
{
	unsigned int ports = 0, flows = 0;
	struct dp_port_info info;

	testbed_open_client(&scene->bed);
	assert_int_equal(datapath_client_port_dump(scene->bed.client, count_port, &ports), 0);
	assert_int_equal(datapath_client_flow_dump(scene->bed.client, count_flow, &flows), 0);
	assert_int_equal(ports, 2);
	assert_int_equal(flows, 1);
	testbed_info(&scene->bed, scene->b, &info);
	assert_int_equal(info.state, DP_PORT_UP);
	traffic_expect(scene->from, scene->to, some_frames, ARRAY_SIZE(some_frames));
	assert_int_equal(testbed_count_descriptors(scene->bed.core), scene->fds);
	testbed_close_client(&scene->bed);
}

static void stop(struct scene *scene)
{
	netfront_close(scene->from);
	netfront_close(scene->to);
	testbed_stop(&scene->bed);
}

static int connect_raw(struct scene *scene)
{
	char path[DP_PATH_SIZE];
	int sock;

	snprintf(path, sizeof(path), "%.80s/%s", scene->bed.dir, DP_SOCKET_NAME);
	/* Its queue of connections is short. */
	while ((sock = fdpass_connect(path, SOCK_SEQPACKET)) == -EAGAIN)
		sched_yield();
	assert_true(sock >= 0);
	return sock;
}

/* Sends a packet of these bytes; returns the answer's status, or -ENOTCONN if the connection ended. */
static int exchange(int sock, const void *bytes, size_t size, const int *fds, unsigned int fd_count)
{
	struct pollfd poll_fd = {.fd = sock, .events = POLLIN};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
	static union {
		struct dp_header header;
		uint8_t bytes[DP_MESSAGE_MAX];
	} answer;
	size_t n_fds;
	ssize_t n = fdpass_send(sock, &iov, 1, fds, fd_count);

	if (n == -EPIPE || n == -ECONNRESET)
		return -ENOTCONN;
	assert_int_equal(n, size);
	do {
		assert_int_equal(poll(&poll_fd, 1, 20000), 1);
		n = fdpass_recv(sock, &answer, sizeof(answer), NULL, 0, &n_fds);
		if (n <= 0)
			return -ENOTCONN;
		assert_true(n >= (ssize_t)sizeof(answer.header));
	} while (answer.header.sequence == 0 || (answer.header.flags & DP_MORE));
	return answer.header.status;
}

struct request {
	struct dp_header header;
	uint8_t payload[MESSAGE_MAX];
};

static int send_request(int sock, uint16_t type, const void *payload, size_t size, const int *fds,
			unsigned int fd_count)
{
	static struct request request;

	request.header = (struct dp_header){.type = type, .sequence = 7};
	if (size)
		memcpy(request.payload, payload, size);
	return exchange(sock, &request, sizeof(request.header) + size, fds, fd_count);
}

/* The size that a request's payload has, and more than which it must not have. */
static const struct {
	uint16_t type;
	size_t size;
} sizes[] = {
	{DP_HELLO, sizeof(struct dp_hello)},
	{DP_PORT_ADD, sizeof(struct dp_port_add)},
	{DP_PORT_DEL, sizeof(struct dp_port_id)},
	{DP_PORT_CONNECT, sizeof(struct dp_port_id)},
	{DP_PORT_DUMP, 0},
	{DP_FLOW_ADD, sizeof(struct dp_flow_add)},
	{DP_FLOW_DEL, sizeof(struct dp_flow_id)},
	{DP_FLOW_DUMP, 0},
	{DP_PACKET_OUT, sizeof(struct dp_packet_out)},
};

static void wrong_sizes(void **state)
{
	static const uint8_t zeros[MESSAGE_MAX], ones[MESSAGE_MAX] = {[0 ... MESSAGE_MAX - 1] = 0xff};
	static struct scene scene;
	int sock;

	(void)state;
	start(&scene);
	sock = connect_raw(&scene);
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (size_t size = 0; size < sizes[i].size + 40; size++) {
			if (size == sizes[i].size)
				continue;
			assert_int_equal(send_request(sock, sizes[i].type, zeros, size, NULL, 0), -EINVAL);
			assert_int_equal(send_request(sock, sizes[i].type, ones, size, NULL, 0), -EINVAL);
		}
	}
	for (uint32_t type = 0; type < 70000; type += type < 100 ? 1 : 997) {
		if (type < DP_HELLO || type > DP_PACKET_OUT)
			assert_int_equal(send_request(sock, (uint16_t)type, zeros, 8, NULL, 0), -ENOSYS);
	}
	close(sock);
	expect_unchanged(&scene);

	/* What is no message at all ends the connection. */
	for (size_t size = 1; size < sizeof(struct dp_header); size++) {
		sock = connect_raw(&scene);
		assert_int_equal(exchange(sock, zeros, size, NULL, 0), -ENOTCONN);
		close(sock);
	}
	for (size_t size = DP_MESSAGE_MAX - sizeof(struct dp_header) + 1; size < MESSAGE_MAX; size += 1000) {
		sock = connect_raw(&scene);
		assert_int_equal(send_request(sock, DP_FLOW_ADD, zeros, size, NULL, 0), -ENOTCONN);
		close(sock);
	}
	expect_unchanged(&scene);
	stop(&scene);
}

static void bad_hellos(void **state)
{
	static struct scene scene;
	struct dp_hello hello = {.version = DP_VERSION + 1};
	int sock;

	(void)state;
	start(&scene);
	sock = connect_raw(&scene);
	assert_int_equal(send_request(sock, DP_HELLO, &hello, sizeof(hello), NULL, 0), -EPROTO);
	hello.version = 0;
	assert_int_equal(send_request(sock, DP_HELLO, &hello, sizeof(hello), NULL, 0), -EPROTO);
	close(sock);
	expect_unchanged(&scene);
	stop(&scene);
}

static int add_port(int sock, const struct dp_port_add *config, bool with_listener)
{
	int pair[2], status;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	status = send_request(sock, DP_PORT_ADD, config, sizeof(*config), pair, with_listener ? 1 : 0);
	close(pair[0]);
	close(pair[1]);
	return status;
}

static void bad_ports(void **state)
{
	static const struct dp_port_add good = {.name = "c", .pairs = 1, .path = "/nowhere"};
	static struct scene scene;
	struct dp_port_add config;
	struct dp_port_id id;
	int sock;

	(void)state;
	start(&scene);
	sock = connect_raw(&scene);
	assert_int_equal(add_port(sock, &good, false), -EINVAL);
	config = good;
	config.mode = DP_PORT_CLIENT;
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config.mode = 2;
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config.mode = UINT32_MAX;
	assert_int_equal(add_port(sock, &config, false), -EINVAL);
	config = good;
	config.pairs = 0;
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config.pairs = 17;
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config.pairs = UINT32_MAX;
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config = good;
	config.mtu = 67;
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config = good;
	config.notify_us = DP_NOTIFY_US_MAX + 1;
	config.notify_packets = 1;
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config = good;
	config.notify_packets = DP_NOTIFY_PACKETS_MAX + 1;
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config = good;
	config.wait_us = 10000001;
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	/* Names: none, one without an end, one that is taken. */
	config = good;
	config.name[0] = '\0';
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	memset(config.name, 'x', sizeof(config.name));
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config = good;
	memset(config.owner, 'x', sizeof(config.owner));
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config = good;
	memset(config.path, 'x', sizeof(config.path));
	assert_int_equal(add_port(sock, &config, true), -EINVAL);
	config = good;
	config.name[0] = 'a';
	assert_int_equal(add_port(sock, &config, true), -EEXIST);
	for (uint32_t port = 2; port != 1; port = port > 2000000000 ? 1 : port * 7) {
		id = (struct dp_port_id){.port = port};
		assert_int_equal(send_request(sock, DP_PORT_DEL, &id, sizeof(id), NULL, 0), -ENOENT);
		assert_int_equal(send_request(sock, DP_PORT_CONNECT, &id, sizeof(id), &sock, 1), -ENOENT);
	}
	id.port = UINT32_MAX;
	assert_int_equal(send_request(sock, DP_PORT_DEL, &id, sizeof(id), NULL, 0), -ENOENT);
	id.port = scene.a;
	assert_int_equal(send_request(sock, DP_PORT_CONNECT, &id, sizeof(id), &sock, 1), -EINVAL);
	close(sock);
	expect_unchanged(&scene);
	stop(&scene);
}

static int add_flow(int sock, uint32_t count, const struct flow_action *action, size_t actions)
{
	static union {
		struct dp_flow_add add;
		uint8_t bytes[sizeof(struct dp_flow_add) + 1200 * sizeof(struct flow_action)];
	} flow;

	memset(&flow, 0, sizeof(flow));
	flow.add.key.in_port = 500;
	flow.add.mask.in_port = UINT32_MAX;
	flow.add.action_count = count;
	for (size_t i = 0; i < actions; i++)
		memcpy(flow.bytes + sizeof(flow.add) + i * sizeof(*action), action, sizeof(*action));
	return send_request(sock, DP_FLOW_ADD, &flow, sizeof(flow.add) + actions * sizeof(*action), NULL, 0);
}

static void bad_flows(void **state)
{
	static struct scene scene;
	const struct flow_action output = {.type = FLOW_ACTION_OUTPUT, .value = 1};
	const struct flow_action drop = {.type = FLOW_ACTION_DROP};
	struct flow_action bad;
	struct dp_flow_id id = {.id = UINT64_MAX};
	int sock;

	(void)state;
	start(&scene);
	sock = connect_raw(&scene);
	/* Counts that are not what comes along. */
	assert_int_equal(add_flow(sock, 1, &output, 0), -EINVAL);
	assert_int_equal(add_flow(sock, 0, &output, 1), -EINVAL);
	assert_int_equal(add_flow(sock, 2, &output, 1), -EINVAL);
	assert_int_equal(add_flow(sock, UINT32_MAX, &output, 1), -EINVAL);
	assert_int_equal(add_flow(sock, 0x20000000, &output, 0), -EINVAL);
	assert_int_equal(add_flow(sock, FLOW_ACTIONS_MAX + 1, &output, FLOW_ACTIONS_MAX + 1), -EINVAL);
	/* Actions that are none. */
	bad = (struct flow_action){.type = 0};
	assert_int_equal(add_flow(sock, 1, &bad, 1), -EINVAL);
	bad.type = 3;
	assert_int_equal(add_flow(sock, 1, &bad, 1), -EINVAL);
	bad = (struct flow_action){.type = FLOW_ACTION_OUTPUT, .value = FLOW_PORTS_MAX};
	assert_int_equal(add_flow(sock, 1, &bad, 1), -EINVAL);
	bad.value = UINT32_MAX;
	assert_int_equal(add_flow(sock, 1, &bad, 1), -EINVAL);
	bad = (struct flow_action){.type = FLOW_ACTION_DROP, .value = DROP_COUNT};
	assert_int_equal(add_flow(sock, 1, &bad, 1), -EINVAL);
	assert_int_equal(add_flow(sock, 2, &drop, 2), -EINVAL);
	assert_int_equal(send_request(sock, DP_FLOW_DEL, &id, sizeof(id), NULL, 0), -ENOENT);
	id.id = 1ULL << 32;
	assert_int_equal(send_request(sock, DP_FLOW_DEL, &id, sizeof(id), NULL, 0), -ENOENT);
	close(sock);
	expect_unchanged(&scene);
	stop(&scene);
}

static int packet_out(int sock, uint32_t length, uint32_t port_count, uint32_t port, size_t size)
{
	static union {
		struct dp_packet_out out;
		uint8_t bytes[8192];
	} packet;

	memset(&packet, 0, sizeof(packet));
	packet.out = (struct dp_packet_out){.in_port = DP_PORTS_MAX, .length = length, .port_count = port_count};
	memcpy(packet.bytes + sizeof(packet.out), &port, sizeof(port));
	return send_request(sock, DP_PACKET_OUT, &packet, sizeof(packet.out) + size, NULL, 0);
}

static void packets_from_the_controller(void **state)
{
	static struct scene scene;
	uint8_t frame[DP_PACKET_MAX], got[DP_PACKET_MAX];
	uint32_t ports[3];
	int sock;

	(void)state;
	start(&scene);
	sock = connect_raw(&scene);
	assert_int_equal(packet_out(sock, 13, 1, scene.b, 4 + 13), -EINVAL);
	assert_int_equal(packet_out(sock, DP_PACKET_MAX + 1, 1, scene.b, 4 + DP_PACKET_MAX + 1), -EINVAL);
	assert_int_equal(packet_out(sock, 60, 1, scene.b, 4 + 59), -EINVAL);
	assert_int_equal(packet_out(sock, 60, 1, scene.b, 4 + 61), -EINVAL);
	assert_int_equal(packet_out(sock, 60, 2, scene.b, 4 + 60), -EINVAL);
	assert_int_equal(packet_out(sock, UINT32_MAX - 3, 1, scene.b, 0), -EINVAL);
	assert_int_equal(packet_out(sock, 60, UINT32_MAX, scene.b, 60), -EINVAL);
	assert_int_equal(packet_out(sock, 60, 0x40000000, scene.b, 60), -EINVAL);
	/* Ports that are not there take nothing. */
	assert_int_equal(packet_out(sock, 60, 1, 77, 4 + 60), 0);
	assert_int_equal(packet_out(sock, 60, 1, UINT32_MAX, 4 + 60), 0);
	close(sock);
	traffic_expect_silence(scene.to, 0);
	expect_unchanged(&scene);

	testbed_open_client(&scene.bed);
	ports[0] = scene.b;
	ports[1] = 900;
	ports[2] = scene.a;
	for (uint32_t size = 14; size <= DP_PACKET_MAX; size += 122) {
		testbed_frame(frame, size, 2, 1, size);
		assert_int_equal(datapath_client_packet_out(scene.bed.client, DP_PORTS_MAX, ports, 3, frame, size), 0);
		assert_int_equal(testbed_receive(scene.to, 0, NULL, got, sizeof(got)), size);
		assert_memory_equal(got, frame, size);
		assert_int_equal(testbed_receive(scene.from, 0, NULL, got, sizeof(got)), size);
		assert_memory_equal(got, frame, size);
	}
	testbed_close_client(&scene.bed);
	expect_unchanged(&scene);
	stop(&scene);
}

/* Descriptors that nobody asked for: however many, none stays. */
static void surplus_descriptors(void **state)
{
	static struct scene scene;
	struct dp_hello hello = {.version = DP_VERSION};
	struct dp_port_id id = {.port = 900};
	int fds[FDPASS_MAX];

	(void)state;
	start(&scene);
	for (unsigned int count = 1; count <= FDPASS_MAX; count *= 2) {
		static const uint16_t types[] = {DP_HELLO, DP_PORT_DEL, DP_PORT_CONNECT, DP_PORT_DUMP, 33};

		for (unsigned int i = 0; i < ARRAY_SIZE(types); i++) {
			int sock = connect_raw(&scene);
			size_t size = types[i] == DP_HELLO ? sizeof(hello) : types[i] == DP_PORT_DUMP ? 0 : sizeof(id);
			int status;

			for (unsigned int j = 0; j < count; j++)
				fds[j] = sock;
			status = send_request(sock, types[i], types[i] == DP_HELLO ? (void *)&hello : (void *)&id, size,
					      fds, count);
			if (count > 1)
				assert_int_equal(status, -ENOTCONN);
			close(sock);
		}
		expect_unchanged(&scene);
	}
	stop(&scene);
}

/* Asks and does not listen: nobody waits for it. */
static void a_controller_that_does_not_read(void **state)
{
	static struct scene scene;
	struct dp_header header = {.type = DP_PORT_DUMP, .sequence = 1};
	struct iovec iov = {.iov_base = &header, .iov_len = sizeof(header)};
	int sock;

	(void)state;
	start(&scene);
	sock = connect_raw(&scene);
	for (unsigned int i = 0; i < 10000; i++) {
		if (fdpass_send(sock, &iov, 1, NULL, 0) < 0)
			break;
	}
	traffic_expect(scene.from, scene.to, some_frames, ARRAY_SIZE(some_frames));
	expect_unchanged(&scene);
	close(sock);
	expect_unchanged(&scene);
	/* Connections that end at once, and many of them. */
	for (unsigned int i = 0; i < 200; i++)
		close(connect_raw(&scene));
	expect_unchanged(&scene);
	stop(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_sizes),
		cmocka_unit_test(bad_hellos),
		cmocka_unit_test(bad_ports),
		cmocka_unit_test(bad_flows),
		cmocka_unit_test(packets_from_the_controller),
		cmocka_unit_test(surplus_descriptors),
		cmocka_unit_test(a_controller_that_does_not_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
