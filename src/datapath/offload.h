/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Offloads: what a virtio net header asks for, checked against the packet; and their undoing for a
 * receiver that did not negotiate them: segmentation (TCPv4, TCPv6, UDP_L4) and checksums, with
 * VLAN tags and IPv6 extension headers, following virtio 1.2, section 5.1.6.
 *
 * Pure functions on private memory, any thread. They never read a packet's pieces, only its staged
 * head: a packet whose net header is not all zero has min(length, PACKET_HEAD_MAX) bytes staged.
 *
 * How the forwarding loop uses them, for a packet whose flags or gso_type are not 0:
 *
 *	once a packet:      offload_check()
 *	for each receiver:  todo = offload_todo(); offload_net() makes its net header.
 *	                    Nothing to do: the frame is copied as it is. Else:
 *	  offload_plan(packet, todo, &plan), and for each index below plan.segment_count:
 *	    offload_segment()    makes the headers in private memory, says which payload follows
 *	    copy the payload to where it belongs behind the headers; with todo.checksum by
 *	    checksum_copy(), from a sum of 0. odd is (plan.payload_odd + payload bytes before) & 1
 *	    offload_checksum()   with todo.checksum: completes the headers, given that sum
 *	    copy the plan.header_length bytes of headers in front of the payload
 *
 * The plan of a packet that only lacks its checksum has one segment, with all staged bytes as its
 * headers and the rest as its payload: both ways are one loop.
 */
#ifndef LASTHOP_DATAPATH_OFFLOAD_H
#define LASTHOP_DATAPATH_OFFLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "datapath/packet.h"

/* Segments of one packet: TCP sends no less than 8 bytes in each, UDP stacks stop at 128. */
#define OFFLOAD_SEGMENTS_MAX 8192

/*
 * Checks packet->net against the packet and the sender's negotiated features, and repairs what may
 * be repaired: fields and flag bits without meaning here become 0, num_buffers 1, hdr_len the
 * length of the packet's headers; a segmentation that yields one segment is none. What passes
 * agrees with the packet's own headers, so that no receiver must fear it. Common case, no offload
 * at all, is decided inline by the caller: flags == 0 and gso_type == 0 (then it sets the rest to 0
 * and num_buffers to 1). Returns 0, or enum drop_reason + 1 (OFFLOAD_INVALID, OFFLOAD_UNNEGOTIATED,
 * HEADERS_TOO_LONG).
 */
unsigned int offload_check(struct packet *packet, uint64_t sender_features);

/* What the receiver must be spared, by its negotiated features. */
struct offload_todo {
	bool segment;  /* it does not take this gso_type: send segments */
	bool checksum; /* it does not take partial checksums: fill them (in each segment, too) */
};

/* Of a packet that passed offload_check(). */
struct offload_todo offload_todo(const struct packet *packet, uint64_t receiver_features);

/*
 * The net header for the receiver: of each segment, or of the packet whole. num_buffers is 1; the
 * forwarding loop knows better where buffers are merged.
 */
void offload_net(const struct packet *packet, struct offload_todo todo, struct virtio_net_hdr_mrg_rxbuf *net);

/* How a packet is cut. Offsets and lengths in bytes of frame. */
struct offload_plan {
	uint32_t payload_length; /* of all segments together, without padding */
	uint32_t segment_size;   /* payload bytes of every segment but the last */
	uint32_t pseudo_sum;     /* of the pseudo-header without its length */
	uint16_t segment_count;  /* 1 to OFFLOAD_SEGMENTS_MAX */
	uint16_t header_length;  /* in front of each segment's payload, at most PACKET_HEAD_MAX */
	uint16_t l3_offset;
	uint16_t l4_offset;
	uint16_t checksum_start; /* where the sum that the checksum field holds begins */
	uint16_t checksum_field; /* within the headers */
	uint8_t payload_odd;     /* the payload begins at an odd offset from checksum_start */
	uint8_t ip_version;      /* 4 or 6; 0: not cut, headers go out as they are */
	uint8_t ip_proto;        /* TCP or UDP */
};

/*
 * Fills plan for a packet that passed offload_check() and a todo that is not all false.
 * 0, or enum drop_reason + 1 (OUT_OFFLOAD: the checksum field is not staged, or the headers are not
 * what gso_type says; HEADERS_TOO_LONG).
 */
unsigned int offload_plan(const struct packet *packet, struct offload_todo todo, struct offload_plan *plan);

/*
 * Writes segment index's headers (plan->header_length bytes, from packet->head) into header:
 * lengths, IPv4 id and checksum, TCP sequence and flags, UDP length, and in the TCP/UDP checksum
 * field the folded pseudo-header sum (as for a partial checksum). *payload_offset and
 * *payload_length say which bytes of the frame follow.
 */
void offload_segment(const struct packet *packet, const struct offload_plan *plan, unsigned int index,
		     uint8_t header[PACKET_HEAD_MAX], uint32_t *payload_offset, uint32_t *payload_length);

/* Completes the checksum in a segment's header, given the running sum of its payload alone. */
void offload_checksum(const struct offload_plan *plan, uint8_t header[PACKET_HEAD_MAX], uint64_t payload_sum);

#endif
