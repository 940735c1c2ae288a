/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rules are those of Linux's GRO, narrowed to what virtio's segmentation can take apart again without a
 * difference: same Ethernet header and VLAN tags, same addresses, ports and every other field of IP and TCP headers,
 * options and their timestamps included; consecutive sequence numbers; equal sizes, but the last may be smaller and
 * ends the frame, as a PSH flag does. Of TCP flags there may be ACK and PSH, so what opens, closes, resets or talks
 * about congestion goes by itself. IPv4 ids go up by one, or stay the same where DF says that they mean nothing (RFC
 * 6864): the one case in which taking apart differs, as it counts them up.
 *
 * What is merged loses its checksums, and gets new ones when it is taken apart or arrives. So no frame is merged whose
 * checksums are wrong, or it would become a valid one: IPv4 header and TCP or UDP checksum are verified, unless the
 * device says that it did (VIRTIO_NET_HDR_F_DATA_VALID) or that there is none yet (NEEDS_CSUM at the right place). The
 * sum over a frame waits until everything else fits, so frames that meet no other of their stream are not read.
 *
 * A frame that belongs to a stream and cannot be merged closes it, so that nothing overtakes it. One of which cannot be
 * told what it belongs to (a fragment, options, extension headers, wrong header) closes all.
 */
#include "driver/gro.h"

#include <netinet/in.h>
#include <string.h>

#include "datapath/bytes.h"
#include "datapath/checksum.h"

#define ETH_HEADER   14
#define VLAN_TAG     4
#define TAGS_MAX     2
#define TYPE_IPV4    0x0800
#define TYPE_IPV6    0x86dd
#define TYPE_VLAN    0x8100
#define TYPE_SVLAN   0x88a8
#define IPV4_HEADER  20
#define IPV4_DF      0x4000
#define IPV6_HEADER  40
#define TCP_HEADER   20
#define TCP_CHECKSUM 16
#define TCP_PSH      0x08
#define TCP_ACK      0x10
#define UDP_HEADER   8
#define UDP_CHECKSUM 6

/* The least that TCP sends in a segment if there is more to come. */
#define PAYLOAD_MIN 8

enum verdict {
	PASS,   /* of no stream that anything is merged of */
	FENCE,  /* may be of any */
	SINGLE, /* of one, but goes by itself */
	MEMBER,
};

struct parsed {
	const uint8_t *bytes; /* from Ethernet on */
	uint32_t length;
	uint32_t payload;
	uint32_t sequence;
	uint16_t id;
	uint16_t l3;
	uint16_t l4;
	uint16_t header;
	uint8_t version;
	uint8_t proto;
	bool good; /* its checksum needs no look */
	bool push;
};

void gro_init(struct gro *gro, uint64_t features, unsigned int pieces_max)
{
	bool csum = features & VIRTIO_BIT(VIRTIO_NET_F_CSUM);

	*gro = (struct gro){
		.tcp4 = csum && features & VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4),
		.tcp6 = csum && features & VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6),
		.udp = csum && features & VIRTIO_BIT(VIRTIO_NET_F_HOST_USO),
		.header = virtio_net_hdr_len(features),
		.pieces_max = pieces_max,
	};
}

static uint16_t checksum_offset(uint8_t proto)
{
	return proto == IPPROTO_TCP ? TCP_CHECKSUM : UDP_CHECKSUM;
}

/* The pseudo-header's sum, given the length of what comes behind IP. */
static uint64_t pseudo_header(const uint8_t *ip, uint8_t version, uint8_t proto, uint32_t length)
{
	uint64_t sum = (uint64_t)htons(proto) + htons((uint16_t)length);

	return version == 4 ? checksum_add(sum, ip + 12, 8, 0) : checksum_add(sum, ip + 8, 32, 0);
}

static bool checksum_good(const struct parsed *at)
{
	uint32_t size = at->length - at->l4;
	uint64_t sum = pseudo_header(at->bytes + at->l3, at->version, at->proto, size);

	return checksum_fold(checksum_add(sum, at->bytes + at->l4, size, 0)) == 0xffff;
}

static enum verdict parse_tcp(struct parsed *at, uint32_t size)
{
	const uint8_t *tcp = at->bytes + at->l4;
	uint32_t header;

