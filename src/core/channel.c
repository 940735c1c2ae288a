/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A table of requests, each with its handler and the size of its payload. While an answer does not fit into the
 * socket, no further request is read: a dump is a cursor that goes on when there is room.
 *
 * The controller is trusted with policy, not with our memory: every length and index it sends is checked.
 */
#include "core/channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/core_port.h"
#include "lib/fdpass.h"
#include "lib/log.h"

#define FLOWS_A_ROUND 256

struct message {
	struct dp_header header;
	uint8_t payload[DP_MESSAGE_MAX - sizeof(struct dp_header)] __attribute__((aligned(8)));
};

struct channel {
	struct core *core;
	uid_t owner;
	struct loop_io listen_io;
	struct loop_io conn_io; /* fd -1: no controller */
	uint64_t events_lost;
	bool upcalls_wait; /* for room */
	struct message request;
	/* what has to be sent before the next request is read */
	struct message answer;
	size_t answer_size; /* 0: nothing */
	void (*dump)(struct channel *channel);
	uint32_t dump_cursor;
};

struct request {
	const void *payload;
	size_t size;
	int fd; /* -1, or the one that came along; a handler that keeps it sets it to -1 */
};

/* What to wait for when there is nothing to answer. */
static uint32_t idle_events(const struct channel *channel)
{
	return channel->upcalls_wait ? EPOLLIN | EPOLLOUT : EPOLLIN;
}

static void resume_upcalls(struct channel *channel)
{
	if (!channel->upcalls_wait)
		return;
	channel->upcalls_wait = false;
	core_wake(channel->core);
}

static void drop_controller(struct channel *channel)
{
	if (channel->conn_io.fd < 0)
		return;
	loop_remove(&channel->core->loop, &channel->conn_io);
	close(channel->conn_io.fd);
	channel->conn_io.fd = -1;
	channel->answer_size = 0;
	channel->dump = NULL;
	resume_upcalls(channel);
}

/* 0, -EAGAIN (no room), or the connection is gone. */
static int send_message(struct channel *channel, const struct message *message, size_t size)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)message, .iov_len = size};
	ssize_t sent = fdpass_send(channel->conn_io.fd, &iov, 1, NULL, 0);

	if (sent == -EAGAIN || sent == -EWOULDBLOCK || sent == -ENOBUFS)
		return -EAGAIN;
	return sent < 0 ? (int)sent : 0;
}

/* Sends what is in answer, now or when there is room. False: the connection is gone. */
static bool flush_answer(struct channel *channel)
{
	int error = channel->answer_size ? send_message(channel, &channel->answer, channel->answer_size) : 0;

	if (error == -EAGAIN)
		return !loop_modify(&channel->core->loop, &channel->conn_io, EPOLLOUT);
	channel->answer_size = 0;
	return error == 0;
}

static void answer(struct channel *channel, uint16_t flags, int status, const void *payload, size_t size)
{
	struct message *message = &channel->answer;

	message->header = (struct dp_header){
		.type = channel->request.header.type,
		.flags = flags,
		.sequence = channel->request.header.sequence,
		.status = status,
	};
	if (size)
		memcpy(message->payload, payload, size);
	channel->answer_size = sizeof(message->header) + size;
}

static int send_event(struct channel *channel, enum dp_type type, const void *payload, size_t size)
{
	struct message message;

	if (!channel || channel->conn_io.fd < 0)
		return -ENOTCONN;
	message.header = (struct dp_header){.type = (uint16_t)type};
	memcpy(message.payload, payload, size);
	return send_message(channel, &message, sizeof(message.header) + size);
}

/* Calls core_wake() when there is room. False: the connection is gone. */
static bool wait_for_room(struct channel *channel)
{
	channel->upcalls_wait = true;
	/* While an answer waits for room, what follows is decided behind it. */
	return channel->answer_size || channel->dump ||
	       !loop_modify(&channel->core->loop, &channel->conn_io, idle_events(channel));
}

bool channel_event(struct channel *channel, enum dp_type type, const void *payload, size_t size)
{
	int error = send_event(channel, type, payload, size);

	if (error && error != -ENOTCONN)
		channel->events_lost++;
	return error != -EAGAIN || !wait_for_room(channel);
}

int channel_upcalls(struct channel *channel, const struct dp_upcall *upcalls, unsigned int count)
{
	int error = send_event(channel, DP_EVENT_UPCALL, upcalls, count * sizeof(*upcalls));

	if (error != -EAGAIN)
		return error ? -ENOTCONN : 0;
	return wait_for_room(channel) ? -EAGAIN : -ENOTCONN;
}

static void handle_hello(struct channel *channel, struct request *request)
{
	const struct dp_hello *hello = request->payload;
	struct core *core = channel->core;
	struct dp_hello ours = {
		.version = DP_VERSION,
		.ports_max = FLOW_PORTS_MAX,
		.flows_max = flow_table_capacity(core->dp.flows),
		.workers = core->config.workers,
		.pid = (uint32_t)getpid(),
		.instance = core->instance,
	};

	answer(channel, 0, hello->version == DP_VERSION ? 0 : -EPROTO, &ours, sizeof(ours));
}

