/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Learning and answering: an upcall teaches where its source is, then gets the flows for its source and its
 * destination, if it may pass.
 * A station that is new, moves or is forgotten changes the flows to it in place, so that no packet
 * on its way there falls through a gap; the flows from it at its old port go, so that its packets
 * come up again if it is still there.
 *
 * Ageing and adoption are in forwarding_sweep.c.
 */
#include "control/forwarding.h"

#include "control/flow_book.h"
#include "lib/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REINSTALL_AFTER_NS  (100 * NS_PER_MS) /* an upcall in spite of a flow: younger ones crossed */
#define IDLE_ENOUGH_NS      NS_PER_S          /* to be evicted for a new flow of the same port */
#define SOURCES_SPARED      8                 /* the longest idle ones at most, when another flow is to go */
#define ANNOUNCE_PERIOD_NS  (20 * NS_PER_MS)  /* one of a port at most */
#define ANNOUNCE_FRAME_SIZE 60

int forwarding_init(struct forwarding *fwd, const struct forwarding_datapath *datapath, void *arg)
{
	memset(fwd, 0, sizeof(*fwd));
	fwd->datapath = datapath;
	fwd->arg = arg;
	LIST_INIT(&fwd->bridges);
	return hash_table_init(&fwd->flows);
}

void forwarding_cleanup(struct forwarding *fwd)
{
	struct bridge *bridge;

	forwarding_reset(fwd);
	bridge = LIST_FIRST(&fwd->bridges);
	while (bridge != NULL) {
		struct bridge *next = LIST_NEXT(bridge, next);

		forwarding_bridge_del(fwd, bridge);
		bridge = next;
	}
	hash_table_cleanup(&fwd->flows);
}

struct bridge *forwarding_bridge_add(struct forwarding *fwd, const char *name, uint32_t mac_age_s)
{
	struct bridge *bridge = calloc(1, sizeof(*bridge));

	if (bridge == NULL)
		return NULL;
	if (mac_table_init(&bridge->macs) < 0) {
		free(bridge);
		return NULL;
	}
	strncpy(bridge->name, name, sizeof(bridge->name) - 1);
	bridge->mac_age_s = mac_age_s;
	bridge->membership = 1;
	TAILQ_INIT(&bridge->ports);
	LIST_INSERT_HEAD(&fwd->bridges, bridge, next);
	return bridge;
}

struct bridge *forwarding_bridge_find(const struct forwarding *fwd, const char *name)
{
	struct bridge *bridge;

	LIST_FOREACH(bridge, &fwd->bridges, next) {
		if (strcmp(bridge->name, name) == 0)
			return bridge;
	}
	return NULL;
}

void forwarding_bridge_del(struct forwarding *fwd, struct bridge *bridge)
{
	(void)fwd;
	LIST_REMOVE(bridge, next);
	mac_table_cleanup(&bridge->macs);
	free(bridge);
}

uint32_t forwarding_port_flows_max(const struct forwarding *fwd, const struct bridge_port *port)
{
	uint32_t share = fwd->flows_max / max(fwd->port_count, 1u);
	uint32_t own = PORT_FLOWS_MAX + port->macs.limit;

	if (fwd->flows_max == 0)
		return own;
	return max((uint32_t)PORT_FLOWS_MIN, min(share, own));
}

/* Its members are others now: what floods to them is installed anew. */
static void bridge_members_changed(struct forwarding *fwd, struct bridge *bridge, uint64_t now_ns)
{
	struct bridge_port *port;

	bridge->membership++;
	TAILQ_FOREACH(port, &bridge->ports, on_bridge) {
		struct flow_record *record = TAILQ_FIRST(&port->flows);

		while (record != NULL) {
			struct flow_record *next = TAILQ_NEXT(record, on_port);

			flow_book_install(fwd, record, false, NULL, now_ns);
			record = next;
		}
	}
}

/* By index: the same members make the same list of outputs, whoever lists them. */
static void bridge_insert(struct bridge *bridge, struct bridge_port *port)
{
	struct bridge_port *other;

	TAILQ_FOREACH(other, &bridge->ports, on_bridge) {
		if (other->macs.index > port->macs.index) {
			TAILQ_INSERT_BEFORE(other, port, on_bridge);
			return;
		}
	}
	TAILQ_INSERT_TAIL(&bridge->ports, port, on_bridge);
}

void forwarding_join(struct forwarding *fwd, struct bridge *bridge, struct bridge_port *port, uint32_t index,
		     uint32_t mac_limit, uint64_t now_ns)
{
	memset(port, 0, sizeof(*port));
	port->macs.index = index;
	port->macs.limit = mac_limit;
	LIST_INIT(&port->macs.entries);
	TAILQ_INIT(&port->flows);
	port->bridge = bridge;
	bridge_insert(bridge, port);
	bridge->port_count++;
	fwd->ports[index] = port;
	fwd->port_count++;
	bridge_members_changed(fwd, bridge, now_ns);
}

