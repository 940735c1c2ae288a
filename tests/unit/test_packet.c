/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parsing: every field of the key from every kind of frame, what is left 0 for malformed ones, and
 * that nothing is read beyond what is staged (AddressSanitizer watches: see frame.h). And the hash.
 */
#include "unit.h"

#include "datapath/packet.h"
#include "frame.h"

static struct frame frame;

static struct flow_key parse_bytes(const uint8_t *data, uint32_t length, uint32_t staged, enum packet_depth depth)
{
	struct packet *packet = frame_stage(data, length, staged);
	struct flow_key key;

	memset(&key, 0xee, sizeof(key));
	packet_parse(packet, 77, depth, &key);
	frame_free(packet);
	assert_int_equal(key.in_port, 77);
	assert_int_equal(key.stage, 0);
	assert_int_equal(key.zero2, 0);
	return key;
}

static struct flow_key parse(const struct frame_spec *spec)
{
	frame_build(&frame, spec);
	return parse_bytes(frame.data, frame.length, PACKET_HEAD_MAX, PACKET_DEPTH_L4);
}

static struct flow_key parse_again(void)
{
	return parse_bytes(frame.data, frame.length, PACKET_HEAD_MAX, PACKET_DEPTH_L4);
}

static uint32_t hash(void)
{
	struct packet *packet = frame_stage(frame.data, frame.length, PACKET_HEAD_MAX);
	uint32_t value = packet_hash(packet);

	frame_free(packet);
	return value;
}

static void assert_no_l3(const struct flow_key *key)
{
	static const uint8_t zero[sizeof(*key)];

	assert_memory_equal((const uint8_t *)key + 20, zero, sizeof(*key) - 20);
}

static void assert_no_l4(const struct flow_key *key)
{
	assert_int_equal(key->l4_src, 0);
	assert_int_equal(key->l4_dst, 0);
}

static void assert_ports(const struct flow_key *key, uint8_t proto)
{
	assert_int_equal(key->ip_proto, proto);
	assert_int_equal(ntohs(key->l4_src), 0x1234);
	assert_int_equal(ntohs(key->l4_dst), 0x5678);
}

static void assert_ipv4(const struct flow_key *key)
{
	static const uint8_t src[16] = {10, 0, 0, 1}, dst[16] = {10, 0, 0, 254};

	assert_int_equal(key->ip_tos, 0x2e);
	assert_memory_equal(key->ip_src, src, 16);
	assert_memory_equal(key->ip_dst, dst, 16);
}

static void assert_ipv6(const struct flow_key *key)
{
	assert_int_equal(key->ip_tos, 0x2e);
	for (unsigned int i = 0; i < 16; i++) {
		assert_int_equal(key->ip_src[i], 0x20 + i);
		assert_int_equal(key->ip_dst[i], 0x30 + i);
	}
}

static void ethernet(void **state)
{
	static const uint8_t dst[6] = {2, 0, 0, 0, 0, 1}, src[6] = {2, 0, 0, 0, 0, 2};
	struct flow_key key = parse(&(struct frame_spec){.version = 4, .proto = IPPROTO_TCP});

	(void)state;
	assert_memory_equal(key.eth_dst, dst, 6);
	assert_memory_equal(key.eth_src, src, 6);
	assert_int_equal(key.eth_type, htons(0x0800));
	assert_int_equal(key.vlan_tci, 0);
}

static void shallow_is_the_first_three_words(void **state)
{
	struct packet *packet;
	union flow_words deep, shallow, inlined;

	(void)state;
	for (unsigned int tags = 0; tags < 3; tags++) {
		frame_build(&frame, &(struct frame_spec){.tags = tags, .version = 4, .proto = IPPROTO_TCP});
		packet = frame_stage(frame.data, frame.length, PACKET_HEAD_MAX);
		packet_parse(packet, 5, PACKET_DEPTH_L4, &deep.key);
		packet_parse(packet, 5, PACKET_DEPTH_L2, &shallow.key);
		memset(&inlined, 0xee, sizeof(inlined));
		packet_parse_l2(packet, 5, &inlined.key);
		frame_free(packet);
		assert_no_l3(&shallow.key);
		assert_memory_equal(&shallow, &deep, 20);
		assert_memory_equal(&shallow, &inlined, 24);
		assert_memory_equal((uint8_t *)&inlined + 24,
				    "\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee"
				    "\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee"
				    "\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee",
				    40);
	}
}

