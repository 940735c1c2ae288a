/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The forwarding loop: one turn takes a batch from a transmit queue through parse, lookup, actions, delivery and
 * completion. A forwarder is what one thread needs for that, all of it private but the upcall ring.
 *
 * A thread calls with its own forwarder, registered with RCU and online; a transmit queue has one worker at a
 * time. Nothing here blocks or waits.
 */
#ifndef LASTHOP_DATAPATH_FORWARD_H
#define LASTHOP_DATAPATH_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "datapath/copy_job.h"
#include "datapath/drop.h"
#include "datapath/notice.h"
#include "datapath/offload.h"
#include "datapath/port.h"
#include "datapath/upcall.h"
#include "proto/stats_segment.h"

/* How long a packet may wait in its sender's ring. */
#define FORWARD_FLOW_WAIT_NS 100000000ULL
#define FORWARD_FULL_WAIT_NS 10000000ULL /* default; per port by port.wait_ns */

/*
 * Segments that one turn makes of its packets; then the rest goes on in the next turn. Copies for many receivers cannot
 * go on later: they have a larger bound, after which they are lost.
 */
#define FORWARD_SEGMENTS_MAX       256
#define FORWARD_SEGMENTS_FLOOD_MAX 8192

/* Who finds out whether a notification hangs; asleep when there has been none for a while. */
struct call_watcher {
	bool asleep; /* atomic */
	void (*wake)(struct call_watcher *watcher);
};

struct forwarder {
	struct datapath *dp;
	bool wakes_first;               /* receivers are called when their packets come, not when they are there */
	struct flow_counters *counters; /* of flows, by slot */
	struct stats_port *stats;       /* [FLOW_PORTS_MAX] */
	struct stats_worker *worker_stats;
	struct call_watcher *watcher; /* or NULL */
	struct copy_helpers *helpers; /* or NULL: it copies alone */
	/* for the watcher, atomic */
	uint32_t calls;       /* notifications, each counted when it begins and when it ends: odd during one */
	uint32_t call_port;   /* index; whom the last one is for */
	uint64_t turn_now_ns; /* 0: not read yet in this turn */

	struct notices notices;

	/* one turn's state, by packet of the batch; wait, waits and segment are empty unless unclean */
	struct txq *txq; /* whose turn it is, or NULL */
	bool unclean;
	bool over;             /* enough segments were made: what is to wait goes on in the next turn */
	unsigned int segments; /* made in this turn */
	struct txq_batch batch;
	union flow_words keys[TXQ_BATCH];
	const struct flow *flows[TXQ_BATCH];       /* what becomes of each */
	const struct flow *firsts[TXQ_BATCH];      /* the first stage's flow that led to it, or NULL */
	bool upcalls_sent;                         /* in this turn: the main thread is to be woken */
	bool one_flow;                             /* it is the queue's last one for all of them */
	const struct txq_waiting *wait[TXQ_BATCH]; /* what txq_complete gets */
	struct txq_waiting waits[TXQ_BATCH];
	uint16_t segment[TXQ_BATCH]; /* where to go on */
	struct offload_plan plans[TXQ_BATCH];
	/* one delivery's */
	struct rxq_reservation res;
	struct {
		uint8_t packet; /* index in the batch */
		bool whole;     /* the frame as it is, not a segment */
		uint16_t segment;
	} units[RXQ_UNITS_MAX];

	struct upcall_ring upcalls;
};

/* stats: the thread's own block. NULL: no memory. */
struct forwarder *forwarder_create(struct datapath *dp, unsigned int reader, struct stats_port *stats,
				   struct stats_worker *worker_stats);
void forwarder_destroy(struct forwarder *fwd);

/*
 * One turn of txq. Returns how many packets it made progress with (delivered, dropped or newly taken); 0: there
 * is nothing to do before something changes. The queue must be live or have been so. Guests are not called: the
 * caller gives the notices that are left in fwd->notices, soon.
 */
unsigned int forward_turn(struct forwarder *fwd, struct txq *txq);

/*
 * Before the thread sleeps: asks txq's guest for kicks, and the receivers that its packets wait for. True if
 * there is something to do already. Copies that end from then on are for txq_copy_ended() to tell.
 */
bool forward_arm(struct forwarder *fwd, struct txq *txq);

/*
 * When the first of txq's waiting packets has waited enough; 0: none waits. With copies under way it is soon: who ends
 * them looks after the queue, but nothing is left to that alone.
 */
uint64_t forward_deadline(const struct forwarder *fwd, const struct txq *txq);

/* Since when the first of txq's packets that wait for a receiver's buffers does; UINT64_MAX: none waits for any. */
static inline uint64_t forward_waits_since(const struct txq *txq)
{
	for (unsigned int i = 0; i < txq->waiting_count; i++) {
		if (txq->waiting[i].reason == DROP_OUT_FULL)
			return txq->waiting[i].since_ns;
	}
	return UINT64_MAX;
}

/* Sends a frame that this process made out of a port, if there is room. True if it went. Leaves a notice. */
bool forward_frame(struct forwarder *fwd, uint32_t port, const uint8_t *frame, uint32_t length);

/* Delivery (deliver.c): puts the batch's packets that indexes[] names into port `to`, in this order. */
struct delivery {
	const uint8_t *indexes;
	unsigned int count;
	bool may_wait; /* what finds no buffers waits; else it is dropped */
};

/*
 * True: all went. False: wait[] is set of packets that have to wait, and packet.reason of those that are lost at the
 * receiver.
 */
bool deliver(struct forwarder *fwd, uint32_t to, const struct delivery *delivery);

/* Calls the guest behind fd (-1: it wants none). False: that blocked, and the port is quarantined for it. */
bool forward_call(struct forwarder *fwd, struct port *port, int fd);

/* The port broke a rule: its queues stop, and the main thread is told. */
void forward_quarantine(struct forwarder *fwd, struct port *port, unsigned int fault);

uint64_t forward_now(struct forwarder *fwd);

#endif
