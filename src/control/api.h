/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The API's server: DIR/api.sock. It takes calls from clients of the same user or root, answers
 * them in order, and holds a bounded number of clients, a bounded call and one answer of each: who
 * does not read its answer is not read from. Everything belongs to the thread of the control's
 * loop.
 */
#ifndef LASTHOP_CONTROL_API_H
#define LASTHOP_CONTROL_API_H

#include "control/api_message.h"
#include "control/control.h"

#include <sys/queue.h>

#define API_CLIENTS_MAX 32

struct api {
	struct control *control;
	struct loop_io listener;
	LIST_HEAD(, api_client) clients;
	unsigned int client_count;
	struct log_limit log_limit;
};

/* Listens. 0 or a negative errno. */
int api_open(struct api *api, struct control *control) must_check;

/* Ends all connections and removes the socket. */
void api_close(struct api *api);

/*
 * api_methods.c: executes one call. The answer is as from api_answer_format(); NULL: no memory.
 */
char *api_execute(struct control *control, const struct api_call *call);

/* api_json.c: what is shown, as JSON; NULL: no memory. */

struct stats_reader;

/* `stats` may be NULL: no counters then. */
json_t *api_json_port(const struct control_port *port, const struct stats_reader *stats);
/* The member `driver` of a port: NULL if it has none. `report`: of its supervisor, or NULL. */
json_t *api_json_driver(const struct control_port *port, bool supervised, const json_t *report);
json_t *api_json_bridge(const struct control *control, const struct bridge *bridge);
json_t *api_json_flow(const struct control *control, const struct flow_record *record, uint64_t now_ns);
json_t *api_json_mac(const struct control *control, const struct bridge *bridge, const struct mac_entry *entry,
		     uint64_t now_ns);
json_t *api_json_stats(const struct stats_reader *stats);

#endif
