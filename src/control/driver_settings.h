/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be set about a port's driver domain: which kind it is of, which device it owns, where that is. A part of
 * the port's settings (control/settings.h), with the same three forms; the data plane gets none of it but a flag.
 *
 * Pure functions, any thread.
 */
#ifndef LASTHOP_CONTROL_DRIVER_SETTINGS_H
#define LASTHOP_CONTROL_DRIVER_SETTINGS_H

#include "lib/compiler.h"

#include <jansson.h>

struct settings_error;

/* X(constant's suffix, name) */
#define PORT_DRIVERS(X)           \
	X(TAP, "tap")             \
	X(AF_XDP, "af_xdp")       \
	X(AF_PACKET, "af_packet") \
	X(DPDK, "dpdk")           \
	X(EXTERNAL, "external") /* somebody else starts it */

enum port_driver {
	PORT_DRIVER_NONE = 0,
#define X(suffix, name) PORT_DRIVER_##suffix,
	PORT_DRIVERS(X)
#undef X
		PORT_DRIVER_COUNT
};

/* Sizes with the NUL. */
#define DRIVER_DEVICE_SIZE    256
#define DRIVER_INTERFACE_SIZE 16 /* of a device that is a kernel's interface */
#define DRIVER_NETNS_SIZE     108
#define DRIVER_OPTION_SIZE    128
#define DRIVER_OPTIONS_MAX    16

/* The one option of the command line's form that may be given again. */
#define DRIVER_OPTION_KEY "driver-option"

struct driver_settings {
	enum port_driver kind;
	char device[DRIVER_DEVICE_SIZE]; /* may be "" if external */
	char netns[DRIVER_NETNS_SIZE];   /* name or absolute path; "": ours */
	unsigned int option_count;
	char options[DRIVER_OPTIONS_MAX][DRIVER_OPTION_SIZE]; /* "key=value" */
};

/* "tap"; NULL for none. */
const char *port_driver_name(enum port_driver kind);

/* A driver that `lasthop run` starts and watches. */
static inline bool driver_is_supervised(const struct driver_settings *driver)
{
	return driver->kind != PORT_DRIVER_NONE && driver->kind != PORT_DRIVER_EXTERNAL;
}

/* From a port's member "driver", which may be NULL or null. 0 or -EINVAL, with the reason. */
int driver_settings_from_json(struct driver_settings *driver, const json_t *object, struct settings_error *error)
	must_check;
/* NULL: there is no driver, or no memory. */
json_t *driver_settings_to_json(const struct driver_settings *driver);

/* One "key=value" of the command line's form, put into a port's member "driver". False: it is none of ours. */
bool driver_settings_option(json_t *port, const char *key, const char *value);

bool driver_settings_equal(const struct driver_settings *a, const struct driver_settings *b);
/* Whether both own the same device. */
bool driver_settings_same_device(const struct driver_settings *a, const struct driver_settings *b);

#endif
