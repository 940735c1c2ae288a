/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames of a virtio-net driver.
 *
 * A buffer is contiguous memory: net header, then frame. Its chain of descriptors is cut out of it
 * as the configuration says. Receive chains are prepared once and only posted again; a transmit
 * chain is written for each frame, or prepared by netfront_tx_prepare().
 *
 * Between calls a queue's buffers are idle (in no chain), with the device, or held. Held are
 * received chains: first those in frames that the caller has now, then those not delivered yet (the
 * last may be an incomplete mergeable frame); or, on a transmit queue, prepared chains that were
 * never sent.
 */
#include <errno.h>
#include <string.h>

#include "lib/compiler.h"
#include "vhost/netfront_internal.h"

#define BATCH 64

/* Cuts a buffer of len bytes into what one descriptor each covers. Returns how many. */
static unsigned int cut(const struct netfront *nf, uint32_t tag, uint32_t len,
			struct vq_buffer pieces[NETFRONT_PIECES_MAX])
{
	uint64_t addr = netfront_guest_addr(nf, (uint64_t)tag * NETFRONT_LINE);
	uint32_t limit = nf->config.piece ? nf->config.piece : UINT32_MAX;
	uint32_t now = nf->config.header_apart ? min(nf->hdr_len, limit) : min(len, limit);
	unsigned int count = 0;

	while (len > 0 && count < NETFRONT_PIECES_MAX) {
		pieces[count++] = (struct vq_buffer){.addr = addr, .len = now};
		addr += now;
		len -= now;
		now = min(len, limit);
	}
	return count;
}

int netfront_fill(struct netfront *nf, struct netfront_queue *queue)
{
	struct vq_buffer pieces[NETFRONT_PIECES_MAX];

	while (queue->idle_count > 0) {
		uint32_t tag = queue->idle[queue->idle_count - 1];
		unsigned int count = cut(nf, tag, queue->buffer_size, pieces);
		int head = vq_driver_prepare(&queue->vq, pieces, 0, count, tag);
		struct vq_used slot = {.head = (uint16_t)head};

		if (head == -ENOSPC)
			break;
		if (head < 0)
			return head;
		vq_driver_post(&queue->vq, &slot, 1);
		queue->idle_count--;
	}
	vq_driver_publish(&queue->vq);
	return 0;
}

/* Transmit. */

static int reclaim(struct netfront *nf, struct netfront_queue *queue)
{
	struct vq_used used[BATCH];
	int n, total = 0, err = netfront_begin_poll(nf, queue);

	if (err)
		return err;
	while ((n = vq_driver_collect(&queue->vq, used, BATCH)) > 0) {
		for (int i = 0; i < n; i++) {
			if (vq_driver_is_prepared(&queue->vq, used[i].head))
				queue->held[queue->held_count++] = used[i];
			else
				queue->idle[queue->idle_count++] = used[i].tag;
		}
		total += n;
	}
	return n < 0 && total == 0 ? n : total;
}

int netfront_reclaim(struct netfront *nf, unsigned int pair)
{
	return reclaim(nf, netfront_tx(nf, pair));
}

static void fill_header(const struct netfront *nf, uint8_t *to, const struct virtio_net_hdr *header)
{
	memset(to, 0, nf->hdr_len);
	if (header)
		memcpy(to, header, sizeof(*header));
}