	if (size < TCP_HEADER)
		return FENCE;
	header = (tcp[12] >> 4) * 4u;
	if (header < TCP_HEADER || header > size)
		return FENCE;
	at->header = (uint16_t)(at->l4 + header);
	at->payload = size - header;
	at->sequence = bytes_load32(tcp + 4);
	at->push = tcp[13] & TCP_PSH;
	if ((tcp[12] & 0xf) != 0 || (tcp[13] & ~TCP_PSH) != TCP_ACK || at->payload == 0)
		return SINGLE;
	return MEMBER;
}

static enum verdict parse_udp(struct parsed *at, uint32_t size)
{
	const uint8_t *udp = at->bytes + at->l4;

	if (size < UDP_HEADER || bytes_load16(udp + 4) > size)
		return FENCE;
	at->header = at->l4 + UDP_HEADER;
	at->payload = size - UDP_HEADER;
	/* Of what has no checksum nobody could tell whether it is right; and taking apart would add one. */
	if (bytes_load16(udp + 4) != size || (udp[6] | udp[7]) == 0 || at->payload == 0)
		return SINGLE;
	return MEMBER;
}

static enum verdict parse_l4(const struct gro *gro, struct parsed *at, uint32_t size)
{
	if (at->proto == IPPROTO_TCP && (at->version == 4 ? gro->tcp4 : gro->tcp6))
		return parse_tcp(at, size);
	if (at->proto == IPPROTO_UDP && gro->udp)
		return parse_udp(at, size);
	return PASS;
}

static bool is_extension(uint8_t type)
{
	return type == IPPROTO_HOPOPTS || type == IPPROTO_ROUTING || type == IPPROTO_DSTOPTS ||
	       type == IPPROTO_FRAGMENT || type == IPPROTO_AH || type == IPPROTO_MH;
}

/* *size: what the IP packet has behind its header. */
static enum verdict parse_ipv4(struct parsed *at, uint32_t *size)
{
	const uint8_t *ip = at->bytes + at->l3;
	uint32_t room = at->length - at->l3, total;

	if (room < IPV4_HEADER || ip[0] != 0x45)
		return FENCE;
	total = bytes_load16(ip + 2);
	if (total < IPV4_HEADER || total > room || bytes_load16(ip + 6) & ~IPV4_DF)
		return FENCE;
	if (checksum_fold(checksum_add(0, ip, IPV4_HEADER, 0)) != 0xffff)
		return FENCE;
	at->version = 4;
	at->proto = ip[9];
	at->id = bytes_load16(ip + 4);
	at->l4 = at->l3 + IPV4_HEADER;
	*size = total - IPV4_HEADER;
	return MEMBER;
}

static enum verdict parse_ipv6(struct parsed *at, uint32_t *size)
{
	const uint8_t *ip = at->bytes + at->l3;
	uint32_t room = at->length - at->l3;

	if (room < IPV6_HEADER || ip[0] >> 4 != 6 || is_extension(ip[6]))
		return FENCE;
	*size = bytes_load16(ip + 4);
	if (*size > room - IPV6_HEADER)
		return FENCE;
	at->version = 6;
	at->proto = ip[6];
	at->l4 = at->l3 + IPV6_HEADER;
	return MEMBER;
}

/* What the device says of the frame in its net header. */
static enum verdict parse_offload(const struct gro *gro, struct parsed *at, const struct driver_frame *frame)
{
	struct virtio_net_hdr net;

	memcpy(&net, frame->data, sizeof(net));
	if (net.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		return SINGLE;
	at->good = net.flags & (VIRTIO_NET_HDR_F_DATA_VALID | VIRTIO_NET_HDR_F_NEEDS_CSUM);
	if (net.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM &&
	    (net.csum_start != at->l4 || net.csum_offset != checksum_offset(at->proto)))
		return SINGLE;
	return frame->size - gro->header > GRO_SIZE_MAX ? SINGLE : MEMBER;
}

static enum verdict parse(const struct gro *gro, const struct driver_frame *frame, struct parsed *at)
{
	enum verdict verdict = FENCE, offload;
	uint32_t size = 0;
	uint16_t type;

