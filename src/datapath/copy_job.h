/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A large delivery's copies as a job that two workers share. The worker whose turn it is writes net headers and staged
 * bytes itself; what is left are spans of payload from one guest's memory to another's, cut into parts of about
 * COPY_PART bytes. Whoever comes takes the next part, until there is none: so it does not matter when a helper
 * comes, and the worker of the turn makes all of them if nobody does. Nobody waits for anybody: who makes the part that
 * is ready last publishes the reservation, and the sender's packets stay in its ring until then (txq_copy).
 *
 * A job belongs to a forwarder, is used again and again, and lives as long as the workers do. Its owner offers it
 * within one turn and leaves no part untaken behind. A helper may come too late, hold a job that is over, or is another
 * one by then; `claims` tells, by which parts are taken.
 *
 * Only ports whose queues were seen live since the last quiescent state may be touched. A helper does not inherit
 * its owner's right to do so: a grace period that began in between waits for both until each was quiescent once, and
 * the helper may have been so before it came. Hence the look at both queues before each part.
 */
#ifndef LASTHOP_DATAPATH_COPY_JOB_H
#define LASTHOP_DATAPATH_COPY_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/compiler.h"

#define COPY_JOBS      2            /* of one forwarder, under way at once */
#define COPY_SHARE_MIN (128U << 10) /* bytes of payload worth the trouble */
#define COPY_PART      (32U << 10)  /* bytes */
#define COPY_SPANS_MAX 1024
#define COPY_PARTS_MAX 128

struct forwarder;
struct port;
struct packet;
struct chain_piece;
struct rxq_reservation;
struct txq;

struct copy_span {
	uint8_t *to;
	const uint8_t *from;
	uint32_t size; /* bytes */
};

struct copy_job {
	/* Atomic: a number in the upper half that no other of the job's lives has soon; parts; the next one to take. */
	uint64_t claims cache_aligned;
	uint32_t left; /* atomic: parts that are not ready */
	bool in_use;   /* atomic: cleared when all are */
	/* Whose it is; atomic, as a helper that comes too late may look. */
	uint32_t from_port; /* indexes */
	uint32_t from_queue;
	uint32_t to_port;
	uint32_t to_queue;
	uint16_t place; /* of the sender's queue's copies */
	uint32_t ticket;
	unsigned int part_count;
	unsigned int span_count;
	uint32_t part_bytes;               /* of the last one, so far */
	uint16_t part_end[COPY_PARTS_MAX]; /* of each part: one behind its last span */
	struct copy_span spans[COPY_SPANS_MAX];
};

/* Who may come to help a forwarder: the engine. All three are called by the forwarder's thread, within a turn. */
struct copy_helpers {
	/* Whether it is worth making a job. Called for each delivery that is large enough. */
	bool (*ask)(struct copy_helpers *helpers);
	/* The job may be taken from now on. */
	void (*offer)(struct copy_helpers *helpers, struct copy_job *job);
	/* There is nothing left to take: nobody else needs to come. */
	void (*withdraw)(struct copy_helpers *helpers, struct copy_job *job);
	struct copy_job jobs[COPY_JOBS];
};

/* A part that is this thread's. */
struct copy_part {
	struct copy_job *job;
	struct port *from;
	struct port *to;
	unsigned int index;
};

/* The owner: begins an empty job for a delivery from txq, or NULL: none is free, or no place is in the queue. */
struct copy_job *copy_job_begin(struct forwarder *fwd, struct txq *txq);
/* Adds a span, up to the room that there is. Returns the bytes of it that were added. */
uint32_t copy_job_add(struct copy_job *job, uint8_t *to, const uint8_t *from, uint32_t size);
/*
 * Offers it to others, makes all parts that nobody takes and counts them. True: all is copied and the caller publishes
 * the reservation. False: who makes the last part does; the packets go into the batch's copying[job->place].
 */
bool copy_job_share(struct forwarder *fwd, struct copy_job *job, const struct port *to, unsigned int queue,
		    uint32_t ticket);

/* Helpers, online for RCU: takes a part, if there is one and it may be touched. */
bool copy_job_take(struct forwarder *fwd, struct copy_job *job, struct copy_part *part);
/*
 * Makes it. True: it was the last one; the receiver's notice is left in fwd, and whoever sleeps with the sender's queue
 * should look at it. The job is no longer to be used.
 */
bool copy_job_make(struct forwarder *fwd, const struct copy_part *part);

#endif