int netfront_send(struct netfront *nf, unsigned int pair, const struct virtio_net_hdr *header, const struct iovec *iov,
		  unsigned int iov_count, bool more)
{
	struct netfront_queue *queue = netfront_tx(nf, pair);
	struct vq_buffer pieces[NETFRONT_PIECES_MAX];
	uint32_t tag, len = nf->hdr_len;
	int head, err = netfront_begin_poll(nf, queue);
	unsigned int count;
	uint8_t *buffer;

	if (err)
		return err;
	for (unsigned int i = 0; i < iov_count; i++) {
		if (iov[i].iov_len > queue->buffer_size - len)
			return -EMSGSIZE;
		len += (uint32_t)iov[i].iov_len;
	}
	if (queue->idle_count == 0) {
		err = reclaim(nf, queue);
		if (err < 0)
			return err;
		if (queue->idle_count == 0)
			return -ENOBUFS;
	}

	tag = queue->idle[queue->idle_count - 1];
	buffer = netfront_buffer(nf, tag);
	fill_header(nf, buffer, header);
	buffer += nf->hdr_len;
	for (unsigned int i = 0; i < iov_count; i++) {
		memcpy(buffer, iov[i].iov_base, iov[i].iov_len);
		buffer += iov[i].iov_len;
	}

	count = cut(nf, tag, len, pieces);
	/* Reclaiming puts other buffers on top of this one, which must not go with them. */
	queue->idle_count--;
	head = vq_driver_add(&queue->vq, pieces, count, 0, tag);
	if (head == -ENOSPC && reclaim(nf, queue) > 0)
		head = vq_driver_add(&queue->vq, pieces, count, 0, tag);
	if (head < 0) {
		queue->idle[queue->idle_count++] = tag;
		return head == -ENOSPC ? -ENOBUFS : head;
	}
	if (!more)
		netfront_flush(nf, queue);
	return 0;
}

int netfront_send_frame(struct netfront *nf, unsigned int pair, const void *frame, uint32_t size)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)frame, .iov_len = size};

	return netfront_send(nf, pair, NULL, &iov, 1, false);
}

int netfront_tx_prepare(struct netfront *nf, unsigned int pair, const struct virtio_net_hdr *header, const void *frame,
			uint32_t size)
{
	struct netfront_queue *queue = netfront_tx(nf, pair);
	struct vq_buffer pieces[NETFRONT_PIECES_MAX];

	if (size > queue->buffer_size - nf->hdr_len)
		return -EMSGSIZE;
	while (queue->idle_count > 0) {
		uint32_t tag = queue->idle[queue->idle_count - 1];
		unsigned int count = cut(nf, tag, nf->hdr_len + size, pieces);
		int head = vq_driver_prepare(&queue->vq, pieces, count, 0, tag);

		if (head == -ENOSPC)
			break;
		if (head < 0)
			return head;
		fill_header(nf, netfront_buffer(nf, tag), header);
		memcpy(netfront_buffer(nf, tag) + nf->hdr_len, frame, size);
		queue->held[queue->held_count++] = (struct vq_used){.tag = tag, .head = (uint16_t)head};
		queue->idle_count--;
	}
	return 0;
}

int netfront_tx_take(struct netfront *nf, unsigned int pair, struct vq_used *slots, unsigned int max)
{
	struct netfront_queue *queue = netfront_tx(nf, pair);
	unsigned int n = 0;
	int used, err = netfront_begin_poll(nf, queue);

	if (unlikely(err))
		return err;
	while (unlikely(queue->held_count > 0) && n < max)
		slots[n++] = queue->held[--queue->held_count];
	if (n == max)
		return (int)n;
	used = vq_driver_collect(&queue->vq, slots + n, max - n);
	return used >= 0 ? (int)n + used : n > 0 ? (int)n : used;
}

static int give(struct netfront *nf, struct netfront_queue *queue, const struct vq_used *slots, unsigned int n)
{
	int err = vq_driver_post(&queue->vq, slots, n);

	netfront_flush(nf, queue);
	return err;
}

int netfront_tx_give(struct netfront *nf, unsigned int pair, const struct vq_used *slots, unsigned int n)
{
	return give(nf, netfront_tx(nf, pair), slots, n);
}

/* Receive. */

int netfront_rx_take(struct netfront *nf, unsigned int pair, struct vq_used *slots, unsigned int max)
{
	struct netfront_queue *queue = netfront_rx(nf, pair);
	int err = netfront_begin_poll(nf, queue);

	return unlikely(err) ? err : vq_driver_collect(&queue->vq, slots, max);
}

int netfront_rx_give(struct netfront *nf, unsigned int pair, const struct vq_used *slots, unsigned int n)
{
	return give(nf, netfront_rx(nf, pair), slots, n);
}

int netfront_recycle(struct netfront *nf, unsigned int pair)
{
	struct netfront_queue *queue = netfront_rx(nf, pair);
	uint32_t back = queue->delivered;

	queue->delivered = 0;
	if (back == 0)
		return 0;
	queue->held_count -= back;
	vq_driver_post(&queue->vq, queue->held, back);
	memmove(queue->held, queue->held + back, queue->held_count * sizeof(*queue->held));
	netfront_flush(nf, queue);
	return 0;
}

