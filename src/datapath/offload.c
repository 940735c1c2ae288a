/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A net header is a promise about the packet behind it, made by somebody we do not trust to
 * somebody who may believe it. offload_check() therefore compares it with the packet's own headers:
 * what claims to be a TCP segment for IPv4 is one, whole, with its checksum where TCP has it.
 * Receivers get what passed; the offloads are undone from what passed.
 *
 * Undoing needs no second look at the payload. Headers are rewritten in private memory; the payload
 * is summed by the one copy that carries it to the receiver, and its sum joins the headers'
 * afterwards. The checksum field holds the pseudo-header's sum meanwhile, as the specification has
 * it, so that summing from checksum_start on covers everything.
 */
#include "datapath/offload.h"

#include <netinet/in.h>

#include "datapath/bytes.h"
#include "datapath/checksum.h"
#include "datapath/drop.h"

#define DROPPED(suffix) (DROP_##suffix + 1u)

#define ETH_HEADER   14
#define IPV6_HEADER  40
#define TCP_HEADER   20
#define TCP_CHECKSUM 16
#define TCP_FLAGS    13
#define TCP_FIN      0x01
#define TCP_PSH      0x08
#define TCP_CWR      0x80
#define UDP_HEADER   8
#define UDP_CHECKSUM 6
#define GSO_BY_FRAGS 0xffff /* means something else to Linux than a size */

static bool has(uint64_t features, unsigned int bit)
{
	return features & VIRTIO_BIT(bit);
}

static uint8_t gso_kind(const struct packet *packet)
{
	return packet->net.hdr.gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
}

static bool gso_ecn(const struct packet *packet)
{
	return packet->net.hdr.gso_type & VIRTIO_NET_HDR_GSO_ECN;
}

static unsigned int check_checksum(const struct packet *packet, uint64_t features)
{
	uint32_t start = packet->net.hdr.csum_start;
	uint32_t offset = packet->net.hdr.csum_offset;

	if (!has(features, VIRTIO_NET_F_CSUM))
		return DROPPED(OFFLOAD_UNNEGOTIATED);
	/* No protocol has its checksum at an odd offset, and the sum could not be written there. */
	if (start < ETH_HEADER || offset % 2 || start + offset + 2 > packet->length)
		return DROPPED(OFFLOAD_INVALID);
	return 0;
}

/* gso_type alone: does it exist, and may this sender use it? */
static unsigned int check_gso_type(const struct packet *packet, uint64_t features)
{
	unsigned int feature;

	switch (gso_kind(packet)) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		feature = VIRTIO_NET_F_HOST_TSO4;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		feature = VIRTIO_NET_F_HOST_TSO6;
		break;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		feature = VIRTIO_NET_F_HOST_USO;
		break;
	case VIRTIO_NET_HDR_GSO_UDP:
		return DROPPED(OFFLOAD_UNNEGOTIATED); /* fragmentation: never offered */
	default:
		return DROPPED(OFFLOAD_INVALID);
	}
	if (!has(features, feature))
		return DROPPED(OFFLOAD_UNNEGOTIATED);
	if (gso_ecn(packet)) {
		if (gso_kind(packet) == VIRTIO_NET_HDR_GSO_UDP_L4)
			return DROPPED(OFFLOAD_INVALID);
		if (!has(features, VIRTIO_NET_F_HOST_ECN))
			return DROPPED(OFFLOAD_UNNEGOTIATED);
	}
	return 0;
}

/* Do the packet's own headers say what gso_type says? */
static bool layout_agrees(const struct packet_layout *layout, uint8_t kind)
{
	if (layout->ip_fragment || layout->l4_offset == 0)
		return false;
	switch (kind) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return layout->ip_version == 4 && layout->ip_proto == IPPROTO_TCP;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return layout->ip_version == 6 && layout->ip_proto == IPPROTO_TCP;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return layout->ip_proto == IPPROTO_UDP;
	default:
		return false;
	}
}

/*
 * The pseudo-header's sum without the length. Its destination is the final one; where a routing
 * header holds that, what the sender put into the checksum field knows it, and includes the length.
 */
static uint32_t pseudo_header(const struct packet *packet, const struct packet_layout *layout,
			      const struct offload_plan *plan)
{
	const uint8_t *ip = packet->head + layout->l3_offset;
	uint16_t field, length;
	uint64_t sum;

	if (layout->ip_routed) {
		memcpy(&field, packet->head + plan->checksum_field, sizeof(field));
		length = htons((uint16_t)(layout->l3_end - layout->l4_offset));
		sum = (uint64_t)field + (uint16_t)~length;
	} else {
		sum = htons(plan->ip_proto);
		if (layout->ip_version == 4)
			sum = checksum_add(sum, ip + 12, 8, 0);
		else
			sum = checksum_add(sum, ip + 8, 32, 0);
	}
	return checksum_fold(sum);
}

