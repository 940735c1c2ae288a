/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control virtqueue of a port (virtio 1.2, section 5.1.6.5), for front ends that leave it to the device.
 * QEMU, cloud-hypervisor and DPDK's virtio-user serve it themselves; User-mode Linux does not.
 *
 * Main thread only. Commands are checked in full before anything of them is carried out.
 */
#ifndef LASTHOP_CORE_CONTROL_QUEUE_H
#define LASTHOP_CORE_CONTROL_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/driver_status.h"
#include "vhost/chain_packed.h"

struct control_queue;

/* What the guest wants; control_queue_serve calls these as it goes. They return true for "done". */
struct control_queue_ops {
	bool (*set_pairs)(struct control_queue *queue, uint16_t pairs);
	bool (*set_offloads)(struct control_queue *queue, uint64_t features);
	void (*set_mac)(struct control_queue *queue, const uint8_t mac[6]);
	/* A driver's report, which has passed driver_status_parse(). NULL: there is no driver behind this port. */
	bool (*driver_status)(struct control_queue *queue, const struct driver_status *status);
};

struct control_queue {
	const struct control_queue_ops *ops;
	struct vring_any ring;
	struct chain_walk walk;
	uint64_t features;
	bool live;
	uint16_t last_avail; /* and next used: commands are answered at once; a position in a packed ring */
	uint64_t commands;
	uint64_t refused;
	struct chain_piece pieces[64];
};

void control_queue_start(struct control_queue *queue, const struct vring_any *ring, const struct guest_memory *memory,
			 uint64_t features, uint16_t base);

/*
 * Answers what is in the ring, at most `most` commands. Returns CHAIN_OK, or the ring is broken. *call: the guest wants
 * to be called. An operation may stop the queue: then it ends there.
 */
enum chain_verdict control_queue_serve(struct control_queue *queue, unsigned int most, bool *call);

#endif
