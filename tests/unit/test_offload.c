/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Offloads. What passes the check, what is repaired and what is refused; and their undoing, against
 * segments computed by other means, and by the property that defines it: over every kind of frame
 * the segments are whole packets of their own, with right lengths and checksums, that put together
 * are what was sent.
 */
#include "unit.h"

#include "datapath/checksum.h"
#include "datapath/drop.h"
#include "datapath/offload.h"
#include "frame.h"

#define LOST(suffix) (DROP_##suffix + 1)

#define SENDS                                                                                                      \
	(VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | \
	 VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) | VIRTIO_BIT(VIRTIO_NET_F_HOST_USO))
#define TAKES                                                                        \
	(VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN) |  \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6))
#define ONLY_CHECKSUM VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM)

static struct frame frame;

static const struct frame_spec tcp4 = {.version = 4, .proto = IPPROTO_TCP, .payload = 4000};
static const struct frame_spec tcp6 = {.version = 6, .proto = IPPROTO_TCP, .payload = 4000};
static const struct frame_spec udp4 = {.version = 4, .proto = IPPROTO_UDP, .payload = 4000};
static const struct frame_spec udp6 = {.version = 6, .proto = IPPROTO_UDP, .payload = 4000};

static uint8_t kind_of(const struct frame_spec *spec)
{
	if (spec->proto == IPPROTO_UDP)
		return VIRTIO_NET_HDR_GSO_UDP_L4;
	return spec->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
}

/* The packet as a driver sends it. gso_size 0: no segmentation. */
static struct packet *make(const struct frame_spec *spec, uint16_t gso_size)
{
	struct packet *packet;

	frame_build(&frame, spec);
	packet = frame_stage(frame.data, frame.length, PACKET_HEAD_MAX);
	packet->net.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	packet->net.hdr.csum_start = (uint16_t)frame.l4;
	packet->net.hdr.csum_offset = spec->proto == IPPROTO_TCP ? 16 : 6;
	if (gso_size) {
		packet->net.hdr.gso_type = kind_of(spec);
		packet->net.hdr.gso_size = gso_size;
		packet->net.hdr.hdr_len = (uint16_t)frame.payload;
	}
	return packet;
}

static struct packet *make_bytes(const uint8_t *data, uint32_t length, uint16_t start, uint16_t offset)
{
	struct packet *packet = frame_stage(data, length, PACKET_HEAD_MAX);

	packet->net.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	packet->net.hdr.csum_start = start;
	packet->net.hdr.csum_offset = offset;
	return packet;
}

static void assert_check(struct packet *packet, uint64_t features, unsigned int reason)
{
	assert_int_equal(offload_check(packet, features), reason);
	frame_free(packet);
}

/* One segment, put together as the forwarding loop does it. Returns its length. */
static uint32_t assemble(const struct packet *packet, const uint8_t *data, const struct offload_plan *plan,
			 bool checksum, unsigned int index, uint8_t *segment)
{
	uint8_t header[PACKET_HEAD_MAX];
	uint32_t offset, length, half;
	uint64_t sum;

	offload_segment(packet, plan, index, header, &offset, &length);
	assert_in_range(offset + length, 0, packet->length);
	/* In two pieces, the first of odd size. */
	half = length / 2 | 1;
	half = min(half, length);
	sum = checksum_copy(0, segment + plan->header_length, data + offset, half, plan->payload_odd);
	sum = checksum_copy(sum, segment + plan->header_length + half, data + offset + half, length - half,
			    (plan->payload_odd + half) & 1);
	if (checksum)
		offload_checksum(plan, header, sum);
	memcpy(segment, header, plan->header_length);
	return plan->header_length + length;
}

/* check */

static void no_offload_clears_the_rest(void **state)
{
	struct packet *packet = make(&tcp4, 0);

	(void)state;
	memset(&packet->net, 0xff, sizeof(packet->net));
	packet->net.hdr.flags = VIRTIO_NET_HDR_F_DATA_VALID | VIRTIO_NET_HDR_F_RSC_INFO | 0xf0;
	packet->net.hdr.gso_type = VIRTIO_NET_HDR_GSO_NONE;
	assert_int_equal(offload_check(packet, 0), 0);
	assert_int_equal(packet->net.num_buffers, 1);
	packet->net.num_buffers = 0;
	assert_memory_equal(&packet->net, (uint8_t[VIRTIO_NET_HDR_LEN]){0}, VIRTIO_NET_HDR_LEN);
	frame_free(packet);
}

