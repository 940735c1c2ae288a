/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which flows there are: bridges with their members and stations, and for every packet without
 * flows the widest ones that are right. Pure decisions: the data plane is behind struct
 * forwarding_datapath, moments come from the caller, and nothing here waits or opens anything.
 *
 * A struct forwarding owns its bridges, stations and records of flows; ports are their owner's and
 * stay put while they are members. One thread. Moments are nanoseconds of clock_now_ns(), or of a
 * test's own clock.
 *
 * A request that fails with -ENOTCONN is not repeated: whoever holds the connection calls
 * forwarding_reset(), joins the ports anew and lets the flows be adopted.
 */
#ifndef LASTHOP_CONTROL_FORWARDING_H
#define LASTHOP_CONTROL_FORWARDING_H

#include "control/flow_match.h"
#include "control/hash_table.h"
#include "control/mac_table.h"
#include "lib/log.h"
#include "proto/datapath_proto.h"

#include <sys/queue.h>

#define BRIDGE_MAC_AGE_DEFAULT 300 /* seconds */
#define BRIDGE_MAC_AGE_MIN     10
#define BRIDGE_MAC_AGE_MAX     86400
#define PORT_MAC_LIMIT_DEFAULT 1024
#define PORT_MAC_LIMIT_MAX     65536

#define FLOW_IDLE_NS         60000000000ULL /* or the bridge's age, if that is less */
#define FLOW_IDLE_UNKNOWN_NS 10000000000ULL /* of a flow to a destination that nobody knows */
#define FLOW_UNLEARNED_NS                                                                 \
	10000000000ULL           /* from its creation, of one for a source beyond a limit \
				  */
#define PORT_FLOWS_MAX     16384 /* beside one per station; less if the data plane has too few for all ports */
#define PORT_FLOWS_MIN     64
#define PORT_UNLEARNED_MAX 256 /* flows for sources beyond the limit; part of PORT_FLOWS_MAX */

struct forwarding_datapath {
	/* As datapath_client_flow_add() and its like. */
	int (*flow_add)(void *arg, const struct dp_flow_add *flow, uint64_t *id);
	int (*flow_del)(void *arg, uint64_t id);
	int (*packet_out)(void *arg, const uint32_t *ports, uint32_t port_count, const void *frame, uint32_t length);
};

/* What becomes of a flow's packets. In a flow's cookie, so that a restarted control can tell. */
enum flow_outcome_type {
	FLOW_OUTCOME_NONE,   /* not installed */
	FLOW_OUTCOME_FLOOD,  /* value: the membership that it was made for */
	FLOW_OUTCOME_OUTPUT, /* value: port index */
	FLOW_OUTCOME_DROP,   /* value: enum drop_reason */
	FLOW_OUTCOME_PASS,   /* value: the stage that decides */
};

struct flow_outcome {
	enum flow_outcome_type type;
	uint64_t value;
};

/* A flow that the data plane has. */
struct flow_record {
	struct hash_node node;
	struct flow_match match;
	bool passes; /* of a source: it is a station's, learned or held elsewhere */
	uint64_t id; /* the data plane's */
	struct flow_outcome installed;
	uint64_t installed_ns;
	uint64_t created_ns;
	uint64_t active_ns; /* when it was last seen to have carried a packet */
	uint64_t packets;   /* as of the last sweep */
	uint64_t bytes;
	uint64_t sweep; /* the last one that saw it */
	struct bridge_port *port;
	struct mac_entry *src; /* NULL: not a source that passes */
	struct mac_entry *dst; /* NULL: not a unicast destination */
	TAILQ_ENTRY(flow_record) on_port;
	LIST_ENTRY(flow_record) from;
	LIST_ENTRY(flow_record) to;
};

