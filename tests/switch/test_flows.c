/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Flows under traffic: packets that wait for one, masks of every field, drops by reason, counters, flows that
 * change while they are used, a hundred thousand of them, and a controller that goes and comes.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/compiler.h"
#include "testbed.h"
#include "traffic.h"

#define ENDS  4
#define FLOWS 100000

static const struct dp_port_add patient = {.wait_us = 10000000};
static const struct traffic_frame some_frames[] = {{.size = 60}, {.size = 1514}, {.size = 200}};

struct room {
	struct testbed bed;
	uint32_t ports[ENDS];
	struct netfront *ends[ENDS];
};

static const char *const names[ENDS] = {"a", "b", "c", "d"};

static void start(struct room *room, unsigned int workers)
{
	testbed_start(&room->bed, workers);
	for (unsigned int i = 0; i < ENDS; i++) {
		room->ports[i] = testbed_port(&room->bed, names[i], &patient);
		room->ends[i] = testbed_attach(&room->bed, names[i], NULL);
		testbed_wait_state(&room->bed, room->ports[i], DP_PORT_UP);
	}
}

static void stop(struct room *room)
{
	for (unsigned int i = 0; i < ENDS; i++)
		netfront_close(room->ends[i]);
	testbed_stop(&room->bed);
}

/* The next event of this type; others are thrown away. */
static void wait_event(struct testbed *bed, enum dp_type type, struct datapath_event *event)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct pollfd poll_fd = {.fd = datapath_client_fd(bed->client), .events = POLLIN};
	int error;

	while (clock_now_ns() < deadline) {
		error = datapath_client_event(bed->client, event);
		if (error == 0 && event->type == type)
			return;
		assert_true(error == 0 || error == -EAGAIN);
		if (error == -EAGAIN)
			poll(&poll_fd, 1, 100);
	}
	fail();
}

static void forget_events(struct testbed *bed)
{
	struct datapath_event event;

	while (datapath_client_event(bed->client, &event) == 0)
		;
}

static uint64_t add_flow(struct testbed *bed, const struct flow_key *key, const struct flow_key *mask,
			 const struct flow_action *action, uint64_t cookie)
{
	union {
		struct dp_flow_add add;
		uint8_t bytes[sizeof(struct dp_flow_add) + sizeof(struct flow_action)];
	} flow = {.add = {.key = *key, .mask = *mask, .action_count = action ? 1 : 0, .cookie = cookie}};
	uint64_t id = UINT64_MAX;

	if (action)
		memcpy(flow.bytes + sizeof(flow.add), action, sizeof(*action));
	assert_int_equal(datapath_client_flow_add(bed->client, &flow.add, &id), 0);
	return id;
}

static uint64_t add_port_flow(struct room *room, unsigned int from, unsigned int to, uint64_t cookie)
{
	const struct flow_key key = {.in_port = room->ports[from]}, mask = {.in_port = UINT32_MAX};
	const struct flow_action action = {.type = FLOW_ACTION_OUTPUT, .value = room->ports[to]};

	return add_flow(&room->bed, &key, &mask, &action, cookie);
}

struct counters {
	uint64_t id;
	unsigned int found;
	uint64_t packets;
	uint64_t bytes;
	uint64_t cookie;
};

static void find_flow(void *arg, const struct dp_flow_info *info)
{
	struct counters *counters = arg;

	if (info->id != counters->id)
		return;
	counters->found++;
	counters->packets = info->packets;
	counters->bytes = info->bytes;
	counters->cookie = info->flow.cookie;
}

static void expect_counters(struct testbed *bed, uint64_t id, uint64_t packets, uint64_t bytes, uint64_t cookie)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct counters counters;

	/* They are written behind the packets. */
	do {
		counters = (struct counters){.id = id};
		assert_int_equal(datapath_client_flow_dump(bed->client, find_flow, &counters), 0);
	} while (counters.packets < packets && clock_now_ns() < deadline);
	assert_int_equal(counters.found, 1);
	assert_int_equal(counters.packets, packets);
	assert_int_equal(counters.bytes, bytes);
	assert_int_equal(counters.cookie, cookie);
}

