/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device side of vhost-user, spoken to as the front ends speak that there are: QEMU, DPDK's
 * virtio-user, User-mode Linux, cloud-hypervisor. What it makes of nonsense is
 * test_vhost_faults.c's.
 */
#include "vhost_fixture.h"

#include <linux/virtio_net.h>
#include <poll.h>
#include <pthread.h>

static void test_offers(void **state)
{
	const uint64_t qemu = VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIG) | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ);
	struct fixture f;
	uint64_t offered;

	(void)state;
	fixture_open(&f, 4);
	offered = fixture_ask_u64(&f, VHOST_USER_GET_FEATURES);
	assert_true(offered & FIXTURE_PROTOCOL);
	assert_int_equal(offered & ~FIXTURE_PROTOCOL, f.dev.config.features);
	/* As QEMU asks: twice, before and after it is the owner. */
	offered = fixture_ask_u64(&f, VHOST_USER_GET_PROTOCOL_FEATURES);
	assert_true(offered & VIRTIO_BIT(VHOST_USER_PROTOCOL_F_MQ));
	assert_true(offered & VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS));
	assert_false(offered & qemu);
	fixture_tell(&f, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
	assert_int_equal(fixture_ask_u64(&f, VHOST_USER_GET_PROTOCOL_FEATURES), offered);
	assert_int_equal(fixture_ask_u64(&f, VHOST_USER_GET_QUEUE_NUM), 4);
	assert_int_equal(fixture_ask_u64(&f, VHOST_USER_GET_MAX_MEM_SLOTS), VHOST_USER_MEM_SLOTS);
	fixture_close(&f);

	fixture_open(&f, 1);
	fixture_tell(&f, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
	offered = fixture_ask_u64(&f, VHOST_USER_GET_PROTOCOL_FEATURES);
	assert_false(offered & VIRTIO_BIT(VHOST_USER_PROTOCOL_F_MQ));
	assert_int_equal(offered & qemu, qemu);
	fixture_close(&f);
}

static void test_qemu_starts(void **state)
{
	struct vring_any ring;
	struct fixture f;

	(void)state;
	fixture_open(&f, 2);
	fixture_tell_u64(&f, VHOST_USER_SET_PROTOCOL_FEATURES, FIXTURE_ACK);
	fixture_tell(&f, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
	/* Calls and enabling come before all else. */
	for (unsigned int i = 0; i < 4; i++) {
		fixture_set_fd(&f, VHOST_USER_SET_VRING_CALL, i);
		fixture_set_fd(&f, VHOST_USER_SET_VRING_ERR, i);
	}
	for (unsigned int i = 0; i < 4; i++)
		fixture_tell_state(&f, VHOST_USER_SET_VRING_ENABLE, i, i < 2);
	for (unsigned int i = 0; i < 4; i += 2) {
		/* Said again for the second pair, while the first runs. */
		fixture_tell_u64(&f, VHOST_USER_SET_FEATURES, FIXTURE_FEATURES | FIXTURE_PROTOCOL);
		if (i == 0)
			fixture_set_memory(&f);
		for (unsigned int j = i; j < i + 2; j++) {
			fixture_tell_state(&f, VHOST_USER_SET_VRING_NUM, j, 256);
			fixture_tell_state(&f, VHOST_USER_SET_VRING_BASE, j, 7 + j);
			fixture_set_addr(&f, j);
			assert_false(fixture_ready(&f, j));
			fixture_set_fd(&f, VHOST_USER_SET_VRING_KICK, j);
			fixture_set_fd(&f, VHOST_USER_SET_VRING_CALL, j);
			assert_int_equal(fixture_ready(&f, j), i == 0);
		}
	}
	assert_true(vhost_device_ring_ready(&f.dev, 1, &ring));
	assert_int_equal(ring.split.size, 256);
	assert_int_equal(ring.split.mask, 255);
	assert_ptr_equal(ring.split.avail, (uint8_t *)ring.split.desc + FIXTURE_PAGE);
	assert_int_equal(f.bases[1], 8);
	assert_true(f.dev.rings[1].kick_fd >= 0);
	assert_true(fcntl(f.dev.rings[1].kick_fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(f.dev.rings[1].kick_fd, F_GETFD) & FD_CLOEXEC);

	fixture_tell_state(&f, VHOST_USER_SET_VRING_ENABLE, 2, 1);
	assert_true(fixture_ready(&f, 2));
	/* Disabled and enabled again, a ring goes on where it was. */
	f.bases[2] = 40;
	fixture_tell_state(&f, VHOST_USER_SET_VRING_ENABLE, 2, 0);
	assert_false(fixture_ready(&f, 2));
	f.bases[2] = 0;
	fixture_tell_state(&f, VHOST_USER_SET_VRING_ENABLE, 2, 1);
	assert_int_equal(f.bases[2], 40);
	fixture_close(&f);
}

static uint16_t get_base(struct fixture *f, unsigned int index)
{
	struct vhost_user_msg msg;

	fixture_tell_state(f, VHOST_USER_GET_VRING_BASE, index, 0);
	msg = fixture_answer(f, VHOST_USER_GET_VRING_BASE);
	assert_int_equal(msg.header.size, sizeof(msg.payload.state));
	assert_int_equal(msg.payload.state.index, index);
	assert_false(f->dev.rings[index].started);
	assert_int_equal(f->dev.rings[index].kick_fd, -1);
	return (uint16_t)msg.payload.state.num;
}

static void test_stop_and_go(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	fixture_start(&f);
	f.bases[0] = 65535;
	f.bases[1] = 300;
	assert_int_equal(get_base(&f, 0), 65535);
	assert_false(fixture_ready(&f, 0));
	assert_true(fixture_ready(&f, 1));
	assert_int_equal(get_base(&f, 1), 300);
	assert_int_equal(get_base(&f, 1), 300);
	fixture_start_ring(&f, 0, 9);
	assert_int_equal(f.bases[0], 9);
	/* A ring that is no more than stopped keeps all but its descriptors. */
	fixture_set_fd(&f, VHOST_USER_SET_VRING_KICK, 1);
	assert_true(fixture_ready(&f, 1));
	assert_int_equal(f.bases[1], 300);
	fixture_close(&f);
}

/* QEMU 7.2: resets by status, and asks for the base afterwards; it does not send the memory again.
 */
static void test_reset(void **state)
{
	static const uint32_t resets[] = {VHOST_USER_SET_STATUS, VHOST_USER_RESET_DEVICE};
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	fixture_start(&f);
	for (size_t i = 0; i < ARRAY_SIZE(resets); i++) {
		fixture_tell_u64(&f, VHOST_USER_SET_STATUS, 15);
		assert_int_equal(fixture_ask_u64(&f, VHOST_USER_GET_STATUS), 15);
		f.bases[0] = 77;
		if (resets[i] == VHOST_USER_SET_STATUS)
			fixture_tell_u64(&f, resets[i], 0);
		else
			fixture_tell(&f, resets[i], NULL, 0, NULL, 0);
		assert_int_equal(fixture_ask_u64(&f, VHOST_USER_GET_STATUS), 0);
		assert_false(fixture_ready(&f, 0));
		assert_false(f.dev.features_set);
		assert_int_equal(f.dev.protocol_features, FIXTURE_ACK);
		assert_int_equal(f.dev.memory.count, 1);
		assert_int_equal(f.dev.rings[0].call_fd, -1);
		assert_int_equal(get_base(&f, 0), 77);

		fixture_tell_u64(&f, VHOST_USER_SET_FEATURES, FIXTURE_FEATURES | FIXTURE_PROTOCOL);
		fixture_start_ring(&f, 0, 77);
		assert_true(fixture_ready(&f, 0));
		assert_int_equal(f.bases[0], 77);
	}
	fixture_close(&f);
}

static void test_without_protocol_features(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	fixture_set_memory(&f);
	fixture_tell_u64(&f, VHOST_USER_SET_FEATURES, 0);
	fixture_tell_state(&f, VHOST_USER_SET_VRING_NUM, 0, 32768 / 128);
	fixture_set_addr(&f, 0);
	fixture_set_fd(&f, VHOST_USER_SET_VRING_KICK, 0);
	assert_true(fixture_ready(&f, 0));
	/* NEED_REPLY means nothing then. */
	assert_int_equal(fixture_send(&f, VHOST_USER_SET_OWNER, VHOST_USER_NEED_REPLY, NULL, 0, NULL, 0),
			 VHOST_FAULT_NONE);
	assert_int_equal(fixture_ask_u64(&f, VHOST_USER_GET_FEATURES) & FIXTURE_FEATURES, FIXTURE_FEATURES);
	fixture_close(&f);
}

/* Every message acknowledged, a padded memory table that does not start at 0, calls through pipes.
 */
static void test_uml_starts(void **state)
{
	const uint64_t reserved = 0x8000;
	struct vhost_user_mem_table table = {.count = 1};
	uint64_t value = FIXTURE_ACK | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIG) |
			 VIRTIO_BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ);
	struct fixture f;
	int fd, pipes[2];

	(void)state;
	fixture_open(&f, 1);
	fixture_tell(&f, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
	fixture_ask_u64(&f, VHOST_USER_GET_PROTOCOL_FEATURES);
	/* The very message that brings REPLY_ACK wants it already. */
	assert_int_equal(fixture_acked(&f, VHOST_USER_SET_PROTOCOL_FEATURES, &value, 8, NULL, 0), 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(fixture_acked(&f, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &pipes[1], 1), 0);
	assert_true(f.dev.backend_fd >= 0);
	value = FIXTURE_FEATURES | FIXTURE_PROTOCOL | VIRTIO_BIT(VIRTIO_NET_F_MTU);
	assert_int_equal(fixture_acked(&f, VHOST_USER_SET_FEATURES, &value, 8, NULL, 0), 0);
	assert_int_equal(f.mtu, 1500);

	table.regions[0] = (struct vhost_user_region){
		.guest_addr = reserved,
		.size = FIXTURE_MEMORY - reserved,
		.user_addr = reserved,
		.mmap_offset = reserved,
	};
	fd = fixture_file(FIXTURE_MEMORY);
	assert_int_equal(fixture_acked(&f, VHOST_USER_SET_MEM_TABLE, &table, 8 + 2 * 32, &fd, 1), 0);
	close(fd);
	for (unsigned int i = 0; i < 2; i++) {
		struct vhost_user_vring_addr addr = fixture_ring_addr(i);
		struct vhost_user_vring_state ring = {.index = i, .num = 128};

		addr.desc += reserved - FIXTURE_USER;
		addr.avail += reserved - FIXTURE_USER;
		addr.used += reserved - FIXTURE_USER;
		addr.log = UINT64_MAX;
		value = i;
		assert_int_equal(fixture_acked(&f, VHOST_USER_SET_VRING_CALL, &value, 8, &pipes[1], 1), 0);
		assert_int_equal(fixture_acked(&f, VHOST_USER_SET_VRING_NUM, &ring, 8, NULL, 0), 0);
		ring.num = 0;
		assert_int_equal(fixture_acked(&f, VHOST_USER_SET_VRING_BASE, &ring, 8, NULL, 0), 0);
		assert_int_equal(fixture_acked(&f, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0), 0);
		fixture_set_fd(&f, VHOST_USER_SET_VRING_KICK, i);
		ring.num = 1;
		assert_int_equal(fixture_acked(&f, VHOST_USER_SET_VRING_ENABLE, &ring, 8, NULL, 0), 0);
		assert_true(fixture_ready(&f, i));
	}
	/* The driver goes: its rings are disabled, no more. Another may come. */
	fixture_tell_state(&f, VHOST_USER_SET_VRING_ENABLE, 1, 0);
	fixture_tell_state(&f, VHOST_USER_SET_VRING_ENABLE, 0, 0);
	fixture_tell_u64(&f, VHOST_USER_SET_FEATURES, FIXTURE_PROTOCOL);
	fixture_tell_state(&f, VHOST_USER_SET_VRING_NUM, 0, 64);
	fixture_tell_state(&f, VHOST_USER_SET_VRING_BASE, 0, 0);
	fixture_tell_state(&f, VHOST_USER_SET_VRING_ENABLE, 0, 1);
	assert_true(fixture_ready(&f, 0));
	close(pipes[0]);
	close(pipes[1]);
	fixture_close(&f);
}

/* DPDK's virtio-user: SET_STATUS acknowledged, no kicks. */
static void test_polled_ring(void **state)
{
	const uint64_t no_fd = VHOST_USER_VRING_NOFD;
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	fixture_start(&f);
	fixture_tell_u64(&f, VHOST_USER_SET_VRING_KICK, no_fd);
	assert_int_equal(f.dev.rings[0].kick_fd, -1);
	assert_true(f.dev.rings[0].kick_polled);
	assert_true(fixture_ready(&f, 0));
	fixture_tell_u64(&f, VHOST_USER_SET_VRING_CALL, no_fd);
	fixture_tell_u64(&f, VHOST_USER_SET_VRING_ERR, no_fd);
	assert_int_equal(f.dev.rings[0].call_fd, -1);
	assert_int_equal(f.dev.rings[0].err_fd, -1);
	fixture_set_fd(&f, VHOST_USER_SET_VRING_KICK, 0);
	assert_false(f.dev.rings[0].kick_polled);
	fixture_close(&f);
}

static void test_memory_changes_under_rings(void **state)
{
	struct vhost_user_mem_region message = {.region = fixture_region(0, FIXTURE_MEMORY)};
	struct vring_any before, after;
	int fd;
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	fd = fixture_file(FIXTURE_MEMORY);
	fixture_start(&f);
	f.bases[0] = 5;
	assert_true(vhost_device_ring_ready(&f.dev, 0, &before));
	fixture_set_memory(&f);
	assert_true(vhost_device_ring_ready(&f.dev, 0, &after));
	assert_int_equal(f.bases[0], 5);
	/* Hot-unplug and plug: between them the rings have no place. QEMU 7.2 says it once per
	 * pair. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(fixture_acked(&f, VHOST_USER_REM_MEM_REG, &message, sizeof(message), NULL, 0), 0);
	assert_false(fixture_ready(&f, 0));
	for (int i = 0; i < 2; i++)
		assert_int_equal(fixture_acked(&f, VHOST_USER_ADD_MEM_REG, &message, sizeof(message), &fd, 1), 0);
	assert_true(fixture_ready(&f, 0));
	assert_int_equal(f.bases[0], 5);
	assert_int_equal(f.dev.memory.count, 1);
	/* Some front ends send the descriptor along. */
	assert_int_equal(fixture_acked(&f, VHOST_USER_REM_MEM_REG, &message, sizeof(message), &fd, 1), 0);
	assert_int_equal(f.dev.memory.count, 0);
	close(fd);
	fixture_close(&f);
}

static void test_slots_and_refusals(void **state)
{
	struct vhost_user_mem_region message = {0};
	int fd, event;
	uint64_t mtu = 67;
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	fd = fixture_file(FIXTURE_PAGE);
	event = eventfd(0, EFD_CLOEXEC);
	fixture_tell_u64(&f, VHOST_USER_SET_PROTOCOL_FEATURES, FIXTURE_ACK);
	for (uint64_t i = 0; i < VHOST_USER_MEM_SLOTS; i++) {
		message.region = fixture_region(i * FIXTURE_PAGE, FIXTURE_PAGE);
		assert_int_equal(fixture_acked(&f, VHOST_USER_ADD_MEM_REG, &message, sizeof(message), &fd, 1), 0);
	}
	message.region = fixture_region(VHOST_USER_MEM_SLOTS * FIXTURE_PAGE, FIXTURE_PAGE);
	assert_int_not_equal(fixture_acked(&f, VHOST_USER_ADD_MEM_REG, &message, sizeof(message), &fd, 1), 0);
	message.region = fixture_region(0, FIXTURE_PAGE);
	assert_int_equal(fixture_acked(&f, VHOST_USER_REM_MEM_REG, &message, sizeof(message), NULL, 0), 0);
	/* Well said, but nothing that can be mapped. */
	assert_int_not_equal(fixture_acked(&f, VHOST_USER_ADD_MEM_REG, &message, sizeof(message), &event, 1), 0);
	assert_int_not_equal(fixture_acked(&f, VHOST_USER_NET_SET_MTU, &mtu, 8, NULL, 0), 0);
	assert_int_equal(f.dev.refused, 3);
	assert_int_equal(f.dev.memory.count, VHOST_USER_MEM_SLOTS - 1);
	close(fd);
	close(event);
	fixture_close(&f);
}

static void test_net_requests(void **state)
{
	uint64_t value = 9000;
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	fixture_tell_u64(&f, VHOST_USER_SET_PROTOCOL_FEATURES, FIXTURE_ACK);
	assert_int_equal(fixture_acked(&f, VHOST_USER_NET_SET_MTU, &value, 8, NULL, 0), 0);
	assert_int_equal(f.mtu, 9000);
	fixture_tell_u64(&f, VHOST_USER_SEND_RARP, 0x0000060504030252);
	assert_int_equal(f.announced, 1);
	assert_memory_equal(f.mac, "\x52\x02\x03\x04\x05\x06", 6);
	fixture_tell(&f, VHOST_USER_RESET_OWNER, NULL, 0, NULL, 0);
	fixture_close(&f);
}

static void test_configuration_space(void **state)
{
	struct vhost_user_config config = {.size = sizeof(struct virtio_net_config)};
	struct virtio_net_config net;
	struct vhost_user_msg msg;
	struct fixture f;

	(void)state;
	fixture_open(&f, 3);
	fixture_tell(&f, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
	fixture_tell(&f, VHOST_USER_GET_CONFIG, &config, 12 + config.size, NULL, 0);
	msg = fixture_answer(&f, VHOST_USER_GET_CONFIG);
	assert_int_equal(msg.header.size, 12 + config.size);
	memcpy(&net, msg.payload.config.region, sizeof(net));
	assert_memory_equal(net.mac, f.dev.config.mac, 6);
	assert_int_equal(net.max_virtqueue_pairs, 3);
	assert_int_equal(net.mtu, 1500);
	assert_int_equal(net.status, VIRTIO_NET_S_LINK_UP);

	/* A legacy driver writes its MAC byte by byte. */
	config = (struct vhost_user_config){.offset = 5, .size = 1, .region = {9}};
	fixture_tell(&f, VHOST_USER_SET_CONFIG, &config, 13, NULL, 0);
	config = (struct vhost_user_config){.offset = 4, .size = 252};
	fixture_tell(&f, VHOST_USER_GET_CONFIG, &config, 12 + 252, NULL, 0);
	msg = fixture_answer(&f, VHOST_USER_GET_CONFIG);
	assert_int_equal(msg.payload.config.region[1], 9);
	assert_int_equal(msg.payload.config.region[251], 0);
	fixture_close(&f);
	/* The next guest has the port's own again. */
	assert_int_equal(f.dev.mac[5], 1);
}

static void test_control_queue(void **state)
{
	const uint64_t control = VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ);
	struct fixture f;

	(void)state;
	fixture_open(&f, 3);
	fixture_tell_u64(&f, VHOST_USER_SET_FEATURES, FIXTURE_PROTOCOL);
	assert_int_equal(vhost_device_control_index(&f.dev), -1);
	fixture_tell_u64(&f, VHOST_USER_SET_FEATURES, FIXTURE_PROTOCOL | control);
	assert_int_equal(vhost_device_control_index(&f.dev), 2);
	fixture_tell_u64(&f, VHOST_USER_SET_FEATURES, FIXTURE_PROTOCOL | control | VIRTIO_BIT(VIRTIO_NET_F_MQ));
	assert_int_equal(vhost_device_control_index(&f.dev), 6);
	/* Nobody need enable it. */
	fixture_set_memory(&f);
	fixture_tell_state(&f, VHOST_USER_SET_VRING_NUM, 6, 64);
	fixture_set_addr(&f, 6);
	fixture_set_fd(&f, VHOST_USER_SET_VRING_KICK, 6);
	assert_true(fixture_ready(&f, 6));
	fixture_close(&f);
}

/* One byte at a time, the descriptor with the first; in between nothing happens and nothing waits.
 */
static void test_message_in_pieces(void **state)
{
	const uint64_t index = 1;
	int fd;
	uint8_t bytes[sizeof(struct vhost_user_header) + sizeof(index)];
	const struct vhost_user_header header = {
		.request = VHOST_USER_SET_VRING_KICK,
		.flags = VHOST_USER_VERSION,
		.size = sizeof(index),
	};
	struct fixture f;

	(void)state;
	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), &index, sizeof(index));
	fixture_open(&f, 1);
	fd = eventfd(0, EFD_CLOEXEC);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_false(f.dev.rings[1].started);
		assert_int_equal(vhost_device_receive(&f.dev), VHOST_FAULT_NONE);
		assert_int_equal(vhost_frontend_send_bytes(&f.fe, bytes + i, 1, &fd, i == 0), 0);
		assert_int_equal(fixture_pump(&f), VHOST_FAULT_NONE);
	}
	assert_true(f.dev.rings[1].started);

	/* Half a message with a descriptor, and then no more. */
	assert_int_equal(vhost_frontend_send_bytes(&f.fe, bytes, 15, &fd, 1), 0);
	assert_int_equal(fixture_pump(&f), VHOST_FAULT_NONE);
	vhost_frontend_close(&f.fe);
	assert_int_equal(fixture_pump(&f), VHOST_FAULT_HANGUP);
	assert_int_equal(f.dev.last_fault, VHOST_FAULT_HANGUP);
	close(fd);
	fixture_close(&f);
}

