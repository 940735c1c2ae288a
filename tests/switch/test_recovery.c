/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The core dies, by kill -9 and in the middle of its work, and another takes its place: front ends that keep
 * their rings go on from what was used, and nothing that was not used is lost. What was delivered but not yet
 * given back may come twice.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/compiler.h"
#include "testbed.h"
#include "traffic.h"

#define FRAMES 20000

static const struct dp_port_add patient = {.wait_us = 10000000};

struct pair {
	struct testbed bed;
	uint32_t ports[2];
	struct netfront *ends[2];
};

static void make_ports(struct pair *pair)
{
	pair->ports[0] = testbed_port(&pair->bed, "a", &patient);
	pair->ports[1] = testbed_port(&pair->bed, "b", &patient);
	testbed_wire(&pair->bed, pair->ports[0], pair->ports[1]);
	testbed_wire(&pair->bed, pair->ports[1], pair->ports[0]);
}

static void start(struct pair *pair, const struct netfront_config *config)
{
	testbed_start(&pair->bed, 2);
	make_ports(pair);
	pair->ends[0] = testbed_attach(&pair->bed, "a", config);
	pair->ends[1] = testbed_attach(&pair->bed, "b", config);
	testbed_wait_state(&pair->bed, pair->ports[1], DP_PORT_UP);
}

static void stop(struct pair *pair)
{
	netfront_close(pair->ends[0]);
	netfront_close(pair->ends[1]);
	testbed_stop(&pair->bed);
}

struct stream {
	struct netfront *from;
	struct netfront *to;
	uint32_t sent;
	uint32_t next;    /* all below have arrived */
	uint32_t repeats; /* that came again */
	uint32_t window;  /* how far one may come again */
};

static void send_some(struct stream *stream)
{
	uint8_t frame[600];

	while (stream->sent < FRAMES) {
		uint32_t size = 64 + stream->sent % 500;
		int error;

		testbed_frame(frame, size, 2, 1, stream->sent);
		bytes_store32(frame + TRAFFIC_NUMBER, stream->sent);
		error = netfront_send_frame(stream->from, 0, frame, size);
		if (error == -ENOBUFS)
			return;
		assert_int_equal(error, 0);
		stream->sent++;
	}
}

static bool receive_some(struct stream *stream)
{
	struct netfront_frame frames[32];
	uint8_t frame[600], expected[600];
	int n = netfront_receive(stream->to, 0, frames, 32);

	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		uint32_t size = netfront_frame_copy(&frames[i], 0, frame, sizeof(frame)), number;

		assert_true(size >= 64);
		number = bytes_load32(frame + TRAFFIC_NUMBER);
		testbed_frame(expected, size, 2, 1, number);
		bytes_store32(expected + TRAFFIC_NUMBER, number);
		assert_int_equal(size, 64 + number % 500);
		assert_memory_equal(frame, expected, size);
		/* Nothing is left out; what comes again was in the ring. */
		assert_true(number <= stream->next);
		assert_true(number + stream->window >= stream->next);
		if (number == stream->next)
			stream->next++;
		else
			stream->repeats++;
	}
	assert_true(netfront_recycle(stream->to, 0) >= 0);
	return n > 0;
}

/*
 * A VMM that does not look into rings. For split ones no such VMM exists (QEMU reads the used index); of packed ones
 * QEMU 7.2 knows no more than where it last stopped the device, which here is: never.
 */
static void reconnect_unaware(struct netfront *nf)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	int error;

	do {
		vhost_frontend_close(&nf->fe);
		for (unsigned int i = 0; i < 2; i++) {
			nf->queues[i].started = false;
			nf->queues[i].base = vq_driver_base_first(&nf->queues[i].vq);
		}
		error = netfront_attach(nf);
	} while (error && clock_now_ns() < deadline);
	assert_int_equal(error, 0);
}

static void reconnect(struct netfront *nf, bool unaware)
{
	if (unaware && nf->queues[0].vq.is_packed)
		reconnect_unaware(nf);
	else
		assert_int_equal(netfront_reconnect(nf, false), 0);
}

static void killed_under_traffic(const struct netfront_config *config, bool unaware)
{
	static struct pair pair;
	struct stream stream = {.window = 256};
	uint64_t deadline;
	unsigned int deaths = 0;

	start(&pair, config);
	stream.from = pair.ends[0];
	stream.to = pair.ends[1];
	deadline = clock_now_ns() + PATIENCE_NS;
	while (stream.next < FRAMES && clock_now_ns() < deadline) {
		if (deaths < 10 && stream.sent > (deaths + 1) * (FRAMES / 12)) {
			testbed_kill(&pair.bed);
			/* What is sent meanwhile waits in the ring. */
			send_some(&stream);
			testbed_restart(&pair.bed);
			make_ports(&pair);
			/* What is sent to a port that is down is lost, as ever: the receiver comes first. */
			reconnect(pair.ends[1], unaware);
			testbed_wait_state(&pair.bed, pair.ports[1], DP_PORT_UP);
			reconnect(pair.ends[0], unaware);
			deaths++;
			deadline = clock_now_ns() + PATIENCE_NS;
		}
		send_some(&stream);
		if (!receive_some(&stream))
			sched_yield();
	}
	assert_int_equal(stream.next, FRAMES);
	assert_int_equal(deaths, 10);
	stop(&pair);
}

static const struct netfront_config configs[] = {
	{.rx_size = 256, .tx_size = 256},
	{.rx_size = 8, .tx_size = 64},
	{.rx_size = 64, .tx_size = 16, .rx_buffer = 128},
	{.rx_size = 64, .tx_size = 64, .piece = 100, .header_apart = true},
	{.rx_size = 256, .tx_size = 256, .features = VIRTIO_BIT(VIRTIO_F_VERSION_1)},
	{.rx_size = 256, .tx_size = 256, .piece = 100, .features = VIRTIO_BIT(VIRTIO_F_VERSION_1)},
};

