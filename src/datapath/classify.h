/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What becomes of a batch's packets: their flows are looked up, and counted when they are done. A part of the
 * forwarding loop, under its rules.
 */
#ifndef LASTHOP_DATAPATH_CLASSIFY_H
#define LASTHOP_DATAPATH_CLASSIFY_H

#include "datapath/forward.h"

/*
 * Fills in fwd's keys, flows and firsts for the batch of txq. Returns the port, if all packets go to one and nowhere
 * else; else FLOW_NO_OUTPUT. If it is a port, and one_flow is set, nothing else is.
 */
uint32_t classify(struct forwarder *fwd, struct txq *txq);

/* The batch is done, but for the packets that wait: its flows are counted. last is the queue's. */
void classify_count(struct forwarder *fwd, const struct txq_last *last);
/* The same after a batch without waiting packets; bytes are the batch's. */
void classify_count_all(struct forwarder *fwd, const struct txq_last *last, uint64_t bytes);

#endif
