/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Several queue pairs, and the control queue by which a guest uses them: a connection keeps to one
 * queue and to its order, what is not enabled is not used, and what the guest switches off is
 * switched off from the answer on, under traffic, without a loss.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/compiler.h"
#include "testbed.h"
#include "traffic.h"

#define PAIRS       4
#define CONNECTIONS 64
#define CONTROL                                                                 \
	(VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX) |  \
	 VIRTIO_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | VIRTIO_BIT(VIRTIO_NET_F_MQ) | \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))

static const struct dp_port_add options = {.wait_us = 10000000, .pairs = PAIRS};

struct pair {
	struct testbed bed;
	uint32_t a;
	uint32_t b;
	struct netfront *from;
	struct netfront *to;
};

/* The port is up from its first pair on. */
static void wait_pairs(struct pair *pair, uint32_t port, unsigned int pairs)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct dp_port_info info;

	testbed_wait_state(&pair->bed, port, DP_PORT_UP);
	do
		testbed_info(&pair->bed, port, &info);
	while (info.pairs_enabled < pairs && clock_now_ns() < deadline);
	assert_int_equal(info.pairs_enabled, pairs ? pairs : 1);
}

static void start(struct pair *pair, unsigned int workers, const struct netfront_config *config)
{
	testbed_start(&pair->bed, workers);
	pair->a = testbed_port(&pair->bed, "a", &options);
	pair->b = testbed_port(&pair->bed, "b", &options);
	testbed_wire(&pair->bed, pair->a, pair->b);
	testbed_wire(&pair->bed, pair->b, pair->a);
	pair->from = testbed_attach(&pair->bed, "a", config);
	pair->to = testbed_attach(&pair->bed, "b", config);
	wait_pairs(pair, pair->a, config->pairs);
	wait_pairs(pair, pair->b, config->pairs);
}

static void stop(struct pair *pair)
{
	netfront_close(pair->from);
	netfront_close(pair->to);
	testbed_stop(&pair->bed);
}

/* UDP connections from a to b. */
struct crowd {
	struct pair *pair;
	unsigned int senders; /* transmit queues in use */
	uint32_t sent[CONNECTIONS];
	uint32_t got[CONNECTIONS];
	int queue[CONNECTIONS]; /* where its packets arrive; -1: not known yet */
	uint32_t per_queue[PAIRS];
	bool may_move;
};

static void crowd_init(struct crowd *crowd, struct pair *pair)
{
	*crowd = (struct crowd){.pair = pair, .senders = PAIRS};
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		crowd->queue[i] = -1;
}

/* A connection has its queue anew. */
static void crowd_forget_queues(struct crowd *crowd)
{
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		crowd->queue[i] = -1;
	memset(crowd->per_queue, 0, sizeof(crowd->per_queue));
}

static void make_frame(struct frame *frame, unsigned int connection, uint32_t number)
{
	const struct frame_spec spec = {
		.version = connection % 2 ? 4 : 6,
		.proto = IPPROTO_UDP,
		.payload = 100 + connection,
	};

	frame_build(frame, &spec);
	bytes_store16(frame->data + frame->l4, (uint16_t)(1000 + connection));
	bytes_store32(frame->data + frame->payload, connection);
	bytes_store32(frame->data + frame->payload + 4, number);
}

static bool crowd_send(struct crowd *crowd, unsigned int connection)
{
	static struct frame frame;
	int error;

	make_frame(&frame, connection, crowd->sent[connection]);
	error = netfront_send_frame(crowd->pair->from, connection % crowd->senders, frame.data, frame.length);
	if (error == -ENOBUFS)
		return false;
	assert_int_equal(error, 0);
	crowd->sent[connection]++;
	return true;
}

static unsigned int crowd_receive(struct crowd *crowd)
{
	static struct frame expected;
	static uint8_t got[2048];
	unsigned int total = 0;

	for (unsigned int queue = 0; queue < PAIRS; queue++) {
		struct netfront_frame frames[32];
		int n = netfront_receive(crowd->pair->to, queue, frames, 32);

		assert_true(n >= 0);
		for (int i = 0; i < n; i++) {
			uint32_t size = netfront_frame_copy(&frames[i], 0, got, sizeof(got));
			uint32_t payload = 14 + 8 + (got[12] == 8 ? 20 : 40);
			uint32_t connection;

			assert_true(size >= payload + 8);
			connection = bytes_load32(got + payload);
			assert_true(connection < CONNECTIONS);
			if (!crowd->may_move) {
				if (crowd->queue[connection] < 0)
					crowd->queue[connection] = (int)queue;
				assert_int_equal(crowd->queue[connection], queue);
				make_frame(&expected, connection, crowd->got[connection]);
				assert_int_equal(size, expected.length);
				assert_memory_equal(got, expected.data, size);
			}
			crowd->got[connection]++;
			crowd->per_queue[queue]++;
			total++;
		}
		assert_true(netfront_recycle(crowd->pair->to, queue) >= 0);
	}
	return total;
}

