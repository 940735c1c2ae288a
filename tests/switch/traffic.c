/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A stream's frames are numbered, so that every packet tells which frame it is (a part of): behind the
 * Ethernet header, or in the IP header, never in what a flow matches. What a segment has to look like is computed from
 * the frame that was sent, field by field, with the checksum of RFC 1071 as plain as it can be written.
 */
#include "traffic.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "testbed.h"

#define BURST 32

static struct frame sent, expected;
static uint8_t got[FRAME_MAX + 64];

static const struct traffic_frame *frame_at(const struct traffic *traffic, uint32_t number)
{
	return &traffic->frames[number % traffic->frame_count];
}

/* Where it matters for none of the checksums but the IPv4 header's own. */
static void put_number(struct frame *frame, const struct frame_spec *spec, uint32_t number)
{
	uint8_t *ip = frame->data + frame->l3;

	if (spec->version == 6) {
		bytes_store16(ip + 2, (uint16_t)number);
		return;
	}
	bytes_store16(ip + 4, (uint16_t)number);
	bytes_store16(ip + 10, 0);
	bytes_store16(ip + 10, (uint16_t)~frame_sum(0, ip, frame->l4 - frame->l3));
}

static void build(const struct traffic *traffic, uint32_t number, struct frame *frame)
{
	const struct traffic_frame *kind = frame_at(traffic, number);

	if (kind->spec) {
		frame_build(frame, kind->spec);
		put_number(frame, kind->spec, number);
	} else {
		testbed_frame(frame->data, kind->size, 2, 1, number);
		frame->length = kind->size;
		if (kind->size >= TRAFFIC_NUMBER + 4)
			bytes_store32(frame->data + TRAFFIC_NUMBER, number);
	}
	testbed_mac(frame->data, traffic->dst);
	testbed_mac(frame->data + 6, traffic->src);
}

static uint8_t gso_type(const struct frame_spec *spec)
{
	if (spec->proto == IPPROTO_UDP)
		return VIRTIO_NET_HDR_GSO_UDP_L4;
	return spec->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
}

static struct virtio_net_hdr net_header(const struct traffic_frame *kind, const struct frame *frame)
{
	struct virtio_net_hdr header = {0};

	if (!kind->spec)
		return header;
	header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header.csum_start = (uint16_t)frame->l4;
	header.csum_offset = kind->spec->proto == IPPROTO_TCP ? 16 : 6;
	if (kind->gso_size && kind->spec->payload > kind->gso_size) {
		header.gso_type = (uint8_t)(gso_type(kind->spec) | (kind->ecn ? VIRTIO_NET_HDR_GSO_ECN : 0));
		header.gso_size = kind->gso_size;
		header.hdr_len = (uint16_t)frame->payload;
	}
	return header;
}

static bool has(uint64_t features, unsigned int bit)
{
	return features & VIRTIO_BIT(bit);
}

static bool takes_whole(const struct traffic_frame *kind, uint64_t features)
{
	bool v4 = kind->spec->version == 4;

	if (!has(features, VIRTIO_NET_F_GUEST_CSUM) || (kind->ecn && !has(features, VIRTIO_NET_F_GUEST_ECN)))
		return false;
	if (kind->spec->proto == IPPROTO_UDP)
		return has(features, v4 ? VIRTIO_NET_F_GUEST_USO4 : VIRTIO_NET_F_GUEST_USO6);
	return has(features, v4 ? VIRTIO_NET_F_GUEST_TSO4 : VIRTIO_NET_F_GUEST_TSO6);
}

uint32_t traffic_segments(const struct traffic_frame *kind, uint64_t features)
{
	if (!kind->spec || kind->gso_size == 0 || kind->spec->payload == 0 || takes_whole(kind, features))
		return 1;
	return (kind->spec->payload + kind->gso_size - 1) / kind->gso_size;
}

/* The transport checksum of the frame, over everything behind its IP header. */
static void fill_checksum(struct frame *frame, const struct frame_spec *spec, bool complete)
{
	uint32_t length = frame->length - frame->l4;
	uint32_t field = frame->l4 + (spec->proto == IPPROTO_TCP ? 16 : 6);
	uint32_t sum = frame_pseudo_sum(frame->data + frame->l3, spec->proto, length);

	bytes_store16(frame->data + field, (uint16_t)sum);
	if (!complete)
		return;
	sum = (uint16_t)~frame_sum(0, frame->data + frame->l4, length);
	bytes_store16(frame->data + field, (uint16_t)(sum ? sum : 0xffff));
}

/* Turns the frame as it was sent into its segment `index` of `count`. */
static void cut(struct frame *frame, const struct traffic_frame *kind, uint32_t index, uint32_t count)
{
	const struct frame_spec *spec = kind->spec;
	uint32_t from = index * kind->gso_size;
	uint32_t size = min((uint32_t)kind->gso_size, spec->payload - from);
	uint8_t *ip = frame->data + frame->l3, *l4 = frame->data + frame->l4;

	memmove(frame->data + frame->payload, frame->data + frame->payload + from, size);
	frame->length = frame->payload + size;
	if (spec->version == 4) {
		bytes_store16(ip + 2, (uint16_t)(frame->length - frame->l3));
		bytes_store16(ip + 4, (uint16_t)(bytes_load16(ip + 4) + index));
		bytes_store16(ip + 10, 0);
		bytes_store16(ip + 10, (uint16_t)~frame_sum(0, ip, frame->l4 - frame->l3));
	} else {
		bytes_store16(ip + 4, (uint16_t)(frame->length - frame->l3 - 40));
	}
	if (spec->proto == IPPROTO_UDP) {
		bytes_store16(l4 + 4, (uint16_t)(8 + size));
		return;
	}
	bytes_store32(l4 + 4, bytes_load32(l4 + 4) + from);
	if (index > 0)
		l4[13] &= 0x7f; /* CWR: in the first */
	if (index + 1 < count)
		l4[13] &= 0xf6; /* FIN and PSH: in the last */
}

