/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The masked flow table: one hash table per distinct mask, buckets of one cache line, a batch looked up in
 * stages so that its memory accesses overlap.
 *
 * One writer, the main thread. Any number of readers, each registered with RCU (liburcu QSBR) and holding on
 * to a flow no longer than until its next quiescent state. A flow's actions never change: adding the same key
 * and mask again puts a new flow with the old one's identity and counters in its place.
 *
 * Counters of a flow are per worker, found by the flow's slot: no cache line of a flow is written in passing.
 *
 * Tables are looked at in the order of their sizes: most packets find their flow in the first one.
 */
#ifndef LASTHOP_DATAPATH_FLOW_TABLE_H
#define LASTHOP_DATAPATH_FLOW_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "datapath/flow.h"
#include "lib/compiler.h"

#define FLOW_MASKS_MAX 64
#define FLOW_L2_WORDS  3 /* words of the key that PACKET_DEPTH_L2 fills */

#define FLOW_NO_OUTPUT UINT32_MAX

struct flow_mask {
	union flow_words words; /* without the stage, which the subtable has */
	uint32_t depth;         /* words that are not all zero: FLOW_L2_WORDS or FLOW_KEY_WORDS */
	uint32_t stage;
};

/* What a packet needs of a flow that switches by address is in the first line. */
struct flow {
	const struct flow_mask *mask;
	uint64_t id;
	uint64_t hash;
	uint32_t slot;       /* index of its counters */
	uint32_t output;     /* of a flow with one output and nothing else; or FLOW_NO_OUTPUT */
	uint32_t next_stage; /* of a flow that leads to another one; 0: none */
	uint32_t action_count;
	union flow_words key; /* masked, without the stage */
	uint64_t cookie;
	struct flow *next_free; /* the writer's: waiting for the readers to leave */
	struct flow_action actions[];
} cache_aligned;

struct flow_counters {
	uint64_t packets;
	uint64_t bytes;
};

struct flow_table;

/* NULL: no memory. readers: threads that count (flow_table_reader); flows_max: bound of the table. */
struct flow_table *flow_table_create(unsigned int readers, uint32_t flows_max);
void flow_table_destroy(struct flow_table *table);

/*
 * Adds a flow, or replaces the actions of the one with the same key (under the mask) and mask. 0 and *id;
 * -EINVAL (actions not understood), -ENOSPC (table or masks full), -ENOMEM.
 */
int flow_table_add(struct flow_table *table, const struct flow_key *key, const struct flow_key *mask,
		   const struct flow_action *actions, uint32_t action_count, uint64_t cookie, uint64_t *id);
int flow_table_remove(struct flow_table *table, uint64_t id); /* 0, -ENOENT */

/* Frees what readers may have seen, after waiting for them. Main thread, once a turn of its loop. */
void flow_table_reclaim(struct flow_table *table);

uint32_t flow_table_count(const struct flow_table *table); /* any thread */
uint32_t flow_table_capacity(const struct flow_table *table);

/* Calls visit for every flow with its summed counters, until it returns false. Main thread. */
void flow_table_visit(struct flow_table *table,
		      bool (*visit)(void *arg, const struct flow *flow, const struct flow_counters *sum), void *arg);
/* The same, resumable: from *cursor (0 at first) on; returns with *cursor where to go on, or 0 at the end. */
void flow_table_visit_from(struct flow_table *table, uint32_t *cursor,
			   bool (*visit)(void *arg, const struct flow *flow, const struct flow_counters *sum),
			   void *arg);

/* readers */

/* Changes with every addition and removal: what a reader remembers of flows is void when it changed. */
uint32_t flow_table_generation(const struct flow_table *table);

/* How deep packets must be parsed for the masks there are: true if beyond L2. */
bool flow_table_needs_l4(const struct flow_table *table);

#define FLOW_LOOKUP_MAX 64

/*
 * Looks up the keys that `wanted` has bits of, among the flows of this stage: fills in flows[] what is found, and
 * returns the bits of what is not. deep: the keys are parsed beyond L2; if not, flows that need more are not looked
 * at, even if they are new.
 */
uint64_t flow_table_lookup(const struct flow_table *table, uint32_t stage, const union flow_words *keys, bool deep,
			   uint64_t wanted, const struct flow **flows);

/* A reader's counters, by the flows' slots; only that reader writes them. */
struct flow_counters *flow_table_reader(struct flow_table *table, unsigned int reader);

static inline bool flow_matches(const struct flow *flow, const union flow_words *key)
{
	const uint64_t *mask = flow->mask->words.words;
	uint64_t diff = ((key->words[0] & mask[0]) ^ flow->key.words[0]) |
			((key->words[1] & mask[1]) ^ flow->key.words[1]) |
			((key->words[2] & mask[2]) ^ flow->key.words[2]);

	if (likely(flow->mask->depth == FLOW_L2_WORDS))
		return diff == 0;
	for (unsigned int i = FLOW_L2_WORDS; i < FLOW_KEY_WORDS; i++)
		diff |= (key->words[i] & mask[i]) ^ flow->key.words[i];
	return diff == 0;
}

#endif
