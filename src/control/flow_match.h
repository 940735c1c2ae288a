/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The matches that switching by MAC address needs, and their form in the datapath protocol. Pure
 * functions, any thread.
 *
 * A packet is looked at twice: by its source, which decides whether it may pass at all, and is how the
 * bridge hears of stations; then by its destination, which decides where it goes. So n stations that
 * send to m need n + m flows, and not one for each of n * m pairs, each with a miss of its own.
 *
 * The data plane's flows have no priority, so the shapes are chosen such that no packet matches two
 * of a stage: by its source it is either FOREIGN (a source that no station has) or matched in full; its
 * destination is matched in full (unicast, and the multicast block 01:80:c2 that holds the addresses
 * no bridge forwards), by the first three bytes (the rest of 01:xx:xx, IPv4 multicast among it) or by
 * the first (all other groups: broadcast, IPv6 multicast). That is five masks in all, however many
 * stations.
 */
#ifndef LASTHOP_CONTROL_FLOW_MATCH_H
#define LASTHOP_CONTROL_FLOW_MATCH_H

#include "datapath/flow.h"
#include "lib/compiler.h"

#define MAC_SIZE 6

enum flow_shape {
	/* the first stage */
	FLOW_SHAPE_SOURCE,  /* in_port, eth_src */
	FLOW_SHAPE_FOREIGN, /* in_port, the group bit of eth_src */
	/* the second */
	FLOW_SHAPE_DESTINATION, /* in_port, eth_dst */
	FLOW_SHAPE_GROUP_BLOCK, /* in_port, first three bytes of eth_dst */
	FLOW_SHAPE_GROUP,       /* in_port, first byte of eth_dst */
};

/* No padding: compared and hashed as bytes. What the shape does not match is 0. */
struct flow_match {
	uint32_t in_port;
	uint32_t shape; /* enum flow_shape */
	uint8_t src[MAC_SIZE];
	uint8_t dst[MAC_SIZE];
};

static inline bool mac_is_group(const uint8_t mac[MAC_SIZE])
{
	return (mac[0] & 1) != 0;
}

bool mac_is_zero(const uint8_t mac[MAC_SIZE]);

/* A source that a station may have. */
bool mac_is_station(const uint8_t mac[MAC_SIZE]);

/* 01:80:c2:00:00:00 to 0f: link-local protocols, which end at the next bridge. */
bool mac_is_reserved(const uint8_t mac[MAC_SIZE]);

/* The widest match for packets of that source at that port, in the first stage. */
struct flow_match flow_match_source(uint32_t in_port, const uint8_t src[MAC_SIZE]);

/* The same by destination, in the second. */
struct flow_match flow_match_destination(uint32_t in_port, const uint8_t dst[MAC_SIZE]);

void flow_match_to_wire(const struct flow_match *match, struct flow_key *key, struct flow_key *mask);

/* 0, or -EINVAL: not one of our shapes. */
int flow_match_from_wire(struct flow_match *match, const struct flow_key *key, const struct flow_key *mask) must_check;

#endif