/* A packet without a flow waits until the controller has answered, and goes then. */
static void a_miss_waits_for_its_flow(void **state)
{
	static struct room room;
	uint8_t frame[200], got[200], mac[6];
	struct datapath_event event;
	struct stats_port stats;
	uint64_t ids[2];

	(void)state;
	start(&room, 2);
	for (unsigned int round = 0; round < 20; round++) {
		bool late;
		uint64_t sent;

		forget_events(&room.bed);
		for (uint32_t i = 0; i < 10; i++) {
			testbed_frame(frame, sizeof(frame), (uint8_t)(100 + i % 2), 1, i);
			assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
		}
		sent = clock_now_ns();
		for (unsigned int i = 0; i < 2; i++) {
			wait_event(&room.bed, DP_EVENT_UPCALL, &event);
			assert_int_equal(event.upcall.key.in_port, room.ports[0]);
			assert_int_equal(event.upcall.key.eth_type, htons(0x88b5));
			assert_int_equal(event.upcall.length, sizeof(frame));
			testbed_mac(mac, 1);
			assert_memory_equal(event.upcall.key.eth_src, mac, 6);
			memcpy(mac, event.upcall.key.eth_dst, 6);
			assert_true(mac[5] == 100 || mac[5] == 101);
			ids[i] = testbed_flow(&room.bed, room.ports[0], mac, &room.ports[1 + mac[5] % 2], 1);
		}
		/* A machine that is slower than the packets' patience proves nothing. */
		late = clock_now_ns() - sent > 50 * NS_PER_MS;
		for (uint32_t i = 0; i < 10 && !late; i++) {
			testbed_frame(frame, sizeof(frame), (uint8_t)(100 + i % 2), 1, i);
			assert_int_equal(testbed_receive(room.ends[1 + i % 2], 0, NULL, got, sizeof(got)), sizeof(got));
			assert_memory_equal(got, frame, sizeof(frame));
		}
		assert_int_equal(datapath_client_flow_del(room.bed.client, ids[0]), 0);
		if (late || ids[0] == ids[1]) {
			break;
		}
		assert_int_equal(datapath_client_flow_del(room.bed.client, ids[1]), 0);
	}
	testbed_stats(&room.bed, room.ports[0], &stats);
	assert_in_range(stats.upcalls, 2, 1000);
	stop(&room);
}

/* Nobody answers: the packets are lost by name, and what is behind them goes on. */
static void a_miss_without_an_answer(void **state)
{
	static struct room room;
	uint8_t frame[100], known[6];
	struct stats_port stats;
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;

	(void)state;
	start(&room, 1);
	testbed_mac(known, 2);
	testbed_flow(&room.bed, room.ports[0], known, &room.ports[1], 1);
	for (uint32_t i = 0; i < 20; i++) {
		testbed_frame(frame, sizeof(frame), 77, 1, i);
		assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
	}
	traffic_expect(room.ends[0], room.ends[1], some_frames, ARRAY_SIZE(some_frames));
	testbed_wait_drops(&room.bed, room.ports[0], DROP_NO_FLOW, 20);
	/* One upcall, repeated now and then in case it got lost. */
	testbed_stats(&room.bed, room.ports[0], &stats);
	assert_in_range(stats.upcalls, 1, 100);
	assert_int_equal(stats.in_packets, 23);

	/* A scan: more new addresses than may be asked for at once. All are lost, and each has a reason. */
	for (uint32_t i = 0; i < 3000; i++) {
		testbed_frame(frame, sizeof(frame), 99, 1, i);
		memcpy(frame + 2, &i, 3);
		while (netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)) == -ENOBUFS)
			sched_yield();
	}
	do {
		forget_events(&room.bed);
		testbed_stats(&room.bed, room.ports[0], &stats);
	} while (stats.drops[DROP_NO_FLOW] + stats.drops[DROP_UPCALL_LIMIT] < 3020 && clock_now_ns() < deadline);
	assert_int_equal(stats.drops[DROP_NO_FLOW] + stats.drops[DROP_UPCALL_LIMIT], 3020);
	assert_int_not_equal(stats.drops[DROP_UPCALL_LIMIT], 0);
	traffic_expect(room.ends[0], room.ends[1], some_frames, ARRAY_SIZE(some_frames));
	stop(&room);
}

/*
 * Answers the upcalls of one port with flows to `to`, in the order in which they come, until `count` are answered.
 * Returns whether one of them was for `dst`: a slow machine asks again for what was answered before.
 */
static bool answer_upcalls(struct room *room, unsigned int from, unsigned int to, unsigned int count,
			   const uint8_t dst[6])
{
	struct datapath_event event;
	bool found = false;

	for (unsigned int answered = 0; answered < count && datapath_client_event(room->bed.client, &event) == 0;) {
		if (event.type != DP_EVENT_UPCALL || event.upcall.key.in_port != room->ports[from])
			continue;
		testbed_flow(&room->bed, room->ports[from], event.upcall.key.eth_dst, &room->ports[to], 1);
		found |= memcmp(event.upcall.key.eth_dst, dst, 6) == 0;
		answered++;
	}
	return found;
}

