/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive coalescing. What holds of every batch is checked by gro_check.h, which takes merged frames apart again with
 * the core's segmentation; here is what gets merged, and what does not.
 */
#include "unit.h"

#include "gro_check.h"

#define FEATURES                                                                                               \
	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | \
	 VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_HOST_USO))

#define ACK 0x10
#define PSH 0x08

struct stream {
	struct frame_spec spec;
	uint32_t sequence;
	uint16_t id;
	uint16_t port;
	uint8_t flags;
	bool id_stays;
};

static struct gro_check check;
static struct frame frame;

static int set_up(void **state)
{
	(void)state;
	check.features = FEATURES;
	check.count = 0;
	return 0;
}

static struct stream make_stream(unsigned int version, uint8_t proto, uint16_t port)
{
	return (struct stream){
		.spec = {.version = version, .proto = proto, .tcp_options = 12},
		.sequence = 0xfffff000, /* wraps on the way */
		.id = 0xfff8,
		.port = port,
		.flags = ACK,
	};
}

static void fill_checksums(struct frame *at, const struct frame_spec *spec)
{
	uint8_t *ip = at->data + at->l3, *l4 = at->data + at->l4;
	uint8_t *field = l4 + (spec->proto == IPPROTO_TCP ? 16 : 6);
	uint32_t size = at->length - spec->padding - at->l4;
	uint16_t sum;

	memset(field, 0, 2);
	sum = (uint16_t)~frame_sum(frame_pseudo_sum(ip, spec->proto, size), l4, size);
	bytes_store16(field, sum ? sum : 0xffff);
	if (spec->version == 4) {
		memset(ip + 10, 0, 2);
		bytes_store16(ip + 10, (uint16_t)~frame_sum(0, ip, 20 + spec->ip_options));
	}
}

/* The stream's next frame, into `frame`. */
static void build(struct stream *stream, unsigned int payload)
{
	uint8_t *l4;

	stream->spec.payload = payload;
	frame_build(&frame, &stream->spec);
	l4 = frame.data + frame.l4;
	for (unsigned int i = 0; i < payload; i++)
		frame.data[frame.payload + i] = (uint8_t)((stream->sequence + i) * 167 + stream->id);
	bytes_store16(l4, stream->port);
	if (stream->spec.proto == IPPROTO_TCP) {
		bytes_store32(l4 + 4, stream->sequence);
		l4[13] = stream->flags;
	}
	if (stream->spec.version == 4)
		bytes_store16(frame.data + frame.l3 + 4, stream->id);
	stream->sequence += payload;
	stream->id = (uint16_t)(stream->id + !stream->id_stays);
	fill_checksums(&frame, &stream->spec);
}

/* Comes from the device. */
static uint8_t *put(struct stream *stream, unsigned int payload)
{
	build(stream, payload);
	return gro_check_add(&check, frame.data, frame.length, stream->port);
}

static void put_many(struct stream *stream, unsigned int n, unsigned int payload)
{
	for (unsigned int i = 0; i < n; i++)
		put(stream, payload);
}

static unsigned int run(void)
{
	unsigned int merged = gro_check_run(&check, DRIVER_BATCH);

	check.count = 0;
	return merged;
}

static void streams_are_merged(void **state)
{
	(void)state;
	for (unsigned int version = 4; version <= 6; version += 2) {
		for (unsigned int tags = 0; tags <= 2; tags++) {
			for (unsigned int options = 0; options <= 40; options += 4) {
				struct stream tcp = make_stream(version, IPPROTO_TCP, 1);
				struct stream udp = make_stream(version, IPPROTO_UDP, 2);

				tcp.spec.tcp_options = options;
				tcp.spec.tags = udp.spec.tags = tags;
				put_many(&tcp, 20, 1448);
				assert_int_equal(run(), 19);
				assert_false(check.frames[0].part);
				assert_true(check.frames[19].part);
				put_many(&tcp, 5, 1447);
				put(&tcp, 1);
				put_many(&udp, 12, 1301);
				put(&udp, 700);
				assert_int_equal(run(), 5 + 12);
			}
		}
	}
}

