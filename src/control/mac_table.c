/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hash table of entries by address, and per port a list of those placed there. Which moves are
 * too many is counted per address in periods, so that a station that wanders is followed at once
 * and a pair of ports that fight over an address costs a few flow changes per period.
 */
#include "control/mac_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int mac_table_init(struct mac_table *table)
{
	return hash_table_init(&table->hash);
}

void mac_table_cleanup(struct mac_table *table)
{
	struct mac_entry *entry = mac_table_next(table, NULL);

	while (entry != NULL) {
		struct mac_entry *next = mac_table_next(table, entry);

		mac_table_unplace(entry);
		free(entry);
		entry = next;
	}
	hash_table_cleanup(&table->hash);
}

static struct mac_entry *entry_of(struct hash_node *node)
{
	return node == NULL ? NULL : container_of(node, struct mac_entry, node);
}

static struct mac_entry *find_hashed(const struct mac_table *table, const uint8_t mac[MAC_SIZE], uint64_t hash)
{
	struct hash_node *node = hash_table_find(&table->hash, hash);

	for (; node != NULL; node = hash_table_find_next(node)) {
		if (memcmp(entry_of(node)->mac, mac, MAC_SIZE) == 0)
			return entry_of(node);
	}
	return NULL;
}

struct mac_entry *mac_table_find(const struct mac_table *table, const uint8_t mac[MAC_SIZE])
{
	return find_hashed(table, mac, hash_table_hash(&table->hash, mac, MAC_SIZE));
}

struct mac_entry *mac_table_get(struct mac_table *table, const uint8_t mac[MAC_SIZE])
{
	uint64_t hash = hash_table_hash(&table->hash, mac, MAC_SIZE);
	struct mac_entry *entry = find_hashed(table, mac, hash);

	if (entry != NULL)
		return entry;
	entry = calloc(1, sizeof(*entry));
	if (entry == NULL)
		return NULL;
	memcpy(entry->mac, mac, MAC_SIZE);
	LIST_INIT(&entry->from);
	LIST_INIT(&entry->to);
	hash_table_insert(&table->hash, &entry->node, hash);
	return entry;
}

static void entry_place(struct mac_entry *entry, struct mac_port *port)
{
	mac_table_unplace(entry);
	entry->port = port;
	port->count++;
	LIST_INSERT_HEAD(&port->entries, entry, on_port);
}

void mac_table_unplace(struct mac_entry *entry)
{
	if (entry->port == NULL)
		return;
	LIST_REMOVE(entry, on_port);
	entry->port->count--;
	entry->port = NULL;
}

/* Whether the address may move now; counts it if so. */
static bool entry_may_move(struct mac_entry *entry, uint64_t now_ns)
{
	if (now_ns < entry->hold_until_ns)
		return false;
	if (now_ns - entry->moves_begin_ns >= MAC_MOVES_PERIOD_NS) {
		entry->moves_begin_ns = now_ns;
		entry->moves = 0;
	}
	if (entry->moves >= MAC_MOVES_MAX) {
		entry->hold_until_ns = now_ns + MAC_HOLD_NS;
		return false;
	}
	entry->moves++;
	return true;
}

int mac_table_learn(struct mac_table *table, const uint8_t mac[MAC_SIZE], struct mac_port *port, uint64_t now_ns,
		    struct mac_entry **entry)
{
	struct mac_entry *found = mac_table_find(table, mac);

	*entry = found;
	if (found != NULL && found->port == port) {
		found->seen_ns = now_ns;
		return MAC_KNOWN;
	}
	if (port->count >= port->limit)
		return MAC_FULL;
	if (found != NULL && found->port != NULL) {
		if (!entry_may_move(found, now_ns))
			return MAC_HELD;
		entry_place(found, port);
		found->seen_ns = now_ns;
		return MAC_MOVED;
	}
	found = mac_table_get(table, mac);
	*entry = found;
	if (found == NULL)
		return -ENOMEM;
	entry_place(found, port);
	found->seen_ns = now_ns;
	return MAC_LEARNED;
}

void mac_table_release(struct mac_table *table, struct mac_entry *entry)
{
	if (entry->port != NULL || !LIST_EMPTY(&entry->from) || !LIST_EMPTY(&entry->to))
		return;
	hash_table_remove(&table->hash, &entry->node);
	free(entry);
}

struct mac_entry *mac_table_next(const struct mac_table *table, const struct mac_entry *entry)
{
	return entry_of(hash_table_next(&table->hash, entry == NULL ? NULL : &entry->node));
}
