/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front end of one vhost-user connection: says to a back end what a VMM says. It keeps no model
 * of the device (netfront.h does): each function is one message of the protocol, in the order in
 * which the caller wants them.
 *
 * Every call that waits gives up after timeout_ms, so a dead or silent back end costs time and
 * nothing else. After a time-out or a protocol error the connection is broken: further calls return
 * -ENOTCONN until it is closed and made again, because an answer that comes late would be taken for
 * that of another question.
 *
 * Returns 0 or a negative errno: -ETIMEDOUT; -ECONNRESET: the back end hung up; -EPROTO: the answer
 * is not one; -EREMOTEIO: the back end refused (REPLY_ACK); -ENOTCONN. Descriptors that are passed
 * in stay the caller's.
 *
 * Thread safety: one thread at a time per connection.
 */
#ifndef LASTHOP_VHOST_VHOST_FRONTEND_H
#define LASTHOP_VHOST_VHOST_FRONTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhost/vhost_proto.h"

struct vhost_frontend {
	int sock;                   /* -1: not connected */
	bool broken;                /* what arrives next cannot be told apart any more */
	bool ack;                   /* ask for REPLY_ACK on every message, once negotiated; the caller's to set */
	int timeout_ms;             /* the caller's to change at any time */
	uint64_t features;          /* virtio features as set last */
	uint64_t protocol_features; /* as set last */
};

void vhost_frontend_init(struct vhost_frontend *fe, int timeout_ms);

/* Connects to the back end's socket; tries again until timeout_ms while nobody listens there. */
int vhost_frontend_connect(struct vhost_frontend *fe, const char *path);

/* Makes a listening socket for back ends that connect; a stale one at path is replaced. Returns the fd. */
int vhost_frontend_listen(const char *path);

/* Waits for a back end to connect to a socket of vhost_frontend_listen(), which stays open. */
int vhost_frontend_accept(struct vhost_frontend *fe, int listen_fd);

/* Takes over a connected stream socket, which is made non-blocking. */
int vhost_frontend_adopt(struct vhost_frontend *fe, int sock);

void vhost_frontend_close(struct vhost_frontend *fe); /* also if never connected */

/* 0: nothing known against it; -ECONNRESET: the back end hung up; -ENOTCONN. Never waits. */
int vhost_frontend_check(struct vhost_frontend *fe);

/*
 * Sends any message, sensible or not: request and flags go out as they are (flags usually
 * VHOST_USER_VERSION), the header's size field is `size`, and `size` bytes of payload follow.
 */
int vhost_frontend_send(struct vhost_frontend *fe, uint32_t request, uint32_t flags, const void *payload, uint32_t size,
			const int *fds, unsigned int fd_count);

/* Sends bytes without a message's shape (a header that lies about its size, half a message). */
int vhost_frontend_send_bytes(struct vhost_frontend *fe, const void *bytes, size_t size, const int *fds,
			      unsigned int fd_count);

/*
 * Receives one message, whatever it is, with up to *fd_count descriptors, and sets that to what
 * came; NULL and NULL for none. Surplus descriptors are closed, and an error.
 */
int vhost_frontend_receive(struct vhost_frontend *fe, struct vhost_user_msg *msg, int *fds, unsigned int *fd_count);

/* Sends a request that has an answer of its own; the answer must name the same request. */
int vhost_frontend_ask(struct vhost_frontend *fe, uint32_t request, const void *payload, uint32_t size,
		       struct vhost_user_msg *answer);

/* Sends a request without an answer; with ack set and REPLY_ACK negotiated, waits for the acknowledgement. */
int vhost_frontend_tell(struct vhost_frontend *fe, uint32_t request, const void *payload, uint32_t size, const int *fds,
			unsigned int fd_count);

int vhost_frontend_get_u64(struct vhost_frontend *fe, uint32_t request, uint64_t *value);
int vhost_frontend_set_u64(struct vhost_frontend *fe, uint32_t request, uint64_t value);

static inline bool vhost_frontend_has(const struct vhost_frontend *fe, enum vhost_protocol_feature bit)
{
	return fe->protocol_features & (1ULL << bit);
}

/*
 * One function a message. Ring indexes count over all queues; guest and user addresses as in struct
 * vhost_user_region; a base is 16 bits, or two positions of a packed ring (avail in the lower half, used in the upper).
 */
int vhost_frontend_get_features(struct vhost_frontend *fe, uint64_t *features);
int vhost_frontend_set_features(struct vhost_frontend *fe, uint64_t features);
int vhost_frontend_get_protocol_features(struct vhost_frontend *fe, uint64_t *features);
int vhost_frontend_set_protocol_features(struct vhost_frontend *fe, uint64_t features);
int vhost_frontend_get_queue_num(struct vhost_frontend *fe, unsigned int *pairs);
int vhost_frontend_get_max_mem_slots(struct vhost_frontend *fe, unsigned int *slots);
int vhost_frontend_set_owner(struct vhost_frontend *fe);
int vhost_frontend_reset_device(struct vhost_frontend *fe);

/* The whole table in one message, each region with its descriptor: up to VHOST_USER_TABLE_REGIONS.
 */
int vhost_frontend_set_mem_table(struct vhost_frontend *fe, const struct vhost_user_region *regions, const int *fds,
				 unsigned int count);
int vhost_frontend_add_mem_region(struct vhost_frontend *fe, const struct vhost_user_region *region, int fd);
int vhost_frontend_rem_mem_region(struct vhost_frontend *fe, const struct vhost_user_region *region);

int vhost_frontend_set_vring_num(struct vhost_frontend *fe, unsigned int index, uint32_t size);
int vhost_frontend_set_vring_base(struct vhost_frontend *fe, unsigned int index, uint32_t base);
int vhost_frontend_get_vring_base(struct vhost_frontend *fe, unsigned int index, uint32_t *base);
int vhost_frontend_set_vring_addr(struct vhost_frontend *fe, const struct vhost_user_vring_addr *addr);
int vhost_frontend_set_vring_enable(struct vhost_frontend *fe, unsigned int index, bool enable);

/* request is VHOST_USER_SET_VRING_KICK, _CALL or _ERR; fd -1: none (the back end polls, or does not call). */
int vhost_frontend_set_vring_fd(struct vhost_frontend *fe, uint32_t request, unsigned int index, int fd);

int vhost_frontend_set_status(struct vhost_frontend *fe, uint8_t status);
int vhost_frontend_get_status(struct vhost_frontend *fe, uint8_t *status);
int vhost_frontend_set_mtu(struct vhost_frontend *fe, uint16_t mtu);
int vhost_frontend_send_rarp(struct vhost_frontend *fe, const uint8_t mac[6]);

/* Reads size bytes (at most VHOST_USER_CONFIG_MAX) of the configuration space from offset. */
int vhost_frontend_get_config(struct vhost_frontend *fe, uint32_t offset, void *config, uint32_t size);

#endif
