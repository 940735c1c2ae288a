/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Three levels: a view (the list of masks in use), a hash table per mask, a slot per flow.
 *
 * A bucket is one cache line of eight words, each a flow's pointer with sixteen bits of its hash on top, so that a
 * lookup reads a flow only when it is very probably the right one. Its place in the bucket follows from the hash, too,
 * as long as that place is free: most lookups then compare one word. A flow that finds its bucket full goes into
 * one of the next ones; `probes` tells readers how far to look. Readers meet views and tables through RCU;
 * the writer replaces what has to grow and frees the old one after a grace period.
 *
 * Slots are the writer's own: where the flow of an identity is, what its counters were when the slot was
 * taken (readers never reset theirs), and which slots are free. An identity is the slot with the number of
 * its reuses, so that it never comes again.
 */
#include "datapath/flow_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "datapath/drop.h"
#include "lib/rcu.h"

#define BUCKET_ENTRIES 8
#define BUCKET_LOAD    4 /* flows a bucket on average: more are found, but not at the first look */
#define BUCKETS_FIRST  16
#define PROBES_MAX     4
#define GROW_TRIES     6
#define PLACE_SHIFT    45 /* bits of a hash that neither bucket nor tag uses */
#define HUGE_PAGE      (2UL << 20)
#define POINTER_BITS   48
#define POINTER_MASK   ((1ULL << POINTER_BITS) - 1)

struct bucket {
	uint64_t entries[BUCKET_ENTRIES]; /* tag << 48 | pointer; 0: free */
} cache_aligned;

struct hash_table {
	uint64_t bucket_mask;
	uint64_t seed;
	uint32_t probes; /* buckets to look at, 1 to PROBES_MAX */
	struct bucket *buckets;
	void *next_free;
};

struct subtable {
	struct flow_mask mask;
	struct hash_table *hash; /* RCU */
	uint32_t count;
	struct subtable *next_free;
};

struct view {
	uint32_t count;
	bool needs_l4;
	struct view *next_free;
	struct subtable *subtables[FLOW_MASKS_MAX];
};

struct slot {
	struct flow *flow; /* NULL: free */
	struct flow_counters base;
	uint32_t reuses;
	uint32_t next; /* free list: slot + 1 */
};

