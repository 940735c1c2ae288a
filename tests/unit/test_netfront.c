/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-net driver against a back end that sends everything back: every combination of
 * features, descriptor layout, ring sizes and memory regions; stopping and reconnecting with frames
 * under way; sleeping; a back end that lies. All of it over split rings and over packed ones.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "loopback.h"
#include "vhost/netfront.h"

#define OFFERED \
	(NETFRONT_FEATURES | NETFRONT_FEATURES_TSO | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_MQ))

static char dir[64], path[128];
static struct loopback *lb;
static uint64_t ring_kind; /* that every front end asks for besides */

static int set_up(void **state)
{
	const struct vhost_device_config config = {
		.name = "test",
		.features = OFFERED | ring_kind,
		.pairs = 4,
		.control_queue = true,
	};

	(void)state;
	assert_non_null(unit_temporary_dir(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	lb = loopback_start(path, &config);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	loopback_stop(lb);
	unlink(path);
	rmdir(dir);
	return 0;
}

static struct netfront *open_front(const struct netfront_config *with)
{
	struct netfront_config config = *with;
	const char *step;
	struct netfront *nf;
	int err;

	config.path = path;
	config.features = (config.features ? config.features : NETFRONT_FEATURES) | ring_kind;
	config.required |= ring_kind;
	err = netfront_open(&nf, &config, &step);
	if (err)
		fail_msg("%s: %s", step, strerror(-err));
	return nf;
}

/* Frame number n has a size and bytes of its own. */
static uint32_t make(uint8_t *frame, uint32_t n, uint32_t max_size)
{
	uint32_t size = 14 + n * 977 % (max_size - 13);

	for (uint32_t i = 0; i < size; i++)
		frame[i] = (uint8_t)(n * 7 + i * 13 + i / 256);
	return size;
}

static void check(const struct netfront_frame *frame, uint32_t n, uint32_t max_size)
{
	static uint8_t want[VIRTIO_NET_FRAME_MAX], got[VIRTIO_NET_FRAME_MAX];
	uint32_t size = make(want, n, max_size);

	assert_int_equal(frame->size, size);
	assert_int_equal(netfront_frame_copy(frame, 0, got, sizeof(got)), size);
	assert_memory_equal(got, want, size);
	assert_int_equal(netfront_frame_copy(frame, 14, got, 1), size > 14);
}

/* Sends and receives frames first to end - 1. */
static void exchange(struct netfront *nf, unsigned int pair, uint32_t first, uint32_t end, uint32_t max_size)
{
	static uint8_t bytes[VIRTIO_NET_FRAME_MAX];
	struct netfront_frame frames[7];
	uint32_t sent = first, got = first;

	while (got < end) {
		unsigned int what = NETFRONT_WAIT_RX;
		int n;

		while (sent < end) {
			uint32_t size = make(bytes, sent, max_size);
			int err = netfront_send_frame(nf, pair, bytes, size);

			if (err == -ENOBUFS) {
				what |= NETFRONT_WAIT_TX;
				break;
			}
			assert_int_equal(err, 0);
			sent++;
		}
		n = netfront_receive(nf, pair, frames, ARRAY_SIZE(frames));
		assert_true(n >= 0);
		for (int i = 0; i < n; i++)
			check(&frames[i], got++, max_size);
		if (n == 0)
			assert_true(netfront_wait(nf, pair, what, 5000) > 0);
	}
}

static void pass(const struct netfront_config *config, uint32_t max_size)
{
	struct netfront *nf = open_front(config);

	exchange(nf, 0, 0, 150, max_size);
	netfront_close(nf);
}

static const uint64_t feature_sets[] = {
	NETFRONT_FEATURES,
	VIRTIO_BIT(VIRTIO_F_VERSION_1),
	VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX),
	VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC),
	VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF),
	VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC),
	VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX), /* legacy */
	VIRTIO_BIT(VIRTIO_NET_F_CSUM),       /* legacy, nothing else that concerns rings */
};

