/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ports with driver domains. Which there are is in the state file; whoever supervises the drivers (`lasthop run`) is
 * only told that it has changed. How they are is in a file of the supervisor's, read when somebody asks. What a driver
 * says of itself comes from the data plane, where it came through the driver's ring.
 */
#include "control/control.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPORT_FILE "drivers.json"

void control_drivers_changed(const struct control *control)
{
	/* A full pipe has told it already. */
	if (control->drivers_fd >= 0 && write(control->drivers_fd, "\n", 1) < 0 && errno != EAGAIN)
		log_warn("who supervises the drivers cannot be told: %s", strerror(errno));
}

json_t *control_drivers_report(const struct control *control)
{
	char path[PATH_MAX];

	if (control->drivers_fd < 0 ||
	    snprintf(path, sizeof(path), "%s/" REPORT_FILE, control->dir) >= (int)sizeof(path))
		return NULL;
	return json_load_file(path, 0, NULL);
}

int control_driver_socket_dir(const struct control *control, const struct control_port *port)
{
	char path[PATH_MAX];
	size_t length;

	length = (size_t)snprintf(path, sizeof(path), "%s/" PORT_SOCKETS_DIR, control->dir);
	if (length >= sizeof(path))
		return -ENAMETOOLONG;
	if (strncmp(port->settings.wire.path, path, length) != 0 || port->settings.wire.path[length] != '/')
		return 0;
	/* Drivers come to their ports as whoever started the switch. */
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

const struct control_port *control_driver_rival(const struct control *control, const struct port_settings *settings)
{
	const struct control_port *port;

	if (!driver_is_supervised(&settings->driver))
		return NULL;
	TAILQ_FOREACH(port, &control->ports, next) {
		if (driver_settings_same_device(&port->settings.driver, &settings->driver))
			return port;
	}
	return NULL;
}