struct flow_table {
	/* read by all, written seldom */
	struct view *view; /* RCU */
	uint32_t generation;
	unsigned int readers;
	struct flow_counters **counters; /* [reader][slot] */
	/* the writer's */
	uint32_t capacity;
	uint32_t count;
	uint32_t slots_used; /* never taken from here on */
	uint32_t free_slot;  /* slot + 1, or 0 */
	struct slot *slots;
	struct flow *dead_flows;
	struct hash_table *dead_tables;
	struct subtable *dead_subtables;
	struct view *dead_views;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The seed is secret and the words are not: neither factor is known to who chooses them. */
static inline uint64_t hash_words(const uint64_t *words, const uint64_t *mask, unsigned int depth, uint64_t seed)
{
	uint64_t hash = mix((words[1] & mask[1]) ^ seed,
			    (words[2] & mask[2]) ^ ((words[0] & mask[0]) * (seed | 1)) ^ 0x9e3779b97f4a7c15ULL);

	for (unsigned int i = FLOW_L2_WORDS; i < depth; i++)
		hash = mix(hash ^ (words[i] & mask[i]), 0xa0761d6478bd642fULL ^ seed);
	return hash;
}

static inline uint64_t entry_pack(const struct flow *flow, uint64_t hash)
{
	return ((uint64_t)(uintptr_t)flow & POINTER_MASK) | (hash & ~POINTER_MASK);
}

static inline struct flow *entry_flow(uint64_t entry)
{
	return (struct flow *)(uintptr_t)(entry & POINTER_MASK);
}

static inline unsigned int entry_place(uint64_t hash, unsigned int i)
{
	return ((unsigned int)(hash >> PLACE_SHIFT) + i) % BUCKET_ENTRIES;
}

/*
 * For memory that is accessed at random: with huge pages, if the system has some to spare, an access costs one miss
 * and not two.
 *
 * @syscalls core: madvise
 */
static void prefer_huge_pages(void *block, size_t size)
{
	uintptr_t begin = align_up((uintptr_t)block, HUGE_PAGE), end = align_down((uintptr_t)block + size, HUGE_PAGE);

	if (begin < end)
		(void)madvise((uint8_t *)block + (begin - (uintptr_t)block), end - begin, MADV_HUGEPAGE);
}

static struct hash_table *hash_table_create(uint64_t buckets)
{
	const size_t size = buckets * sizeof(struct bucket);
	struct hash_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	if (getrandom(&table->seed, sizeof(table->seed), GRND_NONBLOCK) != sizeof(table->seed))
		table->seed = (uint64_t)(uintptr_t)table * 0x9e3779b97f4a7c15ULL;
	table->bucket_mask = buckets - 1;
	table->probes = 1;
	table->buckets = aligned_alloc(size >= HUGE_PAGE ? HUGE_PAGE : CACHE_LINE, size);
	if (!table->buckets) {
		free(table);
		return NULL;
	}
	prefer_huge_pages(table->buckets, size);
	memset(table->buckets, 0, size);
	return table;
}

static void hash_table_free(struct hash_table *table)
{
	free(table->buckets);
	free(table);
}

static bool hash_table_insert(struct hash_table *table, struct flow *flow)
{
	for (uint32_t probe = 0; probe < PROBES_MAX; probe++) {
		struct bucket *bucket = &table->buckets[(flow->hash + probe) & table->bucket_mask];

		for (unsigned int i = 0; i < BUCKET_ENTRIES; i++) {
			uint64_t *entry = &bucket->entries[entry_place(flow->hash, i)];

			if (*entry)
				continue;
			/* Readers must look this far before they can find the entry. */
			if (table->probes <= probe)
				store_release(&table->probes, probe + 1);
			store_release(entry, entry_pack(flow, flow->hash));
			return true;
		}
	}
	return false;
}

static uint64_t *hash_table_entry(struct hash_table *table, const struct flow *flow)
{
	for (uint32_t probe = 0; probe < table->probes; probe++) {
		struct bucket *bucket = &table->buckets[(flow->hash + probe) & table->bucket_mask];

		for (unsigned int i = 0; i < BUCKET_ENTRIES; i++) {
			if (bucket->entries[i] && entry_flow(bucket->entries[i]) == flow)
				return &bucket->entries[i];
		}
	}
	return NULL;
}

static struct flow *hash_table_find(const struct hash_table *table, const union flow_words *key, uint64_t hash)
{
	uint32_t probes = load_acquire(&table->probes);

	for (uint32_t probe = 0; probe < probes; probe++) {
		const struct bucket *bucket = &table->buckets[(hash + probe) & table->bucket_mask];

		for (unsigned int i = 0; i < BUCKET_ENTRIES; i++) {
			uint64_t entry = load_acquire(&bucket->entries[i]);

			if (entry && !((entry ^ hash) & ~POINTER_MASK) && flow_matches(entry_flow(entry), key))
				return entry_flow(entry);
		}
	}
	return NULL;
}

/* A bigger copy of the subtable's hash, with a new seed: whoever chose keys to collide has to begin anew. */
static struct hash_table *hash_table_grow(struct flow_table *flows, struct subtable *subtable)
{
	uint64_t buckets = subtable->hash->bucket_mask + 1;

