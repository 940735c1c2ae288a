/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets that are delivered but not published to their receiver yet: its reservations are published in order, and
 * somebody else still fills an earlier one, or a part of this one. Their sender's ring keeps them until then, or they
 * would be nowhere if this process were killed meanwhile. Nobody waits: the queue's later turns look whether it has
 * been done, and take what is new in between.
 *
 * In a ring that is given back in order it is enough to know the first packet that is held and the tickets that it and
 * those behind it are held for. There are two such sets: one that is waited for, and the next one, which grows until
 * the first is gone; so none is put off for ever.
 *
 * A set has room for the tickets of two batches, one receive queue for each packet. A queue whose set is more than half
 * full takes nothing new meanwhile. Only packets that go to many receivers at once can exceed that; for these, those
 * receivers' copies that find no room are not waited for.
 *
 * hold_add, hold_look and hold_has_ended are called by the thread that has the sender's queue, online for RCU.
 */
#ifndef LASTHOP_DATAPATH_HOLD_H
#define LASTHOP_DATAPATH_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "datapath/port.h"

struct forwarder;

/* How soon a queue with packets that are held is looked at again if nothing else happens. */
#define HOLD_LOOK_NS 100000ULL

/* The batch's packets from `index` on are held for the ticket of the port's receive queue. */
void hold_add(struct forwarder *fwd, const struct port *to, unsigned int queue, uint32_t ticket, unsigned int index);

/* Whether the first set is published. */
bool hold_has_ended(struct datapath *dp, const struct txq *txq);

/* Gives up the sets that are published: true, and the next txq_complete gives their packets back. */
bool hold_look(struct datapath *dp, struct txq *txq);

/*
 * The main thread, after port_pause() and a grace period: sees to it that what the port's senders have delivered is
 * published before their queues are stopped. Two more grace periods at most, hardly ever one.
 */
void hold_settle(struct datapath *dp, struct port *port);

#endif
