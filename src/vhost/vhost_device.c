/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection's life: bytes come in as the socket has them, the header is judged as soon as it is
 * complete (so that nothing larger than the largest message is ever awaited), the payload when it
 * is; then the message's row of the table (vhost_messages.c) says what happens. Descriptors belong
 * to dev->fds from their arrival until a handler takes them or the message ends.
 *
 * Nothing here waits for the front end: a message in pieces stays in dev->msg until the next piece
 * comes, and an answer that the socket has no room for ends the connection, because an honest front
 * end has at most one question open.
 *
 * @syscalls core: recvmsg sendmsg fcntl close
 */
#include "vhost/vhost_device.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/fdpass.h"
#include "vhost/vhost_messages.h"
#include "virtio/virtio_net.h"

static const char *const vhost_fault_names[VHOST_FAULT_COUNT] = {
	[VHOST_FAULT_NONE] = "none",
	[VHOST_FAULT_HANGUP] = "hangup",
	[VHOST_FAULT_IO] = "io",
	[VHOST_FAULT_VERSION] = "version",
	[VHOST_FAULT_UNKNOWN] = "unknown-request",
	[VHOST_FAULT_SIZE] = "size",
	[VHOST_FAULT_DESCRIPTORS] = "descriptors",
	[VHOST_FAULT_QUEUE_INDEX] = "queue-index",
	[VHOST_FAULT_QUEUE_SIZE] = "queue-size",
	[VHOST_FAULT_RING_ADDRESS] = "ring-address",
	[VHOST_FAULT_FEATURES] = "features",
	[VHOST_FAULT_REGION] = "region",
	[VHOST_FAULT_MEMORY_FILE] = "memory-file",
	[VHOST_FAULT_EVENT_FD] = "event-fd",
	[VHOST_FAULT_STATE] = "state",
	[VHOST_FAULT_VALUE] = "value",
	[VHOST_FAULT_MEMORY_SHRUNK] = "memory-shrunk",
};

const char *vhost_fault_name(enum vhost_fault fault)
{
	return (unsigned int)fault < VHOST_FAULT_COUNT ? vhost_fault_names[fault] : "unknown";
}

bool vhost_fault_refusable(enum vhost_fault fault)
{
	return fault == VHOST_FAULT_MEMORY_FILE || fault == VHOST_FAULT_VALUE;
}

/* What a new connection begins with; everything closed and unmapped already. */
static void vhost_device_forget(struct vhost_device *dev)
{
	dev->sock = -1;
	dev->features = 0;
	dev->protocol_features = 0;
	dev->protocol_offered = 0;
	dev->owned = false;
	dev->features_set = false;
	dev->status = 0;
	memcpy(dev->mac, dev->config.mac, sizeof(dev->mac));
	dev->received = 0;
	dev->fd_count = 0;
	dev->msg = (struct vhost_user_msg){0};
}

void vhost_device_init(struct vhost_device *dev, const struct vhost_device_ops *ops,
		       const struct vhost_device_config *config)
{
	memset(dev, 0, sizeof(*dev));
	dev->ops = ops;
	dev->config = *config;
	for (unsigned int i = 0; i < VHOST_DEVICE_RINGS_MAX; i++) {
		dev->rings[i].kick_fd = dev->rings[i].call_fd = dev->rings[i].err_fd = -1;
	}
	dev->backend_fd = -1;
	guest_memory_reset(&dev->memory);
	vhost_device_forget(dev);
}

void vhost_device_connect(struct vhost_device *dev, int sock)
{
	int flags = fcntl(sock, F_GETFL);

	/* Fails only for what is no descriptor; receiving from it then tells. */
	if (flags >= 0)
		(void)fcntl(sock, F_SETFL, flags | O_NONBLOCK);
	dev->sock = sock;
}

static void vhost_device_quiesce(struct vhost_device *dev)
{
	struct vring_any unused;

	dev->ops->quiesce(dev);
	/* Whatever the message does to the ring, this is how far it got. */
	for (unsigned int i = 0; i < vhost_ring_count(dev); i++) {
		if (!vhost_device_ring_ready(dev, i, &unused))
			continue;
		dev->rings[i].base = dev->ops->ring_base(dev, i);
		dev->rings[i].base_own = true;
	}
}

static void vhost_device_close_fds(struct vhost_device *dev)
{
	fdpass_close(dev->fds, dev->fd_count);
	dev->fd_count = 0;
}

void vhost_device_disconnect(struct vhost_device *dev, enum vhost_fault fault)
{
	const struct vhost_message *message = vhost_message_find(dev, dev->msg.header.request);

	if (dev->sock < 0)
		return;
	if (fault == VHOST_FAULT_HANGUP)
		log_limited(&dev->log_limit, LOG_INFO, "%s: front end disconnected", dev->config.name);
	else
		log_limited(&dev->log_limit, LOG_WARN, "%s: front end disconnected: %s (last message %s, %u)",
			    dev->config.name, vhost_fault_name(fault), message != NULL ? message->name : "unknown",
			    dev->msg.header.request);
	dev->ops->quiesce(dev);
	for (unsigned int i = 0; i < VHOST_DEVICE_RINGS_MAX; i++)
		vhost_ring_reset(&dev->rings[i]);
	guest_memory_clear(&dev->memory);
	vhost_device_close_fds(dev);
	fdpass_close(&dev->backend_fd, 1);
	close(dev->sock);
	vhost_device_forget(dev);
	dev->last_fault = fault;
	dev->ops->update(dev);
}

