/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What core_port.c (connections, rings) and core_port_control.c (the control queue's commands) have in common. Main
 * thread only.
 */
#ifndef LASTHOP_CORE_CORE_PORT_INTERNAL_H
#define LASTHOP_CORE_CORE_PORT_INTERNAL_H

#include "core/core_port.h"

#define RX_RING(pair) (2 * (pair))
#define TX_RING(pair) (2 * (pair) + 1)

/* Of what may come to the guest: it can switch them off through the control queue. */
#define FEATURES_GUEST_OFFLOAD                                                       \
	(VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN) |  \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6))

/* core_port.c */

/* What was negotiated and is not switched off. */
uint64_t core_port_features(const struct core_port *cp);

/* Writes to a call or error descriptor. False: it blocked, and the port has a fault. */
bool core_port_call(struct core_port *cp, int fd);

/* Whatever was notified while a ring stood still may have been lost: each side looks once. */
void core_port_call_after_stop(struct core_port *cp, int fd);

/* How many pairs the front end can use. */
unsigned int core_port_pairs_usable(const struct core_port *cp);

/* As many receive queues as the guest wants and are there. */
void core_port_run_pairs(struct core_port *cp);

/* Stops all rings; fault: as in port_fault_name(). */
void core_port_quarantine(struct core_port *cp, unsigned int fault);

/* core_port_control.c */

/* Once; cp->config is there. */
void core_port_control_init(struct core_port *cp);

/* Serves the control queue from now on, if the front end has set it up. */
void core_port_control_start(struct core_port *cp);
void core_port_control_stop(struct core_port *cp);

/* What is known of the driver, for everybody who maps the statistics. */
void core_port_publish_driver(struct core_port *cp);

#endif
