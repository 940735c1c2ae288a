/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What was asked for. A change is first checked, then made in the data plane, then kept in the
 * state file, and only then answered: whoever has got an answer finds the change after any crash.
 */
#include "control/control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int control_fail(struct control_error *error, int code, const char *name, const char *parameter,
			const char *format, ...) printf_like(5, 6);

static int control_fail(struct control_error *error, int code, const char *name, const char *parameter,
			const char *format, ...)
{
	va_list arguments;

	error->name = name;
	snprintf(error->parameter, sizeof(error->parameter), "%s", parameter);
	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return code;
}

static int datapath_add_flow(void *arg, const struct dp_flow_add *flow, uint64_t *id)
{
	struct control *control = arg;
	int error = control->core == NULL ? -ENOTCONN : datapath_client_flow_add(control->core, flow, id);

	control->core_failed |= error == -ENOTCONN;
	return error;
}

static int datapath_del_flow(void *arg, uint64_t id)
{
	struct control *control = arg;
	int error = control->core == NULL ? -ENOTCONN : datapath_client_flow_del(control->core, id);

	control->core_failed |= error == -ENOTCONN;
	return error;
}

static int datapath_packet_out(void *arg, const uint32_t *ports, uint32_t port_count, const void *frame,
			       uint32_t length)
{
	struct control *control = arg;
	int error = control->core == NULL
			    ? -ENOTCONN
			    : datapath_client_packet_out(control->core, DP_PORTS_MAX, ports, port_count, frame, length);

	control->core_failed |= error == -ENOTCONN;
	return error;
}

static const struct forwarding_datapath control_datapath = {
	.flow_add = datapath_add_flow,
	.flow_del = datapath_del_flow,
	.packet_out = datapath_packet_out,
};

int control_init(struct control *control, const char *dir)
{
	int error;

	memset(control, 0, sizeof(*control));
	control->dir = dir;
	control->ready_fd = -1;
	control->drivers_fd = -1;
	TAILQ_INIT(&control->ports);
	error = loop_init(&control->loop);
	if (error < 0)
		return error;
	error = forwarding_init(&control->fwd, &control_datapath, control);
	if (error < 0) {
		loop_cleanup(&control->loop);
		return error;
	}
	control_core_init(control);
	return 0;
}

void control_cleanup(struct control *control)
{
	struct control_port *port;

	control_core_close(control);
	while ((port = TAILQ_FIRST(&control->ports)) != NULL) {
		TAILQ_REMOVE(&control->ports, port, next);
		if (port->listener >= 0)
			close(port->listener);
		free(port);
	}
	forwarding_cleanup(&control->fwd);
	loop_cleanup(&control->loop);
}

void control_start(struct control *control)
{
	control_core_start(control);
}

struct control_port *control_port_find(const struct control *control, const char *name)
{
	struct control_port *port;

	TAILQ_FOREACH(port, &control->ports, next) {
		if (strcmp(port->settings.wire.name, name) == 0)
			return port;
	}
	return NULL;
}

struct bridge *control_bridge_find(const struct control *control, const char *name)
{
	return forwarding_bridge_find(&control->fwd, name);
}

struct control_port *control_port_at(const struct control *control, uint32_t index)
{
	struct bridge_port *member = index < DP_PORTS_MAX ? control->fwd.ports[index] : NULL;

	return member == NULL ? NULL : container_of(member, struct control_port, member);
}

static void append_name(char *text, size_t size, const char *name)
{
	size_t used = strlen(text);

	snprintf(text + used, size - used, " %s", name);
}

int control_no_port(const struct control *control, const char *name, struct control_error *error)
{
	const struct control_port *port;
	char names[160] = "";

	TAILQ_FOREACH(port, &control->ports, next)
		append_name(names, sizeof(names), port->settings.wire.name);
	if (names[0] == '\0')
		return control_fail(error, -ENOENT, "PortNotFound", name,
				    "there is no port '%.40s'; there is none at all", name);
	return control_fail(error, -ENOENT, "PortNotFound", name, "there is no port '%.40s'; there are:%s", name,
			    names);
}

int control_no_bridge(const struct control *control, const char *name, struct control_error *error)
{
	const struct bridge *bridge;
	char names[160] = "";

	LIST_FOREACH(bridge, &control->fwd.bridges, next)
		append_name(names, sizeof(names), bridge->name);
	return control_fail(error, -ENOENT, "BridgeNotFound", name, "there is no bridge '%.40s'; there are:%s", name,
			    names[0] == '\0' ? " none" : names);
}

static int no_memory(struct control_error *error)
{
	return control_fail(error, -ENOMEM, "Failed", "", "no memory");
}

static int not_saved(const struct control *control, int code, struct control_error *error)
{
	return control_fail(error, code, "Failed", "", "cannot write %s/state.json: %s", control->dir, strerror(-code));
}

static struct control_port *port_new(struct control *control, const struct port_settings *settings)
{
	struct control_port *port = calloc(1, sizeof(*port));

	if (port == NULL)
		return NULL;
	port->settings = *settings;
	port->listener = -1;
	TAILQ_INSERT_TAIL(&control->ports, port, next);
	return port;
}

static void port_free(struct control *control, struct control_port *port)
{
	TAILQ_REMOVE(&control->ports, port, next);
	if (port->listener >= 0)
		close(port->listener);
	free(port);
}

int control_intend_port(struct control *control, const struct port_settings *settings)
{
	return port_new(control, settings) == NULL ? -ENOMEM : 0;
}

int control_intend_bridge(struct control *control, const struct bridge_settings *settings)
{
	return forwarding_bridge_add(&control->fwd, settings->name, settings->mac_age) == NULL ? -ENOMEM : 0;
}