	for (unsigned int try = 0; try < GROW_TRIES; try++) {
		struct hash_table *table;
		bool complete = true;

		/* Grow for load; at low load only the seed was unlucky. */
		if (try > 0 || subtable->count >= buckets * BUCKET_LOAD)
			buckets *= 2;
		table = hash_table_create(buckets);
		if (!table)
			return NULL;
		for (uint32_t i = 0; i < flows->slots_used && complete; i++) {
			struct flow *flow = flows->slots[i].flow;

			if (!flow || flow->mask != &subtable->mask)
				continue;
			flow->hash = hash_words(flow->key.words, subtable->mask.words.words, subtable->mask.depth,
						table->seed);
			complete = hash_table_insert(table, flow);
		}
		if (complete)
			return table;
		hash_table_free(table);
	}
	return NULL;
}

/* The flows' hashes belong to the table in use: after a growth that failed they must be its again. */
static void subtable_rehash(struct flow_table *flows, struct subtable *subtable)
{
	for (uint32_t i = 0; i < flows->slots_used; i++) {
		struct flow *flow = flows->slots[i].flow;

		if (flow && flow->mask == &subtable->mask)
			flow->hash = hash_words(flow->key.words, subtable->mask.words.words, subtable->mask.depth,
						subtable->hash->seed);
	}
}

struct flow_table *flow_table_create(unsigned int readers, uint32_t flows_max)
{
	struct flow_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->readers = readers;
	table->capacity = flows_max;
	table->slots = calloc(flows_max, sizeof(*table->slots));
	table->view = calloc(1, sizeof(*table->view));
	table->counters = calloc(readers, sizeof(struct flow_counters *));
	if (!table->slots || !table->view || !table->counters) {
		flow_table_destroy(table);
		return NULL;
	}
	for (unsigned int i = 0; i < readers; i++) {
		table->counters[i] = calloc(flows_max, sizeof(struct flow_counters));
		if (!table->counters[i]) {
			flow_table_destroy(table);
			return NULL;
		}
		prefer_huge_pages(table->counters[i], flows_max * sizeof(struct flow_counters));
	}
	return table;
}

static void give_slot(struct flow_table *table, uint32_t index)
{
	struct slot *slot = &table->slots[index];

	slot->reuses++;
	slot->next = table->free_slot;
	table->free_slot = index + 1;
}

static void free_dead(struct flow_table *table)
{
	while (table->dead_flows) {
		struct flow *flow = table->dead_flows;
		const struct slot *slot = &table->slots[flow->slot];

		table->dead_flows = flow->next_free;
		/* Not before: readers may have counted for the flow that was there. */
		if (!slot->flow && slot->reuses == flow->id >> 32)
			give_slot(table, flow->slot);
		free(flow);
	}
	while (table->dead_tables) {
		struct hash_table *hash = table->dead_tables;

		table->dead_tables = hash->next_free;
		hash_table_free(hash);
	}
	while (table->dead_subtables) {
		struct subtable *subtable = table->dead_subtables;

		table->dead_subtables = subtable->next_free;
		hash_table_free(subtable->hash);
		free(subtable);
	}
	while (table->dead_views) {
		struct view *view = table->dead_views;

		table->dead_views = view->next_free;
		free(view);
	}
}

void flow_table_destroy(struct flow_table *table)
{
	if (!table)
		return;
	free_dead(table);
	for (uint32_t i = 0; table->slots && i < table->slots_used; i++)
		free(table->slots[i].flow);
	for (uint32_t i = 0; table->view && i < table->view->count; i++) {
		hash_table_free(table->view->subtables[i]->hash);
		free(table->view->subtables[i]);
	}
	for (unsigned int i = 0; table->counters && i < table->readers; i++)
		free(table->counters[i]);
	free(table->counters);
	free(table->view);
	free(table->slots);
	free(table);
}

void flow_table_reclaim(struct flow_table *table)
{
	if (!table->dead_flows && !table->dead_tables && !table->dead_subtables && !table->dead_views)
		return;
	synchronize_rcu();
	free_dead(table);
}

static void publish(struct flow_table *table)
{
	store_release(&table->generation, table->generation + 1);
}

static void retire_flow(struct flow_table *table, struct flow *flow)
{
	flow->next_free = table->dead_flows;
	table->dead_flows = flow;
}

static void sort_by_size(struct view *view)
{
	for (uint32_t i = 1; i < view->count; i++) {
		struct subtable *subtable = view->subtables[i];
		uint32_t j = i;

		for (; j > 0 && view->subtables[j - 1]->count < subtable->count; j--)
			view->subtables[j] = view->subtables[j - 1];
		view->subtables[j] = subtable;
	}
}

static int replace_view(struct flow_table *table, struct subtable *add, const struct subtable *remove)
{
	struct view *old = table->view;
	struct view *view = calloc(1, sizeof(*view));

	if (!view)
		return -ENOMEM;
	for (uint32_t i = 0; i < old->count; i++) {
		if (old->subtables[i] != remove)
			view->subtables[view->count++] = old->subtables[i];
	}
	if (add)
		view->subtables[view->count++] = add;
	sort_by_size(view);
	for (uint32_t i = 0; i < view->count; i++)
		view->needs_l4 |= view->subtables[i]->mask.depth > FLOW_L2_WORDS;
	rcu_assign_pointer(table->view, view);
	old->next_free = table->dead_views;
	table->dead_views = old;
	return 0;
}

static struct subtable *find_subtable(const struct flow_table *table, uint32_t stage, const union flow_words *mask)
{
	for (uint32_t i = 0; i < table->view->count; i++) {
		struct subtable *subtable = table->view->subtables[i];

		if (subtable->mask.stage == stage &&
		    !memcmp(subtable->mask.words.words, mask->words, sizeof(mask->words)))
			return subtable;
	}
	return NULL;
}

static struct subtable *add_subtable(struct flow_table *table, uint32_t stage, const union flow_words *mask, int *error)
{
	struct subtable *subtable;

