/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The queue's last packet first: what is like it, as far as its flows look at packets, meets the same flows. What is
 * left goes to the table, as a batch: the first stage for all, then the second for those that are led there. There,
 * too, the last flow comes first: whoever sends from many addresses often sends them all to one.
 *
 * Flows of large tables are in nobody's cache. The table overlaps the misses on buckets and flows, and their
 * counters are fetched while the packets are delivered.
 */
#include "datapath/classify.h"

#include <string.h>

/* Beyond it, counters are worth fetching ahead. */
#define FLOWS_IN_CACHE 4096

/* A flow may come while the batch is looked up: what follows a packet that did not find it yet waits with it. */
static void keep_order(struct forwarder *fwd, unsigned int words)
{
	const struct txq_batch *batch = &fwd->batch;

	for (unsigned int i = 0; i < batch->count; i++) {
		if (likely(fwd->flows[i] || batch->packets[i].reason))
			continue;
		for (unsigned int j = i + 1; j < batch->count; j++) {
			if (!memcmp(&fwd->keys[i], &fwd->keys[j], words * sizeof(fwd->keys[i].words[0])))
				fwd->flows[j] = NULL;
		}
	}
}

static bool is_like_last(const struct txq_last *last, const union flow_words *key)
{
	uint64_t diff = ((key->words[0] & last->mask.words[0]) ^ last->key.words[0]) |
			((key->words[1] & last->mask.words[1]) ^ last->key.words[1]) |
			((key->words[2] & last->mask.words[2]) ^ last->key.words[2]);

	for (unsigned int i = FLOW_L2_WORDS; unlikely(i < last->depth); i++)
		diff |= (key->words[i] & last->mask.words[i]) ^ last->key.words[i];
	return diff == 0;
}

static void remember(struct txq_last *last, const struct flow *flow, const struct flow *first,
		     const union flow_words *key, uint32_t generation)
{
	last->flow = flow;
	last->first = first;
	last->generation = generation;
	last->depth = first ? max(flow->mask->depth, first->mask->depth) : flow->mask->depth;
	for (unsigned int i = 0; i < last->depth; i++) {
		last->mask.words[i] = flow->mask->words.words[i] | (first ? first->mask->words.words[i] : 0);
		last->key.words[i] = key->words[i] & last->mask.words[i];
	}
}

/* The packets among these that `hint` is for; they get it. */
static uint32_t use_hint(struct forwarder *fwd, const struct flow *hint, uint32_t wanted)
{
	const union flow_words mask = hint->mask->words, key = hint->key;
	uint32_t found = 0;

	if (unlikely(hint->mask->depth > FLOW_L2_WORDS))
		return 0;
	for (uint32_t left = wanted; left; left &= left - 1) {
		unsigned int i = (unsigned int)__builtin_ctz(left);
		const uint64_t *words = fwd->keys[i].words;
		uint64_t diff = ((words[0] & mask.words[0]) ^ key.words[0]) |
				((words[1] & mask.words[1]) ^ key.words[1]) |
				((words[2] & mask.words[2]) ^ key.words[2]);

		if (diff)
			continue;
		fwd->flows[i] = hint;
		found |= 1U << i;
	}
	return found;
}

static void prefetch_counters(const struct forwarder *fwd, uint32_t found)
{
	for (; found; found &= found - 1)
		__builtin_prefetch(&fwd->counters[fwd->flows[__builtin_ctz(found)]->slot], 1);
}

/* The table for these packets; returns those that find nothing. */
static uint32_t look_up(struct forwarder *fwd, const struct flow *hint, bool deep, uint32_t wanted)
{
	const bool large = flow_table_count(fwd->dp->flows) > FLOWS_IN_CACHE;
	uint32_t missing = (uint32_t)flow_table_lookup(fwd->dp->flows, FLOW_STAGE_FIRST, fwd->keys, deep, wanted,
						       fwd->flows);
	uint32_t second = 0;

	if (unlikely(large))
		prefetch_counters(fwd, wanted & ~missing);
	for (uint32_t left = wanted & ~missing; left; left &= left - 1) {
		unsigned int i = (unsigned int)__builtin_ctz(left);
		const struct flow *flow = fwd->flows[i];

		if (!flow->next_stage)
			continue;
		fwd->firsts[i] = flow;
		fwd->flows[i] = NULL;
		second |= 1U << i;
	}
	if (hint && second)
		second &= ~use_hint(fwd, hint, second);
	if (second) {
		uint32_t none = (uint32_t)flow_table_lookup(fwd->dp->flows, FLOW_STAGE_SECOND, fwd->keys, deep, second,
							    fwd->flows);

		if (unlikely(large))
			prefetch_counters(fwd, second & ~none);
		missing |= none;
	}
	return missing;
}

/* All packets have a flow. Notes whether they alternate. */
static uint32_t common_output(const struct forwarder *fwd, struct txq_last *last)
{
	const struct flow *lead = fwd->flows[0];
	uint32_t others = 0;
	bool repeat = false;

	if (unlikely(!lead))
		return FLOW_NO_OUTPUT;
	for (unsigned int i = 1; i < fwd->batch.count; i++) {
		others |= fwd->flows[i]->output ^ lead->output;
		repeat |= fwd->flows[i] == fwd->flows[i - 1] && fwd->firsts[i] == fwd->firsts[i - 1];
	}
	last->alternates = !repeat && fwd->batch.count > 1;
	return others ? FLOW_NO_OUTPUT : lead->output;
}

