/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The redirect program of a NIC behind AF_XDP: a frame goes to the socket of the queue that it came in on, unless a
 * rule (xdp_keep.h) leaves it to the kernel. Without rules no byte of the frame is read.
 *
 * A queue without a socket (before it is bound, after its driver has died) drops: what is not kept is the
 * switch's, and the host's stack has no business with it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#include "driver/xdp_keep.h"

#define QUEUES    64u /* as NETFRONT_PAIRS_MAX */
#define VLAN_TAGS 2

#define ND_SOLICITATION 135
#define IP_FRAGMENT     bpf_htons(0x1fff) /* its offset: not zero in all but the first */

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

const volatile struct xdp_keep_rule keep_rules[XDP_KEEP_RULES];
const volatile __u32 keep_count;

/* Frames of each queue that stayed with the kernel; a queue is served by one CPU at a time. */
__u64 kept[QUEUES];

struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

struct arp_ipv4 {
	__be16 hardware, protocol;
	__u8 hardware_size, protocol_size;
	__be16 operation;
	__u8 sender_mac[6], sender_ip[4], target_mac[6], target_ip[4];
};

struct solicitation {
	__u8 type, code;
	__be16 checksum;
	__u32 reserved;
	__u32 target[4];
};

/* What rules ask about a frame. */
struct facts {
	const __u8 *mac; /* of its destination */
	__u32 ip[4];     /* of its destination, or of whom it looks for */
	__be16 ethertype;
	__be16 port;
	__u8 ip_version; /* 0: none */
	__u8 protocol;   /* 0: no port is known */
};

static __always_inline void find_port(struct facts *facts, const void *transport, const void *end, __u8 protocol)
{
	const __be16 *ports = transport;

	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || (const void *)(ports + 2) > end)
		return;
	facts->protocol = protocol;
	facts->port = ports[1];
}

static __always_inline void find_ipv4(struct facts *facts, const void *at, const void *end)
{
	const struct iphdr *ip = at;
	__u32 size;

	if ((const void *)(ip + 1) > end)
		return;
	facts->ip_version = 4;
	facts->ip[0] = ip->daddr;
	size = ip->ihl * 4;
	if (size >= sizeof(*ip) && !(ip->frag_off & IP_FRAGMENT))
		find_port(facts, at + size, end, ip->protocol);
}

static __always_inline void find_ipv6(struct facts *facts, const void *at, const void *end)
{
	const struct ipv6hdr *ip = at;
	const struct solicitation *solicitation = (const void *)(ip + 1);

	if ((const void *)(ip + 1) > end)
		return;
	facts->ip_version = 6;
	__builtin_memcpy(facts->ip, &ip->daddr, sizeof(facts->ip));
	if (ip->nexthdr == IPPROTO_ICMPV6) {
		if ((const void *)(solicitation + 1) <= end && solicitation->type == ND_SOLICITATION)
			__builtin_memcpy(facts->ip, solicitation->target, sizeof(facts->ip));
	} else {
		find_port(facts, ip + 1, end, ip->nexthdr);
	}
}

static __always_inline void find_arp(struct facts *facts, const void *at, const void *end)
{
	const struct arp_ipv4 *arp = at;

	if ((const void *)(arp + 1) > end || arp->protocol != bpf_htons(ETH_P_IP))
		return;
	facts->ip_version = 4;
	__builtin_memcpy(facts->ip, arp->target_ip, sizeof(arp->target_ip));
}

static __always_inline bool find_facts(struct facts *facts, const void *at, const void *end)
{
	const struct ethhdr *eth = at;

	if ((const void *)(eth + 1) > end)
		return false;
	facts->mac = eth->h_dest;
	facts->ethertype = eth->h_proto;
	at = eth + 1;
#pragma unroll
	for (int i = 0; i < VLAN_TAGS; i++) {
		const struct vlan_tag *tag = at;

		if (facts->ethertype != bpf_htons(ETH_P_8021Q) && facts->ethertype != bpf_htons(ETH_P_8021AD))
			break;
		if ((const void *)(tag + 1) > end)
			return true;
		facts->ethertype = tag->ethertype;
		at = tag + 1;
	}
	if (facts->ethertype == bpf_htons(ETH_P_IP))
		find_ipv4(facts, at, end);
	else if (facts->ethertype == bpf_htons(ETH_P_IPV6))
		find_ipv6(facts, at, end);
	else if (facts->ethertype == bpf_htons(ETH_P_ARP))
		find_arp(facts, at, end);
	return true;
}

static __always_inline bool rule_fits(const volatile struct xdp_keep_rule *rule, const struct facts *facts)
{
	__u32 conditions = rule->conditions;

	if (conditions & XDP_KEEP_MAC) {
		for (int i = 0; i < ETH_ALEN; i++)
			if (rule->mac[i] != facts->mac[i])
				return false;
	}
	if ((conditions & XDP_KEEP_ETHERTYPE) && rule->ethertype != facts->ethertype)
		return false;
	if (conditions & XDP_KEEP_IP) {
		if (rule->ip_version != facts->ip_version || rule->ip[0] != facts->ip[0] ||
		    rule->ip[1] != facts->ip[1] || rule->ip[2] != facts->ip[2] || rule->ip[3] != facts->ip[3])
			return false;
	}
	if (conditions & XDP_KEEP_PORT) {
		if (facts->protocol == 0 || rule->port != facts->port ||
		    (rule->protocol != 0 && rule->protocol != facts->protocol))
			return false;
	}
	return true;
}

SEC("xdp")
int lasthop_xdp(struct xdp_md *ctx)
{
	const void *frame = (const void *)(long)ctx->data, *end = (const void *)(long)ctx->data_end;
	struct facts facts = {0};

	if (keep_count > 0 && find_facts(&facts, frame, end)) {
		for (__u32 i = 0; i < XDP_KEEP_RULES; i++) {
			if (i >= keep_count)
				break;
			if (rule_fits(&keep_rules[i], &facts)) {
				kept[ctx->rx_queue_index % QUEUES]++;
				return XDP_PASS;
			}
		}
	}
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
}

/* Ours is the BSD licence. The kernel asks whether it is compatible with its own and knows it by this name only. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
