/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lasthop-core's main thread: everything that is not forwarding. It owns the ports' connections, the flow
 * table's writing end, the statistics' directory and the controller's connection.
 *
 * One struct core a process, used by the main thread only.
 */
#ifndef LASTHOP_CORE_CORE_H
#define LASTHOP_CORE_CORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/statistics.h"
#include "datapath/forward.h"
#include "engine/worker.h"
#include "lib/loop.h"
#include "proto/datapath_proto.h"

struct channel;
struct core_port;

struct core_config {
	const char *dir; /* where the sockets and the statistics live */
	unsigned int workers;
	uint64_t linger_ns;
	bool state_batching; /* these three as in struct worker_pool_config */
	bool preemptive_copy;
	bool offload;
	bool pinned;
	enum worker_class class;
	uint32_t flows_max;
	int observer_fd; /* socket to an observer (engine/vm_state.h), taken over by core_open; -1: none */
};

struct core {
	struct core_config config;
	struct loop loop;
	struct datapath dp;
	struct worker_pool *pool;
	struct statistics stats;
	struct forwarder *forwarder; /* the main thread's own: frames that the control plane sends, calls */
	struct channel *channel;
	struct core_port *ports[FLOW_PORTS_MAX];
	uint64_t instance;
	struct loop_io event_io;
	bool ports_untold;         /* a port's state, to the controller */
	bool flows_added;          /* in this round: packets may be waiting for them */
	unsigned int upcall_count; /* that wait for the controller to read */
	struct dp_upcall upcalls[DP_UPCALLS_MAX];
};

/*
 * In this order: open makes everything that lives in config.dir, after which the process may lose its sight of the
 * file system; start makes the threads; run is the main loop, until loop_stop. 0 or -errno, said in the log.
 */
int core_open(struct core *core, const struct core_config *config);
int core_start(struct core *core);
int core_run(struct core *core);
/* Workers, or what became possible, need the main thread's attention in its next round. */
void core_wake(struct core *core);
/* Stops the workers, ends all connections, frees everything. Also after a start that failed half-way. */
void core_close(struct core *core);

#endif
