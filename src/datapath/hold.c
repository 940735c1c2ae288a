/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tickets of a receive queue are published in their order, so a set needs the last one of each only. A receive queue
 * that stops has published everything, and one that starts again counts on; a port that is gone is told from the next
 * one with its index by its life.
 */
#include "datapath/hold.h"

#include "datapath/forward.h"

static unsigned int distance(const struct txq *txq, uint16_t position)
{
	return txq->packed ? vring_packed_distance(txq->used, position, txq_ring_size(txq))
			   : (uint16_t)(position - txq->used);
}

static struct txq_ticket *find(struct txq_hold *hold, const struct port *to, unsigned int queue)
{
	for (unsigned int i = 0; i < hold->count; i++) {
		struct txq_ticket *ticket = &hold->tickets[i];

		if (ticket->port == to->index && ticket->life == to->life && ticket->queue == queue)
			return ticket;
	}
	return NULL;
}

void hold_add(struct forwarder *fwd, const struct port *to, unsigned int queue, uint32_t ticket, unsigned int index)
{
	struct txq *txq = fwd->txq;
	const uint16_t position = fwd->batch.position[index];
	struct txq_hold *hold = &txq->holds[txq->holds[0].count > 0];
	struct txq_ticket *known = find(hold, to, queue);

	if (!known && hold->count == TXQ_TICKETS)
		return;
	if (hold->count == 0 || distance(txq, position) < distance(txq, hold->position))
		hold->position = position;
	if (!known)
		known = &hold->tickets[hold->count++];
	*known = (struct txq_ticket){to->index, to->life, queue, ticket};
	fwd->batch.keeps = true;
}

static bool is_published(struct datapath *dp, const struct txq_ticket *ticket)
{
	const struct port *port = datapath_port(dp, ticket->port);

	return !port || port->life != ticket->life || !rxq_is_open(&port->rxq[ticket->queue], ticket->ticket);
}

static bool all_published(struct datapath *dp, const struct txq_hold *hold)
{
	for (unsigned int i = 0; i < hold->count; i++) {
		if (!is_published(dp, &hold->tickets[i]))
			return false;
	}
	return true;
}

bool hold_has_ended(struct datapath *dp, const struct txq *txq)
{
	return unlikely(txq->holds[0].count) && all_published(dp, &txq->holds[0]);
}

bool hold_look(struct datapath *dp, struct txq *txq)
{
	bool any = false;

	/* Twice at most. */
	while (hold_has_ended(dp, txq)) {
		txq->holds[0] = txq->holds[1];
		txq->holds[1].count = 0;
		any = true;
	}
	return any;
}

/*
 * The ticket's own reservation is filled when the first grace period is over: no helper begins a part of it for queues
 * that stand still. Those before it may be of turns that began since then, but that have ended after the second one;
 * and of parts of these that helpers took in the end, which they have made after the third.
 */
void hold_settle(struct datapath *dp, struct port *port)
{
	for (unsigned int tries = 0; tries < 2; tries++) {
		bool held = false;

		for (unsigned int queue = 0; queue < PORT_PAIRS_MAX; queue++) {
			/* Whoever stops the queue gives them up. */
			for (unsigned int i = 0; i < ARRAY_SIZE(port->txq[queue].holds); i++)
				held |= !all_published(dp, &port->txq[queue].holds[i]);
		}
		if (likely(!held))
			return;
		synchronize_rcu();
	}
}
