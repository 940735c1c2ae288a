/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ports with driver domains, for `lasthop port`: the short forms of `port add`, and what `port show` tells of a driver.
 */
#ifndef LASTHOP_CLI_PORT_DRIVER_H
#define LASTHOP_CLI_PORT_DRIVER_H

#include "cli/cli.h"

/* What may stand behind `port add`; NULL: was not given. */
struct port_driver_options {
	const char *tap, *af_xdp, *af_packet, *dpdk; /* the device; one of them */
	const char *name, *netns, *queues, *bridge, *mtu, *driver_option;
};

/* Whether any of them was given. */
bool port_driver_asked(const struct port_driver_options *options);

/* The port they mean, in the API's form; or NULL, and what is wrong has been said. */
json_t *port_driver_to_json(const struct port_driver_options *options);

/* Waits (bounded) for the new port's driver to report, and says so if it does not. CLI_OK in any case. */
int port_driver_wait(const struct cli *cli, const char *port);

/* "tap tap0", or "-"; `driver` may be NULL. */
void port_driver_label(const json_t *driver, char *text, size_t size);
/* Lines of `port show --detail`. */
void port_driver_print(const json_t *driver);

#endif
