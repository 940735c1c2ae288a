/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames whose TCP or UDP checksum is not finished, found by looking. A kernel that leaves it to the device writes the
 * sum of the pseudo header into its place, and says so beside the frame; a veth hands the frame to XDP without a word
 * and unfinished.
 *
 * A finished checksum has that value once in 65,536 frames. Finishing it again changes nothing then, as it is right
 * already; and if such a frame was damaged on its way, the damage is hidden, as it is by a checksum once in so many
 * frames anyway. Pure; any thread.
 */
#ifndef LASTHOP_DRIVER_PARTIAL_CHECKSUM_H
#define LASTHOP_DRIVER_PARTIAL_CHECKSUM_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/virtio_net.h"

/* True: *header says what is to be done, its other members are left alone. */
bool partial_checksum(const uint8_t *frame, uint32_t size, struct virtio_net_hdr *header);

#endif
