/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Workers: the threads that take turns of transmit queues. Each has its own forwarder and its own set of queues,
 * sleeps when none of them has anything, and is woken by kicks.
 *
 * The pool is made by the main thread, which alone calls these functions. Which worker serves a queue is decided
 * by where its VM runs and who has time, and may change between any two turns.
 */
#ifndef LASTHOP_ENGINE_WORKER_H
#define LASTHOP_ENGINE_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "datapath/forward.h"
#include "engine/topology.h"

struct worker_pool;

enum worker_class {
	WORKER_ADAPTIVE, /* batch; normal where guests poll */
	WORKER_BATCH,
	WORKER_NORMAL,
	WORKER_IDLE,
};

struct worker_pool_config {
	struct datapath *dp;
	unsigned int workers;            /* 1 to STATS_WORKERS_MAX - 1 */
	struct stats_port *ports;        /* [workers + 1][FLOW_PORTS_MAX]; the last block is the caller's */
	struct stats_worker *stats;      /* [workers + 1] */
	uint64_t linger_ns;              /* how long a worker looks for more work before it sleeps */
	bool state_batching;             /* notify by the receiver's state, and not once a batch */
	bool preemptive_copy;            /* a VM that sleeps is called when its packets are there, not when they come */
	bool offload;                    /* work may move to idle CPUs, calls to the VM's */
	bool pinned;                     /* one worker a CPU, if there are as many: else the kernel places them */
	enum worker_class class;         /* of the scheduler */
	const struct topology *topology; /* which CPUs are near; read when the pool starts */
	struct forwarder *caller;        /* of the thread that starts the pool: its notifications are watched as well */
};

/*
 * 0 or -errno. The calling thread's signal mask is inherited. Installs a handler for SIGUSR1, by which a thread of
 * the pool interrupts whoever hangs in a notification (forward_call).
 */
int worker_pool_start(struct worker_pool **pool, const struct worker_pool_config *config);
void worker_pool_stop(struct worker_pool *pool); /* waits for the threads' ends, frees the pool */

/* A queue that has just been started: from now on a worker serves it. kick_fd -1: it is polled. 0 or -errno. */
int worker_pool_attach(struct worker_pool *pool, const struct txq *txq, int kick_fd);
/* An attached queue may have something new although nobody kicked. */
void worker_pool_attend(struct worker_pool *pool, const struct txq *txq);
/* A receive queue's kicks: wake those whose packets wait for buffers. 0 or -errno. */
int worker_pool_attach_rx(struct worker_pool *pool, uint32_t port, uint32_t queue, int kick_fd);
/*
 * The queue's kicks are no longer looked at. Call before the descriptor is closed; the queue itself may still be
 * in a worker's hands until the next grace period.
 */
void worker_pool_detach(struct worker_pool *pool, uint32_t port, uint32_t queue, int kick_fd);

/* Something changed (flows, ports): workers with waiting packets look again. */
void worker_pool_wake(struct worker_pool *pool);

/* The next upcall of any worker, in turns. */
bool worker_pool_upcall(struct worker_pool *pool, struct upcall *upcall);

#endif
