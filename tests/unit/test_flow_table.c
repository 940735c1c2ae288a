/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The flow table: whatever is added, replaced and removed, in any order and under any masks, it finds what a list
 * that is searched from front to back would find. And readers that look while the writer changes everything find
 * what was there all the time, and nothing that never was.
 */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "datapath/drop.h"
#include "datapath/flow_table.h"
#include "lib/rcu.h"

#define READERS   3
#define MODEL_MAX 3000
#define MASKS     24

static uint64_t random_state = 88172645463325252ULL;

static uint32_t random_below(uint32_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 32) * bound >> 32);
}

static struct flow_action to_port(uint32_t port)
{
	return (struct flow_action){.type = FLOW_ACTION_OUTPUT, .value = port};
}

/* Keys of few values, so that they meet. */
static void random_key(struct flow_key *key)
{
	*key = (struct flow_key){
		.in_port = random_below(4),
		.vlan_tci = (uint16_t)random_below(2),
		.eth_type = (uint16_t)(random_below(2) ? 8 : 0xdd86),
		.eth_dst = {2, 0, 0, 0, 0, (uint8_t)random_below(8)},
		.eth_src = {2, 0, 0, 0, 0, (uint8_t)random_below(8)},
		.ip_proto = (uint8_t)(random_below(2) ? 6 : 17),
		.stage = (uint8_t)random_below(2),
		.l4_src = (uint16_t)random_below(8),
		.l4_dst = (uint16_t)random_below(8),
		.ip_src = {10, 0, 0, (uint8_t)random_below(4)},
		.ip_dst = {[15] = (uint8_t)random_below(4)},
	};
}

static void random_mask(struct flow_key *mask)
{
	union flow_words words = {.words = {0}};

	/* Whole fields, parts of them, nothing at all. */
	for (unsigned int i = 0; i < FLOW_KEY_WORDS; i++) {
		if (random_below(3))
			continue;
		words.words[i] = random_below(2) ? UINT64_MAX : (uint64_t)random_below(UINT32_MAX) << random_below(32);
	}
	*mask = words.key;
	mask->stage = UINT8_MAX;
}

struct model_flow {
	union flow_words key; /* masked */
	union flow_words mask;
	uint32_t port;
	uint64_t cookie;
	uint64_t id;
	uint64_t packets;
	uint64_t bytes;
};

struct model {
	struct flow_table *table;
	unsigned int count;
	struct model_flow flows[MODEL_MAX];
	struct flow_key masks[MASKS];
	uint64_t last_id[64]; /* of removed flows: never found again */
	unsigned int removed;
};

static struct model *model_create(uint32_t capacity)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	model->table = flow_table_create(READERS, capacity);
	assert_non_null(model->table);
	for (unsigned int i = 0; i < MASKS; i++)
		random_mask(&model->masks[i]);
	return model;
}

static void model_destroy(struct model *model)
{
	flow_table_destroy(model->table);
	free(model);
}

static struct model_flow *model_same(struct model *model, const union flow_words *key, const union flow_words *mask)
{
	for (unsigned int i = 0; i < model->count; i++) {
		if (!memcmp(&model->flows[i].key, key, sizeof(*key)) &&
		    !memcmp(&model->flows[i].mask, mask, sizeof(*mask)))
			return &model->flows[i];
	}
	return NULL;
}

static void model_add(struct model *model)
{
	union flow_words key, mask = {.key = model->masks[random_below(MASKS)]};
	struct flow_action action = to_port(random_below(FLOW_PORTS_MAX));
	uint64_t cookie = random_below(UINT32_MAX), id;
	struct model_flow *flow;

	random_key(&key.key);
	assert_int_equal(flow_table_add(model->table, &key.key, &mask.key, &action, 1, cookie, &id), 0);
	for (unsigned int i = 0; i < FLOW_KEY_WORDS; i++)
		key.words[i] &= mask.words[i];
	flow = model_same(model, &key, &mask);
	if (flow) {
		assert_int_equal(flow->id, id);
	} else {
		assert_true(model->count < MODEL_MAX);
		flow = &model->flows[model->count++];
		*flow = (struct model_flow){.key = key, .mask = mask, .id = id};
		for (unsigned int i = 0; i < min(model->removed, 64U); i++)
			assert_int_not_equal(model->last_id[i], id);
	}
	flow->port = action.value;
	flow->cookie = cookie;
}

