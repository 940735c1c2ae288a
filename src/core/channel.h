/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The core's end of the datapath protocol (proto/datapath_proto.h): the socket DIR/datapath.sock, one controller
 * at a time, its requests carried out in order.
 *
 * Main thread only. A controller that does not read gets no answers, but never holds up anything else.
 */
#ifndef LASTHOP_CORE_CHANNEL_H
#define LASTHOP_CORE_CHANNEL_H

#include <stddef.h>

#include "core/core.h"

/* Listens. Only processes of uid owner (or root) are served. 0 or -errno. */
int channel_open(struct channel **result, struct core *core, uid_t owner);
void channel_close(struct channel *channel);

/*
 * Sends an event if there is a controller. False: it does not read fast enough, and the event is lost; core_wake() is
 * called when there is room again.
 */
bool channel_event(struct channel *channel, enum dp_type type, const void *payload, size_t size);

/*
 * Sends 1 to DP_UPCALLS_MAX upcalls as one event. 0, -ENOTCONN (there is no controller), or -EAGAIN: it does not read
 * fast enough, and core_wake() is called when it may take them.
 */
int channel_upcalls(struct channel *channel, const struct dp_upcall *upcalls, unsigned int count);

#endif