static void test_layouts(void **state)
{
	const uint32_t pieces[] = {0, 700, 64, 5};

	(void)state;
	for (unsigned int f = 0; f < ARRAY_SIZE(feature_sets); f++)
		for (unsigned int p = 0; p < ARRAY_SIZE(pieces); p++)
			for (int apart = 0; apart < 2; apart++)
				pass(&(struct netfront_config){.features = feature_sets[f],
							       .piece = pieces[p],
							       .header_apart = apart,
							       .rx_size = 1024,
							       .tx_size = 512,
							       .polling = p % 2,
							       .ack = f == p},
				     1500);
}

static void test_ring_sizes(void **state)
{
	(void)state;
	for (unsigned int f = 0; f < ARRAY_SIZE(feature_sets); f++)
		for (uint32_t size = 1; size <= VRING_SIZE_MAX; size *= 8)
			pass(&(struct netfront_config){.features = feature_sets[f],
						       .rx_size = size,
						       .tx_size = VRING_SIZE_MAX / size},
			     1500);
}

static void test_mergeable(void **state)
{
	const uint32_t buffers[] = {64, 100, 1526, 4096};

	(void)state;
	for (unsigned int b = 0; b < ARRAY_SIZE(buffers); b++)
		for (int polling = 0; polling < 2; polling++)
			pass(&(struct netfront_config){.rx_buffer = buffers[b],
						       .tx_buffer = 65562,
						       .rx_size = 2048,
						       .polling = polling},
			     65536);
	/* Fewer buffers than descriptors. */
	pass(&(struct netfront_config){.rx_buffer = 512, .rx_buffers = 3}, 1500);
	/* 64 KiB without mergeable buffers, in one and in many descriptors. */
	pass(&(struct netfront_config){.features = VIRTIO_BIT(VIRTIO_F_VERSION_1),
				       .rx_buffer = 65562,
				       .tx_buffer = 65562},
	     65536);
	pass(
		&(struct netfront_config){
			.features = feature_sets[3], .rx_buffer = 65562, .tx_buffer = 65562, .piece = 4096},
		65536);
}

static void test_regions(void **state)
{
	const unsigned int counts[] = {1, 2, 8, 9, 100, VHOST_USER_MEM_SLOTS};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(counts); i++)
		pass(&(struct netfront_config){.regions = counts[i], .ack = true}, 1500);
	pass(&(struct netfront_config){.mem_slots = true}, 1500);
}

static void test_pairs(void **state)
{
	struct netfront *nf = open_front(&(struct netfront_config){.pairs = 3});

	(void)state;
	assert_int_equal(nf->pairs, 3);
	assert_true(nf->features & VIRTIO_BIT(VIRTIO_NET_F_MQ));
	for (unsigned int pair = 0; pair < 3; pair++)
		exchange(nf, pair, 0, 300, 1000);
	netfront_close(nf);

	/* No more than there are. */
	nf = open_front(&(struct netfront_config){.pairs = 8});
	assert_int_equal(nf->pairs, 4);
	exchange(nf, 3, 0, 300, 1000);
	netfront_close(nf);
}

static void test_header(void **state)
{
	const struct virtio_net_hdr header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = 54,
		.gso_size = 1448,
		.csum_start = 34,
		.csum_offset = 16,
	};
	uint8_t bytes[3][100] = {{1}, {2}, {3}};
	const struct iovec iov[] = {{bytes[0], 100}, {bytes[1], 0}, {bytes[2], 7}};
	struct netfront_frame frame;
	struct netfront *nf = open_front(&(struct netfront_config){.features = OFFERED});
	uint8_t got[200];

	(void)state;
	assert_int_equal(netfront_send(nf, 0, &header, iov, 3, false), 0);
	assert_true(netfront_wait(nf, 0, NETFRONT_WAIT_RX, 5000) > 0);
	assert_int_equal(netfront_receive(nf, 0, &frame, 1), 1);
	assert_memory_equal(&frame.header, &header, sizeof(header));
	assert_int_equal(frame.header.num_buffers, 1);
	assert_int_equal(netfront_frame_copy(&frame, 0, got, sizeof(got)), 107);
	assert_int_equal(got[100], 3);
	assert_true(netfront_wait(nf, 0, NETFRONT_WAIT_TX, 5000) > 0);
	assert_int_equal(netfront_reclaim(nf, 0), 1);
	netfront_close(nf);
}