static int check_new_port(const struct control *control, const struct port_settings *settings,
			  struct control_error *error)
{
	const struct dp_port_add *wire = &settings->wire;
	const struct control_port *other;
	unsigned int count = 0;

	TAILQ_FOREACH(other, &control->ports, next) {
		count++;
		if (strcmp(other->settings.wire.name, wire->name) == 0)
			return control_fail(error, -EEXIST, "PortExists", wire->name,
					    "there is a port '%s' already, at %s", wire->name,
					    other->settings.wire.path);
		if (strcmp(other->settings.wire.path, wire->path) == 0)
			return control_fail(error, -EEXIST, "PortExists", other->settings.wire.name,
					    "port '%s' is at %s already", other->settings.wire.name, wire->path);
	}
	other = control_driver_rival(control, settings);
	if (other != NULL)
		return control_fail(error, -EEXIST, "PortExists", other->settings.wire.name,
				    "the driver of port '%s' has the device '%.40s' already", other->settings.wire.name,
				    settings->driver.device);
	if (count >= DP_PORTS_MAX)
		return control_fail(error, -ENOSPC, "Failed", wire->name, "a switch has at most %d ports",
				    DP_PORTS_MAX);
	if (control_bridge_find(control, wire->owner) == NULL)
		return control_no_bridge(control, wire->owner, error);
	return 0;
}

static int port_failed(const struct dp_port_add *wire, int code, struct control_error *error)
{
	switch (code) {
	case -ENOTCONN:
		return control_fail(error, code, "DataPlaneDown", wire->name,
				    "the data plane (lasthop-core) does not answer; try again");
	case -EADDRINUSE:
		return control_fail(error, code, "SocketFailed", wire->name,
				    "%s is in use by another program, or is no socket: remove it "
				    "or choose another path",
				    wire->path);
	case -ENOENT:
		return control_fail(error, code, "SocketFailed", wire->name, "%s: its directory does not exist",
				    wire->path);
	case -EACCES:
	case -EPERM:
		return control_fail(error, code, "SocketFailed", wire->name,
				    "%s: its directory is not writable for the user of the switch "
				    "(uid %u)",
				    wire->path, (unsigned int)geteuid());
	default:
		return control_fail(error, code, "SocketFailed", wire->name, "%s: %s", wire->path, strerror(-code));
	}
}

/* With a path. */
static int complete(const struct control *control, struct port_settings *settings, struct control_error *error)
{
	struct settings_error why;
	int result = port_settings_complete(settings, control->dir, &why);

	return result < 0 ? control_fail(error, result, "InvalidSetting", why.parameter, "%s", why.text) : 0;
}

int control_port_add(struct control *control, const struct port_settings *asked, struct control_error *error)
{
	struct port_settings whole = *asked, *settings = &whole;
	struct control_port *port;
	int result = complete(control, settings, error);

	if (result == 0)
		result = check_new_port(control, settings, error);
	if (result < 0)
		return result;
	if (control->core == NULL)
		return port_failed(&settings->wire, -ENOTCONN, error);
	port = port_new(control, settings);
	if (port == NULL)
		return no_memory(error);
	result = control_port_attach(control, port);
	if (result < 0) {
		port_failed(&settings->wire, result, error);
	} else {
		result = state_file_save(control);
		if (result < 0)
			not_saved(control, result, error);
	}
	if (result < 0) {
		control_port_detach(control, port);
		port_free(control, port);
		return result;
	}
	if (driver_is_supervised(&settings->driver))
		control_drivers_changed(control);
	control_ports_watch(control);
	return 0;
}

int control_port_del(struct control *control, const char *name, struct control_error *error)
{
	struct control_port *port = control_port_find(control, name);
	int result;

	if (port == NULL)
		return control_no_port(control, name, error);
	TAILQ_REMOVE(&control->ports, port, next);
	result = state_file_save(control);
	TAILQ_INSERT_TAIL(&control->ports, port, next);
	if (result < 0)
		return not_saved(control, result, error);
	/* First, so that its driver is asked to end before its port hangs up. */
	if (driver_is_supervised(&port->settings.driver))
		control_drivers_changed(control);
	control_port_detach(control, port);
	port_free(control, port);
	return 0;
}

int control_bridge_add(struct control *control, const struct bridge_settings *settings, struct control_error *error)
{
	struct bridge *bridge = control_bridge_find(control, settings->name);
	int result;

	if (bridge != NULL)
		return control_fail(error, -EEXIST, "BridgeExists", settings->name, "there is a bridge '%s' already",
				    settings->name);
	bridge = forwarding_bridge_add(&control->fwd, settings->name, settings->mac_age);
	if (bridge == NULL)
		return no_memory(error);
	result = state_file_save(control);
	if (result < 0) {
		forwarding_bridge_del(&control->fwd, bridge);
		return not_saved(control, result, error);
	}
	return 0;
}

int control_bridge_del(struct control *control, const char *name, struct control_error *error)
{
	struct bridge *bridge = control_bridge_find(control, name);
	const struct control_port *port;
	int result;

	if (bridge == NULL)
		return control_no_bridge(control, name, error);
	TAILQ_FOREACH(port, &control->ports, next) {
		if (strcmp(port->settings.wire.owner, name) == 0)
			return control_fail(error, -EBUSY, "BridgeBusy", name,
					    "bridge '%s' still has ports, '%s' for one: delete "
					    "them first",
					    name, port->settings.wire.name);
	}
	LIST_REMOVE(bridge, next);
	result = state_file_save(control);
	LIST_INSERT_HEAD(&control->fwd.bridges, bridge, next);
	if (result < 0)
		return not_saved(control, result, error);
	forwarding_bridge_del(&control->fwd, bridge);
	return 0;
}
