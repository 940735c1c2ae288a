/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The messages a vhost-user device understands: one row each, with what must hold before its
 * handler runs. Private to vhost_device.c, which receives and answers; same thread.
 */
#ifndef LASTHOP_VHOST_VHOST_MESSAGES_H
#define LASTHOP_VHOST_VHOST_MESSAGES_H

#include "vhost/vhost_device.h"

/* How many descriptors a message brings. */
enum vhost_message_fds {
	VHOST_FDS_NONE,
	VHOST_FDS_ONE,
	VHOST_FDS_OPT,  /* one or none; closed unless the handler takes it */
	VHOST_FDS_RING, /* one, or none with the NOFD bit */
	VHOST_FDS_MANY, /* one a region of the table */
};

struct vhost_message {
	const char *name; /* as in the protocol's text, without VHOST_USER_ */
	/*
	 * Changes the device by dev->msg. May take a descriptor by setting its place in dev->fds to
	 * -1; the others are closed. A row that answers leaves its answer in dev->msg.
	 */
	enum vhost_fault (*handle)(struct vhost_device *dev);
	uint16_t size_min; /* bytes of payload */
	uint16_t size_max;
	uint8_t fds;     /* enum vhost_message_fds */
	uint8_t feature; /* the protocol feature that it comes with, or VHOST_ALWAYS */
	bool answers;    /* has an answer of its own: NEED_REPLY is meaningless */
	bool quiesces;   /* workers must not use the device meanwhile: ops->quiesce and ops->update */
};

#define VHOST_ALWAYS 0xff

/* The row of a request that this device offers, or NULL. */
const struct vhost_message *vhost_message_find(const struct vhost_device *dev, uint32_t request);

/* What is wrong with the complete message in dev->msg before its handler looks: its descriptors. */
enum vhost_fault vhost_message_check(const struct vhost_message *message, const struct vhost_device *dev);

/* Rings that a front end may name. */
unsigned int vhost_ring_count(const struct vhost_device *dev);

/* As nobody has set it up yet; what it has is closed. */
void vhost_ring_reset(struct vhost_ring *ring);

/* True if vhost_device_ring_ready() is: workers use it as soon as they may. */
bool vhost_ring_running(const struct vhost_device *dev, const struct vhost_ring *ring);

/*
 * True if fd is an eventfd, pipe or socket, which it makes non-blocking: something whose reading
 * and writing has no effect but to notify.
 */
bool vhost_is_event_fd(int fd);

/* The handlers of vhost_rings.c; the others are in the table's own file. */
enum vhost_fault vhost_handle_set_vring_num(struct vhost_device *dev);
enum vhost_fault vhost_handle_set_vring_addr(struct vhost_device *dev);
enum vhost_fault vhost_handle_set_vring_base(struct vhost_device *dev);
enum vhost_fault vhost_handle_get_vring_base(struct vhost_device *dev);
enum vhost_fault vhost_handle_set_vring_enable(struct vhost_device *dev);
enum vhost_fault vhost_handle_set_vring_kick(struct vhost_device *dev);
enum vhost_fault vhost_handle_set_vring_call(struct vhost_device *dev);
enum vhost_fault vhost_handle_set_vring_err(struct vhost_device *dev);

#endif
