/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver domain: one device, its port, a pump for each queue pair, and the main thread, which watches all three.
 *
 * The stages, one function each, in this order: driver_open (device, connection, rings; all that takes privilege),
 * driver_start (threads), driver_run. What gives up privilege goes between them: confine.h. Each returns an exit
 * status, EXIT_SUCCESS to go on, after a line in the log. Main thread.
 */
#ifndef LASTHOP_DRIVER_DRIVER_H
#define LASTHOP_DRIVER_DRIVER_H

#include "driver/device.h"
#include "driver/heartbeat.h"
#include "driver/netif.h"
#include "driver/pump.h"
#include "lib/program.h"
#include "vhost/netfront.h"

struct driver {
	struct driver_config config;
	const struct driver_kind *kind;
	struct driver_device dev;
	struct netfront *nf;
	struct pump *pumps;
	unsigned int pumps_ready; /* so many of them are initialized */
	struct loop loop;
	struct program_end end;
	struct netif_watch watch;  /* of a kernel's interface */
	struct loop_io events_io;  /* of a kind that has events of its own */
	struct loop_io report_io;  /* a pump has ended */
	struct loop_io port_io;    /* the port's socket: it hangs up */
	struct loop_io control_io; /* the control queue's call */
	struct loop_timer tick;
	struct heartbeat beat;
	struct netif netif; /* as the watch saw it last */
	bool rings_enabled;
	bool changed; /* the status is to be sent as soon as the last one is answered */
	int status;   /* exit status, once the loop is stopped */
};

/* kind and config are set, the rest is zero. */
int driver_open(struct driver *driver);
int driver_start(struct driver *driver);
int driver_run(struct driver *driver);
void driver_close(struct driver *driver); /* after any stage */

/* --remove */
int driver_remove(const struct driver_kind *kind, const struct driver_config *config);

#endif