	if (table->view->count == FLOW_MASKS_MAX) {
		*error = -ENOSPC;
		return NULL;
	}
	*error = -ENOMEM;
	subtable = calloc(1, sizeof(*subtable));
	if (!subtable)
		return NULL;
	subtable->mask.words = *mask;
	subtable->mask.stage = stage;
	subtable->mask.depth = FLOW_L2_WORDS;
	for (unsigned int i = FLOW_L2_WORDS; i < FLOW_KEY_WORDS; i++) {
		if (mask->words[i])
			subtable->mask.depth = FLOW_KEY_WORDS;
	}
	/* Of the third word, an L2 key has the lower half only. */
	if (mask->key.ip_proto || mask->key.ip_tos || mask->key.ip_fragment)
		subtable->mask.depth = FLOW_KEY_WORDS;
	subtable->hash = hash_table_create(BUCKETS_FIRST);
	if (!subtable->hash || replace_view(table, subtable, NULL)) {
		if (subtable->hash)
			hash_table_free(subtable->hash);
		free(subtable);
		return NULL;
	}
	return subtable;
}

static void drop_subtable_if_empty(struct flow_table *table, struct subtable *subtable)
{
	if (subtable->count || replace_view(table, NULL, subtable))
		return;
	subtable->next_free = table->dead_subtables;
	table->dead_subtables = subtable;
}

/* A table that has grown well beyond the one before it is looked at first from now on. */
static void promote_subtable(struct flow_table *table, const struct subtable *subtable)
{
	const struct view *view = table->view;

	for (uint32_t i = 1; i < view->count; i++) {
		if (view->subtables[i] != subtable || subtable->count / 2 <= view->subtables[i - 1]->count)
			continue;
		/* Without memory the order stays: it is as right, only slower. */
		(void)replace_view(table, NULL, NULL);
		return;
	}
}

static int insert_flow(struct flow_table *table, struct subtable *subtable, struct flow *flow)
{
	struct hash_table *bigger;
	bool full;

	flow->hash = hash_words(flow->key.words, subtable->mask.words.words, subtable->mask.depth,
				subtable->hash->seed);
	full = subtable->count >= (subtable->hash->bucket_mask + 1) * BUCKET_LOAD;
	if (!full && hash_table_insert(subtable->hash, flow))
		return 0;
	/* The flow has its slot already, so that it is copied along. */
	bigger = hash_table_grow(table, subtable);
	if (!bigger) {
		subtable_rehash(table, subtable);
		return full && hash_table_insert(subtable->hash, flow) ? 0 : -ENOSPC;
	}
	subtable->hash->next_free = table->dead_tables;
	table->dead_tables = subtable->hash;
	rcu_assign_pointer(subtable->hash, bigger);
	return 0;
}

static void sum_counters(const struct flow_table *table, uint32_t slot, struct flow_counters *sum)
{
	*sum = (struct flow_counters){0};
	for (unsigned int i = 0; i < table->readers; i++) {
		sum->packets += load_relaxed(&table->counters[i][slot].packets);
		sum->bytes += load_relaxed(&table->counters[i][slot].bytes);
	}
}

static bool take_slot(struct flow_table *table, uint32_t *slot)
{
	if (!table->free_slot && table->slots_used == table->capacity)
		flow_table_reclaim(table);
	if (table->free_slot) {
		*slot = table->free_slot - 1;
		table->free_slot = table->slots[*slot].next;
	} else if (table->slots_used < table->capacity) {
		*slot = table->slots_used++;
	} else {
		return false;
	}
	sum_counters(table, *slot, &table->slots[*slot].base);
	return true;
}

static bool actions_valid(uint32_t stage, const struct flow_action *actions, uint32_t count)
{
	if (stage > FLOW_STAGE_SECOND || count > FLOW_ACTIONS_MAX)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		switch (actions[i].type) {
		case FLOW_ACTION_OUTPUT:
			if (actions[i].value >= FLOW_PORTS_MAX)
				return false;
			break;
		case FLOW_ACTION_DROP:
			if (count != 1 || actions[i].value >= DROP_COUNT)
				return false;
			break;
		case FLOW_ACTION_STAGE:
			if (count != 1 || actions[i].value <= stage || actions[i].value > FLOW_STAGE_SECOND)
				return false;
			break;
		default:
			return false;
		}
	}
	return true;
}

