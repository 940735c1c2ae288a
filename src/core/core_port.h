/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port of the core: a vhost-user device, the socket it is reached by, and the data plane's port that its rings
 * feed. It binds them together: what the front end says becomes queues that workers serve, and what workers
 * find wrong ends the connection or quarantines the port.
 *
 * Main thread only.
 */
#ifndef LASTHOP_CORE_CORE_PORT_H
#define LASTHOP_CORE_CORE_PORT_H

#include "core/control_queue.h"
#include "core/core.h"
#include "vhost/vhost_device.h"

struct core_port {
	struct core *core;
	struct dp_port_add config;
	uint32_t index;
	enum dp_port_state state;
	bool untold; /* the controller has not heard of it for lack of room */
	struct vhost_device device;
	struct port *port;        /* the data plane's */
	struct loop_io listen_io; /* fd -1: client mode */
	struct loop_io conn_io;   /* fd -1: not connected */
	struct loop_io control_io;
	struct control_queue control;
	struct loop_timer control_timer; /* runs while the control queue is not listened to: see core_port_control.c */
	uint64_t control_due_ns;         /* when what was done for it is paid off */
	uint16_t pairs_wanted;           /* by the guest, through the control queue */
	uint64_t offloads_off;           /* GUEST_* features that the guest switched off there */
	uint16_t base[VHOST_DEVICE_RINGS_MAX]; /* of rings that were stopped, by the last quiesce */
	int kick_fds[VHOST_DEVICE_RINGS_MAX];  /* that the workers watch; -1 */
	bool ring_live[VHOST_DEVICE_RINGS_MAX];
	unsigned int quarantine; /* port_fault_name; 0: none */
	char fault[DP_NAME_SIZE];
	uint64_t faults;
	uint64_t connections;
	uint64_t barred_until_ns; /* no new connection before */
	uint16_t mtu;
	uint8_t mac[6];
	uint32_t peer_pid;
	uint64_t connected_ns;       /* since when; 0: nobody is */
	struct driver_status driver; /* the last report, */
	uint64_t driver_seen_ns;     /* when it came, 0: never, */
	uint64_t driver_reports;     /* and how many did on this connection */
};

/*
 * Makes a port; config is checked here. listener: its socket in server mode, taken over on success; -1 in client
 * mode. 0 and *index; -EINVAL, -EEXIST (name), -ENOSPC, -ENOMEM.
 */
int core_port_add(struct core *core, const struct dp_port_add *config, int listener, uint32_t *index);
int core_port_del(struct core *core, uint32_t index); /* 0, -ENOENT */

/*
 * Client mode: a connected socket, taken over on success. -ENOENT, -EINVAL (server mode), -EISCONN; -EAGAIN: the
 * last front end blocked us, let it wait a second.
 */
int core_port_connect(struct core *core, uint32_t index, int sock);

void core_port_info(const struct core_port *cp, struct dp_port_info *info);

/* There is room: tells the controller what it has not heard. */
void core_port_tell(struct core *core);

/* A worker said so: looks for ports with a fault and quarantines them. */
void core_port_check_faults(struct core *core);

#endif
