/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A packet as a hostile sender may make it: any net header, any frame, any part of it staged. It is
 * parsed, hashed, checked, and what passes is undone for a receiver of any features. Unstaged bytes
 * are poisoned, segments are written to buffers of their exact size; what offload.h and packet.h
 * promise is compared, and a promise that does not hold is a trap.
 *
 * Input: sender's features, receiver's features, staged bytes (0: all that is allowed), two bytes
 * of how much longer the frame is than the input, net header, frame. make_packet_corpus.py writes
 * such files.
 */
#include "../unit/frame.h"

#include "datapath/checksum.h"
#include "datapath/offload.h"

#define INPUT_HEADER (5 + VIRTIO_NET_HDR_LEN)

#define must_hold(condition)              \
	do {                              \
		if (!(condition))         \
			__builtin_trap(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t sender_bits[8] = {
	VIRTIO_NET_F_CSUM,     VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN,
	VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_HOST_UFO,  VIRTIO_NET_F_MRG_RXBUF, VIRTIO_F_VERSION_1,
};

static const uint8_t receiver_bits[8] = {
	VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_ECN,
	VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_MRG_RXBUF,  VIRTIO_F_VERSION_1,
};

/* One bit of choice for each feature that matters. */
static uint64_t features_from(const uint8_t bits[8], uint8_t choice)
{
	uint64_t features = 0;

	for (unsigned int i = 0; i < 8; i++) {
		if (choice & 1u << i)
			features |= VIRTIO_BIT(bits[i]);
	}
	return features;
}

static void fuzz_parser(const struct packet *packet, struct flow_key *key)
{
	struct packet_layout layout;
	struct flow_key shallow;

	packet_parse(packet, 7, PACKET_DEPTH_L4, key);
	packet_parse(packet, 7, PACKET_DEPTH_L2, &shallow);
	must_hold(memcmp(key, &shallow, offsetof(struct flow_key, ip_proto)) == 0);
	must_hold(packet_hash(packet) == packet_hash(packet));

	packet_locate(packet, &layout);
	must_hold(layout.l3_offset <= packet->length && layout.l3_end <= packet->length);
	if (layout.ip_version)
		must_hold(layout.l4_offset <= layout.l3_end);
	else
		must_hold(layout.l4_offset == 0 && layout.ip_proto == 0);
}

/* What passed is legal for any receiver, and passes again as it is. */
static void fuzz_net_header(struct packet *packet, uint64_t features)
{
	struct virtio_net_hdr_mrg_rxbuf net = packet->net;

	must_hold(net.num_buffers == 1);
	must_hold((net.hdr.flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0);
	if (net.hdr.flags)
		must_hold(net.hdr.csum_start + net.hdr.csum_offset + 2u <= packet->length);
	else
		must_hold((net.hdr.csum_start | net.hdr.csum_offset) == 0);
	if (net.hdr.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		must_hold((net.hdr.gso_size | net.hdr.hdr_len) == 0);
	} else {
		must_hold(net.hdr.flags && net.hdr.gso_size);
		must_hold(net.hdr.hdr_len > net.hdr.csum_start);
		must_hold(net.hdr.hdr_len + net.hdr.gso_size < packet->length);
	}
	must_hold(offload_check(packet, features) == 0);
	must_hold(memcmp(&net, &packet->net, sizeof(net)) == 0);
}

/* The segment is a packet of its own, of the same flow. */
static void fuzz_segment_key(const uint8_t *segment, uint32_t length, const struct flow_key *whole)
{
	struct packet *packet = frame_stage(segment, length, PACKET_HEAD_MAX);
	struct flow_key key;

	packet_parse(packet, 7, PACKET_DEPTH_L4, &key);
	must_hold(memcmp(&key, whole, sizeof(key)) == 0);
	frame_free(packet);
}

static uint32_t fuzz_segment(const struct packet *packet, const struct offload_plan *plan, unsigned int index,
			     struct offload_todo todo, const uint8_t *frame, const struct flow_key *key)
{
	uint8_t *header = malloc(plan->header_length);
	uint32_t offset, length, before;
	uint8_t *segment;
	uint64_t sum;

	if (!header)
		abort();
	offload_segment(packet, plan, index, header, &offset, &length);
	must_hold(offset == plan->header_length + index * plan->segment_size);
	must_hold(offset + length <= packet->length);
	must_hold(length == plan->segment_size || index + 1u == plan->segment_count);
	segment = malloc(plan->header_length + length);
	if (!segment)
		abort();
	sum = checksum_copy(0, segment + plan->header_length, frame + offset, length, plan->payload_odd);
	before = bytes_load16(header + plan->checksum_field);
	if (todo.checksum)
		offload_checksum(plan, header, sum);
	memcpy(segment, header, plan->header_length);
	if (todo.checksum)
		must_hold(frame_sum(before, segment + plan->checksum_start,
				    plan->header_length + length - plan->checksum_start) %
				  0xffff ==
			  0);
	if (todo.segment)
		fuzz_segment_key(segment, plan->header_length + length, key);
	free(segment);
	free(header);
	return length;
}

static void fuzz_undo(const struct packet *packet, uint64_t features, const uint8_t *frame, const struct flow_key *key)
{
	struct offload_todo todo = offload_todo(packet, features);
	struct virtio_net_hdr_mrg_rxbuf net;
	struct offload_plan plan;
	uint32_t done = 0;

	offload_net(packet, todo, &net);
	must_hold(!net.hdr.flags || features & VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM));
	must_hold(!todo.segment || net.hdr.gso_type == VIRTIO_NET_HDR_GSO_NONE);
	if (!todo.segment && !todo.checksum)
		return;
	if (offload_plan(packet, todo, &plan)) {
		must_hold(!todo.segment);
		return;
	}
	must_hold(plan.segment_count >= 1 && plan.segment_count <= OFFLOAD_SEGMENTS_MAX);
	must_hold(plan.header_length <= packet->head_length);
	must_hold(plan.checksum_field + 2 <= plan.header_length);
	for (unsigned int i = 0; i < plan.segment_count; i++)
		done += fuzz_segment(packet, &plan, i, todo, frame, key);
	must_hold(done == plan.payload_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct packet *packet;
	struct flow_key key;
	uint32_t length, given, staged;
	uint64_t sender;
	uint8_t *frame;

	if (size < INPUT_HEADER + 14)
		return 0;
	given = (uint32_t)min(size - INPUT_HEADER, (size_t)FRAME_MAX);
	length = min(given + bytes_load16(data + 3), (uint32_t)FRAME_MAX);
	frame = calloc(1, length);
	if (!frame)
		abort();
	memcpy(frame, data + INPUT_HEADER, given);
	staged = data[2] ? max((uint32_t)data[2], 14u) : PACKET_HEAD_MAX;
	packet = frame_stage(frame, length, staged);
	memcpy(&packet->net, data + 5, VIRTIO_NET_HDR_LEN);

	fuzz_parser(packet, &key);
	sender = features_from(sender_bits, data[0]);
	if (offload_check(packet, sender) == 0) {
		fuzz_net_header(packet, sender);
		fuzz_undo(packet, features_from(receiver_bits, data[1]), frame, &key);
	}
	frame_free(packet);
	free(frame);
	return 0;
}
