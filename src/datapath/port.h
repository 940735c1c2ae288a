/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port as the data plane sees it: queue pairs over one guest's memory. And the data plane itself: its ports by
 * index and its flows.
 *
 * The main thread makes and frees ports and starts and stops their queues; workers find ports through RCU
 * (datapath_port) and use a queue only while it is live. After port_pause() and a grace period no worker uses
 * anything of the port.
 */
#ifndef LASTHOP_DATAPATH_PORT_H
#define LASTHOP_DATAPATH_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "datapath/flow_table.h"
#include "datapath/rxq.h"
#include "datapath/txq.h"
#include "lib/rcu.h"

#define PORT_PAIRS_MAX 16

/* Faults that workers find: enum chain_verdict from CHAIN_BROKEN on, and these. */
#define PORT_FAULT_MEMORY_SHRUNK CHAIN_VERDICTS
#define PORT_FAULT_CALL_BLOCKED  (CHAIN_VERDICTS + 1)

const char *port_fault_name(unsigned int fault);

/* The queues stand still for a moment: what is to go there waits, as for a receiver without buffers. */
#define PORT_PAIRS_CHANGING UINT32_MAX

struct port {
	uint32_t index;
	uint32_t life;          /* which of the ports that ever had an index this is; never 0 */
	uint32_t pairs_running; /* receive queues in use, or PORT_PAIRS_CHANGING; atomic: see port_pairs() */
	uint64_t wait_ns;       /* bound of back-pressure towards this port */
	/*
	 * Somebody was there before this data plane was, and comes again or has just come: until then packets wait for
	 * the port, also while its queues are started one by one. Atomic; 0: it is not awaited.
	 */
	uint64_t awaited_until_ns;
	uint64_t notify_ns;      /* bounds of what is held back of its guest's notifications: 0: nothing, */
	uint32_t notify_packets; /* and nothing beyond so many packets */
	int vm_slot;             /* atomic; of the front end's process, for vm_state_get(); -1: unknown */
	uint64_t features;       /* negotiated */
	const struct guest_memory *memory;
	uint32_t fault; /* atomic; 0: none. Set once by a worker, cleared by the main thread */
	struct rxq rxq[PORT_PAIRS_MAX];
	struct txq txq[PORT_PAIRS_MAX];
};

struct datapath {
	struct port *ports[FLOW_PORTS_MAX]; /* RCU */
	struct flow_table *flows;
	int event_fd; /* written by workers that have something for the main thread */
};

static inline struct port *datapath_port(struct datapath *dp, uint32_t index)
{
	return index < FLOW_PORTS_MAX ? rcu_dereference(dp->ports[index]) : NULL;
}

/* NULL: no memory. Freed by port_destroy once no worker can see it. */
struct port *port_create(uint32_t index, uint64_t wait_ns);
void port_destroy(struct port *port);

/* Until when a packet waits for the port that has done so since then. */
static inline uint64_t port_waits_until(const struct port *port, uint64_t since_ns)
{
	return max(since_ns + port->wait_ns, load_relaxed(&port->awaited_until_ns));
}

/* Receive queues in use: rxq[0] to rxq[n - 1]. */
static inline uint32_t port_pairs(const struct port *port)
{
	uint32_t pairs = load_acquire(&port->pairs_running);

	return likely(pairs != PORT_PAIRS_CHANGING) ? pairs : 0;
}

/*
 * No queue is live afterwards; those who are in the middle of one have until the next grace period. `changing`: it
 * will go on, or the caller says soon that it does not (pairs_running = 0).
 */
void port_pause(struct port *port, bool changing);

#endif
