/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What moves frames between a device and a port, with a device that is a list of numbers and a switch that sends
 * everything back: what the device sends comes to it again, in order and in full, whatever either of them refuses,
 * delays or gets wrong meanwhile.
 */
#include "unit.h"

#include <errno.h>
#include <sys/eventfd.h>

#include "driver/heartbeat.h"
#include "driver/pump.h"
#include "lib/clock.h"
#include "loopback.h"

#define FRAMES     400
#define FRAME_MAX  1900
#define BUFFERS    256
#define PATIENCE_S 20

/* The device. */
static struct {
	uint32_t next;     /* frame to send */
	uint32_t end;      /* the first that it does not send */
	uint32_t got;      /* frames that came back */
	uint32_t missing;  /* of them were refused or lost before, on purpose */
	unsigned int room; /* frames that it takes at once; 0: full */
	uint32_t refuses;  /* the frame with this number, for ever */
	int rx_error, tx_error;
	unsigned int pieces; /* of a frame that it sends */
	uint32_t empty[BUFFERS], done[BUFFERS];
	unsigned int empties, dones;
	bool shuffles; /* rx brings buffers into another order */
} device;

static char dir[64], path[128];
static struct loopback *lb;
static struct netfront *nf;
static struct driver_device dev;
static struct driver_config config;
static struct pump pump;
static int report_fd;

static uint32_t frame_size(uint32_t n)
{
	return 14 + n * 977 % (FRAME_MAX - 13);
}

static uint8_t frame_byte(uint32_t n, uint32_t i)
{
	return (uint8_t)(n * 7 + i * 13 + i / 256);
}

/* Writes bytes first to end - 1 of frame n. */
static void write_part(uint8_t *to, uint32_t n, uint32_t first, uint32_t last)
{
	for (uint32_t i = first; i < last; i++)
		*to++ = frame_byte(n, i);
}

static void fill(struct driver_frame *frame, uint32_t n, uint32_t first, uint32_t last, bool part)
{
	uint32_t header = part ? 0 : VIRTIO_NET_HDR_LEN;

	assert_true(frame->room >= header + last - first);
	memset(frame->data, 0, header);
	write_part(frame->data + header, n, first, last);
	frame->size = header + last - first;
	frame->part = part;
	frame->next = NULL;
}

/* Makes frames out of empty buffers. Returns how many buffers were used. */
static int make_frames(struct driver_frame *frames, unsigned int n)
{
	unsigned int used = 0;

	if (device.rx_error)
		return device.rx_error;
	while (device.next < device.end && used + device.pieces <= n) {
		uint32_t size = frame_size(device.next), cut = size / device.pieces;

		if (device.shuffles && used + 1 < n) {
			struct driver_frame other = frames[used];

			frames[used] = frames[used + 1];
			frames[used + 1] = other;
		}
		for (unsigned int i = 0; i < device.pieces; i++) {
			fill(&frames[used + i], device.next, i * cut, i + 1 < device.pieces ? (i + 1) * cut : size,
			     i > 0);
			if (i > 0)
				frames[used + i - 1].next = &frames[used + i];
		}
		used += device.pieces;
		device.next++;
	}
	return (int)used;
}

static int fake_rx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	(void)queue;
	return make_frames(frames, n);
}

static int fake_rx_posted(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	unsigned int have = min(n, device.empties);
	int used;

	for (unsigned int i = 0; i < have; i++) {
		frames[i] = (struct driver_frame){
			.buffer = device.empty[device.empties - 1 - i],
			.data = driver_buffer(&queue->dev->pool, device.empty[device.empties - 1 - i]),
			.room = queue->dev->facts.from_size,
		};
	}
	used = make_frames(frames, have);
	if (used > 0)
		device.empties -= (unsigned int)used;
	return used;
}

static int fake_rx_give(struct driver_queue *queue, const uint32_t *buffers, unsigned int n)
{
	unsigned int taken = 0;

	(void)queue;
	/* Half of what there is, so that some remain with the pump. */
	while (taken < n && device.empties < BUFFERS / 2)
		device.empty[device.empties++] = buffers[taken++];
	return (int)taken;
}

/* A frame that came back is the next one. */
static void check_frame(const struct driver_frame *frame)
{
	uint32_t n = device.got + device.missing, skip = VIRTIO_NET_HDR_LEN, at = 0;

	for (; frame; frame = frame->next) {
		for (uint32_t i = skip; i < frame->size; i++, at++)
			assert_int_equal(frame->data[i], frame_byte(n, at));
		skip = 0;
	}
	assert_int_equal(at, frame_size(n));
}

