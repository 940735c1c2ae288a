/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user front end against a scripted back end: answers are put into the socket before the
 * question is asked, and what was said is read from it afterwards. Each message as it is on the
 * wire; then back ends that are silent, slow, wrong, gone, or send descriptors that nobody asked
 * for.
 */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/fdpass.h"
#include "vhost/vhost_frontend.h"

#define TIMEOUT_MS 100

static struct vhost_frontend fe;
static int peer;

static int set_up(void **state)
{
	int socks[2];

	(void)state;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks))
		return -1;
	vhost_frontend_init(&fe, TIMEOUT_MS);
	peer = socks[1];
	return vhost_frontend_adopt(&fe, socks[0]);
}

static int tear_down(void **state)
{
	(void)state;
	vhost_frontend_close(&fe);
	close(peer);
	return 0;
}

/* What the back end will say. */
static void say(uint32_t request, uint32_t flags, const void *payload, uint32_t size)
{
	struct vhost_user_header header = {.request = request, .flags = flags, .size = size};

	assert_int_equal(write(peer, &header, sizeof(header)), sizeof(header));
	assert_int_equal(write(peer, payload, size), size);
}

static void say_u64(uint32_t request, uint64_t value)
{
	say(request, VHOST_USER_VERSION | VHOST_USER_REPLY, &value, sizeof(value));
}

/* What the back end has heard: exactly this message, with so many descriptors. */
static void expect(uint32_t request, uint32_t flags, const void *payload, uint32_t size, size_t fd_count)
{
	struct vhost_user_header header;
	int fds[FDPASS_MAX];
	uint8_t got[1024];
	size_t n_fds;

	assert_int_equal(fdpass_recv(peer, &header, sizeof(header), fds, FDPASS_MAX, &n_fds), sizeof(header));
	assert_int_equal(n_fds, fd_count);
	fdpass_close(fds, n_fds);
	assert_int_equal(header.request, request);
	assert_int_equal(header.flags, flags);
	assert_int_equal(header.size, size);
	if (size > 0) {
		assert_int_equal(read(peer, got, size), size);
		assert_memory_equal(got, payload, size);
	}
}