static void crowd_run(struct crowd *crowd, uint32_t packets)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	uint32_t target[CONNECTIONS];
	bool done = false;

	for (unsigned int i = 0; i < CONNECTIONS; i++)
		target[i] = crowd->sent[i] + packets;
	while (!done && clock_now_ns() < deadline) {
		bool moved = false;

		done = true;
		for (unsigned int i = 0; i < CONNECTIONS; i++) {
			if (crowd->sent[i] < target[i])
				moved |= crowd_send(crowd, i);
		}
		moved |= crowd_receive(crowd) > 0;
		for (unsigned int i = 0; i < CONNECTIONS; i++)
			done &= crowd->got[i] == target[i];
		if (!moved)
			sched_yield();
	}
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		assert_int_equal(crowd->got[i], target[i]);
}

/* Until everything that was sent is there. */
static void crowd_drain(struct crowd *crowd)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;

	while (memcmp(crowd->got, crowd->sent, sizeof(crowd->got)) != 0 && clock_now_ns() < deadline) {
		if (crowd_receive(crowd) == 0)
			sched_yield();
	}
	assert_memory_equal(crowd->got, crowd->sent, sizeof(crowd->got));
}

static void expect_queues(const struct crowd *crowd, unsigned int used)
{
	for (unsigned int i = 0; i < PAIRS; i++) {
		if (i < used)
			assert_int_not_equal(crowd->per_queue[i], 0);
		else
			assert_int_equal(crowd->per_queue[i], 0);
	}
}

static void a_connection_keeps_its_queue(void **state)
{
	const struct netfront_config config = {.pairs = PAIRS, .rx_size = 64, .tx_size = 64};
	static const unsigned int workers[] = {1, 2, 4};
	static struct pair pair;
	static struct crowd crowd;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(workers); i++) {
		start(&pair, workers[i], &config);
		crowd_init(&crowd, &pair);
		crowd_run(&crowd, 100);
		expect_queues(&crowd, PAIRS);
		stop(&pair);
	}
}

static void enable(struct pair *pair, unsigned int queue, bool on)
{
	assert_int_equal(vhost_frontend_set_vring_enable(&pair->to->fe, netfront_rx(pair->to, queue)->index, on), 0);
	assert_int_equal(vhost_frontend_set_vring_enable(&pair->to->fe, netfront_tx(pair->to, queue)->index, on), 0);
}

static void disabled_queues_are_not_used(void **state)
{
	const struct netfront_config config = {.pairs = PAIRS, .ack = true};
	static struct pair pair;
	static struct crowd crowd;
	struct dp_port_info info;

	(void)state;
	start(&pair, 2, &config);
	crowd_init(&crowd, &pair);
	for (unsigned int used = PAIRS - 1; used > 0; used--) {
		enable(&pair, used, false);
		testbed_info(&pair.bed, pair.b, &info);
		assert_int_equal(info.pairs_enabled, used);
		crowd_forget_queues(&crowd);
		crowd_run(&crowd, 10);
		expect_queues(&crowd, used);
	}
	/* The first one, too: then the port is down, but everything else is as it was. */
	enable(&pair, 0, false);
	testbed_wait_state(&pair.bed, pair.b, DP_PORT_CONNECTED);
	for (unsigned int i = 0; i < PAIRS; i++)
		enable(&pair, i, true);
	testbed_wait_state(&pair.bed, pair.b, DP_PORT_UP);
	crowd_forget_queues(&crowd);
	crowd_run(&crowd, 10);
	expect_queues(&crowd, PAIRS);
	stop(&pair);
}

static int set_pairs(struct netfront *nf, uint16_t pairs)
{
	return netfront_control(nf, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, sizeof(pairs));
}

