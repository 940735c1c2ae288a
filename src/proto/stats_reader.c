/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The segment describes itself; its sizes and offsets are fetched once, checked against the mapping
 * and used from private memory. Structures of counters are read as arrays of 64-bit words, which is
 * what they are.
 */
#include "proto/stats_reader.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define DIRECTORY_TRIES 1000

#define FIELD(structure, name)                          \
	{                                               \
#name, offsetof(struct structure, name) \
	}

const struct stats_field stats_port_fields[] = {
	FIELD(stats_port, in_packets),
	FIELD(stats_port, in_bytes),
	FIELD(stats_port, out_packets),
	FIELD(stats_port, out_bytes),
	FIELD(stats_port, out_segmented),
	FIELD(stats_port, out_checksummed),
	FIELD(stats_port, calls),
	FIELD(stats_port, kicks),
	FIELD(stats_port, upcalls),
	FIELD(stats_port, waits),
	{NULL, 0},
};

const struct stats_field stats_worker_fields[] = {
	FIELD(stats_worker, turns),           FIELD(stats_worker, packets),       FIELD(stats_worker, delivered_bytes),
	FIELD(stats_worker, copied_bytes),    FIELD(stats_worker, staged_bytes),  FIELD(stats_worker, flow_hits_last),
	FIELD(stats_worker, flow_hits_table), FIELD(stats_worker, flow_misses),   FIELD(stats_worker, sleeps),
	FIELD(stats_worker, taken_over),      FIELD(stats_worker, calls_posted),  FIELD(stats_worker, rescues),
	FIELD(stats_worker, taken_again),     FIELD(stats_worker, copies_handed), {NULL, 0},
};

const struct stats_field stats_driver_fields[] = {
	FIELD(stats_driver, rx_packets), FIELD(stats_driver, rx_bytes),     FIELD(stats_driver, tx_packets),
	FIELD(stats_driver, tx_bytes),   FIELD(stats_driver, rx_coalesced), {NULL, 0},
};

_Static_assert(sizeof(struct stats_port) % sizeof(uint64_t) == 0, "whole words");
_Static_assert(sizeof(struct stats_worker) % sizeof(uint64_t) == 0, "whole words");

static const void *segment_part(const struct stats_reader *reader, uint64_t offset, uint64_t count, size_t size)
{
	uint64_t bytes;

	if (offset % CACHE_LINE != 0 || offset > reader->shm.size ||
	    __builtin_mul_overflow(count, (uint64_t)size, &bytes) || bytes > reader->shm.size - offset)
		return NULL;
	return (const uint8_t *)reader->shm.base + offset;
}

static int reader_check(struct stats_reader *reader)
{
	const struct stats_header *header = reader->header;
	uint64_t magic = load_acquire(&header->magic);

	if (magic == 0)
		return -ENODATA;
	if (magic != STATS_MAGIC)
		return -EPROTO;
	reader->ports_max = load_relaxed(&header->ports_max);
	reader->workers = load_relaxed(&header->workers);
	reader->drops = load_relaxed(&header->drops);
	reader->driver_drops = load_relaxed(&header->driver_drops);
	if (reader->ports_max > DP_PORTS_MAX || reader->workers > STATS_WORKERS_MAX ||
	    reader->drops > STATS_DROPS_MAX || reader->driver_drops > STATS_DRIVER_DROPS_MAX)
		return -EPROTO;
	reader->directory = segment_part(reader, load_relaxed(&header->directory_offset), reader->ports_max,
					 sizeof(struct stats_directory));
	reader->worker = segment_part(reader, load_relaxed(&header->workers_offset), reader->workers,
				      sizeof(struct stats_worker));
	reader->ports = segment_part(reader, load_relaxed(&header->ports_offset),
				     (uint64_t)reader->workers * reader->ports_max, sizeof(struct stats_port));
	reader->drivers = segment_part(reader, load_relaxed(&header->drivers_offset), reader->ports_max,
				       sizeof(struct stats_driver));
	if (reader->directory == NULL || reader->worker == NULL || reader->ports == NULL || reader->drivers == NULL)
		return -EPROTO;
	return 0;
}