/* Who is answered may ask on: a thousand addresses cost no packet, at whatever rate they come. */
static void answers_are_credit(void **state)
{
	static struct room room;
	uint8_t frame[64], got[64];
	struct stats_port stats = {0};
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	uint32_t sent = 0, received = 0;
	struct netfront_frame frames[32];
	bool in_order = true;

	(void)state;
	start(&room, 1);
	testbed_frame(frame, sizeof(frame), 0, 1, 0);
	while (received < 1000 && clock_now_ns() < deadline) {
		int n;

		memcpy(frame + 2, &sent, 4);
		if (sent < 1000 && netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)) == 0)
			sent++;
		(void)answer_upcalls(&room, 0, 1, 64, frame);
		n = netfront_receive(room.ends[1], 0, frames, ARRAY_SIZE(frames));
		assert_true(n >= 0);
		for (int i = 0; i < n; i++) {
			assert_int_equal(netfront_frame_copy(&frames[i], 0, got, sizeof(got)), sizeof(got));
			in_order &= memcmp(got + 2, &received, 4) == 0;
			received++;
		}
		assert_true(netfront_recycle(room.ends[1], 0) >= 0);
		testbed_stats(&room.bed, room.ports[0], &stats);
		/* A machine that is slower than the packets' patience proves nothing. */
		if (stats.drops[DROP_NO_FLOW])
			break;
	}
	assert_int_equal(stats.drops[DROP_UPCALL_LIMIT], 0);
	if (!stats.drops[DROP_NO_FLOW]) {
		assert_int_equal(received, 1000);
		assert_true(in_order);
	}
	stop(&room);
}

/* A port that scans addresses gets no answers; another one asks beside it, and does. */
static void a_scan_harms_nobody_else(void **state)
{
	static struct room room;
	uint8_t scan[64], frame[64], got[64];
	struct stats_port stats;
	uint32_t number = 0, received = 0;
	uint64_t begin = clock_now_ns();

	(void)state;
	start(&room, 1);
	testbed_frame(scan, sizeof(scan), 0, 3, 0);
	do {
		memcpy(scan + 2, &number, 4);
		number += netfront_send_frame(room.ends[2], 0, scan, sizeof(scan)) == 0;
		forget_events(&room.bed);
		testbed_stats(&room.bed, room.ports[2], &stats);
	} while (!stats.drops[DROP_UPCALL_LIMIT] && clock_now_ns() - begin < PATIENCE_NS);
	assert_int_not_equal(stats.drops[DROP_UPCALL_LIMIT], 0);
	for (uint32_t round = 0; round < 50; round++) {
		uint64_t sent = clock_now_ns();

		testbed_frame(frame, sizeof(frame), (uint8_t)(100 + round), 1, round);
		assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
		for (bool answered = false; !answered && clock_now_ns() - sent < PATIENCE_NS;) {
			for (unsigned int i = 0; i < 32; i++) {
				memcpy(scan + 2, &number, 4);
				number += netfront_send_frame(room.ends[2], 0, scan, sizeof(scan)) == 0;
			}
			answered = answer_upcalls(&room, 0, 1, 1, frame);
		}
		if (clock_now_ns() - sent > 50 * NS_PER_MS)
			continue;
		assert_int_equal(testbed_receive(room.ends[1], 0, NULL, got, sizeof(got)), sizeof(got));
		/* What an earlier, slower round left behind comes first. */
		while (memcmp(got, frame, sizeof(frame)) != 0)
			assert_int_equal(testbed_receive(room.ends[1], 0, NULL, got, sizeof(got)), sizeof(got));
		received++;
	}
	assert_int_not_equal(received, 0);
	testbed_stats(&room.bed, room.ports[0], &stats);
	assert_int_equal(stats.drops[DROP_UPCALL_LIMIT], 0);
	stop(&room);
}

/* masks */

/* A frame of this kind, changed at one place; a flow with a mask of the field that this place is. */
struct field {
	const char *name;
	struct frame_spec spec;
	int32_t at; /* offset of the byte to change: >= 0 in the frame, else l4 + ~at */
	uint8_t values[2];
	size_t field; /* offset and size in the key */
	size_t size;
};

#define FIELD(member) .field = offsetof(struct flow_key, member), .size = sizeof(((struct flow_key *)NULL)->member)
#define L4(at)        (~(at))
#define IP4(p)                                            \
	{                                                 \
		.version = 4, .proto = (p), .payload = 64 \
	}
#define IP6(p)                                            \
	{                                                 \
		.version = 6, .proto = (p), .payload = 64 \
	}
#define UDP IPPROTO_UDP
#define TCP IPPROTO_TCP