static void good_ones_pass(void **state)
{
	static const struct frame_spec *const specs[] = {&tcp4, &tcp6, &udp4, &udp6};
	struct packet *packet;

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		packet = make(specs[i], 1000);
		packet->net.hdr.flags |= VIRTIO_NET_HDR_F_DATA_VALID;
		packet->net.hdr.hdr_len = 0xffff;
		assert_int_equal(offload_check(packet, SENDS), 0);
		assert_int_equal(packet->net.hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(packet->net.hdr.gso_type, kind_of(specs[i]));
		assert_int_equal(packet->net.hdr.gso_size, 1000);
		assert_int_equal(packet->net.hdr.hdr_len, frame.payload);
		frame_free(packet);
	}
	packet = make(&tcp4, 1000);
	packet->net.hdr.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	assert_check(packet, SENDS, 0);
}

static void one_segment_is_no_segmentation(void **state)
{
	struct packet *packet = make(&tcp4, 4000);

	(void)state;
	assert_int_equal(offload_check(packet, SENDS), 0);
	assert_int_equal(packet->net.hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(packet->net.hdr.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	assert_int_equal(packet->net.hdr.gso_size, 0);
	assert_int_equal(packet->net.hdr.hdr_len, 0);
	frame_free(packet);
}

static void what_was_not_negotiated(void **state)
{
	static const struct {
		const struct frame_spec *spec;
		uint64_t feature;
	} cases[] = {
		{&tcp4, VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4)}, {&tcp6, VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6)},
		{&udp4, VIRTIO_BIT(VIRTIO_NET_F_HOST_USO)},  {&udp6, VIRTIO_BIT(VIRTIO_NET_F_HOST_USO)},
		{&tcp4, VIRTIO_BIT(VIRTIO_NET_F_CSUM)},
	};
	struct packet *packet;

	(void)state;
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_check(make(cases[i].spec, 1000), SENDS & ~cases[i].feature, LOST(OFFLOAD_UNNEGOTIATED));
	assert_check(make(&tcp4, 0), 0, LOST(OFFLOAD_UNNEGOTIATED));
	packet = make(&tcp4, 1000);
	packet->net.hdr.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	assert_check(packet, SENDS & ~VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN), LOST(OFFLOAD_UNNEGOTIATED));
	packet = make(&udp4, 1000);
	packet->net.hdr.gso_type = VIRTIO_NET_HDR_GSO_UDP;
	assert_check(packet, SENDS, LOST(OFFLOAD_UNNEGOTIATED));
}

static void impossible_checksums(void **state)
{
	static const struct {
		uint16_t start, offset;
		unsigned int reason;
	} cases[] = {
		{14, 0, 0},
		{98, 0, 0},
		{97, 1, LOST(OFFLOAD_INVALID)},
		{13, 2, LOST(OFFLOAD_INVALID)},
		{0, 16, LOST(OFFLOAD_INVALID)},
		{99, 0, LOST(OFFLOAD_INVALID)},
		{100, 0, LOST(OFFLOAD_INVALID)},
		{34, 66, LOST(OFFLOAD_INVALID)},
		{34, 64, 0},
		{0xffff, 0xfffe, LOST(OFFLOAD_INVALID)},
		{0x8000, 0x8000, LOST(OFFLOAD_INVALID)},
		{14, 0xfffe, LOST(OFFLOAD_INVALID)},
	};

	(void)state;
	frame_build(&frame, &tcp4);
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_check(make_bytes(frame.data, 100, cases[i].start, cases[i].offset), SENDS, cases[i].reason);
}