static void vlan(void **state)
{
	struct flow_key key;

	(void)state;
	key = parse(&(struct frame_spec){.tags = 1, .version = 4, .proto = IPPROTO_UDP});
	assert_int_equal(ntohs(key.vlan_tci), 0xa000 | FLOW_VLAN_PRESENT | 100);
	assert_int_equal(ntohs(key.eth_type), 0x0800);
	assert_ports(&key, IPPROTO_UDP);

	/* A priority tag of all zeros is still a tag. */
	bytes_store16(frame.data + 14, 0);
	key = parse_again();
	assert_int_equal(ntohs(key.vlan_tci), FLOW_VLAN_PRESENT);

	/* The outermost tag is matched, L3 is found behind both. */
	key = parse(&(struct frame_spec){.tags = 2, .version = 6, .proto = IPPROTO_UDP});
	assert_int_equal(ntohs(key.vlan_tci), 0xa000 | FLOW_VLAN_PRESENT | 100);
	assert_int_equal(ntohs(key.eth_type), 0x8100);
	assert_ipv6(&key);
	assert_ports(&key, IPPROTO_UDP);

	key = parse(&(struct frame_spec){.tags = 3, .version = 4, .proto = IPPROTO_UDP});
	assert_int_equal(ntohs(key.eth_type), 0x88a8);
	assert_no_l3(&key);
}

static void tag_cut_off(void **state)
{
	struct flow_key key;

	(void)state;
	frame_build(&frame, &(struct frame_spec){.tags = 2, .version = 4, .proto = IPPROTO_UDP});
	for (uint32_t length = 14; length < 18; length++) {
		key = parse_bytes(frame.data, length, length, PACKET_DEPTH_L4);
		assert_int_equal(key.vlan_tci, 0);
		assert_int_equal(key.eth_type, 0);
		assert_no_l3(&key);
	}
	for (uint32_t length = 18; length < 22; length++) {
		key = parse_bytes(frame.data, length, length, PACKET_DEPTH_L4);
		assert_int_equal(ntohs(key.eth_type), 0x8100);
		assert_no_l3(&key);
	}
}

static void length_field(void **state)
{
	struct flow_key key;

	(void)state;
	frame_build(&frame, &(struct frame_spec){.version = 4, .proto = IPPROTO_UDP});
	bytes_store16(frame.data + 12, 0x05ff);
	key = parse_again();
	assert_int_equal(key.eth_type, 0);
	assert_no_l3(&key);
	bytes_store16(frame.data + 12, 0x0600);
	key = parse_again();
	assert_int_equal(ntohs(key.eth_type), 0x0600);
	frame_build(&frame, &(struct frame_spec){.tags = 1, .version = 4, .proto = IPPROTO_UDP});
	bytes_store16(frame.data + 16, 46);
	key = parse_again();
	assert_int_equal(key.eth_type, 0);
	assert_int_not_equal(key.vlan_tci, 0);
}

static void arp(void **state)
{
	static const uint8_t request[42] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0,  0, 0, 0, 2, 0x08, 0x06, 0, 1, 8, 0,  6, 4, 0,
		1,    2,    0,    0,    0,    0,    2, 10, 1, 2, 3, 0, 0,    0,    0, 0, 0, 10, 1, 2, 4,
	};
	static const uint8_t src[16] = {10, 1, 2, 3}, dst[16] = {10, 1, 2, 4};
	struct flow_key key = parse_bytes(request, 42, 42, PACKET_DEPTH_L4);
	uint8_t other[42];

	(void)state;
	assert_int_equal(ntohs(key.eth_type), 0x0806);
	assert_memory_equal(key.ip_src, src, 16);
	assert_memory_equal(key.ip_dst, dst, 16);
	assert_int_equal(key.ip_proto, 0);
	for (uint32_t length = 14; length < 42; length++) {
		key = parse_bytes(request, length, length, PACKET_DEPTH_L4);
		assert_no_l3(&key);
	}
	memcpy(other, request, sizeof(other));
	other[18] = 8;
	key = parse_bytes(other, 42, 42, PACKET_DEPTH_L4);
	assert_no_l3(&key);
}

