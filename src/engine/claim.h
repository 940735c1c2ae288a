/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who has a transmit queue. One word for each queue:
 *
 *	0		nobody: its guest was asked for kicks, and whoever handles one may take it
 *	held by w	on worker w's list, between two turns; another worker may take it over
 *	busy in w	worker w is in the middle of something with it: nobody else may touch it
 *
 * Any worker may call any of these at any time. That a queue is served by one worker at a time, and that no packet
 * stays behind in a queue that nobody has, is what tests/models/claim.pml shows of worker.c's use of them.
 */
#ifndef LASTHOP_ENGINE_CLAIM_H
#define LASTHOP_ENGINE_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/compiler.h"

#define CLAIM_NONE 0U

static inline uint32_t claim_held(unsigned int worker)
{
	return (worker + 1) << 1;
}

static inline uint32_t claim_busy(unsigned int worker)
{
	return claim_held(worker) | 1;
}

static inline bool claim_change(uint32_t *claim, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(claim, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* The worker that holds it between turns, or -1: nobody does, or it is busy. */
static inline int claim_holder(uint32_t claim)
{
	return claim == CLAIM_NONE || (claim & 1) ? -1 : (int)(claim >> 1) - 1;
}

/*
 * Takes it from nobody, or from its `holder` between two turns. The worker is busy with it afterwards: what it does
 * first (switching kicks off) must not happen to a queue that has been taken over, served and let go meanwhile.
 */
static inline bool claim_take(uint32_t *claim, unsigned int worker)
{
	return load_relaxed(claim) == CLAIM_NONE && claim_change(claim, CLAIM_NONE, claim_busy(worker));
}

static inline bool claim_take_over(uint32_t *claim, unsigned int holder, unsigned int worker)
{
	return claim_change(claim, claim_held(holder), claim_busy(worker));
}

/* Gives a held queue to another worker, who has to be told. */
static inline bool claim_hand_over(uint32_t *claim, unsigned int worker, unsigned int to)
{
	return claim_change(claim, claim_held(worker), claim_held(to));
}

/* False: somebody took it over, and it is no longer this worker's. */
static inline bool claim_begin(uint32_t *claim, unsigned int worker)
{
	return claim_change(claim, claim_held(worker), claim_busy(worker));
}

static inline void claim_end(uint32_t *claim, unsigned int worker)
{
	store_release(claim, claim_held(worker));
}

/* After claim_begin. */
static inline void claim_let_go(uint32_t *claim)
{
	store_release(claim, CLAIM_NONE);
}

#endif