static int fake_tx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	unsigned int taken = 0;

	if (device.tx_error)
		return device.tx_error;
	for (; taken < n && taken < device.room; taken++) {
		check_frame(&frames[taken]);
		if (device.got + device.missing == device.refuses) {
			driver_refuse(queue, &frames[taken], DRIVER_DROP_TOO_LONG);
			device.missing++;
			continue;
		}
		device.got++;
		for (const struct driver_frame *piece = &frames[taken]; piece; piece = piece->next)
			device.done[device.dones++] = piece->buffer;
		if (!queue->dev->kind->tx_done)
			device.dones = 0;
	}
	return (int)taken;
}

/* Last in, first out: no order at all. */
static int fake_tx_done(struct driver_queue *queue, uint32_t *buffers, unsigned int n)
{
	unsigned int given = 0;

	(void)queue;
	while (given < n && device.dones > 0)
		buffers[given++] = device.done[--device.dones];
	return (int)given;
}

static int fake_open(struct driver_device *unused)
{
	(void)unused;
	return 0;
}

static void fake_close(struct driver_device *unused)
{
	(void)unused;
}

static const struct driver_kind fake_kind = {
	.name = "fake", .open = fake_open, .bind = fake_open, .rx = fake_rx, .tx = fake_tx, .close = fake_close};
static const struct driver_kind posted_kind = {.name = "posted",
					       .open = fake_open,
					       .bind = fake_open,
					       .rx = fake_rx_posted,
					       .rx_give = fake_rx_give,
					       .tx = fake_tx,
					       .tx_done = fake_tx_done,
					       .close = fake_close};

static int set_up(void **state)
{
	const struct vhost_device_config device_config = {
		.name = "test",
		.features = NETFRONT_FEATURES | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ),
		.pairs = 1,
		.control_queue = true,
	};

	(void)state;
	assert_non_null(unit_temporary_dir(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	lb = loopback_start(path, &device_config);
	report_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	memset(&device, 0, sizeof(device));
	device.room = DRIVER_BATCH;
	device.refuses = UINT32_MAX;
	device.pieces = 1;
	device.end = FRAMES;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	pump_cleanup(&pump);
	driver_device_close(&dev);
	netfront_close(nf);
	nf = NULL;
	loopback_stop(lb);
	close(report_fd);
	unlink(path);
	rmdir(dir);
	return 0;
}

/* Connects a device of that kind whose buffers towards it have so many bytes. */
static void start(const struct driver_kind *kind, uint32_t to_size, uint64_t features)
{
	const struct netfront_config front = {
		.path = path,
		.features = features,
		.required = VIRTIO_BIT(VIRTIO_F_VERSION_1),
		.rx_buffer = to_size,
		.tx_buffer = 2048,
		.rx_size = BUFFERS,
		.tx_size = BUFFERS,
	};
	const char *step;

	config = (struct driver_config){.port = path, .device = "dev\nice", .queues = 1};
	assert_int_equal(driver_device_init(&dev, kind, &config), 0);
	assert_int_equal(netfront_open(&nf, &front, &step), 0);
	dev.facts.from_size = 2048;
	dev.pool = pump_pool(nf);
	assert_int_equal(pump_init(&pump, &dev.queues[0], nf, 0, report_fd), 0);
}

#define PLAIN (NETFRONT_FEATURES | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ))

/* Goes round until the device has got so many, or a round says so. */
static int go_round(uint32_t wanted)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_S * NS_PER_S;
	int work = 0;

	while (work >= 0 && device.got < wanted) {
		assert_true(clock_now_ns() < deadline);
		work = pump_round(&pump);
		if (work == 0)
			pump_sleep(&pump, 20);
	}
	return work;
}

static uint64_t drops(enum driver_drop reason)
{
	return dev.queues[0].counters.drops[reason];
}

static void no_drops(void)
{
	for (unsigned int i = 0; i < DRIVER_DROP_COUNT; i++)
		assert_int_equal(drops(i), 0);
}

/* All buffers are where they can be used again. */
static void nothing_lost(void)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_S * NS_PER_S;

	uint32_t empty[2 * BUFFERS];
	unsigned int count = 0;

	while (pump.from->idle_count + pump.offered_count - pump.filled + device.empties < BUFFERS ||
	       vq_driver_in_flight(&pump.to->vq) < BUFFERS) {
		assert_true(clock_now_ns() < deadline);
		assert_true(pump_round(&pump) >= 0);
	}
	assert_true(pump.offered_count <= DRIVER_BATCH && pump.from->idle_count <= BUFFERS);
	for (unsigned int i = 0; i < pump.from->idle_count; i++)
		empty[count++] = pump.from->idle[i];
	for (unsigned int i = pump.filled; i < pump.offered_count; i++)
		empty[count++] = pump.offered[i].buffer;
	for (unsigned int i = 0; i < count; i++) {
		for (unsigned int j = 0; j < i; j++)
			assert_int_not_equal(empty[i], empty[j]);
	}
}