static void ipv4(void **state)
{
	static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP};
	struct flow_key key;

	(void)state;
	for (unsigned int i = 0; i < sizeof(protos); i++) {
		for (unsigned int options = 0; options <= 40; options += 4) {
			key = parse(&(struct frame_spec){.version = 4,
							 .ip_options = options,
							 .proto = protos[i],
							 .payload = 20,
							 .padding = options});
			assert_ipv4(&key);
			assert_ports(&key, protos[i]);
			assert_int_equal(key.ip_fragment, 0);
		}
	}
}

static void icmp(void **state)
{
	struct flow_key key;

	(void)state;
	key = parse(&(struct frame_spec){.version = 4, .proto = IPPROTO_ICMP});
	assert_int_equal(ntohs(key.l4_src), 0x12);
	assert_int_equal(ntohs(key.l4_dst), 0x34);
	key = parse(&(struct frame_spec){.version = 6, .proto = IPPROTO_ICMPV6});
	assert_int_equal(ntohs(key.l4_src), 0x12);
	assert_int_equal(ntohs(key.l4_dst), 0x34);
	key = parse(&(struct frame_spec){.version = 6, .proto = IPPROTO_ICMP});
	assert_no_l4(&key);
	key = parse(&(struct frame_spec){.version = 4, .proto = IPPROTO_GRE});
	assert_int_equal(key.ip_proto, IPPROTO_GRE);
	assert_no_l4(&key);
}

static void ipv4_malformed(void **state)
{
	static const struct {
		uint8_t at, value;
	} changes[] = {
		{0, 0x44}, /* header shorter than a header */
		{0, 0x65}, /* version 6 */
		{0, 0x4f}, /* header longer than the packet */
		{2, 0x01}, /* longer than the frame */
		{3, 19},   /* shorter than its header */
	};
	struct flow_key key;

	(void)state;
	for (unsigned int i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		frame_build(&frame, &(struct frame_spec){.version = 4, .proto = IPPROTO_TCP});
		frame.data[14 + changes[i].at] = changes[i].value;
		key = parse_again();
		assert_int_equal(ntohs(key.eth_type), 0x0800);
		assert_no_l3(&key);
	}

	/* Ports in the padding are none. */
	frame_build(&frame, &(struct frame_spec){.version = 4, .proto = IPPROTO_TCP, .payload = 20});
	for (uint16_t length = 20; length < 40; length++) {
		bytes_store16(frame.data + 16, length);
		key = parse_again();
		assert_ipv4(&key);
		assert_int_equal(key.ip_proto, IPPROTO_TCP);
		assert_no_l4(&key);
	}
}

static void ipv4_fragments(void **state)
{
	struct flow_key key;

	(void)state;
	frame_build(&frame, &(struct frame_spec){.version = 4, .proto = IPPROTO_UDP, .payload = 16});
	bytes_store16(frame.data + 20, 0x2000);
	key = parse_again();
	assert_int_equal(key.ip_fragment, FLOW_FRAGMENT_ANY);
	assert_ports(&key, IPPROTO_UDP);
	bytes_store16(frame.data + 20, 0x2001);
	key = parse_again();
	assert_int_equal(key.ip_fragment, FLOW_FRAGMENT_ANY | FLOW_FRAGMENT_LATER);
	assert_int_equal(key.ip_proto, IPPROTO_UDP);
	assert_no_l4(&key);
	bytes_store16(frame.data + 20, 0x1fff);
	key = parse_again();
	assert_int_equal(key.ip_fragment, FLOW_FRAGMENT_ANY | FLOW_FRAGMENT_LATER);
	bytes_store16(frame.data + 20, 0xc000);
	key = parse_again();
	assert_int_equal(key.ip_fragment, 0);
}

