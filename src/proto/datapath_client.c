/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A request is one packet on a SOCK_SEQPACKET socket and the caller waits for the packet with its
 * sequence number. The data plane answers from a loop that never blocks, in microseconds, so
 * waiting keeps the controller simple without costing it time. Events that come in between go to a
 * queue, in order.
 *
 * The data plane is trusted, but it may be of another build: what it sends is checked for its size
 * and its counts before it is used.
 */
#include "proto/datapath_client.h"

#include "lib/clock.h"
#include "lib/fdpass.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One received packet, aligned for any payload. */
union message {
	struct dp_header header;
	uint64_t align;
	uint8_t bytes[DP_MESSAGE_MAX];
};

struct datapath_client {
	int fd;
	bool lost_connection;
	uint32_t sequence; /* of the last request; never 0, which marks events */
	uint64_t lost_events;
	union message message;
	size_t message_size;
	unsigned int first_event;
	unsigned int event_count;
	struct datapath_event events[DATAPATH_CLIENT_EVENTS];
};

static int client_lost(struct datapath_client *client)
{
	client->lost_connection = true;
	return -ENOTCONN;
}

static int client_wait(struct datapath_client *client, short events, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd pollfd = {.fd = client->fd, .events = events};
		uint64_t now = clock_now_ns();
		int n;

		/* Also when time is over: it may have been this process that was kept from looking. */
		n = poll(&pollfd, 1, now < deadline_ns ? (int)((deadline_ns - now) / NS_PER_MS) + 1 : 0);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return client_lost(client);
		if (now >= deadline_ns)
			return client_lost(client);
	}
}

/* Fetches one packet into client->message: 0, -EAGAIN, -ENOTCONN. */
static int client_receive(struct datapath_client *client)
{
	size_t n_fds;
	ssize_t n;

	if (client->lost_connection)
		return -ENOTCONN;
	n = fdpass_recv(client->fd, &client->message, sizeof(client->message), NULL, 0, &n_fds);
	if (n == -EAGAIN)
		return -EAGAIN;
	if (n < (ssize_t)sizeof(struct dp_header))
		return client_lost(client);
	client->message_size = (size_t)n;
	return 0;
}

static const void *client_payload(const struct datapath_client *client, size_t size)
{
	if (client->message_size < sizeof(struct dp_header) + size)
		return NULL;
	return client->message.bytes + sizeof(struct dp_header);
}

static void terminate(char *string, size_t size)
{
	string[size - 1] = '\0';
}

static void terminate_port_info(struct dp_port_info *info)
{
	terminate(info->config.name, sizeof(info->config.name));
	terminate(info->config.owner, sizeof(info->config.owner));
	terminate(info->config.path, sizeof(info->config.path));
	terminate(info->fault, sizeof(info->fault));
	terminate(info->driver.kind, sizeof(info->driver.kind));
	terminate(info->driver.device, sizeof(info->driver.device));
	terminate(info->driver.mode, sizeof(info->driver.mode));
}

/* How many events the packet in client->message holds. */
static unsigned int client_event_count(const struct datapath_client *client)
{
	size_t upcalls = (client->message_size - sizeof(struct dp_header)) / sizeof(struct dp_upcall);

	return client->message.header.type == DP_EVENT_UPCALL ? (unsigned int)min(upcalls, (size_t)DP_UPCALLS_MAX) : 1;
}

/* Turns the packet in client->message into its event number `i`; false if it is none that we know. */
static bool client_parse_event(const struct datapath_client *client, unsigned int i, struct datapath_event *event)
{
	const uint8_t *payload;

	event->type = client->message.header.type;
	switch (event->type) {
	case DP_EVENT_UPCALL:
		payload = client_payload(client, (i + 1) * sizeof(event->upcall));
		if (payload == NULL)
			return false;
		memcpy(&event->upcall, payload + i * sizeof(event->upcall), sizeof(event->upcall));
		return true;
	case DP_EVENT_PORT:
		payload = client_payload(client, sizeof(event->port));
		if (payload == NULL)
			return false;
		memcpy(&event->port, payload, sizeof(event->port));
		terminate_port_info(&event->port);
		return true;
	case DP_EVENT_ANNOUNCE:
		payload = client_payload(client, sizeof(event->announce));
		if (payload == NULL)
			return false;
		memcpy(&event->announce, payload, sizeof(event->announce));
		return true;
	default:
		return false;
	}
}

static void client_queue_events(struct datapath_client *client)
{
	unsigned int count = client_event_count(client);

	for (unsigned int i = 0; i < count; i++) {
		unsigned int last = (client->first_event + client->event_count) % DATAPATH_CLIENT_EVENTS;

		if (client->event_count == DATAPATH_CLIENT_EVENTS)
			client->lost_events++;
		else if (client_parse_event(client, i, &client->events[last]))
			client->event_count++;
	}
}

