/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A back end in a thread: the project's vhost_device with the reference device on its rings. What a
 * pair transmits comes back on the same pair, unchanged but for num_buffers. It may be told to lie,
 * or not to work for a while.
 */
#ifndef TESTS_UNIT_LOOPBACK_H
#define TESTS_UNIT_LOOPBACK_H

#include "unit.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "lib/fdpass.h"
#include "lib/log.h"
#include "ref_device.h"
#include "vhost/vhost_device.h"
#include "virtio/virtio_net.h"

#define LOOPBACK_FRAME_MAX (VIRTIO_NET_FRAME_MAX + VIRTIO_NET_HDR_LEN)

enum loopback_lie {
	LOOPBACK_HONEST,
	LOOPBACK_SHORT,      /* used length is less than a net header */
	LOOPBACK_NO_BUFFERS, /* num_buffers is 0 */
	LOOPBACK_MANY,       /* num_buffers is more than there is */
	LOOPBACK_ID,         /* used id is no descriptor */
};

struct loopback {
	struct vhost_device dev;
	struct ref_device rings[VHOST_DEVICE_RINGS_MAX];
	bool ready[VHOST_DEVICE_RINGS_MAX];
	unsigned int hint;
	int listener;
	pthread_t thread;
	atomic_bool stop;
	atomic_bool paused; /* serves messages, but no rings */
	atomic_bool hang_up;
	_Atomic enum loopback_lie lie;
	atomic_uint frames;
	atomic_uint connections;
	_Atomic enum vhost_fault fault;  /* of the last connection */
	atomic_uchar control_command[2]; /* the last one: class and command */
	struct ref_chain chain;
	uint8_t frame[LOOPBACK_FRAME_MAX];
};

static inline void *loopback_translate(void *arg, uint64_t addr, uint32_t len)
{
	struct loopback *lb = arg;
	void *at = guest_memory_translate(&lb->dev.memory, addr, len, &lb->hint);

	assert_non_null(at);
	return at;
}

static inline void loopback_quiesce(struct vhost_device *dev)
{
	(void)dev;
}

static inline void loopback_update(struct vhost_device *dev)
{
	struct loopback *lb = container_of(dev, struct loopback, dev);

	for (unsigned int i = 0; i < VHOST_DEVICE_RINGS_MAX; i++) {
		struct ref_device *ref = &lb->rings[i];

		struct vring_any ring;

		lb->ready[i] = vhost_device_ring_ready(dev, i, &ring);
		if (!lb->ready[i])
			continue;
		memset(ref, 0, sizeof(*ref));
		ref_start(ref, &ring, dev->rings[i].base);
		ref->event_idx = dev->features & VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX);
		ref->translate = loopback_translate;
		ref->arg = lb;
	}
}

static inline uint16_t loopback_base(struct vhost_device *dev, unsigned int index)
{
	return ref_base(&container_of(dev, struct loopback, dev)->rings[index]);
}

static inline void loopback_announce(struct vhost_device *dev, const uint8_t mac[6])
{
	(void)dev;
	(void)mac;
}

static inline void loopback_mtu(struct vhost_device *dev, uint16_t mtu)
{
	(void)dev;
	(void)mtu;
}

static inline void loopback_call(struct loopback *lb, unsigned int index)
{
	const uint64_t one = 1;

	if (ref_call_due(&lb->rings[index]) && lb->dev.rings[index].call_fd >= 0)
		assert_int_equal(write(lb->dev.rings[index].call_fd, &one, sizeof(one)), 8);
}

/* Readable pieces into lb->frame. Returns the bytes. */
static inline uint32_t loopback_gather(struct loopback *lb, const struct ref_chain *chain)
{
	uint32_t size = 0;

	for (unsigned int i = 0; i < chain->out; i++) {
		uint32_t len = chain->pieces[i].len;

		assert_true(len <= sizeof(lb->frame) - size);
		memcpy(lb->frame + size, loopback_translate(lb, chain->pieces[i].addr, len), len);
		size += len;
	}
	return size;
}

/* As much of bytes as a chain's writable pieces take. */
static inline uint32_t loopback_scatter(struct loopback *lb, const struct ref_chain *chain, const uint8_t *bytes,
					uint32_t size)
{
	uint32_t done = 0;

	for (unsigned int i = chain->out; i < chain->out + chain->in && done < size; i++) {
		uint32_t len = min(chain->pieces[i].len, size - done);

		memcpy(loopback_translate(lb, chain->pieces[i].addr, len), bytes + done, len);
		done += len;
	}
	return done;
}

static inline uint32_t loopback_lie_len(struct loopback *lb, uint32_t len)
{
	return lb->lie == LOOPBACK_SHORT ? 5 : len;
}

/* lb->frame to the guest. False: it has no room; nothing has happened. */
static inline bool loopback_deliver(struct loopback *lb, unsigned int index, uint32_t size)
{
	struct ref_device *rx = &lb->rings[index];
	bool mergeable = lb->dev.features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	uint32_t before = rx->avail_next;
	uint16_t buffers = 0;
	struct virtio_net_hdr_mrg_rxbuf *header = NULL;
	uint32_t done = 0;

	while (done < size) {
		uint32_t len;

		if ((buffers > 0 && !mergeable) || !ref_take(rx, &lb->chain)) {
			rx->avail_next = before;
			return false;
		}
		if (!header)
			header = loopback_translate(lb, lb->chain.pieces[0].addr, 1);
		len = loopback_scatter(lb, &lb->chain, lb->frame + done, size - done);
		ref_put(rx, buffers++, lb->lie == LOOPBACK_ID ? 40000 : lb->chain.head, loopback_lie_len(lb, len));
		done += len;
	}
	if (lb->lie == LOOPBACK_NO_BUFFERS)
		header->num_buffers = 0;
	else if (lb->lie == LOOPBACK_MANY)
		header->num_buffers = 50000;
	else if (mergeable)
		header->num_buffers = buffers;
	ref_publish(rx, buffers);
	return true;
}