	*at = (struct parsed){.bytes = frame->data + gro->header, .l3 = ETH_HEADER};
	if (frame->next || frame->size < gro->header + ETH_HEADER)
		return FENCE;
	at->length = frame->size - gro->header;
	type = bytes_load16(at->bytes + 12);
	for (unsigned int tags = 0; tags < TAGS_MAX && (type == TYPE_VLAN || type == TYPE_SVLAN); tags++) {
		at->l3 += VLAN_TAG;
		if (at->length < at->l3)
			return FENCE;
		type = bytes_load16(at->bytes + at->l3 - 2);
	}
	if (type == TYPE_IPV4)
		verdict = parse_ipv4(at, &size);
	else if (type == TYPE_IPV6)
		verdict = parse_ipv6(at, &size);
	else if (type != TYPE_VLAN && type != TYPE_SVLAN)
		return PASS;
	if (verdict == MEMBER)
		verdict = parse_l4(gro, at, size);
	if (verdict < SINGLE)
		return verdict;

	offload = parse_offload(gro, at, frame);
	/* With padding behind it, it could not be restored. */
	if (offload == SINGLE || at->length != at->l4 + size)
		return SINGLE;
	return verdict;
}

/* Streams. */

static bool same_stream(const struct gro *gro, const struct gro_flow *flow, const struct parsed *at)
{
	const uint8_t *first = flow->first->data + gro->header;
	unsigned int from = at->version == 4 ? 12 : 8, size = at->version == 4 ? 8 : 32;

	return flow->version == at->version && flow->proto == at->proto &&
	       memcmp(first + flow->l4, at->bytes + at->l4, 4) == 0 &&
	       memcmp(first + flow->l3 + from, at->bytes + at->l3 + from, size) == 0;
}

static bool headers_agree(const struct gro *gro, const struct gro_flow *flow, const struct parsed *at)
{
	const uint8_t *first = flow->first->data + gro->header, *other = at->bytes;

	if (flow->l3 != at->l3 || flow->header != at->header || memcmp(first, other, at->l3) != 0)
		return false;
	first += at->l3;
	other += at->l3;
	if (at->version == 4) {
		/* Class of service; fragment bits and time to live. */
		if (first[1] != other[1] || memcmp(first + 6, other + 6, 3) != 0)
			return false;
	} else if (memcmp(first, other, 4) != 0 || first[7] != other[7]) {
		return false;
	}
	if (at->proto == IPPROTO_UDP)
		return true;

	first += at->l4 - at->l3;
	other += at->l4 - at->l3;
	/* Acknowledgement, header length; window; urgent pointer and options. */
	return memcmp(first + 8, other + 8, 5) == 0 && memcmp(first + 14, other + 14, 2) == 0 &&
	       memcmp(first + 18, other + 18, at->header - at->l4 - 18u) == 0;
}

static bool id_agrees(const struct gro *gro, const struct gro_flow *flow, const struct parsed *at)
{
	uint16_t step = (uint16_t)(at->id - flow->id);

	if (at->version == 6)
		return true;
	if (step > 1 || (flow->count > 1 && step != flow->id_step))
		return false;
	return step == 1 || bytes_load16(flow->first->data + gro->header + flow->l3 + 6) & IPV4_DF;
}

/* Whether the frame is what comes next; all but its checksum. */
static bool continues(const struct gro *gro, const struct gro_flow *flow, const struct parsed *at)
{
	if (flow->push || flow->size < PAYLOAD_MIN || at->payload > flow->size)
		return false;
	if (flow->payload != flow->size * flow->count || flow->count >= gro->pieces_max)
		return false;
	if (flow->header + flow->payload + at->payload > GRO_SIZE_MAX)
		return false;
	if (at->proto == IPPROTO_TCP && at->sequence != flow->sequence)
		return false;
	return id_agrees(gro, flow, at) && headers_agree(gro, flow, at);
}

static void append(struct gro_flow *flow, struct driver_frame *frame, const struct parsed *at, unsigned int net_header)
{
	frame->part = true;
	frame->data += net_header + at->header;
	frame->size = at->payload;
	flow->last->next = frame;
	flow->last = frame;
	flow->id_step = (uint8_t)(at->id - flow->id);
	flow->id = at->id;
	flow->payload += at->payload;
	flow->sequence += at->payload;
	flow->push = at->push;
	flow->count++;
}

static bool first_is_good(const struct gro *gro, struct gro_flow *flow)
{
	const struct parsed first = {
		.bytes = flow->first->data + gro->header,
		.length = flow->first->size - gro->header,
		.l3 = flow->l3,
		.l4 = flow->l4,
		.version = flow->version,
		.proto = flow->proto,
	};

	if (!flow->verified)
		flow->verified = checksum_good(&first);
	return flow->verified;
}

/* Makes the first frame's headers those of all. */
static void finish(const struct gro *gro, const struct gro_flow *flow)
{
	uint8_t *ip = flow->first->data + gro->header + flow->l3;
	uint8_t *l4 = ip + flow->l4 - flow->l3;
	uint32_t length = (uint32_t)(flow->header - flow->l4) + flow->payload;
	bool tcp = flow->proto == IPPROTO_TCP;
	struct virtio_net_hdr net = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.hdr_len = flow->header,
		.gso_size = (uint16_t)flow->size,
		.csum_start = flow->l4,
		.csum_offset = checksum_offset(flow->proto),
	};
	uint16_t sum;

