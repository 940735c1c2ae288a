/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port's transmit virtqueue, device side: where the switch takes packets from. Chains are taken in batches,
 * staged (net header and packet headers read once into private memory), and given back in the ring's order.
 *
 * A packet that has to wait (for a flow, or for its receiver's buffers) stays in the ring: its chain is walked
 * anew at each retry. Later packets may be delivered meanwhile, but used entries are published strictly in order,
 * so that after the death of this process the used index tells exactly where to go on.
 *
 * So does a packet of which another worker still copies a part (copy_job.h), or that is not published to its receiver
 * yet (hold.h); but it is delivered, and nothing of it is looked at again.
 *
 * One worker at a time uses a transmit queue. txq_start and txq_stop are the main thread's, while none does.
 */
#ifndef LASTHOP_DATAPATH_TXQ_H
#define LASTHOP_DATAPATH_TXQ_H

#include <stdbool.h>
#include <stdint.h>

#include "datapath/flow_table.h"
#include "datapath/notice.h"
#include "datapath/packet.h"
#include "lib/compiler.h"
#include "vhost/chain.h"

#define TXQ_BATCH      32
#define TXQ_PIECES_MAX (CHAIN_PIECES_MAX + 24 * TXQ_BATCH)
/* Bytes of new packets after which a batch takes no more: what one turn does is bounded for the sake of other queues.
 */
#define TXQ_BYTES_MAX  (512U << 10)

/* A packet's reason to wait: the turn had done enough. It waits for nobody, so it has no time bound. */
#define TXQ_NEXT_TURN UINT16_MAX

/* Deliveries with others' help that are under way at once. */
#define TXQ_COPIES 2

struct txq_packed;

/* Packets that one such delivery is of. */
struct txq_copy {
	bool under_way; /* atomic: set by the queue's worker, cleared by whoever makes the last part of the copy */
	/* the worker's */
	unsigned int count;
	uint16_t position[TXQ_BATCH]; /* as in txq_waiting */
};

/* Receive queues that one set of packets is held for (hold.h). */
#define TXQ_TICKETS (2 * TXQ_BATCH)

struct txq_ticket {
	uint32_t port;
	uint32_t life; /* of the port */
	uint32_t queue;
	uint32_t ticket;
};

struct txq_hold {
	unsigned int count; /* 0: nothing is held */
	uint16_t position;  /* of the first packet, as in txq_waiting: neither it nor those behind it are given back */
	struct txq_ticket tickets[TXQ_TICKETS];
};

/* A packet that waits in the ring. */
struct txq_waiting {
	uint16_t position; /* in the available ring's count, or in the packed ring */
	uint16_t segment;  /* where to go on, if it is sent in segments */
	uint16_t reason;   /* DROP_NO_FLOW or DROP_OUT_FULL: what it becomes when its time is over; or TXQ_NEXT_TURN */
	uint8_t asked;     /* how often its flow was asked for (NO_FLOW) */
	uint8_t charged;   /* how often with an upcall of its own */
	uint32_t port;     /* it waits for (OUT_FULL) */
	uint32_t zero;
	uint64_t since_ns;
};

/* What the last packet met: the next one that is like it, as far as its flows look, meets the same. */
struct txq_last {
	const struct flow *flow;  /* NULL: nothing; valid as long as the table's generation is this one */
	const struct flow *first; /* that led to it; NULL: it is of the first stage itself */
	uint32_t generation;
	uint32_t depth;       /* words to compare */
	bool alternates;      /* no two packets in a row met the same: it is no use to compare each with the last */
	union flow_words key; /* masked */
	union flow_words mask;
};

struct txq {
	/* set by txq_start */
	struct vring_split ring;
	struct txq_packed *packed; /* not NULL: that kind of ring, and positions in it instead of indexes */
	struct chain_walk walk;
	uint64_t features;
	uint32_t net_hdr_len; /* bytes */
	bool event_idx;
	bool live; /* atomic; false stops the worker at its next turn */
	int call_fd;
	uint32_t port;   /* index */
	uint32_t queue;  /* pair */
	uint16_t *heads; /* by position: head of each chain that is out, once one had to wait */
	bool *done;      /* by position: delivered or dropped, only its predecessors keep it */

	/* the worker's */
	uint16_t last_avail cache_aligned; /* next available entry to take */
	uint16_t used;                     /* next used entry to publish */
	enum chain_verdict fault;
	unsigned int waiting_count;
	struct txq_waiting waiting[TXQ_BATCH];
	struct txq_copy copies[TXQ_COPIES];
	struct txq_hold holds[2];  /* hold.c's: without the first there is no second */
	uint64_t upcall_credit_ns; /* token bucket of misses sent up and not answered */
	struct txq_last last;
};

/* One turn's packets; in the worker's private memory. */
struct txq_batch {
	unsigned int count;
	unsigned int retried; /* the first ones: they waited */
	/* Every packet is one buffer with a current net header, asks for no offload, and can be understood. */
	bool plain;
	bool keeps;                   /* some are delivered, and are not given back yet */
	uint32_t copying[TXQ_COPIES]; /* by copy, packets' bits: delivered but for what others still copy */
	uint64_t bytes;               /* of the frames */
	uint64_t staged_bytes;
	uint16_t position[TXQ_BATCH];
	uint16_t heads[TXQ_BATCH]; /* of their descriptor chains */
	struct packet packets[TXQ_BATCH];
	struct chain_piece pieces[TXQ_PIECES_MAX];
};

/* 0, or -ENOMEM. The memory table stays the caller's. */
int txq_start(struct txq *txq, const struct vring_split *ring, const struct guest_memory *memory, uint64_t features,
	      uint16_t base, int call_fd);
int txq_start_packed(struct txq *txq, const struct vring_packed *ring, const struct guest_memory *memory,
		     uint64_t features, uint16_t base, int call_fd);
/*
 * The base to start from again: packets that wait are taken anew. Copies have ended and what was held is published:
 * those packets are given back in the ring, whose memory is still there.
 */
uint16_t txq_stop(struct txq *txq);

/*
 * Takes the packets that wait and new ones, TXQ_BATCH at most together and new ones up to TXQ_BYTES_MAX. Packets that
 * cannot be understood have packet.reason set. False: the ring is broken (txq->fault).
 */
bool txq_fetch(struct txq *txq, struct txq_batch *batch);

/*
 * Gives back the batch's packets but those that wait: wait[i] is non-NULL for each that does, and goes into the
 * queue's list. Those of copies go back, too, once these have ended, and nothing from the first on that is held.
 * Returns what that made visible to the guest.
 */
struct publication txq_complete(struct txq *txq, struct txq_batch *batch, const struct txq_waiting *const *wait);

/* Whether the guest wants to be called for these used entries; after a full barrier behind their publication. */
bool txq_wants_call(const struct txq *txq, uint16_t from, uint16_t to);

/* True if there are packets that were not taken yet and there is room for them. */
bool txq_pending(const struct txq *txq);

/* Whether there is room for what a batch's packets may be held for. */
static inline bool txq_may_hold(const struct txq *txq)
{
	return txq->holds[1].count <= TXQ_TICKETS - TXQ_BATCH;
}

/* Whether another packet would be taken: so many wait at most. */
static inline bool txq_has_room(const struct txq *txq)
{
	return txq->waiting_count < TXQ_BATCH && likely(txq_may_hold(txq));
}

/* Descriptors. */
unsigned int txq_ring_size(const struct txq *txq);
/* Up to where packets may be given back: last_avail, or what is held. */
uint16_t txq_end(const struct txq *txq);
/* A batch without packets. */
void txq_fetch_nothing(struct txq_batch *batch);

/* Where the next packet will be; and, for whoever no longer has the queue, whether there is one by now. */
static inline uint16_t txq_position(const struct txq *txq)
{
	return txq->last_avail;
}

bool txq_has_at(const struct txq *txq, uint16_t position);

/*
 * Copies whose packets were not given back, a bit each; and, for whoever no longer has the queue, whether one of them
 * has ended by now.
 */
static inline unsigned int txq_copies(const struct txq *txq)
{
	unsigned int copies = 0;

	for (unsigned int i = 0; i < TXQ_COPIES; i++)
		copies |= (unsigned int)(txq->copies[i].count > 0) << i;
	return copies;
}

/* Whether a turn that found nothing new would find nothing to do, either, before there is something at its position. */
static inline bool txq_is_quiet(const struct txq *txq)
{
	return txq->waiting_count == 0 && txq->holds[0].count == 0 && txq_copies(txq) == 0;
}

static inline bool txq_copy_ended(const struct txq *txq, unsigned int copies)
{
	for (unsigned int i = 0; unlikely(copies) && i < TXQ_COPIES; i++) {
		if ((copies >> i & 1) && !load_acquire(&txq->copies[i].under_way))
			return true;
	}
	return false;
}

void txq_kicks_off(struct txq *txq);
/* Asks the guest to kick. True if there is something to take already. */
bool txq_kicks_on(struct txq *txq);

#endif