static void one_frame_is_not_touched(void **state)
{
	struct stream tcp = make_stream(4, IPPROTO_TCP, 1), udp = make_stream(6, IPPROTO_UDP, 2);

	(void)state;
	assert_int_equal(run(), 0);
	put(&tcp, 1448);
	assert_int_equal(run(), 0);
	put(&tcp, 1448);
	put(&udp, 1000);
	assert_int_equal(run(), 0);
}

static void the_net_header_says_what_it_is(void **state)
{
	static const struct {
		unsigned int version;
		uint8_t proto, type, offset;
	} kinds[] = {
		{4, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV4, 16},
		{6, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV6, 16},
		{4, IPPROTO_UDP, VIRTIO_NET_HDR_GSO_UDP_L4, 6},
		{6, IPPROTO_UDP, VIRTIO_NET_HDR_GSO_UDP_L4, 6},
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct stream stream = make_stream(kinds[i].version, kinds[i].proto, 1);
		struct virtio_net_hdr_mrg_rxbuf net;

		put_many(&stream, 3, 900);
		memset(check.buffers[0] + 10, 0xa5, 2); /* num_buffers, as a device may leave it */
		assert_int_equal(run(), 2);
		memcpy(&net, check.frames[0].data, sizeof(net));
		assert_int_equal(net.hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(net.hdr.gso_type, kinds[i].type);
		assert_int_equal(net.hdr.gso_size, 900);
		assert_int_equal(net.hdr.hdr_len, frame.payload);
		assert_int_equal(net.hdr.csum_start, frame.l4);
		assert_int_equal(net.hdr.csum_offset, kinds[i].offset);
		assert_int_equal(net.num_buffers, 0);
	}
}

static void only_what_was_negotiated(void **state)
{
	static const struct {
		unsigned int version;
		uint8_t proto;
		uint64_t feature;
	} kinds[] = {
		{4, IPPROTO_TCP, VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4)},
		{6, IPPROTO_TCP, VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6)},
		{4, IPPROTO_UDP, VIRTIO_BIT(VIRTIO_NET_F_HOST_USO)},
		{6, IPPROTO_UDP, VIRTIO_BIT(VIRTIO_NET_F_HOST_USO)},
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		const uint64_t base = VIRTIO_BIT(VIRTIO_F_VERSION_1);
		const struct {
			uint64_t features;
			unsigned int merged;
			bool wanted;
		} cases[] = {
			{FEATURES, 3, true},
			{base | VIRTIO_BIT(VIRTIO_NET_F_CSUM) | kinds[i].feature, 3, true},
			{kinds[i].feature | VIRTIO_BIT(VIRTIO_NET_F_CSUM), 3, true}, /* a short net header */
			{FEATURES & ~kinds[i].feature, 0, true},
			{base | kinds[i].feature, 0, false},
			{base, 0, false},
		};

		for (unsigned int j = 0; j < ARRAY_SIZE(cases); j++) {
			struct stream stream = make_stream(kinds[i].version, kinds[i].proto, 1);
			struct gro gro;

			check.features = cases[j].features;
			put_many(&stream, 4, 500);
			assert_int_equal(run(), cases[j].merged);
			gro_init(&gro, cases[j].features, 17);
			assert_int_equal(gro_wanted(&gro), cases[j].wanted);
			gro_init(&gro, cases[j].features, 1);
			assert_false(gro_wanted(&gro));
		}
	}
}

static void limits(void **state)
{
	struct stream tcp = make_stream(4, IPPROTO_TCP, 1), udp = make_stream(6, IPPROTO_UDP, 2);

	(void)state;
	/* Bytes: 45 of these fit, and then another frame begins. */
	put_many(&tcp, 64, 1448);
	assert_int_equal(run(), 62);
	assert_false(check.frames[45].part);
	put_many(&udp, 20, 9000);
	assert_int_equal(run(), 17);
	/* Pieces. */
	put_many(&tcp, 60, 100);
	assert_int_equal(gro_check_run(&check, 17), 60 - 4);
	check.count = 0;
	put_many(&tcp, 60, 100);
	assert_int_equal(gro_check_run(&check, 1), 0);
	check.count = 0;
	/* Too little to be believed. */
	put_many(&tcp, 10, 7);
	assert_int_equal(run(), 0);
	put_many(&tcp, 10, 8);
	assert_int_equal(run(), 9);
}

