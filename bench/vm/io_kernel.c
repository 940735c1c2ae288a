/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is no VM with vhost: a device of the kernel, in the network namespace of the process that the
 * path names.
 *
 * netns:PID is a program in a container, whose interface is eth0: frames pass through an AF_PACKET
 * socket, 32 a system call; 64 KiB segments with a virtio-net header, as the kernel's own TCP would
 * hand them down. There are two copies between socket buffers and the program.
 *
 * tap:PID:NAME is a VM of a machine without vhost-net, as its VMM sees it: a TAP device with
 * virtio-net headers, a system call a frame. The copy between the VMM and the guest's memory, which
 * a guest cannot do without, is left out in its favour.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/clock.h"
#include "vm.h"

#define INTERFACE    "eth0"
#define SOCKET_BYTES (32 << 20)

struct device {
	int fd;
	uint32_t header; /* bytes of the virtio-net header, if any */
	uint32_t stride;
	bool tap;
	uint8_t *buffers; /* BATCH_MAX to send, BATCH_MAX to receive */
	struct mmsghdr messages[2 * BATCH_MAX];
	struct iovec iov[2 * BATCH_MAX];
};

static struct device devices[VMS_MAX];

static struct device *device_of(const struct vm *vm)
{
	return &devices[vm->number];
}

/* Returns the interface's name. */
static const char *enter_namespace(const struct vm *vm)
{
	const char *name = INTERFACE;
	char path[64], *end;
	unsigned long pid = strtoul(strchr(vm->path, ':') + 1, &end, 10);
	int fd;

	if (vm->io == &io_tap && *end == ':')
		name = end + 1;
	else if (*end)
		fail("%s: after the colon comes a process id", vm->path);
	snprintf(path, sizeof(path), "/proc/%lu/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		fail("%s: %s", path, strerror(errno));
	close(fd);
	return name;
}

static void make_buffers(struct device *device)
{
	device->header = opt.gso || device->tap ? sizeof(struct virtio_net_hdr) : 0;
	device->stride = (uint32_t)align_up(device->header + max(opt.size, 2048u), CACHE_LINE);
	device->buffers = calloc(2 * BATCH_MAX, device->stride);
	if (!device->buffers)
		fail("out of memory");
	for (unsigned int i = 0; i < ARRAY_SIZE(device->iov); i++) {
		device->iov[i] = (struct iovec){device->buffers + (size_t)i * device->stride,
						device->header + opt.size};
		device->messages[i].msg_hdr = (struct msghdr){.msg_iov = &device->iov[i], .msg_iovlen = 1};
	}
	for (unsigned int i = BATCH_MAX; i < ARRAY_SIZE(device->iov); i++)
		device->iov[i].iov_len = device->stride;
}

static void socket_open(struct vm *vm)
{
	struct device *device = device_of(vm);
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int one = 1, bytes = SOCKET_BYTES;

	address.sll_ifindex = (int)if_nametoindex(enter_namespace(vm));
	device->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (device->fd < 0 || !address.sll_ifindex)
		fail("%s: no socket on " INTERFACE ": %s", vm->path, strerror(errno));
	make_buffers(device);
	/* What the socket sent itself does not come back to it; no queue discipline, as for VMs. */
	if (setsockopt(device->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) ||
	    setsockopt(device->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) ||
	    setsockopt(device->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) ||
	    setsockopt(device->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) ||
	    (device->header && setsockopt(device->fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one))) ||
	    bind(device->fd, (struct sockaddr *)&address, sizeof(address)))
		fail("%s: the socket on " INTERFACE ": %s", vm->path, strerror(errno));
}

static void tap_open(struct vm *vm)
{
	struct device *device = device_of(vm);
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	const char *name = enter_namespace(vm);
	unsigned int offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;

	device->tap = true;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	device->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (device->fd < 0 || ioctl(device->fd, TUNSETIFF, &request) || ioctl(device->fd, TUNSETOFFLOAD, offloads))
		fail("%s: no TAP device: %s", vm->path, strerror(errno));
	make_buffers(device);
}

/* As sendmmsg() and recvmmsg() do. */
static int exchange(const struct device *device, struct mmsghdr *messages, unsigned int max, bool send)
{
	unsigned int n = 0;

	if (!device->tap)
		return send ? sendmmsg(device->fd, messages, max, 0) : recvmmsg(device->fd, messages, max, 0, NULL);
	for (; n < max; n++) {
		const struct iovec *iov = messages[n].msg_hdr.msg_iov;
		ssize_t size = send ? write(device->fd, iov->iov_base, iov->iov_len)
				    : read(device->fd, iov->iov_base, iov->iov_len);

		if (size < 0)
			break;
		messages[n].msg_len = (unsigned int)size;
	}
	return n > 0 ? (int)n : -1;
}