	if (flow->count == 1)
		return;
	if (!tcp)
		net.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
	else
		net.gso_type = flow->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
	memset(flow->first->data, 0, gro->header);
	memcpy(flow->first->data, &net, sizeof(net));

	if (flow->version == 4) {
		bytes_store16(ip + 2, (uint16_t)(IPV4_HEADER + length));
		memset(ip + 10, 0, 2);
		sum = (uint16_t)~checksum_fold(checksum_add(0, ip, IPV4_HEADER, 0));
		memcpy(ip + 10, &sum, sizeof(sum));
	} else {
		bytes_store16(ip + 4, (uint16_t)length);
	}
	if (!tcp)
		bytes_store16(l4 + 4, (uint16_t)length);
	else if (flow->push)
		l4[13] |= TCP_PSH;
	sum = checksum_fold(pseudo_header(ip, flow->version, flow->proto, length));
	memcpy(l4 + net.csum_offset, &sum, sizeof(sum));
}

static void close_flow(struct gro *gro, unsigned int index)
{
	finish(gro, &gro->flows[index]);
	gro->flow_count--;
	memmove(&gro->flows[index], &gro->flows[index + 1], (gro->flow_count - index) * sizeof(gro->flows[0]));
}

static void close_all(struct gro *gro)
{
	for (unsigned int i = 0; i < gro->flow_count; i++)
		finish(gro, &gro->flows[i]);
	gro->flow_count = 0;
}

static void use(struct gro *gro, unsigned int index)
{
	struct gro_flow flow = gro->flows[index];

	memmove(&gro->flows[1], &gro->flows[0], index * sizeof(gro->flows[0]));
	gro->flows[0] = flow;
}

static void open_flow(struct gro *gro, struct driver_frame *frame, const struct parsed *at)
{
	if (gro->flow_count == GRO_FLOWS)
		close_flow(gro, GRO_FLOWS - 1);
	memmove(&gro->flows[1], &gro->flows[0], gro->flow_count * sizeof(gro->flows[0]));
	gro->flow_count++;
	gro->flows[0] = (struct gro_flow){
		.first = frame,
		.last = frame,
		.payload = at->payload,
		.size = at->payload,
		.sequence = at->sequence + at->payload,
		.count = 1,
		.id = at->id,
		.l3 = at->l3,
		.l4 = at->l4,
		.header = at->header,
		.version = at->version,
		.proto = at->proto,
		.verified = at->good,
		.push = at->push,
	};
}

/* Of a frame that belongs to a stream. True: it became part of another one. */
static bool merge(struct gro *gro, struct driver_frame *frame, const struct parsed *at, bool member)
{
	unsigned int i = 0;

	while (i < gro->flow_count && !same_stream(gro, &gro->flows[i], at))
		i++;
	if (i < gro->flow_count) {
		struct gro_flow *flow = &gro->flows[i];

		if (member && continues(gro, flow, at) && first_is_good(gro, flow)) {
			if (at->good || checksum_good(at)) {
				append(flow, frame, at, gro->header);
				use(gro, i);
				return true;
			}
			member = false;
		}
		close_flow(gro, i);
	}
	if (member)
		open_flow(gro, frame, at);
	return false;
}

unsigned int gro_batch(struct gro *gro, struct driver_frame *frames, unsigned int n)
{
	unsigned int merged = 0;

	if (n < 2)
		return 0;
	for (unsigned int i = 0; i < n; i++) {
		struct parsed at;
		enum verdict verdict;

		if (frames[i].part)
			continue;
		verdict = parse(gro, &frames[i], &at);
		if (verdict == FENCE)
			close_all(gro);
		else if (verdict != PASS)
			merged += merge(gro, &frames[i], &at, verdict == MEMBER);
	}
	close_all(gro);
	return merged;
}
