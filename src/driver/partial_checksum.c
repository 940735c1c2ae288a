/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IPv6 extension headers are not followed: the kernel's own checksum offload is not used behind them either.
 */
#include "driver/partial_checksum.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <stddef.h>
#include <string.h>

#define MAC_PAIR    12u
#define TYPE_SIZE   2u
#define VLAN_SIZE   4u
#define VLAN_TAGS   2u
#define TCP_SIZE    20u
#define TCP_SUM     16u /* bytes from the transport header to its checksum */
#define UDP_SIZE    8u
#define UDP_SUM     6u
#define IP_FRAGMENT (IP_MF | IP_OFFMASK)

/* Sum of 16-bit words as they lie; size is even. */
static uint32_t sum_words(const uint8_t *data, uint32_t size)
{
	uint32_t sum = 0;
	uint16_t word;

	for (uint32_t i = 0; i < size; i += sizeof(word)) {
		memcpy(&word, data + i, sizeof(word));
		sum += word;
	}
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* pseudo: sum of the addresses. */
static bool is_partial(const uint8_t *frame, uint32_t at, uint32_t length, uint8_t protocol, uint32_t pseudo,
		       struct virtio_net_hdr *header)
{
	uint32_t offset = protocol == IPPROTO_TCP ? TCP_SUM : UDP_SUM;
	uint16_t found;

	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) ||
	    length < (protocol == IPPROTO_TCP ? TCP_SIZE : UDP_SIZE))
		return false;
	memcpy(&found, frame + at + offset, sizeof(found));
	/* Neither value is what it seems for UDP over IPv4: there is none. */
	if (found == 0 || found != fold(pseudo + htons(protocol) + htons((uint16_t)length)))
		return false;
	header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header->csum_start = (uint16_t)at;
	header->csum_offset = (uint16_t)offset;
	return true;
}

static bool ipv4_partial(const uint8_t *frame, uint32_t at, uint32_t size, struct virtio_net_hdr *header)
{
	struct iphdr ip;
	uint32_t ip_size, length;

	if (size - at < sizeof(ip))
		return false;
	memcpy(&ip, frame + at, sizeof(ip));
	ip_size = ip.ihl * 4u;
	length = ntohs(ip.tot_len);
	if (ip_size < sizeof(ip) || length < ip_size || length > size - at || (ntohs(ip.frag_off) & IP_FRAGMENT))
		return false;
	return is_partial(frame, at + ip_size, length - ip_size, ip.protocol,
			  sum_words(frame + at + offsetof(struct iphdr, saddr), 8), header);
}

static bool ipv6_partial(const uint8_t *frame, uint32_t at, uint32_t size, struct virtio_net_hdr *header)
{
	struct ip6_hdr ip;
	uint32_t length;

	if (size - at < sizeof(ip))
		return false;
	memcpy(&ip, frame + at, sizeof(ip));
	at += (uint32_t)sizeof(ip);
	length = ntohs(ip.ip6_plen);
	if (length > size - at)
		return false;
	return is_partial(frame, at, length, ip.ip6_nxt, sum_words(frame + at - 32, 32), header);
}

bool partial_checksum(const uint8_t *frame, uint32_t size, struct virtio_net_hdr *header)
{
	uint32_t at = MAC_PAIR;
	uint16_t type;

	for (unsigned int tags = 0;; tags++) {
		if (size < at + TYPE_SIZE)
			return false;
		memcpy(&type, frame + at, sizeof(type));
		at += TYPE_SIZE;
		if ((type != htons(ETH_P_8021Q) && type != htons(ETH_P_8021AD)) || tags == VLAN_TAGS)
			break;
		at += VLAN_SIZE - TYPE_SIZE;
	}
	if (type == htons(ETH_P_IP))
		return ipv4_partial(frame, at, size, header);
	if (type == htons(ETH_P_IPV6))
		return ipv6_partial(frame, at, size, header);
	return false;
}
