/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control plane answers at once or is gone; it may be restarting just now, so a refused
 * connection is tried again for a moment.
 */
#include "cli/api_client.h"

#include "cli/run_files.h"
#include "control/api_message.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TIMEOUT_MS      15000
#define CONNECT_TRIES   10
#define CONNECT_WAIT_US 50000

static int connect_once(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock, error;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	if (connect(sock, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return sock;
	error = -errno;
	close(sock);
	return error;
}

static int cannot_connect(const struct cli *cli, int error)
{
	const bool nobody = error == -ENOENT || error == -ECONNREFUSED;

	if (nobody && run_files_locked(cli->dir) == 1)
		return cli_fail(
			CLI_UNREACHABLE,
			"the control plane of the switch in %s does not answer: it is being started again; try again, "
			"or see in the switch's log why it ended",
			cli->dir);
	if (nobody)
		return cli_fail(CLI_UNREACHABLE,
				"no switch runs in %s: start one with `lasthop run`, or name its "
				"directory with --dir",
				cli->dir);
	if (error == -EACCES || error == -EPERM)
		return cli_fail(CLI_UNREACHABLE, "%s is not yours to use: be the user that runs the switch, or root",
				cli->dir);
	return cli_fail(CLI_UNREACHABLE, "cannot reach the switch in %s: %s", cli->dir, strerror(-error));
}

static int api_connect(const struct cli *cli)
{
	char path[PATH_MAX];
	int sock = -ENAMETOOLONG;

	if (snprintf(path, sizeof(path), "%s/%s", cli->dir, API_SOCKET_NAME) >= (int)sizeof(path))
		return sock;
	for (unsigned int i = 0; i < CONNECT_TRIES; i++) {
		sock = connect_once(path);
		if (sock != -ECONNREFUSED)
			break;
		usleep(CONNECT_WAIT_US);
	}
	return sock;
}

static int send_all(int sock, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = send(sock, data, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* An answer up to its NUL, to be freed. */
static int receive_answer(int sock, char **answer)
{
	size_t size = 0, room = 0;

	*answer = NULL;
	for (;;) {
		struct pollfd pollfd = {.fd = sock, .events = POLLIN};
		ssize_t n;

		if (size == room) {
			char *bigger = realloc(*answer, room = room == 0 ? 65536 : room * 2);

			if (bigger == NULL)
				return -ENOMEM;
			*answer = bigger;
		}
		if (poll(&pollfd, 1, TIMEOUT_MS) == 0)
			return -ETIMEDOUT;
		n = recv(sock, *answer + size, room - size, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		if (memchr(*answer + size, '\0', (size_t)n) != NULL)
			return 0;
		size += (size_t)n;
	}
}

/* Takes the answer apart: its parameters, or what the switch says is wrong. */
static int take_answer(const char *text, json_t **parameters)
{
	json_t *answer = json_loads(text, 0, NULL);
	const char *error = json_string_value(json_object_get(answer, "error"));
	const char *message;
	int status = CLI_OK;

	*parameters = json_incref(json_object_get(answer, "parameters"));
	if (answer == NULL || *parameters == NULL)
		status = cli_fail(CLI_FAILED, "the switch's answer cannot be understood");
	if (status == CLI_OK && error != NULL) {
		message = json_string_value(json_object_get(*parameters, "message"));
		status = cli_fail(CLI_FAILED, "%s", message != NULL ? message : error);
	}
	if (status != CLI_OK) {
		json_decref(*parameters);
		*parameters = NULL;
	}
	json_decref(answer);
	return status;
}

int api_client_call(const struct cli *cli, const char *method, json_t *parameters, json_t **answer)
{
	json_t *call = json_pack("{s:o, s:o}", "method", json_sprintf("%s.%s", API_INTERFACE, method), "parameters",
				 parameters != NULL ? parameters : json_object());
	char *text = json_dumps(call, JSON_COMPACT), *received = NULL;
	int sock = text == NULL ? -ENOMEM : api_connect(cli);
	int error, status;

	*answer = NULL;
	json_decref(call);
	if (sock < 0) {
		free(text);
		return cannot_connect(cli, sock);
	}
	error = send_all(sock, text, strlen(text) + 1);
	if (error == 0)
		error = receive_answer(sock, &received);
	if (error < 0)
		status = cli_fail(CLI_UNREACHABLE, "no answer from the switch in %s: %s", cli->dir, strerror(-error));
	else
		status = take_answer(received, answer);
	free(received);
	free(text);
	close(sock);
	return status;
}