static void impossible_types(void **state)
{
	struct packet *packet;

	(void)state;
	for (unsigned int type = 0; type < 256; type++) {
		bool known = (type & 0x7f) <= 5 && (type & 0x7f) != 2;

		packet = make(&tcp4, 1000);
		packet->net.hdr.gso_type = (uint8_t)type;
		if (type == VIRTIO_NET_HDR_GSO_NONE || type == VIRTIO_NET_HDR_GSO_TCPV4 ||
		    type == (VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN))
			assert_check(packet, UINT64_MAX, 0);
		else if (known && (type & 0x7f) == VIRTIO_NET_HDR_GSO_UDP)
			assert_check(packet, UINT64_MAX, LOST(OFFLOAD_UNNEGOTIATED));
		else
			assert_check(packet, UINT64_MAX, LOST(OFFLOAD_INVALID));
	}
	packet = make(&udp4, 1000);
	packet->net.hdr.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
}

static void net_header_and_packet_disagree(void **state)
{
	struct packet *packet;

	(void)state;
	packet = make(&tcp4, 1000);
	packet->net.hdr.gso_size = 0;
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
	packet = make(&tcp4, 1000);
	packet->net.hdr.flags = 0;
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
	packet = make(&tcp4, 1000);
	packet->net.hdr.csum_start += 4;
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
	packet = make(&tcp4, 1000);
	packet->net.hdr.csum_offset = 6;
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
	packet = make(&tcp4, 0xffff);
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
	packet = make(&tcp6, 1000);
	packet->net.hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
	packet = make(&udp6, 1000);
	packet->net.hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
	packet = make(&tcp4, 1000);
	packet->head[14 + 6] |= 0x20; /* a fragment */
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
	packet = make(&tcp4, 1000);
	packet->head[14 + 20 + 12] = 0x40; /* a TCP header shorter than a TCP header */
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
	packet = make(&tcp4, 1000);
	packet->head[14 + 2]++; /* an IP packet longer than its frame */
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
	packet = make(&tcp4, 1000);
	packet->head[13] = 6; /* not IP */
	assert_check(packet, SENDS, LOST(OFFLOAD_INVALID));
}

static void headers_that_are_not_staged(void **state)
{
	struct frame_spec spec = tcp6;
	struct packet *packet;

	(void)state;
	spec.extensions[0] = IPPROTO_DSTOPTS;
	spec.extensions[1] = IPPROTO_DSTOPTS;
	spec.extension_count = 2;
	for (spec.extension_size = 64; spec.extension_size <= 128; spec.extension_size += 8) {
		unsigned int headers = 14 + 40 + 2 * spec.extension_size + 20;

		packet = make(&spec, 1000);
		assert_check(packet, SENDS, headers <= PACKET_HEAD_MAX ? 0 : LOST(HEADERS_TOO_LONG));
	}
}

static void too_many_segments(void **state)
{
	struct frame_spec spec = tcp4;

	(void)state;
	spec.payload = OFFLOAD_SEGMENTS_MAX;
	assert_check(make(&spec, 1), SENDS, 0);
	spec.payload++;
	assert_check(make(&spec, 1), SENDS, LOST(OFFLOAD_INVALID));
}

/* todo */

static void what_receivers_are_spared(void **state)
{
	static const struct {
		const struct frame_spec *spec;
		bool ecn;
		uint64_t needs;
	} cases[] = {
		{&tcp4, false, VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4)},
		{&tcp6, false, VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6)},
		{&udp4, false, VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4)},
		{&udp6, false, VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6)},
		{&tcp4, true, VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN)},
	};
	struct virtio_net_hdr_mrg_rxbuf net;
	struct offload_todo todo;

	(void)state;
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct packet *packet = make(cases[i].spec, 1000);

		if (cases[i].ecn)
			packet->net.hdr.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
		assert_int_equal(offload_check(packet, SENDS), 0);

		todo = offload_todo(packet, cases[i].needs | ONLY_CHECKSUM);
		assert_false(todo.segment);
		assert_false(todo.checksum);
		offload_net(packet, todo, &net);
		assert_memory_equal(&net, &packet->net, sizeof(net));

		for (unsigned int bit = 0; bit < 64; bit++) {
			uint64_t without = TAKES & ~VIRTIO_BIT(bit);

			todo = offload_todo(packet, without);
			assert_int_equal(todo.segment,
					 (cases[i].needs & ~without) != 0 || bit == VIRTIO_NET_F_GUEST_CSUM);
			assert_int_equal(todo.checksum, bit == VIRTIO_NET_F_GUEST_CSUM);
		}

		offload_net(packet, (struct offload_todo){.segment = true}, &net);
		assert_int_equal(net.hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(net.hdr.csum_start, frame.l4);
		assert_int_equal(net.hdr.gso_type | net.hdr.gso_size | net.hdr.hdr_len, 0);
		offload_net(packet, (struct offload_todo){true, true}, &net);
		assert_int_equal(net.num_buffers, 1);
		net.num_buffers = 0;
		assert_memory_equal(&net, (uint8_t[sizeof(net)]){0}, sizeof(net));
		frame_free(packet);
	}
}

