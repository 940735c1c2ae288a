/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net as this switch speaks it: the feature bits it can offer, and the header in front of every frame
 * (virtio 1.2, sections 5.1.3 and 5.1.6). The constants are the kernel's; what Debian 12's headers do not have
 * yet (segmentation of UDP) is named here.
 *
 * All multi-byte values are little-endian: by the specification for VERSION_1 devices, and because this
 * switch runs on little-endian hosts only for legacy ones.
 */
#ifndef LASTHOP_VIRTIO_VIRTIO_NET_H
#define LASTHOP_VIRTIO_VIRTIO_NET_H

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "legacy guests are taken as little-endian");

#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4 54
#endif
#ifndef VIRTIO_NET_F_GUEST_USO6
#define VIRTIO_NET_F_GUEST_USO6 55
#endif
#ifndef VIRTIO_NET_F_HOST_USO
#define VIRTIO_NET_F_HOST_USO 56
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#define VIRTIO_BIT(n) (1ULL << (n))

/* The header with num_buffers (VERSION_1 or MRG_RXBUF), and without it (legacy). Bytes. */
#define VIRTIO_NET_HDR_LEN        12
#define VIRTIO_NET_HDR_LEN_LEGACY 10

/* The largest frame that a segmentation-offload packet may carry, Ethernet header included. Bytes. */
#define VIRTIO_NET_FRAME_MAX (65535 + 14 + 4)

static inline unsigned int virtio_net_hdr_len(uint64_t features)
{
	return features & (VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF))
		       ? VIRTIO_NET_HDR_LEN
		       : VIRTIO_NET_HDR_LEN_LEGACY;
}

#endif