int stats_reader_open(struct stats_reader *reader, const char *dir)
{
	char path[PATH_MAX];
	int error;

	memset(reader, 0, sizeof(*reader));
	if (snprintf(path, sizeof(path), "%s/%s", dir, STATS_FILE_NAME) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	error = shm_attach(&reader->shm, path, sizeof(struct stats_header));
	if (error < 0)
		return error;
	reader->header = reader->shm.base;
	error = reader_check(reader);
	if (error < 0)
		stats_reader_close(reader);
	return error;
}

void stats_reader_close(struct stats_reader *reader)
{
	shm_close(&reader->shm);
	memset(reader, 0, sizeof(*reader));
}

bool stats_reader_is_stale(const struct stats_reader *reader)
{
	return shm_is_stale(&reader->shm);
}

/*
 * A copy of `size` bytes that somebody may be writing, as they were at one time: the first of their words is odd
 * meanwhile, and another afterwards. 0, or -EAGAIN: it was written again and again.
 */
static int copy_settled(void *copy, const void *shared, size_t size)
{
	const uint64_t *sequence = shared;

	for (unsigned int i = 0; i < DIRECTORY_TRIES; i++) {
		uint64_t before = load_acquire(sequence);

		if (before & 1) {
			cpu_relax();
			continue;
		}
		memcpy(copy, shared, size);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (load_relaxed(sequence) == before)
			return 0;
	}
	return -EAGAIN;
}

int stats_reader_directory(const struct stats_reader *reader, uint32_t port, struct stats_directory *entry)
{
	int error = port < reader->ports_max ? copy_settled(entry, &reader->directory[port], sizeof(*entry)) : -ENOENT;

	if (error != 0)
		return error;
	entry->name[sizeof(entry->name) - 1] = '\0';
	return entry->used ? 0 : -ENOENT;
}

int stats_reader_find(const struct stats_reader *reader, const char *name)
{
	struct stats_directory entry;

	for (uint32_t i = 0; i < reader->ports_max; i++) {
		if (stats_reader_directory(reader, i, &entry) == 0 && strcmp(entry.name, name) == 0)
			return (int)i;
	}
	return -ENOENT;
}

int stats_reader_driver(const struct stats_reader *reader, uint32_t port, struct stats_driver *entry)
{
	int error = port < reader->ports_max ? copy_settled(entry, &reader->drivers[port], sizeof(*entry)) : -ENOENT;

	if (error != 0)
		return error;
	entry->kind[sizeof(entry->kind) - 1] = '\0';
	entry->device[sizeof(entry->device) - 1] = '\0';
	entry->mode[sizeof(entry->mode) - 1] = '\0';
	return 0;
}

static void add_words(void *sum, const void *shared, size_t size)
{
	uint64_t *to = sum;
	const uint64_t *from = shared;

	for (size_t i = 0; i < size / sizeof(uint64_t); i++)
		to[i] += load_relaxed(&from[i]);
}

void stats_reader_port(const struct stats_reader *reader, uint32_t port, struct stats_port *sum)
{
	memset(sum, 0, sizeof(*sum));
	if (port >= reader->ports_max)
		return;
	for (uint32_t i = 0; i < reader->workers; i++)
		add_words(sum, &reader->ports[(size_t)i * reader->ports_max + port], sizeof(*sum));
}

void stats_reader_total(const struct stats_reader *reader, struct stats_worker *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (uint32_t i = 0; i < reader->workers; i++)
		add_words(sum, &reader->worker[i], sizeof(*sum));
}

int stats_reader_worker(const struct stats_reader *reader, uint32_t worker, struct stats_worker *copy)
{
	if (worker >= reader->workers)
		return -ENOENT;
	memset(copy, 0, sizeof(*copy));
	add_words(copy, &reader->worker[worker], sizeof(*copy));
	return 0;
}

static void copy_name(const char names[][24], uint32_t count, uint32_t drop, char name[24])
{
	name[0] = '\0';
	if (drop >= count)
		return;
	memcpy(name, names[drop], 24);
	name[23] = '\0';
}

void stats_reader_drop_name(const struct stats_reader *reader, uint32_t drop, char name[24])
{
	copy_name(reader->header->drop_names, reader->drops, drop, name);
}

void stats_reader_driver_drop_name(const struct stats_reader *reader, uint32_t drop, char name[24])
{
	copy_name(reader->header->driver_drop_names, reader->driver_drops, drop, name);
}
