/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control plane of one switch: what was asked for (bridges, ports), the connection to the data
 * plane, and keeping the second in line with the first. Whatever was asked for outlives both
 * processes: it is in DIR/state.json, and the data plane is brought to it after every connection.
 *
 * Everything here belongs to the thread that runs the loop. Functions return 0 or a negative errno;
 * those that the API calls also say in struct control_error what was wrong, and then nothing has
 * changed.
 */
#ifndef LASTHOP_CONTROL_CONTROL_H
#define LASTHOP_CONTROL_CONTROL_H

#include "control/forwarding.h"
#include "control/settings.h"
#include "lib/loop.h"
#include "proto/datapath_client.h"

#include <sys/queue.h>

struct control_error {
	const char *name; /* of the API's error, such as "PortNotFound" */
	char parameter[DP_NAME_SIZE];
	char text[320];
};

struct control_port {
	TAILQ_ENTRY(control_port) next;
	struct port_settings settings;
	int listener;           /* in server mode, for a data plane that starts anew; -1: it has the only one
				 */
	bool present;           /* the data plane has it */
	bool reported;          /* its socket's trouble has been logged */
	bool seen;              /* in the sweep under way */
	bool went_down;         /* and the forwarding does not know yet */
	bool awaited;           /* it was up when the last data plane was lost */
	uint64_t silent_at_ns;  /* it is not up: when it is flooded to no longer; 0: it is up, or that is over */
	uint64_t forget_at_ns;  /* its driver is away: what was learned there is kept until then; 0: it is not */
	uint64_t connect_at_ns; /* in client mode: the next try */
	uint64_t connect_wait_ns;
	struct bridge_port member; /* while it is present */
	struct dp_port_info info;  /* as the data plane last told */
	struct log_limit log_limit;
};

struct control {
	struct loop loop;
	const char *dir;
	int ready_fd;   /* gets a line once every port is there; -1: done, or nobody asked */
	int drivers_fd; /* who supervises the drivers reads it; -1: nobody does */
	bool tolerant;  /* a port whose socket cannot be had is tried again instead of ending us */
	int exit_status;
	TAILQ_HEAD(, control_port) ports;
	struct forwarding fwd; /* it also keeps the bridges */

	/* the data plane */
	struct datapath_client *core; /* NULL: not connected */
	bool core_failed;             /* found where nothing could be done about it */
	unsigned int core_tries;      /* to connect, in vain */
	struct dp_hello hello;
	uint64_t core_lost_events;
	struct loop_io core_io;
	struct loop_timer core_timer; /* connect anew, or go on with events */
	struct loop_timer sweep_timer;
	struct loop_timer port_timer; /* ports that wait for a socket or a connection */
};

/* The ports and bridges to begin with are there; what is wrong is in the log. */
int control_init(struct control *control, const char *dir) must_check;
void control_cleanup(struct control *control);

/* Begins to connect; call it once, before the loop runs. */
void control_start(struct control *control);

/* what the API does */

struct control_port *control_port_find(const struct control *control, const char *name);
/* The one that the data plane has under that index, or NULL. */
struct control_port *control_port_at(const struct control *control, uint32_t index);
struct bridge *control_bridge_find(const struct control *control, const char *name);
int control_port_add(struct control *control, const struct port_settings *asked, struct control_error *error)
	must_check;
int control_port_del(struct control *control, const char *name, struct control_error *error) must_check;
int control_bridge_add(struct control *control, const struct bridge_settings *settings, struct control_error *error)
	must_check;
int control_bridge_del(struct control *control, const char *name, struct control_error *error) must_check;

/* Says in `error` that there is no such port or bridge, and which ones there are; -ENOENT. */
int control_no_port(const struct control *control, const char *name, struct control_error *error);
int control_no_bridge(const struct control *control, const char *name, struct control_error *error);

/* To be kept without the data plane: for start-up. -ENOMEM. */
int control_intend_port(struct control *control, const struct port_settings *settings) must_check;
int control_intend_bridge(struct control *control, const struct bridge_settings *settings) must_check;

/* state_file.c: DIR/state.json */

/* -ENOENT: there is none. A file that cannot be understood is -EINVAL, and logged. */
int state_file_load(struct control *control) must_check;
int state_file_save(const struct control *control) must_check;

/* control_port.c: a port and the data plane */

/* Gives the port a socket and the data plane the port. */
int control_port_attach(struct control *control, struct control_port *port) must_check;
/* Takes the port from the data plane, if it is there, and removes its socket. */
void control_port_detach(struct control *control, struct control_port *port);
/* Ports that wait for something are looked after from now on. */
void control_ports_watch(struct control *control);
/* Of port_timer. */
void control_ports_expired(struct loop_timer *timer);
/* It is present: makes it a member of its bridge. */
void control_port_join(struct control *control, struct control_port *port, uint64_t now_ns);
/* Notes what the data plane says of a port; no request is made. NULL: it is none of ours. */
struct control_port *control_port_noted(struct control *control, const struct dp_port_info *info);
/* Does what follows from it. */
void control_port_follow(struct control *control, struct control_port *port);
/* Both. */
void control_port_changed(struct control *control, const struct dp_port_info *info);

/* control_driver.c: ports with drivers, and who supervises these */

/* The state file has other ports with drivers than before. */
void control_drivers_changed(const struct control *control);
/* What the supervisor says of the drivers, to be released; NULL: nothing. */
json_t *control_drivers_report(const struct control *control);
/* Makes the directory of the port's socket, if it is the default one. */
int control_driver_socket_dir(const struct control *control, const struct control_port *port) must_check;
/* A port whose driver has the same device; NULL: there is none. */
const struct control_port *control_driver_rival(const struct control *control, const struct port_settings *settings);

/* control_core.c: the data plane */

void control_core_init(struct control *control);
void control_core_start(struct control *control);
void control_core_close(struct control *control);

/* Reads the states of the ports now. */
void control_core_read_ports(struct control *control);
/* Reads counters of flows and states of ports now, and removes what has aged. */
int control_core_sweep(struct control *control) must_check;
/* To be called after any use of control->core, and of control->fwd: a lost connection is handled.
 */
void control_core_check(struct control *control);

#endif
