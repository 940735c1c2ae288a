/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive coalescing: what came from the device as many small frames of one stream goes to the switch as one large
 * frame in many pieces, as a guest with segmentation offload would have sent it. Nothing is copied: of every frame but
 * the first only the payload is named. Whoever does not take such frames gets the original ones back, byte by byte,
 * core, byte by byte (but that a checksum of zero has two forms).
 *
 * Only within a batch: nothing is held back for later, so nothing is delayed. Frames that cannot be merged stay as they
 * are, and a stream's frames stay in order; those of different streams may overtake each other, as they may in Linux.
 *
 * It belongs to a queue's thread. A batch costs at most a look at GRO_FLOWS streams and one checksum over each frame.
 */
#ifndef LASTHOP_DRIVER_GRO_H
#define LASTHOP_DRIVER_GRO_H

#include <stdbool.h>
#include <stdint.h>

#include "driver/device.h"

#define GRO_FLOWS 8 /* streams of a batch that are open at a time; the one that got nothing for longest gives way */

/* Bytes of a merged frame, its Ethernet header included: so its length fits into IPv4 and IPv6 alike. */
#define GRO_SIZE_MAX 65535

struct gro_flow {
	struct driver_frame *first;
	struct driver_frame *last;
	uint32_t payload;  /* of all frames */
	uint32_t sequence; /* TCP: of the next one */
	uint32_t size;     /* payload of each frame but the last */
	uint16_t count;    /* frames */
	uint16_t id;       /* IPv4: of the last one */
	uint16_t l3;       /* offsets in the first one, from behind the net header */
	uint16_t l4;
	uint16_t header;
	uint8_t version;
	uint8_t proto;
	uint8_t id_step; /* IPv4, with two frames or more: how the id goes on, 0 or 1 */
	bool verified;   /* the first one's checksum */
	bool push;
};

struct gro {
	bool tcp4;
	bool tcp6;
	bool udp;
	unsigned int header; /* bytes of the net header */
	unsigned int pieces_max;
	unsigned int flow_count;
	struct gro_flow flows[GRO_FLOWS]; /* the first one was used last */
};

/*
 * features: as negotiated with the switch, whose transmitting driver we are: CSUM with HOST_TSO4, HOST_TSO6 and
 * HOST_USO decide what is merged. pieces_max: of one frame, what a descriptor chain may have.
 */
void gro_init(struct gro *gro, uint64_t features, unsigned int pieces_max);

/* Whether it would merge anything at all. */
static inline bool gro_wanted(const struct gro *gro)
{
	return gro->pieces_max > 1 && (gro->tcp4 || gro->tcp6 || gro->udp);
}

/*
 * Merges among frames[0..n), which begin with their net headers. Those that became part of another one have .part set,
 * data and size cut to their payload, and hang at it by .next; the others are to be sent in the order they have.
 * Returns how many became part.
 */
unsigned int gro_batch(struct gro *gro, struct driver_frame *frames, unsigned int n);

#endif
