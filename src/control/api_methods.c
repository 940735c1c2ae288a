/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The methods of io.lasthop.Control and org.varlink.service: one row a method, with the parameters
 * that it knows. Nothing is done before all parameters have been checked.
 */
#include "control/api.h"
#include "control/flow_book.h"
#include "control/varlink_text.h"
#include "lib/clock.h"
#include "proto/stats_reader.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SERVICE_INTERFACE "org.varlink.service"

/* Each method returns its answer's parameters; NULL: with `error` filled. */
struct api_method {
	const char *name;
	const char *parameters[3]; /* those that it knows */
	json_t *(*run)(struct control *control, const json_t *parameters, struct control_error *error);
};

static json_t *fail(struct control_error *error, const char *name, const char *parameter, const char *text)
{
	error->name = name;
	snprintf(error->parameter, sizeof(error->parameter), "%s", parameter);
	snprintf(error->text, sizeof(error->text), "%s", text);
	return NULL;
}

static json_t *invalid(struct control_error *error, const struct settings_error *why)
{
	return fail(error, "InvalidSetting", why->parameter, why->text);
}

/* A string, or NULL if it is left out; false: it is something else. */
static bool get_string(const json_t *parameters, const char *name, const char **value, struct control_error *error)
{
	const json_t *member = json_object_get(parameters, name);

	*value = json_string_value(member);
	if (member == NULL || json_is_null(member) || *value != NULL)
		return true;
	fail(error, "InvalidSetting", name, "a string is needed here");
	return false;
}

/* A name that must be there. */
static const char *get_name(const json_t *parameters, struct control_error *error)
{
	const char *name;

	if (!get_string(parameters, "name", &name, error))
		return NULL;
	if (name == NULL)
		fail(error, "InvalidSetting", "name", "a name is needed here");
	return name;
}

static json_t *data_plane_down(struct control_error *error)
{
	return fail(error, "DataPlaneDown", "", "the data plane (lasthop-core) does not answer; try again");
}

static json_t *get_version(struct control *control, const json_t *parameters, struct control_error *error)
{
	const struct dp_hello *hello = &control->hello;
	json_t *answer = json_pack("{s:s}", "version", LASTHOP_VERSION);

	(void)parameters;
	(void)error;
	if (control->core != NULL)
		json_object_set_new(answer, "data_plane",
				    json_pack("{s:i, s:i, s:i, s:i}", "pid", (int)hello->pid, "workers",
					      (int)hello->workers, "ports_max", (int)hello->ports_max, "flows_max",
					      (int)hello->flows_max));
	return answer;
}

static json_t *list_bridges(struct control *control, const json_t *parameters, struct control_error *error)
{
	const struct bridge *bridge;
	json_t *list = json_array();

	(void)parameters;
	(void)error;
	LIST_FOREACH(bridge, &control->fwd.bridges, next)
		json_array_append_new(list, api_json_bridge(control, bridge));
	return json_pack("{s:o}", "bridges", list);
}

static json_t *add_bridge(struct control *control, const json_t *parameters, struct control_error *error)
{
	struct bridge_settings settings;
	struct settings_error why;

	if (bridge_settings_from_json(&settings, json_object_get(parameters, "bridge"), &why) < 0)
		return invalid(error, &why);
	return control_bridge_add(control, &settings, error) < 0 ? NULL : json_object();
}

static json_t *delete_bridge(struct control *control, const json_t *parameters, struct control_error *error)
{
	const char *name = get_name(parameters, error);

	if (name == NULL || control_bridge_del(control, name, error) < 0)
		return NULL;
	return json_object();
}

static json_t *list_ports(struct control *control, const json_t *parameters, struct control_error *error)
{
	struct stats_reader stats;
	const struct control_port *port;
	const char *name;
	json_t *list, *report;
	bool counted;

	if (!get_string(parameters, "name", &name, error))
		return NULL;
	if (name != NULL && control_port_find(control, name) == NULL) {
		control_no_port(control, name, error);
		return NULL;
	}
	control_core_read_ports(control);
	counted = stats_reader_open(&stats, control->dir) == 0;
	report = control_drivers_report(control);
	list = json_array();
	TAILQ_FOREACH(port, &control->ports, next) {
		json_t *row;

		if (name != NULL && strcmp(name, port->settings.wire.name) != 0)
			continue;
		row = api_json_port(port, counted ? &stats : NULL);
		if (port->settings.driver.kind != PORT_DRIVER_NONE)
			json_object_set_new(row, "driver", api_json_driver(port, control->drivers_fd >= 0, report));
		json_array_append_new(list, row);
	}
	json_decref(report);
	if (counted)
		stats_reader_close(&stats);
	return json_pack("{s:o}", "ports", list);
}

