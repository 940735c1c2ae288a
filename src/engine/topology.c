/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sysfs has a directory for each cache that a CPU uses, in no order that is promised, with the cache's level and the
 * list of CPUs that share it. Two CPUs share a cache if the lists that they name begin with the same CPU, so that is
 * all that is kept of a list. A CPU whose list cannot be read, or lacks the CPU itself, shares nothing.
 */
#include "engine/topology.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Instruction caches among them. */
#define CACHES_MAX 16
#define LIST_SIZE  4096

/* False: it is not there, or more than that. */
static bool read_text(const char *root, uint32_t cpu, unsigned int index, const char *name, char *text, size_t size)
{
	char path[PATH_MAX];
	int length = snprintf(path, sizeof(path), "%s/cpu%u/cache/index%u/%s", root, cpu, index, name);
	ssize_t n;
	int fd;

	if (length < 0 || (size_t)length >= sizeof(path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, size);
	close(fd);
	if (n <= 0 || (size_t)n == size)
		return false;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return true;
}

/* Moves *text behind it. False: there is none, or it is no CPU. */
static bool parse_cpu(const char **text, uint32_t *cpu)
{
	const char *at = *text;

	for (*cpu = 0; *at >= '0' && *at <= '9' && *cpu < CPU_SETSIZE; at++)
		*cpu = *cpu * 10 + (uint32_t)(*at - '0');
	if (at == *text || *cpu >= CPU_SETSIZE)
		return false;
	*text = at;
	return true;
}

/* A list like 0-3,8: the lowest one, + 1. 0: it is none, or `cpu` is not in it. */
static uint16_t parse_list(const char *list, uint32_t cpu)
{
	uint32_t lowest = CPU_SETSIZE;
	bool found = false;

	for (;; list++) {
		uint32_t first, last;

		if (!parse_cpu(&list, &first))
			return 0;
		last = first;
		if (*list == '-') {
			list++;
			if (!parse_cpu(&list, &last) || last < first)
				return 0;
		}
		lowest = min(lowest, first);
		found |= cpu >= first && cpu <= last;
		if (*list != ',')
			break;
	}
	return *list == '\0' && found ? (uint16_t)(lowest + 1) : 0;
}

static void read_cpu(struct topology *topology, const char *root, uint32_t cpu)
{
	unsigned int core_level = 0, cache_level = UINT_MAX;
	char text[LIST_SIZE];

	for (unsigned int index = 0; index < CACHES_MAX; index++) {
		unsigned long level;
		uint16_t first;
		char *end;

		if (!read_text(root, cpu, index, "level", text, sizeof(text)))
			break;
		level = strtoul(text, &end, 10);
		if (end == text || *end != '\0' || level < 1 || level > 9)
			continue;
		if (!read_text(root, cpu, index, "shared_cpu_list", text, sizeof(text)))
			continue;
		first = parse_list(text, cpu);
		if (first == 0)
			continue;
		/* The second level, the first where there is no other; and the third, or the next one that there is. */
		if (level <= 2 && level >= core_level) {
			core_level = (unsigned int)level;
			topology->core[cpu] = first;
		} else if (level > 2 && level < cache_level) {
			cache_level = (unsigned int)level;
			topology->cache[cpu] = first;
		}
	}
}

unsigned int topology_read(struct topology *topology, const char *root, const cpu_set_t *cpus)
{
	unsigned int known = 0;

	memset(topology, 0, sizeof(*topology));
	for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, cpus))
			continue;
		read_cpu(topology, root, cpu);
		known += topology->core[cpu] || topology->cache[cpu];
	}
	return known;
}

enum topology_distance topology_distance(const struct topology *topology, uint32_t a, uint32_t b)
{
	if (a >= CPU_SETSIZE || b >= CPU_SETSIZE)
		return TOPOLOGY_FAR;
	if (topology->core[a] && topology->core[a] == topology->core[b])
		return TOPOLOGY_CORE;
	if (topology->cache[a] && topology->cache[a] == topology->cache[b])
		return TOPOLOGY_CACHE;
	return TOPOLOGY_FAR;
}

void topology_order(const struct topology *topology, const uint32_t *cpus, unsigned int count, unsigned int own,
		    uint8_t *order)
{
	unsigned int n = 0;

	for (unsigned int distance = TOPOLOGY_CORE; distance <= TOPOLOGY_FAR; distance++) {
		for (unsigned int i = 1; i < count; i++) {
			unsigned int other = (own + i) % count;

			if (topology_distance(topology, cpus[own], cpus[other]) == distance)
				order[n++] = (uint8_t)other;
		}
	}
}