static inline bool loopback_pair(struct loopback *lb, unsigned int rx, unsigned int tx)
{
	uint32_t before = lb->rings[tx].avail_next;
	uint16_t head;

	if (!lb->ready[rx] || !lb->ready[tx] || !ref_take(&lb->rings[tx], &lb->chain))
		return false;
	head = lb->chain.head;
	assert_int_equal(lb->chain.in, 0);
	if (!loopback_deliver(lb, rx, loopback_gather(lb, &lb->chain))) {
		lb->rings[tx].avail_next = before;
		return false;
	}
	lb->frames++;
	loopback_call(lb, rx);
	ref_give_back(&lb->rings[tx], head, 0);
	loopback_call(lb, tx);
	return true;
}

/* Says yes to every command. */
static inline void loopback_control(struct loopback *lb)
{
	int index = vhost_device_control_index(&lb->dev);
	const uint8_t ok = VIRTIO_NET_OK;

	if (index < 0 || !lb->ready[index] || !ref_take(&lb->rings[index], &lb->chain))
		return;
	loopback_gather(lb, &lb->chain);
	lb->control_command[0] = lb->frame[0];
	lb->control_command[1] = lb->frame[1];
	loopback_scatter(lb, &lb->chain, &ok, 1);
	ref_give_back(&lb->rings[index], lb->chain.head, 1);
	loopback_call(lb, (unsigned int)index);
}

static inline bool loopback_rings(struct loopback *lb)
{
	bool busy = false;

	for (unsigned int i = 0; i + 1 < VHOST_DEVICE_RINGS_MAX; i += 2)
		busy |= loopback_pair(lb, i, i + 1);
	loopback_control(lb);
	return busy;
}

static inline void loopback_socket(struct loopback *lb)
{
	enum vhost_fault fault;

	if (lb->dev.sock < 0) {
		int sock = fdpass_accept(lb->listener);

		if (sock >= 0) {
			vhost_device_connect(&lb->dev, sock);
			lb->connections++;
		}
		return;
	}
	fault = lb->hang_up ? VHOST_FAULT_HANGUP : vhost_device_receive(&lb->dev);
	if (fault != VHOST_FAULT_NONE) {
		vhost_device_disconnect(&lb->dev, fault);
		lb->fault = fault;
		lb->hang_up = false;
	}
}

/* Sleeps until there is a message or a kick; not for long, because of stop and hang_up. */
static inline void loopback_sleep(struct loopback *lb)
{
	struct pollfd pfds[1 + VHOST_DEVICE_RINGS_MAX] = {{
		.fd = lb->dev.sock >= 0 ? lb->dev.sock : lb->listener,
		.events = POLLIN,
	}};
	uint64_t count;
	int timeout_ms = 5;

	for (unsigned int i = 0; i < VHOST_DEVICE_RINGS_MAX; i++) {
		bool sleeps = lb->ready[i] && !lb->paused;

		pfds[1 + i] = (struct pollfd){.fd = -1, .events = POLLIN};
		if (sleeps)
			pfds[1 + i].fd = lb->dev.rings[i].kick_fd;
		if (sleeps && !ref_want_kick(&lb->rings[i], true) && i % 2 == 1)
			timeout_ms = 0;
	}
	poll(pfds, ARRAY_SIZE(pfds), timeout_ms);
	for (unsigned int i = 0; i < VHOST_DEVICE_RINGS_MAX; i++)
		if (pfds[1 + i].fd >= 0 && pfds[1 + i].revents)
			assert_int_equal(read(pfds[1 + i].fd, &count, sizeof(count)), 8);
}

static inline void *loopback_main(void *arg)
{
	struct loopback *lb = arg;

	while (!lb->stop) {
		if (lb->paused || !loopback_rings(lb))
			loopback_sleep(lb);
		loopback_socket(lb);
	}
	vhost_device_disconnect(&lb->dev, VHOST_FAULT_HANGUP);
	return NULL;
}

static inline struct loopback *loopback_start(const char *path, const struct vhost_device_config *config)
{
	static const struct vhost_device_ops ops = {
		.quiesce = loopback_quiesce,
		.update = loopback_update,
		.ring_base = loopback_base,
		.announce = loopback_announce,
		.mtu = loopback_mtu,
	};
	struct loopback *lb = calloc(1, sizeof(*lb));

	assert_non_null(lb);
	log_set_level(LOG_ERROR);
	vhost_device_init(&lb->dev, &ops, config);
	lb->listener = fdpass_listen(path, SOCK_STREAM, 1, 0600);
	assert_true(lb->listener >= 0);
	assert_int_equal(pthread_create(&lb->thread, NULL, loopback_main, lb), 0);
	return lb;
}

static inline void loopback_stop(struct loopback *lb)
{
	lb->stop = true;
	pthread_join(lb->thread, NULL);
	close(lb->listener);
	free(lb);
}

#endif
