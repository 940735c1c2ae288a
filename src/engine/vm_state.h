/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which VMs run, wait for a CPU or sleep, and which CPUs are idle, as lasthop-observer shows it.
 *
 * Owns the mapped tables and the socket to the observer; there is one of it in a process. The functions in the first
 * half are for any thread at any time: no system call, no lock, one or two loads of a cache line that the kernel
 * writes. Those in the second half are for the main thread.
 *
 * What is read here was true a moment ago, and what is read of two things was perhaps never true of both at once. No
 * order with any other memory is promised, so nothing may rest on it but time: a guest that is taken for running
 * may just have gone to sleep, so what is kept back for it needs a deadline; one that is taken for blocked may just
 * have been woken, and is told once too often. Without an observer all is unknown, from the beginning
 * or from the moment that it is gone.
 */
#ifndef LASTHOP_ENGINE_VM_STATE_H
#define LASTHOP_ENGINE_VM_STATE_H

#include <sys/types.h>

#include "lib/compiler.h"
#include "lib/loop.h"
#include "proto/observer_map.h"

enum vm_state {
	VM_STATE_UNKNOWN, /* go by what the ring says */
	VM_STATE_BLOCKED,
	VM_STATE_RUNNABLE, /* no vCPU runs, but one would if it had a CPU */
	VM_STATE_RUNNING,  /* at least one vCPU runs, or polls in the host's kernel before it sleeps */
};

/* Aligned for the largest pages, because other memory is mapped in their places. Private to this room. */
struct vm_state_tables {
	struct observer_slot slots[OBSERVER_SLOTS] __attribute__((aligned(65536)));
	struct observer_cpu cpus[OBSERVER_CPUS] __attribute__((aligned(65536)));
};

extern struct vm_state_tables vm_state_tables;

/* Of the process that vm_state_watch() gave `slot` for; any other number, -1 among them, is unknown. */
static inline enum vm_state vm_state_get(int slot)
{
	const struct observer_slot *entry = &vm_state_tables.slots[(unsigned int)slot % OBSERVER_SLOTS];
	uint64_t counts;

	if ((unsigned int)slot >= OBSERVER_SLOTS || READ_ONCE(entry->watch) == 0)
		return VM_STATE_UNKNOWN;
	counts = READ_ONCE(entry->counts);
	if (READ_ONCE(entry->vcpus) != 0)
		counts >>= OBSERVER_VCPU_SHIFT;
	if ((counts & OBSERVER_COUNT_MASK) != 0)
		return VM_STATE_RUNNING;
	if ((counts >> OBSERVER_RUNNABLE_SHIFT & OBSERVER_COUNT_MASK) != 0)
		return VM_STATE_RUNNABLE;
	return VM_STATE_BLOCKED;
}

/* The CPU on which it ran last, or was woken to run. 0 if it is unknown: ask for the state first. */
static inline unsigned int vm_state_last_cpu(int slot)
{
	return READ_ONCE(vm_state_tables.slots[(unsigned int)slot % OBSERVER_SLOTS].cpu);
}

/* OBSERVER_CPU_UNKNOWN also for numbers out of range. */
static inline enum observer_cpu_state vm_state_cpu(unsigned int cpu)
{
	if (cpu >= OBSERVER_CPUS)
		return OBSERVER_CPU_UNKNOWN;
	return (enum observer_cpu_state)(READ_ONCE(vm_state_tables.cpus[cpu].running) >> OBSERVER_CPU_STATE_SHIFT);
}

static inline bool vm_state_cpu_is_idle(unsigned int cpu)
{
	return vm_state_cpu(cpu) == OBSERVER_CPU_IDLE;
}

/*
 * Whether somebody other than the thread that has the CPU waits for it: asked by a worker of its own CPU, who then
 * leaves. It is looked at when the CPU switches and when a watched VM is woken; a task that has left for another
 * CPU in between is still counted.
 */
static inline bool vm_state_cpu_is_wanted(unsigned int cpu)
{
	return cpu < OBSERVER_CPUS && READ_ONCE(vm_state_tables.cpus[cpu].wanted) != 0;
}

/* What a CPU has done so far, to be compared with what it had done before. Both go round. */
struct cpu_history {
	uint32_t switches;
	uint32_t idles; /* those to nobody */
};

/* All 0 if it is unknown. */
static inline struct cpu_history vm_state_cpu_history(unsigned int cpu)
{
	const struct observer_cpu *entry = &vm_state_tables.cpus[cpu % OBSERVER_CPUS];

	if (cpu >= OBSERVER_CPUS)
		return (struct cpu_history){0};
	return (struct cpu_history){.switches = READ_ONCE(entry->switches), .idles = READ_ONCE(entry->idles)};
}

/* The id of the thread that runs on it, 0 if none or unknown; as the initial pid namespace has it. */
static inline pid_t vm_state_cpu_thread(unsigned int cpu)
{
	return cpu < OBSERVER_CPUS ? (pid_t)READ_ONCE(vm_state_tables.cpus[cpu].running) : 0;
}

/* main thread */

/*
 * Takes over the socket, whose other end the observer has or will have, and lets the loop read from it. 0 or
 * -errno, and the socket is then still the caller's. `loop` must outlive vm_state_close().
 */
int vm_state_open(struct loop *loop, int sock) must_check;

/* All is unknown afterwards. Harmless if it was not open. */
void vm_state_close(void);

/* Whether there is an observer. */
bool vm_state_available(void);

/*
 * A slot for the process, shared by all who watch the same one; -ENOSPC: none is free, -EINVAL: no process. Also when
 * there is no observer: it is told when it comes. Never waits.
 */
int vm_state_watch(pid_t pid) must_check;

/* Each watch is ended once; what is no slot is ignored. */
void vm_state_forget(int slot);

#endif