struct bridge_port {
	struct mac_port macs; /* its index is the data plane's */
	struct bridge *bridge;
	TAILQ_ENTRY(bridge_port) on_bridge;
	TAILQ_HEAD(flow_queue, flow_record) flows; /* longest idle first */
	uint32_t flow_count;
	uint32_t unlearned_count;
	bool silent;         /* nobody is there to be flooded to */
	uint64_t unanswered; /* upcalls that got no flow, because of a limit */
	uint64_t announce_next_ns;
	struct log_limit log_limit;
};

struct bridge {
	LIST_ENTRY(bridge) next;
	char name[DP_NAME_SIZE];
	uint32_t mac_age_s;
	struct mac_table macs;
	TAILQ_HEAD(bridge_ports, bridge_port) ports;
	uint32_t port_count;
	uint64_t membership; /* another number after each change */
};

/* Flows to be removed, found where no request may be made. */
struct flow_ids {
	uint64_t *ids;
	size_t count;
	size_t room;
};

struct forwarding {
	const struct forwarding_datapath *datapath;
	void *arg; /* its */
	LIST_HEAD(, bridge) bridges;
	struct bridge_port *ports[DP_PORTS_MAX];
	uint32_t port_count;
	uint32_t flows_max; /* of the data plane; 0: not known */
	struct hash_table flows;
	struct flow_ids unknown;
	uint64_t sweep;
	uint64_t sweep_begin_ns;
	uint64_t moves; /* of stations */
	struct log_limit log_limit;
};

int forwarding_init(struct forwarding *fwd, const struct forwarding_datapath *datapath, void *arg) must_check;
void forwarding_cleanup(struct forwarding *fwd);

/* NULL: no memory. The name is not taken yet. */
struct bridge *forwarding_bridge_add(struct forwarding *fwd, const char *name, uint32_t mac_age_s);
struct bridge *forwarding_bridge_find(const struct forwarding *fwd, const char *name);
/* It has no ports (any more). */
void forwarding_bridge_del(struct forwarding *fwd, struct bridge *bridge);

/* The data plane has the port under that index. The structure is all zero or was a member before.
 */
void forwarding_join(struct forwarding *fwd, struct bridge *bridge, struct bridge_port *port, uint32_t index,
		     uint32_t mac_limit, uint64_t now_ns);
/* Its flows are removed everywhere; then the data plane may forget it. Harmless for no member. */
void forwarding_leave(struct forwarding *fwd, struct bridge_port *port, uint64_t now_ns);
/* Nobody is connected to it any more: what was learned there is forgotten. */
void forwarding_port_down(struct forwarding *fwd, struct bridge_port *port, uint64_t now_ns);

/* Whether it is left out when packets are flooded. It begins as one that is not. */
void forwarding_port_silent(struct forwarding *fwd, struct bridge_port *port, bool silent, uint64_t now_ns);

/* Forgets members, stations and flows without telling the data plane; the bridges stay. */
void forwarding_reset(struct forwarding *fwd);

/* A packet without a flow, at the stage that its key has. It is a packet's: nothing in it is trusted. */
void forwarding_upcall(struct forwarding *fwd, const struct flow_key *key, uint64_t now_ns);

/* A front end asks that its station be announced: learns it and tells the other members. */
void forwarding_announce(struct forwarding *fwd, uint32_t in_port, const uint8_t mac[MAC_SIZE], uint64_t now_ns);

/*
 * After the ports have joined a data plane that has flows already: each of them, then the end. No
 * flow that is right is touched; what cannot be ours is removed.
 */
void forwarding_adopt(struct forwarding *fwd, const struct dp_flow_info *info, uint64_t now_ns);
void forwarding_adopted(struct forwarding *fwd, uint64_t now_ns);

/*
 * Ageing, every forwarding_sweep_period_ns(): begin, every flow of the data plane, end. What the
 * two sides disagree about is put right.
 */
uint64_t forwarding_sweep_period_ns(const struct forwarding *fwd);
void forwarding_sweep_begin(struct forwarding *fwd, uint64_t now_ns);
void forwarding_sweep_flow(struct forwarding *fwd, const struct dp_flow_info *info);
void forwarding_sweep_end(struct forwarding *fwd, uint64_t now_ns);

#endif
