/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a flow is: a key with a mask, and a list of actions. These shapes are shared by the data plane, the
 * datapath protocol and the control plane; the table that looks them up is flow_table.h.
 *
 * Flows have no priority: whoever installs them keeps them disjoint, or such that any that matches is right.
 */
#ifndef LASTHOP_DATAPATH_FLOW_H
#define LASTHOP_DATAPATH_FLOW_H

#include <stdint.h>

#define FLOW_KEY_WORDS 8
#define FLOW_PORTS_MAX 1024 /* ports of a data plane: indexes are 0 to FLOW_PORTS_MAX - 1 */

/*
 * The fields of a packet that a flow may match, in network byte order as they stand in the packet (but
 * in_port: host order). Fields that a packet does not have are 0. 64 bytes, no padding, so that it can be
 * masked, hashed and compared as words. The first 20 bytes are all that switching by MAC address needs.
 */
struct flow_key {
	uint32_t in_port;  /* port index */
	uint16_t vlan_tci; /* outermost tag | FLOW_VLAN_PRESENT; 0: untagged */
	uint16_t eth_type; /* behind the outermost tag; 0: 802.3 length field */
	uint8_t eth_dst[6];
	uint8_t eth_src[6];
	uint8_t ip_proto; /* behind IPv6 extension headers; later fragments have it too */
	uint8_t ip_tos;
	uint8_t ip_fragment; /* FLOW_FRAGMENT_* */
	uint8_t stage;       /* FLOW_STAGE_*: of a packet, how far it has come; a flow is always of one stage */
	uint16_t l4_src;     /* ports of TCP, UDP, SCTP; ICMP type and code; 0 in later fragments */
	uint16_t l4_dst;
	uint32_t zero2;
	uint8_t ip_src[16]; /* IPv4 and ARP in the first four bytes */
	uint8_t ip_dst[16];
};

_Static_assert(sizeof(struct flow_key) == 8 * FLOW_KEY_WORDS, "a key is whole words");

#define FLOW_VLAN_PRESENT   0x1000u /* host order; takes the place of the DEI bit */
#define FLOW_FRAGMENT_ANY   1
#define FLOW_FRAGMENT_LATER 2

union flow_words {
	struct flow_key key;
	uint64_t words[FLOW_KEY_WORDS];
};

/*
 * A packet is looked up among the flows of the first stage, and once more if its flow there says so. What has to hold
 * of sources and what is done by destinations are then a flow each, and not one for every pair of them.
 */
#define FLOW_STAGE_FIRST  0
#define FLOW_STAGE_SECOND 1

enum flow_action_type {
	FLOW_ACTION_OUTPUT = 1, /* value: port index */
	FLOW_ACTION_DROP = 2,   /* value: enum drop_reason; alone in its list */
	FLOW_ACTION_STAGE = 3,  /* value: the stage to go on at, later than the flow's own; alone in its list */
};

struct flow_action {
	uint16_t type;
	uint16_t zero;
	uint32_t value;
};

/* Outputs of one flow: at most every port of the switch. */
#define FLOW_ACTIONS_MAX FLOW_PORTS_MAX

#endif