static void test_limits(void **state)
{
	static uint8_t bytes[3000];
	struct netfront *nf = open_front(&(struct netfront_config){.tx_size = 4, .tx_buffer = 1500, .rx_buffers = 2});
	struct netfront_frame frames[8];
	int sent = 0;

	(void)state;
	assert_int_equal(netfront_send_frame(nf, 0, bytes, 1500 - 11), -EMSGSIZE);
	assert_int_equal(netfront_send_frame(nf, 0, bytes, 1500 - 12), 0);
	assert_true(netfront_wait(nf, 0, NETFRONT_WAIT_RX, 5000) > 0);
	assert_int_equal(netfront_receive(nf, 0, frames, 8), 1);
	/* The receiver has two buffers and holds one. The back end keeps what does not fit. */
	for (unsigned int tries = 0; sent < 5 && tries < 5000; tries++) {
		if (!netfront_send_frame(nf, 0, bytes, 100))
			sent++;
		else
			usleep(1000);
	}
	assert_int_equal(sent, 5);
	usleep(1000);
	assert_int_equal(netfront_send_frame(nf, 0, bytes, 100), -ENOBUFS);
	for (int got = 0; got < sent;) {
		int n = netfront_receive(nf, 0, frames, 8);

		assert_true(n >= 0);
		got += n;
		if (n == 0)
			assert_true(netfront_wait(nf, 0, NETFRONT_WAIT_RX, 5000) > 0);
	}
	netfront_close(nf);
}

static void test_in_place(void **state)
{
	static const uint8_t bytes[200] = {1, 2, 3};
	struct netfront *nf = open_front(&(struct netfront_config){.polling = true});
	uint32_t sent = 0, got = 0, back = 0;

	(void)state;
	assert_int_equal(netfront_tx_prepare(nf, 0, NULL, bytes, 4000), -EMSGSIZE);
	assert_int_equal(netfront_tx_prepare(nf, 0, NULL, bytes, sizeof(bytes)), 0);
	assert_int_equal(netfront_send_frame(nf, 0, bytes, 100), -ENOBUFS);
	while (got < 3000) {
		struct vq_used slots[32];
		int n = netfront_tx_take(nf, 0, slots, 32);

		assert_true(n >= 0);
		back += (uint32_t)n;
		for (int i = 0; i < n; i++, sent++)
			memcpy(netfront_buffer(nf, slots[i].tag) + 20, &sent, sizeof(sent));
		assert_int_equal(netfront_tx_give(nf, 0, slots, (unsigned int)n), 0);
		n = netfront_rx_take(nf, 0, slots, 32);
		assert_true(n >= 0);
		for (int i = 0; i < n; i++, got++) {
			assert_int_equal(slots[i].len, 212);
			assert_memory_equal(netfront_buffer(nf, slots[i].tag) + 20, &got, 4);
		}
		assert_int_equal(netfront_rx_give(nf, 0, slots, (unsigned int)n), 0);
	}
	assert_int_equal(back, sent);
	netfront_close(nf);
}

static void send_some(struct netfront *nf, uint32_t first, uint32_t end)
{
	uint8_t bytes[1500];

	for (uint32_t n = first; n < end; n++)
		assert_int_equal(netfront_send_frame(nf, 0, bytes, make(bytes, n, 1500)), 0);
}

