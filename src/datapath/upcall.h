/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Misses on their way up: a ring from one worker to the main thread. Only keys travel; the packet stays where
 * it is, in its sender's ring.
 *
 * upcall_put is the worker's, upcall_get the main thread's; neither waits for the other.
 */
#ifndef LASTHOP_DATAPATH_UPCALL_H
#define LASTHOP_DATAPATH_UPCALL_H

#include <stdbool.h>
#include <stdint.h>

#include "datapath/flow.h"
#include "lib/compiler.h"

#define UPCALL_RING_SIZE 1024
#define UPCALL_RECENT    256
#define UPCALL_RESEND_NS 20000000ULL /* after so long an upcall may be lost on its way */

struct upcall {
	struct flow_key key; /* in full depth */
	uint32_t length;     /* of the frame, bytes */
};

struct upcall_ring {
	uint32_t head cache_aligned; /* written by the worker */
	/* The worker's: keys that went up lately and need not again. */
	struct {
		uint64_t hash;
		uint64_t until_ns;
	} recent[UPCALL_RECENT];
	uint32_t tail cache_aligned; /* written by the main thread */
	struct upcall entries[UPCALL_RING_SIZE];
};

enum upcall_answer {
	UPCALL_SENT,
	UPCALL_PENDING, /* the same key is on its way already */
	UPCALL_REFUSED, /* the caller has no credit */
	UPCALL_FULL,    /* the ring is: later */
};

/* For a key of a packet that met no flow. The main thread has to be woken after UPCALL_SENT. */
enum upcall_answer upcall_put(struct upcall_ring *ring, const struct flow_key *key, uint32_t length, uint64_t now_ns,
			      bool credit);

bool upcall_get(struct upcall_ring *ring, struct upcall *upcall);

#endif
