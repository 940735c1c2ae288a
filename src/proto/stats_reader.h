/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads the statistics segment (stats_segment.h): maps it read-only and sums over the workers.
 *
 * A reader belongs to one thread; any number of processes may read, at no cost to the writers. The
 * numbers of one call are not a snapshot: each counter is whole, but later ones may be newer.
 * Functions return 0 or a negative errno.
 */
#ifndef LASTHOP_PROTO_STATS_READER_H
#define LASTHOP_PROTO_STATS_READER_H

#include "lib/compiler.h"
#include "lib/shm.h"
#include "proto/stats_segment.h"

/* The counters of a structure by name, so that whoever shows them shows all of them. */
struct stats_field {
	const char *name; /* as in the structure and in the API; NULL ends the list */
	size_t offset;    /* of an uint64_t, in bytes */
};

extern const struct stats_field stats_port_fields[];   /* of struct stats_port, without drops */
extern const struct stats_field stats_worker_fields[]; /* of struct stats_worker */
extern const struct stats_field stats_driver_fields[]; /* of struct stats_driver: counters without drops */

static inline uint64_t stats_field_value(const void *counters, const struct stats_field *field)
{
	return *(const uint64_t *)(const void *)((const uint8_t *)counters + field->offset);
}

struct stats_reader {
	struct shm shm;
	const struct stats_header *header;
	/* Fetched and checked when it was opened. */
	uint32_t ports_max;
	uint32_t workers;
	uint32_t drops;
	uint32_t driver_drops;
	const struct stats_directory *directory; /* [ports_max] */
	const struct stats_worker *worker;       /* [workers] */
	const struct stats_port *ports;          /* [workers][ports_max] */
	const struct stats_driver *drivers;      /* [ports_max] */
};

/*
 * Maps DIR/stats. -ENOENT: no data plane has run there; -EPROTO: the layout is another version's;
 * -ENODATA: it is not (yet) a complete segment.
 */
int stats_reader_open(struct stats_reader *reader, const char *dir) must_check;
void stats_reader_close(struct stats_reader *reader);

/* Whether another data plane has replaced the segment since: open it anew. */
bool stats_reader_is_stale(const struct stats_reader *reader);

/* Copies the directory entry of a port. -ENOENT: no such port, -EAGAIN: it is being written. */
int stats_reader_directory(const struct stats_reader *reader, uint32_t port, struct stats_directory *entry) must_check;

/* The index of the port of that name; -ENOENT. */
int stats_reader_find(const struct stats_reader *reader, const char *name) must_check;

/* Copies what the driver behind a port last said; strings are terminated. -ENOENT, -EAGAIN as above. */
int stats_reader_driver(const struct stats_reader *reader, uint32_t port, struct stats_driver *entry) must_check;

/* The counters of a port, summed over the workers; zero for a port that is not there. */
void stats_reader_port(const struct stats_reader *reader, uint32_t port, struct stats_port *sum);

/* What all workers did, summed; or one of them. */
void stats_reader_total(const struct stats_reader *reader, struct stats_worker *sum);
int stats_reader_worker(const struct stats_reader *reader, uint32_t worker, struct stats_worker *copy) must_check;

/* The name that the segment gives to drop reason `drop`, terminated; "" if it has no such reason.
 */
void stats_reader_drop_name(const struct stats_reader *reader, uint32_t drop, char name[24]);
void stats_reader_driver_drop_name(const struct stats_reader *reader, uint32_t drop, char name[24]);

#endif