static void model_remove(struct model *model)
{
	unsigned int victim = random_below(model->count);
	uint64_t id = model->flows[victim].id;

	assert_int_equal(flow_table_remove(model->table, id), 0);
	assert_int_equal(flow_table_remove(model->table, id), -ENOENT);
	model->flows[victim] = model->flows[--model->count];
	model->last_id[model->removed++ % 64] = id;
}

static bool model_matches(const struct model_flow *flow, const union flow_words *key)
{
	uint64_t diff = 0;

	for (unsigned int i = 0; i < FLOW_KEY_WORDS; i++)
		diff |= (key->words[i] & flow->mask.words[i]) ^ flow->key.words[i];
	return diff == 0;
}

static struct model_flow *model_by_id(struct model *model, uint64_t id)
{
	for (unsigned int i = 0; i < model->count; i++) {
		if (model->flows[i].id == id)
			return &model->flows[i];
	}
	return NULL;
}

static bool model_has_match(struct model *model, const union flow_words *key, bool deep)
{
	for (unsigned int i = 0; i < model->count; i++) {
		const uint64_t *mask = model->flows[i].mask.words;
		bool needs_l4 = (mask[2] >> 32 & 0xffffff) | mask[3] | mask[4] | mask[5] | mask[6] | mask[7];

		if ((deep || !needs_l4) && model_matches(&model->flows[i], key))
			return true;
	}
	return false;
}

static void model_look_up(struct model *model)
{
	const unsigned int count = 1 + random_below(64);
	const bool deep = random_below(4) > 0;
	const uint8_t stage = (uint8_t)random_below(2);
	union flow_words keys[64];
	const struct flow *flows[64] = {NULL};
	uint64_t wanted, missing;

	for (unsigned int i = 0; i < count; i++)
		random_key(&keys[i].key);
	wanted = (UINT64_MAX >> (64 - count)) & ~(1ULL << random_below(count));
	missing = flow_table_lookup(model->table, stage, keys, deep, wanted, flows);
	assert_int_equal(missing & ~wanted, 0);
	for (unsigned int i = 0; i < count; i++) {
		unsigned int reader = random_below(READERS);
		struct flow_counters *counters;
		struct model_flow *expected;

		keys[i].key.stage = stage;
		assert_int_equal(flows[i] != NULL, (wanted >> i & 1) && model_has_match(model, &keys[i], deep));
		assert_int_equal(flows[i] == NULL, (missing >> i & 1) || !(wanted >> i & 1));
		if (!flows[i])
			continue;
		expected = model_by_id(model, flows[i]->id);
		assert_non_null(expected);
		assert_true(model_matches(expected, &keys[i]));
		assert_true(flow_matches(flows[i], &keys[i]));
		assert_int_equal(flows[i]->action_count, 1);
		assert_int_equal(flows[i]->actions[0].value, expected->port);
		assert_int_equal(flows[i]->output, expected->port);
		assert_int_equal(flows[i]->cookie, expected->cookie);
		counters = &flow_table_reader(model->table, reader)[flows[i]->slot];
		counters->packets++;
		counters->bytes += i;
		expected->packets++;
		expected->bytes += i;
	}
}

static bool compare_flow(void *arg, const struct flow *flow, const struct flow_counters *sum)
{
	struct model *model = arg;
	const struct model_flow *expected = model_by_id(model, flow->id);
	union flow_words key = flow->key, mask = flow->mask->words;

	if (!expected) {
		fail_msg("a flow that was removed, or never added");
		return false;
	}
	assert_int_equal(sum->packets, expected->packets);
	assert_int_equal(sum->bytes, expected->bytes);
	key.key.stage = (uint8_t)flow->mask->stage;
	mask.key.stage = UINT8_MAX;
	assert_memory_equal(&key, &expected->key, sizeof(key));
	assert_memory_equal(&mask, &expected->mask, sizeof(mask));
	return true;
}

static bool count_to_three(void *arg, const struct flow *flow, const struct flow_counters *sum)
{
	(void)flow;
	(void)sum;
	return ++*(unsigned int *)arg % 3 != 0;
}