static void nothing_is_lost(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(configs); i++)
		killed_under_traffic(&configs[i], false);
}

static void rings_tell_where(void **state)
{
	const char *rings = getenv("TESTBED_RINGS");

	(void)state;
	for (unsigned int i = 0; rings && i < ARRAY_SIZE(configs); i++)
		killed_under_traffic(&configs[i], true);
}

/* Packets that wait for a flow when the core dies wait for the next one's. */
static void waiting_packets_survive(void **state)
{
	static struct pair pair;
	uint8_t frame[100], got[100];

	(void)state;
	testbed_start(&pair.bed, 1);
	pair.ports[0] = testbed_port(&pair.bed, "a", &patient);
	pair.ports[1] = testbed_port(&pair.bed, "b", &patient);
	pair.ends[0] = testbed_attach(&pair.bed, "a", NULL);
	pair.ends[1] = testbed_attach(&pair.bed, "b", NULL);
	testbed_wait_state(&pair.bed, pair.ports[0], DP_PORT_UP);
	testbed_kill(&pair.bed);
	for (uint32_t i = 0; i < 50; i++) {
		testbed_frame(frame, sizeof(frame), 2, 1, i);
		assert_int_equal(netfront_send_frame(pair.ends[0], 0, frame, sizeof(frame)), 0);
	}
	testbed_restart(&pair.bed);
	make_ports(&pair);
	assert_int_equal(netfront_reconnect(pair.ends[1], false), 0);
	testbed_wait_state(&pair.bed, pair.ports[1], DP_PORT_UP);
	assert_int_equal(netfront_reconnect(pair.ends[0], false), 0);
	for (uint32_t i = 0; i < 50; i++) {
		testbed_frame(frame, sizeof(frame), 2, 1, i);
		assert_int_equal(testbed_receive(pair.ends[1], 0, NULL, got, sizeof(got)), sizeof(got));
		assert_memory_equal(got, frame, sizeof(frame));
	}
	stop(&pair);
}

/* The instance is another one, the directory the same; nothing of the old one is in the way. */
static void a_new_core_is_empty(void **state)
{
	static struct testbed bed;
	uint64_t instance;
	struct stats_port stats;
	uint32_t port;

	(void)state;
	testbed_start(&bed, 1);
	instance = bed.hello.instance;
	port = testbed_port(&bed, "a", NULL);
	testbed_kill(&bed);
	testbed_restart(&bed);
	assert_int_not_equal(bed.hello.instance, instance);
	assert_int_equal(testbed_port(&bed, "a", NULL), port);
	testbed_stats(&bed, port, &stats);
	assert_int_equal(stats.in_packets, 0);
	testbed_stop(&bed);
}

/* After a restart of the core the sender is back before its receiver: what it sends waits for that, for a while. */
static void receiver_that_is_awaited(void **state)
{
	const struct dp_port_add awaited = {.flags = DP_PORT_AWAITED};
	struct virtio_net_hdr_mrg_rxbuf header;
	uint8_t sent[200], received[200];
	struct netfront *from, *to;
	struct stats_port stats;
	struct testbed bed;
	uint32_t ports[2];
	uint64_t begin;

	(void)state;
	testbed_start(&bed, 2);
	ports[0] = testbed_port(&bed, "a", NULL);
	ports[1] = testbed_port(&bed, "b", &awaited);
	testbed_wire(&bed, ports[0], ports[1]);
	from = testbed_attach(&bed, "a", NULL);
	testbed_wait_state(&bed, ports[0], DP_PORT_UP);
	for (uint32_t i = 0; i < 10; i++) {
		testbed_frame(sent, sizeof(sent), 2, 1, i);
		assert_int_equal(netfront_send_frame(from, 0, sent, sizeof(sent)), 0);
	}
	usleep(300000);
	to = testbed_attach(&bed, "b", NULL);
	for (uint32_t i = 0; i < 10; i++) {
		testbed_frame(sent, sizeof(sent), 2, 1, i);
		assert_int_equal(testbed_receive(to, 0, &header, received, sizeof(received)), sizeof(sent));
		assert_memory_equal(sent, received, sizeof(sent));
	}
	/* Once it was there, it is a port like any other. */
	netfront_close(to);
	testbed_wait_state(&bed, ports[1], DP_PORT_DOWN);
	assert_int_equal(netfront_send_frame(from, 0, sent, sizeof(sent)), 0);
	testbed_wait_drops(&bed, ports[1], DROP_OUT_DOWN, 1);
	/* And who does not come is not waited for much longer than a second. */
	ports[1] = testbed_port(&bed, "c", &awaited);
	testbed_wire(&bed, ports[0], ports[1]);
	begin = clock_now_ns();
	assert_int_equal(netfront_send_frame(from, 0, sent, sizeof(sent)), 0);
	testbed_wait_drops(&bed, ports[1], DROP_OUT_DOWN, 1);
	assert_in_range(clock_now_ns() - begin, NS_PER_S, 10 * NS_PER_S);
	assert_int_equal(netfront_send_frame(from, 0, sent, sizeof(sent)), 0);
	testbed_wait_drops(&bed, ports[1], DROP_OUT_DOWN, 2);
	testbed_stats(&bed, ports[1], &stats);
	assert_int_equal(stats.drops[DROP_OUT_FULL], 0);
	netfront_close(from);
	testbed_stop(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost),          cmocka_unit_test(rings_tell_where),
		cmocka_unit_test(waiting_packets_survive),  cmocka_unit_test(a_new_core_is_empty),
		cmocka_unit_test(receiver_that_is_awaited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