static void check_passes(const struct driver_kind *kind, uint32_t to_size, unsigned int pieces)
{
	uint64_t bytes = 0;

	device.pieces = pieces;
	start(kind, to_size, PLAIN);
	assert_true(go_round(FRAMES) >= 0);
	for (uint32_t i = 0; i < FRAMES; i++)
		bytes += frame_size(i);
	assert_int_equal(dev.queues[0].counters.rx_packets, FRAMES);
	assert_int_equal(dev.queues[0].counters.tx_packets, FRAMES);
	assert_int_equal(dev.queues[0].counters.rx_bytes, bytes);
	assert_int_equal(dev.queues[0].counters.tx_bytes, bytes);
	no_drops();
	nothing_lost();
}

static void test_passes(void **state)
{
	(void)state;
	check_passes(&fake_kind, 2048, 1);
}

static void test_pieces_to_device(void **state)
{
	(void)state;
	check_passes(&fake_kind, 256, 1);
}

static void test_pieces_from_device(void **state)
{
	(void)state;
	check_passes(&fake_kind, 2048, 3);
}

static void test_posted(void **state)
{
	(void)state;
	check_passes(&posted_kind, 2048, 1);
}

static void test_posted_pieces(void **state)
{
	(void)state;
	check_passes(&posted_kind, 300, 2);
}

static void test_shuffled(void **state)
{
	(void)state;
	device.shuffles = true;
	check_passes(&fake_kind, 2048, 1);
}

static void test_full(void **state)
{
	(void)state;
	start(&fake_kind, 512, PLAIN);
	device.room = 0;
	for (unsigned int i = 0; i < 50; i++) {
		assert_true(pump_round(&pump) >= 0);
		pump_sleep(&pump, 1);
	}
	assert_true(pump.blocked);
	assert_int_equal(device.got, 0);
	device.room = 1;
	assert_true(go_round(FRAMES) >= 0);
	no_drops();
	nothing_lost();
}

static void test_refused(void **state)
{
	(void)state;
	device.refuses = 33;
	start(&posted_kind, 512, PLAIN);
	assert_true(go_round(FRAMES - 1) >= 0);
	assert_int_equal(drops(DRIVER_DROP_TOO_LONG), 1);
	assert_int_equal(dev.queues[0].counters.tx_packets, FRAMES - 1);
	nothing_lost();
}

static void test_down(void **state)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_S * NS_PER_S;

	(void)state;
	start(&posted_kind, 2048, PLAIN);
	device.end = 50;
	device.tx_error = -ENETDOWN;
	while (drops(DRIVER_DROP_DEVICE_DOWN) < 50) {
		assert_true(clock_now_ns() < deadline);
		assert_true(pump_round(&pump) >= 0);
	}
	device.missing = 50;
	device.tx_error = 0;
	device.end = FRAMES;
	assert_true(go_round(FRAMES - 50) >= 0);
	assert_int_equal(drops(DRIVER_DROP_DEVICE_DOWN), 50);
	assert_int_equal(dev.queues[0].counters.tx_packets, FRAMES - 50);
	nothing_lost();
}

static void test_errors(void **state)
{
	(void)state;
	start(&fake_kind, 2048, PLAIN);
	device.rx_error = -EIO;
	assert_int_equal(pump_round(&pump), 0);
	assert_int_equal(drops(DRIVER_DROP_DEVICE_ERROR), 1);
	device.rx_error = -ENETDOWN;
	assert_int_equal(pump_round(&pump), 0);
	assert_int_equal(drops(DRIVER_DROP_DEVICE_ERROR), 1);
	device.rx_error = -ENODEV;
	assert_int_equal(pump_round(&pump), -ENODEV);
	device.rx_error = 0;
	device.tx_error = -ENODEV;
	assert_int_equal(go_round(1), -ENODEV);
}

/* One frame, cut short by the device. */
static int short_rx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	int made = make_frames(frames, n);

	(void)queue;
	for (int i = 0; i < made; i++)
		frames[i].size = VIRTIO_NET_HDR_LEN + 13;
	return made;
}

static void test_short(void **state)
{
	static const struct driver_kind kind = {.name = "short",
						.open = fake_open,
						.bind = fake_open,
						.rx = short_rx,
						.tx = fake_tx,
						.close = fake_close};

	(void)state;
	device.end = 5;
	start(&kind, 2048, PLAIN);
	assert_true(pump_round(&pump) >= 0);
	assert_int_equal(drops(DRIVER_DROP_BAD_FRAME), 5);
	assert_int_equal(dev.queues[0].counters.rx_packets, 0);
	nothing_lost();
}

