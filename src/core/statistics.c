/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One file, laid out once: header, port directory, the threads' own blocks, then every thread's block of ports.
 * The magic number is written last: a reader that finds it finds everything.
 */
#include "core/statistics.h"

#include <string.h>
#include <unistd.h>

#include "lib/clock.h"

static uint64_t place(uint64_t *size, uint64_t bytes)
{
	uint64_t offset = *size;

	*size = align_up(offset + bytes, CACHE_LINE);
	return offset;
}

int statistics_create(struct statistics *stats, const char *dir, uint32_t threads, uint64_t instance)
{
	uint64_t size = 0;
	uint64_t header = place(&size, sizeof(struct stats_header));
	uint64_t directory = place(&size, sizeof(struct stats_directory) * FLOW_PORTS_MAX);
	uint64_t workers = place(&size, sizeof(struct stats_worker) * threads);
	uint64_t ports = place(&size, sizeof(struct stats_port) * FLOW_PORTS_MAX * threads);
	uint64_t drivers = place(&size, sizeof(struct stats_driver) * FLOW_PORTS_MAX);
	uint8_t *base;
	int error = shm_create(&stats->shm, dir, STATS_FILE_NAME, size, 0644);

	if (error)
		return error;
	base = stats->shm.base;
	stats->threads = threads;
	stats->header = (void *)(base + header);
	stats->directory = (void *)(base + directory);
	stats->workers = (void *)(base + workers);
	stats->ports = (void *)(base + ports);
	stats->drivers = (void *)(base + drivers);
	stats->header->ports_max = FLOW_PORTS_MAX;
	stats->header->workers = threads;
	stats->header->drops = DROP_COUNT;
	stats->header->pid = (uint32_t)getpid();
	stats->header->instance = instance;
	stats->header->start_ns = clock_now_ns();
	stats->header->directory_offset = directory;
	stats->header->workers_offset = workers;
	stats->header->ports_offset = ports;
	stats->header->drivers_offset = drivers;
	stats->header->driver_drops = DRIVER_DROP_COUNT;
	stats->header->size = size;
	for (unsigned int i = 0; i < DROP_COUNT; i++)
		strncpy(stats->header->drop_names[i], drop_name((enum drop_reason)i),
			sizeof(stats->header->drop_names[i]) - 1);
	for (unsigned int i = 0; i < DRIVER_DROP_COUNT; i++)
		strncpy(stats->header->driver_drop_names[i], driver_drop_name(i),
			sizeof(stats->header->driver_drop_names[i]) - 1);
	store_release(&stats->header->magic, STATS_MAGIC);
	return 0;
}

void statistics_close(struct statistics *stats)
{
	shm_close(&stats->shm);
}

/* Workers may be counting, which is why these are stores that nobody can see half of. */
static void clear_counters(struct statistics *stats, uint32_t port)
{
	for (uint32_t i = 0; i < stats->threads; i++) {
		uint64_t *counters = (uint64_t *)(void *)&stats->ports[i * FLOW_PORTS_MAX + port];

		for (unsigned int j = 0; j < sizeof(struct stats_port) / sizeof(*counters); j++)
			store_relaxed(&counters[j], 0);
	}
}

void statistics_port(struct statistics *stats, uint32_t port, const char *name, uint32_t state)
{
	struct stats_directory *entry = &stats->directory[port];

	store_relaxed(&entry->sequence, entry->sequence + 1);
	full_barrier();
	/* When it goes and when it comes: flows that still name a port that is gone have their losses counted. */
	if (!name || !entry->used)
		clear_counters(stats, port);
	memset(entry->name, 0, sizeof(entry->name));
	if (name)
		strncpy(entry->name, name, sizeof(entry->name) - 1);
	store_relaxed(&entry->used, name != NULL);
	store_relaxed(&entry->state, state);
	store_release(&entry->sequence, entry->sequence + 1);
}

void statistics_driver(struct statistics *stats, uint32_t port, const struct stats_driver *driver)
{
	struct stats_driver *entry = &stats->drivers[port];
	struct stats_driver copy = {0};
	uint64_t sequence = entry->sequence + 1;

	if (driver)
		copy = *driver;
	copy.sequence = sequence;
	store_relaxed(&entry->sequence, sequence);
	full_barrier();
	memcpy(entry, &copy, sizeof(copy));
	store_release(&entry->sequence, sequence + 1);
}

void statistics_fault(struct statistics *stats)
{
	stats_add(&stats->header->faults, 1);
}

void statistics_vm_states(struct statistics *stats, bool known)
{
	if (load_relaxed(&stats->header->vm_states) != known)
		store_relaxed(&stats->header->vm_states, known);
}
