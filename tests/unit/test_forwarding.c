/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the control plane decides, against a data plane without packets: learning, flooding, moves,
 * limits, ageing, and taking over after a restart.
 */
#include "fake_datapath.h"

#define A      "52:54:00:00:00:0a"
#define B      "52:54:00:00:00:0b"
#define C      "52:54:00:00:00:0c"
#define ALL    "ff:ff:ff:ff:ff:ff"
#define IPV4_M "01:00:5e:00:00:fb"
#define IPV6_M "33:33:00:00:00:01"

static struct fake_datapath *fake;

static int setup(void **state)
{
	(void)state;
	fake = fake_datapath_new();
	assert_non_null(forwarding_bridge_add(&fake->fwd, "br0", 300));
	assert_non_null(forwarding_bridge_add(&fake->fwd, "br1", 300));
	for (uint32_t port = 0; port < 4; port++)
		fake_join(fake, "br0", port, 8);
	fake_join(fake, "br1", 4, 8);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_datapath_free(fake);
	return 0;
}

static void test_learn(void **state)
{
	(void)state;
	assert_string_equal(fake_send(fake, 0, A, B), "1 2 3");
	assert_string_equal(fake_send(fake, 1, B, A), "0");
	/* The flow that flooded was changed in place. */
	assert_string_equal(fake_send(fake, 0, A, B), "1");
	assert_int_equal(fake->flow_count, 4);
	assert_int_equal(fake->adds, 5);
}

static void test_no_flow_for_a_connection(void **state)
{
	(void)state;
	fake_send(fake, 0, A, B);
	fake_send(fake, 1, B, A);
	fake->adds = 0;
	for (unsigned int i = 0; i < 1000; i++) {
		fake_send(fake, 0, A, B);
		fake_send(fake, 1, B, A);
	}
	assert_int_equal(fake->adds, 0);
	assert_int_equal(fake->flow_count, 4);
}

/* Stations times stations need a flow for each, not for each pair; and an upcall for each. */
static void test_pairs_share_flows(void **state)
{
	char src[32], dst[32];

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		snprintf(dst, sizeof(dst), "52:54:00:01:00:%02x", i);
		fake_send(fake, 1, dst, ALL);
	}
	fake->adds = 0;
	for (unsigned int i = 0; i < 64; i++) {
		snprintf(src, sizeof(src), "52:54:00:02:00:%02x", i % 8);
		snprintf(dst, sizeof(dst), "52:54:00:01:00:%02x", i / 8);
		assert_string_equal(fake_send(fake, 0, src, dst), "1");
	}
	assert_int_equal(fake->adds, 16);
	assert_int_equal(fake->ports[0].flow_count, 16);
}

static void test_groups(void **state)
{
	(void)state;
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 2 3");
	assert_string_equal(fake_send(fake, 0, A, IPV6_M), "1 2 3");
	assert_string_equal(fake_send(fake, 0, A, IPV4_M), "1 2 3");
	assert_int_equal(fake->flow_count, 4);
	assert_string_equal(fake_send(fake, 0, A, "33:33:ff:12:34:56"), "1 2 3");
	assert_string_equal(fake_send(fake, 0, A, "01:00:5e:7f:ff:fa"), "1 2 3");
	assert_int_equal(fake->flow_count, 4);
	/* Another bridge's members get none of it. */
	assert_string_equal(fake_send(fake, 4, A, ALL), "");
}

static void test_reserved_groups(void **state)
{
	(void)state;
	/* Whichever comes first, none hides the other. */
	assert_string_equal(fake_send(fake, 0, A, "01:80:c2:00:00:10"), "1 2 3");
	assert_string_equal(fake_send(fake, 0, A, "01:80:c2:00:00:00"), "drop flow-drop");
	assert_string_equal(fake_send(fake, 0, A, IPV4_M), "1 2 3");
	assert_string_equal(fake_send(fake, 0, A, "01:80:c2:00:00:0e"), "drop flow-drop");
	assert_string_equal(fake_send(fake, 0, A, "01:80:c2:00:00:0f"), "drop flow-drop");
	assert_string_equal(fake_send(fake, 0, A, "01:80:c2:00:01:00"), "1 2 3");
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 2 3");
	assert_string_equal(fake_send(fake, 0, A, "01:80:c2:00:00:00"), "drop flow-drop");
}