static void sizes_decide(void **state)
{
	struct stream tcp = make_stream(4, IPPROTO_TCP, 1);

	(void)state;
	/* A smaller one is the last, a larger one the first of the next. */
	put(&tcp, 1000);
	put(&tcp, 999);
	put(&tcp, 999);
	put(&tcp, 1000);
	put(&tcp, 1000);
	assert_int_equal(run(), 2);
	assert_true(check.frames[1].part && check.frames[4].part);
	assert_false(check.frames[2].part || check.frames[3].part);
	/* An acknowledgement alone is nobody's part, and those behind it do not overtake it. */
	put_many(&tcp, 2, 1000);
	put(&tcp, 0);
	put_many(&tcp, 2, 1000);
	assert_int_equal(run(), 2);
}

static void sequences_decide(void **state)
{
	struct stream tcp = make_stream(6, IPPROTO_TCP, 1);
	uint32_t begin = tcp.sequence;

	(void)state;
	put_many(&tcp, 3, 1000);
	tcp.sequence += 1000; /* a gap */
	put_many(&tcp, 3, 1000);
	tcp.sequence = begin; /* all over again */
	put_many(&tcp, 3, 1000);
	assert_int_equal(run(), 6);

	for (unsigned int i = 0; i < 10; i++) {
		tcp.sequence -= 2000; /* backwards */
		put(&tcp, 1000);
	}
	assert_int_equal(run(), 0);
	tcp.sequence += 1; /* not all the same */
	put(&tcp, 1000);
	tcp.sequence -= 1;
	put(&tcp, 1000);
	assert_int_equal(run(), 0);
}

static void flags_decide(void **state)
{
	static const uint8_t apart[] = {0x01, 0x02, 0x04, 0x20, 0x40, 0x80};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(apart); i++) {
		struct stream tcp = make_stream(4, IPPROTO_TCP, 1);

		put_many(&tcp, 2, 1000);
		tcp.flags = ACK | apart[i];
		put(&tcp, 1000);
		tcp.flags = ACK;
		put_many(&tcp, 2, 1000);
		assert_int_equal(run(), 2);
	}
	for (unsigned int version = 4; version <= 6; version += 2) {
		struct stream tcp = make_stream(version, IPPROTO_TCP, 1);

		/* What is reserved, or new. */
		for (unsigned int i = 0; i < 3; i++) {
			build(&tcp, 1000);
			frame.data[frame.l4 + 12] |= 1;
			fill_checksums(&frame, &tcp.spec);
			gro_check_add(&check, frame.data, frame.length, 1);
		}
		assert_int_equal(run(), 0);
		/* No ACK: nothing that anybody sends. */
		tcp.flags = 0;
		put_many(&tcp, 3, 1000);
		assert_int_equal(run(), 0);
		/* PSH ends it, and is in the result. */
		tcp.flags = ACK;
		put_many(&tcp, 2, 1000);
		tcp.flags = ACK | PSH;
		put(&tcp, 1000);
		tcp.flags = ACK;
		put_many(&tcp, 2, 1000);
		assert_int_equal(run(), 3);
		assert_int_equal(check.frames[0].data[12 + frame.l4 + 13], ACK | PSH);
		assert_int_equal(check.frames[3].data[12 + frame.l4 + 13], ACK);
		tcp.flags = ACK | PSH;
		put_many(&tcp, 4, 1000);
		assert_int_equal(run(), 0);
	}
}

/* The second of three frames differs in one byte of its headers, and has right checksums. */
static unsigned int differing(unsigned int version, uint8_t proto, int from_l3, int from_l4, uint8_t xor)
{
	struct stream stream = make_stream(version, proto, 1);

	for (unsigned int i = 0; i < 3; i++) {
		build(&stream, 1000);
		if (i == 1) {
			if (from_l4 >= 0)
				frame.data[frame.l4 + (unsigned int)from_l4] ^= xor;
			else
				frame.data[(int)frame.l3 + from_l3] ^= xor;
			fill_checksums(&frame, &stream.spec);
		}
		gro_check_add(&check, frame.data, frame.length, -1);
	}
	return run();
}

