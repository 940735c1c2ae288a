/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The type DriverStatus of io.lasthop.Control.varlink: settings, what the supervisor reports, and what the driver says
 * of itself, which is shown as such.
 */
#include "control/api.h"
#include "lib/clock.h"

#include <string.h>

/* A driver may say any number, and JSON's are signed. */
static json_t *json_count(uint64_t value)
{
	return json_integer((json_int_t)min(value, (uint64_t)INT64_MAX));
}

static const json_t *find_report(const json_t *report, const char *port)
{
	const json_t *list = json_object_get(report, "drivers");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *driver = json_array_get(list, i);
		const char *name = json_string_value(json_object_get(driver, "port"));

		if (name != NULL && strcmp(name, port) == 0)
			return driver;
	}
	return NULL;
}

static void set_process(json_t *object, const struct control_port *port, bool supervised, const json_t *report)
{
	static const char *const members[] = {"state", "pid", "restarts", "last_end"};
	const json_t *found = find_report(report, port->settings.wire.name);

	json_object_set_new(object, "restarts", json_integer(0));
	if (!driver_is_supervised(&port->settings.driver)) {
		json_object_set_new(object, "state", json_string("external"));
		if (port->info.peer_pid != 0)
			json_object_set_new(object, "pid", json_count(port->info.peer_pid));
		return;
	}
	json_object_set_new(object, "state", json_string(supervised ? "waiting" : "unsupervised"));
	for (size_t i = 0; i < ARRAY_SIZE(members) && found != NULL; i++) {
		json_t *value = json_object_get(found, members[i]);

		if (value != NULL)
			json_object_set(object, members[i], value);
	}
}

static json_t *json_counters(const struct driver_status *status)
{
	json_t *drops = json_object();

	for (unsigned int i = 0; i < DRIVER_DROP_COUNT; i++) {
		if (status->drops[i] != 0)
			json_object_set_new(drops, driver_drop_name(i), json_count(status->drops[i]));
	}
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "rx_packets", json_count(status->rx_packets), "rx_bytes",
			 json_count(status->rx_bytes), "tx_packets", json_count(status->tx_packets), "tx_bytes",
			 json_count(status->tx_bytes), "rx_coalesced", json_count(status->rx_coalesced), "drops",
			 drops);
}

static void set_status(json_t *object, const struct dp_port_info *info, uint64_t now_ns)
{
	const struct driver_status *status = &info->driver;
	uint64_t age = now_ns > info->driver_seen_ns ? now_ns - info->driver_seen_ns : 0;

	json_object_set_new(object, "heartbeat_age_ms", json_count(age / NS_PER_MS));
	json_object_set_new(object, "link", json_string(status->link ? "up" : "down"));
	json_object_set_new(object, "reported_kind", json_string(status->kind));
	json_object_set_new(object, "reported_device", json_string(status->device));
	json_object_set_new(object, "mode", json_string(status->mode));
	json_object_set_new(object, "queues", json_count(status->queues));
	if (status->mtu != 0)
		json_object_set_new(object, "mtu", json_count(status->mtu));
	if (status->speed_mbps != 0)
		json_object_set_new(object, "speed_mbps", json_count(status->speed_mbps));
	json_object_set_new(object, "counters", json_counters(status));
}

json_t *api_json_driver(const struct control_port *port, bool supervised, const json_t *report)
{
	json_t *object = driver_settings_to_json(&port->settings.driver);

	if (object == NULL)
		return NULL;
	set_process(object, port, supervised, report);
	if (port->present && port->info.driver_seen_ns != 0)
		set_status(object, &port->info, clock_now_ns());
	return object;
}