static void model_visit(struct model *model)
{
	unsigned int visited = 0;
	uint32_t cursor = 0;

	flow_table_visit(model->table, compare_flow, model);
	do
		flow_table_visit_from(model->table, &cursor, count_to_three, &visited);
	while (cursor);
	assert_int_equal(visited, model->count);
	assert_int_equal(flow_table_count(model->table), model->count);
}

static void finds_what_a_list_finds(void **state)
{
	struct model *model = model_create(MODEL_MAX);

	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		/* It grows for a while, and shrinks for a while. */
		const bool grows = round / 2500 % 2 == 0;
		const unsigned int dice = random_below(10);

		if (dice < 6 ? grows : dice < 8)
			model_add(model);
		else if (model->count && dice < 9)
			model_remove(model);
		if (round % 16 == 0)
			model_look_up(model);
		if (round % 50 == 0)
			flow_table_reclaim(model->table);
		if (round % 1000 == 0)
			model_visit(model);
	}
	while (model->count)
		model_remove(model);
	model_visit(model);
	model_look_up(model);
	assert_false(flow_table_needs_l4(model->table));
	model_destroy(model);
}

static void numbered_key(uint32_t number, struct flow_key *key)
{
	*key = (struct flow_key){.in_port = number % 1000};
	memcpy(key->eth_dst, &number, sizeof(number));
}

static const struct flow_key l2_mask = {
	.in_port = UINT32_MAX,
	.eth_dst = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
};

static void expect_numbers(struct flow_table *table, uint32_t from, uint32_t to, bool there)
{
	for (uint32_t number = from; number < to; number++) {
		union flow_words key = {.words = {0}};
		const struct flow *flow = NULL;

		numbered_key(number, &key.key);
		flow_table_lookup(table, FLOW_STAGE_FIRST, &key, false, 1, &flow);
		assert_int_equal(flow != NULL, there);
		if (flow)
			assert_int_equal(flow->cookie, number);
	}
}

static void grows_to_its_capacity(void **state)
{
	enum { CAPACITY = 50000 };
	struct flow_table *table = flow_table_create(1, CAPACITY);
	struct flow_action action = to_port(1);
	static uint64_t ids[CAPACITY];
	struct flow_key key;
	uint64_t id;

	(void)state;
	assert_non_null(table);
	assert_int_equal(flow_table_capacity(table), CAPACITY);
	for (uint32_t i = 0; i < CAPACITY; i++) {
		numbered_key(i, &key);
		assert_int_equal(flow_table_add(table, &key, &l2_mask, &action, 1, i, &ids[i]), 0);
	}
	expect_numbers(table, 0, CAPACITY, true);
	numbered_key(CAPACITY, &key);
	assert_int_equal(flow_table_add(table, &key, &l2_mask, &action, 1, 0, &id), -ENOSPC);
	/* Replacing needs no room, and a mask that holds nothing leaves nothing behind. */
	numbered_key(7, &key);
	assert_int_equal(flow_table_add(table, &key, &l2_mask, &action, 1, 7, &id), 0);
	assert_int_equal(id, ids[7]);
	for (unsigned int i = 0; i < 2 * FLOW_MASKS_MAX; i++) {
		const struct flow_key mask = {.in_port = i + 1, .ip_dst = {1}};

		assert_int_equal(flow_table_add(table, &key, &mask, &action, 1, 0, &id), -ENOSPC);
	}
	/* One goes, one comes, at once. */
	assert_int_equal(flow_table_remove(table, ids[0]), 0);
	numbered_key(CAPACITY, &key);
	assert_int_equal(flow_table_add(table, &key, &l2_mask, &action, 1, CAPACITY, &id), 0);
	assert_int_not_equal(id, ids[0]);
	expect_numbers(table, 0, 1, false);
	expect_numbers(table, 1, CAPACITY + 1, true);
	assert_int_equal(flow_table_remove(table, ids[0]), -ENOENT);
	assert_int_equal(flow_table_remove(table, UINT64_MAX), -ENOENT);
	flow_table_destroy(table);
}

