/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port's life is the main thread's: this file only makes, pauses and frees it.
 */
#include "datapath/port.h"

#include <stdlib.h>
#include <string.h>

const char *port_fault_name(unsigned int fault)
{
	switch (fault) {
	case PORT_FAULT_MEMORY_SHRUNK:
		return "memory-shrunk";
	case PORT_FAULT_CALL_BLOCKED:
		return "call-blocked";
	default:
		return chain_verdict_name((enum chain_verdict)fault);
	}
}

struct port *port_create(uint32_t index, uint64_t wait_ns)
{
	static uint32_t lives;
	struct port *port = aligned_alloc(CACHE_LINE, align_up(sizeof(*port), CACHE_LINE));

	if (!port)
		return NULL;
	memset(port, 0, sizeof(*port));
	port->index = index;
	lives = max(lives + 1, 1U);
	port->life = lives;
	port->wait_ns = wait_ns;
	port->notify_packets = 1;
	port->vm_slot = -1;
	for (uint32_t i = 0; i < PORT_PAIRS_MAX; i++) {
		port->txq[i].port = index;
		port->txq[i].queue = i;
	}
	return port;
}

void port_destroy(struct port *port)
{
	for (unsigned int i = 0; i < PORT_PAIRS_MAX; i++) {
		rxq_stop(&port->rxq[i]);
		txq_stop(&port->txq[i]);
	}
	free(port);
}

void port_pause(struct port *port, bool changing)
{
	store_release(&port->pairs_running, changing ? PORT_PAIRS_CHANGING : 0);
	for (unsigned int i = 0; i < PORT_PAIRS_MAX; i++) {
		store_release(&port->rxq[i].live, false);
		store_release(&port->txq[i].live, false);
	}
}