/* A plain batch whose packets all have the header that the last packet had, as far as anybody looks. */
static bool all_are_like_last(struct forwarder *fwd, const struct txq *txq)
{
	const struct packet *packets = fwd->batch.packets;
	const unsigned int length = fwd->batch.count;
	uint64_t front, back, diff = 0;

	packet_parse_l2(&packets[0], txq->port, &fwd->keys[0].key);
	/* Behind a tag there is more to compare. */
	if (fwd->keys[0].key.vlan_tci || !is_like_last(&txq->last, &fwd->keys[0]))
		return false;
	/* Addresses and type are 14 bytes. */
	memcpy(&front, packets[0].head, sizeof(front));
	memcpy(&back, packets[0].head + 6, sizeof(back));
	for (unsigned int i = 1; i < length; i++) {
		uint64_t words[2];

		memcpy(&words[0], packets[i].head, sizeof(words[0]));
		memcpy(&words[1], packets[i].head + 6, sizeof(words[1]));
		diff |= (words[0] ^ front) | (words[1] ^ back);
	}
	return diff == 0;
}

uint32_t classify(struct forwarder *fwd, struct txq *txq)
{
	struct txq_batch *batch = &fwd->batch;
	struct txq_last *last = &txq->last;
	uint32_t generation = flow_table_generation(fwd->dp->flows);
	const bool deep = flow_table_needs_l4(fwd->dp->flows);
	uint32_t wanted = 0, missing = 0, hits = 0;
	unsigned int lost = 0;
	bool compare;

	if (unlikely(last->generation != generation || (!deep && last->depth > FLOW_L2_WORDS)))
		last->flow = NULL;
	if (likely(batch->plain && !deep && last->flow && last->flow->output != FLOW_NO_OUTPUT) &&
	    likely(all_are_like_last(fwd, txq))) {
		stats_add(&fwd->worker_stats->flow_hits_last, batch->count);
		fwd->one_flow = true;
		return last->flow->output;
	}
	compare = last->flow && !last->alternates;
	for (unsigned int i = 0; i < batch->count; i++) {
		fwd->flows[i] = NULL;
		fwd->firsts[i] = NULL;
		if (unlikely(batch->packets[i].reason)) {
			lost++;
			continue;
		}
		if (likely(!deep))
			packet_parse_l2(&batch->packets[i], txq->port, &fwd->keys[i].key);
		else
			packet_parse(&batch->packets[i], txq->port, PACKET_DEPTH_L4, &fwd->keys[i].key);
		if (compare && likely(is_like_last(last, &fwd->keys[i]))) {
			fwd->flows[i] = last->flow;
			fwd->firsts[i] = last->first;
			hits++;
		} else {
			wanted |= 1U << i;
		}
	}
	stats_add(&fwd->worker_stats->flow_hits_last, hits);
	fwd->one_flow = last->flow && hits == batch->count;
	if (likely(fwd->one_flow))
		return last->flow->output;
	if (wanted) {
		missing = look_up(fwd, last->flow && last->first ? last->flow : NULL, deep, wanted);
		wanted &= ~missing;
		stats_add(&fwd->worker_stats->flow_hits_table, (unsigned int)__builtin_popcount(wanted));
	}
	if (wanted) {
		unsigned int i = 31 - (unsigned int)__builtin_clz(wanted);

		remember(last, fwd->flows[i], fwd->firsts[i], &fwd->keys[i], generation);
	}
	if (unlikely(missing))
		keep_order(fwd, deep ? FLOW_KEY_WORDS : FLOW_L2_WORDS);
	return missing || lost ? FLOW_NO_OUTPUT : common_output(fwd, last);
}

static void count(struct flow_counters *counters, uint64_t packets, uint64_t bytes)
{
	stats_add(&counters->packets, packets);
	stats_add(&counters->bytes, bytes);
}

void classify_count(struct forwarder *fwd, const struct txq_last *last)
{
	const struct txq_batch *batch = &fwd->batch;

	for (unsigned int i = 0; i < batch->count; i++) {
		const struct flow *flow = fwd->one_flow ? last->flow : fwd->flows[i];
		const struct flow *first = fwd->one_flow ? last->first : fwd->firsts[i];

		/* Packets that wait are counted when they are done. */
		if (unlikely(!flow || fwd->wait[i]))
			continue;
		count(&fwd->counters[flow->slot], 1, batch->packets[i].length);
		if (first)
			count(&fwd->counters[first->slot], 1, batch->packets[i].length);
	}
}

/* None waits, and each has a flow. Destinations often repeat, sources alternate. */
static void count_each(struct forwarder *fwd)
{
	const struct txq_batch *batch = &fwd->batch;
	unsigned int i = 0;

	while (i < batch->count) {
		const struct flow *flow = fwd->flows[i];
		uint64_t packets = 0, bytes = 0;

		for (; i < batch->count && fwd->flows[i] == flow; i++) {
			if (fwd->firsts[i])
				count(&fwd->counters[fwd->firsts[i]->slot], 1, batch->packets[i].length);
			packets++;
			bytes += batch->packets[i].length;
		}
		count(&fwd->counters[flow->slot], packets, bytes);
	}
}

void classify_count_all(struct forwarder *fwd, const struct txq_last *last, uint64_t bytes)
{
	if (unlikely(!fwd->one_flow)) {
		count_each(fwd);
		return;
	}
	count(&fwd->counters[last->flow->slot], fwd->batch.count, bytes);
	if (last->first)
		count(&fwd->counters[last->first->slot], fwd->batch.count, bytes);
}
