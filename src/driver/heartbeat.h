/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's status as it goes to the core, and whoever else wants to know that the driver lives: systemd.
 * Main thread.
 */
#ifndef LASTHOP_DRIVER_HEARTBEAT_H
#define LASTHOP_DRIVER_HEARTBEAT_H

#include "driver/device.h"
#include "vhost/netfront.h"

struct heartbeat {
	int notify_fd; /* NOTIFY_SOCKET of systemd's, connected; -1: nobody asked */
	bool ready;    /* it was told that we are */
	bool refused;  /* the port does not take heartbeats, which was logged */
};

/* Before the sandbox. Takes $NOTIFY_SOCKET; what is wrong with it is logged and otherwise ignored. */
void heartbeat_open(struct heartbeat *beat);
void heartbeat_close(struct heartbeat *beat);

/* What there is to say: facts, and the queues' counters summed up. */
void heartbeat_fill(const struct driver_device *dev, struct driver_status *status);

/* Sends it: netfront_control_begin(). Returns what that does. */
int heartbeat_send(const struct driver_device *dev, struct netfront *nf);

/* What netfront_control_end() has returned for the last one, -EAGAIN excepted: tells systemd. -EPROTO: hang up. */
int heartbeat_answered(struct heartbeat *beat, int result);

#endif
