/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of netfront need of each other, and nobody else: netfront.c (its life),
 * netfront_memory.c, netfront_io.c (frames), netfront_pieces.c (frames in many buffers),
 * netfront_notify.c.
 */
#ifndef LASTHOP_VHOST_NETFRONT_INTERNAL_H
#define LASTHOP_VHOST_NETFRONT_INTERNAL_H

#include "vhost/netfront.h"

/* Posts a receive queue's idle buffers, as many as have descriptors. -EINVAL: not one fits. */
int netfront_fill(struct netfront *nf, struct netfront_queue *queue);

/* Collects all that was used: what was received is held for later, what was sent is idle again. */
int netfront_drain(struct netfront *nf, struct netfront_queue *queue);

/* All buffers of a queue that is not started are idle again. */
void netfront_clear_queue(const struct netfront *nf, struct netfront_queue *queue);

/* Gives the buffers of a used chain but its first back to the pool. */
void netfront_release_more(struct netfront_queue *queue, uint16_t head);

/* No chain has more than one buffer. */
void netfront_clear_more(struct netfront_queue *queue);

/* What every poll begins with: the kick that netfront_flush() left for later. -EPROTO: faulty. */
int netfront_begin_poll(struct netfront *nf, struct netfront_queue *queue);

#endif