static void headers_must_agree(void **state)
{
	(void)state;
	for (int proto = IPPROTO_TCP; proto <= IPPROTO_UDP; proto += IPPROTO_UDP - IPPROTO_TCP) {
		assert_int_equal(differing(4, (uint8_t)proto, 0, -1, 0), 2);
		assert_int_equal(differing(6, (uint8_t)proto, 0, -1, 0), 2);
		/* MAC addresses: nothing is merged over the one that differs. */
		assert_int_equal(differing(4, (uint8_t)proto, -14, -1, 4), 0);
		assert_int_equal(differing(6, (uint8_t)proto, -3, -1, 4), 0);
		/* Class of service, id, DF, reserved bit, time to live. */
		assert_int_equal(differing(4, (uint8_t)proto, 1, -1, 1), 0);
		assert_int_equal(differing(4, (uint8_t)proto, 5, -1, 0x10), 0);
		assert_int_equal(differing(4, (uint8_t)proto, 6, -1, 0x40), 0);
		assert_int_equal(differing(4, (uint8_t)proto, 6, -1, 0x80), 0);
		assert_int_equal(differing(4, (uint8_t)proto, 8, -1, 1), 0);
		/* Class, label, hops. */
		assert_int_equal(differing(6, (uint8_t)proto, 1, -1, 0x10), 0);
		assert_int_equal(differing(6, (uint8_t)proto, 3, -1, 1), 0);
		assert_int_equal(differing(6, (uint8_t)proto, 7, -1, 1), 0);
		/* Of another stream: those around it may be merged. */
		for (int at = 12; at < 20; at++) /* and the ids of those around it do not go on */
			assert_int_equal(differing(4, (uint8_t)proto, at, -1, 0x81), 0);
		assert_int_equal(differing(6, IPPROTO_UDP, 39, -1, 1), 1);
		assert_int_equal(differing(6, IPPROTO_UDP, 0, 3, 1), 1);
	}
	/* Acknowledgement, reserved bits, window, urgent pointer, timestamps. */
	assert_int_equal(differing(4, IPPROTO_TCP, 0, 11, 1), 0);
	assert_int_equal(differing(4, IPPROTO_TCP, 0, 12, 1), 0);
	assert_int_equal(differing(6, IPPROTO_TCP, 0, 15, 1), 0);
	assert_int_equal(differing(6, IPPROTO_TCP, 0, 19, 1), 0);
	for (int at = 20; at < 32; at++)
		assert_int_equal(differing(6, IPPROTO_TCP, 0, at, 1), 0);
}

static void ids(void **state)
{
	struct stream tcp = make_stream(4, IPPROTO_TCP, 1);

	(void)state;
	/* Means nothing with DF, so it may stay: but not now and then. */
	tcp.id_stays = true;
	put_many(&tcp, 5, 1000);
	assert_int_equal(run(), 4);
	put_many(&tcp, 3, 1000);
	tcp.id_stays = false;
	put_many(&tcp, 3, 1000);
	assert_int_equal(run(), 3 + 1);
	/* Without DF it must go on. */
	for (unsigned int stays = 0; stays < 2; stays++) {
		for (unsigned int i = 0; i < 5; i++) {
			tcp.id_stays = stays;
			build(&tcp, 1000);
			frame.data[frame.l3 + 6] = 0;
			fill_checksums(&frame, &tcp.spec);
			gro_check_add(&check, frame.data, frame.length, 1);
		}
		assert_int_equal(run(), stays ? 0 : 4);
	}
}