static enum vhost_fault vhost_device_answer(struct vhost_device *dev)
{
	struct vhost_user_header *header = &dev->msg.header;
	const struct iovec iov[2] = {
		{.iov_base = header, .iov_len = sizeof(*header)},
		{.iov_base = &dev->msg.payload, .iov_len = header->size},
	};

	header->flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
	if (fdpass_send(dev->sock, iov, ARRAY_SIZE(iov), NULL, 0) != (ssize_t)(sizeof(*header) + header->size))
		return VHOST_FAULT_IO;
	return VHOST_FAULT_NONE;
}

static enum vhost_fault vhost_device_acknowledge(struct vhost_device *dev, bool granted)
{
	dev->msg.payload.u64 = granted ? 0 : 1;
	dev->msg.header.size = sizeof(dev->msg.payload.u64);
	return vhost_device_answer(dev);
}

/* The message in dev->msg is complete. */
static enum vhost_fault vhost_device_handle(struct vhost_device *dev)
{
	const struct vhost_message *message = vhost_message_find(dev, dev->msg.header.request);
	bool need_reply = dev->msg.header.flags & VHOST_USER_NEED_REPLY;
	bool granted = true;
	enum vhost_fault fault;

	fault = vhost_message_check(message, dev);
	if (fault == VHOST_FAULT_NONE) {
		if (message->quiesces)
			vhost_device_quiesce(dev);
		fault = message->handle(dev);
	}
	vhost_device_close_fds(dev);
	/* Asked afterwards, because SET_PROTOCOL_FEATURES may have brought it. */
	need_reply = need_reply && !message->answers &&
		     (dev->protocol_features & (1ULL << VHOST_USER_PROTOCOL_F_REPLY_ACK));
	if (need_reply && vhost_fault_refusable(fault)) {
		log_limited(&dev->log_limit, LOG_WARN, "%s: %s refused: %s", dev->config.name, message->name,
			    vhost_fault_name(fault));
		dev->refused++;
		granted = false;
		fault = VHOST_FAULT_NONE;
	}
	if (fault != VHOST_FAULT_NONE)
		return fault;
	dev->messages++;
	if (message->quiesces)
		dev->ops->update(dev);
	if (message->answers)
		return vhost_device_answer(dev);
	return need_reply ? vhost_device_acknowledge(dev, granted) : VHOST_FAULT_NONE;
}

static enum vhost_fault vhost_device_check_header(const struct vhost_device *dev)
{
	const struct vhost_user_header *header = &dev->msg.header;
	const struct vhost_message *message = vhost_message_find(dev, header->request);

	if ((header->flags & (VHOST_USER_VERSION_MASK | VHOST_USER_REPLY)) != VHOST_USER_VERSION)
		return VHOST_FAULT_VERSION;
	if (message == NULL)
		return VHOST_FAULT_UNKNOWN;
	if (header->size < message->size_min || header->size > message->size_max)
		return VHOST_FAULT_SIZE;
	return VHOST_FAULT_NONE;
}

/*
 * Receives into buf until *have bytes (counted from buf) are size. VHOST_FAULT_NONE with less: no
 * more is there at the moment.
 */
static enum vhost_fault vhost_device_fill(struct vhost_device *dev, void *buf, size_t have, size_t size)
{
	size_t n_fds;
	ssize_t n;

	if (have == size)
		return VHOST_FAULT_NONE;
	n = fdpass_recv(dev->sock, (uint8_t *)buf + have, size - have, dev->fds + dev->fd_count,
			ARRAY_SIZE(dev->fds) - dev->fd_count, &n_fds);
	if (n == -EAGAIN)
		return VHOST_FAULT_NONE;
	if (n == 0 || n == -ECONNRESET)
		return VHOST_FAULT_HANGUP;
	if (n == -EPROTO)
		return VHOST_FAULT_DESCRIPTORS;
	if (n < 0)
		return VHOST_FAULT_IO;
	dev->fd_count += (unsigned int)n_fds;
	dev->received += (size_t)n;
	return VHOST_FAULT_NONE;
}

enum vhost_fault vhost_device_receive(struct vhost_device *dev)
{
	const size_t header_size = sizeof(dev->msg.header);
	enum vhost_fault fault;

	if (dev->sock < 0)
		return VHOST_FAULT_STATE;
	if (dev->received < header_size) {
		fault = vhost_device_fill(dev, &dev->msg.header, dev->received, header_size);
		if (fault != VHOST_FAULT_NONE || dev->received < header_size)
			return fault;
		fault = vhost_device_check_header(dev);
		if (fault != VHOST_FAULT_NONE)
			return fault;
	}
	fault = vhost_device_fill(dev, &dev->msg.payload, dev->received - header_size, dev->msg.header.size);
	if (fault != VHOST_FAULT_NONE || dev->received < header_size + dev->msg.header.size)
		return fault;
	dev->received = 0;
	return vhost_device_handle(dev);
}
