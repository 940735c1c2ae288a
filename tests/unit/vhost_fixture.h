/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vhost-user device with a front end at the other end of a socket pair, in one thread: what the
 * front end sends is handled when fixture_pump() is called. The device's owner is a recorder that
 * insists on the order in which a device may call it.
 */
#ifndef TESTS_UNIT_VHOST_FIXTURE_H
#define TESTS_UNIT_VHOST_FIXTURE_H

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "vhost/vhost_device.h"
#include "vhost/vhost_frontend.h"
#include "virtio/virtio_net.h"

#define FIXTURE_PAGE     4096ULL
#define FIXTURE_MEMORY   (64 * FIXTURE_PAGE)
#define FIXTURE_GUEST    0x40000000ULL
#define FIXTURE_USER     0x7f0000000000ULL
#define FIXTURE_FEATURES (VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF))

#define FIXTURE_PROTOCOL VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES)
#define FIXTURE_ACK      VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)

struct fixture {
	struct vhost_device dev; /* first, so that the device's owner is found from it */
	struct vhost_frontend fe;
	enum vhost_fault fault; /* that ended the connection */
	bool quiet;             /* between quiesce and update */
	unsigned int updates;
	unsigned int announced;
	uint8_t mac[6];
	uint16_t mtu;
	uint16_t bases[VHOST_DEVICE_RINGS_MAX]; /* where the owner got to */
	int next_fd;                            /* before anything was made */
};

static inline struct fixture *fixture_of(struct vhost_device *dev)
{
	return container_of(dev, struct fixture, dev);
}

static inline void fixture_quiesce(struct vhost_device *dev)
{
	fixture_of(dev)->quiet = true;
}

static inline void fixture_update(struct vhost_device *dev)
{
	struct fixture *f = fixture_of(dev);
	struct vring_any ring;

	assert_true(f->quiet);
	f->quiet = false;
	f->updates++;
	for (unsigned int i = 0; i < VHOST_DEVICE_RINGS_MAX; i++) {
		if (vhost_device_ring_ready(dev, i, &ring))
			f->bases[i] = dev->rings[i].base;
	}
}

static inline uint16_t fixture_ring_base(struct vhost_device *dev, unsigned int index)
{
	struct vring_any ring;

	assert_true(fixture_of(dev)->quiet);
	assert_true(vhost_device_ring_ready(dev, index, &ring));
	return fixture_of(dev)->bases[index];
}

static inline void fixture_announce(struct vhost_device *dev, const uint8_t mac[6])
{
	fixture_of(dev)->announced++;
	memcpy(fixture_of(dev)->mac, mac, 6);
}

static inline void fixture_mtu(struct vhost_device *dev, uint16_t mtu)
{
	fixture_of(dev)->mtu = mtu;
}

static const struct vhost_device_ops fixture_ops = {
	.quiesce = fixture_quiesce,
	.update = fixture_update,
	.ring_base = fixture_ring_base,
	.announce = fixture_announce,
	.mtu = fixture_mtu,
};

static inline void fixture_connect(struct fixture *f)
{
	int socks[2];

	f->fault = VHOST_FAULT_NONE;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
	vhost_frontend_init(&f->fe, 1000);
	assert_int_equal(vhost_frontend_adopt(&f->fe, socks[0]), 0);
	vhost_device_connect(&f->dev, socks[1]);
}

static inline void fixture_open(struct fixture *f, unsigned int pairs)
{
	const struct vhost_device_config config = {
		.name = "test",
		.features = FIXTURE_FEATURES | VIRTIO_BIT(VIRTIO_NET_F_MTU) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) |
			    VIRTIO_BIT(VIRTIO_NET_F_MQ),
		.pairs = pairs,
		.control_queue = true,
		.mac = {2, 0, 0, 0, 0, 1},
		.mtu = 1500,
	};

	log_set_level(LOG_ERROR);
	memset(f, 0, sizeof(*f));
	f->next_fd = unit_next_fd();
	vhost_device_init(&f->dev, &fixture_ops, &config);
	fixture_connect(f);
}

/* Nothing of the connection may be left, whatever happened on it. */
static inline void fixture_close(struct fixture *f)
{
	vhost_frontend_close(&f->fe);
	vhost_device_disconnect(&f->dev, VHOST_FAULT_HANGUP);
	assert_false(f->quiet);
	assert_int_equal(f->dev.memory.count, 0);
	assert_int_equal(unit_next_fd(), f->next_fd);
}

/* Lets the device handle all that is there; a fault ends the connection as its owner would end it.
 */
static inline enum vhost_fault fixture_pump(struct fixture *f)
{
	char byte;

	while (f->dev.sock >= 0 && recv(f->dev.sock, &byte, 1, MSG_PEEK) >= 0) {
		f->fault = vhost_device_receive(&f->dev);
		if (f->fault != VHOST_FAULT_NONE)
			vhost_device_disconnect(&f->dev, f->fault);
		assert_false(f->quiet);
	}
	return f->fault;
}

