/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which CPUs share caches, as sysfs says. Read once, by the main thread, before the process loses its sight of files;
 * then anybody's to look at. What is not known is taken as far.
 */
#ifndef LASTHOP_ENGINE_TOPOLOGY_H
#define LASTHOP_ENGINE_TOPOLOGY_H

#include <sched.h>
#include <stdint.h>

#include "lib/compiler.h"

#define TOPOLOGY_ROOT "/sys/devices/system/cpu"

/* The nearer the lower. */
enum topology_distance {
	TOPOLOGY_CORE,  /* they are threads of one core, or share its second-level cache */
	TOPOLOGY_CACHE, /* they share a cache beyond that */
	TOPOLOGY_FAR,   /* none, or nobody knows */
};

/* Of each CPU: 1 + the first of those that share the cache with it, 0 if that is not known. */
struct topology {
	uint16_t core[CPU_SETSIZE];
	uint16_t cache[CPU_SETSIZE];
};

/*
 * Reads what is below root (TOPOLOGY_ROOT, but for tests) about these CPUs. Returns of how many of them something is
 * known: 0, and all are far from each other, if that is not a sysfs or makes no sense.
 */
unsigned int topology_read(struct topology *topology, const char *root, const cpu_set_t *cpus);

enum topology_distance topology_distance(const struct topology *topology, uint32_t a, uint32_t b);

/*
 * Sorts the positions of cpus[] but `own` by their distance from cpus[own], into order[count - 1]; of those that are as
 * near as each other the next one in cpus[] comes first, round from `own`. CPUs may be any number. At most 256.
 */
void topology_order(const struct topology *topology, const uint32_t *cpus, unsigned int count, unsigned int own,
		    uint8_t *order);

#endif