static void handle_port_add(struct channel *channel, struct request *request)
{
	struct dp_port_id id = {0};
	int error = core_port_add(channel->core, request->payload, request->fd, &id.port);

	if (!error)
		request->fd = -1;
	answer(channel, 0, error, &id, sizeof(id));
}

static void handle_port_del(struct channel *channel, struct request *request)
{
	const struct dp_port_id *id = request->payload;

	answer(channel, 0, core_port_del(channel->core, id->port), NULL, 0);
}

static void handle_port_connect(struct channel *channel, struct request *request)
{
	const struct dp_port_id *id = request->payload;
	int error = request->fd < 0 ? -EINVAL : core_port_connect(channel->core, id->port, request->fd);

	if (!error)
		request->fd = -1;
	answer(channel, 0, error, NULL, 0);
}

static void dump_ports(struct channel *channel)
{
	struct dp_port_info info;

	while (channel->dump_cursor < FLOW_PORTS_MAX) {
		const struct core_port *cp = channel->core->ports[channel->dump_cursor++];

		if (!cp)
			continue;
		core_port_info(cp, &info);
		answer(channel, DP_MORE, 0, &info, sizeof(info));
		return;
	}
	channel->dump = NULL;
	answer(channel, 0, 0, NULL, 0);
}

static void handle_port_dump(struct channel *channel, struct request *request)
{
	(void)request;
	channel->dump = dump_ports;
	channel->dump_cursor = 0;
}

static bool dump_flow(void *arg, const struct flow *flow, const struct flow_counters *sum)
{
	struct channel *channel = arg;
	union {
		struct dp_flow_info info;
		uint8_t bytes[sizeof(struct dp_flow_info) + FLOW_ACTIONS_MAX * sizeof(struct flow_action)];
	} reply = {.info = {
			   .id = flow->id,
			   .packets = sum->packets,
			   .bytes = sum->bytes,
			   .flow = {.cookie = flow->cookie,
				    .key = flow->key.key,
				    .mask = flow->mask->words.key,
				    .action_count = flow->action_count},
		   }};
	size_t actions = flow->action_count * sizeof(struct flow_action);

	reply.info.flow.key.stage = (uint8_t)flow->mask->stage;
	reply.info.flow.mask.stage = UINT8_MAX;
	memcpy(reply.bytes + sizeof(reply.info), flow->actions, actions);
	answer(channel, DP_MORE, 0, &reply, sizeof(reply.info) + actions);
	return false;
}

static void dump_flows(struct channel *channel)
{
	channel->answer_size = 0;
	flow_table_visit_from(channel->core->dp.flows, &channel->dump_cursor, dump_flow, channel);
	if (channel->dump_cursor == 0 && channel->answer_size == 0) {
		channel->dump = NULL;
		answer(channel, 0, 0, NULL, 0);
	}
}

static void handle_flow_dump(struct channel *channel, struct request *request)
{
	(void)request;
	channel->dump = dump_flows;
	channel->dump_cursor = 0;
}

static void handle_flow_add(struct channel *channel, struct request *request)
{
	const struct dp_flow_add *add = request->payload;
	struct dp_flow_id id = {0};
	int error = -EINVAL;

	if (add->action_count <= FLOW_ACTIONS_MAX &&
	    request->size == sizeof(*add) + add->action_count * sizeof(struct flow_action))
		error = flow_table_add(channel->core->dp.flows, &add->key, &add->mask, add->actions, add->action_count,
				       add->cookie, &id.id);
	answer(channel, 0, error, &id, sizeof(id));
	channel->core->flows_added |= !error;
}

static void handle_flow_del(struct channel *channel, struct request *request)
{
	const struct dp_flow_id *id = request->payload;

	answer(channel, 0, flow_table_remove(channel->core->dp.flows, id->id), NULL, 0);
}

static void handle_packet_out(struct channel *channel, struct request *request)
{
	const struct dp_packet_out *out = request->payload;
	const uint8_t *frame;
	size_t ports_size;
	int error = -EINVAL;

	ports_size = out->port_count * sizeof(out->ports[0]);
	if (out->port_count <= FLOW_PORTS_MAX && out->length >= 14 && out->length <= DP_PACKET_MAX &&
	    request->size == sizeof(*out) + ports_size + out->length) {
		frame = (const uint8_t *)(out->ports + out->port_count);
		for (uint32_t i = 0; i < out->port_count; i++) {
			if (out->ports[i] < FLOW_PORTS_MAX)
				forward_frame(channel->core->forwarder, out->ports[i], frame, out->length);
		}
		notice_give_all(channel->core->forwarder);
		error = 0;
	}
	answer(channel, 0, error, NULL, 0);
}