static uint32_t event_port(const struct datapath_event *event)
{
	switch (event->type) {
	case DP_EVENT_UPCALL:
		return event->upcall.key.in_port;
	case DP_EVENT_PORT:
		return event->port.port;
	case DP_EVENT_ANNOUNCE:
		return event->announce.port;
	default:
		return DP_PORTS_MAX;
	}
}

static void client_forget_events(struct datapath_client *client, uint32_t port)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < client->event_count; i++) {
		unsigned int from = (client->first_event + i) % DATAPATH_CLIENT_EVENTS;
		unsigned int to = (client->first_event + kept) % DATAPATH_CLIENT_EVENTS;

		if (event_port(&client->events[from]) == port)
			continue;
		if (from != to)
			client->events[to] = client->events[from];
		kept++;
	}
	client->event_count = kept;
}

/* What is sent is only read, but struct iovec serves both ways. */
static void *as_iov_base(const void *data)
{
	return (void *)(uintptr_t)data;
}

static int client_send(struct datapath_client *client, enum dp_type type, const struct iovec *parts, size_t n_parts,
		       int fd, uint64_t deadline_ns)
{
	struct dp_header header = {.type = (uint16_t)type};
	struct iovec iov[4] = {{&header, sizeof(header)}};
	size_t size = sizeof(header);

	for (size_t i = 0; i < n_parts; i++) {
		iov[i + 1] = parts[i];
		size += parts[i].iov_len;
	}
	if (size > DP_MESSAGE_MAX)
		return -EMSGSIZE;
	if (client->lost_connection)
		return -ENOTCONN;
	if (++client->sequence == 0)
		client->sequence = 1;
	header.sequence = client->sequence;
	for (;;) {
		ssize_t n = fdpass_send(client->fd, iov, n_parts + 1, &fd, fd >= 0 ? 1 : 0);
		int error;

		if (n >= 0)
			return 0;
		if (n != -EAGAIN)
			return client_lost(client);
		error = client_wait(client, POLLOUT, deadline_ns);
		if (error < 0)
			return error;
	}
}

/* Waits for the next packet of the answer to the last request: its status. */
static int client_answer(struct datapath_client *client, enum dp_type type, uint64_t deadline_ns)
{
	for (;;) {
		const struct dp_header *header = &client->message.header;
		int error = client_receive(client);

		if (error == -EAGAIN) {
			error = client_wait(client, POLLIN, deadline_ns);
			if (error < 0)
				return error;
			continue;
		}
		if (error < 0)
			return error;
		if (header->sequence == 0)
			client_queue_events(client);
		else if (header->sequence == client->sequence && header->type == type)
			return header->status > 0 ? -EPROTO : header->status;
	}
}

static uint64_t client_deadline(void)
{
	return clock_now_ns() + DATAPATH_CLIENT_TIMEOUT_MS * NS_PER_MS;
}

/* A request with one answer, of which `answer_size` bytes are copied to `answer`. */
static int client_request(struct datapath_client *client, enum dp_type type, const struct iovec *parts, size_t n_parts,
			  int fd, void *answer, size_t answer_size)
{
	uint64_t deadline = client_deadline();
	const void *payload;
	int error = client_send(client, type, parts, n_parts, fd, deadline);

	if (error < 0)
		return error;
	error = client_answer(client, type, deadline);
	if (error == -ENOTCONN || answer_size == 0)
		return error;
	payload = client_payload(client, answer_size);
	if (payload != NULL)
		memcpy(answer, payload, answer_size);
	else if (error == 0)
		error = -EPROTO;
	return error;
}

/* A request with one fixed-size payload and no content in its answer. */
static int client_command(struct datapath_client *client, enum dp_type type, void *payload, size_t size, int fd)
{
	struct iovec part = {payload, size};

	return client_request(client, type, &part, 1, fd, NULL, 0);
}

int datapath_client_open(struct datapath_client **client, const char *path, struct dp_hello *hello)
{
	struct dp_hello ours = {.version = DP_VERSION, .pid = (uint32_t)getpid()};
	struct iovec part = {&ours, sizeof(ours)};
	struct datapath_client *opened = calloc(1, sizeof(*opened));
	int error;

	memset(hello, 0, sizeof(*hello));
	if (opened == NULL)
		return -ENOMEM;
	opened->fd = fdpass_connect(path, SOCK_SEQPACKET);
	if (opened->fd < 0) {
		error = opened->fd;
		free(opened);
		return error;
	}
	error = client_request(opened, DP_HELLO, &part, 1, -1, hello, sizeof(*hello));
	if (error == 0 && hello->version != DP_VERSION)
		error = -EPROTO;
	if (error < 0) {
		datapath_client_close(opened);
		return error;
	}
	*client = opened;
	return 0;
}