/* Several messages at once are handled one a call. */
static void test_one_message_a_call(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			vhost_frontend_send(&f.fe, VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, NULL, 0, NULL, 0), 0);
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(f.dev.messages, i);
		assert_int_equal(vhost_device_receive(&f.dev), VHOST_FAULT_NONE);
	}
	assert_int_equal(f.dev.messages, 3);
	assert_int_equal(vhost_device_receive(&f.dev), VHOST_FAULT_NONE);
	assert_int_equal(f.dev.messages, 3);
	fixture_close(&f);
}

static void test_reconnect(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	for (int i = 0; i < 3; i++) {
		fixture_start(&f);
		assert_true(fixture_ready(&f, 0) && fixture_ready(&f, 1));
		vhost_frontend_close(&f.fe);
		assert_int_equal(fixture_pump(&f), VHOST_FAULT_HANGUP);
		assert_false(fixture_ready(&f, 0));
		assert_int_equal(f.dev.features, 0);
		assert_int_equal(f.dev.protocol_offered, 0);
		assert_int_equal(f.dev.rings[0].base, 0);
		assert_int_equal(unit_next_fd(), f.next_fd);
		fixture_connect(&f);
	}
	fixture_close(&f);
}

static void test_memory_file_shrinks(void **state)
{
	struct vhost_user_mem_table table = {.count = 1};
	int fd;
	struct vring_any ring;
	struct fixture f;

	(void)state;
	assert_int_equal(guest_memory_init(), 0);
	fixture_open(&f, 1);
	fd = fixture_file(FIXTURE_MEMORY);
	fixture_start(&f);
	table.regions[0] = fixture_region(0, FIXTURE_MEMORY);
	fixture_tell(&f, VHOST_USER_SET_MEM_TABLE, &table, 40, &fd, 1);
	assert_true(vhost_device_ring_ready(&f.dev, 0, &ring));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(*(volatile uint16_t *)&ring.split.avail->idx, 0);
	assert_true(guest_memory_faulted(&f.dev.memory));
	vhost_device_disconnect(&f.dev, VHOST_FAULT_MEMORY_SHRUNK);
	assert_int_equal(f.dev.last_fault, VHOST_FAULT_MEMORY_SHRUNK);
	assert_false(guest_memory_faulted(&f.dev.memory));
	close(fd);
	fixture_close(&f);
}

