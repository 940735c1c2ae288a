/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The API over its socket, without a data plane: what clients may send wrong, what the server holds
 * of them, and that nothing changes on an error.
 */
#include "unit.h"

#include "control/api.h"
#include "lib/fdpass.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static char dir[64];
static struct control control;
static struct api api;

static int setup(void **state)
{
	struct bridge_settings bridge = {.name = "br0", .mac_age = 300};

	(void)state;
	assert_non_null(unit_temporary_dir(dir));
	assert_int_equal(control_init(&control, dir), 0);
	assert_int_equal(control_intend_bridge(&control, &bridge), 0);
	return api_open(&api, &control);
}

static int teardown(void **state)
{
	char path[96];

	(void)state;
	api_close(&api);
	control_cleanup(&control);
	snprintf(path, sizeof(path), "%s/state.json", dir);
	unlink(path);
	return rmdir(dir);
}

static int client_open(void)
{
	char path[96];
	int sock;

	snprintf(path, sizeof(path), "%s/api.sock", dir);
	sock = fdpass_connect(path, SOCK_STREAM);
	assert_true(sock >= 0);
	return sock;
}

static void serve(void)
{
	for (unsigned int i = 0; i < 20; i++)
		assert_true(loop_run_once(&control.loop, 0) >= 0);
}

/* Sends `size` bytes, lets the server run, and reads what comes: NULL on a closed connection. */
static const char *exchange(int sock, const void *data, size_t size)
{
	static char answer[65536];
	ssize_t n;

	assert_int_equal(send(sock, data, size, MSG_NOSIGNAL), (ssize_t)size);
	serve();
	n = recv(sock, answer, sizeof(answer) - 1, MSG_DONTWAIT);
	if (n == 0)
		return NULL;
	if (n < 0)
		return "";
	answer[n] = '\0';
	return answer;
}

static const char *call(int sock, const char *text)
{
	return exchange(sock, text, strlen(text) + 1);
}

static bool is_closed(int sock)
{
	char byte;

	serve();
	return recv(sock, &byte, 1, MSG_DONTWAIT) == 0;
}

#define METHOD(name) "{\"method\": \"io.lasthop.Control." name "\"}"

static void test_service(void **state)
{
	int sock = client_open();
	const char *answer = call(sock, "{\"method\": \"org.varlink.service.GetInfo\"}");

	(void)state;
	assert_non_null(strstr(answer, "io.lasthop.Control"));
	answer = call(sock, "{\"method\": \"org.varlink.service.GetInterfaceDescription\", "
			    "\"parameters\": {\"interface\": \"io.lasthop.Control\"}}");
	assert_non_null(strstr(answer, "method ListPorts(name: ?string)"));
	answer = call(sock, "{\"method\": \"org.varlink.service.GetInterfaceDescription\", "
			    "\"parameters\": {\"interface\": \"x\"}}");
	assert_non_null(strstr(answer, "org.varlink.service.InterfaceNotFound"));
	answer = call(sock, METHOD("GetVersion"));
	assert_non_null(strstr(answer, LASTHOP_VERSION));
	close(sock);
}

static void test_bridges(void **state)
{
	int sock = client_open();

	(void)state;
	assert_string_equal(call(sock, "{\"method\": \"io.lasthop.Control.AddBridge\", "
				       "\"parameters\": {\"bridge\": {\"name\": \"lan\"}}}"),
			    "{\"parameters\":{}}");
	assert_non_null(control_bridge_find(&control, "lan"));
	assert_non_null(strstr(call(sock, "{\"method\": \"io.lasthop.Control.AddBridge\", "
					  "\"parameters\": {\"bridge\": {\"name\": \"lan\"}}}"),
			       "io.lasthop.Control.BridgeExists"));
	assert_non_null(strstr(call(sock, METHOD("ListBridges")), "\"lan\""));
	assert_string_equal(call(sock, "{\"method\": \"io.lasthop.Control.DeleteBridge\", "
				       "\"parameters\": {\"name\": \"lan\"}}"),
			    "{\"parameters\":{}}");
	assert_null(control_bridge_find(&control, "lan"));
	assert_non_null(strstr(call(sock, "{\"method\": \"io.lasthop.Control.DeleteBridge\", "
					  "\"parameters\": {\"name\": \"lan\"}}"),
			       "there are: br0"));
	close(sock);
}

