/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller's end of the datapath protocol, against a data plane that is a list of packets:
 * the test says what it answers to each request.
 */
#include "unit.h"

#include "lib/fdpass.h"
#include "proto/datapath_client.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWERS_MAX 2100

union packet {
	struct dp_header header;
	uint8_t bytes[512];
};

/* One packet to send: to the request before it if `answer`, else an event, or a stale answer. */
struct reply {
	union packet packet;
	size_t size;
	bool answer;
};

static struct script {
	char dir[64], path[96];
	pthread_t thread;
	int listener;
	struct reply replies[ANSWERS_MAX];
	unsigned int count;
	/* what came */
	union packet request;
	size_t request_size;
	unsigned int requests;
	unsigned int fds;
} script;

static void expect_reply(uint16_t type, int32_t status, uint16_t flags, const void *payload, size_t size, bool answer)
{
	struct reply *reply = &script.replies[script.count++];

	assert_true(script.count <= ANSWERS_MAX);
	memset(reply, 0, sizeof(*reply));
	reply->packet.header.type = type;
	reply->packet.header.status = status;
	reply->packet.header.flags = flags;
	if (size > 0)
		memcpy(reply->packet.bytes + sizeof(struct dp_header), payload, size);
	reply->size = sizeof(struct dp_header) + size;
	reply->answer = answer;
}

static void answer(uint16_t type, int32_t status, const void *payload, size_t size)
{
	expect_reply(type, status, 0, payload, size, true);
}

static void event(uint16_t type, const void *payload, size_t size)
{
	expect_reply(type, 0, 0, payload, size, false);
}

static ssize_t receive_request(int sock)
{
	int fds[4];
	size_t n_fds;
	ssize_t n = fdpass_recv(sock, &script.request, sizeof(script.request), fds, 4, &n_fds);

	if (n > 0)
		fdpass_close(fds, n_fds);
	script.fds += (unsigned int)n_fds;
	return n;
}

/* Answers each request with all replies up to the next answer that ends it (or all that are left).
 */
static void *serve(void *arg)
{
	int sock = accept(script.listener, NULL, NULL);
	unsigned int next = 0;

	(void)arg;
	for (;;) {
		ssize_t n = receive_request(sock);

		if (n <= 0)
			break;
		script.request_size = (size_t)n;
		script.requests++;
		while (next < script.count) {
			struct reply *reply = &script.replies[next++];
			bool last = reply->answer && !(reply->packet.header.flags & DP_MORE);

			if (reply->answer)
				reply->packet.header.sequence = script.request.header.sequence;
			if (send(sock, &reply->packet, reply->size, MSG_NOSIGNAL) < 0)
				break;
			if (last)
				break;
		}
		if (next == script.count)
			break;
	}
	close(sock);
	return NULL;
}

static const struct dp_hello hello_answer = {.version = DP_VERSION, .flows_max = 77};

static int setup(void **state)
{
	(void)state;
	memset(&script, 0, sizeof(script));
	assert_non_null(unit_temporary_dir(script.dir));
	snprintf(script.path, sizeof(script.path), "%s/datapath.sock", script.dir);
	script.listener = fdpass_listen(script.path, SOCK_SEQPACKET, 1, 0600);
	assert_true(script.listener >= 0);
	assert_int_equal(fcntl(script.listener, F_SETFL, 0), 0);
	answer(DP_HELLO, 0, &hello_answer, sizeof(hello_answer));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(script.listener);
	unlink(script.path);
	return rmdir(script.dir);
}

static struct datapath_client *begin(void)
{
	struct datapath_client *client;
	struct dp_hello hello;

	assert_int_equal(pthread_create(&script.thread, NULL, serve, NULL), 0);
	assert_int_equal(datapath_client_open(&client, script.path, &hello), 0);
	assert_int_equal(hello.flows_max, 77);
	return client;
}

static void end(struct datapath_client *client)
{
	datapath_client_close(client);
	pthread_join(script.thread, NULL);
}

static void test_nobody(void **state)
{
	struct datapath_client *client;
	struct dp_hello hello;

	(void)state;
	assert_int_equal(datapath_client_open(&client, "/nonexistent/datapath.sock", &hello), -ENOENT);
	datapath_client_close(NULL);
}

static void test_other_version(void **state)
{
	struct dp_hello other = {.version = 99}, hello;
	struct datapath_client *client;

	(void)state;
	script.count = 0;
	answer(DP_HELLO, -EPROTO, &other, sizeof(other));
	assert_int_equal(pthread_create(&script.thread, NULL, serve, NULL), 0);
	assert_int_equal(datapath_client_open(&client, script.path, &hello), -EPROTO);
	assert_int_equal(hello.version, 99);
	pthread_join(script.thread, NULL);
}