static struct flow *find_same(struct subtable *subtable, const union flow_words *key)
{
	uint64_t hash = hash_words(key->words, subtable->mask.words.words, subtable->mask.depth, subtable->hash->seed);

	return hash_table_find(subtable->hash, key, hash);
}

static struct flow *create_flow(const struct flow_action *actions, uint32_t action_count)
{
	size_t size = align_up(sizeof(struct flow) + action_count * sizeof(*actions), CACHE_LINE);
	struct flow *flow = aligned_alloc(CACHE_LINE, size);

	if (!flow)
		return NULL;
	memset(flow, 0, size);
	flow->action_count = action_count;
	flow->output = FLOW_NO_OUTPUT;
	if (action_count)
		memcpy(flow->actions, actions, action_count * sizeof(*actions));
	if (action_count == 1 && actions[0].type == FLOW_ACTION_OUTPUT)
		flow->output = actions[0].value;
	if (action_count == 1 && actions[0].type == FLOW_ACTION_STAGE)
		flow->next_stage = actions[0].value;
	return flow;
}

int flow_table_add(struct flow_table *table, const struct flow_key *key, const struct flow_key *mask,
		   const struct flow_action *actions, uint32_t action_count, uint64_t cookie, uint64_t *id)
{
	union flow_words mask_words = {.key = *mask};
	const uint32_t stage = key->stage;
	struct subtable *subtable;
	struct flow *flow, *old = NULL;
	int error;

	if (!actions_valid(stage, actions, action_count))
		return -EINVAL;
	flow = create_flow(actions, action_count);
	if (!flow)
		return -ENOMEM;
	mask_words.key.stage = 0;
	flow->key.key = *key;
	for (unsigned int i = 0; i < FLOW_KEY_WORDS; i++)
		flow->key.words[i] &= mask_words.words[i];
	flow->cookie = cookie;

	subtable = find_subtable(table, stage, &mask_words);
	if (subtable)
		old = find_same(subtable, &flow->key);
	else
		subtable = add_subtable(table, stage, &mask_words, &error);
	if (!subtable) {
		free(flow);
		return error;
	}
	flow->mask = &subtable->mask;
	if (old) {
		flow->slot = old->slot;
		flow->id = old->id;
		flow->hash = old->hash;
		table->slots[flow->slot].flow = flow;
		store_release(hash_table_entry(subtable->hash, old), entry_pack(flow, flow->hash));
		retire_flow(table, old);
	} else {
		if (!take_slot(table, &flow->slot)) {
			drop_subtable_if_empty(table, subtable);
			free(flow);
			return -ENOSPC;
		}
		table->slots[flow->slot].flow = flow;
		flow->id = (uint64_t)table->slots[flow->slot].reuses << 32 | flow->slot;
		error = insert_flow(table, subtable, flow);
		if (error) {
			table->slots[flow->slot].flow = NULL;
			give_slot(table, flow->slot);
			drop_subtable_if_empty(table, subtable);
			free(flow);
			return error;
		}
		subtable->count++;
		store_relaxed(&table->count, table->count + 1);
		promote_subtable(table, subtable);
	}
	*id = flow->id;
	publish(table);
	return 0;
}