static void test_foreign_sources(void **state)
{
	(void)state;
	assert_string_equal(fake_send(fake, 0, ALL, B), "drop flow-drop");
	assert_string_equal(fake_send(fake, 0, IPV4_M, ALL), "drop flow-drop");
	assert_int_equal(fake->flow_count, 1);
	assert_string_equal(fake_send(fake, 0, "00:00:00:00:00:00", B), "drop flow-drop");
	assert_string_equal(fake_send(fake, 0, "00:00:00:00:00:00", ALL), "drop flow-drop");
	assert_int_equal(fake->flow_count, 2);
	assert_int_equal(fake->ports[0].macs.count, 0);
}

static void test_hairpin(void **state)
{
	(void)state;
	fake_send(fake, 0, A, ALL);
	assert_string_equal(fake_send(fake, 0, B, A), "drop hairpin");
	assert_string_equal(fake_send(fake, 0, A, A), "drop hairpin");
	/* B turns out to be elsewhere, and A can be reached from there. */
	assert_string_equal(fake_send(fake, 2, B, A), "0");
	assert_string_equal(fake_send(fake, 0, A, B), "2");
}

static void test_move(void **state)
{
	(void)state;
	fake_send(fake, 0, A, B);
	fake_send(fake, 1, B, A);
	fake_send(fake, 2, C, B);
	/* B speaks from port 2: flows to it follow at once, those from it at port 1 are gone. */
	assert_string_equal(fake_send(fake, 2, B, A), "0");
	assert_string_equal(fake_send(fake, 0, A, B), "2");
	assert_string_equal(fake_send(fake, 2, C, B), "drop hairpin");
	assert_int_equal(fake->fwd.moves, 1);
	/* And back. */
	assert_string_equal(fake_send(fake, 1, B, A), "0");
	assert_string_equal(fake_send(fake, 2, C, B), "1");
	assert_int_equal(fake->fwd.moves, 2);
}

static void test_move_storm(void **state)
{
	unsigned int adds;

	(void)state;
	for (unsigned int i = 0; i < 100; i++)
		assert_string_equal(fake_send(fake, i % 2, A, ALL), i % 2 ? "0 2 3" : "1 2 3");
	assert_int_equal(fake->fwd.moves, MAC_MOVES_MAX);
	adds = fake->adds;
	for (unsigned int i = 0; i < 100; i++)
		fake_send(fake, i % 2, A, ALL);
	assert_int_equal(fake->adds, adds);
	/* Once it is quiet it is followed again. */
	fake_wait(fake, 30);
	fake_send(fake, 3, A, ALL);
	assert_string_equal(fake_send(fake, 2, B, A), "3");
}

static void test_mac_limit(void **state)
{
	char mac[32];

	(void)state;
	fake_send(fake, 1, B, ALL);
	for (unsigned int i = 0; i < 8; i++) {
		snprintf(mac, sizeof(mac), "52:54:00:01:00:%02x", i);
		assert_string_equal(fake_send(fake, 0, mac, B), "1");
	}
	assert_string_equal(fake_send(fake, 0, A, B), "drop mac-limit");
	assert_string_equal(fake_send(fake, 0, A, ALL), "drop mac-limit");
	/* Not even another port's address can be taken. */
	assert_string_equal(fake_send(fake, 0, B, ALL), "drop mac-limit");
	assert_string_equal(fake_send(fake, 2, C, B), "1");
	/* There is room again: what was refused is tried anew. */
	fake_wait(fake, 310);
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 2 3");
}

