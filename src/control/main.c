/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lasthop-control: starts the control plane and its API in DIR and runs until SIGTERM or SIGINT.
 *
 * It leaves the ports' sockets and the state file where they are: the data plane goes on forwarding
 * without it, and its successor carries on from them.
 */
#include "control/api.h"
#include "control/control.h"
#include "lib/log.h"
#include "lib/program.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "usage: lasthop-control --dir DIR [--port PORT]... [--bridge BRIDGE]...\n"
			    "\n"
			    "The control plane of the switch whose files are in DIR. Started by `lasthop run`.\n"
			    "\n"
			    "  --dir DIR         where datapath.sock is and api.sock will be\n"
			    "  --port PORT       NAME=PATH[,option=value...]; see lasthop(1)\n"
			    "  --bridge BRIDGE   NAME[,mac-age=SECONDS]\n"
			    "  --ready-fd FD     write a line there once all ports are there\n"
			    "  --drivers-fd FD   a pipe: write there when ports with drivers come or go\n"
			    "  --log-level N     0 errors, 1 warnings, 2 information (default), 3 debugging\n"
			    "\n"
			    "If DIR/state.json is there, it says which ports and bridges there are, and the\n"
			    "options do not.\n";

static int intend_default_bridge(struct control *control, const char *name)
{
	struct bridge_settings bridge = {.mac_age = BRIDGE_MAC_AGE_DEFAULT};

	if (control_bridge_find(control, name) != NULL)
		return 0;
	snprintf(bridge.name, sizeof(bridge.name), "%s", name);
	return control_intend_bridge(control, &bridge);
}

static int intend_bridge(struct control *control, const char *text)
{
	struct bridge_settings bridge;
	struct settings_error error;

	if (bridge_settings_parse(&bridge, text, &error) < 0) {
		log_error("--bridge %s: %s", text, error.text);
		return -EINVAL;
	}
	if (control_bridge_find(control, bridge.name) != NULL) {
		log_error("--bridge %s: there is one of that name already", text);
		return -EEXIST;
	}
	return control_intend_bridge(control, &bridge);
}

static int intend_port(struct control *control, const char *text)
{
	struct port_settings port;
	struct settings_error error;
	const struct control_port *other;
	int result;

	if (port_settings_parse(&port, text, &error) < 0) {
		log_error("--port %s: %s", text, error.text);
		return -EINVAL;
	}
	if (port_settings_complete(&port, control->dir, &error) < 0) {
		log_error("--port %s: %s", text, error.text);
		return -EINVAL;
	}
	other = control_driver_rival(control, &port);
	if (other != NULL) {
		log_error("--port %s: the driver of port %s has that device", text, other->settings.wire.name);
		return -EEXIST;
	}
	TAILQ_FOREACH(other, &control->ports, next) {
		if (strcmp(other->settings.wire.name, port.wire.name) != 0 &&
		    strcmp(other->settings.wire.path, port.wire.path) != 0)
			continue;
		log_error("--port %s: port %s, at %s, has the same %s", text, other->settings.wire.name,
			  other->settings.wire.path,
			  strcmp(other->settings.wire.name, port.wire.name) == 0 ? "name" : "path");
		return -EEXIST;
	}
	result = intend_default_bridge(control, port.wire.owner);
	return result < 0 ? result : control_intend_port(control, &port);
}

enum { OPTION_DIR = 1, OPTION_PORT, OPTION_BRIDGE, OPTION_READY_FD, OPTION_DRIVERS_FD, OPTION_LOG_LEVEL, OPTION_HELP };

static const struct option options[] = {
	{"dir", required_argument, NULL, OPTION_DIR},
	{"port", required_argument, NULL, OPTION_PORT},
	{"bridge", required_argument, NULL, OPTION_BRIDGE},
	{"ready-fd", required_argument, NULL, OPTION_READY_FD},
	{"drivers-fd", required_argument, NULL, OPTION_DRIVERS_FD},
	{"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0},
};

/* Bridges before ports: a port may name one that comes later. */
static int intend_all(struct control *control, int argc, char **argv)
{
	int option, error = 0;

	optind = 1;
	while (error == 0 && (option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (option == OPTION_BRIDGE)
			error = intend_bridge(control, optarg);
	}
	if (error == 0)
		error = intend_default_bridge(control, BRIDGE_DEFAULT);
	optind = 1;
	while (error == 0 && (option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (option == OPTION_PORT)
			error = intend_port(control, optarg);
	}
	return error;
}

static int load(struct control *control, int argc, char **argv)
{
	int error = state_file_load(control);

	if (error == -ENOENT) {
		error = intend_all(control, argc, argv);
		if (error == 0)
			error = state_file_save(control);
		if (error < 0 && error != -EINVAL && error != -EEXIST)
			log_error("%s: %s", control->dir, strerror(-error));
		return error;
	}
	control->tolerant = true;
	return error;
}

static int run(struct control *control, struct api *api)
{
	struct program_end end;
	int error = program_end_by_signals(&end, &control->loop);

	if (error == 0)
		error = api_open(api, control);
	if (error < 0) {
		log_error("%s/%s: %s", control->dir, API_SOCKET_NAME, strerror(-error));
		return 1;
	}
	control_start(control);
	error = loop_run(&control->loop);
	api_close(api);
	if (error < 0)
		log_error("event loop: %s", strerror(-error));
	return error < 0 ? 1 : control->exit_status;
}

int main(int argc, char **argv)
{
	static struct control control;
	static struct api api;
	const char *dir = NULL;
	int level = LOG_INFO, ready_fd = -1, drivers_fd = -1, status = 1, option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case OPTION_DIR:
			dir = optarg;
			break;
		case OPTION_READY_FD:
			ready_fd = (int)strtol(optarg, NULL, 10);
			break;
		case OPTION_DRIVERS_FD:
			drivers_fd = (int)strtol(optarg, NULL, 10);
			break;
		case OPTION_LOG_LEVEL:
			level = (int)strtol(optarg, NULL, 10);
			break;
		case OPTION_HELP:
			fputs(usage, stdout);
			return 0;
		case '?':
			fputs(usage, stderr);
			return 2;
		default:
			break;
		}
	}
	if (dir == NULL || optind < argc) {
		fputs(usage, stderr);
		return 2;
	}
	log_init("lasthop-control", level);
	if (control_init(&control, dir) < 0) {
		log_error("no memory");
		return 1;
	}
	control.ready_fd = ready_fd;
	control.drivers_fd = drivers_fd;
	if (load(&control, argc, argv) == 0)
		status = run(&control, &api);
	control_cleanup(&control);
	return status;
}
