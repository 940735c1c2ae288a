/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What must hold of every batch that was coalesced, whatever was in it: each frame is in the result once; who was not
 * merged is as it was; what was merged passes the core's check of offloads, and is, taken apart by the core's own
 * segmentation, what it was made of; and the frames of a stream are in order. For unit tests and the fuzzer.
 */
#ifndef TESTS_UNIT_GRO_CHECK_H
#define TESTS_UNIT_GRO_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/bytes.h"
#include "datapath/checksum.h"
#include "datapath/offload.h"
#include "driver/gro.h"
#include "frame.h"

#define GRO_CHECK_ROOM 9728 /* bytes of a buffer */

struct gro_check {
	uint64_t features;
	unsigned int count;
	struct driver_frame frames[DRIVER_BATCH];
	uint8_t buffers[DRIVER_BATCH][GRO_CHECK_ROOM];
	uint8_t before[DRIVER_BATCH][GRO_CHECK_ROOM];
	uint32_t sizes[DRIVER_BATCH]; /* of before, net header included */
	int streams[DRIVER_BATCH];    /* what is to stay in order; -1: anything goes */
	uint8_t merged[FRAME_MAX + 64];
	uint8_t segment[FRAME_MAX + 64];
};

#define GRO_CHECK(condition)                                                            \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

/* A frame that came from the device, its net header zero. Returns where it begins. */
static inline uint8_t *gro_check_add(struct gro_check *check, const uint8_t *data, uint32_t length, int stream)
{
	unsigned int i = check->count++;
	unsigned int header = virtio_net_hdr_len(check->features);
	struct driver_frame *frame = &check->frames[i];

	GRO_CHECK(i < DRIVER_BATCH && header + length <= GRO_CHECK_ROOM);
	*frame = (struct driver_frame){
		.data = check->buffers[i],
		.size = header + length,
		.room = GRO_CHECK_ROOM,
		.buffer = i,
	};
	memset(frame->data, 0, header);
	memcpy(frame->data + header, data, length);
	check->streams[i] = stream;
	return frame->data + header;
}

/* One's complement has two zeros: what says the same is made the same. */
static inline void gro_check_zero(uint8_t *checksum)
{
	if (checksum[0] == 0 && checksum[1] == 0)
		memset(checksum, 0xff, 2);
}

static inline bool gro_check_same(uint8_t *got, const uint8_t *want, uint32_t length, const struct offload_plan *plan,
				  bool ids_count, bool trusted)
{
	static uint8_t copy[GRO_CHECK_ROOM];

	GRO_CHECK(length <= sizeof(copy));
	memcpy(copy, want, length);
	gro_check_zero(copy + plan->checksum_field);
	gro_check_zero(got + plan->checksum_field);
	/* What had none yet has got one, and what a device called good is good now. */
	if (trusted)
		memcpy(copy + plan->checksum_field, got + plan->checksum_field, 2);
	if (plan->ip_version == 4 && !ids_count) {
		memcpy(copy + plan->l3_offset + 4, got + plan->l3_offset + 4, 2);
		memcpy(copy + plan->l3_offset + 10, got + plan->l3_offset + 10, 2);
	} else if (plan->ip_version == 4) {
		gro_check_zero(copy + plan->l3_offset + 10);
		gro_check_zero(got + plan->l3_offset + 10);
	}
	return memcmp(got, copy, length) == 0;
}

static inline uint16_t gro_check_id(const struct gro_check *check, const struct driver_frame *frame,
				    const struct offload_plan *plan)
{
	return bytes_load16(check->before[frame - check->frames] + virtio_net_hdr_len(check->features) +
			    plan->l3_offset + 4);
}