static void test_requests(void **state)
{
	struct dp_port_add config = {.name = "a", .pairs = 1};
	struct dp_port_id id = {.port = 5};
	struct dp_flow_id flow_id = {.id = 12345678901ULL};
	struct dp_flow_add flow = {.cookie = 1};
	struct datapath_client *client;
	uint32_t port = 0;
	uint64_t flow_number = 0;
	uint32_t outputs[] = {1, 2};

	(void)state;
	answer(DP_PORT_ADD, 0, &id, sizeof(id));
	answer(DP_PORT_ADD, -EEXIST, NULL, 0);
	answer(DP_FLOW_ADD, 0, &flow_id, sizeof(flow_id));
	answer(DP_FLOW_DEL, -ENOENT, NULL, 0);
	answer(DP_PORT_CONNECT, 0, NULL, 0);
	answer(DP_PACKET_OUT, 0, NULL, 0);
	answer(DP_FLOW_DEL, 0, NULL, 0);
	client = begin();
	assert_int_equal(datapath_client_port_add(client, &config, 0, &port), 0);
	assert_int_equal(port, 5);
	assert_int_equal(script.fds, 1);
	assert_int_equal(datapath_client_port_add(client, &config, -1, &port), -EEXIST);
	assert_int_equal(script.fds, 1);
	assert_int_equal(datapath_client_flow_add(client, &flow, &flow_number), 0);
	assert_true(flow_number == flow_id.id);
	assert_int_equal(datapath_client_flow_del(client, 3), -ENOENT);
	assert_int_equal(datapath_client_port_connect(client, 5, 0), 0);
	assert_int_equal(script.fds, 2);
	assert_int_equal(datapath_client_packet_out(client, DP_PORTS_MAX, outputs, 2, "0123456789", 10), 0);
	assert_int_equal(script.request_size, sizeof(struct dp_header) + sizeof(struct dp_packet_out) + 8 + 10);
	assert_int_equal(datapath_client_packet_out(client, 0, outputs, 2, "", DP_PACKET_MAX + 1), -EINVAL);
	flow.action_count = FLOW_ACTIONS_MAX + 1;
	assert_int_equal(datapath_client_flow_add(client, &flow, NULL), -EINVAL);
	assert_int_equal(datapath_client_flow_del(client, 5), 0);
	/* The script is over, and with it the data plane. */
	assert_int_equal(datapath_client_flow_del(client, 5), -ENOTCONN);
	assert_int_equal(datapath_client_flow_del(client, 5), -ENOTCONN);
	end(client);
}

static void test_answers_in_need_of_doubt(void **state)
{
	struct dp_port_add config = {.name = "a"};
	struct dp_port_id id = {.port = DP_PORTS_MAX};
	struct datapath_client *client;
	uint32_t port = 7;

	(void)state;
	answer(DP_PORT_ADD, 0, &id, sizeof(id));
	answer(DP_PORT_ADD, 0, &id, 4);
	answer(DP_PORT_ADD, 1, &id, sizeof(id));
	answer(DP_FLOW_DEL, 0, NULL, 0);
	client = begin();
	assert_int_equal(datapath_client_port_add(client, &config, -1, &port), -EPROTO);
	assert_int_equal(datapath_client_port_add(client, &config, -1, &port), -EPROTO);
	assert_int_equal(datapath_client_port_add(client, &config, -1, &port), -EPROTO);
	assert_int_equal(port, 7);
	assert_int_equal(datapath_client_flow_del(client, 0), 0);
	end(client);
}

static void test_events(void **state)
{
	struct dp_upcall upcall = {.key = {.in_port = 3}, .length = 60};
	struct dp_port_info info = {.port = 4};
	struct dp_announce announce = {.port = 3};
	struct datapath_client *client;
	struct datapath_event got;

	(void)state;
	memset(&info.config.name, 'x', sizeof(info.config.name));
	/* They come before the answer, and behind the last one. */
	event(DP_EVENT_UPCALL, &upcall, sizeof(upcall));
	event(DP_EVENT_PORT, &info, sizeof(info));
	event(DP_EVENT_UPCALL, &upcall, 10);
	event(99, &upcall, sizeof(upcall));
	answer(DP_FLOW_DEL, 0, NULL, 0);
	event(DP_EVENT_ANNOUNCE, &announce, sizeof(announce));
	answer(DP_PORT_DEL, 0, NULL, 0);
	event(DP_EVENT_PORT, &info, sizeof(info));
	client = begin();
	assert_int_equal(datapath_client_event(client, &got), -EAGAIN);
	assert_int_equal(datapath_client_flow_del(client, 0), 0);
	assert_true(datapath_client_waiting(client));
	assert_int_equal(datapath_client_event(client, &got), 0);
	assert_int_equal(got.type, DP_EVENT_UPCALL);
	assert_int_equal(got.upcall.length, 60);
	assert_int_equal(datapath_client_event(client, &got), 0);
	assert_int_equal(got.type, DP_EVENT_PORT);
	assert_int_equal(strlen(got.port.config.name), DP_NAME_SIZE - 1);
	assert_false(datapath_client_waiting(client));
	/* What is left of a port is forgotten with it. */
	assert_int_equal(datapath_client_port_del(client, 3), 0);
	assert_int_equal(datapath_client_event(client, &got), -EAGAIN);
	end(client);
}

