/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DIR/state.json: what was asked for, in the API's own shapes. It is replaced by renaming, so a
 * reader finds the old one or the new one. It lives as long as the switch runs: `lasthop run`
 * begins without one and removes it at its end, and takes from it which sockets to remove.
 */
#include "control/control.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATE_VERSION 1

static int state_path(char *path, const char *dir, const char *name)
{
	return snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int load_bridges(struct control *control, const json_t *bridges)
{
	for (size_t i = 0; i < json_array_size(bridges); i++) {
		struct bridge_settings settings;
		struct settings_error error;
		int result = bridge_settings_from_json(&settings, json_array_get(bridges, i), &error);

		if (result == 0 && control_bridge_find(control, settings.name) == NULL)
			result = control_intend_bridge(control, &settings);
		if (result < 0)
			return result;
	}
	return 0;
}

static int load_ports(struct control *control, const json_t *ports)
{
	for (size_t i = 0; i < json_array_size(ports); i++) {
		struct port_settings settings;
		struct settings_error error;
		int result = port_settings_from_json(&settings, json_array_get(ports, i), &error);

		if (result == 0)
			result = port_settings_complete(&settings, control->dir, &error);
		if (result == 0 && control_port_find(control, settings.wire.name) == NULL)
			result = control_bridge_find(control, settings.wire.owner) == NULL
					 ? -EINVAL
					 : control_intend_port(control, &settings);
		if (result < 0)
			return result;
	}
	return 0;
}

int state_file_load(struct control *control)
{
	char path[PATH_MAX];
	json_error_t json_error;
	json_t *state;
	int error = state_path(path, control->dir, "state.json");

	if (error < 0)
		return error;
	if (access(path, F_OK) < 0)
		return -errno;
	state = json_load_file(path, 0, &json_error);
	if (state == NULL) {
		log_error("%s:%d: %s; restore it, or start the switch anew, which begins without it", path,
			  json_error.line, json_error.text);
		return -EINVAL;
	}
	if (json_integer_value(json_object_get(state, "version")) != STATE_VERSION)
		error = -EINVAL;
	else
		error = load_bridges(control, json_object_get(state, "bridges"));
	if (error == 0)
		error = load_ports(control, json_object_get(state, "ports"));
	if (error < 0)
		log_error("%s: not a state file of this version", path);
	json_decref(state);
	return error;
}

static json_t *state_to_json(const struct control *control)
{
	json_t *bridges = json_array(), *ports = json_array();
	const struct bridge *bridge;
	const struct control_port *port;

	LIST_FOREACH(bridge, &control->fwd.bridges, next) {
		struct bridge_settings settings = {.mac_age = bridge->mac_age_s};

		memcpy(settings.name, bridge->name, sizeof(settings.name));
		json_array_append_new(bridges, bridge_settings_to_json(&settings));
	}
	TAILQ_FOREACH(port, &control->ports, next)
		json_array_append_new(ports, port_settings_to_json(&port->settings));
	return json_pack("{s:i, s:o, s:o}", "version", STATE_VERSION, "bridges", bridges, "ports", ports);
}

int state_file_save(const struct control *control)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	json_t *state;
	int error = state_path(path, control->dir, "state.json");

	if (error == 0)
		error = state_path(temporary, control->dir, ".state.json.new");
	if (error < 0)
		return error;
	state = state_to_json(control);
	if (state == NULL)
		return -ENOMEM;
	errno = EIO;
	if (json_dump_file(state, temporary, JSON_INDENT(2)) < 0 || rename(temporary, path) < 0)
		error = -errno;
	json_decref(state);
	return error;
}