static void ipv6_extensions(void **state)
{
	static const uint8_t kinds[] = {IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS, IPPROTO_FRAGMENT};
	struct frame_spec spec = {.version = 6, .proto = IPPROTO_TCP};
	struct flow_key key;

	(void)state;
	for (unsigned int count = 0; count <= 8; count++) {
		for (unsigned int i = 0; i < count; i++)
			spec.extensions[i] = kinds[(i + count) % 4];
		spec.extension_count = count;
		for (spec.extension_size = 8; spec.extension_size <= 16; spec.extension_size += 8) {
			key = parse(&spec);
			assert_ipv6(&key);
			assert_ports(&key, IPPROTO_TCP);
			assert_int_equal(key.ip_fragment, 0);
		}
	}

	/* One more than is followed, and the last of many that are not staged. */
	spec.extension_count = 9;
	spec.extension_size = 8;
	key = parse(&spec);
	assert_ipv6(&key);
	assert_int_equal(key.ip_proto, 0);
	assert_no_l4(&key);
	spec.extension_count = 6;
	spec.extension_size = 64;
	key = parse(&spec);
	assert_ipv6(&key);
	assert_int_equal(key.ip_proto, 0);
	assert_no_l4(&key);
}

static void ipv6_malformed(void **state)
{
	struct frame_spec spec = {
		.version = 6, .proto = IPPROTO_UDP, .extensions = {IPPROTO_DSTOPTS}, .extension_count = 1};
	struct flow_key key;

	(void)state;
	frame_build(&frame, &spec);
	frame.data[14] = 0x40;
	key = parse_again();
	assert_no_l3(&key);

	frame_build(&frame, &spec);
	frame.data[14 + 5]++;
	key = parse_again();
	assert_no_l3(&key);

	/* An extension longer than the packet; a packet without room for the extension it names. */
	frame_build(&frame, &spec);
	frame.data[14 + 41] = 2;
	key = parse_again();
	assert_ipv6(&key);
	assert_int_equal(key.ip_proto, 0);
	assert_no_l4(&key);
	frame_build(&frame, &spec);
	bytes_store16(frame.data + 14 + 4, 0);
	key = parse_again();
	assert_ipv6(&key);
	assert_int_equal(key.ip_proto, 0);
}

static void ipv6_fragments(void **state)
{
	struct frame_spec spec = {.version = 6,
				  .proto = IPPROTO_UDP,
				  .extensions = {IPPROTO_HOPOPTS, IPPROTO_FRAGMENT},
				  .extension_count = 2};
	struct flow_key key;

	(void)state;
	frame_build(&frame, &spec);
	bytes_store16(frame.data + 14 + 40 + 8 + 2, 1);
	key = parse_again();
	assert_int_equal(key.ip_fragment, FLOW_FRAGMENT_ANY);
	assert_ports(&key, IPPROTO_UDP);
	bytes_store16(frame.data + 14 + 40 + 8 + 2, 8);
	key = parse_again();
	assert_int_equal(key.ip_fragment, FLOW_FRAGMENT_ANY | FLOW_FRAGMENT_LATER);
	assert_int_equal(key.ip_proto, IPPROTO_UDP);
	assert_no_l4(&key);
}

