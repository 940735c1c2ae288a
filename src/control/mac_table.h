/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The stations of a bridge: behind which port each MAC address was last seen. One thread; moments
 * are nanoseconds of whatever clock the caller has.
 *
 * The table owns its entries. An entry is there as long as it is placed at a port or used: a
 * destination that nobody has heard of yet has an entry nowhere, for the flows to it to be found
 * by.
 *
 * Stations are hostile. A port has at most its limit of entries and what it does moves or evicts no
 * entry of another port but the one whose address it uses; an address that moves to and fro is held
 * where it is for a while.
 */
#ifndef LASTHOP_CONTROL_MAC_TABLE_H
#define LASTHOP_CONTROL_MAC_TABLE_H

#include "control/flow_match.h"
#include "control/hash_table.h"

#include <sys/queue.h>

#define MAC_MOVES_MAX       5 /* within MAC_MOVES_PERIOD_NS; one more is refused */
#define MAC_MOVES_PERIOD_NS 10000000000ULL
#define MAC_HOLD_NS         10000000000ULL /* for so long */

struct flow_record;
LIST_HEAD(flow_list, flow_record);

/* A port as the table sees it; embedded in the port's own structure. */
struct mac_port {
	uint32_t index;
	uint32_t limit; /* entries */
	uint32_t count;
	LIST_HEAD(, mac_entry) entries;
};

struct mac_entry {
	struct hash_node node;
	uint8_t mac[MAC_SIZE];
	struct mac_port *port; /* NULL: nowhere */
	LIST_ENTRY(mac_entry) on_port;
	uint64_t seen_ns; /* when a packet from it was last known of */
	uint64_t moves_begin_ns;
	uint32_t moves; /* since moves_begin_ns */
	uint64_t hold_until_ns;
	/* The users: flows with this source, flows with this destination. Kept by their owner. */
	struct flow_list from;
	struct flow_list to;
};

struct mac_table {
	struct hash_table hash;
};

enum mac_verdict {
	MAC_KNOWN,   /* it was there already */
	MAC_LEARNED, /* it was nowhere */
	MAC_MOVED,   /* it was at another port */
	MAC_HELD,    /* it stays at another port, because it moved too often */
	MAC_FULL,    /* the port has its limit of entries; the entry, if any, stays as it was */
};

int mac_table_init(struct mac_table *table) must_check;

/* Frees all entries, used or not. */
void mac_table_cleanup(struct mac_table *table);

struct mac_entry *mac_table_find(const struct mac_table *table, const uint8_t mac[MAC_SIZE]);

/* Finds or creates it, nowhere. NULL: no memory. */
struct mac_entry *mac_table_get(struct mac_table *table, const uint8_t mac[MAC_SIZE]);

/*
 * A packet from `mac`, a station's address, was seen at `port`. `entry` receives the entry, NULL if
 * there is none. Returns enum mac_verdict or -ENOMEM.
 */
int mac_table_learn(struct mac_table *table, const uint8_t mac[MAC_SIZE], struct mac_port *port, uint64_t now_ns,
		    struct mac_entry **entry) must_check;

/* Its place is forgotten; release it afterwards. */
void mac_table_unplace(struct mac_entry *entry);

/* Frees it if it is nowhere and has no users. */
void mac_table_release(struct mac_table *table, struct mac_entry *entry);

/* Walks all entries: NULL begins, NULL ends. See hash_table_next(). */
struct mac_entry *mac_table_next(const struct mac_table *table, const struct mac_entry *entry);

#endif
