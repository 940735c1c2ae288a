/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What becomes of a flow's packets follows from its match, its bridge's members and where its
 * destination is; the record says for which of these the data plane was last told. So whoever
 * changes one of them just has the flows concerned installed again, and those that it makes no
 * difference to cost a comparison.
 */
#include "control/flow_book.h"

#include "datapath/drop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COOKIE_MAGIC 0x6c61737468000000ULL

/* A flow with room for every output. */
union flow_message {
	struct dp_flow_add flow;
	uint8_t bytes[sizeof(struct dp_flow_add) + FLOW_ACTIONS_MAX * sizeof(struct flow_action)];
};

static struct flow_record *record_of(struct hash_node *node)
{
	return node == NULL ? NULL : container_of(node, struct flow_record, node);
}

struct flow_record *flow_book_find(const struct forwarding *fwd, const struct flow_match *match)
{
	uint64_t hash = hash_table_hash(&fwd->flows, match, sizeof(*match));
	struct hash_node *node = hash_table_find(&fwd->flows, hash);

	for (; node != NULL; node = hash_table_find_next(node)) {
		if (memcmp(&record_of(node)->match, match, sizeof(*match)) == 0)
			return record_of(node);
	}
	return NULL;
}

struct flow_record *flow_book_next(const struct forwarding *fwd, const struct flow_record *record)
{
	return record_of(hash_table_next(&fwd->flows, record == NULL ? NULL : &record->node));
}

static bool is_unlearned(const struct flow_record *record)
{
	return record->match.shape == FLOW_SHAPE_SOURCE && !record->passes;
}

struct flow_record *flow_book_new(struct forwarding *fwd, struct bridge_port *port, const struct flow_match *match,
				  bool passes, uint64_t now_ns)
{
	struct mac_table *macs = &port->bridge->macs;
	struct flow_record *record = calloc(1, sizeof(*record));

	if (record == NULL)
		return NULL;
	record->match = *match;
	record->passes = passes;
	record->port = port;
	record->created_ns = now_ns;
	record->active_ns = now_ns;
	record->sweep = fwd->sweep;
	if (match->shape == FLOW_SHAPE_SOURCE && passes) {
		record->src = mac_table_get(macs, match->src);
		if (record->src == NULL)
			goto no_memory;
		LIST_INSERT_HEAD(&record->src->from, record, from);
	}
	if (match->shape == FLOW_SHAPE_DESTINATION && !mac_is_group(match->dst)) {
		record->dst = mac_table_get(macs, match->dst);
		if (record->dst == NULL)
			goto no_memory;
		LIST_INSERT_HEAD(&record->dst->to, record, to);
	}
	hash_table_insert(&fwd->flows, &record->node, hash_table_hash(&fwd->flows, match, sizeof(*match)));
	TAILQ_INSERT_TAIL(&port->flows, record, on_port);
	port->flow_count++;
	port->unlearned_count += is_unlearned(record);
	return record;

no_memory:
	free(record);
	return NULL;
}

void flow_book_forget(struct forwarding *fwd, struct flow_record *record, struct mac_entry *keep)
{
	struct bridge_port *port = record->port;
	struct mac_entry *src = record->src, *dst = record->dst;

	hash_table_remove(&fwd->flows, &record->node);
	TAILQ_REMOVE(&port->flows, record, on_port);
	port->flow_count--;
	port->unlearned_count -= is_unlearned(record);
	if (src != NULL)
		LIST_REMOVE(record, from);
	if (dst != NULL)
		LIST_REMOVE(record, to);
	if (src != NULL && src != keep)
		mac_table_release(&port->bridge->macs, src);
	if (dst != NULL && dst != keep && dst != src)
		mac_table_release(&port->bridge->macs, dst);
	free(record);
}

void flow_book_remove(struct forwarding *fwd, struct flow_record *record, struct mac_entry *keep)
{
	if (record->installed.type != FLOW_OUTCOME_NONE) {
		int error = fwd->datapath->flow_del(fwd->arg, record->id);

		if (error < 0 && error != -ENOENT && error != -ENOTCONN)
			log_limited(&fwd->log_limit, LOG_WARN, "cannot remove a flow: %s", strerror(-error));
	}
	flow_book_forget(fwd, record, keep);
}

static struct flow_outcome outcome_drop(enum drop_reason reason)
{
	return (struct flow_outcome){FLOW_OUTCOME_DROP, (uint64_t)reason};
}

struct flow_outcome flow_book_outcome(const struct flow_record *record)
{
	const struct flow_match *match = &record->match;