static void the_guest_sets_its_pairs(void **state)
{
	const struct netfront_config config = {
		.pairs = PAIRS,
		.features = NETFRONT_FEATURES | CONTROL,
		.required = CONTROL,
	};
	static struct pair pair;
	static struct crowd crowd;

	(void)state;
	start(&pair, 2, &config);
	crowd_init(&crowd, &pair);
	for (uint16_t pairs = 1; pairs <= PAIRS; pairs++) {
		assert_int_equal(set_pairs(pair.to, pairs), 0);
		crowd_forget_queues(&crowd);
		crowd_run(&crowd, 10);
		expect_queues(&crowd, pairs);
		assert_int_equal(set_pairs(pair.to, 0), -EREMOTEIO);
		assert_int_equal(set_pairs(pair.to, PAIRS + 1), -EREMOTEIO);
		crowd_run(&crowd, 10);
		expect_queues(&crowd, pairs);
	}
	/* While everybody talks. Connections move then, but nothing is lost. */
	crowd.may_move = true;
	for (unsigned int i = 0; i < 50; i++) {
		for (unsigned int j = 0; j < CONNECTIONS; j++)
			(void)crowd_send(&crowd, j);
		assert_int_equal(set_pairs(pair.to, (uint16_t)(1 + i % PAIRS)), 0);
		crowd_receive(&crowd);
	}
	crowd_drain(&crowd);
	stop(&pair);
}

static int command(struct pair *pair, uint8_t class, uint8_t number, const void *data, uint32_t size)
{
	return netfront_control(pair->to, class, number, data, size);
}

/* What a Linux driver says at its start, and what none should say. */
static void filters_and_addresses(void **state)
{
	const struct netfront_config config = {
		.pairs = 1,
		.features = (NETFRONT_FEATURES | CONTROL) & ~VIRTIO_BIT(VIRTIO_NET_F_MQ),
	};
	static const uint8_t mac[6] = {2, 3, 4, 5, 6, 7}, group[6] = {3, 3, 4, 5, 6, 7};
	static const uint8_t tables[] = {1, 0, 0, 0, 2, 3, 4, 5, 6, 7, 2, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2};
	static const uint8_t on = 1, odd = 2, bytes[64];
	static struct pair pair;
	struct dp_port_info info;

	(void)state;
	start(&pair, 1, &config);
	for (uint8_t i = VIRTIO_NET_CTRL_RX_PROMISC; i <= VIRTIO_NET_CTRL_RX_NOBCAST; i++) {
		assert_int_equal(command(&pair, VIRTIO_NET_CTRL_RX, i, &on, 1), 0);
		assert_int_equal(command(&pair, VIRTIO_NET_CTRL_RX, i, &odd, 1), -EREMOTEIO);
		assert_int_equal(command(&pair, VIRTIO_NET_CTRL_RX, i, bytes, 2), -EREMOTEIO);
		assert_int_equal(command(&pair, VIRTIO_NET_CTRL_RX, i, NULL, 0), -EREMOTEIO);
	}
	assert_int_equal(command(&pair, VIRTIO_NET_CTRL_RX, 6, &on, 1), -EREMOTEIO);
	assert_int_equal(command(&pair, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, sizeof(tables)), 0);
	for (uint32_t size = 0; size < sizeof(tables); size++)
		assert_int_equal(command(&pair, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, size),
				 -EREMOTEIO);
	assert_int_equal(command(&pair, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, group, 6), -EREMOTEIO);
	assert_int_equal(command(&pair, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 5), -EREMOTEIO);
	testbed_info(&pair.bed, pair.b, &info);
	assert_memory_equal(info.mac, bytes, 6);
	assert_int_equal(command(&pair, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6), 0);
	testbed_info(&pair.bed, pair.b, &info);
	assert_memory_equal(info.mac, mac, 6);
	assert_int_equal(command(&pair, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0), 0);
	assert_int_equal(command(&pair, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, &on, 1), -EREMOTEIO);
	assert_int_equal(command(&pair, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, bytes, 2), -EREMOTEIO);
	assert_int_equal(command(&pair, 200, 200, bytes, sizeof(bytes)), -EREMOTEIO);
	/* None of that was held against it. */
	testbed_expect_traffic(pair.from, pair.to, 100);
	testbed_info(&pair.bed, pair.b, &info);
	assert_int_equal(info.faults, 0);
	stop(&pair);
}

static int set_offloads(struct netfront *nf, uint64_t offloads)
{
	return netfront_control(nf, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &offloads,
				sizeof(offloads));
}

/* The payload of large segments, however they arrive. */
struct pour {
	struct pair *pair;
	uint64_t bytes_sent;
	uint64_t bytes_got;
	uint32_t chains; /* received so far */
};