static inline void gro_check_merged(struct gro_check *check, struct driver_frame *first)
{
	const struct offload_todo todo = {.segment = true, .checksum = true};
	unsigned int net_header = virtio_net_hdr_len(check->features), index = 0;
	struct virtio_net_hdr net, before;
	struct offload_plan plan;
	struct packet *packet;
	uint32_t length = 0;
	bool ids_count;

	for (const struct driver_frame *piece = first; piece; piece = piece->next) {
		uint32_t skip = piece == first ? net_header : 0;

		GRO_CHECK(piece->size > skip && length + piece->size - skip <= GRO_SIZE_MAX);
		memcpy(check->merged + length, piece->data + skip, piece->size - skip);
		length += piece->size - skip;
	}
	memcpy(&net, first->data, sizeof(net));
	packet = frame_stage(check->merged, length, PACKET_HEAD_MAX);
	packet->net.hdr = net;
	GRO_CHECK(offload_check(packet, check->features) == 0);
	/* Nothing was repaired. */
	GRO_CHECK(memcmp(&packet->net.hdr, &net, sizeof(net)) == 0);
	GRO_CHECK(offload_plan(packet, todo, &plan) == 0);
	ids_count = plan.ip_version == 6 ||
		    gro_check_id(check, first, &plan) != gro_check_id(check, first->next, &plan);

	for (struct driver_frame *piece = first; piece; piece = piece->next, index++) {
		unsigned int i = (unsigned int)(piece - check->frames);
		uint8_t header[PACKET_HEAD_MAX];
		uint32_t at, size;
		uint64_t sum;

		GRO_CHECK(index < plan.segment_count);
		offload_segment(packet, &plan, index, header, &at, &size);
		sum = checksum_copy(0, check->segment + plan.header_length, check->merged + at, size, plan.payload_odd);
		offload_checksum(&plan, header, sum);
		memcpy(check->segment, header, plan.header_length);
		GRO_CHECK(plan.header_length + size + net_header == check->sizes[i]);
		memcpy(&before, check->before[i], sizeof(before));
		GRO_CHECK(gro_check_same(check->segment, check->before[i] + net_header, plan.header_length + size,
					 &plan, ids_count, before.flags));
	}
	GRO_CHECK(index == plan.segment_count);
	frame_free(packet);
}

/* Coalesces the batch and checks the result. Returns how many frames became part of another. */
static inline unsigned int gro_check_run(struct gro_check *check, unsigned int pieces_max)
{
	bool seen[DRIVER_BATCH] = {false};
	unsigned int out[DRIVER_BATCH], count = 0, parts = 0, merged;
	struct gro gro;

	gro_init(&gro, check->features, pieces_max);
	for (unsigned int i = 0; i < check->count; i++) {
		check->sizes[i] = check->frames[i].size;
		memcpy(check->before[i], check->buffers[i], check->sizes[i]);
		ASAN_POISON_MEMORY_REGION(check->buffers[i] + check->sizes[i], GRO_CHECK_ROOM - check->sizes[i]);
	}
	merged = gro_batch(&gro, check->frames, check->count);
	ASAN_UNPOISON_MEMORY_REGION(check->buffers, sizeof(check->buffers));

	for (unsigned int i = 0; i < check->count; i++) {
		struct driver_frame *frame = &check->frames[i];
		unsigned int pieces = 0;

		if (frame->part)
			continue;
		for (struct driver_frame *piece = frame; piece; piece = piece->next) {
			unsigned int number = (unsigned int)(piece - check->frames);

			GRO_CHECK(number < check->count && !seen[number] && piece->buffer == number);
			GRO_CHECK(piece->part == (piece != frame));
			GRO_CHECK(piece->data >= check->buffers[number] &&
				  piece->data + piece->size <= check->buffers[number] + check->sizes[number]);
			seen[number] = true;
			out[count++] = number;
			pieces++;
		}
		GRO_CHECK(pieces <= pieces_max || pieces == 1);
		parts += pieces - 1;
		if (frame->next)
			gro_check_merged(check, frame);
		else
			GRO_CHECK(frame->size == check->sizes[i] && frame->data == check->buffers[i] &&
				  memcmp(frame->data, check->before[i], frame->size) == 0);
	}
	GRO_CHECK(count == check->count && parts == merged);
	for (unsigned int i = 0; i < count; i++)
		for (unsigned int j = 0; j < i; j++)
			GRO_CHECK(check->streams[out[i]] < 0 || check->streams[out[i]] != check->streams[out[j]] ||
				  out[j] < out[i]);
	return merged;
}

#endif
