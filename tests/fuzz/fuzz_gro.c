/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A batch of frames as a hostile network may send them, coalesced: streams that go on as they should, with any byte
 * changed and checksums mended or not, net headers as a device may write them, and frames of any bytes in between. What
 * is checked is in tests/unit/gro_check.h: taken apart again it is what it was, and streams are in order.
 *
 * Input: features, pieces at most, then commands, each one byte (COMMAND_*) and what it asks for. make_gro_corpus.py
 * writes such files.
 */
#include "../unit/gro_check.h"

#define COMMAND_STREAM  0x07 /* which one */
#define COMMAND_RAW     0x08 /* its frame is: length, bytes */
#define COMMAND_PATCH   0x10 /* offset, what to exclusive-or: one byte changes, of this frame alone */
#define COMMAND_MEND    0x20 /* checksums are computed after that */
#define COMMAND_NET     0x40 /* flags, gso_type, csum_start, csum_offset of the net header */
#define COMMAND_PAYLOAD 0x80 /* the payload's size from now on, times 4, as a byte */

#define STREAMS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct stream {
	struct frame_spec spec;
	uint32_t sequence;
	uint16_t id;
	uint8_t flags;
	uint8_t step;
};

static struct gro_check check;
static struct frame frame;

struct input {
	const uint8_t *data;
	size_t size;
};

static uint8_t next(struct input *input)
{
	if (input->size == 0)
		return 0;
	input->size--;
	return *input->data++;
}

static void mend(const struct frame_spec *spec)
{
	uint8_t *ip = frame.data + frame.l3, *l4 = frame.data + frame.l4;
	uint8_t *field = l4 + (spec->proto == IPPROTO_TCP ? 16 : 6);
	uint32_t size = frame.length - frame.l4;
	uint64_t sum = htons(spec->proto) + (uint64_t)htons((uint16_t)size);
	uint16_t value;

	memset(field, 0, 2);
	sum = spec->version == 4 ? checksum_add(sum, ip + 12, 8, 0) : checksum_add(sum, ip + 8, 32, 0);
	value = checksum_finish(checksum_add(sum, l4, size, 0));
	memcpy(field, &value, 2);
	if (spec->version == 4) {
		memset(ip + 10, 0, 2);
		value = (uint16_t)~checksum_fold(checksum_add(0, ip, 20, 0));
		memcpy(ip + 10, &value, 2);
	}
}

static void build(struct stream *stream, unsigned int number, struct input *input, uint8_t command)
{
	uint8_t *l4;

	if (command & COMMAND_PAYLOAD)
		stream->spec.payload = next(input) * 4u;
	frame_build(&frame, &stream->spec);
	l4 = frame.data + frame.l4;
	l4[1] = (uint8_t)number;
	if (stream->spec.proto == IPPROTO_TCP) {
		bytes_store32(l4 + 4, stream->sequence);
		l4[13] = stream->flags;
	}
	if (stream->spec.version == 4)
		bytes_store16(frame.data + frame.l3 + 4, stream->id);
	stream->sequence += stream->spec.payload;
	stream->id = (uint16_t)(stream->id + stream->step);
	mend(&stream->spec);
	if (command & COMMAND_PATCH) {
		uint8_t at = next(input);

		frame.data[at % frame.length] ^= next(input);
	}
	if (command & COMMAND_MEND)
		mend(&stream->spec);
}

static void raw(struct input *input)
{
	frame.length = next(input);
	for (uint32_t i = 0; i < frame.length; i++)
		frame.data[i] = next(input);
}

/* Frames that the switch takes for one connection's must stay in order. */
static int stream_of(const uint8_t *data, uint32_t length)
{
	static struct flow_key keys[DRIVER_BATCH];
	struct packet *packet;
	struct flow_key key;
	unsigned int i;

	memset(&keys[check.count], 0, sizeof(keys[0]));
	if (length < 14)
		return -1;
	packet = frame_stage(data, length, PACKET_HEAD_MAX);
	packet_parse(packet, 0, PACKET_DEPTH_L4, &key);
	frame_free(packet);
	if (key.ip_proto == 0)
		return -1;
	keys[check.count] = key;
	for (i = 0; i < check.count; i++) {
		if (keys[i].ip_proto == key.ip_proto && memcmp(keys[i].ip_src, key.ip_src, 16) == 0 &&
		    memcmp(keys[i].ip_dst, key.ip_dst, 16) == 0 && keys[i].l4_src == key.l4_src &&
		    keys[i].l4_dst == key.l4_dst)
			break;
	}
	return (int)i;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned int bits[] = {VIRTIO_F_VERSION_1, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4,
					    VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_USO};
	struct input input = {data, size};
	struct stream streams[STREAMS];
	unsigned int pieces_max;
	uint8_t choice;

	for (unsigned int i = 0; i < STREAMS; i++)
		streams[i] = (struct stream){
			.spec = {.tags = i % 3,
				 .version = i & 1 ? 6 : 4,
				 .proto = i & 2 ? IPPROTO_UDP : IPPROTO_TCP,
				 .tcp_options = i & 4 ? 12 : 0,
				 .payload = 100},
			.sequence = 0xffffff00,
			.id = 0xfff0,
			.flags = 0x10,
			.step = i != 4,
		};
	choice = next(&input);
	check.features = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(bits); i++)
		if (choice & 1u << i)
			check.features |= VIRTIO_BIT(bits[i]);
	pieces_max = next(&input) % (DRIVER_BATCH + 1);
	check.count = 0;
	while (input.size > 0 && check.count < DRIVER_BATCH) {
		uint8_t command = next(&input), *at;
		unsigned int number = command & COMMAND_STREAM;

		if (command & COMMAND_RAW)
			raw(&input);
		else
			build(&streams[number], number, &input, command);
		at = gro_check_add(&check, frame.data, frame.length, stream_of(frame.data, frame.length));
		if (command & COMMAND_NET) {
			struct virtio_net_hdr net = {.flags = next(&input), .gso_type = next(&input)};

			net.csum_start = next(&input);
			net.csum_offset = next(&input);
			memcpy(at - virtio_net_hdr_len(check.features), &net, sizeof(net));
		}
	}
	gro_check_run(&check, pieces_max);
	return 0;
}