static void port_detach(struct forwarding *fwd, struct bridge_port *port)
{
	TAILQ_REMOVE(&port->bridge->ports, port, on_bridge);
	port->bridge->port_count--;
	fwd->ports[port->macs.index] = NULL;
	fwd->port_count--;
	port->bridge = NULL;
}

void forwarding_leave(struct forwarding *fwd, struct bridge_port *port, uint64_t now_ns)
{
	struct bridge *bridge = port->bridge;

	if (bridge == NULL)
		return;
	forwarding_port_down(fwd, port, now_ns);
	while (!TAILQ_EMPTY(&port->flows))
		flow_book_remove(fwd, TAILQ_FIRST(&port->flows), NULL);
	port_detach(fwd, port);
	bridge_members_changed(fwd, bridge, now_ns);
}

void forwarding_port_down(struct forwarding *fwd, struct bridge_port *port, uint64_t now_ns)
{
	while (port->bridge != NULL && !LIST_EMPTY(&port->macs.entries))
		forwarding_forget_station(fwd, port->bridge, LIST_FIRST(&port->macs.entries), now_ns);
}

void forwarding_port_silent(struct forwarding *fwd, struct bridge_port *port, bool silent, uint64_t now_ns)
{
	if (port->bridge == NULL || port->silent == silent)
		return;
	port->silent = silent;
	bridge_members_changed(fwd, port->bridge, now_ns);
}

void forwarding_reset(struct forwarding *fwd)
{
	struct flow_record *record;

	while ((record = flow_book_next(fwd, NULL)) != NULL)
		flow_book_forget(fwd, record, NULL);
	for (uint32_t i = 0; i < DP_PORTS_MAX; i++) {
		struct bridge_port *port = fwd->ports[i];

		while (port != NULL && !LIST_EMPTY(&port->macs.entries)) {
			struct mac_entry *entry = LIST_FIRST(&port->macs.entries);

			mac_table_unplace(entry);
			mac_table_release(&port->bridge->macs, entry);
		}
		if (port != NULL)
			port_detach(fwd, port);
	}
	free(fwd->unknown.ids);
	fwd->unknown = (struct flow_ids){0};
}

static void install_flows_to(struct forwarding *fwd, struct mac_entry *entry, uint64_t now_ns)
{
	struct flow_record *record = LIST_FIRST(&entry->to);

	while (record != NULL) {
		struct flow_record *next = LIST_NEXT(record, to);

		flow_book_install(fwd, record, false, entry, now_ns);
		record = next;
	}
}

/* The flows from it that are at a port where it is not; `only` that one, or NULL for any. */
static void remove_strays(struct forwarding *fwd, struct mac_entry *entry, const struct bridge_port *only)
{
	struct flow_record *record = LIST_FIRST(&entry->from);

	while (record != NULL) {
		struct flow_record *next = LIST_NEXT(record, from);

		if (&record->port->macs != entry->port && (only == NULL || record->port == only))
			flow_book_remove(fwd, record, entry);
		record = next;
	}
}

void forwarding_forget_station(struct forwarding *fwd, struct bridge *bridge, struct mac_entry *entry, uint64_t now_ns)
{
	mac_table_unplace(entry);
	remove_strays(fwd, entry, NULL);
	install_flows_to(fwd, entry, now_ns);
	mac_table_release(&bridge->macs, entry);
}

/* The station's packets may pass at the port from now on: a flow that drops them all must not stay. */
static void remove_unlearned(struct forwarding *fwd, struct bridge_port *port, struct mac_entry *entry)
{
	struct flow_match source = flow_match_source(port->macs.index, entry->mac);
	struct flow_record *record = flow_book_find(fwd, &source);

	if (record != NULL && !record->passes)
		flow_book_remove(fwd, record, entry);
}

/* An entry has got another place. */
static void station_placed(struct forwarding *fwd, struct bridge_port *port, struct mac_entry *entry, uint64_t now_ns)
{
	remove_unlearned(fwd, port, entry);
	remove_strays(fwd, entry, NULL);
	install_flows_to(fwd, entry, now_ns);
}

/* Makes room for one more flow of the port, at nobody's cost but its own. */
static bool port_make_room(struct forwarding *fwd, struct bridge_port *port, uint64_t now_ns)
{
	struct flow_record *idle;

	if (port->flow_count < forwarding_port_flows_max(fwd, port))
		return true;
	idle = TAILQ_FIRST(&port->flows);
	/* A source that seems idle, because nobody has looked for seconds, may be all that this port has. */
	for (unsigned int i = 0; i < SOURCES_SPARED && idle != NULL && idle->passes; i++)
		idle = TAILQ_NEXT(idle, on_port);
	if (idle == NULL || now_ns - idle->active_ns < IDLE_ENOUGH_NS)
		return false;
	flow_book_remove(fwd, idle, NULL);
	return true;
}

