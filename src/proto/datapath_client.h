/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller's end of the datapath protocol (datapath_proto.h): requests that wait for their
 * answer, and the events that arrive meanwhile.
 *
 * A client belongs to one thread. Requests return 0 or a negative errno: the data plane's own
 * status, or -ENOTCONN once the connection is lost, which is also what a data plane that stays
 * silent for DATAPATH_CLIENT_TIMEOUT_MS is taken for. A lost connection is closed and reopened by
 * the caller; nothing reconnects by itself.
 *
 * Events are kept, up to DATAPATH_CLIENT_EVENTS of them, until datapath_client_event() fetches
 * them; what does not fit is lost as it would be in the socket, and counted.
 */
#ifndef LASTHOP_PROTO_DATAPATH_CLIENT_H
#define LASTHOP_PROTO_DATAPATH_CLIENT_H

#include "lib/compiler.h"
#include "proto/datapath_proto.h"

#include <stddef.h>

#define DATAPATH_CLIENT_TIMEOUT_MS 5000
#define DATAPATH_CLIENT_EVENTS     1024

struct datapath_client;

struct datapath_event {
	enum dp_type type; /* DP_EVENT_* */
	union {
		struct dp_upcall upcall;
		struct dp_port_info port; /* strings are terminated */
		struct dp_announce announce;
	};
};

/*
 * Connects to the socket at `path` and says hello; `hello` receives the answer. -ENOENT or
 * -ECONNREFUSED: no data plane there. -EPROTO: it speaks another version, which `hello` then tells.
 */
int datapath_client_open(struct datapath_client **client, const char *path, struct dp_hello *hello) must_check;

/* Accepts NULL. */
void datapath_client_close(struct datapath_client *client);

/* To watch for input. Events may also be waiting without it: see datapath_client_event(). */
int datapath_client_fd(const struct datapath_client *client);

/* Whether events were read that nobody has fetched yet. */
bool datapath_client_waiting(const struct datapath_client *client);

/* Events that did not fit, since the connection began. */
uint64_t datapath_client_lost(const struct datapath_client *client);

/*
 * The next event, without waiting: 0, -EAGAIN when there is none, -ENOTCONN. Call it until -EAGAIN
 * whenever the descriptor is readable and after any request, which may have read events too.
 */
int datapath_client_event(struct datapath_client *client, struct datapath_event *event) must_check;

/* `listener` is passed in server mode and stays open here; -1 in client mode. */
int datapath_client_port_add(struct datapath_client *client, const struct dp_port_add *config, int listener,
			     uint32_t *port) must_check;

/*
 * Also forgets the events of that port that were not fetched yet: its index may be given to another
 * port. The caller has removed the flows that name it.
 */
int datapath_client_port_del(struct datapath_client *client, uint32_t port) must_check;

/* Gives the connected socket to a port in client mode; it stays open here, too. */
int datapath_client_port_connect(struct datapath_client *client, uint32_t port, int sock) must_check;

/* Calls `each` for every port; no request may be made from there. Strings are terminated. */
int datapath_client_port_dump(struct datapath_client *client, void (*each)(void *arg, const struct dp_port_info *info),
			      void *arg) must_check;

/* `flow` with its `action_count` actions behind it. `id` may be NULL. */
int datapath_client_flow_add(struct datapath_client *client, const struct dp_flow_add *flow, uint64_t *id) must_check;

int datapath_client_flow_del(struct datapath_client *client, uint64_t id) must_check;

/* Calls `each` for every flow; no request may be made from there. */
int datapath_client_flow_dump(struct datapath_client *client, void (*each)(void *arg, const struct dp_flow_info *info),
			      void *arg) must_check;

/* Sends `frame` out of `ports`, as if it came from `in_port` (DP_PORTS_MAX: from none). */
int datapath_client_packet_out(struct datapath_client *client, uint32_t in_port, const uint32_t *ports,
			       uint32_t port_count, const void *frame, uint32_t length) must_check;

#endif
