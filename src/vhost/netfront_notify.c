/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who wakes whom: kicks to the back end, calls from it, and the control queue, which is nothing but
 * a command and waiting for its answer.
 *
 * A caller that polls has its kicks decided at its next poll. By then the available index has long
 * left the store buffer, and the barrier before reading the device's wish costs little.
 *
 * @syscalls driver: poll read write
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/compiler.h"
#include "vhost/netfront_internal.h"

void netfront_kick(struct netfront_queue *queue)
{
	const uint64_t one = 1;

	/* A full counter is a kick that was not seen yet: nothing is lost. */
	if (write(queue->kick_fd, &one, sizeof(one)) == sizeof(one))
		queue->kicks++;
}

static void kick_if_due(struct netfront_queue *queue)
{
	if (vq_driver_kick_due(&queue->vq) && queue->started)
		netfront_kick(queue);
}

void netfront_flush(struct netfront *nf, struct netfront_queue *queue)
{
	vq_driver_publish(&queue->vq);
	if (!nf->config.polling)
		kick_if_due(queue);
}

int netfront_begin_poll(struct netfront *nf, struct netfront_queue *queue)
{
	if (nf->config.polling)
		kick_if_due(queue);
	return unlikely(queue->faulty) ? -EPROTO : 0;
}

bool netfront_arm(struct netfront_queue *queue, uint16_t after)
{
	kick_if_due(queue);
	return vq_driver_enable_callbacks(&queue->vq, after);
}

static void drain_call(struct netfront_queue *queue)
{
	uint64_t count;

	/* Empty already is as good. */
	if (read(queue->call_fd, &count, sizeof(count)) < 0)
		return;
}

void netfront_disarm(struct netfront_queue *queue)
{
	vq_driver_disable_callbacks(&queue->vq);
	drain_call(queue);
}

/* Sleeps once. Returns what is ready, which may be nothing: a call may be late. */
static int wait_once(struct netfront *nf, unsigned int pair, unsigned int what, int timeout_ms)
{
	struct netfront_queue *queues[2] = {netfront_rx(nf, pair), netfront_tx(nf, pair)};
	struct pollfd pfds[3] = {{.fd = nf->fe.sock, .events = POLLRDHUP}};
	unsigned int ready = 0;
	int events = 0;

	for (unsigned int i = 0; i < 2; i++) {
		unsigned int half = vq_driver_in_flight(&queues[i]->vq) / 2;

		pfds[1 + i] = (struct pollfd){.fd = -1, .events = POLLIN};
		if (!(what & 1u << i))
			continue;
		pfds[1 + i].fd = queues[i]->call_fd;
		if (!netfront_arm(queues[i], i == 0 ? 1 : (uint16_t)half))
			ready |= 1u << i;
	}
	if (!ready)
		events = poll(pfds, ARRAY_SIZE(pfds), timeout_ms);

	for (unsigned int i = 0; i < 2; i++) {
		if (!(what & 1u << i))
			continue;
		vq_driver_disable_callbacks(&queues[i]->vq);
		if (events > 0 && pfds[1 + i].revents)
			drain_call(queues[i]);
		if (vq_driver_pending(&queues[i]->vq))
			ready |= 1u << i;
	}
	if (!ready && events > 0 && pfds[0].revents)
		return -ECONNRESET;
	return (int)ready;
}

int netfront_wait(struct netfront *nf, unsigned int pair, unsigned int what, int timeout_ms)
{
	uint64_t deadline = clock_now_ns() + (uint64_t)max(timeout_ms, 0) * NS_PER_MS;

	for (;;) {
		int ready = wait_once(nf, pair, what, timeout_ms);
		uint64_t now;

		if (ready)
			return ready;
		if (timeout_ms < 0)
			continue;
		now = clock_now_ns();
		if (now >= deadline)
			return 0;
		timeout_ms = (int)((deadline - now + NS_PER_MS - 1) / NS_PER_MS);
	}
}

/* The control queue. */

/* Where its parts lie in the control queue's one buffer. */
#define CONTROL_ACK_AT  (NETFRONT_LINE / 2)
#define CONTROL_DATA_AT NETFRONT_LINE

static uint8_t *control_buffer(const struct netfront *nf)
{
	return netfront_buffer(nf, nf->control->idle[0]);
}

int netfront_control_begin(struct netfront *nf, uint8_t class, uint8_t command, const void *data, uint32_t size)
{
	struct virtio_net_ctrl_hdr header = {.class = class, .cmd = command};
	struct vq_buffer pieces[3];
	uint64_t addr;
	uint8_t *buffer;
	int err;

	if (!nf->control)
		return -ENOTSUP;
	if (nf->control->faulty)
		return -EPROTO;
	if (nf->commanding)
		return -EBUSY;
	if (size > nf->buffer_stride - CONTROL_DATA_AT)
		return -EMSGSIZE;
	buffer = control_buffer(nf);
	addr = netfront_guest_addr(nf, (uint64_t)(buffer - nf->memory));
	memcpy(buffer, &header, sizeof(header));
	buffer[CONTROL_ACK_AT] = 0xff;
	if (size > 0)
		memcpy(buffer + CONTROL_DATA_AT, data, size);

	pieces[0] = (struct vq_buffer){.addr = addr, .len = sizeof(header)};
	pieces[1] = (struct vq_buffer){.addr = addr + CONTROL_DATA_AT, .len = size};
	pieces[size > 0 ? 2 : 1] = (struct vq_buffer){.addr = addr + CONTROL_ACK_AT, .len = 1};
	err = vq_driver_add(&nf->control->vq, pieces, size > 0 ? 2 : 1, 1, 0);
	if (err < 0)
		return err;
	nf->commanding = true;
	netfront_flush(nf, nf->control);
	/* What is there already is found by the look that follows. */
	(void)netfront_arm(nf->control, 1);
	return 0;
}

int netfront_control_end(struct netfront *nf)
{
	struct vq_used used;
	int n;

	if (!nf->control || !nf->commanding)
		return -ENOTSUP;
	n = vq_driver_collect(&nf->control->vq, &used, 1);
	if (n == 0) {
		/* A call that was late for the last answer says nothing of this one. */
		drain_call(nf->control);
		if (netfront_arm(nf->control, 1))
			return -EAGAIN;
		n = vq_driver_collect(&nf->control->vq, &used, 1);
	}
	netfront_disarm(nf->control);
	nf->commanding = false;
	if (n != 1) {
		nf->control->faulty = true;
		return n < 0 ? n : -EPROTO;
	}
	return READ_ONCE(control_buffer(nf)[CONTROL_ACK_AT]) == VIRTIO_NET_OK ? 0 : -EREMOTEIO;
}

int netfront_control(struct netfront *nf, uint8_t class, uint8_t command, const void *data, uint32_t size)
{
	uint64_t deadline = clock_now_ns() + (uint64_t)max(nf->config.timeout_ms, 0) * NS_PER_MS;
	struct pollfd pfd = {.events = POLLIN};
	int err = netfront_control_begin(nf, class, command, data, size);

	if (err)
		return err;
	pfd.fd = nf->control->call_fd;
	while ((err = netfront_control_end(nf)) == -EAGAIN) {
		uint64_t now = clock_now_ns();

		if (now >= deadline)
			break;
		poll(&pfd, 1, (int)((deadline - now + NS_PER_MS - 1) / NS_PER_MS));
	}
	if (err == -EAGAIN) {
		/* A late answer would be taken for that to the next command. */
		netfront_disarm(nf->control);
		nf->control->faulty = true;
		nf->commanding = false;
		err = -ETIMEDOUT;
	}
	return err;
}