/* What the receiver must get next, with its net header. */
static void expect(const struct traffic *traffic, struct virtio_net_hdr *header)
{
	const struct traffic_frame *kind = frame_at(traffic, traffic->received);
	const uint64_t features = traffic->to->features;
	const bool partial = has(features, VIRTIO_NET_F_GUEST_CSUM);
	uint32_t segments = traffic_segments(kind, features);

	build(traffic, traffic->received, &expected);
	*header = net_header(kind, &expected);
	if (!kind->spec || takes_whole(kind, features))
		return;
	if (segments > 1)
		cut(&expected, kind, traffic->segment, segments);
	fill_checksum(&expected, kind->spec, !partial);
	header->gso_type = VIRTIO_NET_HDR_GSO_NONE;
	header->gso_size = 0;
	header->hdr_len = 0;
	if (!partial)
		memset(header, 0, sizeof(*header));
}

static void check(struct traffic *traffic, const struct netfront_frame *frame)
{
	const struct traffic_frame *kind = frame_at(traffic, traffic->received);
	struct virtio_net_hdr header;

	assert_true(traffic->received < traffic->sent);
	expect(traffic, &header);
	if (frame->size != expected.length)
		print_error("frame %u, segment %u: %u bytes, not %u\n", traffic->received, traffic->segment,
			    frame->size, expected.length);
	assert_int_equal(frame->size, expected.length);
	assert_int_equal(netfront_frame_copy(frame, 0, got, sizeof(got)), frame->size);
	if (memcmp(got, expected.data, frame->size) != 0)
		print_error("frame %u (got %u), segment %u of %u bytes\n", traffic->received,
			    bytes_load32(got + TRAFFIC_NUMBER), traffic->segment, frame->size);
	assert_memory_equal(got, expected.data, frame->size);
	assert_memory_equal(&frame->header.hdr, &header, sizeof(header));
	traffic->packets++;
	traffic->bytes += frame->size;
	if (++traffic->segment < traffic_segments(kind, traffic->to->features))
		return;
	traffic->segment = 0;
	traffic->received++;
}

bool traffic_send(struct traffic *traffic)
{
	uint32_t before = traffic->sent;

	while (traffic->sent < traffic->limit && traffic->sent - before < BURST) {
		const struct traffic_frame *kind = frame_at(traffic, traffic->sent);
		struct virtio_net_hdr header;
		struct iovec iov = {.iov_base = sent.data};
		int error;

		build(traffic, traffic->sent, &sent);
		header = net_header(kind, &sent);
		iov.iov_len = sent.length;
		error = netfront_send(traffic->from, traffic->from_pair, &header, &iov, 1, false);
		if (error == -ENOBUFS)
			break;
		assert_int_equal(error, 0);
		traffic->sent++;
	}
	/* One who polls decides on kicks a call later. */
	assert_true(netfront_reclaim(traffic->from, traffic->from_pair) >= 0);
	return traffic->sent != before;
}

bool traffic_receive(struct traffic *traffic)
{
	struct netfront_frame frames[BURST];
	int n = netfront_receive(traffic->to, traffic->to_pair, frames, BURST);

	assert_true(n >= 0);
	for (int i = 0; i < n; i++)
		check(traffic, &frames[i]);
	if (n > 0)
		assert_true(netfront_recycle(traffic->to, traffic->to_pair) >= 0);
	return n > 0;
}

bool traffic_step(struct traffic *traffic)
{
	bool moved = traffic_send(traffic);

	return traffic_receive(traffic) || moved;
}

static void wait_for(struct traffic *traffic)
{
	if (traffic->to->config.polling || traffic->from->config.polling)
		sched_yield();
	else
		assert_true(netfront_wait(traffic->to, traffic->to_pair, NETFRONT_WAIT_RX, 10) >= 0);
}

void traffic_run(struct traffic *traffic)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;

	while (!traffic_done(traffic) && clock_now_ns() < deadline) {
		if (traffic_step(traffic))
			deadline = clock_now_ns() + PATIENCE_NS;
		else
			wait_for(traffic);
	}
	assert_int_equal(traffic->received, traffic->limit);
}

void traffic_run_all(struct traffic *traffics, unsigned int count)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	unsigned int done = 0;

	while (done < count && clock_now_ns() < deadline) {
		bool moved = false;

		done = 0;
		for (unsigned int i = 0; i < count; i++) {
			moved |= !traffic_done(&traffics[i]) && traffic_step(&traffics[i]);
			done += traffic_done(&traffics[i]);
		}
		if (moved)
			deadline = clock_now_ns() + PATIENCE_NS;
		else
			sched_yield();
	}
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(traffics[i].received, traffics[i].limit);
}

void traffic_expect(struct netfront *from, struct netfront *to, const struct traffic_frame *frames, unsigned int count)
{
	struct traffic traffic = {
		.from = from,
		.to = to,
		.frames = frames,
		.frame_count = count,
		.limit = count,
		.dst = 2,
		.src = 1,
	};

	traffic_run(&traffic);
}

void traffic_expect_silence(struct netfront *nf, unsigned int pair)
{
	struct netfront_frame frame;

	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	assert_int_equal(netfront_receive(nf, pair, &frame, 1), 0);
}