int flow_table_remove(struct flow_table *table, uint64_t id)
{
	uint32_t slot = (uint32_t)id;
	struct subtable *subtable;
	struct flow *flow;

	if (slot >= table->slots_used)
		return -ENOENT;
	flow = table->slots[slot].flow;
	if (!flow || flow->id != id)
		return -ENOENT;
	subtable = container_of(flow->mask, struct subtable, mask);
	store_release(hash_table_entry(subtable->hash, flow), 0);
	table->slots[slot].flow = NULL;
	store_relaxed(&table->count, table->count - 1);
	subtable->count--;
	retire_flow(table, flow);
	drop_subtable_if_empty(table, subtable);
	publish(table);
	return 0;
}

uint32_t flow_table_count(const struct flow_table *table)
{
	return load_relaxed(&table->count);
}

uint32_t flow_table_capacity(const struct flow_table *table)
{
	return table->capacity;
}

void flow_table_visit_from(struct flow_table *table, uint32_t *cursor,
			   bool (*visit)(void *arg, const struct flow *flow, const struct flow_counters *sum),
			   void *arg)
{
	uint32_t slot = *cursor;

	while (slot < table->slots_used) {
		const struct slot *entry = &table->slots[slot++];
		struct flow_counters sum;

		if (!entry->flow)
			continue;
		sum_counters(table, entry->flow->slot, &sum);
		sum.packets -= entry->base.packets;
		sum.bytes -= entry->base.bytes;
		if (!visit(arg, entry->flow, &sum)) {
			*cursor = slot;
			return;
		}
	}
	*cursor = 0;
}

void flow_table_visit(struct flow_table *table,
		      bool (*visit)(void *arg, const struct flow *flow, const struct flow_counters *sum), void *arg)
{
	uint32_t cursor = 0;

	flow_table_visit_from(table, &cursor, visit, arg);
}

uint32_t flow_table_generation(const struct flow_table *table)
{
	return load_acquire(&table->generation);
}

bool flow_table_needs_l4(const struct flow_table *table)
{
	return rcu_dereference(table->view)->needs_l4;
}

/* The flow whose tag fits, in its first bucket but not at its first place; NULL: a full search is due. */
static no_inline const struct flow *displaced_flow(const struct bucket *bucket, uint64_t hash)
{
	for (unsigned int i = 1; i < BUCKET_ENTRIES; i++) {
		uint64_t entry = load_acquire(&bucket->entries[entry_place(hash, i)]);

		if (entry && !((entry ^ hash) & ~POINTER_MASK))
			return entry_flow(entry);
	}
	return NULL;
}

