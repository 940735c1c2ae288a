/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Many ports: from 1 to 64 of them, copies to all, ports and front ends that come and go while
 * others talk, and many senders to one receiver. What two talk about must not notice any of it.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/compiler.h"
#include "testbed.h"
#include "traffic.h"

#define PORTS_MAX 64

static const struct dp_port_add patient = {.wait_us = 10000000};
static const struct netfront_config small = {.rx_size = 64, .tx_size = 64};
static const struct traffic_frame some_frames[] = {{.size = 60}, {.size = 1514}, {.size = 200}};

struct lot {
	struct testbed bed;
	unsigned int count;
	uint32_t ports[PORTS_MAX];
	struct netfront *ends[PORTS_MAX];
};

static const char *name_of(unsigned int i)
{
	static char name[8];

	snprintf(name, sizeof(name), "p%u", i);
	return name;
}

static void add_end(struct lot *lot, unsigned int i)
{
	lot->ports[i] = testbed_port(&lot->bed, name_of(i), &patient);
	lot->ends[i] = testbed_attach(&lot->bed, name_of(i), &small);
}

static void start_lot(struct lot *lot, unsigned int count, unsigned int workers)
{
	lot->count = count;
	testbed_start(&lot->bed, workers);
	for (unsigned int i = 0; i < count; i++)
		add_end(lot, i);
	for (unsigned int i = 0; i < count; i++)
		testbed_wait_state(&lot->bed, lot->ports[i], DP_PORT_UP);
}

static void stop_lot(struct lot *lot)
{
	for (unsigned int i = 0; i < lot->count; i++)
		netfront_close(lot->ends[i]);
	testbed_stop(&lot->bed);
}

/* Every other one's address leads to it, the broadcast address to all but the sender. */
static void make_switch(struct lot *lot)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	for (unsigned int i = 0; i < lot->count; i++) {
		uint32_t others[PORTS_MAX], n = 0;

		for (unsigned int j = 0; j < lot->count; j++) {
			uint8_t mac[6];

			if (i == j)
				continue;
			testbed_mac(mac, (uint8_t)(j + 1));
			testbed_flow(&lot->bed, lot->ports[i], mac, &lot->ports[j], 1);
			others[n++] = lot->ports[j];
		}
		testbed_flow(&lot->bed, lot->ports[i], broadcast, others, n);
	}
}

static void expect_broadcast(struct lot *lot, unsigned int from)
{
	uint8_t frame[300], got[300];

	testbed_frame(frame, sizeof(frame), 0, (uint8_t)(from + 1), from);
	memset(frame, 0xff, 6);
	assert_int_equal(netfront_send_frame(lot->ends[from], 0, frame, sizeof(frame)), 0);
	for (unsigned int i = 0; i < lot->count; i++) {
		if (i == from)
			continue;
		assert_int_equal(testbed_receive(lot->ends[i], 0, NULL, got, sizeof(got)), sizeof(got));
		assert_memory_equal(got, frame, sizeof(frame));
	}
}

static void one_to_many_ports(void **state)
{
	static const unsigned int counts[] = {1, 2, 3, 17, 64};
	static struct lot lot;

	(void)state;
	for (unsigned int c = 0; c < ARRAY_SIZE(counts); c++) {
		const unsigned int count = counts[c];
		struct stats_port stats;
		struct stats_worker totals;

		start_lot(&lot, count, 1);
		make_switch(&lot);
		for (unsigned int i = 0; i < count; i++)
			expect_broadcast(&lot, i);
		for (unsigned int i = 0; i < count; i++) {
			struct traffic traffic = {
				.from = lot.ends[i],
				.to = lot.ends[(i + 1) % count],
				.frames = some_frames,
				.frame_count = ARRAY_SIZE(some_frames),
				.limit = count > 1 ? 6 : 0,
				.dst = (uint8_t)((i + 1) % count + 1),
				.src = (uint8_t)(i + 1),
			};

			traffic_run(&traffic);
		}
		/* One copy each, and none to the sender: that is all there was. */
		for (unsigned int i = 0; i < count; i++) {
			testbed_wait_in(&lot.bed, lot.ports[i], count > 1 ? 7 : 1);
			testbed_stats(&lot.bed, lot.ports[i], &stats);
			assert_int_equal(stats.out_packets, count > 1 ? count - 1 + 6 : 0);
		}
		testbed_totals(&lot.bed, &totals);
		assert_int_equal(totals.copied_bytes, totals.delivered_bytes);
		stop_lot(&lot);
	}
}