static json_t *add_port(struct control *control, const json_t *parameters, struct control_error *error)
{
	struct port_settings settings;
	struct settings_error why;

	if (port_settings_from_json(&settings, json_object_get(parameters, "port"), &why) < 0)
		return invalid(error, &why);
	return control_port_add(control, &settings, error) < 0 ? NULL : json_object();
}

static json_t *delete_port(struct control *control, const json_t *parameters, struct control_error *error)
{
	const char *name = get_name(parameters, error);

	if (name == NULL || control_port_del(control, name, error) < 0)
		return NULL;
	return json_object();
}

/* What a list is limited to; false: with `error` filled. */
static bool get_filter(struct control *control, const json_t *parameters, const struct bridge **bridge,
		       const struct bridge_port **port, struct control_error *error)
{
	const struct control_port *found = NULL;
	const char *bridge_name, *port_name;

	*bridge = NULL;
	*port = NULL;
	if (!get_string(parameters, "bridge", &bridge_name, error) ||
	    !get_string(parameters, "port", &port_name, error))
		return false;
	if (bridge_name != NULL) {
		*bridge = control_bridge_find(control, bridge_name);
		if (*bridge == NULL) {
			control_no_bridge(control, bridge_name, error);
			return false;
		}
	}
	if (port_name != NULL) {
		found = control_port_find(control, port_name);
		if (found == NULL) {
			control_no_port(control, port_name, error);
			return false;
		}
		*port = &found->member;
	}
	return true;
}

static json_t *list_flows(struct control *control, const json_t *parameters, struct control_error *error)
{
	const struct bridge *bridge;
	const struct bridge_port *port;
	const struct flow_record *record = NULL;
	json_t *list;

	if (!get_filter(control, parameters, &bridge, &port, error))
		return NULL;
	if (control_core_sweep(control) < 0)
		return data_plane_down(error);
	list = json_array();
	while ((record = flow_book_next(&control->fwd, record)) != NULL) {
		if ((bridge == NULL || record->port->bridge == bridge) && (port == NULL || record->port == port))
			json_array_append_new(list, api_json_flow(control, record, clock_now_ns()));
	}
	return json_pack("{s:o}", "flows", list);
}

static json_t *list_macs(struct control *control, const json_t *parameters, struct control_error *error)
{
	const struct bridge *bridge;
	const struct bridge_port *port;
	json_t *list;

	if (!get_filter(control, parameters, &bridge, &port, error))
		return NULL;
	list = json_array();
	for (uint32_t i = 0; i < DP_PORTS_MAX; i++) {
		const struct bridge_port *member = control->fwd.ports[i];
		const struct mac_entry *entry;

		if (member == NULL || (port != NULL && port != member) || (bridge != NULL && bridge != member->bridge))
			continue;
		LIST_FOREACH(entry, &member->macs.entries, on_port)
			json_array_append_new(list, api_json_mac(control, member->bridge, entry, clock_now_ns()));
	}
	return json_pack("{s:o}", "macs", list);
}

static json_t *get_stats(struct control *control, const json_t *parameters, struct control_error *error)
{
	struct stats_reader stats;
	json_t *answer;

	(void)parameters;
	if (stats_reader_open(&stats, control->dir) < 0)
		return data_plane_down(error);
	answer = json_pack("{s:o, s:i, s:I, s:b, s:I, s:I}", "total", api_json_stats(&stats), "workers",
			   (int)stats.workers, "faults", (json_int_t)load_relaxed(&stats.header->faults), "vm_states",
			   load_relaxed(&stats.header->vm_states) != 0, "moves", (json_int_t)control->fwd.moves,
			   "uptime", (json_int_t)((clock_now_ns() - load_relaxed(&stats.header->start_ns)) / NS_PER_S));
	stats_reader_close(&stats);
	return answer;
}

