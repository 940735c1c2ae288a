/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Notices: which guests this thread has published something for and has not decided yet whether to call. A turn only
 * publishes and notes; whoever runs the turns decides for each notice when it is given, and may let several
 * publications become one call.
 *
 * Owned by a forwarder, used by its thread alone, online for RCU. A notice names its queue by number: if the port is
 * gone or the queue stands still when the notice is given, it is dropped, because a queue that starts calls its guest
 * anyway. No thread may sleep or stay offline with notices that are not given: a guest may sleep until it is called.
 */
#ifndef LASTHOP_DATAPATH_NOTICE_H
#define LASTHOP_DATAPATH_NOTICE_H

#include <stdbool.h>
#include <stdint.h>

#define NOTICES_MAX 32

struct forwarder;
struct port;

/* Used entries that one call made visible: [from, to) in the used index's count. Equal: none. */
struct publication {
	uint16_t from;
	uint16_t to;
	uint32_t packets; /* that they are of */
};

struct notice {
	uint32_t port; /* index */
	uint16_t queue;
	bool transmit; /* the pair's transmit queue: a sender got buffers back */
	uint16_t from; /* as in a publication; all of them together */
	uint16_t to;
	uint32_t packets;
	uint64_t since_ns; /* 0 when it is noted; the caller's, who knows the time when it looks at the notice first */
};

struct notices {
	unsigned int count;
	bool fenced; /* what is published is ordered before any look at a guest's wish */
	struct notice entries[NOTICES_MAX];
};

/* Notes a publication, in the queue's notice if it has one. When there is no room, all are given first. */
void notice_add(struct forwarder *fwd, const struct port *port, unsigned int queue, bool transmit,
		struct publication what);

/* Removes the notice (the last one takes its place). The port whose guest wants to be called now, or NULL. */
struct port *notice_take(struct forwarder *fwd, unsigned int index);

/* Calls the guest for a queue, if that is live. True if it was called. */
bool notice_call(struct forwarder *fwd, struct port *port, unsigned int queue, bool transmit);

/* Both. True if it was called. */
bool notice_give(struct forwarder *fwd, unsigned int index);

void notice_give_all(struct forwarder *fwd);

#endif