static void masks_have_a_limit(void **state)
{
	struct flow_table *table = flow_table_create(1, 1000);
	const struct flow_key key = {.in_port = 1};
	struct flow_action action = to_port(1);
	uint64_t ids[FLOW_MASKS_MAX], id;

	(void)state;
	for (unsigned int i = 0; i < FLOW_MASKS_MAX; i++) {
		const struct flow_key mask = {.in_port = i + 1};

		assert_int_equal(flow_table_add(table, &key, &mask, &action, 1, i, &ids[i]), 0);
	}
	const struct flow_key mask = {.in_port = 1000};

	assert_int_equal(flow_table_add(table, &key, &mask, &action, 1, 0, &id), -ENOSPC);
	/* The last flow of a mask takes the mask with it. */
	assert_int_equal(flow_table_remove(table, ids[10]), 0);
	assert_int_equal(flow_table_add(table, &key, &mask, &action, 1, 0, &id), 0);
	assert_int_equal(flow_table_count(table), FLOW_MASKS_MAX);
	flow_table_destroy(table);
}

/* The depth that packets must be parsed to is that of the deepest mask there is. */
static void depth_follows_the_masks(void **state)
{
	static const struct flow_key masks[] = {
		{.ip_proto = 1}, {.ip_tos = 1},   {.ip_fragment = 1},     {.l4_src = 1},
		{.l4_dst = 1},   {.ip_src = {1}}, {.ip_dst = {[15] = 1}},
	};
	struct flow_table *table = flow_table_create(1, 1000);
	const struct flow_key key = {.in_port = 1};
	struct flow_action action = to_port(1);
	uint32_t generation = flow_table_generation(table);
	uint64_t id;

	(void)state;
	assert_int_equal(flow_table_add(table, &key, &l2_mask, &action, 1, 0, &id), 0);
	assert_int_not_equal(flow_table_generation(table), generation);
	assert_false(flow_table_needs_l4(table));
	for (unsigned int i = 0; i < ARRAY_SIZE(masks); i++) {
		assert_int_equal(flow_table_add(table, &key, &masks[i], &action, 1, 0, &id), 0);
		assert_true(flow_table_needs_l4(table));
		generation = flow_table_generation(table);
		assert_int_equal(flow_table_remove(table, id), 0);
		assert_int_not_equal(flow_table_generation(table), generation);
		assert_false(flow_table_needs_l4(table));
	}
	flow_table_destroy(table);
}

static void actions_are_checked(void **state)
{
	struct flow_table *table = flow_table_create(1, 10);
	static struct flow_action many[FLOW_ACTIONS_MAX + 1];
	const struct flow_key key = {.in_port = 1};
	uint64_t id;

	(void)state;
	for (unsigned int i = 0; i <= FLOW_ACTIONS_MAX; i++)
		many[i] = to_port(i % FLOW_PORTS_MAX);
	assert_int_equal(flow_table_add(table, &key, &l2_mask, many, FLOW_ACTIONS_MAX + 1, 0, &id), -EINVAL);
	assert_int_equal(flow_table_add(table, &key, &l2_mask, many, UINT32_MAX, 0, &id), -EINVAL);
	assert_int_equal(flow_table_add(table, &key, &l2_mask, many, FLOW_ACTIONS_MAX, 0, &id), 0);
	assert_int_equal(flow_table_add(table, &key, &l2_mask, NULL, 0, 0, &id), 0);
	many[1] = (struct flow_action){.type = FLOW_ACTION_DROP, .value = DROP_MAC_LIMIT};
	assert_int_equal(flow_table_add(table, &key, &l2_mask, many, 2, 0, &id), -EINVAL);
	assert_int_equal(flow_table_add(table, &key, &l2_mask, &many[1], 1, 0, &id), 0);
	many[1].value = DROP_COUNT;
	assert_int_equal(flow_table_add(table, &key, &l2_mask, &many[1], 1, 0, &id), -EINVAL);
	many[0].value = FLOW_PORTS_MAX;
	assert_int_equal(flow_table_add(table, &key, &l2_mask, many, 1, 0, &id), -EINVAL);
	many[0].type = 77;
	assert_int_equal(flow_table_add(table, &key, &l2_mask, many, 1, 0, &id), -EINVAL);
	assert_int_equal(flow_table_count(table), 1);
	flow_table_destroy(table);
}

