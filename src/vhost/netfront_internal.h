/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What netfront.c (set-up) and netfront_io.c (frames) need of each other, and nobody else.
 */
#ifndef LASTHOP_VHOST_NETFRONT_INTERNAL_H
#define LASTHOP_VHOST_NETFRONT_INTERNAL_H

#include "vhost/netfront.h"

/* Posts a receive queue's idle buffers, as many as there are descriptors for. -EINVAL: not even one
 * fits. */
int netfront_fill(struct netfront *nf, struct netfront_queue *queue);

/* Collects all that was used: received chains wait in held for the next receive, sent buffers are
 * idle again. */
int netfront_drain(struct netfront *nf, struct netfront_queue *queue);

#endif
