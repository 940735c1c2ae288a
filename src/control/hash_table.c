/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chains in a power of two of buckets, doubled when there are more nodes than buckets. The hash is
 * keyed with a random seed and mixes by folding 64 x 64 bit products.
 */
#include "control/hash_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define HASH_TABLE_FIRST_BUCKETS 64

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

int hash_table_init(struct hash_table *table)
{
	memset(table, 0, sizeof(*table));
	table->buckets = calloc(HASH_TABLE_FIRST_BUCKETS, sizeof(struct hash_node *));
	if (table->buckets == NULL)
		return -ENOMEM;
	table->bucket_count = HASH_TABLE_FIRST_BUCKETS;
	if (getrandom(&table->seed, sizeof(table->seed), GRND_NONBLOCK) != (ssize_t)sizeof(table->seed))
		table->seed = (uint64_t)(uintptr_t)table->buckets;
	return 0;
}

void hash_table_cleanup(struct hash_table *table)
{
	free(table->buckets);
	memset(table, 0, sizeof(*table));
}

uint64_t hash_table_hash(const struct hash_table *table, const void *key, size_t size)
{
	const uint8_t *bytes = key;
	uint64_t hash = fold(table->seed ^ 0x9e3779b97f4a7c15ULL, size + 0xd1b54a32d192ed03ULL);

	while (size > 0) {
		size_t n = min(size, sizeof(uint64_t));
		uint64_t word = 0;

		memcpy(&word, bytes, n);
		hash = fold(hash ^ word, table->seed ^ 0xa0761d6478bd642fULL);
		bytes += n;
		size -= n;
	}
	return fold(hash ^ 0xe7037ed1a0b428dbULL, table->seed | 1);
}

static struct hash_node **hash_table_bucket(const struct hash_table *table, uint64_t hash)
{
	return &table->buckets[hash & (table->bucket_count - 1)];
}

static void hash_table_grow(struct hash_table *table)
{
	struct hash_node **old = table->buckets;
	size_t old_count = table->bucket_count;
	struct hash_node **buckets = calloc(old_count * 2, sizeof(struct hash_node *));

	if (buckets == NULL)
		return;
	table->buckets = buckets;
	table->bucket_count = old_count * 2;
	for (size_t i = 0; i < old_count; i++) {
		struct hash_node *node = old[i];

		while (node != NULL) {
			struct hash_node *next = node->next;
			struct hash_node **bucket = hash_table_bucket(table, node->hash);

			node->next = *bucket;
			*bucket = node;
			node = next;
		}
	}
	free(old);
}

void hash_table_insert(struct hash_table *table, struct hash_node *node, uint64_t hash)
{
	struct hash_node **bucket;

	if (table->count >= table->bucket_count)
		hash_table_grow(table);
	bucket = hash_table_bucket(table, hash);
	node->hash = hash;
	node->next = *bucket;
	*bucket = node;
	table->count++;
}

void hash_table_remove(struct hash_table *table, struct hash_node *node)
{
	struct hash_node **link = hash_table_bucket(table, node->hash);

	while (*link != NULL && *link != node)
		link = &(*link)->next;
	if (*link == NULL)
		return;
	*link = node->next;
	table->count--;
}

static struct hash_node *same_hash(struct hash_node *node, uint64_t hash)
{
	while (node != NULL && node->hash != hash)
		node = node->next;
	return node;
}

struct hash_node *hash_table_find(const struct hash_table *table, uint64_t hash)
{
	return same_hash(*hash_table_bucket(table, hash), hash);
}

struct hash_node *hash_table_find_next(const struct hash_node *node)
{
	return same_hash(node->next, node->hash);
}

struct hash_node *hash_table_next(const struct hash_table *table, const struct hash_node *node)
{
	size_t i = 0;

	if (node != NULL) {
		if (node->next != NULL)
			return node->next;
		i = (node->hash & (table->bucket_count - 1)) + 1;
	}
	for (; i < table->bucket_count; i++) {
		if (table->buckets[i] != NULL)
			return table->buckets[i];
	}
	return NULL;
}