/* undoing */

/* Thirteen bytes cut into five, five and three; sequence number and IPv4 id wrap on the way. */
static const uint8_t vector[] = {
	0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x45, 0x00, 0x00,
	0x35, 0xff, 0xff, 0x40, 0x00, 0x40, 0x06, 0xb6, 0xbf, 0xc0, 0x00, 0x02, 0x01, 0xc0, 0x00, 0x02, 0x02,
	0x00, 0x50, 0xc3, 0x50, 0xff, 0xff, 0xff, 0xfe, 0x11, 0x22, 0x33, 0x44, 0x50, 0x99, 0x20, 0x00, 0x84,
	0x2b, 0x00, 0x00, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x2c, 0x20, 0x77, 0x6f, 0x72, 0x6c, 0x64, 0x21,
};

static const uint8_t vector_0[] = {
	0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x45,
	0x00, 0x00, 0x2d, 0xff, 0xff, 0x40, 0x00, 0x40, 0x06, 0xb6, 0xc7, 0xc0, 0x00, 0x02, 0x01,
	0xc0, 0x00, 0x02, 0x02, 0x00, 0x50, 0xc3, 0x50, 0xff, 0xff, 0xff, 0xfe, 0x11, 0x22, 0x33,
	0x44, 0x50, 0x90, 0x20, 0x00, 0xbf, 0x73, 0x00, 0x00, 0x68, 0x65, 0x6c, 0x6c, 0x6f,
};

static const uint8_t vector_1[] = {
	0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x45,
	0x00, 0x00, 0x2d, 0x00, 0x00, 0x40, 0x00, 0x40, 0x06, 0xb6, 0xc7, 0xc0, 0x00, 0x02, 0x01,
	0xc0, 0x00, 0x02, 0x02, 0x00, 0x50, 0xc3, 0x50, 0x00, 0x00, 0x00, 0x03, 0x11, 0x22, 0x33,
	0x44, 0x50, 0x10, 0x20, 0x00, 0xee, 0x31, 0x00, 0x00, 0x2c, 0x20, 0x77, 0x6f, 0x72,
};

static const uint8_t vector_2[] = {
	0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x45,
	0x00, 0x00, 0x2b, 0x00, 0x01, 0x40, 0x00, 0x40, 0x06, 0xb6, 0xc8, 0xc0, 0x00, 0x02, 0x01,
	0xc0, 0x00, 0x02, 0x02, 0x00, 0x50, 0xc3, 0x50, 0x00, 0x00, 0x00, 0x08, 0x11, 0x22, 0x33,
	0x44, 0x50, 0x19, 0x20, 0x00, 0x76, 0x51, 0x00, 0x00, 0x6c, 0x64, 0x21,
};

/* UDP over IPv6 whose checksum comes to zero. */
static const uint8_t vector_zero[] = {
	0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x86, 0xdd, 0x60, 0x00,
	0x00, 0x00, 0x00, 0x0a, 0x11, 0x40, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x35, 0x03, 0xe8, 0x00, 0x0a, 0x5b, 0x90, 0xa0, 0x48,
};

