/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RCU by quiescent states: liburcu, and what ThreadSanitizer has to be told of it. liburcu orders
 * memory with assembly that the sanitizer does not see, so that it would take every grace period
 * for a race. Include this instead of urcu-qsbr.h; without the sanitizer it adds nothing.
 *
 * What the sanitizer is told is what holds: all that a reader did before it was quiescent happens
 * before the end of a grace period, and what was written before a pointer was assigned is there for
 * who follows it.
 */
#ifndef LASTHOP_LIB_RCU_H
#define LASTHOP_LIB_RCU_H

#include <urcu-qsbr.h>

#include "lib/compiler.h"
#include "lib/tsan.h"

#ifdef TSAN
#define RCU_TSAN_TAG (&urcu_qsbr_flavor)

static inline void rcu_tsan_quiescent_state(void)
{
	tsan_release(RCU_TSAN_TAG);
	urcu_qsbr_quiescent_state();
}

static inline void rcu_tsan_thread_offline(void)
{
	tsan_release(RCU_TSAN_TAG);
	urcu_qsbr_thread_offline();
}

static inline void rcu_tsan_unregister_thread(void)
{
	tsan_release(RCU_TSAN_TAG);
	urcu_qsbr_unregister_thread();
}

static inline void rcu_tsan_synchronize(void)
{
	urcu_qsbr_synchronize_rcu();
	tsan_acquire(RCU_TSAN_TAG);
}

#undef rcu_quiescent_state
#undef rcu_thread_offline
#undef rcu_unregister_thread
#undef synchronize_rcu
#undef rcu_assign_pointer
#define rcu_quiescent_state      rcu_tsan_quiescent_state
#define rcu_thread_offline       rcu_tsan_thread_offline
#define rcu_unregister_thread    rcu_tsan_unregister_thread
#define synchronize_rcu          rcu_tsan_synchronize
#define rcu_assign_pointer(p, v) store_release(&(p), (v))
#endif

#endif