/* Errors that leave the connection usable, and the switch as it was. */
static void test_wrong_calls(void **state)
{
	static const struct {
		const char *call, *error;
	} wrong[] = {
		{"{\"method\": \"\"}", "MethodNotFound"},
		{METHOD("Nothing"), "MethodNotFound"},
		{"{\"method\": \"ListPorts\"}", "MethodNotFound"},
		{"{\"method\": \"io.lasthop.Control.ListPorts\", \"parameters\": {\"x\": 1}}", "InvalidParameter"},
		{"{\"method\": \"io.lasthop.Control.ListPorts\", \"parameters\": {\"name\": 1}}", "InvalidSetting"},
		{"{\"method\": \"io.lasthop.Control.ListPorts\", \"parameters\": {\"name\": "
		 "\"x\"}}",
		 "PortNotFound"},
		{METHOD("AddPort"), "InvalidSetting"},
		{METHOD("AddBridge"), "InvalidSetting"},
		{METHOD("DeletePort"), "InvalidSetting"},
		{METHOD("ListFlows"), "DataPlaneDown"},
		{METHOD("GetStats"), "DataPlaneDown"},
		{"{\"method\": \"io.lasthop.Control.AddPort\", \"parameters\": {\"port\": "
		 "{\"name\": \"a\", \"path\": \"/tmp/lasthop-test.sock\"}}}",
		 "DataPlaneDown"},
		{"{\"method\": \"io.lasthop.Control.AddPort\", \"parameters\": {\"port\": "
		 "{\"name\": \"a\", \"path\": \"/a\", \"bridge\": \"x\"}}}",
		 "BridgeNotFound"},
		{"{\"method\": \"io.lasthop.Control.AddPort\", \"parameters\": {\"port\": 7}}", "InvalidSetting"},
	};
	int sock = client_open();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		const char *answer = call(sock, wrong[i].call);

		if (answer == NULL || strstr(answer, wrong[i].error) == NULL)
			fail_msg("%s: %s", wrong[i].call, answer);
	}
	assert_true(TAILQ_EMPTY(&control.ports));
	assert_non_null(strstr(call(sock, METHOD("ListPorts")), "\"ports\":[]"));
	close(sock);
}

/* What is no call ends the connection, after an answer that says why. */
static void test_malformed(void **state)
{
	static const char *const malformed[] = {
		"",
		"{",
		"[]",
		"7",
		"null",
		"{}",
		"{\"method\": 7}",
		"{\"method\": null}",
		"{\"method\": \"x\", \"method\": \"y\"}",
		"{\"method\": \"x\", \"parameters\": []}",
		"{\"method\": \"x\", \"parameters\": \"y\"}",
		"{\"method\": \"x\", \"oneway\": 1}",
		"{\"method\": \"x\", \"more\": \"yes\"}",
		"{\"method\": \"x\"} {\"method\": \"y\"}",
		"{\"method\": \"\xff\xfe\"}",
		"{\"method\": \"a\\u0000b\"}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
		int sock = client_open();
		const char *answer = call(sock, malformed[i]);

		if (answer == NULL || strstr(answer, "MalformedCall") == NULL || !is_closed(sock))
			fail_msg("%s: %s", malformed[i], answer);
		close(sock);
	}
}

static void test_too_long(void **state)
{
	static char text[API_CALL_MAX + 1];
	int sock = client_open();
	const char *answer;

	(void)state;
	memset(text, ' ', sizeof(text));
	answer = exchange(sock, text, API_CALL_MAX);
	assert_non_null(strstr(answer, "longer than 65536 bytes"));
	assert_true(is_closed(sock));
	close(sock);
	/* One byte less is long enough for a call. */
	memcpy(text, METHOD("GetVersion"), strlen(METHOD("GetVersion")));
	text[API_CALL_MAX - 1] = '\0';
	sock = client_open();
	answer = exchange(sock, text, API_CALL_MAX);
	assert_non_null(strstr(answer, LASTHOP_VERSION));
	close(sock);
}

static void test_nested(void **state)
{
	static char text[40000];
	int sock = client_open();

	(void)state;
	memset(text, '[', sizeof(text) - 1);
	assert_non_null(strstr(call(sock, text), "MalformedCall"));
	close(sock);
}

