/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The frames of bench_vm: UDP over IPv4, or TCP where they are to be segmented, with valid headers
 * and a signature.
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

static void mac_of(unsigned int vm, uint8_t mac[ETH_ALEN])
{
	const uint8_t bytes[ETH_ALEN] = {0x52, 0x54, 0x00, 0xbe, (uint8_t)(vm >> 8), (uint8_t)vm};

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
	return gso ? SIGNATURE_AT - (uint32_t)sizeof(struct udphdr) +
			       (uint32_t)sizeof(struct tcphdr)
		   : SIGNATURE_AT;
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

void frame_make(const struct vm *vm, uint8_t *frame, uint32_t size, bool gso)
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
		.daddr = htonl(0x0a000001 + vm->peer->number),
	};
	struct udphdr udp = {
		.source = htons(5000), .dest = htons(5001), .len = htons((uint16_t)l4_size)};

	ip.check = htons((uint16_t)~sum16(&ip, sizeof(ip), 0));
	memset(frame, 0, size);
	mac_of(vm->peer->number, frame);
	mac_of(vm->number, frame + ETH_ALEN);
	frame[12] = ETH_P_IP >> 8;
	frame[13] = ETH_P_IP & 0xff;
	memcpy(frame + ETH_HLEN, &ip, sizeof(ip));
	if (gso)
		make_tcp(frame + ETH_HLEN + sizeof(ip), &ip, l4_size);
	else
		memcpy(frame + ETH_HLEN + sizeof(ip), &udp, sizeof(udp));
	memcpy(frame + signature_at(gso), &signature, sizeof(signature));
}

bool frame_is_for(const struct vm *vm, const uint8_t *frame, bool gso)
{
	const uint64_t signature = SIGNATURE;
	uint8_t macs[2 * ETH_ALEN];

	mac_of(vm->number, macs);
	mac_of(vm->peer->number, macs + ETH_ALEN);
	return !memcmp(frame, macs, sizeof(macs)) &&
	       !memcmp(frame + signature_at(gso), &signature, sizeof(signature));
}

/* The whole payload is written, or read, behind the signature: a sequence number, then bytes of it.
 */
void frame_touch_write(struct vm *vm, uint8_t *frame)
{
	uint32_t at = signature_at(opt.gso) + 8;

	if (opt.size >= at + 8)
		memcpy(frame + at, &vm->seq, 8);
	if (opt.size > at + 8)
		memset(frame + at + 8, (int)(vm->seq & 0xff), opt.size - at - 8);
	vm->seq++;
}

void frame_touch_read(struct vm *vm, const uint8_t *piece, uint32_t size, bool first)
{
	uint64_t word, sum = 0, seq;

	for (uint32_t i = 0; i + 8 <= size; i += 8) {
		memcpy(&word, piece + i, 8);
		sum += word;
	}
	vm->sum += sum;
	if (first && size >= signature_at(opt.gso) + 16) {
		memcpy(&seq, piece + signature_at(opt.gso) + 8, 8);
		vm->disordered += seq != vm->expected;
		vm->expected = seq + 1;
	}
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