static bool take_sum(void *arg, const struct flow *flow, const struct flow_counters *sum)
{
	(void)flow;
	*(struct flow_counters *)arg = *sum;
	return false;
}

/* A flow that is replaced goes on counting; one that is removed and added again begins anew. */
static void counters_belong_to_the_identity(void **state)
{
	struct flow_table *table = flow_table_create(2, 10);
	struct flow_action action = to_port(1);
	union flow_words key = {.key = {.in_port = 3}};
	uint64_t first, second;

	(void)state;
	for (unsigned int round = 0; round < 3; round++) {
		struct flow_counters sum = {0};
		const struct flow *flow;

		for (unsigned int i = 0; i < 5; i++) {
			flow = NULL;
			action.value = i;
			assert_int_equal(flow_table_add(table, &key.key, &l2_mask, &action, 1, i, &first), 0);
			flow_table_lookup(table, FLOW_STAGE_FIRST, &key, false, 1, &flow);
			assert_int_equal(flow->actions[0].value, i);
			flow_table_reader(table, i % 2)[flow->slot].packets += 10;
		}
		flow_table_visit(table, take_sum, &sum);
		assert_int_equal(sum.packets, 50);
		assert_int_equal(flow_table_count(table), 1);
		assert_int_equal(flow_table_remove(table, first), 0);
		/* Before readers have left: its slot must not be another's yet. */
		assert_int_equal(flow_table_add(table, &key.key, &l2_mask, &action, 1, 0, &second), 0);
		assert_int_not_equal((uint32_t)second, (uint32_t)first);
		assert_int_equal(flow_table_remove(table, second), 0);
		flow_table_reclaim(table);
	}
	flow_table_destroy(table);
}

/* concurrency */

enum { PERMANENT = 500, PASSING = 4000 };

struct watch {
	struct flow_table *table;
	unsigned int reader;
	bool stop; /* atomic */
	uint64_t counted;
	pthread_t thread;
};

static bool is_numbered(const struct flow *flow, uint32_t number)
{
	return flow->cookie == (number | (uint64_t)number << 32) && flow->action_count == 1 &&
	       flow->actions[0].value % 10 == number % 10;
}

static void *watch_main(void *arg)
{
	struct watch *watch = arg;
	uint32_t number = watch->reader * 7919;

	rcu_register_thread();
	while (!load_acquire(&watch->stop)) {
		union flow_words keys[32];
		const struct flow *flows[32] = {NULL};
		uint32_t numbers[32];

		memset(keys, 0, sizeof(keys));
		for (unsigned int i = 0; i < 32; i++) {
			number = number * 1664525 + 1013904223;
			numbers[i] = (number >> 8) % (PERMANENT + PASSING);
			numbered_key(numbers[i], &keys[i].key);
		}
		flow_table_lookup(watch->table, FLOW_STAGE_FIRST, keys, false, UINT32_MAX, flows);
		for (unsigned int i = 0; i < 32; i++) {
			/* cmocka's assertions are the main thread's. */
			if (numbers[i] < PERMANENT && !flows[i])
				abort();
			if (flows[i] && !is_numbered(flows[i], numbers[i]))
				abort();
			if (flows[i] && numbers[i] < PERMANENT) {
				struct flow_counters *counters = &flow_table_reader(watch->table,
										    watch->reader)[flows[i]->slot];

				store_relaxed(&counters->packets, counters->packets + 1);
				watch->counted++;
			}
		}
		rcu_quiescent_state();
	}
	rcu_unregister_thread();
	return NULL;
}

static uint64_t add_numbered(struct flow_table *table, uint32_t number, uint32_t variant)
{
	struct flow_action action = to_port(number % 10 + variant * 10);
	struct flow_key key;
	uint64_t id;

	numbered_key(number, &key);
	assert_int_equal(flow_table_add(table, &key, &l2_mask, &action, 1, number | (uint64_t)number << 32, &id), 0);
	return id;
}

static bool sum_permanent(void *arg, const struct flow *flow, const struct flow_counters *sum)
{
	if ((uint32_t)flow->cookie < PERMANENT)
		*(uint64_t *)arg += sum->packets;
	return true;
}

