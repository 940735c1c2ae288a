/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vhost-user front end that says anything: messages of any shape with any descriptors, whole or
 *in pieces, hang-ups, memory files that shrink. The device's owner does what a data plane does: at
 *each update it reads and writes the rings that are said to be ready, to their last byte. After the
 *input no descriptor and no region may be left; a promise that does not hold is a trap.
 *
 * Input: one byte of configuration (bits 0-1: pairs - 1, bit 2: control queue), then steps:
 *
 *	0 message	request, flags, number of descriptors, a byte of kind for each, header's
 *size (2 bytes), payload of that size (what the input lacks is not sent)
 *	1 bytes		number, bytes: sent as they are
 *	2 shrink	which memory file, how many pages remain
 *	3 listen	the front end reads what was answered
 *	4 hang up	and connect again
 *
 * make_vhost_corpus.py writes such files.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/fdpass.h"
#include "vhost/vhost_device.h"
#include "virtio/virtio_net.h"

#define STEPS_MAX    512 /* an input takes bounded time */
#define MEMORY_FILES 3
#define FD_KINDS     8
#define FDS_MAX      12

#define must_hold(condition)              \
	do {                              \
		if (!(condition))         \
			__builtin_trap(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is left of the input. */
struct input {
	const uint8_t *data;
	size_t size;
};

struct front {
	struct vhost_device dev;
	bool quiet;
	int sock;
	int fds[FD_KINDS]; /* memory files first; the front end's for as long as the process lives
			    */
};

static struct front front;

static uint8_t input_byte(struct input *input)
{
	if (input->size == 0)
		return 0;
	input->size--;
	return *input->data++;
}

static const uint8_t *input_bytes(struct input *input, size_t *size)
{
	const uint8_t *bytes = input->data;

	*size = min(*size, input->size);
	input->data += *size;
	input->size -= *size;
	return bytes;
}

static int next_fd(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

static void on_quiesce(struct vhost_device *dev)
{
	(void)dev;
	front.quiet = true;
}

static void touch(void *area, size_t size)
{
	volatile uint8_t *bytes = area;

	bytes[0] = (uint8_t)(bytes[0] + 1);
	bytes[size - 1] = (uint8_t)(bytes[size - 1] + 1);
}

static void touch_split(const struct vring_split *ring)
{
	must_hold(ring->size > 0 && ring->mask == ring->size - 1);
	must_hold(is_aligned((uintptr_t)ring->desc, 16));
	touch(ring->desc, vring_desc_bytes(ring->size));
	touch(ring->avail, vring_avail_bytes(ring->size));
	touch(ring->used, vring_used_bytes(ring->size));
}

static void touch_packed(const struct vring_packed *ring, uint16_t base)
{
	must_hold(ring->size > 0 && vring_packed_index(base) < ring->size);
	must_hold(is_aligned((uintptr_t)ring->desc, 16));
	must_hold(is_aligned((uintptr_t)ring->driver, 4) && is_aligned((uintptr_t)ring->device, 4));
	touch(ring->desc, vring_packed_desc_bytes(ring->size));
	touch(ring->driver, sizeof(*ring->driver));
	touch(ring->device, sizeof(*ring->device));
}

static void on_update(struct vhost_device *dev)
{
	struct vring_any ring;

	must_hold(front.quiet);
	front.quiet = false;
	for (unsigned int i = 0; i < VHOST_DEVICE_RINGS_MAX; i++) {
		if (!vhost_device_ring_ready(dev, i, &ring))
			continue;
		if (ring.is_packed)
			touch_packed(&ring.packed, dev->rings[i].base);
		else
			touch_split(&ring.split);
		must_hold(dev->rings[i].kick_fd >= 0 || dev->rings[i].kick_polled);
	}
}

static uint16_t on_ring_base(struct vhost_device *dev, unsigned int index)
{
	struct vring_any ring;

	must_hold(front.quiet && vhost_device_ring_ready(dev, index, &ring));
	/* Anything that a position of that ring can be. */
	return ring.is_packed ? (uint16_t)(READ_ONCE(ring.packed.desc->len) % ring.packed.size | 0x8000)
			      : READ_ONCE(ring.split.avail->idx);
}

static void on_announce(struct vhost_device *dev, const uint8_t mac[6])
{
	(void)dev;
	must_hold((mac[0] & 1) == 0);
}

static void on_mtu(struct vhost_device *dev, uint16_t mtu)
{
	(void)dev;
	must_hold(mtu >= 68);
}

static const struct vhost_device_ops front_ops = {
	.quiesce = on_quiesce,
	.update = on_update,
	.ring_base = on_ring_base,
	.announce = on_announce,
	.mtu = on_mtu,
};

static void front_prepare(void)
{
	int pair[2];

	log_set_level(LOG_ERROR);
	must_hold(guest_memory_init() == 0);
	for (int i = 0; i < MEMORY_FILES; i++)
		front.fds[i] = memfd_create("guest", MFD_CLOEXEC);
	front.fds[3] = eventfd(0, EFD_CLOEXEC);
	must_hold(pipe2(pair, O_CLOEXEC) == 0);
	front.fds[4] = pair[0];
	front.fds[5] = pair[1];
	front.fds[6] = open("/dev/null", O_RDWR | O_CLOEXEC);
	front.fds[7] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static off_t memory_size(unsigned int file)
{
	return (off_t)4096 * (16 << file);
}

static void front_connect(void)
{
	int socks[2];

	must_hold(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks) == 0);
	front.sock = socks[0];
	vhost_device_connect(&front.dev, socks[1]);
}

static void front_hang_up(void)
{
	close(front.sock);
	vhost_device_disconnect(&front.dev, VHOST_FAULT_HANGUP);
	must_hold(front.dev.memory.count == 0 && front.dev.fd_count == 0);
}

/* All that the device has to read, and then some. */
static void front_pump(void)
{
	enum vhost_fault fault = VHOST_FAULT_NONE;
	char byte;

	while (fault == VHOST_FAULT_NONE && recv(front.dev.sock, &byte, 1, MSG_PEEK) > 0) {
		fault = vhost_device_receive(&front.dev);
		must_hold(fault != VHOST_FAULT_NONE || !front.quiet);
	}
	if (fault == VHOST_FAULT_NONE)
		return;
	must_hold(fault < VHOST_FAULT_COUNT);
	vhost_device_disconnect(&front.dev, fault);
	must_hold(front.dev.memory.count == 0);
	front_hang_up();
	front_connect();
}

static void front_send(const void *header, size_t header_size, const void *payload, size_t size, const int *fds,
		       size_t n_fds)
{
	const struct iovec iov[2] = {
		{.iov_base = (void *)(uintptr_t)header, .iov_len = header_size},
		{.iov_base = (void *)(uintptr_t)payload, .iov_len = size},
	};
	ssize_t n = fdpass_send(front.sock, iov, ARRAY_SIZE(iov), fds, n_fds);

	(void)n;
	front_pump();
}

static void step_message(struct input *input)
{
	struct vhost_user_header header;
	int fds[FDS_MAX];
	const uint8_t *payload;
	size_t n_fds, size;

	header.request = input_byte(input);
	header.flags = input_byte(input);
	n_fds = input_byte(input) % (FDS_MAX + 1);
	for (size_t i = 0; i < n_fds; i++)
		fds[i] = front.fds[input_byte(input) % FD_KINDS];
	header.size = input_byte(input);
	header.size |= (uint32_t)input_byte(input) << 8;
	size = header.size;
	payload = input_bytes(input, &size);
	front_send(&header, sizeof(header), payload, size, fds, n_fds);
}

static void step_bytes(struct input *input)
{
	size_t size = input_byte(input);
	const uint8_t *bytes = input_bytes(input, &size);

	front_send(bytes, size, NULL, 0, front.fds, size % 2);
}

static void step_listen(void)
{
	char bytes[4096];

	while (recv(front.sock, bytes, sizeof(bytes), 0) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {.data = data, .size = size};
	uint8_t choice = input_byte(&input);
	const struct vhost_device_config config = {
		.name = "fuzz",
		.features = VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MTU) |
			    VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_MQ),
		.pairs = 1 + choice % 4,
		.control_queue = choice & 4,
		.mtu = 1500,
	};
	int before;

	if (front.fds[MEMORY_FILES] == 0)
		front_prepare();
	before = next_fd();
	for (unsigned int i = 0; i < MEMORY_FILES; i++)
		must_hold(ftruncate(front.fds[i], memory_size(i)) == 0);
	vhost_device_init(&front.dev, &front_ops, &config);
	front.quiet = false;
	front_connect();
	for (int steps = 0; steps < STEPS_MAX && input.size > 0; steps++) {
		switch (input_byte(&input) % 5) {
		case 0:
			step_message(&input);
			break;
		case 1:
			step_bytes(&input);
			break;
		case 2: {
			unsigned int file = input_byte(&input) % MEMORY_FILES;

			must_hold(ftruncate(front.fds[file], 4096 * (input_byte(&input) % 16)) == 0);
			break;
		}
		case 3:
			step_listen();
			break;
		default:
			front_hang_up();
			front_connect();
		}
	}
	front_hang_up();
	must_hold(next_fd() == before);
	return 0;
}