static json_t *get_info(struct control *control, const json_t *parameters, struct control_error *error)
{
	(void)control;
	(void)parameters;
	(void)error;
	return json_pack("{s:s, s:s, s:s, s:s, s:[s, s]}", "vendor", "lasthop", "product", "lasthop", "version",
			 LASTHOP_VERSION, "url", "", "interfaces", SERVICE_INTERFACE, API_INTERFACE);
}

static json_t *get_interface(struct control *control, const json_t *parameters, struct control_error *error)
{
	const char *interface;

	(void)control;
	if (!get_string(parameters, "interface", &interface, error))
		return NULL;
	if (interface != NULL && strcmp(interface, API_INTERFACE) == 0)
		return json_pack("{s:s}", "description", varlink_control_text);
	if (interface != NULL && strcmp(interface, SERVICE_INTERFACE) == 0)
		return json_pack("{s:s}", "description", varlink_service_text);
	return fail(error, SERVICE_INTERFACE ".InterfaceNotFound", interface == NULL ? "" : interface,
		    "there is no such interface");
}

static const struct api_method methods[] = {
	{API_INTERFACE ".GetVersion", {NULL}, get_version},
	{API_INTERFACE ".ListBridges", {NULL}, list_bridges},
	{API_INTERFACE ".AddBridge", {"bridge"}, add_bridge},
	{API_INTERFACE ".DeleteBridge", {"name"}, delete_bridge},
	{API_INTERFACE ".ListPorts", {"name"}, list_ports},
	{API_INTERFACE ".AddPort", {"port"}, add_port},
	{API_INTERFACE ".DeletePort", {"name"}, delete_port},
	{API_INTERFACE ".ListFlows", {"bridge", "port"}, list_flows},
	{API_INTERFACE ".ListMacs", {"bridge", "port"}, list_macs},
	{API_INTERFACE ".GetStats", {NULL}, get_stats},
	{SERVICE_INTERFACE ".GetInfo", {NULL}, get_info},
	{SERVICE_INTERFACE ".GetInterfaceDescription", {"interface"}, get_interface},
};

static const struct api_method *find_method(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		if (strcmp(methods[i].name, name) == 0)
			return &methods[i];
	}
	return NULL;
}

/* The first parameter that the method does not know; NULL: there is none. */
static const char *unknown_parameter(const struct api_method *method, json_t *parameters)
{
	for (void *i = json_object_iter(parameters); i != NULL; i = json_object_iter_next(parameters, i)) {
		const char *key = json_object_iter_key(i);
		bool known = false;

		for (size_t j = 0; j < ARRAY_SIZE(method->parameters) && method->parameters[j] != NULL; j++)
			known |= strcmp(method->parameters[j], key) == 0;
		if (!known)
			return key;
	}
	return NULL;
}

/* Errors of our interface have short names inside. */
static char *format_error(const struct control_error *error)
{
	char name[96];

	if (strchr(error->name, '.') != NULL)
		return api_answer_format(error->name, json_pack("{s:s}", "interface", error->parameter));
	snprintf(name, sizeof(name), "%s.%s", API_INTERFACE, error->name);
	return api_answer_format(name, json_pack("{s:s, s:s}", "name", error->parameter, "message", error->text));
}

char *api_execute(struct control *control, const struct api_call *call)
{
	const struct api_method *method = find_method(call->method);
	struct control_error error = {.name = "Failed", .text = "no memory"};
	const char *unknown;
	json_t *answer;

	if (method == NULL)
		return api_answer_format(SERVICE_INTERFACE ".MethodNotFound",
					 json_pack("{s:s}", "method", call->method));
	unknown = unknown_parameter(method, call->parameters);
	if (unknown != NULL)
		return api_answer_format(SERVICE_INTERFACE ".InvalidParameter",
					 json_pack("{s:s}", "parameter", unknown));
	answer = method->run(control, call->parameters, &error);
	control_core_check(control);
	return answer != NULL ? api_answer_format(NULL, answer) : format_error(&error);
}
