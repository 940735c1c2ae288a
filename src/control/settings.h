/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be set about a port and a bridge, in its three forms: the command line's
 * ("a=/run/a.sock,mode=client,queues=2"), the API's and the state file's (JSON), and the data
 * plane's (struct dp_port_add). Whatever comes from outside is checked here, once.
 *
 * Pure functions, any thread. They return 0 or -EINVAL, with the reason in struct settings_error.
 */
#ifndef LASTHOP_CONTROL_SETTINGS_H
#define LASTHOP_CONTROL_SETTINGS_H

#include "control/driver_settings.h"
#include "control/features.h"
#include "proto/datapath_proto.h"

#define BRIDGE_DEFAULT   "br0"
#define PORT_PAIRS_MAX   16
#define PORT_MTU_MIN     68
#define PORT_WAIT_US_MAX 1000000
#define PORT_SOCKETS_DIR "ports" /* in the switch's directory: default sockets of ports with drivers */

struct settings_error {
	char parameter[DP_NAME_SIZE]; /* the API's name of it */
	char text[256];               /* what is wrong and what would be right */
};

struct port_settings {
	/* owner: the bridge's name. A path of "" is DIR/ports/NAME.sock, of a port with a driver: see below. */
	struct dp_port_add wire;
	uint32_t mac_limit;
	struct driver_settings driver;
};

struct bridge_settings {
	char name[DP_NAME_SIZE];
	uint32_t mac_age; /* seconds */
};

/* Fills `error`; returns -EINVAL. */
int settings_fail(struct settings_error *error, const char *parameter, const char *format, ...) printf_like(3, 4);
/* Whether it is an object with no other members than `known`, which ends with NULL. */
int settings_check_members(const json_t *settings, const char *const *known, struct settings_error *error) must_check;

/* Whether it may name a port or a bridge; the reason under `parameter` if not. */
int settings_check_name(const char *parameter, const char *name, struct settings_error *error) must_check;

/* A path that does not begin with a slash is taken from the current directory. */
int port_settings_parse(struct port_settings *port, const char *text, struct settings_error *error) must_check;
int bridge_settings_parse(struct bridge_settings *bridge, const char *text, struct settings_error *error) must_check;

/* Gives a port without a path the default one in the switch's directory. */
int port_settings_complete(struct port_settings *port, const char *dir, struct settings_error *error) must_check;

/* Unknown members are an error. */
int port_settings_from_json(struct port_settings *port, const json_t *object, struct settings_error *error) must_check;
int bridge_settings_from_json(struct bridge_settings *bridge, const json_t *object, struct settings_error *error)
	must_check;

/* NULL: no memory. */
json_t *port_settings_to_json(const struct port_settings *port);
json_t *bridge_settings_to_json(const struct bridge_settings *bridge);

#endif
