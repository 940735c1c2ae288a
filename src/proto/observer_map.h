/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What lasthop-observer shows of the host's scheduler: two tables that its BPF program writes at every
 * context switch and that lasthop-core maps read-only, and the few messages between the two processes.
 *
 * A slot stands for one watched process, and for all that belongs to it: its threads, and the processes that
 * it started (User-mode Linux runs its guest's programs in such). A table entry is one cache line. Everything
 * in it is a hint that was true a moment ago: whoever reads it decides when to work, never whether.
 *
 * Values are in host order: both ends run on one host. All zero means that nothing is known.
 */
#ifndef LASTHOP_PROTO_OBSERVER_MAP_H
#define LASTHOP_PROTO_OBSERVER_MAP_H

#include <stdint.h>

#define OBSERVER_VERSION 2 /* of all that is in this file */
#define OBSERVER_SLOTS   1024
#define OBSERVER_CPUS    1024 /* nothing is known of those with higher numbers */

/*
 * How many threads of the process run, and how many are runnable but wait for a CPU, in one word: it changes by
 * one atomic addition. Threads that look like vCPUs by their names are counted apart from the others.
 */
#define OBSERVER_COUNT_MASK     0xffffu
#define OBSERVER_RUNNABLE_SHIFT 16
#define OBSERVER_VCPU_SHIFT     32 /* the same two numbers, of vCPU threads */

struct observer_slot {
	uint64_t counts;
	uint32_t watch; /* 0: nobody is watched here; otherwise differs from one watch to the next */
	uint32_t vcpus; /* not 0: the process has vCPU threads, and the others do not matter */
	uint32_t cpu;   /* where a thread that matters ran last, or was woken to run */
	uint32_t zero[11];
} __attribute__((aligned(64)));

enum observer_cpu_state {
	OBSERVER_CPU_UNKNOWN = 0,
	OBSERVER_CPU_IDLE,
	OBSERVER_CPU_YIELDING, /* runs a SCHED_IDLE task, which gives way to any other at once */
	OBSERVER_CPU_BUSY,
};

struct observer_cpu {
	uint64_t running; /* enum observer_cpu_state << 32 | id of the thread */
	/*
	 * Not 0: a task other than the running one waits for this CPU, or did when it was last looked at: at the
	 * last switch, or when a watched thread was woken. SCHED_IDLE tasks that wait do not count.
	 */
	uint32_t wanted;
	uint32_t switches; /* goes round */
	uint32_t idles;    /* those to the idle task; goes round */
	uint32_t zero[11];
} __attribute__((aligned(64)));

#define OBSERVER_CPU_STATE_SHIFT 32

_Static_assert(sizeof(struct observer_slot) == 64 && sizeof(struct observer_cpu) == 64, "layout of the tables");

/*
 * The socket between the two is SOCK_SEQPACKET, connected before either starts. The observer says hello when it
 * starts and when it is asked to, with two descriptors, of the slots and of the CPUs, to be mapped from offset 0.
 * The reader then tells it whom to watch. A request gets no answer: the tables are the answer.
 *
 * Who starts the two may keep both ends open, so that each can die and be started again on its end: a new reader
 * begins with OBSERVER_RESET, a new observer with its hello. Whoever notices that the observer is gone, and that its
 * tables stand still, says so in its place.
 */
enum observer_notice_type {
	OBSERVER_HELLO = 1, /* with the two descriptors */
	OBSERVER_GONE,      /* with none; nothing is known until the next hello */
};

struct observer_notice {
	uint32_t type;    /* enum observer_notice_type */
	uint32_t version; /* OBSERVER_VERSION */
	uint32_t slots;   /* OBSERVER_SLOTS */
	uint32_t cpus;    /* OBSERVER_CPUS */
};

enum observer_request_type {
	OBSERVER_WATCH = 1, /* from now on `slot` is about process `pid`; a dead one leaves it unknown */
	OBSERVER_FORGET,    /* `slot` is about nobody; `pid` is not looked at */
	OBSERVER_RESET,     /* all slots are about nobody, and say hello; nothing else is looked at */
};

struct observer_request {
	uint32_t type; /* enum observer_request_type */
	uint32_t slot; /* 0 to OBSERVER_SLOTS - 1 */
	int32_t pid;   /* of a whole process, as the observer sees it */
	uint32_t zero;
};

/* The observer's exit status when the kernel does not let it observe: starting it again will not help. */
#define OBSERVER_EXIT_NOT_PERMITTED 3

#endif