static void test_in_pieces(void **state)
{
	static const char text[] = METHOD("GetVersion");
	int sock = client_open();

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		assert_string_equal(exchange(sock, text + i, 1), "");
	assert_non_null(strstr(exchange(sock, "", 1), LASTHOP_VERSION));
	close(sock);
}

static void test_pipelined(void **state)
{
	static const char text[] =
		METHOD("GetVersion") "\0" METHOD("ListBridges") "\0"
								"{\"method\": \"io.lasthop.Control.GetVersion\", "
								"\"oneway\": true}\0" METHOD("ListPorts");
	int sock = client_open();
	const char *answer = exchange(sock, text, sizeof(text));

	(void)state;
	assert_non_null(strstr(answer, "version"));
	answer += strlen(answer) + 1;
	assert_non_null(strstr(answer, "bridges"));
	answer += strlen(answer) + 1;
	assert_non_null(strstr(answer, "ports"));
	close(sock);
}

/* A client that does not read holds itself up and nobody else. */
static void test_slow_client(void **state)
{
	static const char text[] = "{\"method\": \"org.varlink.service.GetInterfaceDescription\", "
				   "\"parameters\": {\"interface\": \"io.lasthop.Control\"}}";
	int slow = client_open(), sock;
	size_t sent = 0;

	(void)state;
	while (sent < 100000000) {
		ssize_t n = send(slow, text, sizeof(text), MSG_NOSIGNAL | MSG_DONTWAIT);

		serve();
		if (n < 0)
			break;
		sent += (size_t)n;
	}
	assert_true(sent < 100000000);
	sock = client_open();
	assert_non_null(strstr(call(sock, METHOD("GetVersion")), LASTHOP_VERSION));
	close(sock);
	close(slow);
	serve();
	assert_int_equal(api.client_count, 0);
}

static void test_many_clients(void **state)
{
	int socks[API_CLIENTS_MAX + 4];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(socks); i++) {
		socks[i] = client_open();
		serve();
	}
	assert_int_equal(api.client_count, API_CLIENTS_MAX);
	assert_true(is_closed(socks[API_CLIENTS_MAX]));
	assert_non_null(strstr(call(socks[0], METHOD("GetVersion")), LASTHOP_VERSION));
	for (size_t i = 0; i < ARRAY_SIZE(socks); i++)
		close(socks[i]);
	serve();
	assert_int_equal(api.client_count, 0);
	socks[0] = client_open();
	assert_non_null(strstr(call(socks[0], METHOD("GetVersion")), LASTHOP_VERSION));
	close(socks[0]);
}

static void test_state_file(void **state)
{
	struct control again;
	struct port_settings port;
	struct settings_error error;
	char path[96];
	FILE *file;

	(void)state;
	assert_int_equal(port_settings_parse(&port, "a=/a,bridge=br0,queues=3", &error), 0);
	assert_int_equal(control_intend_port(&control, &port), 0);
	assert_int_equal(state_file_save(&control), 0);
	assert_int_equal(control_init(&again, dir), 0);
	assert_int_equal(state_file_load(&again), 0);
	assert_non_null(control_bridge_find(&again, "br0"));
	assert_memory_equal(&control_port_find(&again, "a")->settings, &port, sizeof(port));
	control_cleanup(&again);
	/* One that was damaged is refused, not half taken. */
	snprintf(path, sizeof(path), "%s/state.json", dir);
	assert_int_equal(truncate(path, 40), 0);
	assert_int_equal(control_init(&again, dir), 0);
	assert_int_equal(state_file_load(&again), -EINVAL);
	control_cleanup(&again);
	file = fopen(path, "w");
	fputs("{\"version\": 99}", file);
	fclose(file);
	assert_int_equal(control_init(&again, dir), 0);
	assert_int_equal(state_file_load(&again), -EINVAL);
	unlink(path);
	assert_int_equal(state_file_load(&again), -ENOENT);
	control_cleanup(&again);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_service),     TEST(test_bridges),      TEST(test_wrong_calls), TEST(test_malformed),
		TEST(test_too_long),    TEST(test_nested),       TEST(test_in_pieces),   TEST(test_pipelined),
		TEST(test_slow_client), TEST(test_many_clients), TEST(test_state_file),
	};

	/* Wrong input is logged, and there is much of it here. */
	log_init("test_api", -1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