	if (match->shape == FLOW_SHAPE_FOREIGN)
		return outcome_drop(DROP_FLOW_DROP);
	if (match->shape == FLOW_SHAPE_SOURCE && record->passes)
		return (struct flow_outcome){FLOW_OUTCOME_PASS, FLOW_STAGE_SECOND};
	if (match->shape == FLOW_SHAPE_SOURCE)
		return outcome_drop(mac_is_zero(match->src) ? DROP_FLOW_DROP : DROP_MAC_LIMIT);
	if (match->shape == FLOW_SHAPE_DESTINATION && mac_is_reserved(match->dst))
		return outcome_drop(DROP_FLOW_DROP);
	if (record->dst == NULL || record->dst->port == NULL)
		return (struct flow_outcome){FLOW_OUTCOME_FLOOD, record->port->bridge->membership};
	if (record->dst->port == &record->port->macs)
		return outcome_drop(DROP_HAIRPIN);
	return (struct flow_outcome){FLOW_OUTCOME_OUTPUT, record->dst->port->index};
}

static uint32_t outcome_actions(const struct flow_record *record, const struct flow_outcome *outcome,
				struct flow_action *actions)
{
	const struct bridge_port *port;
	bool nobody_up = false;
	uint32_t count = 0;

	switch (outcome->type) {
	case FLOW_OUTCOME_NONE:
		break;
	case FLOW_OUTCOME_OUTPUT:
		actions[count++] = (struct flow_action){FLOW_ACTION_OUTPUT, 0, (uint32_t)outcome->value};
		break;
	case FLOW_OUTCOME_DROP:
		actions[count++] = (struct flow_action){FLOW_ACTION_DROP, 0, (uint32_t)outcome->value};
		break;
	case FLOW_OUTCOME_PASS:
		actions[count++] = (struct flow_action){FLOW_ACTION_STAGE, 0, (uint32_t)outcome->value};
		break;
	case FLOW_OUTCOME_FLOOD:
		TAILQ_FOREACH(port, &record->port->bridge->ports, on_bridge) {
			if (port != record->port && !port->silent && count < FLOW_ACTIONS_MAX)
				actions[count++] = (struct flow_action){FLOW_ACTION_OUTPUT, 0, port->macs.index};
			nobody_up |= port != record->port && port->silent;
		}
		/* By the name that it would have if only one were left out. */
		if (count == 0 && nobody_up)
			actions[count++] = (struct flow_action){FLOW_ACTION_DROP, 0, DROP_OUT_DOWN};
		break;
	}
	return count;
}

bool flow_book_does(const struct flow_record *record, const struct flow_outcome *outcome,
		    const struct flow_action *actions, uint32_t action_count)
{
	struct flow_action ours[FLOW_ACTIONS_MAX];
	uint32_t count = outcome_actions(record, outcome, ours);

	return count == action_count && memcmp(ours, actions, count * sizeof(ours[0])) == 0;
}

bool flow_book_install(struct forwarding *fwd, struct flow_record *record, bool again, struct mac_entry *keep,
		       uint64_t now_ns)
{
	struct flow_outcome outcome = flow_book_outcome(record);
	union flow_message message;
	int error;

	if (!again && outcome.type == record->installed.type && outcome.value == record->installed.value)
		return true;
	memset(&message.flow, 0, sizeof(message.flow));
	message.flow.cookie = COOKIE_MAGIC | outcome.type;
	flow_match_to_wire(&record->match, &message.flow.key, &message.flow.mask);
	message.flow.action_count = outcome_actions(record, &outcome, message.flow.actions);
	error = fwd->datapath->flow_add(fwd->arg, &message.flow, &record->id);
	if (error < 0) {
		if (error != -ENOTCONN)
			log_limited(&fwd->log_limit, LOG_WARN, "cannot install a flow: %s", strerror(-error));
		flow_book_remove(fwd, record, keep);
		return false;
	}
	record->installed = outcome;
	record->installed_ns = now_ns;
	return true;
}

void flow_book_unknown(struct forwarding *fwd, uint64_t id)
{
	struct flow_ids *unknown = &fwd->unknown;

	if (unknown->count == unknown->room) {
		size_t room = unknown->room == 0 ? 64 : unknown->room * 2;
		uint64_t *ids = reallocarray(unknown->ids, room, sizeof(*ids));

		/* The next sweep finds it again. */
		if (ids == NULL)
			return;
		unknown->ids = ids;
		unknown->room = room;
	}
	unknown->ids[unknown->count++] = id;
}

void flow_book_remove_unknown(struct forwarding *fwd)
{
	for (size_t i = 0; i < fwd->unknown.count; i++) {
		/* What cannot be removed now is found again by the next sweep. */
		if (fwd->datapath->flow_del(fwd->arg, fwd->unknown.ids[i]) == -ENOTCONN)
			break;
	}
	free(fwd->unknown.ids);
	fwd->unknown = (struct flow_ids){0};
}