static void readers_beside_the_writer(void **state)
{
	struct flow_table *table = flow_table_create(2, PERMANENT + PASSING + 100);
	struct watch watches[2] = {{.table = table}, {.table = table, .reader = 1}};
	static uint64_t ids[PASSING];
	uint64_t counted = 0, summed = 0;

	(void)state;
	for (uint32_t i = 0; i < PERMANENT; i++)
		add_numbered(table, i, 0);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&watches[i].thread, NULL, watch_main, &watches[i]), 0);
	for (unsigned int round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < PASSING; i++) {
			const struct flow_key other_mask = {.in_port = 1u << (i % 7 + 20)};
			const struct flow_key other = {.in_port = UINT32_MAX};
			struct flow_action action = to_port(0);
			uint64_t id;

			ids[i] = add_numbered(table, PERMANENT + i, round);
			add_numbered(table, i % PERMANENT, round);
			/* Masks come and go as well. */
			assert_int_equal(flow_table_add(table, &other, &other_mask, &action, 1, 0, &id), 0);
			assert_int_equal(flow_table_remove(table, id), 0);
			if (i % 64 == 0)
				flow_table_reclaim(table);
		}
		for (uint32_t i = 0; i < PASSING; i++)
			assert_int_equal(flow_table_remove(table, ids[i]), 0);
		flow_table_reclaim(table);
	}
	for (unsigned int i = 0; i < 2; i++) {
		store_release(&watches[i].stop, true);
		pthread_join(watches[i].thread, NULL);
		counted += watches[i].counted;
	}
	flow_table_visit(table, sum_permanent, &summed);
	assert_int_equal(summed, counted);
	assert_int_equal(flow_table_count(table), PERMANENT);
	flow_table_destroy(table);
}

/* A stage leads to a later one, and does nothing else. */
static void stages(void **state)
{
	struct flow_table *table = flow_table_create(1, 16);
	const struct flow_action on[2] = {{.type = FLOW_ACTION_STAGE, .value = FLOW_STAGE_SECOND}, to_port(1)};
	struct flow_action wrong = {.type = FLOW_ACTION_STAGE, .value = FLOW_STAGE_FIRST};
	struct flow_key key = {.in_port = 7};
	const struct flow_key mask = {.in_port = UINT32_MAX};
	union flow_words words = {.key = key};
	const struct flow *flow = NULL;
	uint64_t first, second;

	(void)state;
	assert_int_equal(flow_table_add(table, &key, &mask, on, 1, 0, &first), 0);
	assert_int_equal(flow_table_add(table, &key, &mask, on, 2, 0, &first), -EINVAL);
	assert_int_equal(flow_table_add(table, &key, &mask, &wrong, 1, 0, &first), -EINVAL);
	wrong.value = FLOW_STAGE_SECOND + 1;
	assert_int_equal(flow_table_add(table, &key, &mask, &wrong, 1, 0, &first), -EINVAL);
	key.stage = FLOW_STAGE_SECOND;
	assert_int_equal(flow_table_add(table, &key, &mask, on, 1, 0, &second), -EINVAL);
	assert_int_equal(flow_table_add(table, &key, &mask, &on[1], 1, 0, &second), 0);
	assert_int_not_equal(first, second);
	assert_int_equal(flow_table_lookup(table, FLOW_STAGE_FIRST, &words, false, 1, &flow), 0);
	assert_int_equal(flow->id, first);
	assert_int_equal(flow->next_stage, FLOW_STAGE_SECOND);
	assert_int_equal(flow->output, FLOW_NO_OUTPUT);
	assert_int_equal(flow_table_lookup(table, FLOW_STAGE_SECOND, &words, false, 1, &flow), 0);
	assert_int_equal(flow->id, second);
	assert_int_equal(flow->next_stage, 0);
	key.stage = FLOW_STAGE_SECOND + 1;
	assert_int_equal(flow_table_add(table, &key, &mask, &on[1], 1, 0, &second), -EINVAL);
	flow_table_destroy(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_a_list_finds),   cmocka_unit_test(grows_to_its_capacity),
		cmocka_unit_test(masks_have_a_limit),        cmocka_unit_test(depth_follows_the_masks),
		cmocka_unit_test(actions_are_checked),       cmocka_unit_test(counters_belong_to_the_identity),
		cmocka_unit_test(readers_beside_the_writer), cmocka_unit_test(stages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
