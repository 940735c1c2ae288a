/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading the data plane's flows back: every few seconds, to learn which stations still speak and
 * to remove what is idle; and once after each connection, to take over what an earlier control
 * plane installed. Both put right what the two sides disagree about, so nothing depends on an
 * event having arrived.
 */
#include "control/flow_book.h"
#include "control/forwarding.h"
#include "datapath/drop.h"
#include "lib/clock.h"

#include <string.h>

#define SWEEP_MIN_NS NS_PER_S
#define SWEEP_MAX_NS (5 * NS_PER_S)

static uint64_t bridge_age_ns(const struct bridge *bridge)
{
	return bridge->mac_age_s * NS_PER_S;
}

uint64_t forwarding_sweep_period_ns(const struct forwarding *fwd)
{
	const struct bridge *bridge;
	uint64_t period = SWEEP_MAX_NS;

	LIST_FOREACH(bridge, &fwd->bridges, next)
		period = min(period, bridge_age_ns(bridge) / 10);
	return max(period, (uint64_t)SWEEP_MIN_NS);
}

void forwarding_sweep_begin(struct forwarding *fwd, uint64_t now_ns)
{
	fwd->sweep++;
	fwd->sweep_begin_ns = now_ns;
}

/* The flow carried packets: it moves to the end of its port's queue, and its source still speaks.
 */
static void record_active(struct flow_record *record, uint64_t now_ns)
{
	record->active_ns = now_ns;
	TAILQ_REMOVE(&record->port->flows, record, on_port);
	TAILQ_INSERT_TAIL(&record->port->flows, record, on_port);
	if (record->src != NULL && record->src->port == &record->port->macs)
		record->src->seen_ns = now_ns;
}

void forwarding_sweep_flow(struct forwarding *fwd, const struct dp_flow_info *info)
{
	struct flow_match match;
	struct flow_record *record = NULL;

	if (flow_match_from_wire(&match, &info->flow.key, &info->flow.mask) == 0)
		record = flow_book_find(fwd, &match);
	if (record == NULL) {
		flow_book_unknown(fwd, info->id);
		return;
	}
	record->id = info->id;
	record->sweep = fwd->sweep;
	if (info->packets != record->packets)
		record_active(record, fwd->sweep_begin_ns);
	record->packets = info->packets;
	record->bytes = info->bytes;
}

static uint64_t record_idle_limit(const struct flow_record *record)
{
	uint64_t limit = min((uint64_t)FLOW_IDLE_NS, bridge_age_ns(record->port->bridge));

	if (record->dst != NULL && record->dst->port == NULL)
		limit = min(limit, (uint64_t)FLOW_IDLE_UNKNOWN_NS);
	return limit;
}

/* Whether its time is over, used or not. */
static bool record_is_done(const struct flow_record *record, uint64_t now_ns)
{
	if (now_ns - record->active_ns >= record_idle_limit(record))
		return true;
	/* What is not learned is looked at again now and then: there may be room, or peace. */
	if (record->match.shape == FLOW_SHAPE_SOURCE && !record->passes && !mac_is_zero(record->match.src))
		return now_ns - record->created_ns >= FLOW_UNLEARNED_NS;
	if (record->src != NULL && record->src->port != &record->port->macs)
		return now_ns - record->created_ns >= MAC_HOLD_NS;
	return false;
}

static void sweep_records(struct forwarding *fwd, uint64_t now_ns)
{
	struct flow_record *record = flow_book_next(fwd, NULL);

	while (record != NULL) {
		struct flow_record *next = flow_book_next(fwd, record);

		if (record->sweep != fwd->sweep)
			flow_book_forget(fwd, record, NULL);
		else if (record_is_done(record, now_ns))
			flow_book_remove(fwd, record, NULL);
		record = next;
	}
}

static void sweep_ports(struct forwarding *fwd)
{
	for (uint32_t i = 0; i < DP_PORTS_MAX; i++) {
		struct bridge_port *port = fwd->ports[i];

		while (port != NULL && port->flow_count > forwarding_port_flows_max(fwd, port))
			flow_book_remove(fwd, TAILQ_FIRST(&port->flows), NULL);
	}
}

static void sweep_stations(struct forwarding *fwd, struct bridge *bridge, uint64_t now_ns)
{
	struct bridge_port *port;

	TAILQ_FOREACH(port, &bridge->ports, on_bridge) {
		struct mac_entry *entry = LIST_FIRST(&port->macs.entries);

		while (entry != NULL) {
			struct mac_entry *next = LIST_NEXT(entry, on_port);

			if (now_ns - entry->seen_ns >= bridge_age_ns(bridge))
				forwarding_forget_station(fwd, bridge, entry, now_ns);
			entry = next;
		}
	}
}