static void pour(struct pour *pour)
{
	static const struct frame_spec spec = {.version = 4, .proto = IPPROTO_TCP, .payload = 6000};
	static struct frame frame;
	struct virtio_net_hdr header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = 1448,
		.csum_start = 34,
		.csum_offset = 16,
		.hdr_len = 54,
	};
	struct iovec iov = {.iov_base = frame.data};

	frame_build(&frame, &spec);
	iov.iov_len = frame.length;
	for (unsigned int i = 0; i < 20; i++) {
		int error = netfront_send(pour->pair->from, 0, &header, &iov, 1, false);

		if (error == -ENOBUFS)
			return;
		assert_int_equal(error, 0);
		pour->bytes_sent += spec.payload;
	}
}

/* Chains (of one descriptor each) that the device gave back after so many. */
static uint32_t used_by_now(const struct vq_driver *vq, uint32_t chains)
{
	uint32_t used = 0;

	/* The index counts in 16 bits. */
	if (!vq->is_packed)
		return (uint16_t)(READ_ONCE(vq->split.ring.used->idx) - (uint16_t)chains);
	while (vq_driver_packed_used_at(&vq->packed, vq->packed.used_next + used))
		used++;
	return used;
}

/* Returns whether a large one was among those that the device gave after `from` chains. */
static bool drink(struct pour *pour, uint32_t from)
{
	struct netfront_frame frames[32];
	bool large = false;
	int n;

	while ((n = netfront_receive(pour->pair->to, 0, frames, 32)) > 0) {
		for (int i = 0; i < n; i++, pour->chains++) {
			assert_true(frames[i].size >= 54);
			pour->bytes_got += frames[i].size - 54;
			large |= frames[i].size > 2000 && pour->chains >= from;
		}
	}
	assert_int_equal(n, 0);
	return large;
}

static void offloads_switched_under_traffic(void **state)
{
	const struct netfront_config config = {
		.features = VIRTIO_BIT(VIRTIO_F_VERSION_1) | NETFRONT_FEATURES_TSO |
			    (CONTROL & ~VIRTIO_BIT(VIRTIO_NET_F_MQ)),
		.rx_buffer = 8000,
		.tx_buffer = 8000,
	};
	const uint64_t csum = VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM);
	const uint64_t all = csum | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6);
	const uint64_t settings[] = {0, all, csum, all};
	static const struct frame_spec spec = {.version = 6, .proto = IPPROTO_TCP, .payload = 7000};
	static const struct traffic_frame quiet[] = {
		{.spec = &spec, .gso_size = 1000}, {.size = 200}, {.spec = &spec, .gso_size = 2000}};
	static struct pair pair;
	struct pour state_of = {.pair = &pair};
	uint64_t deadline, features;

	(void)state;
	start(&pair, 2, &config);
	features = pair.to->features;
	assert_int_equal(set_offloads(pair.to, VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4)), -EREMOTEIO);
	assert_int_equal(set_offloads(pair.to, 1ULL << 63), -EREMOTEIO);
	for (unsigned int round = 0; round < 100; round++) {
		uint64_t setting = settings[round % ARRAY_SIZE(settings)];
		uint32_t until;

		pour(&state_of);
		assert_int_equal(set_offloads(pair.to, setting), 0);
		until = state_of.chains + used_by_now(&netfront_rx(pair.to, 0)->vq, state_of.chains);
		for (unsigned int i = 0; i < 10; i++) {
			bool large;

			pour(&state_of);
			large = drink(&state_of, until);
			if (setting != all)
				assert_false(large);
			sched_yield();
		}
	}
	deadline = clock_now_ns() + PATIENCE_NS;
	while (state_of.bytes_got < state_of.bytes_sent && clock_now_ns() < deadline)
		drink(&state_of, UINT32_MAX);
	assert_int_equal(state_of.bytes_got, state_of.bytes_sent);
	/* In peace, byte by byte. */
	for (unsigned int i = 0; i < ARRAY_SIZE(settings); i++) {
		assert_int_equal(set_offloads(pair.to, settings[i]), 0);
		pair.to->features = (features & ~all) | settings[i];
		traffic_expect(pair.from, pair.to, quiet, ARRAY_SIZE(quiet));
	}
	/* A driver that starts anew has what it negotiates. */
	assert_int_equal(set_offloads(pair.to, 0), 0);
	assert_int_equal(netfront_reconnect(pair.to, true), 0);
	testbed_wait_state(&pair.bed, pair.b, DP_PORT_UP);
	traffic_expect(pair.from, pair.to, quiet, ARRAY_SIZE(quiet));
	stop(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connection_keeps_its_queue),    cmocka_unit_test(disabled_queues_are_not_used),
		cmocka_unit_test(the_guest_sets_its_pairs),        cmocka_unit_test(filters_and_addresses),
		cmocka_unit_test(offloads_switched_under_traffic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