static void test_mac_flood(void **state)
{
	char mac[32];

	(void)state;
	fake_send(fake, 1, B, C);
	fake_send(fake, 2, C, B);
	for (unsigned int i = 0; i < 5000; i++) {
		snprintf(mac, sizeof(mac), "52:54:00:02:%02x:%02x", i >> 8, i & 0xff);
		fake_send(fake, 0, mac, B);
	}
	assert_int_equal(fake->ports[0].macs.count, 8);
	assert_true(fake->flow_count <= 4 + 8 + 1 + PORT_UNLEARNED_MAX);
	assert_true(fake->ports[0].unanswered > 4000);
	assert_string_equal(fake_send(fake, 1, B, C), "2");
	assert_string_equal(fake_send(fake, 2, C, B), "1");
}

static void test_destination_flood(void **state)
{
	char mac[32];

	(void)state;
	fake_send(fake, 1, B, C);
	fake_send(fake, 2, C, B);
	fake->fwd.flows_max = 5 * 100;
	for (unsigned int i = 0; i < 1000; i++) {
		fake->now_ns += 10 * NS_PER_MS;
		snprintf(mac, sizeof(mac), "52:54:00:03:%02x:%02x", i >> 8, i & 0xff);
		fake_send(fake, 0, A, mac);
	}
	assert_int_equal(fake->ports[0].flow_count, 100);
	assert_string_equal(fake_send(fake, 1, B, C), "2");
	/* Flows to nowhere do not live long, and leave nothing. */
	fake_wait(fake, 15);
	assert_int_equal(fake->ports[0].flow_count, 1);
	assert_int_equal(forwarding_bridge_find(&fake->fwd, "br0")->macs.hash.count, 3);
}

static void test_data_plane_full(void **state)
{
	(void)state;
	fake->flows_max = 1;
	assert_string_equal(fake_send(fake, 0, A, B), "unanswered");
	fake->flows_max = 2;
	assert_string_equal(fake_send(fake, 0, A, B), "1 2 3");
	assert_string_equal(fake_send(fake, 1, B, A), "unanswered");
	fake->flows_max = 0;
	assert_string_equal(fake_send(fake, 1, B, A), "0");
	assert_string_equal(fake_send(fake, 0, A, B), "1");
}

static void test_members_change(void **state)
{
	(void)state;
	fake_send(fake, 0, A, ALL);
	fake_send(fake, 0, A, B);
	fake_join(fake, "br0", 7, 8);
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 2 3 7");
	assert_string_equal(fake_send(fake, 0, A, B), "1 2 3 7");
	forwarding_leave(&fake->fwd, &fake->ports[2], fake->now_ns);
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 3 7");
	assert_int_equal(fake->flow_count, 3);
}

static void test_leave(void **state)
{
	(void)state;
	fake_send(fake, 0, A, B);
	fake_send(fake, 1, B, A);
	fake_send(fake, 1, B, C);
	forwarding_leave(&fake->fwd, &fake->ports[1], fake->now_ns);
	assert_int_equal(fake->flow_count, 2);
	assert_string_equal(fake_send(fake, 0, A, B), "2 3");
	/* An upcall of the port that is gone is nobody's. */
	assert_string_equal(fake_send(fake, 1, B, A), "unanswered");
	/* Its index is given to a port of another bridge. */
	fake_join(fake, "br1", 1, 8);
	assert_string_equal(fake_send(fake, 1, B, A), "4");
	assert_string_equal(fake_send(fake, 0, A, B), "2 3");
}

static void test_port_down(void **state)
{
	(void)state;
	fake_send(fake, 0, A, B);
	fake_send(fake, 1, B, A);
	forwarding_port_down(&fake->fwd, &fake->ports[1], fake->now_ns);
	assert_string_equal(fake_send(fake, 0, A, B), "1 2 3");
	assert_int_equal(fake->ports[1].macs.count, 0);
}