/* Packed rings: their own areas, any size, and a base of two halves. */
static void test_packed(void **state)
{
	const uint64_t features = FIXTURE_FEATURES | VIRTIO_BIT(VIRTIO_F_RING_PACKED);
	struct vhost_user_vring_addr addr = fixture_ring_addr(1);
	struct vhost_user_vring_state base = {.index = 0, .num = 0x00070007};
	uint64_t kick = VHOST_USER_VRING_NOFD;
	struct vhost_user_msg msg;
	struct vring_any ring;
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	f.dev.config.features |= VIRTIO_BIT(VIRTIO_F_RING_PACKED);
	fixture_start(&f);
	assert_true(vhost_device_ring_ready(&f.dev, 0, &ring));
	assert_false(ring.is_packed);
	/* Two halves are not for split rings. */
	fixture_tell_state(&f, VHOST_USER_GET_VRING_BASE, 0, 0);
	fixture_answer(&f, VHOST_USER_GET_VRING_BASE);
	assert_int_equal(fixture_acked(&f, VHOST_USER_SET_VRING_BASE, &base, sizeof(base), NULL, 0), 1);
	fixture_tell_state(&f, VHOST_USER_GET_VRING_BASE, 1, 0);
	fixture_answer(&f, VHOST_USER_GET_VRING_BASE);

	fixture_tell_u64(&f, VHOST_USER_SET_FEATURES, features | FIXTURE_PROTOCOL);
	for (unsigned int i = 0; i < 2; i++) {
		fixture_tell_state(&f, VHOST_USER_SET_VRING_NUM, i, 100);
		fixture_tell_state(&f, VHOST_USER_SET_VRING_BASE, i, i ? 0x8000 : 0x80428042);
		fixture_set_addr(&f, i);
		fixture_set_fd(&f, VHOST_USER_SET_VRING_KICK, i);
		assert_true(vhost_device_ring_ready(&f.dev, i, &ring));
		assert_true(ring.is_packed);
		assert_int_equal(ring.packed.size, 100);
		assert_ptr_equal(ring.packed.driver, (uint8_t *)ring.packed.desc + FIXTURE_PAGE);
		assert_ptr_equal(ring.packed.device, (uint8_t *)ring.packed.desc + 2 * FIXTURE_PAGE);
		assert_int_equal(f.bases[i], i ? 0x8000 : 0x8042);
		assert_false(f.dev.rings[i].base_own);
	}
	f.bases[0] = 7;
	fixture_tell_state(&f, VHOST_USER_GET_VRING_BASE, 0, 0);
	msg = fixture_answer(&f, VHOST_USER_GET_VRING_BASE);
	assert_int_equal(msg.payload.state.num, 0x00070007);
	assert_true(f.dev.rings[0].base_own);

	/* A base outside the ring, and a driver area that is no word. */
	fixture_tell_state(&f, VHOST_USER_SET_VRING_BASE, 0, 0x80648064);
	assert_int_equal(fixture_send(&f, VHOST_USER_SET_VRING_KICK, 0, &kick, sizeof(kick), NULL, 0),
			 VHOST_FAULT_VALUE);
	fixture_close(&f);

	fixture_open(&f, 1);
	f.dev.config.features |= VIRTIO_BIT(VIRTIO_F_RING_PACKED);
	fixture_tell_u64(&f, VHOST_USER_SET_PROTOCOL_FEATURES, FIXTURE_ACK);
	fixture_tell_u64(&f, VHOST_USER_SET_FEATURES, features | FIXTURE_PROTOCOL);
	fixture_set_memory(&f);
	fixture_start_ring(&f, 1, 0x8000);
	addr.avail += 2;
	assert_int_equal(fixture_send(&f, VHOST_USER_SET_VRING_ADDR, 0, &addr, sizeof(addr), NULL, 0),
			 VHOST_FAULT_RING_ADDRESS);
	fixture_close(&f);
}

