/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device side's walk over one descriptor chain of a packed virtqueue (virtio 1.2, section 2.8), with chain.h's
 * pieces, verdicts and bounds: direct chains, which may pass the ring's end, indirect tables, and a direct chain that
 * ends in an indirect table. And where a device goes on that knows nothing but the ring.
 *
 * Functions over shared memory that may change at any time; whoever may use the ring may call them.
 */
#ifndef LASTHOP_VHOST_CHAIN_PACKED_H
#define LASTHOP_VHOST_CHAIN_PACKED_H

#include "vhost/chain.h"

/* What a chain takes of the ring, and what it is to be given back as. Known unless the verdict is CHAIN_BROKEN. */
struct chain_extent {
	uint16_t slots; /* descriptors of the ring */
	uint16_t id;
};

/*
 * Walks the chain at position, whose first descriptor was fetched (and found available) already. On CHAIN_OK *count
 * pieces are filled. Memory is looked up for CHAIN_PIECES_MAX buffers at most; of a longer chain only the end is
 * looked for, within the ring's size.
 */
enum chain_verdict chain_packed_fetch(struct chain_walk *walk, const struct vring_packed *ring, uint16_t position,
				      const struct vring_packed_desc *first, struct chain_piece *pieces,
				      unsigned int room, unsigned int *count, struct chain_extent *extent);

/*
 * Gives the `slots` descriptors at position back as one used buffer that is seen at once by a driver that looks there.
 * Those behind the first are marked as used beforehand, which the specification does not ask for and drivers do not
 * see: then no descriptor that was used looks as if it were not, and chain_packed_recover() can tell.
 */
void chain_packed_use(const struct vring_packed *ring, uint16_t position, struct chain_extent extent, uint32_t length,
		      bool writable);

/*
 * Where a device that gives chains back in order is to go on, if this is a ring that it or its predecessor used. said:
 * what the front end believes. A front end whose back end died has no way to ask a packed ring where it was: QEMU 7.2
 * says what was true when it last stopped the device. So the ring is asked, and believed unless another kind of device
 * has left its traces in it. A publication that was cut off is completed first: what is not visible of it is given
 * back, empty.
 */
uint16_t chain_packed_recover(const struct vring_packed *ring, uint16_t said);

#endif
