/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A packet on its way: its first bytes, staged once into private memory, and where the rest lies in
 * the sender's memory. Parsing reads nothing but the staged bytes and never past them.
 *
 * A packet belongs to the worker that fetched it; it is not shared between threads.
 */
#ifndef LASTHOP_DATAPATH_PACKET_H
#define LASTHOP_DATAPATH_PACKET_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "datapath/flow.h"
#include "lib/compiler.h"
#include "vhost/chain.h"
#include "virtio/virtio_net.h"

#define PACKET_HEAD_MAX   240 /* staged bytes of the frame at most */
#define PACKET_HEAD_FIRST 116 /* staged at first: with the net header, two cache lines */

struct packet {
	const struct chain_piece *pieces; /* the whole frame; what is staged, too */
	uint32_t length;                  /* bytes of the whole frame */
	uint16_t head_length;             /* bytes staged in head: min(length, what was staged) */
	uint16_t piece_count;
	uint16_t reason; /* enum drop_reason + 1 once the packet is lost, else 0 */
	/*
	 * The receiver's view of a packet begins at net: header and head are one copy. It begins within the first
	 * line, so that a short packet is two lines, and aligned for its copy.
	 */
	struct virtio_net_hdr_mrg_rxbuf net __attribute__((aligned(16))); /* private, checked by offload_check() */
	uint8_t head[PACKET_HEAD_MAX];                                    /* the frame from its Ethernet header on */
} __attribute__((aligned(CACHE_LINE)));

_Static_assert(offsetof(struct packet, head) == offsetof(struct packet, net) + VIRTIO_NET_HDR_LEN, "one copy");

enum packet_depth {
	PACKET_DEPTH_L2, /* in_port, eth, vlan and type: the first three words of a flow_key */
	PACKET_DEPTH_L4, /* everything a flow_key has */
};

/*
 * Fills key (but in_port, which is set to the argument) from the staged bytes; what depth leaves
 * out is 0. What is malformed or cut off leaves its fields 0: a packet that cannot be understood is
 * still switched by what was understood. Malformed is an IP packet that claims to be longer than
 * its frame, and a transport header that does not fit into its IP packet. A frame has at least 14
 * bytes, all staged; the caller dropped shorter ones.
 */
void packet_parse(const struct packet *packet, uint32_t in_port, enum packet_depth depth, struct flow_key *key);

/*
 * A hash that is the same for all packets of a connection's direction, for spreading over queues:
 * of addresses, protocol and ports; of IP addresses alone for fragments; of MAC addresses for what
 * is not IP.
 */
uint32_t packet_hash(const struct packet *packet);

/*
 * Where a packet's headers lie, in bytes from the frame's start. Offsets may lie beyond the staged
 * bytes, but never beyond l3_end, nor that beyond the frame.
 */
struct packet_layout {
	uint32_t l3_end;     /* where the IP packet ends; padding may follow */
	uint16_t l3_offset;  /* behind Ethernet and up to two VLAN tags; 0: a tag is cut off */
	uint16_t l4_offset;  /* behind options and extension headers; 0: none, or not reached */
	uint16_t l3_type;    /* EtherType at l3_offset, host order; or an 802.3 length */
	uint8_t ip_version;  /* 4 or 6; 0: not IP or malformed, and nothing below holds */
	uint8_t ip_proto;    /* 0 where the extension headers were not understood */
	uint8_t ip_fragment; /* FLOW_FRAGMENT_* */
	bool ip_routed;      /* segments left in an IPv6 routing header: ip_dst is not the last */
};

void packet_locate(const struct packet *packet, struct packet_layout *layout);

/* Below this an EtherType is the length of an 802.3 frame. */
#define PACKET_TYPE_MIN 0x0600

/* The EtherTypes of VLAN tags, in network byte order. */
#define PACKET_TYPE_VLAN  __builtin_bswap16(0x8100)
#define PACKET_TYPE_SVLAN __builtin_bswap16(0x88a8)

static inline bool packet_type_is_tag(uint16_t type)
{
	return type == PACKET_TYPE_VLAN || type == PACKET_TYPE_SVLAN;
}

/*
 * packet_parse() with PACKET_DEPTH_L2, for the loop that does it for every packet: fills the first
 * three words of key (what struct flow_key has before l4_src) and leaves the others alone.
 */
static inline void packet_parse_l2(const struct packet *packet, uint32_t in_port, struct flow_key *key)
{
	/* A frame begins with what words 1, 2 and half of 0 are made of: few loads, few stores. */
	const uint8_t *head = packet->head;
	uint16_t type, tci = 0;
	uint64_t addresses;
	uint32_t src_rest;

	memcpy(&addresses, head, sizeof(addresses));
	memcpy(&src_rest, head + 8, sizeof(src_rest));
	memcpy(&type, head + 12, sizeof(type));
	if (unlikely(packet_type_is_tag(type))) {
		type = 0;
		if (packet->head_length >= 18) {
			memcpy(&tci, head + 14, sizeof(tci));
			memcpy(&type, head + 16, sizeof(type));
			tci |= __builtin_bswap16(FLOW_VLAN_PRESENT);
		}
	}
	/* The number's upper half comes first in the packet. */
	if (unlikely((type & 0xff) < PACKET_TYPE_MIN >> 8))
		type = 0;

	uint64_t words[3] = {
		in_port | (uint64_t)tci << 32 | (uint64_t)type << 48,
		addresses,
		src_rest,
	};

	memcpy(key, words, sizeof(words));
}

_Static_assert(offsetof(struct flow_key, eth_dst) == 8 && offsetof(struct flow_key, l4_src) == 24,
	       "the first three words are what packet_parse_l2() writes");

#endif
