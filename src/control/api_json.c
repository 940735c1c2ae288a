/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The types of io.lasthop.Control.varlink, made from what the control plane has.
 */
#include "control/api.h"
#include "control/flow_book.h"
#include "datapath/drop.h"
#include "lib/clock.h"
#include "proto/stats_reader.h"

#include <stdio.h>
#include <string.h>

#define MAC_TEXT_SIZE 18

static json_t *json_mac(const uint8_t mac[MAC_SIZE])
{
	return json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static json_t *json_u64(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static int seconds_since(uint64_t then_ns, uint64_t now_ns)
{
	return now_ns < then_ns ? 0 : (int)((now_ns - then_ns) / NS_PER_S);
}

static json_t *json_fields(const void *counters, const struct stats_field *fields)
{
	json_t *object = json_object();

	for (; fields->name != NULL && object != NULL; fields++)
		json_object_set_new(object, fields->name, json_u64(stats_field_value(counters, fields)));
	return object;
}

static json_t *json_drops(const struct stats_reader *stats, const struct stats_port *counters)
{
	json_t *drops = json_object();

	for (uint32_t i = 0; i < stats->drops && drops != NULL; i++) {
		char name[24];

		if (counters->drops[i] == 0)
			continue;
		stats_reader_drop_name(stats, i, name);
		json_object_set_new(drops, name, json_u64(counters->drops[i]));
	}
	return drops;
}

static json_t *json_counters(const struct stats_reader *stats, const struct control_port *port)
{
	struct stats_directory entry;
	struct stats_port sum;
	json_t *counters;

	if (stats == NULL || !port->present || stats_reader_directory(stats, port->info.port, &entry) < 0 ||
	    strcmp(entry.name, port->settings.wire.name) != 0)
		return json_null();
	stats_reader_port(stats, port->info.port, &sum);
	counters = json_fields(&sum, stats_port_fields);
	json_object_set_new(counters, "drops", json_drops(stats, &sum));
	return counters;
}

static const char *state_name(const struct control_port *port)
{
	if (!port->present)
		return "absent";
	switch (port->info.state) {
	case DP_PORT_CONNECTED:
		return "connected";
	case DP_PORT_UP:
		return "up";
	case DP_PORT_QUARANTINED:
		return "quarantined";
	default:
		return "down";
	}
}

static const char *vm_state_name(uint32_t state)
{
	static const char *const names[] = {"unknown", "blocked", "runnable", "running"};

	return names[state < ARRAY_SIZE(names) ? state : DP_VM_UNKNOWN];
}

json_t *api_json_port(const struct control_port *port, const struct stats_reader *stats)
{
	static const struct dp_port_info nothing;
	const struct dp_port_info *info = port->present ? &port->info : &nothing;
	json_t *object = port_settings_to_json(&port->settings);

	if (object == NULL)
		return NULL;
	if (port->present)
		json_object_set_new(object, "index", json_u64(info->port));
	json_object_set_new(object, "state", json_string(state_name(port)));
	if (info->fault[0] != '\0')
		json_object_set_new(object, "fault", json_string(info->fault));
	json_object_set_new(object, "faults", json_u64(info->faults));
	json_object_set_new(object, "connections", json_u64(info->connections));
	json_object_set_new(object, "features", features_to_json(info->features));
	json_object_set_new(object, "protocol_features", protocol_features_to_json(info->protocol_features));
	json_object_set_new(object, "queues_enabled", json_u64(info->pairs_enabled));
	json_object_set_new(object, "regions", json_u64(info->regions));
	json_object_set_new(object, "memory", json_u64(info->memory));
	json_object_set_new(object, "ring_receive", json_u64(info->ring_sizes & 0xffff));
	json_object_set_new(object, "ring_transmit", json_u64(info->ring_sizes >> 16));
	if (info->mtu != 0)
		json_object_set_new(object, "guest_mtu", json_u64(info->mtu));
	if (!mac_is_zero(info->mac))
		json_object_set_new(object, "guest_mac", json_mac(info->mac));
	if (info->peer_pid != 0)
		json_object_set_new(object, "peer_pid", json_u64(info->peer_pid));
	json_object_set_new(object, "vm_state", json_string(vm_state_name(info->vm_state)));
	json_object_set_new(object, "macs", json_u64(port->present ? port->member.macs.count : 0));
	json_object_set_new(object, "flows", json_u64(port->present ? port->member.flow_count : 0));
	json_object_set_new(object, "unanswered", json_u64(port->present ? port->member.unanswered : 0));
	json_object_set_new(object, "counters", json_counters(stats, port));
	return object;
}

static const char *port_name(const struct control *control, uint32_t index)
{
	const struct control_port *port = control_port_at(control, index);

	return port == NULL ? "?" : port->settings.wire.name;
}

json_t *api_json_bridge(const struct control *control, const struct bridge *bridge)
{
	const struct control_port *port;
	const struct bridge_port *member;
	json_t *ports = json_array();
	uint64_t macs = 0;

	TAILQ_FOREACH(port, &control->ports, next) {
		if (strcmp(port->settings.wire.owner, bridge->name) == 0)
			json_array_append_new(ports, json_string(port->settings.wire.name));
	}
	TAILQ_FOREACH(member, &bridge->ports, on_bridge)
		macs += member->macs.count;
	return json_pack("{s:s, s:i, s:o, s:I}", "name", bridge->name, "mac_age", (int)bridge->mac_age_s, "ports",
			 ports, "macs", (json_int_t)macs);
}

static void set_match(json_t *object, const struct flow_match *match)
{
	const char *name = "foreign";

	switch (match->shape) {
	case FLOW_SHAPE_DESTINATION:
		name = "destination";
		json_object_set_new(object, "dst", json_mac(match->dst));
		break;
	case FLOW_SHAPE_GROUP_BLOCK:
		name = "group";
		json_object_set_new(object, "dst_prefix",
				    json_sprintf("%02x:%02x:%02x", match->dst[0], match->dst[1], match->dst[2]));
		break;
	case FLOW_SHAPE_GROUP:
		name = "group";
		json_object_set_new(object, "dst_prefix", json_sprintf("%02x", match->dst[0]));
		break;
	case FLOW_SHAPE_SOURCE:
		name = "source";
		json_object_set_new(object, "src", json_mac(match->src));
		break;
	default:
		break;
	}
	json_object_set_new(object, "match", json_string(name));
}

static void set_action(json_t *object, const struct control *control, const struct flow_record *record)
{
	const struct flow_outcome *outcome = &record->installed;
	const struct bridge_port *other;
	json_t *outputs = json_array();
	const char *name = "flood";

	if (outcome->type == FLOW_OUTCOME_DROP) {
		name = "drop";
		json_object_set_new(object, "reason", json_string(drop_name((enum drop_reason)outcome->value)));
	} else if (outcome->type == FLOW_OUTCOME_OUTPUT) {
		name = "output";
		json_array_append_new(outputs, json_string(port_name(control, (uint32_t)outcome->value)));
	} else if (outcome->type == FLOW_OUTCOME_PASS) {
		name = "pass";
	} else {
		TAILQ_FOREACH(other, &record->port->bridge->ports, on_bridge) {
			if (other != record->port && !other->silent)
				json_array_append_new(outputs, json_string(port_name(control, other->macs.index)));
		}
	}
	json_object_set_new(object, "action", json_string(name));
	json_object_set_new(object, "outputs", outputs);
}

json_t *api_json_flow(const struct control *control, const struct flow_record *record, uint64_t now_ns)
{
	json_t *object = json_object();

	if (object == NULL)
		return NULL;
	json_object_set_new(object, "id", json_u64(record->id));
	json_object_set_new(object, "bridge", json_string(record->port->bridge->name));
	json_object_set_new(object, "in_port", json_string(port_name(control, record->match.in_port)));
	set_match(object, &record->match);
	set_action(object, control, record);
	json_object_set_new(object, "packets", json_u64(record->packets));
	json_object_set_new(object, "bytes", json_u64(record->bytes));
	json_object_set_new(object, "idle", json_integer(seconds_since(record->active_ns, now_ns)));
	json_object_set_new(object, "age", json_integer(seconds_since(record->created_ns, now_ns)));
	return object;
}

json_t *api_json_mac(const struct control *control, const struct bridge *bridge, const struct mac_entry *entry,
		     uint64_t now_ns)
{
	return json_pack("{s:o, s:s, s:s, s:i, s:i, s:b}", "mac", json_mac(entry->mac), "bridge", bridge->name, "port",
			 port_name(control, entry->port->index), "age", seconds_since(entry->seen_ns, now_ns), "moves",
			 (int)entry->moves, "held", now_ns < entry->hold_until_ns);
}

json_t *api_json_stats(const struct stats_reader *stats)
{
	struct stats_worker sum;

	stats_reader_total(stats, &sum);
	return json_fields(&sum, stats_worker_fields);
}
