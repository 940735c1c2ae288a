/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the two parts of the kind af_xdp need of each other, and nobody else: af_xdp_open.c (taking a device) and
 * af_xdp.c (moving its frames).
 */
#ifndef LASTHOP_DRIVER_AF_XDP_H
#define LASTHOP_DRIVER_AF_XDP_H

#include "driver/device.h"
#include "driver/xdp_prog.h"
#include "driver/xsk_pool.h"

#define AF_XDP_RING_SIZE 2048u /* a few milliseconds: so long others may have the CPU without a loss */
#define AF_XDP_ETH_MAX   18u   /* Ethernet header and a VLAN tag */

/* The largest payload of a frame whose buffer has so many bytes. */
#define AF_XDP_MTU(chunk) ((chunk)-XSK_HEADROOM - AF_XDP_ETH_MAX)

/* Each queue's, of its thread. */
struct af_xdp_queue {
	struct xsk_queue *xsk;
	bool down;              /* the device was, when it was told to send last */
	uint64_t look_ns;       /* when to ask for losses again */
	struct xsk_losses lost; /* so many are counted */
	uint64_t lies;
	bool warned; /* of frames that are too long */
};

struct af_xdp {
	struct xdp_prog prog;
	struct xsk_pool pool;
	int promiscuous_fd; /* keeps the device so */
	uint32_t chunk_size;
	bool repair;     /* look for unfinished checksums */
	bool generic;    /* generic XDP is asked for */
	bool native;     /* native XDP is asked for */
	uint32_t tx_max; /* bytes of a frame; written by the main thread */
	unsigned int device_queues;
	struct xdp_keep keep;
	struct af_xdp_queue *queues;
};

/* Of struct driver_kind. What they open, af_xdp_close() closes. */
extern const struct driver_option af_xdp_options[];
int af_xdp_open(struct driver_device *dev);
int af_xdp_bind(struct driver_device *dev);

#endif