/* Brings the flow for the match into being; `again`: installs it anew, if it should have been there. */
static void port_answer(struct forwarding *fwd, struct bridge_port *port, const struct flow_match *match, bool passes,
			bool again, uint64_t now_ns)
{
	struct flow_record *record = flow_book_find(fwd, match);

	if (record != NULL) {
		again = again && now_ns - record->installed_ns >= REINSTALL_AFTER_NS;
	} else {
		if ((match->shape == FLOW_SHAPE_SOURCE && !passes && port->unlearned_count >= PORT_UNLEARNED_MAX) ||
		    !port_make_room(fwd, port, now_ns)) {
			port->unanswered++;
			return;
		}
		again = false;
		record = flow_book_new(fwd, port, match, passes, now_ns);
		if (record == NULL)
			return;
	}
	flow_book_install(fwd, record, again, NULL, now_ns);
}

/* Learns where `mac` is: false if a packet from it there must not pass. */
static bool port_learn(struct forwarding *fwd, struct bridge_port *port, const uint8_t mac[MAC_SIZE], uint64_t now_ns)
{
	struct mac_entry *entry;
	int verdict = mac_table_learn(&port->bridge->macs, mac, &port->macs, now_ns, &entry);

	switch (verdict) {
	case MAC_MOVED:
		fwd->moves++;
		station_placed(fwd, port, entry, now_ns);
		return true;
	case MAC_LEARNED:
		station_placed(fwd, port, entry, now_ns);
		return true;
	case MAC_FULL:
		log_limited(&port->log_limit, LOG_WARN,
			    "port %u: more than %u source addresses, packets from others are dropped", port->macs.index,
			    port->macs.limit);
		if (entry != NULL) {
			remove_strays(fwd, entry, port);
			mac_table_release(&port->bridge->macs, entry);
		}
		return false;
	case MAC_HELD:
		log_limited(&port->log_limit, LOG_WARN,
			    "port %u: %02x:%02x:%02x:%02x:%02x:%02x moves too often, not followed", port->macs.index,
			    mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
		remove_unlearned(fwd, port, entry);
		return true;
	default:
		return verdict >= 0;
	}
}

void forwarding_upcall(struct forwarding *fwd, const struct flow_key *key, uint64_t now_ns)
{
	const bool first = key->stage == FLOW_STAGE_FIRST;
	struct bridge_port *port;
	struct flow_match match;

	if (key->in_port >= DP_PORTS_MAX || fwd->ports[key->in_port] == NULL)
		return;
	port = fwd->ports[key->in_port];
	if (first) {
		bool passes = mac_is_station(key->eth_src) && port_learn(fwd, port, key->eth_src, now_ns);

		match = flow_match_source(key->in_port, key->eth_src);
		port_answer(fwd, port, &match, passes, true, now_ns);
		if (!passes)
			return;
	}
	/* With the first stage's, since the packet will ask for it. If it is there, the packet has not missed it yet.
	 */
	match = flow_match_destination(key->in_port, key->eth_dst);
	port_answer(fwd, port, &match, false, !first, now_ns);
}

/* A RARP request for the station's own address: what switches and hosts expect after a move. */
static void make_rarp(uint8_t frame[ANNOUNCE_FRAME_SIZE], const uint8_t mac[MAC_SIZE])
{
	const struct {
		uint8_t dst[MAC_SIZE];
		uint8_t src[MAC_SIZE];
		uint16_t eth_type;
		uint16_t hardware, protocol;
		uint8_t hardware_size, protocol_size;
		uint16_t operation;
	} __attribute__((packed)) head = {
		.dst = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		.src = {mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]},
		.eth_type = htons(0x8035),
		.hardware = htons(1),
		.protocol = htons(0x0800),
		.hardware_size = MAC_SIZE,
		.protocol_size = 4,
		.operation = htons(3),
	};

	memset(frame, 0, ANNOUNCE_FRAME_SIZE);
	memcpy(frame, &head, sizeof(head));
	memcpy(frame + sizeof(head), mac, MAC_SIZE);
	memcpy(frame + sizeof(head) + MAC_SIZE + 4, mac, MAC_SIZE);
}

void forwarding_announce(struct forwarding *fwd, uint32_t in_port, const uint8_t mac[MAC_SIZE], uint64_t now_ns)
{
	uint8_t frame[ANNOUNCE_FRAME_SIZE];
	uint32_t outputs[DP_PORTS_MAX];
	uint32_t count = 0;
	struct bridge_port *port, *other;

	if (in_port >= DP_PORTS_MAX || fwd->ports[in_port] == NULL || !mac_is_station(mac))
		return;
	port = fwd->ports[in_port];
	if (now_ns < port->announce_next_ns)
		return;
	port->announce_next_ns = now_ns + ANNOUNCE_PERIOD_NS;
	if (!port_learn(fwd, port, mac, now_ns))
		return;
	TAILQ_FOREACH(other, &port->bridge->ports, on_bridge) {
		if (other != port && !other->silent)
			outputs[count++] = other->macs.index;
	}
	if (count == 0)
		return;
	make_rarp(frame, mac);
	/* Best effort, as every broadcast. */
	(void)fwd->datapath->packet_out(fwd->arg, outputs, count, frame, sizeof(frame));
}
