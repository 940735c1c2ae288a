/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The BPF program in the kernel and the two tables that it writes (proto/observer_map.h).
 *
 * Owns all that concerns BPF, for a process with one thread. sched_tables_open() needs privileges (root, or
 * CAP_BPF and CAP_PERFMON), the rest none. Functions return 0 or a negative errno. Closing takes the program out
 * of the kernel, as does the end of the process; those who have the tables mapped keep what was last in them.
 */
#ifndef LASTHOP_OBSERVER_SCHED_TABLES_H
#define LASTHOP_OBSERVER_SCHED_TABLES_H

#include "lib/compiler.h"
#include "proto/observer_map.h"

struct observer_bpf;

struct sched_tables {
	struct observer_bpf *bpf;
	/* Watches that each slot has had. */
	uint32_t begun[OBSERVER_SLOTS];
	/* The one that is going on, 0: none. */
	uint32_t watch[OBSERVER_SLOTS];
	/* The slot's last watch has ended, but maybe not yet for a program that is just running. */
	bool lingers[OBSERVER_SLOTS];
};

/* Logs what is in the way, once. */
int sched_tables_open(struct sched_tables *tables) must_check;
void sched_tables_close(struct sched_tables *tables);

/* For those who map the tables; no descriptor of them can be used to write. */
int sched_tables_slots_fd(const struct sched_tables *tables);
int sched_tables_cpus_fd(const struct sched_tables *tables);

/*
 * Begins a watch in a slot that has none. -ESRCH: the process has ended. `*robbed` becomes the slot of another
 * watch that had the process counted among those that its own had started, or -1: its counts are wrong until
 * that watch is ended and begun again. May take some milliseconds.
 */
int sched_tables_begin(struct sched_tables *tables, uint32_t slot, int pidfd, int *robbed) must_check;

/* Ends it: the slot is unknown from now on. */
void sched_tables_end(struct sched_tables *tables, uint32_t slot);

#endif
