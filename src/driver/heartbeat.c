/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * systemd wants a datagram on a socket whose name it leaves in the environment; a library for that would be larger.
 *
 * A port that refuses heartbeats answers all the same, so we live, and it does.
 *
 * @syscalls driver: sendto
 */
#include "driver/heartbeat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/log.h"

void heartbeat_open(struct heartbeat *beat)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;

	*beat = (struct heartbeat){.notify_fd = -1};
	if (length == 0)
		return;
	if (length >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@')) {
		log_warn("NOTIFY_SOCKET is no socket's name: nobody is told that the driver lives");
		return;
	}
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	beat->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (beat->notify_fd >= 0 && connect(beat->notify_fd, (struct sockaddr *)&address,
					    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 0)
		return;
	log_warn("NOTIFY_SOCKET %s: %s", path, strerror(errno));
	heartbeat_close(beat);
}

void heartbeat_close(struct heartbeat *beat)
{
	if (beat->notify_fd >= 0)
		close(beat->notify_fd);
	beat->notify_fd = -1;
}

static void copy_text(char *to, size_t size, const char *text)
{
	memset(to, 0, size);
	for (size_t i = 0; i + 1 < size && text[i]; i++)
		to[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
}

void heartbeat_fill(const struct driver_device *dev, struct driver_status *status)
{
	*status = (struct driver_status){
		.version = DRIVER_STATUS_VERSION,
		.link = dev->facts.link,
		.queues = (uint16_t)dev->queue_count,
		.mtu = dev->facts.mtu,
		.speed_mbps = dev->facts.speed_mbps,
	};
	copy_text(status->kind, sizeof(status->kind), dev->kind->name);
	copy_text(status->device, sizeof(status->device), dev->config->device);
	copy_text(status->mode, sizeof(status->mode), dev->facts.mode);
	for (unsigned int i = 0; i < dev->queue_count; i++) {
		const struct driver_counters *counters = &dev->queues[i].counters;

		status->rx_packets += load_relaxed(&counters->rx_packets);
		status->rx_bytes += load_relaxed(&counters->rx_bytes);
		status->tx_packets += load_relaxed(&counters->tx_packets);
		status->tx_bytes += load_relaxed(&counters->tx_bytes);
		status->rx_coalesced += load_relaxed(&counters->rx_coalesced);
		for (unsigned int drop = 0; drop < DRIVER_DROP_COUNT; drop++)
			status->drops[drop] += load_relaxed(&counters->drops[drop]);
	}
}

int heartbeat_send(const struct driver_device *dev, struct netfront *nf)
{
	struct driver_status status;

	heartbeat_fill(dev, &status);
	return netfront_control_begin(nf, DRIVER_CTRL_CLASS, DRIVER_CTRL_STATUS, &status, sizeof(status));
}

int heartbeat_answered(struct heartbeat *beat, int result)
{
	const char *text = beat->ready ? "WATCHDOG=1" : "READY=1\nWATCHDOG=1";

	if (result == -EREMOTEIO && !beat->refused) {
		beat->refused = true;
		log_info("the port does not take a driver's status: it was not added for one (driver=external)");
	} else if (result && result != -EREMOTEIO) {
		return result;
	}
	if (beat->notify_fd >= 0 && send(beat->notify_fd, text, strlen(text), MSG_NOSIGNAL) >= 0)
		beat->ready = true;
	return 0;
}