static void receive_some(struct netfront *nf, uint32_t first, uint32_t end)
{
	struct netfront_frame frames[16];

	while (first < end) {
		int n = netfront_receive(nf, 0, frames, 16);

		assert_true(n >= 0);
		for (int i = 0; i < n; i++)
			check(&frames[i], first++, 1500);
		if (n == 0)
			assert_true(netfront_wait(nf, 0, NETFRONT_WAIT_RX, 5000) > 0);
	}
	assert_int_equal(netfront_receive(nf, 0, frames, 16), 0);
}

/* Whatever happens to the connection, each frame arrives once and in order. */
static void test_stop_and_reconnect(void **state)
{
	(void)state;
	for (unsigned int f = 0; f < ARRAY_SIZE(feature_sets); f++) {
		struct netfront *nf = open_front(&(struct netfront_config){.features = feature_sets[f]});

		send_some(nf, 0, 50);
		assert_int_equal(netfront_stop(nf), 0);
		send_some(nf, 50, 60);
		assert_int_equal(netfront_start(nf), 0);
		receive_some(nf, 0, 60);

		lb->paused = true;
		send_some(nf, 60, 100);
		lb->hang_up = true;
		lb->paused = false;
		assert_int_equal(netfront_reconnect(nf, false), 0);
		send_some(nf, 100, 110);
		receive_some(nf, 60, 110);

		assert_int_equal(netfront_reconnect(nf, true), 0);
		exchange(nf, 0, 0, 300, 1500);
		netfront_close(nf);
	}
}

static void test_wait(void **state)
{
	static uint8_t bytes[100];
	struct netfront *nf = open_front(&(struct netfront_config){0});
	const unsigned int both = NETFRONT_WAIT_RX | NETFRONT_WAIT_TX;

	(void)state;
	assert_int_equal(netfront_wait(nf, 0, NETFRONT_WAIT_RX, 10), 0);
	lb->paused = true;
	for (unsigned int i = 0; i < 10; i++)
		netfront_send_frame(nf, 0, bytes, 100);
	assert_int_equal(netfront_wait(nf, 0, both, 10), 0);
	lb->paused = false;
	assert_int_equal(netfront_wait(nf, 0, NETFRONT_WAIT_TX, 5000), NETFRONT_WAIT_TX);
	assert_true(netfront_wait(nf, 0, NETFRONT_WAIT_RX, 5000) & NETFRONT_WAIT_RX);
	lb->hang_up = true;
	assert_int_equal(netfront_wait(nf, 0, 0, 5000), -ECONNRESET);
	netfront_close(nf);
}

static void test_control(void **state)
{
	const uint16_t pairs = 2;
	struct netfront *nf;

	(void)state;
	nf = open_front(&(struct netfront_config){.features = OFFERED, .pairs = 2});
	assert_non_null(nf->control);
	assert_int_equal(nf->control->index, 8);
	for (unsigned int i = 0; i < 100; i++) {
		assert_int_equal(netfront_control(nf, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs,
						  sizeof(pairs)),
				 0);
		assert_int_equal(lb->control_command[0], VIRTIO_NET_CTRL_MQ);
		assert_int_equal(netfront_control(nf, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0),
				 0);
		assert_int_equal(lb->control_command[0], VIRTIO_NET_CTRL_ANNOUNCE);
	}
	exchange(nf, 1, 0, 100, 1500);
	netfront_close(nf);

	nf = open_front(&(struct netfront_config){0});
	assert_int_equal(netfront_control(nf, 0, 0, NULL, 0), -ENOTSUP);
	netfront_close(nf);
}