void forwarding_sweep_end(struct forwarding *fwd, uint64_t now_ns)
{
	struct bridge *bridge;

	flow_book_remove_unknown(fwd);
	sweep_records(fwd, now_ns);
	sweep_ports(fwd);
	LIST_FOREACH(bridge, &fwd->bridges, next)
		sweep_stations(fwd, bridge, now_ns);
}

/* What the flow's actions and cookie say that it does, if it is something that we do. */
static struct flow_outcome adopted_outcome(const struct flow_record *record, const struct dp_flow_add *flow)
{
	struct flow_outcome outcome = {.type = (enum flow_outcome_type)(flow->cookie & 0xff)};

	switch (outcome.type) {
	case FLOW_OUTCOME_FLOOD:
		outcome.value = record->port->bridge->membership;
		break;
	case FLOW_OUTCOME_OUTPUT:
	case FLOW_OUTCOME_DROP:
	case FLOW_OUTCOME_PASS:
		outcome.value = flow->action_count == 1 ? flow->actions[0].value : UINT64_MAX;
		break;
	default:
		break;
	}
	/* Not what we would have asked for: installed, but to be replaced by whatever is right. */
	if (!flow_book_does(record, &outcome, flow->actions, flow->action_count))
		outcome = (struct flow_outcome){FLOW_OUTCOME_DROP, UINT64_MAX};
	return outcome;
}

void forwarding_adopt(struct forwarding *fwd, const struct dp_flow_info *info, uint64_t now_ns)
{
	struct flow_match match;
	struct flow_record *record = NULL;
	struct bridge_port *port = NULL;

	if (flow_match_from_wire(&match, &info->flow.key, &info->flow.mask) == 0 && match.in_port < DP_PORTS_MAX)
		port = fwd->ports[match.in_port];
	if (port != NULL && flow_book_find(fwd, &match) == NULL)
		record = flow_book_new(fwd, port, &match,
				       mac_is_station(match.src) && (info->flow.cookie & 0xff) == FLOW_OUTCOME_PASS,
				       now_ns);
	if (record == NULL) {
		flow_book_unknown(fwd, info->id);
		return;
	}
	record->id = info->id;
	record->packets = info->packets;
	record->bytes = info->bytes;
	record->installed = adopted_outcome(record, &info->flow);
	record->installed_ns = now_ns;
	if (record->src != NULL && record->src->port == NULL &&
	    mac_table_learn(&port->bridge->macs, match.src, &port->macs, now_ns, &record->src) < 0)
		log_limited(&fwd->log_limit, LOG_WARN, "no memory for a station");
}

/* A destination whose own flows are gone is known by the flows to it. */
static void adopt_destination(struct forwarding *fwd, struct flow_record *record, uint64_t now_ns)
{
	struct bridge_port *port = NULL;
	struct mac_entry *entry;

	if (record->dst == NULL || record->dst->port != NULL)
		return;
	if (record->installed.type == FLOW_OUTCOME_OUTPUT && record->installed.value < DP_PORTS_MAX)
		port = fwd->ports[record->installed.value];
	else if (record->installed.type == FLOW_OUTCOME_DROP && record->installed.value == DROP_HAIRPIN)
		port = record->port;
	if (port == NULL || port->bridge != record->port->bridge)
		return;
	if (mac_table_learn(&port->bridge->macs, record->match.dst, &port->macs, now_ns, &entry) < 0)
		log_limited(&fwd->log_limit, LOG_WARN, "no memory for a station");
}

void forwarding_adopted(struct forwarding *fwd, uint64_t now_ns)
{
	struct flow_record *record;

	flow_book_remove_unknown(fwd);
	for (record = flow_book_next(fwd, NULL); record != NULL; record = flow_book_next(fwd, record))
		adopt_destination(fwd, record, now_ns);
	record = flow_book_next(fwd, NULL);
	while (record != NULL) {
		struct flow_record *next = flow_book_next(fwd, record);
		bool stray = record->src != NULL && record->src->port != &record->port->macs;

		if (stray)
			flow_book_remove(fwd, record, NULL);
		else
			flow_book_install(fwd, record, false, NULL, now_ns);
		record = next;
	}
}