static void check_lie(enum loopback_lie lie)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_S * NS_PER_S;

	start(&fake_kind, 2048, PLAIN);
	lb->lie = lie;
	device.end = 20;
	while (drops(DRIVER_DROP_BAD_CHAIN) < 20) {
		assert_true(clock_now_ns() < deadline);
		assert_true(pump_round(&pump) >= 0);
	}
	assert_int_equal(device.got, 0);
	lb->lie = LOOPBACK_HONEST;
	device.missing = 20;
	device.end = FRAMES;
	assert_true(go_round(FRAMES - 20) >= 0);
	nothing_lost();
}

static void test_short_chain(void **state)
{
	(void)state;
	check_lie(LOOPBACK_SHORT);
}

static void test_no_chain(void **state)
{
	(void)state;
	check_lie(LOOPBACK_NO_BUFFERS);
}

static void test_too_many_chains(void **state)
{
	(void)state;
	check_lie(LOOPBACK_MANY);
}

static void test_broken_ring(void **state)
{
	(void)state;
	start(&fake_kind, 2048, PLAIN);
	lb->lie = LOOPBACK_ID;
	assert_int_equal(go_round(1), -EPROTO);
}

/* The thread works, answers while it sleeps, and reports why it ends. */
static void test_thread(void **state)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_S * NS_PER_S, count;

	(void)state;
	start(&fake_kind, 2048, PLAIN);
	assert_int_equal(pump_start(&pump), 0);
	while (load_relaxed(&dev.queues[0].counters.tx_packets) < FRAMES && clock_now_ns() < deadline)
		usleep(1000);
	for (unsigned int i = 0; i < 3; i++) {
		pump_ask(&pump);
		while (!pump_answered(&pump) && clock_now_ns() < deadline)
			usleep(1000);
		assert_true(pump_answered(&pump));
	}
	assert_int_equal(load_acquire(&pump.ended), 0);
	pump_stop(&pump);
	assert_int_equal(device.got, FRAMES);
	no_drops();

	pump.stop = 0;
	device.rx_error = -ENODEV;
	assert_int_equal(pump_start(&pump), 0);
	while (!load_acquire(&pump.ended) && clock_now_ns() < deadline)
		usleep(1000);
	/* The report comes after that. */
	pump_stop(&pump);
	assert_int_equal(pump.result, -ENODEV);
	assert_int_equal(read(report_fd, &count, sizeof(count)), sizeof(count));
}

static void test_heartbeat(void **state)
{
	struct heartbeat beat = {.notify_fd = -1};
	struct driver_status status, parsed;
	int err = -EAGAIN;

	(void)state;
	device.refuses = 7;
	start(&fake_kind, 2048, PLAIN);
	assert_true(go_round(FRAMES - 1) >= 0);
	dev.facts.link = true;
	dev.facts.mtu = 1500;
	heartbeat_fill(&dev, &status);
	assert_true(driver_status_parse(&parsed, &status, sizeof(status)));
	assert_string_equal(parsed.kind, "fake");
	assert_string_equal(parsed.device, "dev?ice");
	assert_int_equal(parsed.link, 1);
	assert_int_equal(parsed.queues, 1);
	assert_int_equal(parsed.rx_packets, FRAMES);
	assert_int_equal(parsed.tx_packets, FRAMES - 1);
	assert_int_equal(parsed.drops[DRIVER_DROP_TOO_LONG], 1);

	assert_int_equal(heartbeat_send(&dev, nf), 0);
	assert_int_equal(heartbeat_send(&dev, nf), -EBUSY);
	for (unsigned int i = 0; i < 5000 && err == -EAGAIN; i++) {
		usleep(1000);
		err = netfront_control_end(nf);
	}
	assert_int_equal(err, 0);
	assert_int_equal(netfront_control_end(nf), -ENOTSUP);
	assert_int_equal(lb->control_command[0], DRIVER_CTRL_CLASS);
	assert_int_equal(lb->control_command[1], DRIVER_CTRL_STATUS);
	assert_int_equal(heartbeat_answered(&beat, 0), 0);
	assert_int_equal(heartbeat_answered(&beat, -EREMOTEIO), 0);
	assert_true(beat.refused);
	assert_int_equal(heartbeat_answered(&beat, -EPROTO), -EPROTO);
}

#define pump_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		pump_test(test_passes),      pump_test(test_pieces_to_device),
		pump_test(test_posted),      pump_test(test_pieces_from_device),
		pump_test(test_shuffled),    pump_test(test_posted_pieces),
		pump_test(test_full),        pump_test(test_refused),
		pump_test(test_down),        pump_test(test_errors),
		pump_test(test_short),       pump_test(test_short_chain),
		pump_test(test_no_chain),    pump_test(test_too_many_chains),
		pump_test(test_broken_ring), pump_test(test_thread),
		pump_test(test_heartbeat),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