/* Who is not there is left out of floods, and in again at once. */
static void test_port_silent(void **state)
{
	uint8_t mac[MAC_SIZE] = {0x52, 0x54, 0, 0, 0, 0x0a};

	(void)state;
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 2 3");
	assert_string_equal(fake_send(fake, 0, A, B), "1 2 3");
	forwarding_port_silent(&fake->fwd, &fake->ports[2], true, fake->now_ns);
	fake->adds = 0;
	forwarding_port_silent(&fake->fwd, &fake->ports[2], true, fake->now_ns);
	assert_int_equal(fake->adds, 0);
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 3");
	assert_string_equal(fake_send(fake, 0, A, B), "1 3");
	forwarding_announce(&fake->fwd, 0, mac, fake->now_ns);
	/* It may speak all the same, and is reached if it is known. */
	assert_string_equal(fake_send(fake, 2, C, A), "0");
	assert_string_equal(fake_send(fake, 0, A, C), "2");
	forwarding_port_silent(&fake->fwd, &fake->ports[2], false, fake->now_ns);
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 2 3");
	/* If that is everybody, what was meant for all has the name that it has where one alone is away. */
	for (unsigned int i = 1; i <= 3; i++)
		forwarding_port_silent(&fake->fwd, &fake->ports[i], true, fake->now_ns);
	assert_string_equal(fake_send(fake, 0, A, ALL), "drop out-down");
	forwarding_port_silent(&fake->fwd, &fake->ports[1], false, fake->now_ns);
	assert_string_equal(fake_send(fake, 0, A, ALL), "1");
	forwarding_port_silent(&fake->fwd, &fake->ports[3], false, fake->now_ns);
	forwarding_leave(&fake->fwd, &fake->ports[2], fake->now_ns);
	fake_join(fake, "br0", 2, 8);
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 2 3");
}

static void test_ageing(void **state)
{
	(void)state;
	fake_send(fake, 0, A, B);
	fake_send(fake, 1, B, A);
	/* A goes on speaking, B does not: its flows go first, then what is known of it. */
	for (unsigned int i = 0; i < 290; i++) {
		assert_string_equal(fake_send(fake, 0, A, B), "1");
		fake_wait(fake, 1);
	}
	assert_int_equal(fake->flow_count, 2);
	for (unsigned int i = 0; i < 20; i++) {
		fake_send(fake, 0, A, B);
		fake_wait(fake, 1);
	}
	assert_string_equal(fake_send(fake, 0, A, B), "1 2 3");
	assert_int_equal(fake->ports[0].macs.count, 1);
	assert_int_equal(fake->ports[1].macs.count, 0);
	fake_wait(fake, 310);
	assert_int_equal(fake->flow_count, 0);
	assert_int_equal(forwarding_bridge_find(&fake->fwd, "br0")->macs.hash.count, 0);
}

static void test_sweep_repairs(void **state)
{
	struct dp_flow_add other = {.key = {.ip_proto = 17}, .mask = {.ip_proto = 0xff}};
	uint64_t id;

	(void)state;
	fake_send(fake, 0, A, ALL);
	/* A flow that is not ours goes; one that the data plane lost is forgotten, and comes again.
	 */
	assert_int_equal(fake_flow_add(fake, &other, &id), 0);
	fake_flow_del(fake, fake->flows[0].id);
	fake->now_ns += NS_PER_S;
	fake_sweep(fake);
	assert_int_equal(fake->flow_count, 1);
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 2 3");
	/* The same without a sweep: the data plane asks although it had the answer. */
	fake_flow_del(fake, fake->flows[0].id);
	fake->now_ns += NS_PER_S;
	assert_string_equal(fake_send(fake, 0, A, ALL), "1 2 3");
}

