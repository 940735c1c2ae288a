/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Finds a packet's headers, once for the flow key, the hash and segmentation alike: packet_locate()
 * walks from Ethernet to the transport header and notes offsets; the others read fields at these
 * offsets.
 *
 * Two limits bound every step. What the packet claims of itself must fit into the frame: else it is
 * malformed. What is to be read must be staged: else it is unknown. Both end the walk where it
 * stands.
 */
#include "datapath/packet.h"

#include <netinet/in.h>

#include "datapath/bytes.h"

#define ETH_HEADER    14
#define VLAN_TAG      4
#define VLAN_TAGS_MAX 2
#define IPV4_HEADER   20
#define IPV6_HEADER   40
#define TYPE_IPV4     0x0800
#define TYPE_ARP      0x0806
#define TYPE_IPV6     0x86dd
#define IPV6_EXTENSIONS                                                          \
	8 /* headers followed; nobody sends more, and each costs the walk a step \
	   */

static void locate_ipv4(const struct packet *packet, struct packet_layout *layout)
{
	const uint8_t *ip = packet->head + layout->l3_offset;
	uint32_t header, total, fragment;

	if (packet->head_length < layout->l3_offset + IPV4_HEADER || ip[0] >> 4 != 4)
		return;
	header = (ip[0] & 0xfu) * 4;
	total = bytes_load16(ip + 2);
	if (header < IPV4_HEADER || total < header || total > packet->length - layout->l3_offset)
		return;

	layout->ip_version = 4;
	layout->ip_proto = ip[9];
	layout->l3_end = layout->l3_offset + total;
	fragment = bytes_load16(ip + 6) & 0x3fff;
	if (fragment)
		layout->ip_fragment = FLOW_FRAGMENT_ANY;
	if (fragment & 0x1fff)
		layout->ip_fragment |= FLOW_FRAGMENT_LATER;
	else
		layout->l4_offset = (uint16_t)(layout->l3_offset + header);
}

/* One extension header at offset at: its size; 0: the walk ends here, without a transport header.
 */
static uint32_t locate_extension(const struct packet *packet, struct packet_layout *layout, uint8_t type, uint32_t at)
{
	const uint8_t *extension;
	uint32_t size, fragment;

	if (at + 8 > packet->head_length || at + 8 > layout->l3_end)
		return 0;
	extension = packet->head + at;
	if (type == IPPROTO_FRAGMENT) {
		fragment = bytes_load16(extension + 2) & 0xfff9;
		if (fragment)
			layout->ip_fragment = FLOW_FRAGMENT_ANY;
		if (fragment & 0xfff8) {
			layout->ip_fragment |= FLOW_FRAGMENT_LATER;
			layout->ip_proto = extension[0];
			return 0;
		}
		return 8;
	}
	size = 8 * (extension[1] + 1u);
	if (size > layout->l3_end - at)
		return 0;
	if (type == IPPROTO_ROUTING && extension[3] > 0)
		layout->ip_routed = true;
	return size;
}

static void locate_ipv6(const struct packet *packet, struct packet_layout *layout)
{
	const uint8_t *ip = packet->head + layout->l3_offset;
	uint32_t payload, size, at = layout->l3_offset + IPV6_HEADER;
	uint8_t type;

	if (packet->head_length < at || ip[0] >> 4 != 6)
		return;
	payload = bytes_load16(ip + 4);
	if (payload > packet->length - at)
		return;

	layout->ip_version = 6;
	layout->l3_end = at + payload;
	type = ip[6];
	for (unsigned int count = 0; count <= IPV6_EXTENSIONS; count++) {
		switch (type) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_FRAGMENT:
			size = locate_extension(packet, layout, type, at);
			if (size == 0)
				return;
			type = packet->head[at];
			at += size;
			break;
		default:
			layout->ip_proto = type;
			layout->l4_offset = (uint16_t)at;
			return;
		}
	}
}

void packet_locate(const struct packet *packet, struct packet_layout *layout)
{
	const uint8_t *head = packet->head;
	uint16_t type, offset = ETH_HEADER;

	memset(layout, 0, sizeof(*layout));
	memcpy(&type, head + 12, sizeof(type));
	for (unsigned int tags = 0; tags < VLAN_TAGS_MAX && packet_type_is_tag(type); tags++) {
		offset += VLAN_TAG;
		if (packet->head_length < offset)
			return;
		memcpy(&type, head + offset - 2, sizeof(type));
	}
	layout->l3_offset = offset;
	layout->l3_type = ntohs(type);
	if (layout->l3_type == TYPE_IPV4)
		locate_ipv4(packet, layout);
	else if (layout->l3_type == TYPE_IPV6)
		locate_ipv6(packet, layout);
}

