/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames that a virtio-net driver sends in many buffers, against a back end that sends everything back: split and
 * packed rings, with and without indirect tables; every buffer comes back exactly once, whatever happens to the
 * connection.
 */
#include "unit.h"

#include <errno.h>

#include "loopback.h"
#include "vhost/netfront.h"

#define BUFFERS 96
#define RING    32

static char dir[64], path[128];
static struct loopback *lb;

static const uint64_t feature_sets[] = {
	NETFRONT_FEATURES,
	NETFRONT_FEATURES | NETFRONT_FEATURES_PACKED,
	VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF),
	VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | NETFRONT_FEATURES_PACKED,
};

static int set_up(void **state)
{
	const struct vhost_device_config config = {
		.name = "test",
		.features = NETFRONT_FEATURES | NETFRONT_FEATURES_PACKED,
		.pairs = 1,
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

static struct netfront *open_front(uint64_t features)
{
	const struct netfront_config config = {
		.path = path,
		.features = features,
		.required = features,
		.rx_size = 256,
		.rx_buffer = 4096,
		.tx_size = RING,
		.tx_buffers = BUFFERS,
		.tx_pieces = 40,
	};
	const char *step;
	struct netfront *nf;
	int err = netfront_open(&nf, &config, &step);

	if (err)
		fail_msg("%s: %s", step, strerror(-err));
	return nf;
}

/* Every buffer is in the pool, once. Returns with all of them there. */
static void check_pool(struct netfront *nf)
{
	uint32_t tags[BUFFERS + 1];
	int n = 0;

	for (unsigned int tries = 0; n < BUFFERS && tries < 5000; tries++) {
		int more = netfront_tx_buffers(nf, 0, tags + n, (unsigned int)(BUFFERS + 1 - n));

		assert_true(more >= 0);
		n += more;
		if (n < BUFFERS)
			usleep(1000);
	}
	assert_int_equal(n, BUFFERS);
	for (int i = 0; i < n; i++)
		for (int j = 0; j < i; j++)
			assert_int_not_equal(tags[i], tags[j]);
	assert_int_equal(netfront_tx(nf, 0)->posted, 0);
	netfront_tx_put_back(nf, 0, tags, (unsigned int)n);
}

/* Frame number `number` in so many pieces, of sizes and offsets that differ. Returns its size, or post's error. */
static int post(struct netfront *nf, uint32_t number, unsigned int count)
{
	struct netfront_piece pieces[RING + 1];
	uint32_t tags[RING + 1], size = 0;
	int n = netfront_tx_buffers(nf, 0, tags, count), err;

	assert_true(n >= 0);
	if ((unsigned int)n < count) {
		netfront_tx_put_back(nf, 0, tags, (unsigned int)n);
		return -ENOBUFS;
	}
	for (unsigned int i = 0; i < count; i++) {
		uint8_t *to;

		pieces[i] = (struct netfront_piece){
			.tag = tags[i],
			.offset = (number + i) % 200,
			.size = 1 + (number * 31 + i * 17) % 90 + (i ? 0 : nf->hdr_len + 14),
		};
		to = netfront_buffer(nf, tags[i]) + pieces[i].offset;
		for (uint32_t j = 0; j < pieces[i].size; j++)
			to[j] = (uint8_t)(number + i * 5 + j);
		if (i == 0)
			memset(to, 0, nf->hdr_len);
		size += pieces[i].size;
	}
	err = netfront_tx_post(nf, 0, pieces, count);
	if (err)
		netfront_tx_put_back(nf, 0, tags, count);
	return err ? err : (int)(size - nf->hdr_len);
}

static void check(const struct netfront *nf, const struct netfront_frame *frame, uint32_t number, unsigned int count)
{
	uint8_t got[4096], want[4096];
	uint32_t size = 0;

	for (unsigned int i = 0; i < count; i++) {
		uint32_t skip = i ? 0 : nf->hdr_len;
		uint32_t piece = 1 + (number * 31 + i * 17) % 90 + (i ? 0 : 14);

		for (uint32_t j = 0; j < piece; j++)
			want[size++] = (uint8_t)(number + i * 5 + j + skip);
	}
	assert_int_equal(frame->size, size);
	assert_int_equal(netfront_frame_copy(frame, 0, got, sizeof(got)), size);
	assert_memory_equal(got, want, size);
}

static unsigned int pieces_of(uint32_t number)
{
	return number % 7 == 3 ? RING : 1 + number % 5;
}

static void receive(struct netfront *nf, uint32_t *got, uint32_t end)
{
	struct netfront_frame frames[8];

	while (*got < end) {
		int n = netfront_receive(nf, 0, frames, ARRAY_SIZE(frames));

		assert_true(n >= 0);
		for (int i = 0; i < n; i++, ++*got)
			check(nf, &frames[i], *got, pieces_of(*got));
		if (n == 0)
			assert_true(netfront_wait(nf, 0, NETFRONT_WAIT_RX, 5000) > 0);
	}
}

static void test_frames(void **state)
{
	(void)state;
	for (unsigned int f = 0; f < ARRAY_SIZE(feature_sets); f++) {
		struct netfront *nf = open_front(feature_sets[f]);
		bool indirect = feature_sets[f] & VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC);
		uint32_t sent = 0, got = 0;

		assert_int_equal(netfront_tx_pieces_max(nf, 0), indirect ? 40 : RING);
		while (got < 3000) {
			int size = 0;

			for (unsigned int i = 0; i < 9 && size >= 0; i++) {
				size = post(nf, sent, pieces_of(sent));
				assert_true(size > 0 || size == -ENOBUFS);
				sent += size > 0;
			}
			netfront_flush(nf, netfront_tx(nf, 0));
			receive(nf, &got, sent);
		}
		check_pool(nf);
		netfront_close(nf);
	}
}

static void test_limits(void **state)
{
	(void)state;
	for (unsigned int f = 0; f < ARRAY_SIZE(feature_sets); f++) {
		struct netfront *nf = open_front(feature_sets[f]);
		bool indirect = feature_sets[f] & VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC);
		struct netfront_piece pieces[NETFRONT_PIECES_MAX + 1] = {{0}};
		unsigned int posted = 0;
		uint32_t tag;

		assert_int_equal(netfront_tx_post(nf, 0, pieces, 0), -EINVAL);
		assert_int_equal(netfront_tx_post(nf, 0, pieces, 41), -EINVAL);
		assert_int_equal(netfront_tx_post(nf, 0, pieces, NETFRONT_PIECES_MAX + 1), -EINVAL);

		/* Chains of three: the ring is full after ten of them, or the pool after all. */
		lb->paused = true;
		while (post(nf, posted, 3) > 0)
			posted++;
		assert_int_equal(posted, indirect ? BUFFERS / 3 : RING / 3);
		assert_int_equal(netfront_tx(nf, 0)->posted, 3 * posted);
		assert_int_equal(netfront_tx_buffers(nf, 0, &tag, 1), indirect ? 0 : 1);
		if (!indirect)
			netfront_tx_put_back(nf, 0, &tag, 1);
		netfront_flush(nf, netfront_tx(nf, 0));
		lb->paused = false;
		check_pool(nf);
		netfront_close(nf);
	}
}

static void test_reconnect(void **state)
{
	(void)state;
	for (unsigned int f = 0; f < ARRAY_SIZE(feature_sets); f++) {
		struct netfront *nf = open_front(feature_sets[f]);
		uint32_t got = 0;

		/* What the first back end has not used goes to the second, in as many pieces. */
		lb->paused = true;
		for (uint32_t i = 0; i < 3; i++)
			assert_true(post(nf, i, pieces_of(i)) > 0);
		netfront_flush(nf, netfront_tx(nf, 0));
		lb->hang_up = true;
		lb->paused = false;
		assert_int_equal(netfront_reconnect(nf, false), 0);
		receive(nf, &got, 3);
		check_pool(nf);

		/* Or it is forgotten. */
		lb->paused = true;
		for (uint32_t i = 0; i < 3; i++)
			assert_true(post(nf, i, pieces_of(i)) > 0);
		lb->paused = false;
		assert_int_equal(netfront_reconnect(nf, true), 0);
		check_pool(nf);
		netfront_close(nf);
	}
}

#define front_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		front_test(test_frames),
		front_test(test_limits),
		front_test(test_reconnect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