static void test_announce(void **state)
{
	struct flow_key key = fake_key(2, B, ALL);

	(void)state;
	fake_send(fake, 0, A, B);
	fake_send(fake, 1, B, A);
	forwarding_announce(&fake->fwd, 2, key.eth_src, fake->now_ns);
	assert_string_equal(fake_send(fake, 0, A, B), "2");
	assert_int_equal(fake->sent, 1);
	assert_int_equal(fake->sent_count, 3);
	assert_memory_equal(fake->frame, "\xff\xff\xff\xff\xff\xff\x52\x54\x00\x00\x00\x0b\x80\x35", 14);
	/* Not as often as a front end likes, and not for nonsense. */
	forwarding_announce(&fake->fwd, 2, key.eth_src, fake->now_ns);
	fake->now_ns += NS_PER_S;
	forwarding_announce(&fake->fwd, 2, key.eth_dst, fake->now_ns);
	forwarding_announce(&fake->fwd, 99, key.eth_src, fake->now_ns);
	assert_int_equal(fake->sent, 1);
}

/* A new control plane finds the ports and flows of an old one. */
static void restart(uint64_t sleep_s)
{
	forwarding_reset(&fake->fwd);
	fake->now_ns += sleep_s * NS_PER_S;
	for (uint32_t port = 0; port < 4; port++)
		fake_join(fake, "br0", port, 8);
	fake_join(fake, "br1", 4, 8);
	fake_dump(fake, fake_adopt_flow);
	forwarding_adopted(&fake->fwd, fake->now_ns);
}

static void test_restart_keeps_flows(void **state)
{
	(void)state;
	fake_send(fake, 0, A, B);
	fake_send(fake, 1, B, A);
	fake_send(fake, 0, A, ALL);
	fake_send(fake, 0, A, C);
	fake_send(fake, 0, ALL, B);
	fake_send(fake, 0, "52:54:00:00:00:0d", A);
	fake->adds = 0;
	restart(1);
	assert_int_equal(fake->adds, 0);
	assert_int_equal(fake->flow_count, 9);
	assert_string_equal(fake_send(fake, 2, C, A), "0");
	assert_string_equal(fake_send(fake, 0, A, C), "2");
	assert_int_equal(fake->ports[0].macs.count, 2);
	assert_int_equal(fake->ports[1].macs.count, 1);
}

static void test_restart_knows_silent_destinations(void **state)
{
	(void)state;
	fake_send(fake, 0, A, B);
	fake_send(fake, 1, B, A);
	for (unsigned int i = 0; i < 70; i++) {
		fake_send(fake, 0, A, B);
		fake_wait(fake, 1);
	}
	assert_int_equal(fake->flow_count, 2);
	restart(1);
	assert_string_equal(fake_send(fake, 0, A, B), "1");
	assert_string_equal(fake_send(fake, 2, C, B), "1");
}

static void test_restart_puts_right(void **state)
{
	union {
		struct dp_flow_add flow;
		uint8_t bytes[sizeof(struct dp_flow_add) + 2 * sizeof(struct flow_action)];
	} wrong;
	struct flow_match match;
	struct flow_key key = fake_key(0, A, B);
	uint64_t id;

	(void)state;
	fake_send(fake, 0, A, ALL);
	forwarding_reset(&fake->fwd);
	/* Floods to a port that has left, and to the sender itself; and one of a port unknown. */
	memset(&wrong, 0, sizeof(wrong));
	match = flow_match_destination(0, key.eth_dst);
	flow_match_to_wire(&match, &wrong.flow.key, &wrong.flow.mask);
	wrong.flow.cookie = FLOW_OUTCOME_FLOOD;
	wrong.flow.action_count = 2;
	wrong.flow.actions[0] = (struct flow_action){FLOW_ACTION_OUTPUT, 0, 9};
	wrong.flow.actions[1] = (struct flow_action){FLOW_ACTION_OUTPUT, 0, 0};
	assert_int_equal(fake_flow_add(fake, &wrong.flow, &id), 0);
	wrong.flow.key.in_port = 9;
	assert_int_equal(fake_flow_add(fake, &wrong.flow, &id), 0);
	restart(1);
	assert_int_equal(fake->flow_count, 3);
	assert_string_equal(fake_send(fake, 0, A, B), "1 2 3");
}