static const struct {
	void (*handle)(struct channel *channel, struct request *request);
	size_t size; /* bytes of payload, at least */
	bool exact;
} requests[] = {
	[DP_HELLO] = {handle_hello, sizeof(struct dp_hello), true},
	[DP_PORT_ADD] = {handle_port_add, sizeof(struct dp_port_add), true},
	[DP_PORT_DEL] = {handle_port_del, sizeof(struct dp_port_id), true},
	[DP_PORT_CONNECT] = {handle_port_connect, sizeof(struct dp_port_id), true},
	[DP_PORT_DUMP] = {handle_port_dump, 0, true},
	[DP_FLOW_ADD] = {handle_flow_add, sizeof(struct dp_flow_add), false},
	[DP_FLOW_DEL] = {handle_flow_del, sizeof(struct dp_flow_id), true},
	[DP_FLOW_DUMP] = {handle_flow_dump, 0, true},
	[DP_PACKET_OUT] = {handle_packet_out, sizeof(struct dp_packet_out), false},
};

static void handle_request(struct channel *channel, size_t size, int fd)
{
	uint16_t type = channel->request.header.type;
	struct request request = {.payload = channel->request.payload, .size = size, .fd = fd};

	if (type >= ARRAY_SIZE(requests) || !requests[type].handle)
		answer(channel, 0, -ENOSYS, NULL, 0);
	else if (size < requests[type].size || (requests[type].exact && size != requests[type].size))
		answer(channel, 0, -EINVAL, NULL, 0);
	else
		requests[type].handle(channel, &request);
	if (request.fd >= 0)
		close(request.fd);
}

/* Goes on until there is nothing to send any more, or no room for it. */
static void send_pending(struct channel *channel)
{
	for (unsigned int i = 0; i < FLOWS_A_ROUND; i++) {
		if (!flush_answer(channel)) {
			drop_controller(channel);
			return;
		}
		if (channel->answer_size)
			return;
		if (!channel->dump) {
			if (loop_modify(&channel->core->loop, &channel->conn_io, idle_events(channel)))
				drop_controller(channel);
			return;
		}
		channel->dump(channel);
	}
	/* The rest after others had their turn. */
	if (loop_modify(&channel->core->loop, &channel->conn_io, EPOLLOUT))
		drop_controller(channel);
}

static void on_request(struct loop_io *io, uint32_t events)
{
	struct channel *channel = container_of(io, struct channel, conn_io);
	size_t fd_count = 0;
	ssize_t size;
	int fd = -1;

	if (channel->answer_size || channel->dump) {
		if (events & (EPOLLHUP | EPOLLERR))
			drop_controller(channel);
		else
			send_pending(channel);
		return;
	}
	if (channel->upcalls_wait && (events & EPOLLOUT)) {
		resume_upcalls(channel);
		if (loop_modify(&channel->core->loop, io, EPOLLIN)) {
			drop_controller(channel);
			return;
		}
	}
	size = fdpass_recv(io->fd, &channel->request, sizeof(channel->request), &fd, 1, &fd_count);
	if (size == -EAGAIN)
		return;
	if (size < (ssize_t)sizeof(struct dp_header)) {
		if (fd_count)
			close(fd);
		drop_controller(channel);
		return;
	}
	handle_request(channel, (size_t)size - sizeof(struct dp_header), fd_count ? fd : -1);
	send_pending(channel);
}

static void on_controller(struct loop_io *io, uint32_t events)
{
	struct channel *channel = container_of(io, struct channel, listen_io);
	int sock = fdpass_accept(io->fd);
	struct ucred peer;

	(void)events;
	if (sock < 0)
		return;
	if (fdpass_peer(sock, &peer) || (peer.uid != 0 && peer.uid != channel->owner)) {
		log_warn("a process of another user wanted to control the data plane");
		close(sock);
		return;
	}
	/* The newest one is in charge: an older one is hung, or about to end. */
	drop_controller(channel);
	channel->conn_io.fd = sock;
	if (loop_add(&channel->core->loop, &channel->conn_io, EPOLLIN)) {
		channel->conn_io.fd = -1;
		close(sock);
	}
}

int channel_open(struct channel **result, struct core *core, uid_t owner)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	char path[DP_PATH_SIZE];
	int error;

	if (!channel)
		return -ENOMEM;
	channel->core = core;
	channel->owner = owner;
	channel->conn_io = (struct loop_io){.fd = -1, .ready = on_request};
	if (snprintf(path, sizeof(path), "%s/%s", core->config.dir, DP_SOCKET_NAME) >= (int)sizeof(path)) {
		free(channel);
		return -ENAMETOOLONG;
	}
	channel->listen_io = (struct loop_io){
		.fd = fdpass_listen(path, SOCK_SEQPACKET, 4, 0600),
		.ready = on_controller,
	};
	error = channel->listen_io.fd < 0 ? channel->listen_io.fd : loop_add(&core->loop, &channel->listen_io, EPOLLIN);
	if (error) {
		if (channel->listen_io.fd >= 0)
			close(channel->listen_io.fd);
		free(channel);
		return error;
	}
	*result = channel;
	return 0;
}

void channel_close(struct channel *channel)
{
	if (!channel)
		return;
	drop_controller(channel);
	loop_remove(&channel->core->loop, &channel->listen_io);
	close(channel->listen_io.fd);
	free(channel);
}
