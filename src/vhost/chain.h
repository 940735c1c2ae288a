/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device side's walk over one descriptor chain of a split virtqueue (virtio 1.2, sections 2.7.4 and
 * 2.7.5; of a packed one: chain_packed.h): from the head index to pieces of memory, each descriptor fetched once, each
 * address translated with its length. Direct chains, indirect tables, and a direct chain that ends in an indirect
 * table.
 *
 * Pure functions over shared memory that may change at any time; whoever may use the ring may call them.
 */
#ifndef LASTHOP_VHOST_CHAIN_H
#define LASTHOP_VHOST_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "vhost/guest_memory.h"
#include "virtio/vring.h"

/* Buffers that one chain may have. A frame of 64 KiB in pages needs 18; a ring's size may be more than this. */
#define CHAIN_PIECES_MAX 1024

/* A buffer of a chain: translated and checked. */
struct chain_piece {
	uint8_t *data;
	uint32_t length; /* bytes, never 0 */
};

/*
 * What became of a walk. Up to CHAIN_BAD the chain's extent is known and the driver can have it back, so that
 * only the chain is lost; from CHAIN_BROKEN on the ring itself makes no sense and the device must stop using it.
 */
enum chain_verdict {
	CHAIN_OK,
	CHAIN_UNMAPPED,  /* a buffer, or the indirect table, is outside memory or across regions */
	CHAIN_DIRECTION, /* a buffer is writable where it must be readable, or reverse */
	CHAIN_LENGTH,    /* a buffer of length 0, or more pieces than the caller has room for */
	CHAIN_BROKEN,
	CHAIN_HEAD = CHAIN_BROKEN, /* head index out of range */
	CHAIN_NEXT,                /* next index out of range */
	CHAIN_LOOP,                /* more descriptors than the ring or table has (up to CHAIN_PIECES_MAX) */
	CHAIN_INDIRECT,            /* indirect in indirect, with a next, of odd size, or not negotiated */
	/*
	 * Raised by the queue: the available index moved by more than the ring's size; in a packed ring, a chain
	 * reaches into what the device has, or changed while the device had it.
	 */
	CHAIN_AVAIL,
	CHAIN_VERDICTS
};

const char *chain_verdict_name(enum chain_verdict verdict); /* like "ring-loop"; never NULL */

/* One walk's surroundings; the caller's, reused for all chains of a queue. */
struct chain_walk {
	const struct vring_split *ring; /* not of packed ones: see chain_packed.h */
	const struct guest_memory *memory;
	bool indirect;         /* VIRTIO_F_RING_INDIRECT_DESC was negotiated */
	bool writable;         /* buffers are for the device to write, not to read */
	bool mixed;            /* first the ones to read, then the ones to write: control queues */
	unsigned int readable; /* with mixed, set by chain_fetch: how many pieces are to read */
	unsigned int hint;
};

/*
 * Walks the chain at head into pieces[], room of which there are. On CHAIN_OK *count pieces are filled.
 * Time is bounded by CHAIN_PIECES_MAX, and by the ring's size.
 */
enum chain_verdict chain_fetch(struct chain_walk *walk, uint16_t head, struct chain_piece *pieces, unsigned int room,
			       unsigned int *count);

/* One buffer more, for those who walk: translated into pieces[*count], or what is wrong with it. */
enum chain_verdict chain_add(struct chain_walk *walk, uint64_t addr, uint32_t length, bool writable,
			     struct chain_piece *pieces, unsigned int room, unsigned int *count);

/*
 * The common case inline: a chain of one direct buffer. Everything else goes to chain_fetch.
 * (A head out of range included.) Not for mixed walks.
 */
static inline enum chain_verdict chain_fetch_one(struct chain_walk *walk, uint16_t head, struct chain_piece *pieces,
						 unsigned int room, unsigned int *count)
{
	if (likely(head < walk->ring->size && room > 0)) {
		struct vring_desc desc = vring_desc_fetch(&walk->ring->desc[head]);

		if (likely(desc.flags == (walk->writable ? VRING_DESC_F_WRITE : 0) && desc.len > 0)) {
			uint8_t *data = guest_memory_translate(walk->memory, desc.addr, desc.len, &walk->hint);

			if (likely(data)) {
				pieces->data = data;
				pieces->length = desc.len;
				*count = 1;
				return CHAIN_OK;
			}
			return CHAIN_UNMAPPED;
		}
	}
	return chain_fetch(walk, head, pieces, room, count);
}

#endif