/* A stream from the first to the second port, while `disturb` does what it likes with the others.
 */
static void undisturbed(struct lot *lot, unsigned int rounds, void (*disturb)(struct lot *lot, unsigned int round))
{
	struct traffic traffic = {
		.from = lot->ends[0],
		.to = lot->ends[1],
		.frames = some_frames,
		.frame_count = ARRAY_SIZE(some_frames),
		.limit = UINT32_MAX,
		.dst = 2,
		.src = 1,
	};
	struct stats_port a, b;

	for (unsigned int round = 0; round < rounds; round++) {
		disturb(lot, round);
		for (unsigned int i = 0; i < 20; i++)
			traffic_step(&traffic);
	}
	traffic.limit = traffic.sent;
	traffic_run(&traffic);
	traffic_expect_silence(lot->ends[1], 0);
	testbed_wait_in(&lot->bed, lot->ports[0], traffic.limit);
	testbed_stats(&lot->bed, lot->ports[0], &a);
	testbed_stats(&lot->bed, lot->ports[1], &b);
	for (unsigned int i = 0; i < DROP_COUNT; i++) {
		assert_int_equal(a.drops[i], 0);
		assert_int_equal(b.drops[i], 0);
	}
}

static void delete_and_add(struct lot *lot, unsigned int round)
{
	const unsigned int i = 2 + round % (lot->count - 2);
	struct stats_port stats;

	if (round % 3)
		netfront_close(lot->ends[i]);
	assert_int_equal(datapath_client_port_del(lot->bed.client, lot->ports[i]), 0);
	assert_int_equal(datapath_client_port_del(lot->bed.client, lot->ports[i]), -ENOENT);
	if (round % 3 == 0)
		netfront_close(lot->ends[i]);
	/* Its number may be another's now; its counters must not. */
	add_end(lot, i);
	testbed_stats(&lot->bed, lot->ports[i], &stats);
	assert_int_equal(stats.in_packets + stats.out_packets, 0);
	for (unsigned int reason = 0; reason < DROP_COUNT; reason++)
		assert_int_equal(stats.drops[reason], 0);
}

static void ports_come_and_go(void **state)
{
	static struct lot lot;

	(void)state;
	start_lot(&lot, 6, 2);
	testbed_wire(&lot.bed, lot.ports[0], lot.ports[1]);
	testbed_wire(&lot.bed, lot.ports[1], lot.ports[0]);
	undisturbed(&lot, 100, delete_and_add);
	stop_lot(&lot);
}

/* Somebody sends to all, to the ports that are not there as well. */
static void reconnect_one(struct lot *lot, unsigned int round)
{
	const unsigned int i = 3 + round % (lot->count - 3);
	struct netfront_frame frames[32];
	uint8_t frame[100];

	testbed_frame(frame, sizeof(frame), 9, 3, round);
	for (unsigned int n = 0; n < 10; n++)
		(void)netfront_send_frame(lot->ends[2], 0, frame, sizeof(frame));
	(void)netfront_reclaim(lot->ends[2], 0);
	switch (round % 3) {
	case 0:
		assert_int_equal(netfront_reconnect(lot->ends[i], true), 0);
		break;
	case 1:
		assert_int_equal(netfront_reconnect(lot->ends[i], false), 0);
		break;
	default:
		netfront_close(lot->ends[i]);
		lot->ends[i] = testbed_attach(&lot->bed, name_of(i), &small);
		break;
	}
	while (netfront_receive(lot->ends[i], 0, frames, 32) > 0)
		;
}