static void tcp_segments_by_hand(void **state)
{
	static const struct {
		const uint8_t *bytes;
		uint32_t length;
	} expected[] = {
		{vector_0, sizeof(vector_0)},
		{vector_1, sizeof(vector_1)},
		{vector_2, sizeof(vector_2)},
	};
	struct packet *packet = make_bytes(vector, sizeof(vector), 34, 16);
	struct offload_plan plan;
	struct offload_todo todo;
	uint8_t segment[100];

	(void)state;
	packet->net.hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	packet->net.hdr.gso_size = 5;
	assert_int_equal(offload_check(packet, SENDS), 0);
	todo = offload_todo(packet, 0);
	assert_int_equal(offload_plan(packet, todo, &plan), 0);
	assert_int_equal(plan.segment_count, 3);
	for (unsigned int i = 0; i < 3; i++) {
		uint32_t length = assemble(packet, vector, &plan, todo.checksum, i, segment);

		assert_int_equal(length, expected[i].length);
		assert_memory_equal(segment, expected[i].bytes, length);
	}
	frame_free(packet);
}

static void zero_is_not_a_checksum(void **state)
{
	struct packet *packet = make_bytes(vector_zero, sizeof(vector_zero), 54, 6);
	struct offload_plan plan;
	struct offload_todo todo;
	uint8_t whole[100];

	(void)state;
	assert_int_equal(offload_check(packet, SENDS), 0);
	todo = offload_todo(packet, 0);
	assert_int_equal(offload_plan(packet, todo, &plan), 0);
	assert_int_equal(assemble(packet, vector_zero, &plan, true, 0, whole), sizeof(vector_zero));
	assert_int_equal(bytes_load16(whole + 60), 0xffff);
	frame_free(packet);
}

static void assert_transport_checksum(const uint8_t *segment, uint32_t l3, uint32_t l4, uint32_t length, uint8_t proto,
				      bool complete)
{
	uint32_t pseudo = frame_pseudo_sum(segment + l3, proto, length - l4);
	uint32_t at = l4 + (proto == IPPROTO_TCP ? 16 : 6);

	if (complete)
		assert_int_equal(frame_sum(pseudo, segment + l4, length - l4), 0xffff);
	else
		assert_int_equal(bytes_load16(segment + at) % 0xffff, pseudo % 0xffff);
	assert_int_not_equal(bytes_load16(segment + at), 0);
}

/* The headers of a segment, with what segmentation changes put back, are those of the packet. */
static void assert_headers(const struct frame_spec *spec, const struct offload_plan *plan, unsigned int index,
			   uint8_t *segment, uint32_t length)
{
	uint8_t *ip = segment + frame.l3, *l4 = segment + frame.l4;
	bool last = index + 1 == plan->segment_count;

	if (spec->version == 4) {
		assert_int_equal(bytes_load16(ip + 2), length - frame.l3);
		assert_int_equal(bytes_load16(ip + 4), (0xfffe + index) & 0xffff);
		assert_int_equal(frame_sum(0, ip, 20 + spec->ip_options), 0xffff);
		memcpy(ip + 2, frame.data + frame.l3 + 2, 4);
		memcpy(ip + 10, frame.data + frame.l3 + 10, 2);
	} else {
		assert_int_equal(bytes_load16(ip + 4), length - frame.l3 - 40);
		memcpy(ip + 4, frame.data + frame.l3 + 4, 2);
	}
	if (spec->proto == IPPROTO_TCP) {
		assert_int_equal(bytes_load32(l4 + 4), 0xfffffff0 + index * plan->segment_size);
		assert_int_equal(l4[13], 0x10 | (index == 0 ? 0x80 : 0) | (last ? 0x09 : 0));
		memcpy(l4 + 4, frame.data + frame.l4 + 4, 4);
		memcpy(l4 + 13, frame.data + frame.l4 + 13, 1);
		memcpy(l4 + 16, frame.data + frame.l4 + 16, 2);
	} else {
		assert_int_equal(bytes_load16(l4 + 4), length - frame.l4);
		memcpy(l4 + 4, frame.data + frame.l4 + 4, 4);
	}
	assert_memory_equal(segment, frame.data, frame.payload);
}