/*
 * First all buckets, then all candidates, then the comparison: each stage's misses overlap. Returns how many of
 * missing[] are left. A constant depth makes its loops go.
 */
static force_inline unsigned int lookup_depth(const struct subtable *subtable, const union flow_words *keys,
					      const struct flow **flows, uint8_t *missing, unsigned int count,
					      const unsigned int depth)
{
	const struct hash_table *table = rcu_dereference(subtable->hash);
	const struct bucket *buckets = table->buckets;
	const union flow_words mask = subtable->mask.words;
	const uint64_t bucket_mask = table->bucket_mask, seed = table->seed;
	const struct flow *candidates[FLOW_LOOKUP_MAX];
	uint64_t hashes[FLOW_LOOKUP_MAX];
	unsigned int left = 0;

	for (unsigned int i = 0; i < count; i++) {
		uint64_t hash = hash_words(keys[missing[i]].words, mask.words, depth, seed);

		hashes[i] = hash;
		__builtin_prefetch(&buckets[hash & bucket_mask].entries[entry_place(hash, 0)]);
	}
	for (unsigned int i = 0; i < count; i++) {
		const struct bucket *bucket = &buckets[hashes[i] & bucket_mask];
		uint64_t entry = load_acquire(&bucket->entries[entry_place(hashes[i], 0)]);

		/* An empty entry's flow is NULL, whatever its tag. */
		candidates[i] = entry_flow(entry);
		if (unlikely((entry ^ hashes[i]) >> POINTER_BITS))
			candidates[i] = displaced_flow(bucket, hashes[i]);
		__builtin_prefetch(candidates[i]);
	}
	for (unsigned int i = 0; i < count; i++) {
		const union flow_words *key = &keys[missing[i]];
		const struct flow *flow = candidates[i];
		uint64_t diff = 0;

		for (unsigned int j = 0; j < depth && likely(flow); j++)
			diff |= (key->words[j] & mask.words[j]) ^ flow->key.words[j];
		/* Without a candidate, another bucket may have it, or the writer put it there just now. */
		if (unlikely(!flow || diff))
			flow = hash_table_find(table, key, hashes[i]);
		if (likely(flow))
			flows[missing[i]] = flow;
		else
			missing[left++] = missing[i];
	}
	return left;
}

static unsigned int lookup_subtable(const struct subtable *subtable, const union flow_words *keys,
				    const struct flow **flows, uint8_t *missing, unsigned int count)
{
	if (likely(subtable->mask.depth == FLOW_L2_WORDS))
		return lookup_depth(subtable, keys, flows, missing, count, FLOW_L2_WORDS);
	return lookup_depth(subtable, keys, flows, missing, count, FLOW_KEY_WORDS);
}

uint64_t flow_table_lookup(const struct flow_table *table, uint32_t stage, const union flow_words *keys, bool deep,
			   uint64_t wanted, const struct flow **flows)
{
	const struct view *view = rcu_dereference(table->view);
	uint8_t missing[FLOW_LOOKUP_MAX] = {0};
	unsigned int count = 0;

	for (; wanted; wanted &= wanted - 1)
		missing[count++] = (uint8_t)__builtin_ctzll(wanted);
	for (uint32_t i = 0; i < view->count && count > 0; i++) {
		const struct subtable *subtable = view->subtables[i];

		if (subtable->mask.stage != stage || unlikely(!deep && subtable->mask.depth > FLOW_L2_WORDS))
			continue;
		count = lookup_subtable(subtable, keys, flows, missing, count);
	}
	for (unsigned int i = 0; i < count; i++)
		wanted |= 1ULL << missing[i];
	return wanted;
}

struct flow_counters *flow_table_reader(struct flow_table *table, unsigned int reader)
{
	return table->counters[reader];
}
