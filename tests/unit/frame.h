/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames made to order for the tests of the datapath, and their staging: a packet whose unstaged
 * bytes are poisoned under AddressSanitizer, so that reading past head_length is found. And the
 * checksum as RFC 1071 says it, byte by byte, to check the fast one against.
 */
#ifndef TESTS_UNIT_FRAME_H
#define TESTS_UNIT_FRAME_H

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/bytes.h"
#include "datapath/packet.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FRAME_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define FRAME_ASAN
#endif
#ifdef FRAME_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, size)   ((void)(start), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(start, size) ((void)(start), (void)(size))
#endif

#define FRAME_MAX         VIRTIO_NET_FRAME_MAX
#define FRAME_HEADERS_MAX 1024
#define FRAME_EXTENSIONS  12

struct frame_spec {
	unsigned int tags;                    /* VLAN tags */
	unsigned int version;                 /* 4 or 6 */
	unsigned int ip_options;              /* bytes, a multiple of 4 */
	uint8_t extensions[FRAME_EXTENSIONS]; /* IPv6 extension headers */
	unsigned int extension_count;
	unsigned int extension_size; /* bytes of each but the fragment header; 0: 8 */
	uint8_t proto;
	unsigned int tcp_options; /* bytes, a multiple of 4 */
	unsigned int payload;     /* bytes */
	unsigned int padding;     /* bytes behind the IP packet */
};

struct frame {
	uint8_t data[FRAME_MAX + 64];
	uint32_t length;
	uint32_t l3;
	uint32_t l4;
	uint32_t payload;
};

/* The sum, not inverted, of bytes of which the first has an even offset. Host order. */
static inline uint32_t frame_sum(uint32_t sum, const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

/* The pseudo-header's sum of the IP packet at ip, without or with its length. Host order. */
static inline uint32_t frame_pseudo_sum(const uint8_t *ip, uint8_t proto, uint32_t length)
{
	uint32_t sum = ip[0] >> 4 == 4 ? frame_sum(0, ip + 12, 8) : frame_sum(0, ip + 8, 32);

	sum += proto + length;
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static inline void frame_extensions(struct frame *frame, const struct frame_spec *spec, uint8_t *next)
{
	unsigned int size;

	for (unsigned int i = 0; i < spec->extension_count; i++) {
		uint8_t *extension = frame->data + frame->length;

		size = 8;
		if (spec->extension_size && spec->extensions[i] != IPPROTO_FRAGMENT)
			size = spec->extension_size;
		*next = spec->extensions[i];
		next = extension;
		memset(extension, 0, size);
		extension[1] = (uint8_t)(size / 8 - 1);
		frame->length += size;
	}
	*next = spec->proto;
}

/*
 * The frame that spec describes, with recognisable addresses, ports and payload, all lengths and
 * the IPv4 checksum right, and in the TCP or UDP checksum field the pseudo-header's sum.
 */
static inline void frame_build(struct frame *frame, const struct frame_spec *spec)
{
	static const uint8_t macs[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
	uint8_t *ip, *l4;
	uint32_t i, sum;

	memset(frame->data, 0, FRAME_HEADERS_MAX);
	memcpy(frame->data, macs, sizeof(macs));
	frame->length = 12;
	for (i = 0; i < spec->tags; i++) {
		bytes_store16(frame->data + frame->length, i + 1 < spec->tags ? 0x88a8 : 0x8100);
		bytes_store16(frame->data + frame->length + 2, (uint16_t)(0xa000 | (100 + i)));
		frame->length += 4;
	}
	bytes_store16(frame->data + frame->length, spec->version == 4 ? 0x0800 : 0x86dd);
	frame->length += 2;
	frame->l3 = frame->length;
	ip = frame->data + frame->l3;
	if (spec->version == 4) {
		ip[0] = (uint8_t)(0x45 + spec->ip_options / 4);
		ip[1] = 0x2e;
		bytes_store16(ip + 4, 0xfffe);
		bytes_store16(ip + 6, 0x4000);
		ip[8] = 64;
		ip[9] = spec->proto;
		bytes_store32(ip + 12, 0x0a000001);
		bytes_store32(ip + 16, 0x0a0000fe);
		memset(ip + 20, 1, spec->ip_options);
		frame->length += 20 + spec->ip_options;
	} else {
		bytes_store32(ip, 0x62e12345);
		ip[7] = 64;
		for (i = 0; i < 32; i++)
			ip[8 + i] = (uint8_t)(0x20 + i);
		frame->length += 40;
		frame_extensions(frame, spec, ip + 6);
	}
	frame->l4 = frame->length;
	l4 = frame->data + frame->l4;
	bytes_store16(l4, 0x1234);
	bytes_store16(l4 + 2, 0x5678);
	if (spec->proto == IPPROTO_TCP) {
		bytes_store32(l4 + 4, 0xfffffff0);
		bytes_store32(l4 + 8, 0x01020304);
		l4[12] = (uint8_t)((5 + spec->tcp_options / 4) << 4);
		l4[13] = 0x99; /* CWR, ACK, PSH, FIN */
		bytes_store16(l4 + 14, 0x7fff);
		memset(l4 + 20, 1, spec->tcp_options);
		frame->length += 20 + spec->tcp_options;
	} else if (spec->proto == IPPROTO_UDP) {
		bytes_store16(l4 + 4, (uint16_t)(8 + spec->payload));
		frame->length += 8;
	} else {
		frame->length += 12;
	}
	frame->payload = frame->length;
	for (i = 0; i < spec->payload; i++)
		frame->data[frame->length + i] = (uint8_t)(i * 167 + (i >> 8));
	frame->length += spec->payload;

	sum = frame_pseudo_sum(ip, spec->proto, frame->length - frame->l4);
	if (spec->proto == IPPROTO_TCP)
		bytes_store16(l4 + 16, (uint16_t)sum);
	else if (spec->proto == IPPROTO_UDP)
		bytes_store16(l4 + 6, (uint16_t)sum);
	if (spec->version == 4) {
		bytes_store16(ip + 2, (uint16_t)(frame->length - frame->l3));
		bytes_store16(ip + 10, (uint16_t)~frame_sum(0, ip, 20 + spec->ip_options));
	} else {
		bytes_store16(ip + 4, (uint16_t)(frame->length - frame->l3 - 40));
	}
	memset(frame->data + frame->length, 0x55, spec->padding);
	frame->length += spec->padding;
}

/* A packet of these bytes, no more than `staged` of them staged; to be given to frame_free(). */
static inline struct packet *frame_stage(const uint8_t *data, uint32_t length, uint32_t staged)
{
	struct packet *packet = aligned_alloc(CACHE_LINE, sizeof(*packet));

	if (!packet)
		abort();
	memset(packet, 0xa5, sizeof(*packet));
	memset(&packet->net, 0, sizeof(packet->net));
	staged = min(staged, (uint32_t)PACKET_HEAD_MAX);
	staged = min(staged, length);
	memcpy(packet->head, data, staged);
	packet->length = length;
	packet->head_length = (uint16_t)staged;
	ASAN_POISON_MEMORY_REGION(packet->head + staged, PACKET_HEAD_MAX - staged);
	return packet;
}

static inline void frame_free(struct packet *packet)
{
	ASAN_UNPOISON_MEMORY_REGION(packet->head, PACKET_HEAD_MAX);
	free(packet);
}

#endif