static void corrupt_frames_stay_corrupt(void **state)
{
	(void)state;
	for (unsigned int version = 4; version <= 6; version += 2) {
		for (int proto = IPPROTO_TCP; proto <= IPPROTO_UDP; proto += IPPROTO_UDP - IPPROTO_TCP) {
			for (unsigned int bad = 0; bad < 4; bad++) {
				struct stream stream = make_stream(version, (uint8_t)proto, 1);

				for (unsigned int i = 0; i < 4; i++) {
					uint8_t *at = put(&stream, 1000);

					if (i == bad)
						at[frame.payload + 500] ^= 0x10;
				}
				assert_int_equal(run(), bad == 0 || bad == 3 ? 2 : 1);
				/* The device's word is taken. */
				stream = make_stream(version, (uint8_t)proto, 1);
				for (unsigned int i = 0; i < 3; i++) {
					uint8_t *at = put(&stream, 1000);

					at[-12] = VIRTIO_NET_HDR_F_DATA_VALID;
				}
				assert_int_equal(run(), 2);
			}
		}
	}
	/* The IPv4 header. */
	for (unsigned int byte = 0; byte < 20; byte++) {
		struct stream tcp = make_stream(4, IPPROTO_TCP, 1);

		for (unsigned int i = 0; i < 3; i++) {
			uint8_t *at = put(&tcp, 1000);

			at[-12] = VIRTIO_NET_HDR_F_DATA_VALID;
			if (i == 1)
				at[frame.l3 + byte] ^= 0x20;
		}
		assert_int_equal(run(), 0);
	}
}

static void a_checksum_that_is_not_there(void **state)
{
	struct stream udp = make_stream(4, IPPROTO_UDP, 1);

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		uint8_t *at = put(&udp, 1000);

		memset(at + frame.l4 + 6, 0, 2);
		at[-12] = VIRTIO_NET_HDR_F_DATA_VALID;
	}
	assert_int_equal(run(), 0);
}

/* Frames from a device that leaves the checksum to us. */
static void partial_checksums(void **state)
{
	static const struct {
		int start, offset;
		unsigned int merged;
	} cases[] = {{0, 16, 4}, {2, 16, 0}, {0, 6, 0}};

	(void)state;
	for (unsigned int c = 0; c < ARRAY_SIZE(cases); c++) {
		struct stream tcp = make_stream(4, IPPROTO_TCP, 1);

		for (unsigned int i = 0; i < 5; i++) {
			uint8_t *at = put(&tcp, 1000);
			struct virtio_net_hdr net = {
				.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				.csum_start = (uint16_t)((int)frame.l4 + cases[c].start),
				.csum_offset = (uint16_t)cases[c].offset,
			};
			uint16_t sum = (uint16_t)frame_pseudo_sum(at + frame.l3, IPPROTO_TCP, frame.length - frame.l4);

			bytes_store16(at + frame.l4 + 16, sum);
			memcpy(at - 12, &net, sizeof(net));
		}
		assert_int_equal(run(), cases[c].merged);
	}
}

static void large_ones_pass(void **state)
{
	struct stream tcp = make_stream(4, IPPROTO_TCP, 1);

	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		uint8_t *at = put(&tcp, i == 2 ? 4000 : 1000);
		const struct virtio_net_hdr net = {
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
			.gso_size = 1000,
			.csum_start = (uint16_t)frame.l4,
			.csum_offset = 16,
		};

		if (i == 2)
			memcpy(at - 12, &net, sizeof(net));
		if (i == 2)
			tcp.id += 3;
	}
	assert_int_equal(run(), 2);
	assert_true(check.frames[1].part && check.frames[4].part);
}

static void streams_interleaved(void **state)
{
	struct stream streams[GRO_FLOWS + 1];

	(void)state;
	for (unsigned int count = 2; count <= GRO_FLOWS + 1; count++) {
		for (unsigned int i = 0; i < count; i++) {
			streams[i] = make_stream(i & 1 ? 6 : 4, i & 2 ? IPPROTO_UDP : IPPROTO_TCP, (uint16_t)(i + 1));
			streams[i].spec.tags = i & 4 ? 1 : 0;
		}
		for (unsigned int i = 0; i < count * 6; i++)
			put(&streams[i % count], 1000);
		/* One too many, and all that take turns fall out of the table. */
		assert_int_equal(run(), count <= GRO_FLOWS ? count * 5 : 0);
	}
}

