/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the redirect program of a NIC leaves to the kernel: a list of rules, each a set of conditions that must all
 * hold. As the driver's options say it, and as the BPF program has it in its read-only data.
 *
 *	keep=RULE      one or more; a frame that fits one stays with the kernel
 *	RULE           CONDITION[+CONDITION]...
 *	CONDITION      mac                 to the device's own MAC address
 *	               mac:AA:BB:CC:DD:EE:FF
 *	               ethertype:0x88cc    of the frame, behind up to two VLAN tags
 *	               arp, lldp           short for ethertype:0x0806, ethertype:0x88cc
 *	               ip:ADDRESS          IPv4 or IPv6 to that address, and ARP and neighbour solicitations for it
 *	               port:22/tcp         to that port; /udp, or neither for both
 *
 * Broadcast and multicast frames have one receiver here: the kernel, if a rule fits, or else the switch.
 */
#ifndef LASTHOP_DRIVER_XDP_KEEP_H
#define LASTHOP_DRIVER_XDP_KEEP_H

#include <linux/types.h>

#define XDP_KEEP_RULES 16u

/* Conditions of a rule. */
#define XDP_KEEP_MAC       1u
#define XDP_KEEP_ETHERTYPE 2u
#define XDP_KEEP_IP        4u
#define XDP_KEEP_PORT      8u

/* Multi-byte members are as on the wire. */
struct xdp_keep_rule {
	__u32 conditions;
	__u32 ip[4]; /* IPv4: in the first, the others zero */
	__u16 ethertype;
	__u16 port;
	__u8 ip_version; /* 4 or 6 */
	__u8 protocol;   /* of port: IPPROTO_TCP, IPPROTO_UDP, or 0 for both */
	__u8 mac[6];
};

#ifndef __bpf__
#include "lib/compiler.h"

struct xdp_keep {
	struct xdp_keep_rule rules[XDP_KEEP_RULES];
	unsigned int count;
};

/* Adds a rule. own_mac: the device's. -EINVAL: not understood, -E2BIG: too many; after a line in the log. */
int xdp_keep_add(struct xdp_keep *keep, const char *text, const __u8 own_mac[6]) must_check;
#endif

#endif
