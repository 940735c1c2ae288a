/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TAP devices: how containers and the host itself attach. The kernel reads and writes frames with the very net header
 * that virtqueues have, so a buffer of the pool goes through as it is, in both directions, and offloads stay offloads.
 *
 * The device is made if it does not exist, and stays when we end: whoever has addresses and routes on it finds them as
 * they were when we are back. One that we made has an alias that says so, and only such a one is removed. It has
 * carrier while its port is served: the kernel takes that away by itself when the last descriptor is closed, however we
 * die.
 *
 * This is the example for new kinds. What it shows: open takes what needs privilege and finds out what the device can
 * do; bind tells the device what was negotiated; rx and tx are nothing but the kernel's calls, with a look at the
 * length and a name for every frame that is lost.
 *
 * @syscalls driver: read writev
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "driver/device.h"
#include "driver/netif.h"
#include "lib/log.h"

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define HEADER      VIRTIO_NET_HDR_LEN
#define FROM_SIZE   (HEADER + VIRTIO_NET_FRAME_MAX + 1) /* one more: a frame that fills it has been cut */
#define TO_SIZE     16384 /* of which the largest segment takes four: fewer pieces for the switch and the kernel */
#define PIECES_MAX  64
#define FROM_SIZE_S "65568"
#define ALIAS       "lasthop"

_Static_assert(FROM_SIZE <= 65568, "as the help says");

static const struct driver_option tap_options[] = {
	{"buffer", "bytes of a buffer for a frame from the device, 256 to " FROM_SIZE_S " (default " FROM_SIZE_S ")"},
	{"up", "yes (default): set the device up; no: as it is"},
	{NULL, NULL},
};

/* Of what the kernel does to frames that we read: what it may leave to others. */
static unsigned int tap_offloads(uint64_t features)
{
	static const struct {
		unsigned int feature, flags;
	} table[] = {
		{VIRTIO_NET_F_HOST_TSO4, TUN_F_TSO4},
		{VIRTIO_NET_F_HOST_TSO6, TUN_F_TSO6},
		{VIRTIO_NET_F_HOST_ECN, TUN_F_TSO_ECN},
		{VIRTIO_NET_F_HOST_USO, TUN_F_USO4 | TUN_F_USO6},
	};
	unsigned int flags = 0;

	/* The others are nothing without it. */
	if (!(features & VIRTIO_BIT(VIRTIO_NET_F_CSUM)))
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(table); i++) {
		if (features & VIRTIO_BIT(table[i].feature))
			flags |= table[i].flags;
	}
	return flags | TUN_F_CSUM;
}

/* What this kernel can pass through unfinished. */
static uint64_t tap_features(int fd)
{
	static const uint64_t base = VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_BIT(VIRTIO_NET_F_CSUM) |
				     VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) |
				     VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) |
				     VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) |
				     VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN);
	static const uint64_t uso = VIRTIO_BIT(VIRTIO_NET_F_HOST_USO) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4) |
				    VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6);

	/* From Linux 6.2 on. */
	return ioctl(fd, TUNSETOFFLOAD, tap_offloads(base | uso)) < 0 ? base : base | uso;
}

static int tap_complain(const struct driver_device *dev, int err)
{
	const char *advice = err == -EPERM   ? "it takes root or CAP_NET_ADMIN, or a device that was made for this user"
			     : err == -EBUSY ? "another process has it open"
			     : err == -E2BIG ? "fewer --queues"
			     : err == -EINVAL ? "an interface of that name is there, and is no TAP device"
			     : err == -ENOENT ? "is /dev/net/tun there?"
					      : "see ip-tuntap(8)";

	log_error("TAP %s: %s; %s", dev->config->device, strerror(-err), advice);
	return err;
}

/* A descriptor for one queue; the first makes the device if need be. */
static int tap_open_queue(const char *name, short flags)
{
	struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags)};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), header = HEADER, err;

	if (fd < 0)
		return -errno;
	strncpy(ifr.ifr_name, name, sizeof(ifr.ifr_name) - 1);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int tap_open_queues(struct driver_device *dev, const struct netif *before)
{
	const char *name = dev->config->device;
	int fd = tap_open_queue(name, IFF_MULTI_QUEUE);

	/* Somebody made it for one queue only. */
	if (fd == -EINVAL && before->ifindex) {
		fd = tap_open_queue(name, 0);
		if (fd >= 0 && dev->queue_count > 1)
			log_warn("TAP %s was made without multi_queue: one queue is used", name);
		dev->queue_count = 1;
	}
	if (fd < 0)
		return fd;
	dev->queues[0].fd = fd;
	for (unsigned int i = 1; i < dev->queue_count; i++) {
		fd = tap_open_queue(name, IFF_MULTI_QUEUE);
		if (fd < 0)
			return fd;
		dev->queues[i].fd = fd;
	}
	return 0;
}

/* The device is there now, and was not before. */
static int tap_note_maker(const char *name)
{
	struct netif netif;
	int err = netif_find(name, &netif);

	return err ? err : netif_set_alias(netif.ifindex, ALIAS);
}

