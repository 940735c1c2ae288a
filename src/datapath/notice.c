/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's wish is looked at when a notice is given, not when its packets were published: a guest that is at work
 * by then has taken its wish back. Between the store of a used index and that look there must be a full barrier, or a
 * guest that falls asleep meanwhile is missed; one barrier serves all queues published before it.
 */
#include "datapath/notice.h"

#include "datapath/forward.h"

/* Half of what an index can tell apart. */
#define RANGE_MAX 0x8000

static struct notice *find(struct notices *notices, uint32_t port, unsigned int queue, bool transmit)
{
	for (unsigned int i = 0; i < notices->count; i++) {
		struct notice *notice = &notices->entries[i];

		if (notice->port == port && notice->queue == queue && notice->transmit == transmit)
			return notice;
	}
	return NULL;
}

/*
 * Whether a publication can go into a notice: if it follows closely. Other threads may have published as much as makes
 * the index go round in between, or the queue may have started anew; that the two ends are close says nothing then
 * (tests/models/notice.pml).
 */
static bool follows(const struct notice *notice, struct publication what)
{
	return (uint32_t)(uint16_t)(notice->to - notice->from) + (uint16_t)(what.from - notice->to) +
		       (uint16_t)(what.to - what.from) <
	       RANGE_MAX;
}

void notice_add(struct forwarder *fwd, const struct port *port, unsigned int queue, bool transmit,
		struct publication what)
{
	struct notices *notices = &fwd->notices;
	struct notice *notice = find(notices, port->index, queue, transmit);

	if (what.from == what.to)
		return;
	if (unlikely(notice && !follows(notice, what))) {
		notice_give(fwd, (unsigned int)(notice - notices->entries));
		notice = NULL;
	}
	notices->fenced = false;
	if (notice) {
		notice->to = what.to;
		notice->packets += what.packets;
		return;
	}
	if (unlikely(notices->count == NOTICES_MAX))
		notice_give_all(fwd);
	notices->fenced = false;
	notices->entries[notices->count++] = (struct notice){
		.port = port->index,
		.queue = (uint16_t)queue,
		.transmit = transmit,
		.from = what.from,
		.to = what.to,
		.packets = what.packets,
	};
}

struct port *notice_take(struct forwarder *fwd, unsigned int index)
{
	struct notices *notices = &fwd->notices;
	const struct notice notice = notices->entries[index];
	struct port *port = datapath_port(fwd->dp, notice.port);
	bool wanted;

	notices->entries[index] = notices->entries[--notices->count];
	if (unlikely(!port))
		return NULL;
	if (!notices->fenced) {
		full_barrier();
		notices->fenced = true;
	}
	if (notice.transmit) {
		const struct txq *txq = &port->txq[notice.queue];

		wanted = load_acquire(&txq->live) && txq_wants_call(txq, notice.from, notice.to);
	} else {
		const struct rxq *rxq = &port->rxq[notice.queue];

		wanted = load_acquire(&rxq->live) && rxq_wants_call(rxq, notice.from, notice.to);
	}
	return wanted ? port : NULL;
}

bool notice_call(struct forwarder *fwd, struct port *port, unsigned int queue, bool transmit)
{
	bool live = load_acquire(transmit ? &port->txq[queue].live : &port->rxq[queue].live);
	int fd = live ? (transmit ? port->txq[queue].call_fd : port->rxq[queue].call_fd) : -1;

	if (fd < 0)
		return false;
	forward_call(fwd, port, fd);
	return true;
}

bool notice_give(struct forwarder *fwd, unsigned int index)
{
	const struct notice notice = fwd->notices.entries[index];
	struct port *port = notice_take(fwd, index);

	return port && notice_call(fwd, port, notice.queue, notice.transmit);
}

void notice_give_all(struct forwarder *fwd)
{
	while (fwd->notices.count > 0)
		notice_give(fwd, fwd->notices.count - 1);
}
