/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hash table whose nodes are embedded in what it finds. The table owns its buckets, never its
 * nodes. One thread; the only failure is memory for the first buckets: a table that cannot grow
 * goes on, slower.
 */
#ifndef LASTHOP_CONTROL_HASH_TABLE_H
#define LASTHOP_CONTROL_HASH_TABLE_H

#include "lib/compiler.h"

#include <stdint.h>

struct hash_node {
	struct hash_node *next;
	uint64_t hash;
};

struct hash_table {
	struct hash_node **buckets;
	size_t bucket_count; /* a power of two */
	size_t count;        /* nodes */
	uint64_t seed;       /* guests choose the keys: they must not know where these fall */
};

/* 0 or -ENOMEM. */
int hash_table_init(struct hash_table *table) must_check;

/* Harmless on one that is all zero. Its nodes are the caller's to free, before or after. */
void hash_table_cleanup(struct hash_table *table);

uint64_t hash_table_hash(const struct hash_table *table, const void *key, size_t size);

void hash_table_insert(struct hash_table *table, struct hash_node *node, uint64_t hash);
void hash_table_remove(struct hash_table *table, struct hash_node *node);

/* The first node with that hash, and the next one: compare the key itself. NULL: no (further) one.
 */
struct hash_node *hash_table_find(const struct hash_table *table, uint64_t hash);
struct hash_node *hash_table_find_next(const struct hash_node *node);

/*
 * Walks all nodes in any order: NULL begins, NULL ends. To remove nodes on the way, fetch the next
 * one first and remove none but the current one; nothing may be inserted meanwhile.
 */
struct hash_node *hash_table_next(const struct hash_table *table, const struct hash_node *node);

#endif