/* Bytes of its header that a transport protocol needs before its ports can be believed; 0: it has
 * none. */
static uint32_t ports_header(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return 20;
	case IPPROTO_UDP:
		return 8;
	case IPPROTO_SCTP:
		return 12;
	default:
		return 0;
	}
}

/* The four bytes of the ports, at *ports, as they stand in the packet. */
static bool load_ports(const struct packet *packet, const struct packet_layout *layout, uint32_t *ports)
{
	uint32_t header = ports_header(layout->ip_proto);

	if (header == 0 || layout->l4_offset == 0 || layout->l3_end - layout->l4_offset < header ||
	    layout->l4_offset + 4u > packet->head_length)
		return false;
	memcpy(ports, packet->head + layout->l4_offset, sizeof(*ports));
	return true;
}

static void parse_l4(const struct packet *packet, const struct packet_layout *layout, struct flow_key *key)
{
	bool icmp = layout->ip_proto == (layout->ip_version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	uint32_t ports;

	if (load_ports(packet, layout, &ports)) {
		memcpy(&key->l4_src, &ports, sizeof(ports));
	} else if (icmp && layout->l4_offset && layout->l3_end - layout->l4_offset >= 4 &&
		   layout->l4_offset + 2u <= packet->head_length) {
		key->l4_src = htons(packet->head[layout->l4_offset]);
		key->l4_dst = htons(packet->head[layout->l4_offset + 1]);
	}
}

static void parse_arp(const struct packet *packet, const struct packet_layout *layout, struct flow_key *key)
{
	/* Ethernet and IPv4, with their sizes; of anything else the addresses are elsewhere. */
	static const uint8_t kind[6] = {0x00, 0x01, 0x08, 0x00, 6, 4};
	const uint8_t *arp = packet->head + layout->l3_offset;

	if (packet->head_length < layout->l3_offset + 28 || memcmp(arp, kind, sizeof(kind)) != 0)
		return;
	memcpy(key->ip_src, arp + 14, 4);
	memcpy(key->ip_dst, arp + 24, 4);
}

void packet_parse(const struct packet *packet, uint32_t in_port, enum packet_depth depth, struct flow_key *key)
{
	struct packet_layout layout;
	const uint8_t *ip;

	memset(key, 0, sizeof(*key));
	packet_parse_l2(packet, in_port, key);
	if (depth == PACKET_DEPTH_L2)
		return;

	packet_locate(packet, &layout);
	ip = packet->head + layout.l3_offset;
	if (layout.ip_version == 4) {
		key->ip_tos = ip[1];
		memcpy(key->ip_src, ip + 12, 4);
		memcpy(key->ip_dst, ip + 16, 4);
	} else if (layout.ip_version == 6) {
		key->ip_tos = (uint8_t)(bytes_load16(ip) >> 4);
		memcpy(key->ip_src, ip + 8, 16);
		memcpy(key->ip_dst, ip + 24, 16);
	} else {
		if (layout.l3_type == TYPE_ARP)
			parse_arp(packet, &layout, key);
		return;
	}
	key->ip_proto = layout.ip_proto;
	key->ip_fragment = layout.ip_fragment;
	parse_l4(packet, &layout, key);
}

static uint64_t hash_add(uint64_t hash, const void *data)
{
	uint64_t word;

	memcpy(&word, data, sizeof(word));
	hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 29;
}

uint32_t packet_hash(const struct packet *packet)
{
	struct packet_layout layout;
	const uint8_t *ip;
	uint64_t hash = 0, transport = 0;
	uint32_t ports = 0;

	packet_locate(packet, &layout);
	ip = packet->head + layout.l3_offset;
	if (layout.ip_version == 4) {
		hash = hash_add(hash, ip + 12);
	} else if (layout.ip_version == 6) {
		for (unsigned int at = 8; at < 40; at += 8)
			hash = hash_add(hash, ip + at);
	} else {
		hash = hash_add(hash, packet->head);
		hash = hash_add(hash, packet->head + 4);
	}
	/* A datagram's fragments stay together: only the first has ports, and in IPv6 not even the
	 * protocol is sure. */
	if (layout.ip_version && !layout.ip_fragment) {
		if (load_ports(packet, &layout, &ports))
			transport = (uint64_t)ports << 8;
		transport |= layout.ip_proto;
	}
	hash = hash_add(hash, &transport);
	hash *= 0xd6e8feb86659fd93u;
	return (uint32_t)(hash >> 32);
}