/* What may belong to any stream stops all, what belongs to none stops nothing. */
static void others_between(void **state)
{
	static const struct frame_spec specs[] = {
		{.version = 4, .proto = IPPROTO_ICMP, .payload = 100},
		{.version = 6, .proto = IPPROTO_ICMPV6, .payload = 100},
		{.version = 4, .proto = IPPROTO_TCP, .payload = 100, .ip_options = 4},
		{.version = 6,
		 .proto = IPPROTO_TCP,
		 .payload = 100,
		 .extensions = {IPPROTO_DSTOPTS},
		 .extension_count = 1},
		{.version = 6,
		 .proto = IPPROTO_TCP,
		 .payload = 100,
		 .extensions = {IPPROTO_FRAGMENT},
		 .extension_count = 1},
	};

	(void)state;
	for (unsigned int s = 0; s < ARRAY_SIZE(specs) + 3; s++) {
		struct stream tcp = make_stream(6, IPPROTO_TCP, 1), udp = make_stream(4, IPPROTO_UDP, 2);
		static const uint8_t arp[60] = {[12] = 0x08, [13] = 0x06}, tiny[10];
		struct frame_spec fragment = {.version = 4, .proto = IPPROTO_UDP, .payload = 100};
		bool passes = s < 2 || s == ARRAY_SIZE(specs);

		put_many(&tcp, 2, 1000);
		put_many(&udp, 2, 1000);
		if (s < ARRAY_SIZE(specs)) {
			frame_build(&frame, &specs[s]);
			gro_check_add(&check, frame.data, frame.length, -1);
		} else if (s == ARRAY_SIZE(specs)) {
			gro_check_add(&check, arp, sizeof(arp), -1);
		} else if (s == ARRAY_SIZE(specs) + 1) {
			gro_check_add(&check, tiny, sizeof(tiny), -1);
		} else {
			frame_build(&frame, &fragment);
			frame.data[frame.l3 + 6] = 0x20; /* more fragments */
			fill_checksums(&frame, &fragment);
			gro_check_add(&check, frame.data, frame.length, -1);
		}
		put_many(&tcp, 2, 1000);
		put_many(&udp, 2, 1000);
		assert_int_equal(run(), passes ? 6 : 4);
	}
}

static void padding_and_cut_frames(void **state)
{
	struct stream tcp = make_stream(4, IPPROTO_TCP, 1);

	(void)state;
	tcp.spec.padding = 6;
	for (unsigned int i = 0; i < 3; i++)
		put(&tcp, 1000)[-12] = VIRTIO_NET_HDR_F_DATA_VALID;
	assert_int_equal(run(), 0);
	/* Whatever is missing at the end, and however little is left. */
	for (unsigned int version = 4; version <= 6; version += 2) {
		for (uint32_t cut = 1; cut < 1000; cut += cut < 900 ? 50 : 1) {
			tcp = make_stream(version, IPPROTO_TCP, 1);
			for (unsigned int i = 0; i < 3; i++) {
				build(&tcp, 900);
				gro_check_add(&check, frame.data,
					      i == 1 ? frame.length - min(cut, frame.length) : frame.length, -1);
			}
			assert_int_equal(run(), 0);
		}
	}
}

/* Frames that the kind delivers in pieces stay in pieces. */
static void pieces_are_left_alone(void **state)
{
	struct stream tcp = make_stream(4, IPPROTO_TCP, 1);
	struct gro gro;

	(void)state;
	put_many(&tcp, 4, 1000);
	check.frames[1].next = &check.frames[2];
	check.frames[2].part = true;
	gro_init(&gro, FEATURES, 64);
	assert_int_equal(gro_batch(&gro, check.frames, 4), 0);
	assert_ptr_equal(check.frames[1].next, &check.frames[2]);
	assert_null(check.frames[0].next);
	assert_null(check.frames[2].next);
}

#define gro_test(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		gro_test(streams_are_merged),
		gro_test(one_frame_is_not_touched),
		gro_test(the_net_header_says_what_it_is),
		gro_test(only_what_was_negotiated),
		gro_test(limits),
		gro_test(sizes_decide),
		gro_test(sequences_decide),
		gro_test(flags_decide),
		gro_test(headers_must_agree),
		gro_test(ids),
		gro_test(corrupt_frames_stay_corrupt),
		gro_test(a_checksum_that_is_not_there),
		gro_test(partial_checksums),
		gro_test(large_ones_pass),
		gro_test(streams_interleaved),
		gro_test(others_between),
		gro_test(padding_and_cut_frames),
		gro_test(pieces_are_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
