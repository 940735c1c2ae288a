/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The writer's end of the statistics segment (proto/stats_segment.h): makes the file, hands out the blocks that
 * the workers count in, and keeps the port directory.
 *
 * Main thread only; the blocks belong to their workers.
 */
#ifndef LASTHOP_CORE_STATISTICS_H
#define LASTHOP_CORE_STATISTICS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/shm.h"
#include "proto/stats_segment.h"

struct statistics {
	struct shm shm;
	struct stats_header *header;
	struct stats_directory *directory; /* [FLOW_PORTS_MAX] */
	struct stats_worker *workers;      /* [threads] */
	struct stats_port *ports;          /* [threads][FLOW_PORTS_MAX] */
	struct stats_driver *drivers;      /* [FLOW_PORTS_MAX] */
	uint32_t threads;
};

/* Makes dir/stats for so many counting threads. 0 or -errno. */
int statistics_create(struct statistics *stats, const char *dir, uint32_t threads, uint64_t instance);
void statistics_close(struct statistics *stats);

/* name NULL: the port is gone. Its counters begin at 0 when it comes, and go back to 0 then. */
void statistics_port(struct statistics *stats, uint32_t port, const char *name, uint32_t state);
/* What is known of the driver behind a port, all of it but the sequence; NULL: nothing is. */
void statistics_driver(struct statistics *stats, uint32_t port, const struct stats_driver *driver);
void statistics_fault(struct statistics *stats);
void statistics_vm_states(struct statistics *stats, bool known);

#endif
