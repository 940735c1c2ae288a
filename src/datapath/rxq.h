/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port's receive virtqueue, device side: where the switch puts packets for the guest. Buffers are reserved
 * for a group of packets at once, filled without a lock, and published in the order of reservation.
 *
 * Any worker may deliver into any receive queue. Senders meet only in two short sections: reserving buffers and
 * publishing them; nobody waits in either (rule 6). rxq_start and rxq_stop are the main thread's, while no
 * worker uses the queue.
 */
#ifndef LASTHOP_DATAPATH_RXQ_H
#define LASTHOP_DATAPATH_RXQ_H

#include <stdbool.h>
#include <stdint.h>

#include "datapath/notice.h"
#include "lib/compiler.h"
#include "lib/tsan.h"
#include "vhost/chain.h"
#include "virtio/virtio_net.h"

#define RXQ_UNITS_MAX  32   /* packets or segments of one reservation */
#define RXQ_PIECES_MAX 1280 /* buffers' pieces of one reservation; one packet may have 1024 */
#define RXQ_TICKETS    64   /* reservations under way at once; a power of two */

struct rxq_packed;

struct rxq {
	/* set by rxq_start */
	struct vring_split ring;
	struct rxq_packed *packed; /* not NULL: that kind of ring, and positions in it instead of indexes */
	struct chain_walk walk;
	uint64_t features;
	uint32_t net_hdr_len; /* bytes */
	bool mergeable;
	bool event_idx;
	bool live; /* atomic; the only member to look at without being told that the queue runs */
	int call_fd;

	/* under lock */
	uint32_t lock cache_aligned;
	uint16_t last_avail;    /* next available entry to take */
	uint16_t avail_seen;    /* available index, as read last */
	uint16_t used_reserved; /* next used entry to reserve */
	uint32_t ticket_next;
	bool kick_wanted;
	bool stalled;             /* atomic: gave no buffers for a whole waiting time, packets no longer wait for it */
	enum chain_verdict fault; /* atomic */

	/* whose turn it is to publish; but for the tickets' states, which their owners and predecessors change */
	uint16_t used_published cache_aligned;
	uint32_t ticket_oldest; /* atomic */
	struct {
		uint16_t used_end;
		uint8_t packets;
		uint8_t state; /* atomic: enum rxq_ticket */
	} tickets[RXQ_TICKETS];
};

/* A ticket's owner is who filled the reservation. */
enum rxq_ticket {
	RXQ_TICKET_OPEN, /* neither is it complete nor are those before it published */
	RXQ_TICKET_TURN, /* those before it are published: its owner publishes it, and may have to come yet */
	RXQ_TICKET_DONE, /* complete, its owner gone: who publishes the one before it publishes it as well */
};

/* What one packet or segment was given. */
struct rxq_unit {
	uint16_t piece; /* index of its first piece in the reservation */
	uint16_t piece_count;
	uint16_t buffers; /* for num_buffers */
};

/* A reservation; in the worker's private memory. */
struct rxq_reservation {
	unsigned int simple;     /* the first units are one piece each, pieces[0] on, and not in units[] */
	unsigned int unit_count; /* with the simple ones */
	unsigned int piece_count;
	unsigned int elem_count;
	uint16_t used_start;
	uint32_t ticket;
	uint64_t bytes; /* that the used entries tell the guest of */
	struct rxq_unit units[RXQ_UNITS_MAX];
	struct chain_piece pieces[RXQ_PIECES_MAX];
};

/*
 * Two workers may fill one buffer, one after the other, and what orders them goes through the guest: the first one
 * publishes the buffer, the guest sees that and makes it available again, the second one sees that. The guest is not
 * in this process, so ThreadSanitizer sees neither step of its. Nor need anything else order the two: the second one
 * may have begun its reservation before the first one published. So each publication is a release and each look at
 * what is available an acquire, which is what index and descriptors are for the guest. A buffer that is filled by
 * somebody who has not published it yet is still found.
 */
static inline void rxq_tsan_publish(const struct rxq *rxq)
{
	tsan_release(&rxq->used_published);
}

static inline void rxq_tsan_available(const struct rxq *rxq)
{
	tsan_acquire(&rxq->used_published);
}

enum rxq_answer {
	RXQ_TAKEN,
	RXQ_EMPTY,    /* not enough buffers now */
	RXQ_ROOM,     /* the reservation is full: publish it and begin another */
	RXQ_TOO_LONG, /* it will never fit into this queue's buffers */
	RXQ_BAD,      /* a buffer was unusable and given back empty; the packet is lost */
	RXQ_BROKEN,   /* the ring is broken: rxq->fault */
};

/*
 * Starts at base (both indexes) with everything published, a queue that was stopped or is all zero. The memory table
 * stays the caller's. Tickets are counted on, for those who still ask for one of before.
 */
void rxq_start(struct rxq *rxq, const struct vring_split *ring, const struct guest_memory *memory, uint64_t features,
	       uint16_t base, int call_fd);
int rxq_start_packed(struct rxq *rxq, const struct vring_packed *ring, const struct guest_memory *memory,
		     uint64_t features, uint16_t base, int call_fd); /* 0, or -ENOMEM */
uint16_t rxq_stop(struct rxq *rxq);                                  /* the base to start from again */

/*
 * Begins a reservation: false if the queue is not live or others hold it just now (try again next turn).
 * After true: rxq_take any number of times, then rxq_reserve_end, which frees the queue.
 */
bool rxq_reserve_begin(struct rxq *rxq, struct rxq_reservation *res);
/*
 * The common case, right after rxq_reserve_begin: one buffer of one piece for each of count frames, bytes[i] with net
 * header. Returns how many frames got theirs; whatever is not so simple is left to rxq_take.
 */
unsigned int rxq_take_simple(struct rxq *rxq, struct rxq_reservation *res, const uint32_t *bytes, unsigned int count);
enum rxq_answer rxq_take(struct rxq *rxq, struct rxq_reservation *res, uint32_t bytes);
void rxq_reserve_end(struct rxq *rxq, struct rxq_reservation *res);

/*
 * The reserved buffers are filled: publishes them, now or, if an earlier reservation is not complete yet, by
 * whoever completes that one. Returns what this call published.
 */
struct publication rxq_publish(struct rxq *rxq, struct rxq_reservation *res);
/* The same for who fills what another thread has reserved, by the reservation's ticket; it has elements. */
struct publication rxq_publish_ticket(struct rxq *rxq, uint32_t ticket);

/*
 * Whether the ticket is not published yet. Any thread, at any time in the queue's life, if the ticket is one of the
 * last 2^32: what was reserved before the queue was stopped is published by then.
 */
static inline bool rxq_is_open(const struct rxq *rxq, uint32_t ticket)
{
	return ticket - load_acquire(&rxq->ticket_oldest) < RXQ_TICKETS;
}

/* Of what rxq_publish returned: who completes an earlier reservation will do it. */
static inline bool rxq_was_left(const struct rxq_reservation *res, struct publication what)
{
	return unlikely(what.from == what.to) && res->elem_count;
}

/* Whether the guest wants to be called for these used entries; after a full barrier behind their publication. */
bool rxq_wants_call(const struct rxq *rxq, uint16_t from, uint16_t to);

/* Asks the guest to kick when it adds buffers. True if it has added some since the last look. */
bool rxq_want_kick(struct rxq *rxq);

#endif
