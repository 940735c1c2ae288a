/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The frames of bench_vm: UDP over IPv4, or TCP where they are to be segmented, with valid headers
 * and a signature.
 *
 * A VM's addresses are 52:54:SS:SS:VV:VV, V the VM and S the station behind it, 0 without
 * --vary mac. With it, a sender has as many stations as its receiver, and a flow is a pair of them:
 * a million flows need a thousand addresses on each side, as between two hosts of containers. With
 * --vary port a flow is a pair of UDP ports. Flows take turns frame by frame, the worst order for
 * every cache of flows.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

#include "vm.h"

#define SIGNATURE    0x6c617374686f7001ULL
#define SIGNATURE_AT 42 /* behind Ethernet, IPv4 and UDP; with TCP behind those */
#define GSO_SEGMENT  1448
#define STATION_AT   2 /* in an address */
#define VM_AT        4
#define PORTS_FROM   1024
#define PORTS        1024 /* sources for each destination */

static void put16(uint8_t *at, unsigned int value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void mac_of(unsigned int vm, uint8_t mac[ETH_ALEN])
{
	const uint8_t bytes[ETH_ALEN] = {0x52, 0x54, 0, 0, (uint8_t)(vm >> 8), (uint8_t)vm};

	memcpy(mac, bytes, ETH_ALEN);
}

static uint32_t sum16(const void *data, size_t size, uint32_t sum)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i + 1 < size; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint32_t signature_at(bool gso)
{
	return gso ? SIGNATURE_AT - (uint32_t)sizeof(struct udphdr) + (uint32_t)sizeof(struct tcphdr) : SIGNATURE_AT;
}

/* TCP with what segmentation needs: the pseudo header's sum in the checksum field. */
static void make_tcp(uint8_t *at, const struct iphdr *ip, uint32_t size)
{
	struct tcphdr tcp = {
		.source = htons(5000),
		.dest = htons(5001),
		.doff = sizeof(tcp) / 4,
		.ack = 1,
		.window = htons(0xffff),
	};
	uint32_t sum = sum16(&ip->saddr, 8, IPPROTO_TCP + size);

	tcp.check = htons((uint16_t)sum);
	memcpy(at, &tcp, sizeof(tcp));
}

void frame_make(const struct vm *vm, unsigned int to, uint8_t *frame, uint32_t size, bool gso)
{
	const uint64_t signature = SIGNATURE;
	uint32_t ip_size = size - ETH_HLEN, l4_size = ip_size - (uint32_t)sizeof(struct iphdr);
	struct iphdr ip = {
		.version = 4,
		.ihl = sizeof(ip) / 4,
		.ttl = 64,
		.tot_len = htons((uint16_t)ip_size),
		.protocol = gso ? IPPROTO_TCP : IPPROTO_UDP,
		.saddr = htonl(0x0a000001 + vm->number),
		.daddr = htonl(0x0a000001 + to),
	};
	struct udphdr udp = {.source = htons(5000), .dest = htons(5001), .len = htons((uint16_t)l4_size)};

	ip.check = htons((uint16_t)~sum16(&ip, sizeof(ip), 0));
	memset(frame, 0, size);
	mac_of(to, frame);
	mac_of(vm->number, frame + ETH_ALEN);
	put16(frame + 2 * ETH_ALEN, ETH_P_IP);
	memcpy(frame + ETH_HLEN, &ip, sizeof(ip));
	if (gso)
		make_tcp(frame + ETH_HLEN + sizeof(ip), &ip, l4_size);
	else
		memcpy(frame + ETH_HLEN + sizeof(ip), &udp, sizeof(udp));
	memcpy(frame + signature_at(gso), &signature, sizeof(signature));
}

unsigned int frame_sender(const uint8_t *frame)
{
	const uint8_t *at = frame + ETH_ALEN + VM_AT;

	return (unsigned int)at[0] << 8 | at[1];
}

bool frame_is_for(const struct vm *vm, const uint8_t *frame, bool gso)
{
	const uint64_t signature = SIGNATURE;
	unsigned int from = frame_sender(frame);
	uint8_t mac[ETH_ALEN];

	mac_of(vm->number, mac);
	if (memcmp(frame, mac, STATION_AT) || memcmp(frame + VM_AT, mac + VM_AT, 2) ||
	    memcmp(frame + ETH_ALEN, mac, STATION_AT) || from >= vm_count)
		return false;
	if (vm->number - vms[from].first_peer >= vms[from].peer_count)
		return false;
	return memcmp(frame + signature_at(gso), &signature, sizeof(signature)) == 0;
}

unsigned int frame_stations(void)
{
	unsigned int stations = 1;

	while (opt.vary == VARY_MAC && stations * stations < opt.flows)
		stations++;
	return stations;
}

void frame_set_station(uint8_t *frame, unsigned int source, unsigned int destination)
{
	put16(frame + STATION_AT, destination);
	put16(frame + ETH_ALEN + STATION_AT, source);
}

/* The IP header's checksum stays right: what one address gains is written off the sum. */
static void set_receiver(uint8_t *frame, unsigned int to)
{
	struct iphdr ip;

	put16(frame + VM_AT, to);
	memcpy(&ip, frame + ETH_HLEN, sizeof(ip));
	ip.daddr = htonl(0x0a000001 + to);
	ip.check = 0;
	ip.check = htons((uint16_t)~sum16(&ip, sizeof(ip), 0));
	memcpy(frame + ETH_HLEN, &ip, sizeof(ip));
}

static void vary(struct vm *vm, uint8_t *frame)
{
	static unsigned int stations;
	uint32_t flow = vm->next_flow;

	if (vm->peer_count > 1) {
		set_receiver(frame, vm->first_peer + vm->next_peer);
		if (++vm->next_peer == vm->peer_count)
			vm->next_peer = 0;
	}
	if (opt.flows <= 1)
		return;
	if (++vm->next_flow == opt.flows)
		vm->next_flow = 0;
	if (opt.vary == VARY_MAC) {
		if (stations == 0)
			stations = frame_stations();
		frame_set_station(frame, flow % stations, flow / stations);
		return;
	}
	put16(frame + ETH_HLEN + sizeof(struct iphdr), PORTS_FROM + flow % PORTS);
	put16(frame + ETH_HLEN + sizeof(struct iphdr) + 2, PORTS_FROM + flow / PORTS);
}

static void set_seq(uint8_t *frame, uint64_t seq)
{
	memcpy(frame + signature_at(opt.gso) + 8, &seq, 8);
}

uint64_t frame_seq(const uint8_t *frame)
{
	uint64_t seq;

	memcpy(&seq, frame + signature_at(opt.gso) + 8, 8);
	return seq;
}

/* The whole payload is written, or read, behind the signature: a sequence number, then bytes of it. */
static void touch_write(struct vm *vm, uint8_t *frame)
{
	uint32_t at = signature_at(opt.gso) + 8;

	if (opt.size >= at + 8)
		set_seq(frame, vm->seq);
	if (opt.size > at + 8)
		memset(frame + at + 8, (int)(vm->seq & 0xff), opt.size - at - 8);
	vm->seq++;
}

void frame_touch_read(struct vm *vm, const uint8_t *piece, uint32_t size, bool first)
{
	/* As wide as those who read packets for their contents do it. */
	typedef uint64_t words __attribute__((vector_size(32)));
	words word, sums[2] = {{0}};
	uint64_t seq, rest;
	uint32_t i;

	for (i = 0; i + 64 <= size; i += 64) {
		memcpy(&word, piece + i, sizeof(word));
		sums[0] += word;
		memcpy(&word, piece + i + 32, sizeof(word));
		sums[1] += word;
	}
	for (; i + 8 <= size; i += 8) {
		memcpy(&rest, piece + i, sizeof(rest));
		vm->sum += rest;
	}
	sums[0] += sums[1];
	vm->sum += sums[0][0] + sums[0][1] + sums[0][2] + sums[0][3];
	if (first && size >= signature_at(opt.gso) + 16) {
		seq = frame_seq(piece);
		if (seq != vm->expected)
			add_relaxed(&vm->shared->counters.disordered, 1);
		vm->expected = seq + 1;
	}
}

bool frame_differs(const struct vm *vm)
{
	return vm->peer_count > 1 || opt.flows > 1 || opt.touch || vm->pings;
}

void frame_next(struct vm *vm, uint8_t *frame)
{
	vary(vm, frame);
	if (opt.touch)
		touch_write(vm, frame);
	if (vm->pings)
		set_seq(frame, vm->seq);
}

void frame_gso_header(struct virtio_net_hdr *header)
{
	*header = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr),
		.gso_size = GSO_SEGMENT,
		.csum_start = ETH_HLEN + sizeof(struct iphdr),
		.csum_offset = offsetof(struct tcphdr, check),
	};
}