/* The plan to cut a packet; reason is returned where its headers and its net header disagree. */
static unsigned int plan_segments(const struct packet *packet, struct offload_plan *plan, unsigned int reason)
{
	const struct virtio_net_hdr *net = &packet->net.hdr;
	struct packet_layout layout;
	uint32_t header, field, count;

	packet_locate(packet, &layout);
	if (layout.ip_version && !layout.l4_offset && !layout.ip_fragment)
		return DROPPED(HEADERS_TOO_LONG);
	if (!layout_agrees(&layout, gso_kind(packet)))
		return reason;

	field = layout.ip_proto == IPPROTO_TCP ? TCP_CHECKSUM : UDP_CHECKSUM;
	header = layout.ip_proto == IPPROTO_TCP ? TCP_HEADER : UDP_HEADER;
	if (header > layout.l3_end - layout.l4_offset || net->csum_start != layout.l4_offset ||
	    net->csum_offset != field || net->gso_size == 0 || net->gso_size == GSO_BY_FRAGS)
		return reason;
	if (layout.l4_offset + header > packet->head_length)
		return DROPPED(HEADERS_TOO_LONG);
	if (layout.ip_proto == IPPROTO_TCP) {
		header = (packet->head[layout.l4_offset + 12] >> 4) * 4u;
		if (header < TCP_HEADER || header > layout.l3_end - layout.l4_offset)
			return reason;
	}
	header += layout.l4_offset;
	if (header > packet->head_length)
		return DROPPED(HEADERS_TOO_LONG);

	plan->payload_length = layout.l3_end - header;
	plan->segment_size = net->gso_size;
	count = (plan->payload_length + plan->segment_size - 1) / plan->segment_size;
	if (count > OFFLOAD_SEGMENTS_MAX)
		return reason;
	plan->segment_count = (uint16_t)max(count, 1u);
	plan->header_length = (uint16_t)header;
	plan->l3_offset = layout.l3_offset;
	plan->l4_offset = layout.l4_offset;
	plan->checksum_start = layout.l4_offset;
	plan->checksum_field = (uint16_t)(layout.l4_offset + field);
	plan->payload_odd = 0;
	plan->ip_version = layout.ip_version;
	plan->ip_proto = layout.ip_proto;
	plan->pseudo_sum = pseudo_header(packet, &layout, plan);
	return 0;
}

