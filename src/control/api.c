/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client is in one of two states: it is read from until a call is complete, or its answer is
 * written until it is gone. What it sends beyond the call waits in its buffer.
 */
#include "control/api.h"

#include "lib/fdpass.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API_BACKLOG 16

struct api_client {
	LIST_ENTRY(api_client) next;
	struct api *api;
	struct loop_io io;
	size_t input_size;
	char *answer; /* NULL: none is being written */
	size_t answer_size;
	size_t answer_sent;
	bool last; /* the connection ends with this answer */
	char input[API_CALL_MAX];
};

static void client_close(struct api_client *client)
{
	LIST_REMOVE(client, next);
	client->api->client_count--;
	loop_remove(&client->api->control->loop, &client->io);
	close(client->io.fd);
	free(client->answer);
	free(client);
}

static void client_answer_with(struct api_client *client, char *answer)
{
	client->answer = answer;
	client->answer_size = answer == NULL ? 0 : strlen(answer) + 1;
	client->answer_sent = 0;
	/* Out of memory: better no connection than one without an answer. */
	if (answer == NULL)
		client->last = true;
}

static void client_refuse(struct api_client *client, const char *why)
{
	log_limited(&client->api->log_limit, LOG_WARN, "API: malformed call: %s", why);
	client->last = true;
	client_answer_with(client,
			   api_answer_format(API_INTERFACE ".MalformedCall", json_pack("{s:s}", "message", why)));
}

/* Executes the call of `size` bytes at the buffer's begin, which is followed by its NUL. */
static void client_execute(struct api_client *client, size_t size)
{
	struct api_call call;
	char why[160];

	if (api_call_parse(&call, client->input, size, why) < 0) {
		client_refuse(client, why);
		return;
	}
	client_answer_with(client, api_execute(client->api->control, &call));
	if (call.oneway) {
		free(client->answer);
		client->answer = NULL;
	}
	api_call_cleanup(&call);
}

/* Takes complete calls from the buffer until one has an answer to be written. */
static void client_take_calls(struct api_client *client)
{
	while (client->answer == NULL && !client->last) {
		char *end = memchr(client->input, '\0', client->input_size);
		size_t size;

		if (end == NULL) {
			if (client->input_size == sizeof(client->input))
				client_refuse(client, "longer than 65536 bytes");
			return;
		}
		size = (size_t)(end - client->input);
		client_execute(client, size);
		client->input_size -= size + 1;
		memmove(client->input, end + 1, client->input_size);
	}
}

/* false: the connection is to be ended. */
static bool client_read(struct api_client *client)
{
	ssize_t n = recv(client->io.fd, client->input + client->input_size, sizeof(client->input) - client->input_size,
			 MSG_DONTWAIT);

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	client->input_size += (size_t)n;
	return true;
}

static bool client_write(struct api_client *client)
{
	ssize_t n = send(client->io.fd, client->answer + client->answer_sent, client->answer_size - client->answer_sent,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	client->answer_sent += (size_t)n;
	if (client->answer_sent == client->answer_size) {
		free(client->answer);
		client->answer = NULL;
	}
	return true;
}

/* Answers calls as long as the client takes the answers; false: the connection is to be ended. */
static bool client_serve(struct api_client *client)
{
	for (;;) {
		client_take_calls(client);
		if (client->answer == NULL)
			return !client->last;
		if (!client_write(client))
			return false;
		if (client->answer != NULL)
			return true;
	}
}

static void client_ready(struct loop_io *io, uint32_t events)
{
	struct api_client *client = container_of(io, struct api_client, io);
	bool alive = true;

	if (client->answer == NULL)
		alive = client_read(client);
	else
		alive = (events & (EPOLLERR | EPOLLHUP)) == 0 && client_write(client);
	if (alive && client->answer == NULL)
		alive = client_serve(client);
	if (!alive || loop_modify(&client->api->control->loop, io, client->answer != NULL ? EPOLLOUT : EPOLLIN) < 0)
		client_close(client);
}

static bool peer_may_call(int sock)
{
	struct ucred peer;

	return fdpass_peer(sock, &peer) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

static void api_accept(struct loop_io *io, uint32_t events)
{
	struct api *api = container_of(io, struct api, listener);
	struct api_client *client;
	int sock = fdpass_accept(io->fd);

	(void)events;
	if (sock < 0)
		return;
	if (!peer_may_call(sock) || api->client_count >= API_CLIENTS_MAX) {
		log_limited(&api->log_limit, LOG_WARN, "API: a client of another user, or too many: refused");
		close(sock);
		return;
	}
	client = calloc(1, sizeof(*client));
	if (client == NULL) {
		close(sock);
		return;
	}
	client->api = api;
	client->io.fd = sock;
	client->io.ready = client_ready;
	LIST_INSERT_HEAD(&api->clients, client, next);
	api->client_count++;
	if (loop_add(&api->control->loop, &client->io, EPOLLIN) < 0)
		client_close(client);
}

int api_open(struct api *api, struct control *control)
{
	char path[PATH_MAX];
	int error;

	memset(api, 0, sizeof(*api));
	api->control = control;
	LIST_INIT(&api->clients);
	if (snprintf(path, sizeof(path), "%s/%s", control->dir, API_SOCKET_NAME) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	api->listener.ready = api_accept;
	api->listener.fd = fdpass_listen(path, SOCK_STREAM, API_BACKLOG, 0600);
	if (api->listener.fd < 0)
		return api->listener.fd;
	error = loop_add(&control->loop, &api->listener, EPOLLIN);
	if (error < 0)
		close(api->listener.fd);
	return error;
}

void api_close(struct api *api)
{
	struct api_client *client = LIST_FIRST(&api->clients);
	char path[PATH_MAX];

	while (client != NULL) {
		struct api_client *next = LIST_NEXT(client, next);

		client_close(client);
		client = next;
	}
	loop_remove(&api->control->loop, &api->listener);
	close(api->listener.fd);
	if (snprintf(path, sizeof(path), "%s/%s", api->control->dir, API_SOCKET_NAME) < (int)sizeof(path))
		unlink(path);
}
