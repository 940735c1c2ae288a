/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Streams of frames between two front ends, and what must come out of them: plain frames, frames
 * that lack their checksum, and large segments, which arrive as they are or, at a receiver that
 * cannot take them, as the packets that a network card would have made of them. Every byte and
 * every field of the net header is compared, and the order.
 *
 * One thread. What is wrong fails the test.
 */
#ifndef TESTS_SWITCH_TRAFFIC_H
#define TESTS_SWITCH_TRAFFIC_H

#include "../unit/unit.h"

#include "../unit/frame.h"
#include "vhost/netfront.h"

#define TRAFFIC_NUMBER 14 /* where a plain frame has its number, 32 bits, big-endian */

struct traffic_frame {
	const struct frame_spec *spec; /* NULL: a plain frame of size bytes */
	uint32_t size;
	uint16_t gso_size; /* with spec; 0: it only lacks its checksum */
	bool ecn;          /* the segments' gso_type says so */
};

struct traffic {
	struct netfront *from;
	struct netfront *to;
	unsigned int from_pair;
	unsigned int to_pair;
	const struct traffic_frame *frames; /* of which the stream consists, over and over */
	unsigned int frame_count;
	uint32_t limit; /* frames to send */
	uint8_t dst;    /* MAC ids (testbed_mac) of all frames */
	uint8_t src;
	/* how far it got */
	uint32_t sent;
	uint32_t received; /* complete ones */
	uint32_t segment;  /* of the next one */
	uint64_t packets;  /* at the receiver */
	uint64_t bytes;
};

/* Sends what the ring takes, receives what there is. True if anything moved. */
bool traffic_step(struct traffic *traffic);

/* The halves of that. */
bool traffic_send(struct traffic *traffic);
bool traffic_receive(struct traffic *traffic);

static inline bool traffic_done(const struct traffic *traffic)
{
	return traffic->received == traffic->limit;
}

/* Steps until everything has arrived; waits in between, by the descriptors or by polling. */
void traffic_run(struct traffic *traffic);

/* Several at once, each as traffic_run() does. */
void traffic_run_all(struct traffic *traffics, unsigned int count);

/* One stream of each of these frames once. */
void traffic_expect(struct netfront *from, struct netfront *to, const struct traffic_frame *frames, unsigned int count);

/* Nothing more comes out at nf for a while (which is no proof, but finds what is usual). */
void traffic_expect_silence(struct netfront *nf, unsigned int pair);

/* How many packets one frame is at a receiver with these features. */
uint32_t traffic_segments(const struct traffic_frame *kind, uint64_t features);

#endif