static void front_ends_come_and_go(void **state)
{
	static struct lot lot;
	uint32_t others[3];

	(void)state;
	start_lot(&lot, 6, 2);
	testbed_wire(&lot.bed, lot.ports[0], lot.ports[1]);
	testbed_wire(&lot.bed, lot.ports[1], lot.ports[0]);
	memcpy(others, &lot.ports[3], sizeof(others));
	testbed_flow(&lot.bed, lot.ports[2], NULL, others, 3);
	undisturbed(&lot, 100, reconnect_one);
	stop_lot(&lot);
}

/* The receiver's own front end says things that stop its queues for a moment. */
static void reconfigure_receiver(struct lot *lot, unsigned int round)
{
	struct netfront *nf = lot->ends[1];
	struct netfront_queue *queue = round % 2 ? netfront_rx(nf, 0) : netfront_tx(nf, 0);

	switch (round % 4) {
	case 0:
	case 1:
		assert_int_equal(
			vhost_frontend_set_vring_fd(&nf->fe, VHOST_USER_SET_VRING_CALL, queue->index, queue->call_fd),
			0);
		break;
	case 2:
		assert_int_equal(
			vhost_frontend_set_vring_fd(&nf->fe, VHOST_USER_SET_VRING_KICK, queue->index, queue->kick_fd),
			0);
		break;
	default:
		/* The sender's as well: what it has posted is taken from where it was left. */
		assert_int_equal(netfront_stop_queue(lot->ends[0], netfront_tx(lot->ends[0], 0)), 0);
		assert_int_equal(netfront_start_queue(lot->ends[0], netfront_tx(lot->ends[0], 0)), 0);
		break;
	}
}

static void messages_under_traffic(void **state)
{
	static struct lot lot;

	(void)state;
	start_lot(&lot, 2, 1);
	testbed_wire(&lot.bed, lot.ports[0], lot.ports[1]);
	undisturbed(&lot, 200, reconfigure_receiver);
	stop_lot(&lot);
}

/* Frames of many senders at one receiver, which tells them apart by their source address. */
struct funnel {
	struct traffic senders[8];
	unsigned int count;
	uint32_t per_sender;
	uint32_t got[8];
	uint32_t total;
};

static void receive_funnel(struct funnel *funnel, struct netfront *to)
{
	struct netfront_frame frames[32];
	uint8_t frame[1600];
	int n = netfront_receive(to, 0, frames, 32);

	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		unsigned int sender;

		assert_true(netfront_frame_copy(&frames[i], 0, frame, sizeof(frame)) >= TRAFFIC_NUMBER + 4);
		sender = frame[11] - 10u;
		assert_true(sender < funnel->count);
		assert_int_equal(bytes_load32(frame + TRAFFIC_NUMBER), funnel->got[sender]);
		assert_int_equal(frames[i].size, some_frames[funnel->got[sender] % 3].size);
		funnel->got[sender]++;
		funnel->total++;
	}
	assert_true(netfront_recycle(to, 0) >= 0);
}

static void run_funnel(unsigned int senders, unsigned int workers, const struct netfront_config *to)
{
	static struct testbed bed;
	struct funnel funnel = {.count = senders, .per_sender = 3000};
	struct netfront *ends[8], *receiver;
	uint32_t ports[8], port;
	uint64_t deadline;
	struct stats_port stats;

	testbed_start(&bed, workers);
	port = testbed_port(&bed, "receiver", &patient);
	receiver = testbed_attach(&bed, "receiver", to);
	for (unsigned int i = 0; i < senders; i++) {
		ports[i] = testbed_port(&bed, name_of(i), NULL);
		ends[i] = testbed_attach(&bed, name_of(i), &small);
		testbed_wire(&bed, ports[i], port);
		funnel.senders[i] = (struct traffic){
			.from = ends[i],
			.frames = some_frames,
			.frame_count = ARRAY_SIZE(some_frames),
			.limit = funnel.per_sender,
			.dst = 1,
			.src = (uint8_t)(i + 10),
		};
	}
	testbed_wait_state(&bed, port, DP_PORT_UP);
	deadline = clock_now_ns() + PATIENCE_NS;
	while (funnel.total < senders * funnel.per_sender && clock_now_ns() < deadline) {
		uint32_t before = funnel.total;

		for (unsigned int i = 0; i < senders; i++)
			traffic_send(&funnel.senders[i]);
		receive_funnel(&funnel, receiver);
		if (before == funnel.total)
			sched_yield();
	}
	assert_int_equal(funnel.total, senders * funnel.per_sender);
	testbed_stats(&bed, port, &stats);
	for (unsigned int reason = 0; reason < DROP_COUNT; reason++)
		assert_int_equal(stats.drops[reason], 0);
	for (unsigned int i = 0; i < senders; i++)
		netfront_close(ends[i]);
	netfront_close(receiver);
	testbed_stop(&bed);
}