static void kernel_close(struct vm *vm)
{
	close(device_of(vm)->fd);
	free(device_of(vm)->buffers);
}

static void kernel_say(struct vm *vm, const uint8_t *frame, uint32_t size)
{
	struct device *device = device_of(vm);
	struct virtio_net_hdr header = {0};
	struct iovec iov[2] = {{&header, device->header}, {NULL, size}};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
	uint8_t copy[HELLO_SIZE];

	memcpy(copy, frame, size);
	iov[1].iov_base = copy;
	/* Said again until it is heard. */
	if ((device->tap ? writev(device->fd, iov, 2) : sendmsg(device->fd, &message, 0)) < 0)
		return;
}

static unsigned int kernel_hear(struct vm *vm, uint8_t frames[BATCH_MAX][HELLO_SIZE])
{
	struct device *device = device_of(vm);
	struct mmsghdr *messages = device->messages + BATCH_MAX;
	int n = exchange(device, messages, BATCH_MAX, false);
	unsigned int heard = 0;

	for (int i = 0; i < n; i++) {
		const uint8_t *at = device->iov[BATCH_MAX + i].iov_base;

		if (messages[i].msg_len == device->header + HELLO_SIZE)
			memcpy(frames[heard++], at + device->header, HELLO_SIZE);
	}
	return heard;
}

static void kernel_prepare(struct vm *vm)
{
	struct device *device = device_of(vm);
	struct virtio_net_hdr header;

	memset(&header, 0, sizeof(header));
	if (opt.gso)
		frame_gso_header(&header);
	for (unsigned int i = 0; i < BATCH_MAX; i++) {
		uint8_t *at = device->iov[i].iov_base;

		memcpy(at, &header, device->header);
		frame_make(vm, vm->first_peer, at + device->header, opt.size, opt.gso);
	}
}

static int kernel_send(struct vm *vm, unsigned int max)
{
	struct device *device = device_of(vm);
	bool differ = frame_differs(vm);
	int n;

	for (unsigned int i = 0; differ && i < max; i++)
		frame_next(vm, (uint8_t *)device->iov[i].iov_base + device->header);
	n = exchange(device, device->messages, max, true);
	if (n < 0 && errno != EAGAIN && errno != ENOBUFS)
		fail("%s: send: %s", vm->path, strerror(errno));
	if (n > 0)
		add_relaxed(&vm->shared->counters.sent, (unsigned int)n);
	return max(n, 0);
}

static void kernel_finish_send(struct vm *vm)
{
	(void)vm; /* nothing is under way: the call that sends returns when it is sent */
}

static int kernel_receive(struct vm *vm)
{
	struct device *device = device_of(vm);
	struct mmsghdr *messages = device->messages + BATCH_MAX;
	int n = exchange(device, messages, opt.batch, false);
	unsigned int frames = 0;

	if (n < 0 && errno != EAGAIN)
		fail("%s: receive: %s", vm->path, strerror(errno));
	for (int i = 0; i < n; i++) {
		const uint8_t *at = device->iov[BATCH_MAX + i].iov_base;

		/* Anything else is the kernel's own. */
		if (messages[i].msg_len != device->header + opt.size)
			continue;
		at += device->header;
		if (vm->pings)
			vm->heard_seq = frame_seq(at);
		if (opt.touch)
			frame_touch_read(vm, at, opt.size, true);
		frames++;
	}
	add_relaxed(&vm->shared->counters.delivered, frames);
	return vm->pings ? (int)frames : max(n, 0);
}

static bool kernel_discard(struct vm *vm)
{
	struct device *device = device_of(vm);

	return exchange(device, device->messages + BATCH_MAX, BATCH_MAX, false) > 0;
}

static void kernel_wait(struct vm *vm, bool transmit, uint64_t ns)
{
	struct pollfd pfd = {.fd = device_of(vm)->fd, .events = POLLIN};
	struct timespec ts = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};

	if (transmit)
		pfd.events |= POLLOUT;
	ppoll(&pfd, 1, &ts, NULL);
}

const struct io io_socket = {
	.open = socket_open,
	.close = kernel_close,
	.say = kernel_say,
	.hear = kernel_hear,
	.prepare = kernel_prepare,
	.send = kernel_send,
	.finish_send = kernel_finish_send,
	.receive = kernel_receive,
	.discard = kernel_discard,
	.wait = kernel_wait,
};

const struct io io_tap = {
	.open = tap_open,
	.close = kernel_close,
	.say = kernel_say,
	.hear = kernel_hear,
	.prepare = kernel_prepare,
	.send = kernel_send,
	.finish_send = kernel_finish_send,
	.receive = kernel_receive,
	.discard = kernel_discard,
	.wait = kernel_wait,
};
