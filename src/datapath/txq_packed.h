/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packed ring of a transmit queue: what txq.c does with a split one. Called by txq.c, under its rules, where
 * txq->packed is not NULL. Places are positions (virtio/vring.h); publications count descriptors.
 */
#ifndef LASTHOP_DATAPATH_TXQ_PACKED_H
#define LASTHOP_DATAPATH_TXQ_PACKED_H

#include "datapath/txq.h"
#include "vhost/chain_packed.h"

/* A chain that is out, at the index of its first descriptor. */
struct txq_packed_chain {
	struct chain_extent extent;
	bool done; /* delivered or dropped, only its predecessors keep it */
};

struct txq_packed {
	struct vring_packed ring;
	uint16_t used_count; /* descriptors published since the start, modulo 2^16 */
	struct txq_packed_chain chains[];
};

/* Of txq.c: the drop reason (+ 1) for a chain that is given back unsent. */
unsigned int txq_verdict_reason(enum chain_verdict verdict);

/* NULL: no memory. Freed with free(). */
struct txq_packed *txq_packed_create(const struct vring_packed *ring);

/*
 * Walks the waiting packets' chains and takes new ones. Returns how many packets there are, or -1: the ring is broken.
 * Packet i of the first *simple ones is piece i, and nothing else of it is set; of those behind are set pieces,
 * piece_count and reason.
 */
int txq_packed_fetch(struct txq *txq, struct txq_batch *batch, unsigned int *simple);

/* The batch's packets that do not wait are done. wait NULL: none does. */
void txq_packed_mark_done(struct txq *txq, const struct txq_batch *batch, const struct txq_waiting *const *wait);

/* One packet, of this batch or an earlier one. */
void txq_packed_mark(struct txq *txq, uint16_t position, bool done);

/* Publishes what is done, from txq->used up to the first chain that is not, or to `end`. */
struct publication txq_packed_publish(struct txq *txq, uint16_t end);

bool txq_packed_wants_call(const struct txq *txq, uint16_t from);
bool txq_packed_has_at(const struct txq *txq, uint16_t position);
/* Not all of the ring is out: else what looks available is not. */
static inline bool txq_packed_has_room(const struct txq *txq)
{
	const unsigned int size = txq->packed->ring.size;

	return vring_packed_distance(txq->used, txq->last_avail, size) < size;
}

void txq_packed_kicks(struct txq *txq, bool on);

#endif