static void random_mac(uint8_t mac[6])
{
	static const uint8_t groups[][6] = {
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x01, 0x80, 0xc2, 0, 0, 0x0e},
		{0x01, 0x00, 0x5e, 0, 0, 0xfb},       {0x33, 0x33, 0, 0, 0, 1},
		{0x01, 0x80, 0xc2, 0, 0, 0x21},       {0, 0, 0, 0, 0, 0},
	};

	if (rand() % 4 == 0) {
		memcpy(mac, groups[rand() % 6], 6);
		return;
	}
	memcpy(mac, (uint8_t[6]){0x52, 0x54, 0, 0, 0, (uint8_t)(rand() % 24)}, 6);
}

/* Each flow is as things are now: its ports are there and members of one bridge, none its sender.
 */
static void check_flows(void)
{
	for (uint32_t i = 0; i < fake->flow_count; i++) {
		const struct fake_flow *flow = &fake->flows[i];
		const struct bridge_port *in = fake->fwd.ports[flow->key.in_port];

		assert_non_null(in);
		for (uint32_t j = 0; j < flow->action_count; j++) {
			uint32_t out = flow->actions[j].value;

			if (flow->actions[j].type != FLOW_ACTION_OUTPUT)
				continue;
			assert_true(out != flow->key.in_port);
			assert_non_null(fake->fwd.ports[out]);
			assert_ptr_equal(fake->fwd.ports[out]->bridge, in->bridge);
		}
	}
	assert_int_equal(fake->flow_count, fake->fwd.flows.count);
}

static void random_step(void)
{
	uint32_t port = (uint32_t)rand() % 8;
	struct flow_key key = {.in_port = port};

	switch (rand() % 100) {
	case 0:
		if (fake->fwd.ports[port] == NULL)
			fake_join(fake, port % 2 ? "br0" : "br1", port, 8);
		break;
	case 1:
		if (fake->fwd.ports[port] != NULL)
			forwarding_leave(&fake->fwd, &fake->ports[port], fake->now_ns);
		break;
	case 2:
		if (fake->fwd.ports[port] != NULL)
			forwarding_port_down(&fake->fwd, &fake->ports[port], fake->now_ns);
		break;
	case 6:
		if (fake->fwd.ports[port] != NULL)
			forwarding_port_silent(&fake->fwd, &fake->ports[port], rand() % 2, fake->now_ns);
		break;
	case 3:
		fake_wait(fake, (unsigned int)rand() % 20);
		break;
	case 4:
		if (rand() % 10 == 0)
			fake_wait(fake, 400);
		break;
	case 5:
		random_mac(key.eth_src);
		forwarding_announce(&fake->fwd, port, key.eth_src, fake->now_ns);
		break;
	default:
		fake->now_ns += (uint64_t)rand() % NS_PER_S;
		random_mac(key.eth_src);
		random_mac(key.eth_dst);
		fake_send_key(fake, &key);
		break;
	}
}

static void test_random(void **state)
{
	(void)state;
	srand(20261122);
	for (unsigned int i = 0; i < 20000; i++) {
		random_step();
		check_flows();
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_learn),
		TEST(test_no_flow_for_a_connection),
		TEST(test_pairs_share_flows),
		TEST(test_groups),
		TEST(test_reserved_groups),
		TEST(test_foreign_sources),
		TEST(test_hairpin),
		TEST(test_move),
		TEST(test_port_silent),
		TEST(test_move_storm),
		TEST(test_mac_limit),
		TEST(test_mac_flood),
		TEST(test_destination_flood),
		TEST(test_data_plane_full),
		TEST(test_members_change),
		TEST(test_leave),
		TEST(test_port_down),
		TEST(test_ageing),
		TEST(test_sweep_repairs),
		TEST(test_announce),
		TEST(test_restart_keeps_flows),
		TEST(test_restart_knows_silent_destinations),
		TEST(test_restart_puts_right),
		TEST(test_random),
	};

	log_init("test_forwarding", LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
