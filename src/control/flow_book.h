/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The records of the flows that the data plane has: part of forwarding.h, used by its source files
 * alone. A record is in the data plane or is being put there; removing one removes the flow.
 */
#ifndef LASTHOP_CONTROL_FLOW_BOOK_H
#define LASTHOP_CONTROL_FLOW_BOOK_H

#include "control/forwarding.h"

struct flow_record *flow_book_find(const struct forwarding *fwd, const struct flow_match *match);

/* Walks all records: NULL begins, NULL ends. See hash_table_next(). */
struct flow_record *flow_book_next(const struct forwarding *fwd, const struct flow_record *record);

/* A record that is not installed; its entries are found or created. passes: of a source. NULL: no memory. */
struct flow_record *flow_book_new(struct forwarding *fwd, struct bridge_port *port, const struct flow_match *match,
				  bool passes, uint64_t now_ns);

/* Forgets the record alone. `keep`: an entry that is not released, because the caller still uses
 * it. */
void flow_book_forget(struct forwarding *fwd, struct flow_record *record, struct mac_entry *keep);

/* Removes the flow, too. */
void flow_book_remove(struct forwarding *fwd, struct flow_record *record, struct mac_entry *keep);

/*
 * What should become of its packets, as things are now; its value for FLOW_OUTCOME_FLOOD is the
 * bridge's membership.
 */
struct flow_outcome flow_book_outcome(const struct flow_record *record);

/* Whether `actions` do what `outcome` says. */
bool flow_book_does(const struct flow_record *record, const struct flow_outcome *outcome,
		    const struct flow_action *actions, uint32_t action_count);

/*
 * Brings the data plane up to date with flow_book_outcome(); `again`: even if it is. A flow that
 * cannot be is removed, together with its record: false then.
 */
bool flow_book_install(struct forwarding *fwd, struct flow_record *record, bool again, struct mac_entry *keep,
		       uint64_t now_ns);

/* Remembers to remove a flow that has no record; flow_book_remove_unknown() does. */
void flow_book_unknown(struct forwarding *fwd, uint64_t id);
void flow_book_remove_unknown(struct forwarding *fwd);

/* From forwarding.c, for forwarding_sweep.c: the entry's place is lost, by age or with its port. */
void forwarding_forget_station(struct forwarding *fwd, struct bridge *bridge, struct mac_entry *entry, uint64_t now_ns);

/* How many flows one port may have now. */
uint32_t forwarding_port_flows_max(const struct forwarding *fwd, const struct bridge_port *port);

#endif