static int tap_open(struct driver_device *dev)
{
	const char *name = dev->config->device, *up = driver_option(dev->config, "up", "yes");
	unsigned long size = strtoul(driver_option(dev->config, "buffer", FROM_SIZE_S), NULL, 10);
	struct netif netif = {0};
	int err = netif_find(name, &netif), off = 0;

	if (size < 256 || size > 65568 || (strcmp(up, "yes") != 0 && strcmp(up, "no") != 0)) {
		log_error("TAP %s: an --option has a value that it does not take; see --help", name);
		return -EINVAL;
	}
	if (err == -EINVAL)
		log_error("'%s' cannot be the name of a TAP device", name);
	if (err == -EINVAL || (err && err != -ENODEV))
		return err;
	/* The kernel would let us in beside the one who has it, and give each a part of the frames. */
	err = netif.tun_queues > 0 ? -EBUSY : tap_open_queues(dev, &netif);
	if (err)
		return tap_complain(dev, err);
	if (!netif.ifindex && tap_note_maker(name))
		log_warn("TAP %s: it could not be noted that it is ours: it will have to be removed by hand", name);
	/* Nobody shall send before somebody listens. */
	ioctl(dev->queues[0].fd, TUNSETCARRIER, &off);
	if (ioctl(dev->queues[0].fd, TUNSETPERSIST, 1) < 0)
		return tap_complain(dev, -errno);
	err = dev->config->mtu ? netif_set_mtu(name, dev->config->mtu) : 0;
	if (!err && !strcmp(up, "yes"))
		err = netif_set_up(name);
	if (!err)
		err = netif_find(name, &netif);
	if (err) {
		log_error("TAP %s: %s, at setting it up with the MTU that was asked for", name, strerror(-err));
		return err;
	}
	dev->facts = (struct driver_facts){
		.features = tap_features(dev->queues[0].fd),
		.mtu = netif.mtu,
		.link = netif.up,
		.ifindex = netif.ifindex,
		.from_size = (uint32_t)size,
		.to_size = TO_SIZE,
	};
	memcpy(dev->facts.mac, netif.mac, sizeof(dev->facts.mac));
	return 0;
}

static int tap_bind(struct driver_device *dev)
{
	/* A queue that nobody reads would swallow a part of the frames. */
	for (unsigned int i = dev->queue_count; i < dev->config->queues; i++) {
		if (dev->queues[i].fd >= 0)
			close(dev->queues[i].fd);
		dev->queues[i].fd = -1;
	}
	/* Of the device, not of the queue. */
	return ioctl(dev->queues[0].fd, TUNSETOFFLOAD, tap_offloads(dev->pool.features)) < 0 ? -errno : 0;
}

static int tap_link(struct driver_device *dev, bool up)
{
	int carrier = up;

	return ioctl(dev->queues[0].fd, TUNSETCARRIER, &carrier) < 0 ? -errno : 0;
}

/* What the kernel says when there is no device behind a descriptor any more. */
static int tap_error(void)
{
	return errno == EBADFD || errno == ENODEV ? -ENODEV : errno == EIO ? -ENETDOWN : -errno;
}

static int tap_rx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	unsigned int filled = 0;

	for (unsigned int tries = 0; filled < n && tries < n; tries++) {
		struct driver_frame *frame = &frames[filled];
		ssize_t size = read(queue->fd, frame->data, frame->room);

		if (size < 0)
			return filled > 0 || errno == EAGAIN ? (int)filled : tap_error();
		if ((size_t)size >= frame->room) {
			DRIVER_COUNT(queue->counters.drops[DRIVER_DROP_TOO_LONG], 1);
			continue;
		}
		frame->size = (uint32_t)size;
		filled++;
	}
	return (int)filled;
}

static int tap_tx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		const struct driver_frame *piece = &frames[i];
		struct iovec iov[PIECES_MAX];
		unsigned int pieces = 0;

		do {
			iov[pieces++] = (struct iovec){.iov_base = piece->data, .iov_len = piece->size};
			piece = piece->next;
		} while (piece && pieces < PIECES_MAX);
		if (likely(writev(queue->fd, iov, (int)pieces) >= 0))
			continue;
		switch (errno) {
		case EAGAIN:
		case ENOBUFS:
		case ENOMEM:
			return (int)i;
		case EIO:
		case EBADFD:
		case ENODEV:
			return i > 0 ? (int)i : tap_error();
		default:
			driver_refuse(queue, &frames[i], DRIVER_DROP_BAD_FRAME);
		}
	}
	return (int)n;
}

/*
 * Whether somebody else has it open. The kernel tells that only of a device with several queues; one that has a single
 * queue cannot be opened twice.
 */
static bool tap_is_used(const char *name, const struct netif *netif)
{
	int fd = netif->tun_queues > 0 ? -EBUSY : tap_open_queue(name, 0);

	if (fd >= 0)
		close(fd);
	return fd == -EBUSY;
}

/* It may have been somebody's who gave it to us by mistake, or whom we never got it from: a VM's, a VPN's. */
static int tap_remove(const struct driver_config *config)
{
	const char *name = config->device;
	struct netif netif;
	int err = netif_find(name, &netif);

	if (err == -ENODEV)
		return err;
	if (!err && strcmp(netif.kind, "tun") != 0) {
		log_error("%s is no TAP device: it is left alone", name);
		return -EINVAL;
	}
	if (!err && strcmp(netif.alias, ALIAS) != 0) {
		log_info("TAP %s was not made by a driver, as its alias would say: it is left alone", name);
		return 0;
	}
	if (!err && tap_is_used(name, &netif)) {
		log_error("TAP %s: another process has it open: it is left alone", name);
		return -EBUSY;
	}
	if (!err)
		err = netif_remove(netif.ifindex);
	if (err)
		log_error("TAP %s cannot be removed: %s", name, strerror(-err));
	return err;
}

static void tap_close(struct driver_device *dev)
{
	(void)dev; /* has nothing but the queues' descriptors */
}

const struct driver_kind driver_tap = {
	.name = "tap",
	.summary = "a TAP device, made if it does not exist: for the host and its containers",
	.options = tap_options,
	.open = tap_open,
	.remove = tap_remove,
	.bind = tap_bind,
	.link = tap_link,
	.rx = tap_rx,
	.tx = tap_tx,
	.close = tap_close,
};