static const struct field fields[] = {
	{"eth_dst", IP4(UDP), 5, {1, 2}, FIELD(eth_dst)},
	{"eth_src", IP4(UDP), 11, {1, 2}, FIELD(eth_src)},
	{"eth_type", IP4(UDP), 13, {0x06, 0x07}, FIELD(eth_type)},
	{"vlan", {.version = 4, .proto = UDP, .payload = 64, .tags = 1}, 15, {1, 2}, FIELD(vlan_tci)},
	{"ip4 tos", IP4(UDP), 15, {0, 0xb8}, FIELD(ip_tos)},
	{"ip4 proto", IP4(UDP), 23, {47, 50}, FIELD(ip_proto)},
	{"ip4 src", IP4(UDP), 29, {1, 2}, FIELD(ip_src)},
	{"ip4 dst", IP4(TCP), 33, {1, 2}, FIELD(ip_dst)},
	{"ip4 fragment", IP4(UDP), 20, {0x00, 0x20}, FIELD(ip_fragment)},
	{"ip6 src", IP6(UDP), 29, {1, 2}, FIELD(ip_src)},
	{"ip6 dst", IP6(TCP), 53, {1, 2}, FIELD(ip_dst)},
	{"ip6 tos", IP6(TCP), 14, {0x60, 0x61}, FIELD(ip_tos)},
	{"udp4 src", IP4(UDP), L4(1), {1, 2}, FIELD(l4_src)},
	{"udp4 dst", IP4(UDP), L4(3), {1, 2}, FIELD(l4_dst)},
	{"tcp6 src", IP6(TCP), L4(1), {1, 2}, FIELD(l4_src)},
	{"tcp6 dst", IP6(TCP), L4(2), {1, 2}, FIELD(l4_dst)},
	{"udp6 behind extensions",
	 {.version = 6,
	  .proto = UDP,
	  .payload = 64,
	  .extensions = {IPPROTO_HOPOPTS, IPPROTO_DSTOPTS},
	  .extension_count = 2},
	 L4(3),
	 {1, 2},
	 FIELD(l4_dst)},
	{"tagged tcp6", {.version = 6, .proto = TCP, .payload = 64, .tags = 2}, L4(3), {1, 2}, FIELD(l4_dst)},
};

static void build_field(const struct field *field, unsigned int value, struct frame *frame)
{
	frame_build(frame, &field->spec);
	frame->data[field->at >= 0 ? (uint32_t)field->at : frame->l4 + (uint32_t)~field->at] = field->values[value];
}

static void key_of(const struct frame *frame, uint32_t in_port, struct flow_key *key)
{
	struct packet *packet = frame_stage(frame->data, frame->length, PACKET_HEAD_FIRST);

	packet_parse(packet, in_port, PACKET_DEPTH_L4, key);
	frame_free(packet);
}

/* Two flows that differ in this field alone tell two packets apart that differ there alone. */
static void masks_of_every_field(void **state)
{
	static struct frame frames[2];
	static uint8_t got[2048];
	static struct room room;

	(void)state;
	start(&room, 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(fields); i++) {
		struct flow_key key, mask = {.in_port = UINT32_MAX};
		uint64_t ids[2];

		memset((uint8_t *)&mask + fields[i].field, 0xff, fields[i].size);
		for (unsigned int value = 0; value < 2; value++) {
			const struct flow_action action = {
				.type = FLOW_ACTION_OUTPUT,
				.value = room.ports[1 + value],
			};

			build_field(&fields[i], value, &frames[value]);
			key_of(&frames[value], room.ports[0], &key);
			ids[value] = add_flow(&room.bed, &key, &mask, &action, i);
		}
		assert_int_not_equal(ids[0], ids[1]);
		for (unsigned int j = 0; j < 20; j++) {
			unsigned int value = j / 3 % 2;

			assert_int_equal(netfront_send_frame(room.ends[0], 0, frames[value].data, frames[value].length),
					 0);
		}
		for (unsigned int j = 0; j < 20; j++) {
			unsigned int value = j / 3 % 2;

			if (testbed_receive(room.ends[1 + value], 0, NULL, got, sizeof(got)) != frames[value].length) {
				print_error("%s: not where it belongs\n", fields[i].name);
				fail();
			}
			assert_memory_equal(got, frames[value].data, frames[value].length);
		}
		expect_counters(&room.bed, ids[0], 11, 11 * frames[0].length, i);
		expect_counters(&room.bed, ids[1], 9, 9 * frames[1].length, i);
		for (unsigned int value = 0; value < 2; value++)
			assert_int_equal(datapath_client_flow_del(room.bed.client, ids[value]), 0);
	}
	stop(&room);
}