static void cut_and_put_together(const struct frame_spec *spec, uint16_t gso_size, uint64_t features)
{
	static uint8_t segment[FRAME_MAX];
	struct packet *packet = make(spec, gso_size);
	struct offload_todo todo = offload_todo(packet, features);
	struct offload_plan plan;
	uint32_t done = 0;

	assert_true(todo.segment);
	assert_int_equal(offload_plan(packet, todo, &plan), 0);
	assert_int_equal(plan.header_length, frame.payload);
	assert_int_equal(plan.payload_length, spec->payload);
	assert_int_equal(plan.segment_count, max(1u, (spec->payload + gso_size - 1) / gso_size));
	for (unsigned int i = 0; i < plan.segment_count; i++) {
		uint32_t length = assemble(packet, frame.data, &plan, todo.checksum, i, segment);
		uint32_t payload = length - plan.header_length;

		assert_int_equal(payload, min((uint32_t)gso_size, spec->payload - done));
		assert_transport_checksum(segment, frame.l3, frame.l4, length, spec->proto, todo.checksum);
		assert_headers(spec, &plan, i, segment, length);
		assert_memory_equal(segment + plan.header_length, frame.data + frame.payload + done, payload);
		done += payload;
	}
	assert_int_equal(done, spec->payload);
	frame_free(packet);
}

static void every_kind_of_frame(void **state)
{
	static const unsigned int payloads[] = {0, 1, 2, 999, 1000, 1001, 2000, 2999, 9001};
	static const uint8_t extensions[] = {IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS};
	struct frame_spec spec = {0};

	(void)state;
	for (unsigned int i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
		for (unsigned int mix = 0; mix < 96; mix++) {
			spec = (struct frame_spec){
				.tags = mix % 3,
				.version = mix / 3 % 2 ? 6 : 4,
				.proto = mix / 6 % 2 ? IPPROTO_UDP : IPPROTO_TCP,
				.ip_options = mix / 12 % 2 * 12,
				.extension_count = mix / 12 % 4,
				.extension_size = 8 + mix / 48 * 16,
				.tcp_options = mix / 24 % 2 * 12,
				.padding = mix / 48 * 7,
				.payload = payloads[i],
			};
			memcpy(spec.extensions, extensions, sizeof(extensions));
			cut_and_put_together(&spec, 1000, 0);
			cut_and_put_together(&spec, 1000, ONLY_CHECKSUM);
			cut_and_put_together(&spec, 333, 0);
		}
	}
}

static void largest_frame(void **state)
{
	struct frame_spec spec = tcp4;

	(void)state;
	spec.payload = 65535 - 40;
	cut_and_put_together(&spec, 1448, 0);
	cut_and_put_together(&spec, 8, 0);
	spec = udp6;
	spec.payload = FRAME_MAX - 14 - 40 - 8;
	cut_and_put_together(&spec, 1452, 0);
	cut_and_put_together(&spec, 65534, 0);
}

/*
 * With a routing header the pseudo-header's destination is not the one in the IP header: only the
 * sender's own sum knows it.
 */
static void routing_header_keeps_the_senders_sum(void **state)
{
	struct frame_spec spec = tcp6;
	struct packet *packet;
	struct offload_plan plan;
	static uint8_t segment[FRAME_MAX];
	uint8_t *field;

	(void)state;
	spec.extensions[0] = IPPROTO_ROUTING;
	spec.extension_count = 1;
	spec.extension_size = 24;
	packet = make(&spec, 1500);
	packet->head[frame.l3 + 40 + 3] = 1;
	memset(packet->head + frame.l3 + 48, 0x99, 16);
	memset(frame.data + frame.l3 + 24, 0x99, 16); /* the final destination, for reference */
	field = packet->head + frame.l4 + 16;
	bytes_store16(field, (uint16_t)frame_pseudo_sum(frame.data + frame.l3, IPPROTO_TCP, 4000 + 20));
	assert_int_equal(offload_check(packet, SENDS), 0);
	assert_int_equal(offload_plan(packet, offload_todo(packet, 0), &plan), 0);
	for (unsigned int i = 0; i < plan.segment_count; i++) {
		uint32_t length = assemble(packet, frame.data, &plan, true, i, segment);

		memset(segment + frame.l3 + 24, 0x99, 16);
		assert_transport_checksum(segment, frame.l3, frame.l4, length, IPPROTO_TCP, true);
	}
	frame_free(packet);
}

