/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packed ring of a receive queue: what rxq.c does with a split one. Called by rxq.c, under its locks and turns,
 * where rxq->packed is not NULL. Places are positions (virtio/vring.h); publications count descriptors.
 */
#ifndef LASTHOP_DATAPATH_RXQ_PACKED_H
#define LASTHOP_DATAPATH_RXQ_PACKED_H

#include "datapath/rxq.h"
#include "vhost/chain_packed.h"

/* A chain that is reserved, at the index of its first descriptor: how it will be given back. */
struct rxq_packed_chain {
	struct chain_extent extent;
	uint32_t bytes;
};

struct rxq_packed {
	struct vring_packed ring;
	/* Atomic, written in turn: position up to which is published, and how many descriptors ever, in the upper half.
	 */
	uint32_t published cache_aligned;
	struct rxq_packed_chain chains[] cache_aligned;
};

/* NULL: no memory. Freed with free(). */
struct rxq_packed *rxq_packed_create(const struct vring_packed *ring, uint16_t base);

/* Reserving, under the lock. */
bool rxq_packed_available(struct rxq *rxq); /* at rxq->last_avail; if not, that is remembered in rxq->avail_seen */
void rxq_packed_end(struct rxq *rxq);       /* after a reservation: avail_seen is not behind last_avail */
enum chain_verdict rxq_packed_fetch(struct rxq *rxq, struct chain_piece *pieces, unsigned int room, unsigned int *count,
				    struct chain_extent *extent);
/* Takes the chain that was fetched, to be given back with so many bytes. */
void rxq_packed_put(struct rxq *rxq, struct chain_extent extent, uint32_t bytes);
/* What was taken from this position on goes back empty. */
void rxq_packed_empty(struct rxq *rxq, uint16_t from);
/* rxq_take_simple: fills res->pieces. Returns how many, and their bytes. */
unsigned int rxq_packed_take_simple(struct rxq *rxq, struct rxq_reservation *res, const uint32_t *bytes,
				    unsigned int count, uint64_t *total);

/* In the turn to publish. */
void rxq_packed_publish(struct rxq *rxq, uint16_t to);
static inline uint16_t rxq_packed_count(const struct rxq_packed *packed)
{
	return (uint16_t)(load_relaxed(&packed->published) >> 16);
}

bool rxq_packed_wants_call(const struct rxq *rxq, uint16_t from);
void rxq_packed_kicks_off(struct rxq *rxq);
/* From avail_seen on, up to where there was too little. True: there is something already. */
bool rxq_packed_kicks_on(struct rxq *rxq);

#endif