void datapath_client_close(struct datapath_client *client)
{
	if (client == NULL)
		return;
	close(client->fd);
	free(client);
}

int datapath_client_fd(const struct datapath_client *client)
{
	return client->fd;
}

bool datapath_client_waiting(const struct datapath_client *client)
{
	return client->event_count > 0;
}

uint64_t datapath_client_lost(const struct datapath_client *client)
{
	return client->lost_events;
}

int datapath_client_event(struct datapath_client *client, struct datapath_event *event)
{
	while (client->event_count == 0) {
		int error = client_receive(client);

		if (error < 0)
			return error;
		if (client->message.header.sequence == 0)
			client_queue_events(client);
	}
	*event = client->events[client->first_event];
	client->first_event = (client->first_event + 1) % DATAPATH_CLIENT_EVENTS;
	client->event_count--;
	return 0;
}

int datapath_client_port_add(struct datapath_client *client, const struct dp_port_add *config, int listener,
			     uint32_t *port)
{
	struct iovec part = {as_iov_base(config), sizeof(*config)};
	struct dp_port_id id = {0};
	int error = client_request(client, DP_PORT_ADD, &part, 1, listener, &id, sizeof(id));

	if (error == 0 && id.port >= DP_PORTS_MAX)
		error = -EPROTO;
	if (error == 0)
		*port = id.port;
	return error;
}

int datapath_client_port_del(struct datapath_client *client, uint32_t port)
{
	struct dp_port_id id = {.port = port};
	int error = client_command(client, DP_PORT_DEL, &id, sizeof(id), -1);

	client_forget_events(client, port);
	return error;
}

int datapath_client_port_connect(struct datapath_client *client, uint32_t port, int sock)
{
	struct dp_port_id id = {.port = port};

	return client_command(client, DP_PORT_CONNECT, &id, sizeof(id), sock);
}

int datapath_client_port_dump(struct datapath_client *client, void (*each)(void *arg, const struct dp_port_info *info),
			      void *arg)
{
	int error = client_send(client, DP_PORT_DUMP, NULL, 0, -1, client_deadline());

	while (error == 0) {
		const void *payload;
		struct dp_port_info info;

		/* Each packet has its own deadline: a long dump is no dead data plane. */
		error = client_answer(client, DP_PORT_DUMP, client_deadline());
		payload = client_payload(client, sizeof(info));
		if (error == 0 && payload != NULL) {
			memcpy(&info, payload, sizeof(info));
			terminate_port_info(&info);
			if (info.port < DP_PORTS_MAX)
				each(arg, &info);
		}
		if (!(client->message.header.flags & DP_MORE))
			break;
	}
	return error;
}

int datapath_client_flow_add(struct datapath_client *client, const struct dp_flow_add *flow, uint64_t *id)
{
	struct dp_flow_id answer = {0};
	struct iovec part = {as_iov_base(flow), sizeof(*flow)};
	int error;

	if (flow->action_count > FLOW_ACTIONS_MAX)
		return -EINVAL;
	part.iov_len += flow->action_count * sizeof(flow->actions[0]);
	error = client_request(client, DP_FLOW_ADD, &part, 1, -1, &answer, sizeof(answer));
	if (error == 0 && id != NULL)
		*id = answer.id;
	return error;
}

int datapath_client_flow_del(struct datapath_client *client, uint64_t id)
{
	struct dp_flow_id request = {.id = id};

	return client_command(client, DP_FLOW_DEL, &request, sizeof(request), -1);
}

int datapath_client_flow_dump(struct datapath_client *client, void (*each)(void *arg, const struct dp_flow_info *info),
			      void *arg)
{
	int error = client_send(client, DP_FLOW_DUMP, NULL, 0, -1, client_deadline());

	while (error == 0) {
		const struct dp_flow_info *info;

		error = client_answer(client, DP_FLOW_DUMP, client_deadline());
		info = client_payload(client, sizeof(*info));
		if (error == 0 && info != NULL && info->flow.action_count <= FLOW_ACTIONS_MAX &&
		    client_payload(client, sizeof(*info) + info->flow.action_count * sizeof(info->flow.actions[0])))
			each(arg, info);
		if (!(client->message.header.flags & DP_MORE))
			break;
	}
	return error;
}

int datapath_client_packet_out(struct datapath_client *client, uint32_t in_port, const uint32_t *ports,
			       uint32_t port_count, const void *frame, uint32_t length)
{
	struct dp_packet_out head = {.in_port = in_port, .length = length, .port_count = port_count};
	struct iovec parts[3] = {
		{&head, sizeof(head)},
		{as_iov_base(ports), port_count * sizeof(ports[0])},
		{as_iov_base(frame), length},
	};

	if (port_count > DP_PORTS_MAX || length > DP_PACKET_MAX)
		return -EINVAL;
	return client_request(client, DP_PACKET_OUT, parts, 3, -1, NULL, 0);
}