static void whole_packets_get_their_checksum(void **state)
{
	static const unsigned int payloads[] = {0, 1, 2, 150, 151, 200, 201, 1400, 8961};
	static uint8_t whole[FRAME_MAX];

	(void)state;
	for (unsigned int i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
		for (unsigned int mix = 0; mix < 8; mix++) {
			struct frame_spec spec = {
				.tags = mix % 2,
				.version = mix / 2 % 2 ? 6 : 4,
				.proto = mix / 4 ? IPPROTO_UDP : IPPROTO_TCP,
				.payload = payloads[i],
			};
			struct packet *packet = make(&spec, 0);
			struct offload_todo todo;
			struct offload_plan plan;

			assert_int_equal(offload_check(packet, SENDS), 0);
			todo = offload_todo(packet, TAKES & ~ONLY_CHECKSUM);
			assert_false(todo.segment);
			assert_true(todo.checksum);
			assert_int_equal(offload_plan(packet, todo, &plan), 0);
			assert_int_equal(plan.segment_count, 1);
			assert_int_equal(assemble(packet, frame.data, &plan, true, 0, whole), frame.length);
			assert_transport_checksum(whole, frame.l3, frame.l4, frame.length, spec.proto, true);
			memcpy(whole + plan.checksum_field, frame.data + plan.checksum_field, 2);
			assert_memory_equal(whole, frame.data, frame.length);
			frame_free(packet);
		}
	}
}

/* A sum that begins at an odd offset, with what is staged ending at an odd distance from it. */
static void odd_starts(void **state)
{
	static uint8_t whole[FRAME_MAX];

	(void)state;
	frame_build(&frame, &udp4);
	for (uint16_t start = 30; start < 40; start++) {
		for (uint32_t length = PACKET_HEAD_MAX - 2; length < PACKET_HEAD_MAX + 5; length++) {
			struct packet *packet = make_bytes(frame.data, length, start, 6);
			struct offload_todo todo = {.checksum = true};
			struct offload_plan plan;

			assert_int_equal(offload_check(packet, SENDS), 0);
			assert_int_equal(offload_plan(packet, todo, &plan), 0);
			assemble(packet, frame.data, &plan, true, 0, whole);
			/* The field's old value was part of the sum. */
			assert_int_equal(bytes_load16(whole + start + 6),
					 (uint16_t)~frame_sum(0, frame.data + start, length - start));
			frame_free(packet);
		}
	}
}

static void checksum_field_that_is_not_staged(void **state)
{
	struct packet *packet;
	struct offload_todo todo;
	struct offload_plan plan;

	(void)state;
	frame_build(&frame, &tcp4);
	packet = make_bytes(frame.data, frame.length, 14, PACKET_HEAD_MAX - 14 - 2);
	assert_int_equal(offload_check(packet, SENDS), 0);
	assert_int_equal(offload_plan(packet, offload_todo(packet, 0), &plan), 0);
	frame_free(packet);

	/* It can be forwarded to who takes it, and not be filled. */
	packet = make_bytes(frame.data, frame.length, 14, PACKET_HEAD_MAX - 14);
	assert_int_equal(offload_check(packet, SENDS), 0);
	todo = offload_todo(packet, ONLY_CHECKSUM);
	assert_false(todo.checksum);
	todo = offload_todo(packet, 0);
	assert_true(todo.checksum);
	assert_int_equal(offload_plan(packet, todo, &plan), LOST(OUT_OFFLOAD));
	frame_free(packet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_offload_clears_the_rest),
		cmocka_unit_test(good_ones_pass),
		cmocka_unit_test(one_segment_is_no_segmentation),
		cmocka_unit_test(what_was_not_negotiated),
		cmocka_unit_test(impossible_checksums),
		cmocka_unit_test(impossible_types),
		cmocka_unit_test(net_header_and_packet_disagree),
		cmocka_unit_test(headers_that_are_not_staged),
		cmocka_unit_test(too_many_segments),
		cmocka_unit_test(what_receivers_are_spared),
		cmocka_unit_test(tcp_segments_by_hand),
		cmocka_unit_test(zero_is_not_a_checksum),
		cmocka_unit_test(every_kind_of_frame),
		cmocka_unit_test(largest_frame),
		cmocka_unit_test(routing_header_keeps_the_senders_sum),
		cmocka_unit_test(whole_packets_get_their_checksum),
		cmocka_unit_test(odd_starts),
		cmocka_unit_test(checksum_field_that_is_not_staged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