static void many_senders_to_one(void **state)
{
	static const struct netfront_config few = {.rx_size = 8};
	static const struct netfront_config pieces = {.rx_size = 256, .rx_buffer = 256};
	static const struct netfront_config plain = {.rx_size = 256, .features = VIRTIO_BIT(VIRTIO_F_VERSION_1)};

	(void)state;
	run_funnel(3, 1, &few);
	run_funnel(4, 2, &few);
	run_funnel(4, 2, &plain);
	run_funnel(8, 4, &pieces);
	run_funnel(8, 4, &few);
}

/* A receiver that takes nothing costs its senders what they have for it, and nobody else anything.
 */
static void one_that_never_receives(void **state)
{
	static struct lot lot;
	uint8_t frame[64];
	struct stats_port stats;
	uint8_t dead[6], alive[6];

	(void)state;
	lot.count = 3;
	testbed_start(&lot.bed, 1);
	for (unsigned int i = 0; i < 3; i++) {
		struct dp_port_add options = patient;

		options.wait_us = i == 2 ? 20000 : options.wait_us;
		lot.ports[i] = testbed_port(&lot.bed, name_of(i), &options);
		lot.ends[i] = testbed_attach(&lot.bed, name_of(i), &small);
		testbed_wait_state(&lot.bed, lot.ports[i], DP_PORT_UP);
	}
	testbed_mac(dead, 3);
	testbed_mac(alive, 2);
	testbed_flow(&lot.bed, lot.ports[0], dead, &lot.ports[2], 1);
	testbed_flow(&lot.bed, lot.ports[0], alive, &lot.ports[1], 1);
	for (unsigned int i = 0; i < 200; i++) {
		testbed_frame(frame, sizeof(frame), 3, 1, i);
		while (netfront_send_frame(lot.ends[0], 0, frame, sizeof(frame)) == -ENOBUFS)
			sched_yield();
	}
	/* 64 are in its ring, the others are lost by name. */
	testbed_wait_drops(&lot.bed, lot.ports[2], DROP_OUT_FULL, 200 - 64);
	traffic_expect(lot.ends[0], lot.ends[1], some_frames, ARRAY_SIZE(some_frames));
	testbed_stats(&lot.bed, lot.ports[2], &stats);
	assert_int_equal(stats.out_packets, 64);
	/* It comes back to life. */
	for (unsigned int i = 0; i < 64; i++)
		assert_int_equal(testbed_receive(lot.ends[2], 0, NULL, frame, sizeof(frame)), sizeof(frame));
	testbed_frame(frame, sizeof(frame), 3, 1, 7);
	assert_int_equal(netfront_send_frame(lot.ends[0], 0, frame, sizeof(frame)), 0);
	assert_int_equal(testbed_receive(lot.ends[2], 0, NULL, frame, sizeof(frame)), sizeof(frame));
	stop_lot(&lot);
}

static void expect_event(struct testbed *bed, enum dp_type type, struct datapath_event *event)
{
	struct pollfd poll_fd = {.fd = datapath_client_fd(bed->client), .events = POLLIN};
	int error;

	while ((error = datapath_client_event(bed->client, event)) == -EAGAIN)
		assert_int_equal(poll(&poll_fd, 1, 20000), 1);
	assert_int_equal(error, 0);
	assert_int_equal(event->type, type);
}