/* A message on its way to the device, and the device's fault if it had one. */
static inline enum vhost_fault fixture_send(struct fixture *f, uint32_t request, uint32_t flags, const void *payload,
					    uint32_t size, const int *fds, unsigned int fd_count)
{
	assert_int_equal(vhost_frontend_send(&f->fe, request, VHOST_USER_VERSION | flags, payload, size, fds, fd_count),
			 0);
	return fixture_pump(f);
}

static inline void fixture_tell(struct fixture *f, uint32_t request, const void *payload, uint32_t size, const int *fds,
				unsigned int fd_count)
{
	assert_int_equal(fixture_send(f, request, 0, payload, size, fds, fd_count), VHOST_FAULT_NONE);
}

static inline void fixture_tell_u64(struct fixture *f, uint32_t request, uint64_t value)
{
	fixture_tell(f, request, &value, sizeof(value), NULL, 0);
}

static inline void fixture_tell_state(struct fixture *f, uint32_t request, uint32_t index, uint32_t num)
{
	const struct vhost_user_vring_state state = {.index = index, .num = num};

	fixture_tell(f, request, &state, sizeof(state), NULL, 0);
}

/* The answer that the device has sent to what was sent last. */
static inline struct vhost_user_msg fixture_answer(struct fixture *f, uint32_t request)
{
	struct vhost_user_msg msg;

	assert_int_equal(vhost_frontend_receive(&f->fe, &msg, NULL, NULL), 0);
	assert_int_equal(msg.header.request, request);
	assert_int_equal(msg.header.flags, VHOST_USER_VERSION | VHOST_USER_REPLY);
	return msg;
}

static inline uint64_t fixture_ask_u64(struct fixture *f, uint32_t request)
{
	struct vhost_user_msg msg;

	fixture_tell(f, request, NULL, 0, NULL, 0);
	msg = fixture_answer(f, request);
	assert_int_equal(msg.header.size, sizeof(uint64_t));
	return msg.payload.u64;
}

/* A request that wants to be acknowledged: 0 granted, else refused. */
static inline uint64_t fixture_acked(struct fixture *f, uint32_t request, const void *payload, uint32_t size,
				     const int *fds, unsigned int fd_count)
{
	assert_int_equal(fixture_send(f, request, VHOST_USER_NEED_REPLY, payload, size, fds, fd_count),
			 VHOST_FAULT_NONE);
	return fixture_answer(f, request).payload.u64;
}

static inline int fixture_file(uint64_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static inline struct vhost_user_region fixture_region(uint64_t at, uint64_t size)
{
	return (struct vhost_user_region){
		.guest_addr = FIXTURE_GUEST + at,
		.size = size,
		.user_addr = FIXTURE_USER + at,
	};
}

static inline void fixture_set_memory(struct fixture *f)
{
	struct vhost_user_mem_table table = {.count = 1};
	int fd = fixture_file(FIXTURE_MEMORY);

	table.regions[0] = fixture_region(0, FIXTURE_MEMORY);
	fixture_tell(f, VHOST_USER_SET_MEM_TABLE, &table, 8 + sizeof(table.regions[0]), &fd, 1);
	close(fd);
}

/* Each ring has 4 pages: descriptors, available, used. */
static inline struct vhost_user_vring_addr fixture_ring_addr(unsigned int index)
{
	uint64_t at = FIXTURE_USER + 4 * index * FIXTURE_PAGE;

	return (struct vhost_user_vring_addr){
		.index = index,
		.desc = at,
		.avail = at + FIXTURE_PAGE,
		.used = at + 2 * FIXTURE_PAGE,
	};
}

static inline void fixture_set_addr(struct fixture *f, unsigned int index)
{
	const struct vhost_user_vring_addr addr = fixture_ring_addr(index);

	fixture_tell(f, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
}

static inline void fixture_set_fd(struct fixture *f, uint32_t request, uint64_t index)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	fixture_tell(f, request, &index, sizeof(index), &fd, 1);
	close(fd);
}

/* As QEMU starts a ring. */
static inline void fixture_start_ring(struct fixture *f, unsigned int index, uint16_t base)
{
	fixture_tell_state(f, VHOST_USER_SET_VRING_NUM, index, 128);
	fixture_tell_state(f, VHOST_USER_SET_VRING_BASE, index, base);
	fixture_set_addr(f, index);
	fixture_set_fd(f, VHOST_USER_SET_VRING_KICK, index);
	fixture_set_fd(f, VHOST_USER_SET_VRING_CALL, index);
	fixture_tell_state(f, VHOST_USER_SET_VRING_ENABLE, index, 1);
}

/* Features, memory and the first pair. */
static inline void fixture_start(struct fixture *f)
{
	fixture_tell(f, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
	fixture_tell_u64(f, VHOST_USER_SET_PROTOCOL_FEATURES, FIXTURE_ACK);
	fixture_tell_u64(f, VHOST_USER_SET_FEATURES, FIXTURE_FEATURES | FIXTURE_PROTOCOL);
	fixture_set_memory(f);
	fixture_start_ring(f, 0, 0);
	fixture_start_ring(f, 1, 0);
}

static inline bool fixture_ready(const struct fixture *f, unsigned int index)
{
	struct vring_any ring;

	return vhost_device_ring_ready(&f->dev, index, &ring);
}

#endif