/* Upcalls come many in a message; one that is cut off is left out. */
static void test_upcalls_together(void **state)
{
	struct dp_upcall upcalls[6];
	struct datapath_client *client;
	struct datapath_event got;
	const uint32_t lengths[] = {0, 1, 2, 3, 4, 5, 0, 1, 0, 1};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(upcalls); i++)
		upcalls[i] = (struct dp_upcall){.key = {.in_port = 3}, .length = i};
	event(DP_EVENT_UPCALL, upcalls, sizeof(upcalls));
	event(DP_EVENT_UPCALL, upcalls, 3 * sizeof(upcalls[0]) - 1);
	answer(DP_FLOW_DEL, 0, NULL, 0);
	event(DP_EVENT_UPCALL, upcalls, 2 * sizeof(upcalls[0]));
	answer(DP_FLOW_DEL, 0, NULL, 0);
	client = begin();
	assert_int_equal(datapath_client_flow_del(client, 0), 0);
	assert_int_equal(datapath_client_flow_del(client, 0), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(lengths); i++) {
		assert_int_equal(datapath_client_event(client, &got), 0);
		assert_int_equal(got.type, DP_EVENT_UPCALL);
		assert_int_equal(got.upcall.length, lengths[i]);
	}
	assert_false(datapath_client_waiting(client));
	assert_int_equal(datapath_client_lost(client), 0);
	end(client);
}

static void test_many_events(void **state)
{
	struct dp_upcall upcall = {.key = {.in_port = 3}};
	struct datapath_client *client;
	struct datapath_event got;
	unsigned int count = 0;

	(void)state;
	for (unsigned int i = 0; i < DATAPATH_CLIENT_EVENTS + 100; i++) {
		upcall.length = i;
		event(DP_EVENT_UPCALL, &upcall, sizeof(upcall));
	}
	answer(DP_FLOW_DEL, 0, NULL, 0);
	event(DP_EVENT_UPCALL, &upcall, sizeof(upcall));
	client = begin();
	assert_int_equal(datapath_client_flow_del(client, 0), 0);
	assert_int_equal(datapath_client_lost(client), 100);
	while (count < DATAPATH_CLIENT_EVENTS && datapath_client_event(client, &got) == 0)
		assert_int_equal(got.upcall.length, count++);
	assert_int_equal(count, DATAPATH_CLIENT_EVENTS);
	end(client);
}

static void count_port(void *arg, const struct dp_port_info *info)
{
	unsigned int *sum = arg;

	*sum += info->port;
}

static void count_flow(void *arg, const struct dp_flow_info *info)
{
	unsigned int *sum = arg;

	*sum += (unsigned int)info->id;
}

static void test_dumps(void **state)
{
	struct dp_port_info info = {.port = 1};
	struct dp_flow_info flow = {.id = 10};
	struct dp_upcall upcall = {.key = {.in_port = 3}};
	struct datapath_client *client;
	struct datapath_event got;
	unsigned int sum = 0;

	(void)state;
	expect_reply(DP_PORT_DUMP, 0, DP_MORE, &info, sizeof(info), true);
	event(DP_EVENT_UPCALL, &upcall, sizeof(upcall));
	info.port = 2;
	expect_reply(DP_PORT_DUMP, 0, DP_MORE, &info, sizeof(info), true);
	info.port = DP_PORTS_MAX;
	expect_reply(DP_PORT_DUMP, 0, DP_MORE, &info, sizeof(info), true);
	answer(DP_PORT_DUMP, 0, NULL, 0);
	/* The last one may have an entry or not; one that is cut off is left out. */
	expect_reply(DP_FLOW_DUMP, 0, DP_MORE, &flow, sizeof(flow), true);
	flow.flow.action_count = 3;
	expect_reply(DP_FLOW_DUMP, 0, DP_MORE, &flow, sizeof(flow), true);
	flow.flow.action_count = UINT32_MAX;
	expect_reply(DP_FLOW_DUMP, 0, DP_MORE, &flow, sizeof(flow), true);
	flow.flow.action_count = 0;
	answer(DP_FLOW_DUMP, 0, &flow, sizeof(flow));
	answer(DP_FLOW_DUMP, -ENOMEM, NULL, 0);
	answer(DP_FLOW_DEL, 0, NULL, 0);
	client = begin();
	assert_int_equal(datapath_client_port_dump(client, count_port, &sum), 0);
	assert_int_equal(sum, 3);
	assert_int_equal(datapath_client_event(client, &got), 0);
	sum = 0;
	assert_int_equal(datapath_client_flow_dump(client, count_flow, &sum), 0);
	assert_int_equal(sum, 20);
	assert_int_equal(datapath_client_flow_dump(client, count_flow, &sum), -ENOMEM);
	assert_int_equal(datapath_client_flow_del(client, 0), 0);
	end(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nobody),      TEST(test_other_version),
		TEST(test_requests),    TEST(test_answers_in_need_of_doubt),
		TEST(test_events),      TEST(test_upcalls_together),
		TEST(test_many_events), TEST(test_dumps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