/* The plan to send a packet whole, with its checksum filled in. */
static unsigned int plan_whole(const struct packet *packet, struct offload_plan *plan)
{
	uint32_t start = packet->net.hdr.csum_start;
	uint32_t field = start + packet->net.hdr.csum_offset;

	if (!(packet->net.hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || field + 2 > packet->head_length)
		return DROPPED(OUT_OFFLOAD);
	*plan = (struct offload_plan){
		.payload_length = packet->length - packet->head_length,
		.segment_size = packet->length - packet->head_length,
		.segment_count = 1,
		.header_length = packet->head_length,
		.checksum_start = (uint16_t)start,
		.checksum_field = (uint16_t)field,
		.payload_odd = (packet->head_length - start) & 1,
	};
	return 0;
}

unsigned int offload_check(struct packet *packet, uint64_t sender_features)
{
	struct virtio_net_hdr *net = &packet->net.hdr;
	struct offload_plan plan;
	unsigned int reason;

	packet->net.num_buffers = 1;
	net->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	net->hdr_len = 0;
	if (net->flags) {
		reason = check_checksum(packet, sender_features);
		if (reason)
			return reason;
	} else {
		net->csum_start = 0;
		net->csum_offset = 0;
	}
	if (net->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		net->gso_size = 0;
		return 0;
	}

	reason = check_gso_type(packet, sender_features);
	if (reason)
		return reason;
	if (!net->flags)
		return DROPPED(OFFLOAD_INVALID);
	reason = plan_segments(packet, &plan, DROPPED(OFFLOAD_INVALID));
	if (reason)
		return reason;
	if (plan.segment_count == 1) {
		net->gso_type = VIRTIO_NET_HDR_GSO_NONE;
		net->gso_size = 0;
	} else {
		net->hdr_len = plan.header_length;
	}
	return 0;
}

static bool takes_segmentation(const struct packet *packet, uint64_t features)
{
	struct packet_layout layout;

	if (gso_ecn(packet) && !has(features, VIRTIO_NET_F_GUEST_ECN))
		return false;
	switch (gso_kind(packet)) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return has(features, VIRTIO_NET_F_GUEST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return has(features, VIRTIO_NET_F_GUEST_TSO6);
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		packet_locate(packet, &layout);
		return has(features, layout.ip_version == 4 ? VIRTIO_NET_F_GUEST_USO4 : VIRTIO_NET_F_GUEST_USO6);
	default:
		return false;
	}
}

struct offload_todo offload_todo(const struct packet *packet, uint64_t receiver_features)
{
	bool partial = has(receiver_features, VIRTIO_NET_F_GUEST_CSUM);
	struct offload_todo todo = {
		.checksum = (packet->net.hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && !partial,
	};

	/* Whoever takes large segments takes their partial checksums: the features depend so. */
	if (packet->net.hdr.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		todo.segment = !partial || !takes_segmentation(packet, receiver_features);
	return todo;
}

void offload_net(const struct packet *packet, struct offload_todo todo, struct virtio_net_hdr_mrg_rxbuf *net)
{
	*net = packet->net;
	net->num_buffers = 1;
	if (todo.segment) {
		net->hdr.gso_type = VIRTIO_NET_HDR_GSO_NONE;
		net->hdr.gso_size = 0;
		net->hdr.hdr_len = 0;
	}
	if (todo.checksum) {
		net->hdr.flags = 0;
		net->hdr.csum_start = 0;
		net->hdr.csum_offset = 0;
	}
}

unsigned int offload_plan(const struct packet *packet, struct offload_todo todo, struct offload_plan *plan)
{
	return todo.segment ? plan_segments(packet, plan, DROPPED(OUT_OFFLOAD)) : plan_whole(packet, plan);
}

static void segment_ipv4(const struct offload_plan *plan, unsigned int index, uint8_t *ip, uint32_t payload)
{
	uint16_t sum;

	bytes_store16(ip + 2, (uint16_t)(plan->header_length - plan->l3_offset + payload));
	bytes_store16(ip + 4, (uint16_t)(bytes_load16(ip + 4) + index));
	memset(ip + 10, 0, 2);
	sum = (uint16_t)~checksum_fold(checksum_add(0, ip, plan->l4_offset - plan->l3_offset, 0));
	memcpy(ip + 10, &sum, sizeof(sum));
}

static void segment_tcp(const struct offload_plan *plan, unsigned int index, uint8_t *tcp)
{
	bytes_store32(tcp + 4, bytes_load32(tcp + 4) + index * plan->segment_size);
	if (index > 0)
		tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
	if (index + 1 < plan->segment_count)
		tcp[TCP_FLAGS] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
}

void offload_segment(const struct packet *packet, const struct offload_plan *plan, unsigned int index,
		     uint8_t header[PACKET_HEAD_MAX], uint32_t *payload_offset, uint32_t *payload_length)
{
	uint32_t skipped = index * plan->segment_size;
	uint32_t payload = min(plan->payload_length - skipped, plan->segment_size);
	uint32_t l4_length = plan->header_length - plan->l4_offset + payload;
	uint16_t pseudo;

	memcpy(header, packet->head, plan->header_length);
	*payload_offset = plan->header_length + skipped;
	*payload_length = payload;
	if (plan->ip_version == 0)
		return;

	if (plan->ip_version == 4)
		segment_ipv4(plan, index, header + plan->l3_offset, payload);
	else
		bytes_store16(header + plan->l3_offset + 4,
			      (uint16_t)(plan->header_length - plan->l3_offset - IPV6_HEADER + payload));
	if (plan->ip_proto == IPPROTO_TCP)
		segment_tcp(plan, index, header + plan->l4_offset);
	else
		bytes_store16(header + plan->l4_offset + 4, (uint16_t)l4_length);
	pseudo = checksum_fold((uint64_t)plan->pseudo_sum + htons((uint16_t)l4_length));
	memcpy(header + plan->checksum_field, &pseudo, sizeof(pseudo));
}

void offload_checksum(const struct offload_plan *plan, uint8_t header[PACKET_HEAD_MAX], uint64_t payload_sum)
{
	uint32_t size = plan->header_length - plan->checksum_start;
	uint16_t value = checksum_finish(checksum_add(payload_sum, header + plan->checksum_start, size, 0));

	memcpy(header + plan->checksum_field, &value, sizeof(value));
}