/* Whatever is staged, fields are right or 0; AddressSanitizer sees to the rest. */
static void every_cut(void **state)
{
	static const struct frame_spec specs[] = {
		{.tags = 2, .version = 4, .ip_options = 40, .proto = IPPROTO_TCP, .payload = 50},
		{.tags = 1, .version = 4, .proto = IPPROTO_ICMP, .payload = 3},
		{.version = 6,
		 .extensions = {IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_FRAGMENT, IPPROTO_DSTOPTS},
		 .extension_count = 4,
		 .extension_size = 24,
		 .proto = IPPROTO_SCTP,
		 .payload = 30},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct flow_key whole = parse(&specs[i]);
		const uint8_t *right = (const uint8_t *)&whole;

		for (uint32_t staged = 14; staged <= frame.length; staged++) {
			struct flow_key key = parse_bytes(frame.data, frame.length, staged, PACKET_DEPTH_L4);
			const uint8_t *bytes = (const uint8_t *)&key;

			for (unsigned int at = 0; at < sizeof(key); at++)
				assert_true(bytes[at] == right[at] || bytes[at] == 0);
			parse_bytes(frame.data, staged, staged, PACKET_DEPTH_L4);
		}
	}
}

static void hash_keeps_a_connection_together(void **state)
{
	uint32_t first, other;

	(void)state;
	frame_build(&frame, &(struct frame_spec){.version = 4, .proto = IPPROTO_TCP, .payload = 100});
	first = hash();
	frame_build(&frame, &(struct frame_spec){.tags = 1, .version = 4, .proto = IPPROTO_TCP, .payload = 9});
	frame.data[frame.l3 + 1] = 0;
	frame.data[frame.l4 + 7]++;
	assert_int_equal(hash(), first);
	frame.data[frame.l4 + 1]++;
	other = hash();
	assert_int_not_equal(other, first);
}

static void hash_keeps_fragments_together(void **state)
{
	struct frame_spec spec = {.version = 4, .proto = IPPROTO_UDP, .payload = 100};
	uint32_t first;

	(void)state;
	frame_build(&frame, &spec);
	bytes_store16(frame.data + 20, 0x2000);
	first = hash();
	bytes_store16(frame.data + 20, 0x2001);
	memset(frame.data + frame.l4, 0x77, 8);
	assert_int_equal(hash(), first);

	/* The first has options before its transport header, which the later ones do not know of.
	 */
	spec = (struct frame_spec){.version = 6,
				   .proto = IPPROTO_UDP,
				   .extensions = {IPPROTO_FRAGMENT, IPPROTO_DSTOPTS},
				   .extension_count = 2};
	frame_build(&frame, &spec);
	bytes_store16(frame.data + 14 + 40 + 2, 1);
	first = hash();
	bytes_store16(frame.data + 14 + 40 + 2, 8);
	assert_int_equal(hash(), first);
}

static void hash_spreads(void **state)
{
	unsigned int counts[16] = {0};

	(void)state;
	for (unsigned int version = 4; version <= 6; version += 2) {
		frame_build(&frame, &(struct frame_spec){.version = version, .proto = IPPROTO_UDP});
		for (unsigned int i = 0; i < 1600; i++) {
			bytes_store16(frame.data + frame.l4, (uint16_t)(40000 + i));
			counts[hash() % 16]++;
		}
	}
	/* Anything that is not IP goes by its MAC addresses. */
	bytes_store16(frame.data + 12, 0x1234);
	for (unsigned int i = 0; i < 1600; i++) {
		bytes_store16(frame.data + 10, (uint16_t)i);
		counts[hash() % 16]++;
	}
	for (unsigned int i = 0; i < 16; i++)
		assert_in_range(counts[i], 200, 400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ethernet),
		cmocka_unit_test(shallow_is_the_first_three_words),
		cmocka_unit_test(vlan),
		cmocka_unit_test(tag_cut_off),
		cmocka_unit_test(length_field),
		cmocka_unit_test(arp),
		cmocka_unit_test(ipv4),
		cmocka_unit_test(icmp),
		cmocka_unit_test(ipv4_malformed),
		cmocka_unit_test(ipv4_fragments),
		cmocka_unit_test(ipv6_extensions),
		cmocka_unit_test(ipv6_malformed),
		cmocka_unit_test(ipv6_fragments),
		cmocka_unit_test(every_cut),
		cmocka_unit_test(hash_keeps_a_connection_together),
		cmocka_unit_test(hash_keeps_fragments_together),
		cmocka_unit_test(hash_spreads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