/* Deep and shallow masks at once: what is wide does not hide what is beside it. */
static void masks_side_by_side(void **state)
{
	static struct room room;
	static struct frame deep;
	static uint8_t got[2048];
	const struct frame_spec spec = {.version = 4, .proto = IPPROTO_UDP, .payload = 64};
	struct flow_key key, mask = {.in_port = UINT32_MAX, .l4_dst = UINT16_MAX, .ip_proto = UINT8_MAX};
	struct flow_action action = {.type = FLOW_ACTION_OUTPUT};
	uint8_t mac[6];

	(void)state;
	start(&room, 1);
	testbed_mac(mac, 2);
	testbed_flow(&room.bed, room.ports[0], mac, &room.ports[1], 1);
	frame_build(&deep, &spec);
	key_of(&deep, room.ports[0], &key);
	for (unsigned int round = 0; round < 50; round++) {
		uint64_t id;

		action.value = room.ports[2 + round % 2];
		id = add_flow(&room.bed, &key, &mask, &action, 0);
		for (unsigned int i = 0; i < 10; i++)
			assert_int_equal(netfront_send_frame(room.ends[0], 0, deep.data, deep.length), 0);
		traffic_expect(room.ends[0], room.ends[1], some_frames, ARRAY_SIZE(some_frames));
		for (unsigned int i = 0; i < 10; i++)
			assert_int_equal(testbed_receive(room.ends[2 + round % 2], 0, NULL, got, sizeof(got)),
					 deep.length);
		assert_int_equal(datapath_client_flow_del(room.bed.client, id), 0);
	}
	stop(&room);
}