static void *serve(void *arg)
{
	struct fixture *f = arg;

	while (f->dev.sock >= 0) {
		struct pollfd poller = {.fd = f->dev.sock, .events = POLLIN};

		poll(&poller, 1, -1);
		f->fault = vhost_device_receive(&f->dev);
		if (f->fault != VHOST_FAULT_NONE)
			vhost_device_disconnect(&f->dev, f->fault);
	}
	return NULL;
}

/* The project's own front end, which waits for its answers, against a device in another thread. */
static void test_frontend_and_device(void **state)
{
	struct vhost_user_region region = fixture_region(0, FIXTURE_MEMORY);
	int memory, event;
	unsigned int slots, pairs;
	uint64_t features;
	pthread_t thread;
	struct fixture f;
	uint8_t status;
	uint32_t base;

	(void)state;
	fixture_open(&f, 2);
	memory = fixture_file(FIXTURE_MEMORY);
	event = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(pthread_create(&thread, NULL, serve, &f), 0);
	assert_int_equal(vhost_frontend_get_features(&f.fe, &features), 0);
	assert_int_equal(vhost_frontend_get_protocol_features(&f.fe, &features), 0);
	assert_int_equal(vhost_frontend_set_protocol_features(&f.fe, features), 0);
	f.fe.ack = true;
	assert_int_equal(vhost_frontend_set_owner(&f.fe), 0);
	assert_int_equal(vhost_frontend_get_queue_num(&f.fe, &pairs), 0);
	assert_int_equal(pairs, 2);
	assert_int_equal(vhost_frontend_get_max_mem_slots(&f.fe, &slots), 0);
	assert_int_equal(slots, VHOST_USER_MEM_SLOTS);
	assert_int_equal(vhost_frontend_set_features(&f.fe, FIXTURE_FEATURES | FIXTURE_PROTOCOL), 0);
	assert_int_equal(vhost_frontend_add_mem_region(&f.fe, &region, memory), 0);
	for (unsigned int i = 0; i < 4; i++) {
		struct vhost_user_vring_addr addr = fixture_ring_addr(i);

		assert_int_equal(vhost_frontend_set_vring_num(&f.fe, i, 64), 0);
		assert_int_equal(vhost_frontend_set_vring_base(&f.fe, i, (uint16_t)(i + 3)), 0);
		assert_int_equal(vhost_frontend_set_vring_addr(&f.fe, &addr), 0);
		assert_int_equal(vhost_frontend_set_vring_fd(&f.fe, VHOST_USER_SET_VRING_KICK, i, event), 0);
		assert_int_equal(vhost_frontend_set_vring_fd(&f.fe, VHOST_USER_SET_VRING_CALL, i, -1), 0);
		assert_int_equal(vhost_frontend_set_vring_enable(&f.fe, i, true), 0);
	}
	assert_int_equal(vhost_frontend_set_status(&f.fe, 15), 0);
	assert_int_equal(vhost_frontend_get_status(&f.fe, &status), 0);
	assert_int_equal(status, 15);
	assert_int_equal(vhost_frontend_set_mtu(&f.fe, 1), -EREMOTEIO);
	assert_int_equal(vhost_frontend_set_mtu(&f.fe, 1400), 0);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(vhost_frontend_get_vring_base(&f.fe, i, &base), 0);
		assert_int_equal(base, i + 3);
	}
	assert_int_equal(vhost_frontend_rem_mem_region(&f.fe, &region), 0);
	vhost_frontend_close(&f.fe);
	pthread_join(thread, NULL);
	assert_int_equal(f.fault, VHOST_FAULT_HANGUP);
	close(memory);
	close(event);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offers),
		cmocka_unit_test(test_qemu_starts),
		cmocka_unit_test(test_stop_and_go),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_without_protocol_features),
		cmocka_unit_test(test_uml_starts),
		cmocka_unit_test(test_polled_ring),
		cmocka_unit_test(test_memory_changes_under_rings),
		cmocka_unit_test(test_slots_and_refusals),
		cmocka_unit_test(test_net_requests),
		cmocka_unit_test(test_configuration_space),
		cmocka_unit_test(test_control_queue),
		cmocka_unit_test(test_message_in_pieces),
		cmocka_unit_test(test_one_message_a_call),
		cmocka_unit_test(test_reconnect),
		cmocka_unit_test(test_memory_file_shrinks),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_frontend_and_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