static void expect_nothing(void)
{
	char byte;

	assert_int_equal(recv(peer, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void expect_u64(uint32_t request, uint64_t value, size_t fd_count)
{
	expect(request, VHOST_USER_VERSION, &value, sizeof(value), fd_count);
}

static void expect_state(uint32_t request, uint32_t index, uint32_t num)
{
	struct vhost_user_vring_state state = {.index = index, .num = num};

	expect(request, VHOST_USER_VERSION, &state, sizeof(state), 0);
}

static void test_get(void **state)
{
	uint64_t value;
	unsigned int count;
	uint8_t status;

	(void)state;
	say_u64(VHOST_USER_GET_FEATURES, 0x123456789abcdef0);
	assert_int_equal(vhost_frontend_get_features(&fe, &value), 0);
	assert_true(value == 0x123456789abcdef0);
	expect(VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, NULL, 0, 0);

	say_u64(VHOST_USER_GET_PROTOCOL_FEATURES, 77);
	assert_int_equal(vhost_frontend_get_protocol_features(&fe, &value), 0);
	assert_int_equal(value, 77);
	expect(VHOST_USER_GET_PROTOCOL_FEATURES, VHOST_USER_VERSION, NULL, 0, 0);

	say_u64(VHOST_USER_GET_QUEUE_NUM, 4);
	assert_int_equal(vhost_frontend_get_queue_num(&fe, &count), 0);
	assert_int_equal(count, 4);
	expect(VHOST_USER_GET_QUEUE_NUM, VHOST_USER_VERSION, NULL, 0, 0);

	/* What no back end has is cut, not wrapped. */
	say_u64(VHOST_USER_GET_MAX_MEM_SLOTS, 1ULL << 32);
	assert_int_equal(vhost_frontend_get_max_mem_slots(&fe, &count), 0);
	assert_int_equal(count, UINT16_MAX);
	expect(VHOST_USER_GET_MAX_MEM_SLOTS, VHOST_USER_VERSION, NULL, 0, 0);

	say_u64(VHOST_USER_GET_STATUS, 11);
	assert_int_equal(vhost_frontend_get_status(&fe, &status), 0);
	assert_int_equal(status, 11);
	expect(VHOST_USER_GET_STATUS, VHOST_USER_VERSION, NULL, 0, 0);
	expect_nothing();
}

static void test_set(void **state)
{
	const uint8_t mac[] = {1, 2, 3, 4, 5, 6};

	(void)state;
	assert_int_equal(vhost_frontend_set_features(&fe, 5), 0);
	expect_u64(VHOST_USER_SET_FEATURES, 5, 0);
	assert_int_equal(fe.features, 5);
	assert_int_equal(vhost_frontend_set_owner(&fe), 0);
	expect(VHOST_USER_SET_OWNER, VHOST_USER_VERSION, NULL, 0, 0);
	assert_int_equal(vhost_frontend_reset_device(&fe), 0);
	expect(VHOST_USER_RESET_DEVICE, VHOST_USER_VERSION, NULL, 0, 0);
	assert_int_equal(vhost_frontend_set_status(&fe, 7), 0);
	expect_u64(VHOST_USER_SET_STATUS, 7, 0);
	assert_int_equal(vhost_frontend_set_mtu(&fe, 9000), 0);
	expect_u64(VHOST_USER_NET_SET_MTU, 9000, 0);
	assert_int_equal(vhost_frontend_send_rarp(&fe, mac), 0);
	expect_u64(VHOST_USER_SEND_RARP, 0x060504030201, 0);
	assert_int_equal(vhost_frontend_set_protocol_features(&fe, 3), 0);
	expect_u64(VHOST_USER_SET_PROTOCOL_FEATURES, 3, 0);
	assert_true(vhost_frontend_has(&fe, VHOST_USER_PROTOCOL_F_LOG_SHMFD));
	assert_false(vhost_frontend_has(&fe, VHOST_USER_PROTOCOL_F_RARP));
	expect_nothing();
}

static void test_vrings(void **state)
{
	const struct vhost_user_vring_addr addr = {.index = 3, .desc = 0x1000, .used = 0x2000, .avail = 0x3000};
	const struct vhost_user_vring_state stopped = {.index = 2, .num = 0xfffe};
	int fd = eventfd(0, EFD_CLOEXEC);
	uint32_t base;

	(void)state;
	assert_int_equal(vhost_frontend_set_vring_num(&fe, 1, 256), 0);
	expect_state(VHOST_USER_SET_VRING_NUM, 1, 256);
	assert_int_equal(vhost_frontend_set_vring_base(&fe, 1, 65535), 0);
	expect_state(VHOST_USER_SET_VRING_BASE, 1, 65535);
	assert_int_equal(vhost_frontend_set_vring_enable(&fe, 1, true), 0);
	expect_state(VHOST_USER_SET_VRING_ENABLE, 1, 1);
	assert_int_equal(vhost_frontend_set_vring_addr(&fe, &addr), 0);
	expect(VHOST_USER_SET_VRING_ADDR, VHOST_USER_VERSION, &addr, sizeof(addr), 0);

	assert_int_equal(vhost_frontend_set_vring_fd(&fe, VHOST_USER_SET_VRING_KICK, 4, fd), 0);
	expect_u64(VHOST_USER_SET_VRING_KICK, 4, 1);
	assert_int_equal(vhost_frontend_set_vring_fd(&fe, VHOST_USER_SET_VRING_CALL, 4, -1), 0);
	expect_u64(VHOST_USER_SET_VRING_CALL, 4 | VHOST_USER_VRING_NOFD, 0);
	close(fd);

	say(VHOST_USER_GET_VRING_BASE, VHOST_USER_VERSION | VHOST_USER_REPLY, &stopped, sizeof(stopped));
	assert_int_equal(vhost_frontend_get_vring_base(&fe, 2, &base), 0);
	assert_int_equal(base, 0xfffe);
	expect_state(VHOST_USER_GET_VRING_BASE, 2, 0);

	/* Of another queue. */
	say(VHOST_USER_GET_VRING_BASE, VHOST_USER_VERSION | VHOST_USER_REPLY, &stopped, sizeof(stopped));
	assert_int_equal(vhost_frontend_get_vring_base(&fe, 1, &base), -EPROTO);
	assert_true(fe.broken);
}

static void test_memory(void **state)
{
	struct vhost_user_region regions[VHOST_USER_TABLE_REGIONS + 1];
	struct vhost_user_mem_table table = {.count = VHOST_USER_TABLE_REGIONS};
	struct vhost_user_mem_region one = {0};
	int fds[VHOST_USER_TABLE_REGIONS + 1];

	(void)state;
	for (unsigned int i = 0; i <= VHOST_USER_TABLE_REGIONS; i++) {
		regions[i] = (struct vhost_user_region){
			.guest_addr = i * 100, .size = i, .user_addr = i + 7, .mmap_offset = i};
		fds[i] = 0;
	}
	memcpy(table.regions, regions, sizeof(table.regions));
	one.region = regions[5];
	assert_int_equal(vhost_frontend_set_mem_table(&fe, regions, fds, 8), 0);
	expect(VHOST_USER_SET_MEM_TABLE, VHOST_USER_VERSION, &table, sizeof(table), 8);
	table.count = 1;
	assert_int_equal(vhost_frontend_set_mem_table(&fe, regions, fds, 1), 0);
	expect(VHOST_USER_SET_MEM_TABLE, VHOST_USER_VERSION, &table, 8 + 32, 1);
	assert_int_equal(vhost_frontend_set_mem_table(&fe, regions, fds, 9), -EINVAL);
	assert_int_equal(vhost_frontend_add_mem_region(&fe, &regions[5], 0), 0);
	expect(VHOST_USER_ADD_MEM_REG, VHOST_USER_VERSION, &one, sizeof(one), 1);
	assert_int_equal(vhost_frontend_rem_mem_region(&fe, &regions[5]), 0);
	expect(VHOST_USER_REM_MEM_REG, VHOST_USER_VERSION, &one, sizeof(one), 0);
	expect_nothing();
}

static void test_config(void **state)
{
	struct vhost_user_config space = {.offset = 4, .size = 8, .region = "abcdefg"};
	const uint32_t size = (uint32_t)offsetof(struct vhost_user_config, region) + 8;
	char got[8];

	(void)state;
	say(VHOST_USER_GET_CONFIG, VHOST_USER_VERSION | VHOST_USER_REPLY, &space, size);
	assert_int_equal(vhost_frontend_get_config(&fe, 4, got, sizeof(got)), 0);
	assert_string_equal(got, "abcdefg");
	memset(space.region, 0, sizeof(space.region));
	expect(VHOST_USER_GET_CONFIG, VHOST_USER_VERSION, &space, size, 0);
	/* An empty answer is a no, and the connection lives on. */
	say(VHOST_USER_GET_CONFIG, VHOST_USER_VERSION | VHOST_USER_REPLY, NULL, 0);
	assert_int_equal(vhost_frontend_get_config(&fe, 4, got, sizeof(got)), -EREMOTEIO);
	assert_false(fe.broken);
	assert_int_equal(vhost_frontend_get_config(&fe, 0, got, VHOST_USER_CONFIG_MAX + 1), -EINVAL);
}

static void test_ack(void **state)
{
	const uint32_t flags = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY;
	uint64_t value = 9;

	(void)state;
	fe.ack = true;
	/* Wanted, but not negotiated. */
	assert_int_equal(vhost_frontend_set_features(&fe, value), 0);
	expect_u64(VHOST_USER_SET_FEATURES, value, 0);

	fe.protocol_features = 1ULL << VHOST_USER_PROTOCOL_F_REPLY_ACK;
	say_u64(VHOST_USER_SET_FEATURES, 0);
	assert_int_equal(vhost_frontend_set_features(&fe, value), 0);
	expect(VHOST_USER_SET_FEATURES, flags, &value, sizeof(value), 0);
	say_u64(VHOST_USER_SET_FEATURES, 1);
	assert_int_equal(vhost_frontend_set_features(&fe, 10), -EREMOTEIO);
	assert_int_equal(fe.features, value);
	assert_false(fe.broken);
	/* What has an answer of its own is not acknowledged. */
	expect(VHOST_USER_SET_FEATURES, flags, (const uint64_t[]){10}, 8, 0);
	say_u64(VHOST_USER_GET_FEATURES, 3);
	assert_int_equal(vhost_frontend_get_features(&fe, &value), 0);
	expect(VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, NULL, 0, 0);

	say(VHOST_USER_SET_OWNER, VHOST_USER_VERSION | VHOST_USER_REPLY, NULL, 0);
	assert_int_equal(vhost_frontend_set_owner(&fe), -EPROTO);
}

static void expect_broken(int err)
{
	uint64_t value;

	assert_int_equal(vhost_frontend_get_features(&fe, &value), err);
	assert_int_equal(vhost_frontend_get_features(&fe, &value), -ENOTCONN);
	assert_int_equal(vhost_frontend_set_owner(&fe), -ENOTCONN);
	assert_int_equal(vhost_frontend_check(&fe), -ENOTCONN);
}

static void test_wrong_request(void **state)
{
	(void)state;
	say_u64(VHOST_USER_GET_QUEUE_NUM, 1);
	expect_broken(-EPROTO);
}

static void test_no_reply_flag(void **state)
{
	(void)state;
	say(VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, "12345678", 8);
	expect_broken(-EPROTO);
}

static void test_wrong_version(void **state)
{
	(void)state;
	say(VHOST_USER_GET_FEATURES, 2 | VHOST_USER_REPLY, "12345678", 8);
	expect_broken(-EPROTO);
}

static void test_wrong_size(void **state)
{
	(void)state;
	say(VHOST_USER_GET_FEATURES, VHOST_USER_VERSION | VHOST_USER_REPLY, "1234567", 7);
	expect_broken(-EPROTO);
}

static void test_huge_size(void **state)
{
	const struct vhost_user_header header = {
		.request = VHOST_USER_GET_FEATURES,
		.flags = VHOST_USER_VERSION | VHOST_USER_REPLY,
		.size = UINT32_MAX,
	};

	(void)state;
	assert_int_equal(write(peer, &header, sizeof(header)), sizeof(header));
	expect_broken(-EPROTO);
}

static void test_silence(void **state)
{
	uint64_t before = clock_now_ns();

	(void)state;
	expect_broken(-ETIMEDOUT);
	assert_true(clock_now_ns() - before >= TIMEOUT_MS * NS_PER_MS);
}

/* Half a message now, half of it never; and a byte now and then does not stretch the time. */
static void *drip(void *arg)
{
	const struct timespec pause = {.tv_nsec = 10 * NS_PER_MS};

	for (unsigned int i = 0; i < 1000; i++) {
		if (send(peer, "", 1, MSG_NOSIGNAL) != 1)
			break;
		nanosleep(&pause, NULL);
	}
	return arg;
}

static void test_dripping(void **state)
{
	const uint32_t head[] = {VHOST_USER_GET_CONFIG, VHOST_USER_VERSION | VHOST_USER_REPLY, 264};
	struct vhost_user_msg answer;
	pthread_t thread;

	(void)state;
	assert_int_equal(write(peer, head, sizeof(head)), sizeof(head));
	assert_int_equal(pthread_create(&thread, NULL, drip, NULL), 0);
	assert_int_equal(vhost_frontend_ask(&fe, VHOST_USER_GET_CONFIG, NULL, 0, &answer), -ETIMEDOUT);
	vhost_frontend_close(&fe);
	pthread_join(thread, NULL);
}

static void test_hang_up(void **state)
{
	(void)state;
	assert_int_equal(vhost_frontend_check(&fe), 0);
	assert_int_equal(write(peer, "1234", 4), 4);
	shutdown(peer, SHUT_RDWR);
	expect_broken(-ECONNRESET);
}

static void test_check(void **state)
{
	(void)state;
	shutdown(peer, SHUT_WR);
	assert_int_equal(vhost_frontend_check(&fe), -ECONNRESET);
	assert_int_equal(vhost_frontend_check(&fe), -ENOTCONN);
}

/* A back end that does not read: the socket fills, and sending gives up too. */
static void test_not_reading(void **state)
{
	static const char much[4096];
	int err = 0;

	(void)state;
	for (unsigned int i = 0; i < 100000 && !err; i++)
		err = vhost_frontend_send_bytes(&fe, much, sizeof(much), NULL, 0);
	assert_int_equal(err, -ETIMEDOUT);
	assert_true(fe.broken);
}

static void test_surplus_descriptors(void **state)
{
	const uint32_t message[] = {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION | VHOST_USER_REPLY, 8, 1, 2};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof(message)};
	int before = unit_next_fd();

	(void)state;
	assert_int_equal(fdpass_send(peer, &iov, 1, (const int[]){0, 1, 2}, 3), sizeof(message));
	expect_broken(-EPROTO);
	assert_int_equal(unit_next_fd(), before);
}

static void test_raw(void **state)
{
	const uint32_t message[] = {99, 0xff, 4, 0xabcd};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof(message)};
	struct vhost_user_msg msg;
	int fds[2] = {-1, -1}, before = unit_next_fd();
	unsigned int count = 2;

	(void)state;
	assert_int_equal(vhost_frontend_send(&fe, 12345, 0xf0, "xyz", 3, (const int[]){0, 0}, 2), 0);
	expect(12345, 0xf0, "xyz", 3, 2);
	assert_int_equal(fdpass_send(peer, &iov, 1, (const int[]){0}, 1), sizeof(message));
	assert_int_equal(vhost_frontend_receive(&fe, &msg, fds, &count), 0);
	assert_int_equal(msg.header.request, 99);
	assert_int_equal(msg.header.flags, 0xff);
	assert_int_equal(msg.payload.u64, 0xabcd);
	assert_int_equal(count, 1);
	fdpass_close(fds, count);
	assert_int_equal(unit_next_fd(), before);
}

static void test_connect(void **state)
{
	char dir[64], path[128], late[256];
	struct vhost_frontend a, z;
	int listener, sock, before = unit_next_fd();
	struct stat st;

	(void)state;
	assert_non_null(unit_temporary_dir(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	snprintf(late, sizeof(late), "%s/a-much-longer-name-that-does-not-fit-into-an-address-%060d", dir, 0);
	vhost_frontend_init(&a, TIMEOUT_MS);
	vhost_frontend_init(&z, TIMEOUT_MS);
	assert_int_equal(vhost_frontend_connect(&a, path), -ENOENT);
	assert_int_equal(vhost_frontend_connect(&a, late), -ENAMETOOLONG);
	assert_int_equal(vhost_frontend_listen(late), -ENAMETOOLONG);

	listener = vhost_frontend_listen(path);
	assert_true(listener >= 0);
	assert_int_equal(vhost_frontend_accept(&z, listener), -ETIMEDOUT);
	assert_int_equal(vhost_frontend_connect(&a, path), 0);
	assert_int_equal(vhost_frontend_accept(&z, listener), 0);
	assert_int_equal(vhost_frontend_check(&a), 0);
	vhost_frontend_close(&z);
	assert_int_equal(vhost_frontend_check(&a), -ECONNRESET);
	vhost_frontend_close(&a);
	assert_int_equal(vhost_frontend_check(&a), -ENOTCONN);
	vhost_frontend_close(&a);
	close(listener);

	/* The socket that was left behind is replaced. */
	assert_int_equal(lstat(path, &st), 0);
	listener = vhost_frontend_listen(path);
	assert_true(listener >= 0);
	sock = fdpass_connect(path, SOCK_STREAM);
	assert_true(sock >= 0);
	assert_int_equal(vhost_frontend_accept(&z, listener), 0);
	vhost_frontend_close(&z);
	close(sock);
	close(listener);
	unlink(path);
	rmdir(dir);
	assert_int_equal(unit_next_fd(), before);
}

#define front_end_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		front_end_test(test_get),
		front_end_test(test_set),
		front_end_test(test_vrings),
		front_end_test(test_memory),
		front_end_test(test_config),
		front_end_test(test_ack),
		front_end_test(test_wrong_request),
		front_end_test(test_no_reply_flag),
		front_end_test(test_wrong_version),
		front_end_test(test_wrong_size),
		front_end_test(test_huge_size),
		front_end_test(test_silence),
		front_end_test(test_dripping),
		front_end_test(test_hang_up),
		front_end_test(test_check),
		front_end_test(test_not_reading),
		front_end_test(test_surplus_descriptors),
		front_end_test(test_raw),
		cmocka_unit_test(test_connect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