/* Collects until `count` chains are held. Returns how many are. */
static int hold(struct netfront_queue *queue, uint32_t count)
{
	if (queue->held_count < count) {
		int n = vq_driver_collect(&queue->vq, queue->held + queue->held_count, count - queue->held_count);

		if (n < 0)
			return n;
		queue->held_count += (uint32_t)n;
	}
	return (int)queue->held_count;
}

int netfront_drain(struct netfront *nf, struct netfront_queue *queue)
{
	struct vq_used late;
	int n;

	if (queue->faulty)
		return -EPROTO;
	if (queue == nf->control) {
		n = vq_driver_collect(&queue->vq, &late, 1);
		nf->commanding &= n == 0;
	} else if (queue->index % 2 == 0) {
		n = hold(queue, queue->ring.size);
	} else {
		n = reclaim(nf, queue);
	}
	return n < 0 ? n : 0;
}

/* One frame from the chains held at `first` on. 1, 0: not complete yet, or -EPROTO. */
static int assemble(struct netfront *nf, struct netfront_queue *queue, uint32_t first, struct netfront_frame *frame)
{
	const struct vq_used *head = &queue->held[first];
	struct iovec *iov = &queue->iov[first];
	uint32_t size = 0;

	memset(&frame->header, 0, sizeof(frame->header));
	frame->header.num_buffers = 1;
	if (head->len < nf->hdr_len)
		return -EPROTO;
	memcpy(&frame->header, netfront_buffer(nf, head->tag), nf->hdr_len);
	frame->pieces = 1;
	if (nf->features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF))
		frame->pieces = frame->header.num_buffers;
	if (frame->pieces == 0 || frame->pieces > queue->ring.size - first)
		return -EPROTO;
	if (first + frame->pieces > queue->held_count) {
		int n = hold(queue, first + frame->pieces);

		if (n < 0 || (uint32_t)n < first + frame->pieces)
			return n < 0 ? n : 0;
	}

	for (unsigned int i = 0; i < frame->pieces; i++) {
		unsigned int skip = i == 0 ? nf->hdr_len : 0;

		iov[i].iov_base = netfront_buffer(nf, head[i].tag) + skip;
		iov[i].iov_len = head[i].len - skip;
		size += (uint32_t)iov[i].iov_len;
	}
	frame->iov = iov;
	frame->size = size;
	return 1;
}

int netfront_receive(struct netfront *nf, unsigned int pair, struct netfront_frame *frames, unsigned int max)
{
	struct netfront_queue *queue = netfront_rx(nf, pair);
	int err = netfront_begin_poll(nf, queue);
	unsigned int n = 0;

	if (err)
		return err;
	netfront_recycle(nf, pair);
	err = hold(queue, min(max, (unsigned int)queue->ring.size));
	while (err >= 0 && n < max && queue->delivered < queue->held_count) {
		/* Given back empty: a device that came back from the dead could not tell what was to be in it.
		 */
		if (unlikely(queue->held[queue->delivered].len == 0)) {
			queue->delivered++;
			continue;
		}
		err = assemble(nf, queue, queue->delivered, &frames[n]);
		if (err <= 0)
			break;
		queue->delivered += frames[n++].pieces;
	}
	if (err < 0)
		queue->faulty = true;
	return n > 0 || err >= 0 ? (int)n : err;
}

uint32_t netfront_frame_copy(const struct netfront_frame *frame, uint32_t offset, void *buf, uint32_t size)
{
	uint8_t *to = buf;
	uint32_t copied = 0;

	for (unsigned int i = 0; i < frame->pieces && copied < size; i++) {
		const struct iovec *iov = &frame->iov[i];
		size_t n;

		if (offset >= iov->iov_len) {
			offset -= (uint32_t)iov->iov_len;
			continue;
		}
		n = min(iov->iov_len - offset, (size_t)(size - copied));
		memcpy(to + copied, (const uint8_t *)iov->iov_base + offset, n);
		copied += (uint32_t)n;
		offset = 0;
	}
	return copied;
}