static void test_refusals(void **state)
{
	struct netfront_config config = {.path = path, .timeout_ms = 200};
	const char *step;
	struct netfront *nf;

	(void)state;
	config.features = config.required = VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM);
	assert_int_equal(netfront_open(&nf, &config, &step), -ENOTSUP);
	assert_string_equal(step, "features");
	assert_null(nf);

	config = (struct netfront_config){.path = path, .rx_size = 3};
	assert_int_equal(netfront_open(&nf, &config, NULL), -EINVAL);
	config = (struct netfront_config){.path = path, .tx_size = 65536};
	assert_int_equal(netfront_open(&nf, &config, NULL), -EINVAL);
	config = (struct netfront_config){.path = path, .regions = VHOST_USER_MEM_SLOTS + 1};
	assert_int_equal(netfront_open(&nf, &config, NULL), -EINVAL);
	config = (struct netfront_config){.path = path, .rx_buffer = 1 << 20, .piece = 1};
	assert_int_equal(netfront_open(&nf, &config, NULL), -EINVAL);
	/* A chain of two descriptors for a ring of one. */
	config = (struct netfront_config){
		.path = path, .rx_size = 1, .header_apart = true, .features = VIRTIO_BIT(VIRTIO_F_VERSION_1)};
	assert_int_equal(netfront_open(&nf, &config, &step), -EINVAL);
	assert_string_equal(step, "buffers");
	config = (struct netfront_config){.path = "/nonexistent/sock", .timeout_ms = 10};
	assert_int_equal(netfront_open(&nf, &config, &step), -ENOENT);
	assert_string_equal(step, "connection");
}

static void test_lies(void **state)
{
	const enum loopback_lie lies[] = {LOOPBACK_SHORT, LOOPBACK_NO_BUFFERS, LOOPBACK_MANY, LOOPBACK_ID};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(lies); i++) {
		struct netfront *nf = open_front(&(struct netfront_config){0});
		struct netfront_frame frames[4];

		exchange(nf, 0, 0, 20, 1500);
		lb->lie = lies[i];
		send_some(nf, 0, 1);
		assert_true(netfront_wait(nf, 0, NETFRONT_WAIT_RX, 5000) > 0);
		assert_int_equal(netfront_receive(nf, 0, frames, 4), -EPROTO);
		assert_int_equal(netfront_receive(nf, 0, frames, 4), -EPROTO);
		lb->lie = LOOPBACK_HONEST;
		/* A queue that was lied to does not go on, but starts afresh. */
		assert_int_equal(netfront_reconnect(nf, false), -EPROTO);
		assert_int_equal(netfront_reconnect(nf, true), 0);
		exchange(nf, 0, 0, 20, 1500);
		netfront_close(nf);
	}
}

/* Sealed unless asked: a back end may rely on it. And nothing is left open. */
static void test_memory_file(void **state)
{
	int before = unit_next_fd();
	struct netfront *nf = open_front(&(struct netfront_config){0});
	struct stat st;

	(void)state;
	assert_int_equal(fstat(nf->memfd, &st), 0);
	assert_int_equal(st.st_size, nf->memory_size);
	assert_true(ftruncate(nf->memfd, 4096) < 0);
	assert_true(fcntl(nf->memfd, F_GET_SEALS) & F_SEAL_SHRINK);
	netfront_close(nf);
	nf = open_front(&(struct netfront_config){.unsealed = true});
	assert_int_equal(ftruncate(nf->memfd, st.st_size), 0);
	netfront_close(nf);
	netfront_close(NULL);
	lb->paused = true;
	while (lb->fault != VHOST_FAULT_HANGUP || lb->dev.sock >= 0)
		usleep(1000);
	assert_int_equal(unit_next_fd(), before);
}

#define front_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		front_test(test_layouts),   front_test(test_ring_sizes),
		front_test(test_mergeable), front_test(test_regions),
		front_test(test_pairs),     front_test(test_header),
		front_test(test_limits),    front_test(test_in_place),
		front_test(test_wait),      front_test(test_stop_and_reconnect),
		front_test(test_control),   front_test(test_refusals),
		front_test(test_lies),      front_test(test_memory_file),
	};

	int failed = cmocka_run_group_tests_name("split", tests, NULL, NULL);

	ring_kind = VIRTIO_BIT(VIRTIO_F_RING_PACKED);
	return failed + cmocka_run_group_tests_name("packed", tests, NULL, NULL);
}
