/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Finds threads that hang in a notification, because whoever owns the other end of a call descriptor made it
 * block, and interrupts them by SIGUSR1.
 *
 * One per pool. watchdog_start and watchdog_stop are for the thread that starts the pool, watchdog_end for a watched
 * thread about to end. A forwarder that is watched has the dog's watcher from before its first call on.
 */
#ifndef LASTHOP_ENGINE_WATCHDOG_H
#define LASTHOP_ENGINE_WATCHDOG_H

#include <pthread.h>

#include "datapath/forward.h"

struct watchdog {
	struct call_watcher watcher;
	pthread_t thread;
	bool running;
	bool stop; /* under lock */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	unsigned int count;
	struct {
		pthread_t thread;
		const struct forwarder *fwd;
		uint32_t calls; /* as seen last */
	} watched[STATS_WORKERS_MAX];
};

/* Before anything else. Installs the handler for SIGUSR1. 0 or -errno. */
int watchdog_init(struct watchdog *dog);

/* A thread to watch; before watchdog_start. */
void watchdog_add(struct watchdog *dog, pthread_t thread, const struct forwarder *fwd);

int watchdog_start(struct watchdog *dog); /* 0 or -errno */
void watchdog_stop(struct watchdog *dog); /* also if it was not started; not after watchdog_fini */
void watchdog_fini(struct watchdog *dog);

/* The thread is about to end: it must not be interrupted any more. */
void watchdog_end(struct watchdog *dog, const struct forwarder *fwd);

#endif