/* Sources and destinations are flows of their own: a packet needs both, waits for either, and both count it. */
static void two_stages(void **state)
{
	static struct room room;
	const struct flow_action on = {.type = FLOW_ACTION_STAGE, .value = FLOW_STAGE_SECOND};
	const struct flow_key src_mask = {.in_port = UINT32_MAX, .eth_src = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
	const struct flow_key dst_mask = {.in_port = UINT32_MAX, .eth_dst = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
	struct flow_key key = {0};
	struct datapath_event event = {0};
	uint64_t sources[3] = {0}, destinations[2] = {0};
	struct stats_port stats;
	uint8_t frame[100], got[100];

	(void)state;
	start(&room, 1);
	key.in_port = room.ports[0];
	for (uint8_t src = 0; src < 3; src++) {
		testbed_mac(key.eth_src, (uint8_t)(1 + src));
		sources[src] = add_flow(&room.bed, &key, &src_mask, &on, 0);
	}
	/* The second stage is asked for by name. */
	testbed_frame(frame, sizeof(frame), 100, 1, 0);
	assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
	wait_event(&room.bed, DP_EVENT_UPCALL, &event);
	assert_int_equal(event.upcall.key.stage, FLOW_STAGE_SECOND);
	assert_memory_equal(event.upcall.key.eth_dst, frame, 6);
	key.stage = FLOW_STAGE_SECOND;
	for (uint8_t dst = 0; dst < 2; dst++) {
		const struct flow_action action = {.type = FLOW_ACTION_OUTPUT, .value = room.ports[1 + dst]};

		testbed_mac(key.eth_dst, (uint8_t)(100 + dst));
		destinations[dst] = add_flow(&room.bed, &key, &dst_mask, &action, 0);
	}
	/* It was for the first of them, if the machine was quick enough; all the others are. */
	testbed_wait_in(&room.bed, room.ports[0], 1);
	testbed_stats(&room.bed, room.ports[1], &stats);
	if (stats.out_packets)
		assert_int_equal(testbed_receive(room.ends[1], 0, NULL, got, sizeof(got)), sizeof(got));
	for (uint32_t i = 1; i < 60; i++) {
		testbed_frame(frame, sizeof(frame), (uint8_t)(100 + i % 2), (uint8_t)(1 + i % 3), i);
		assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
	}
	for (uint32_t i = 1; i < 60; i++) {
		testbed_frame(frame, sizeof(frame), (uint8_t)(100 + i % 2), (uint8_t)(1 + i % 3), i);
		assert_int_equal(testbed_receive(room.ends[1 + i % 2], 0, NULL, got, sizeof(got)), sizeof(got));
		assert_memory_equal(got, frame, sizeof(frame));
	}
	expect_counters(&room.bed, sources[1], 20, 20 * sizeof(frame), 0);
	expect_counters(&room.bed, sources[2], 20, 20 * sizeof(frame), 0);
	expect_counters(&room.bed, destinations[1], 30, 30 * sizeof(frame), 0);
	/* Without its source's flow none passes, whatever is known of the destination. */
	assert_int_equal(datapath_client_flow_del(room.bed.client, sources[1]), 0);
	forget_events(&room.bed);
	testbed_frame(frame, sizeof(frame), 101, 2, 0);
	assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
	wait_event(&room.bed, DP_EVENT_UPCALL, &event);
	assert_int_equal(event.upcall.key.stage, FLOW_STAGE_FIRST);
	testbed_wait_drops(&room.bed, room.ports[0], DROP_NO_FLOW, 1);
	stop(&room);
}

static void drops_by_reason(void **state)
{
	static struct room room;
	const struct flow_key mask = {.in_port = UINT32_MAX};
	struct flow_key key = {0};
	struct flow_action action = {.type = FLOW_ACTION_DROP};
	uint8_t frame[60], got[60];
	uint32_t both[2];
	struct stats_port stats;
	uint64_t id = 0, many, bytes = 0;

	(void)state;
	start(&room, 1);
	key.in_port = room.ports[0];
	testbed_frame(frame, sizeof(frame), 2, 1, 0);
	for (unsigned int reason = 0; reason < DROP_COUNT; reason++) {
		action.value = reason;
		id = add_flow(&room.bed, &key, &mask, &action, reason);
		for (unsigned int i = 0; i <= reason; i++)
			assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
		testbed_wait_drops(&room.bed, room.ports[0], (enum drop_reason)reason, reason + 1);
		bytes += (reason + 1) * sizeof(frame);
	}
	/* It was one flow all the time, and it counted all the time. */
	expect_counters(&room.bed, id, bytes / sizeof(frame), bytes, DROP_COUNT - 1);

	/* No action at all is a reason of its own. */
	assert_int_equal(add_flow(&room.bed, &key, &mask, NULL, 0), id);
	assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
	testbed_wait_drops(&room.bed, room.ports[0], DROP_FLOW_DROP, DROP_FLOW_DROP + 2);

	/* To a port that is not there, or not any more. */
	action = (struct flow_action){.type = FLOW_ACTION_OUTPUT, .value = 1000};
	assert_int_equal(add_flow(&room.bed, &key, &mask, &action, 0), id);
	assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
	testbed_wait_drops(&room.bed, 1000, DROP_OUT_DOWN, 1);
	netfront_close(room.ends[3]);
	room.ends[3] = NULL;
	testbed_wait_state(&room.bed, room.ports[3], DP_PORT_DOWN);
	action.value = room.ports[3];
	assert_int_equal(add_flow(&room.bed, &key, &mask, &action, 0), id);
	assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
	testbed_wait_drops(&room.bed, room.ports[3], DROP_OUT_DOWN, 1);

	/* One of many is no loss there; the others get theirs. */
	both[0] = room.ports[1];
	both[1] = room.ports[3];
	assert_int_equal(datapath_client_flow_del(room.bed.client, id), 0);
	many = testbed_flow(&room.bed, room.ports[0], frame, both, 2);
	assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
	assert_int_equal(testbed_receive(room.ends[1], 0, NULL, got, sizeof(got)), sizeof(frame));
	testbed_stats(&room.bed, room.ports[3], &stats);
	assert_int_equal(stats.drops[DROP_OUT_DOWN], 1);
	assert_int_equal(datapath_client_flow_del(room.bed.client, many), 0);
	add_flow(&room.bed, &key, &mask, &action, 0);

	/* A port that comes to an index begins at 0, whoever was there. */
	assert_int_equal(datapath_client_port_del(room.bed.client, room.ports[3]), 0);
	assert_int_equal(netfront_send_frame(room.ends[0], 0, frame, sizeof(frame)), 0);
	testbed_wait_drops(&room.bed, room.ports[3], DROP_OUT_DOWN, 1);
	assert_int_equal(testbed_port(&room.bed, "again", NULL), room.ports[3]);
	testbed_stats(&room.bed, room.ports[3], &stats);
	assert_int_equal(stats.drops[DROP_OUT_DOWN], 0);
	stop(&room);
}

/* under traffic */

static void begin_stream(struct room *room, struct traffic *traffic)
{
	*traffic = (struct traffic){
		.from = room->ends[0],
		.to = room->ends[1],
		.frames = some_frames,
		.frame_count = ARRAY_SIZE(some_frames),
		.limit = UINT32_MAX,
		.dst = 2,
		.src = 1,
	};
}

static void end_stream(struct room *room, struct traffic *traffic)
{
	struct stats_port a, b;

	traffic->limit = traffic->sent;
	traffic_run(traffic);
	traffic_expect_silence(traffic->to, 0);
	testbed_wait_in(&room->bed, room->ports[0], traffic->limit);
	testbed_stats(&room->bed, room->ports[0], &a);
	testbed_stats(&room->bed, room->ports[1], &b);
	for (unsigned int i = 0; i < DROP_COUNT; i++) {
		assert_int_equal(a.drops[i], 0);
		assert_int_equal(b.drops[i], 0);
	}
}

/* The flow in use is replaced, and others come and go. */
static void replaced_under_traffic(void **state)
{
	static struct room room;
	struct traffic traffic;
	uint64_t id, bytes = 0;

	(void)state;
	start(&room, 2);
	begin_stream(&room, &traffic);
	id = add_port_flow(&room, 0, 1, 0);
	for (uint32_t round = 0; round < 300; round++) {
		uint8_t mac[6];
		uint64_t other;

		assert_int_equal(add_port_flow(&room, 0, 1, round), id);
		testbed_mac(mac, (uint8_t)round);
		other = testbed_flow(&room.bed, room.ports[2], mac, &room.ports[3], 1);
		traffic_step(&traffic);
		assert_int_equal(datapath_client_flow_del(room.bed.client, other), 0);
		traffic_step(&traffic);
	}
	end_stream(&room, &traffic);
	for (uint32_t i = 0; i < traffic.sent; i++)
		bytes += some_frames[i % ARRAY_SIZE(some_frames)].size;
	expect_counters(&room.bed, id, traffic.sent, bytes, 299);
	stop(&room);
}

/* It is gone for a moment: packets wait for it. */
static void removed_under_traffic(void **state)
{
	static struct room room;
	struct traffic traffic;
	uint64_t id;
	bool late = false;

	(void)state;
	start(&room, 2);
	begin_stream(&room, &traffic);
	id = add_port_flow(&room, 0, 1, 0);
	for (uint32_t round = 0; round < 300 && !late; round++) {
		uint64_t gone = clock_now_ns(), old = id;

		traffic_step(&traffic);
		assert_int_equal(datapath_client_flow_del(room.bed.client, id), 0);
		if (round % 3 == 0)
			traffic_step(&traffic);
		id = add_port_flow(&room, 0, 1, round);
		assert_int_not_equal(id, old);
		assert_int_equal(datapath_client_flow_del(room.bed.client, old), -ENOENT);
		/* A machine that is slower than the packets' patience proves nothing. */
		late = clock_now_ns() - gone > 50 * NS_PER_MS;
		traffic_step(&traffic);
		forget_events(&room.bed);
	}
	if (!late)
		end_stream(&room, &traffic);
	stop(&room);
}

/* Receives at port `end`; every number must be new, and later than the last one there. */
static void note_numbers(struct netfront *end, uint8_t *seen, uint32_t sent, uint32_t *count, int64_t *last)
{
	struct netfront_frame frames[32];
	uint8_t frame[2048];
	int n = netfront_receive(end, 0, frames, 32);

	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		uint32_t number;

		assert_true(netfront_frame_copy(&frames[i], 0, frame, sizeof(frame)) >= TRAFFIC_NUMBER + 4);
		number = bytes_load32(frame + TRAFFIC_NUMBER);
		assert_true(number < sent);
		assert_int_equal(seen[number], 0);
		assert_true(number > *last);
		*last = number;
		seen[number] = 1;
		++*count;
	}
	assert_true(netfront_recycle(end, 0) >= 0);
}

/* A flow that leads elsewhere from now on: each packet arrives once, at one of the two, in order at each. */
static void moved_under_traffic(void **state)
{
	static struct room room;
	static uint8_t seen[100000];
	struct traffic traffic;
	uint32_t count = 0;
	int64_t last[2] = {-1, -1};
	uint64_t deadline;

	(void)state;
	start(&room, 2);
	begin_stream(&room, &traffic);
	memset(seen, 0, sizeof(seen));
	for (uint32_t round = 0; round < 500; round++) {
		add_port_flow(&room, 0, 1 + round % 2, round);
		traffic_send(&traffic);
		assert_true(traffic.sent < sizeof(seen));
		note_numbers(room.ends[1], seen, traffic.sent, &count, &last[0]);
		note_numbers(room.ends[2], seen, traffic.sent, &count, &last[1]);
	}
	deadline = clock_now_ns() + PATIENCE_NS;
	while (count < traffic.sent && clock_now_ns() < deadline) {
		note_numbers(room.ends[1], seen, traffic.sent, &count, &last[0]);
		note_numbers(room.ends[2], seen, traffic.sent, &count, &last[1]);
	}
	assert_int_equal(count, traffic.sent);
	stop(&room);
}

/* a hundred thousand */

struct census {
	uint32_t count;
	uint8_t seen[FLOWS];
	uint64_t ids[FLOWS];
};

static void count_flow(void *arg, const struct dp_flow_info *info)
{
	struct census *census = arg;
	uint64_t cookie = info->flow.cookie;

	assert_true(cookie < FLOWS);
	assert_int_equal(census->seen[cookie], 0);
	assert_int_equal(info->id, census->ids[cookie]);
	assert_int_equal(info->flow.key.ip_dst[3], cookie & 0xff);
	census->seen[cookie] = 1;
	census->count++;
}

static void a_hundred_thousand(void **state)
{
	static struct room room;
	static struct census census;
	const struct flow_key mask = {
		.in_port = UINT32_MAX,
		.ip_dst = {0xff, 0xff, 0xff, 0xff},
	};
	struct flow_key key = {0};
	const struct flow_action drop = {.type = FLOW_ACTION_DROP, .value = DROP_FLOW_DROP};

	(void)state;
	start(&room, 1);
	key.in_port = room.ports[2];
	for (uint32_t i = 0; i < FLOWS; i++) {
		bytes_store32(key.ip_dst, i);
		census.ids[i] = add_flow(&room.bed, &key, &mask, &drop, i);
	}
	add_flow(&room.bed, &key, &mask, &drop, FLOWS - 1);
	assert_int_equal(datapath_client_flow_dump(room.bed.client, count_flow, &census), 0);
	assert_int_equal(census.count, FLOWS);
	/* Half of them go; the others stay what they were. */
	for (uint32_t i = 0; i < FLOWS; i += 2)
		assert_int_equal(datapath_client_flow_del(room.bed.client, census.ids[i]), 0);
	assert_int_equal(datapath_client_flow_del(room.bed.client, census.ids[0]), -ENOENT);
	census.count = 0;
	memset(census.seen, 0, sizeof(census.seen));
	assert_int_equal(datapath_client_flow_dump(room.bed.client, count_flow, &census), 0);
	assert_int_equal(census.count, FLOWS / 2);
	assert_int_equal(census.seen[0], 0);
	assert_int_equal(census.seen[1], 1);
	/* Nobody else is hindered by them. */
	testbed_wire(&room.bed, room.ports[0], room.ports[1]);
	traffic_expect(room.ends[0], room.ends[1], some_frames, ARRAY_SIZE(some_frames));
	stop(&room);
}

/* controllers */

static void count_any(void *arg, const struct dp_flow_info *info)
{
	(void)info;
	++*(unsigned int *)arg;
}

static void controllers_come_and_go(void **state)
{
	static struct room room;
	struct traffic traffic;
	struct dp_port_info info;
	uint64_t id, instance;

	(void)state;
	start(&room, 2);
	begin_stream(&room, &traffic);
	id = add_port_flow(&room, 0, 1, 4711);
	instance = room.bed.hello.instance;
	for (unsigned int round = 0; round < 50; round++) {
		struct counters counters = {.id = id};
		unsigned int flows = 0;

		testbed_close_client(&room.bed);
		for (unsigned int i = 0; i < 5; i++)
			traffic_step(&traffic);
		testbed_open_client(&room.bed);
		assert_int_equal(room.bed.hello.instance, instance);
		traffic_step(&traffic);
		assert_int_equal(datapath_client_flow_dump(room.bed.client, find_flow, &counters), 0);
		assert_int_equal(counters.found, 1);
		assert_int_equal(counters.cookie, 4711);
		assert_int_equal(datapath_client_flow_dump(room.bed.client, count_any, &flows), 0);
		assert_int_equal(flows, 1);
		testbed_info(&room.bed, room.ports[1], &info);
		assert_string_equal(info.config.name, "b");
		assert_int_equal(info.state, DP_PORT_UP);
	}
	end_stream(&room, &traffic);
	stop(&room);
}

/* The older one finds out that it is not in charge any more. */
static void the_newest_controller_rules(void **state)
{
	static struct testbed bed;
	struct datapath_client *old;
	struct datapath_event event;
	struct dp_port_info info;
	uint32_t port;

	(void)state;
	testbed_start(&bed, 1);
	port = testbed_port(&bed, "a", NULL);
	old = bed.client;
	testbed_open_client(&bed);
	testbed_info(&bed, port, &info);
	assert_int_equal(datapath_client_event(old, &event), -ENOTCONN);
	assert_int_equal(datapath_client_port_del(old, port), -ENOTCONN);
	testbed_info(&bed, port, &info);
	datapath_client_close(old);
	testbed_info(&bed, port, &info);
	testbed_stop(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_miss_waits_for_its_flow),
		cmocka_unit_test(a_miss_without_an_answer),
		cmocka_unit_test(answers_are_credit),
		cmocka_unit_test(a_scan_harms_nobody_else),
		cmocka_unit_test(masks_of_every_field),
		cmocka_unit_test(masks_side_by_side),
		cmocka_unit_test(two_stages),
		cmocka_unit_test(drops_by_reason),
		cmocka_unit_test(replaced_under_traffic),
		cmocka_unit_test(removed_under_traffic),
		cmocka_unit_test(moved_under_traffic),
		cmocka_unit_test(a_hundred_thousand),
		cmocka_unit_test(controllers_come_and_go),
		cmocka_unit_test(the_newest_controller_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
