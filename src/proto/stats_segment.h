/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The statistics segment: a file DIR/stats that lasthop-core writes and anybody who may read it maps
 * read-only. It describes itself (sizes, names of the drops), so that a reader of another version can tell.
 *
 * Every worker has its own block of counters for every port, on its own cache lines, written with plain
 * 64-bit stores by that worker alone; a reader sums over the workers. Reading costs the writers nothing.
 * The port directory is written by the main thread under a sequence number (odd: being written).
 *
 * "in" is from the port into the switch, "out" from the switch to the port. Bytes are of frames, without the
 * virtio net header.
 */
#ifndef LASTHOP_PROTO_STATS_SEGMENT_H
#define LASTHOP_PROTO_STATS_SEGMENT_H

#include <stdint.h>

#include "datapath/drop.h"
#include "lib/compiler.h"
#include "proto/datapath_proto.h"

#define STATS_FILE_NAME        "stats"
#define STATS_MAGIC            0x7374617473686c32ULL /* changes with the layout */
#define STATS_DROPS_MAX        40
#define STATS_WORKERS_MAX      64
#define STATS_DRIVER_DROPS_MAX 24

_Static_assert((int)DROP_COUNT <= STATS_DROPS_MAX, "room for every drop reason");
_Static_assert((int)DRIVER_DROP_COUNT <= STATS_DRIVER_DROPS_MAX, "room for every drop reason of drivers");

struct stats_port {
	uint64_t in_packets;
	uint64_t in_bytes;
	uint64_t out_packets;
	uint64_t out_bytes;
	uint64_t out_segmented;   /* of out_packets, those that were cut out of larger ones for this port */
	uint64_t out_checksummed; /* packets whose checksum was filled for this port */
	uint64_t calls;           /* notifications sent to the guest */
	uint64_t kicks;           /* notifications from the guest that were seen */
	uint64_t upcalls;         /* misses sent up for packets of this port */
	uint64_t waits;           /* packets that waited in this port's ring at least once */
	uint64_t spare[6];
	uint64_t drops[STATS_DROPS_MAX];
} __attribute__((aligned(CACHE_LINE)));

/* What a worker did on the whole; copied against delivered bytes show how often a payload is copied. */
struct stats_worker {
	uint64_t turns;
	uint64_t packets;         /* taken from transmit rings */
	uint64_t delivered_bytes; /* bytes of frames that receivers were told to have, by their used rings */
	uint64_t copied_bytes;    /* bytes of frames moved into receivers' buffers by any copy */
	uint64_t staged_bytes;    /* header bytes read into private memory for parsing */
	uint64_t flow_hits_last;  /* lookups answered by the previous packet's flow */
	uint64_t flow_hits_table;
	uint64_t flow_misses;
	uint64_t sleeps;
	uint64_t taken_over;    /* queues that another worker had */
	uint64_t calls_posted;  /* calls left to the worker of the VM's CPU */
	uint64_t rescues;       /* workers found kept off their CPU in the middle of a turn, and moved */
	uint64_t taken_again;   /* packets that had waited: each time that they were taken, and staged, once more */
	uint64_t copies_handed; /* large copies of other workers that this one made a part of */
	uint64_t spare[2];
} __attribute__((aligned(CACHE_LINE)));

struct stats_directory {
	uint64_t sequence; /* odd while the entry is written */
	uint32_t used;
	uint32_t state; /* enum dp_port_state */
	char name[DP_NAME_SIZE];
	uint64_t spare[2];
} __attribute__((aligned(CACHE_LINE)));

/*
 * What the driver behind a port says of itself and its device (driver_status.h), as it came: zero at ports without one.
 * Moments are those of CLOCK_MONOTONIC.
 */
struct stats_driver {
	uint64_t sequence;     /* odd while the entry is written */
	uint64_t connected_ns; /* since when somebody is connected; 0: nobody is */
	uint64_t seen_ns;      /* when the last report came; 0: never. It may be of the last connection */
	uint64_t reports;
	uint64_t refused; /* commands that were none, or came too fast */
	char kind[16];
	char device[16];
	char mode[32];
	uint32_t link; /* 0 down, 1 up */
	uint32_t queues;
	uint32_t mtu;
	uint32_t speed_mbps;
	uint64_t rx_packets; /* from the device */
	uint64_t rx_bytes;
	uint64_t tx_packets; /* to the device */
	uint64_t tx_bytes;
	uint64_t rx_coalesced;
	uint64_t spare[6];
	uint64_t drops[STATS_DRIVER_DROPS_MAX];
} __attribute__((aligned(CACHE_LINE)));

struct stats_header {
	uint64_t magic;
	uint32_t ports_max;
	uint32_t workers;
	uint32_t drops;            /* reasons in use */
	uint32_t pid;              /* of the core */
	uint64_t instance;         /* as in dp_hello */
	uint64_t start_ns;         /* CLOCK_MONOTONIC */
	uint64_t directory_offset; /* bytes from the segment's start: struct stats_directory[ports_max] */
	uint64_t workers_offset;   /* struct stats_worker[workers] */
	uint64_t ports_offset;     /* struct stats_port[workers][ports_max] */
	uint64_t size;
	uint64_t faults;         /* connections and rings quarantined since the start */
	uint64_t vm_states;      /* 1: there is an observer, and states of VMs and CPUs are known */
	uint64_t drivers_offset; /* struct stats_driver[ports_max] */
	uint32_t driver_drops;   /* reasons in use */
	uint32_t zero;
	uint64_t spare[3];
	char drop_names[STATS_DROPS_MAX][24];
	char driver_drop_names[STATS_DRIVER_DROPS_MAX][24];
} __attribute__((aligned(CACHE_LINE)));

/* Single writer: adds without a locked instruction, and no reader sees a torn value. */
static inline void stats_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

#endif