/* The controller hears of every change, in its order. */
static void what_the_controller_is_told(void **state)
{
	static const uint8_t mac[6] = {2, 3, 4, 5, 6, 7};
	const struct netfront_config config = {.ack = true};
	static struct testbed bed;
	struct datapath_event event;
	struct dp_port_info info;
	struct netfront *nf;
	uint32_t port;

	(void)state;
	testbed_start(&bed, 1);
	port = testbed_port(&bed, "a", NULL);
	nf = testbed_attach(&bed, "a", &config);
	for (uint32_t expected = DP_PORT_CONNECTED; expected <= DP_PORT_UP; expected++) {
		expect_event(&bed, DP_EVENT_PORT, &event);
		assert_int_equal(event.port.port, port);
		assert_int_equal(event.port.state, expected);
		assert_string_equal(event.port.config.name, "a");
	}
	assert_int_equal(vhost_frontend_send_rarp(&nf->fe, mac), 0);
	expect_event(&bed, DP_EVENT_ANNOUNCE, &event);
	assert_int_equal(event.announce.port, port);
	assert_memory_equal(event.announce.mac, mac, 6);
	assert_int_equal(vhost_frontend_set_mtu(&nf->fe, 9000), 0);
	testbed_info(&bed, port, &info);
	assert_int_equal(info.mtu, 9000);
	assert_int_equal(info.peer_pid, getpid());
	assert_int_equal(info.ring_sizes, 256 | 256 << 16);
	assert_int_equal(info.regions, 1);
	assert_int_equal(info.memory, nf->memory_size);
	assert_int_equal(netfront_stop(nf), 0);
	expect_event(&bed, DP_EVENT_PORT, &event);
	assert_int_equal(event.port.state, DP_PORT_CONNECTED);
	netfront_close(nf);
	expect_event(&bed, DP_EVENT_PORT, &event);
	assert_int_equal(event.port.state, DP_PORT_DOWN);
	testbed_info(&bed, port, &info);
	assert_int_equal(info.connections, 1);
	assert_int_equal(info.faults, 0);
	assert_int_equal(info.peer_pid, 0);
	testbed_stop(&bed);
}

static void jumbo_frames(void **state)
{
	static const struct netfront_config shapes[] = {
		{.rx_buffer = 9100, .tx_buffer = 9100},
		{.rx_buffer = 2048, .tx_buffer = 9100, .piece = 4096},
		{.rx_buffer = 9100, .tx_buffer = 9100, .features = VIRTIO_BIT(VIRTIO_F_VERSION_1)},
	};
	const struct dp_port_add options = {.wait_us = 10000000, .mtu = 9000};
	static struct testbed bed;

	(void)state;
	testbed_start(&bed, 1);
	uint32_t a = testbed_port(&bed, "a", &options);
	uint32_t b = testbed_port(&bed, "b", &options);

	testbed_wire(&bed, a, b);
	testbed_wire(&bed, b, a);
	for (unsigned int i = 0; i < ARRAY_SIZE(shapes); i++) {
		for (unsigned int j = 0; j < ARRAY_SIZE(shapes); j++) {
			struct netfront *from = testbed_attach(&bed, "a", &shapes[i]);
			struct netfront *to = testbed_attach(&bed, "b", &shapes[j]);

			testbed_wait_state(&bed, a, DP_PORT_UP);
			testbed_wait_state(&bed, b, DP_PORT_UP);
			for (uint32_t size = 1500; size <= 9018; size += 537)
				testbed_expect_traffic(from, to, size);
			netfront_close(from);
			netfront_close(to);
		}
	}
	testbed_stop(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_to_many_ports),      cmocka_unit_test(ports_come_and_go),
		cmocka_unit_test(front_ends_come_and_go), cmocka_unit_test(messages_under_traffic),
		cmocka_unit_test(many_senders_to_one),    cmocka_unit_test(one_that_never_receives),
		cmocka_unit_test(jumbo_frames),           cmocka_unit_test(what_the_controller_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
