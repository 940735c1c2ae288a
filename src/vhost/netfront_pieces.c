/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames of a virtio-net driver that lie in many buffers, filled by somebody else.
 *
 * A transmit buffer is idle (in the pool), with the caller, or in a posted chain. The virtqueue keeps one tag for
 * each chain, which is its first buffer's; the others are in a list that the chain's head finds. All lists live in one
 * array of an entry for each buffer, so there is always one free.
 */
#include <errno.h>

#include "lib/compiler.h"
#include "vhost/netfront_internal.h"

void netfront_clear_more(struct netfront_queue *queue)
{
	for (uint32_t i = 0; i < queue->ring.size; i++)
		queue->more_of[i] = 0;
	for (uint32_t i = 1; i <= queue->buffer_count; i++)
		queue->more[i].next = i < queue->buffer_count ? i + 1 : 0;
	queue->more_free = 1;
	queue->posted = 0;
}

void netfront_release_more(struct netfront_queue *queue, uint16_t head)
{
	uint32_t first = queue->more_of[head], last = first;

	for (uint32_t at = first; at; at = queue->more[at].next) {
		queue->idle[queue->idle_count++] = queue->more[at].tag;
		queue->posted--;
		last = at;
	}
	queue->more[last].next = queue->more_free;
	queue->more_free = first;
	queue->more_of[head] = 0;
}

static void keep_more(struct netfront_queue *queue, uint16_t head, const struct netfront_piece *pieces, unsigned int n)
{
	uint32_t *link = &queue->more_of[head];

	for (unsigned int i = 1; i < n && queue->more_free; i++) {
		struct netfront_more *more = &queue->more[queue->more_free];

		*link = queue->more_free;
		queue->more_free = more->next;
		more->tag = pieces[i].tag;
		link = &more->next;
	}
	*link = 0;
}

int netfront_tx_buffers(struct netfront *nf, unsigned int pair, uint32_t *tags, unsigned int max)
{
	struct netfront_queue *queue = netfront_tx(nf, pair);
	unsigned int n;

	if (queue->idle_count < max) {
		int err = netfront_reclaim(nf, pair);

		if (unlikely(err < 0))
			return err;
	}
	n = min(max, queue->idle_count);
	for (unsigned int i = 0; i < n; i++)
		tags[i] = queue->idle[--queue->idle_count];
	return (int)n;
}

void netfront_tx_put_back(struct netfront *nf, unsigned int pair, const uint32_t *tags, unsigned int n)
{
	struct netfront_queue *queue = netfront_tx(nf, pair);

	for (unsigned int i = 0; i < n && queue->idle_count < queue->buffer_count; i++)
		queue->idle[queue->idle_count++] = tags[i];
}

unsigned int netfront_tx_pieces_max(struct netfront *nf, unsigned int pair)
{
	struct netfront_queue *queue = netfront_tx(nf, pair);
	unsigned int direct = queue->ring.size;

	if (nf->features & VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC))
		direct = max(direct, queue->indirect.entries);
	return min(direct, (unsigned int)NETFRONT_PIECES_MAX);
}

int netfront_tx_post(struct netfront *nf, unsigned int pair, const struct netfront_piece *pieces, unsigned int n)
{
	struct netfront_queue *queue = netfront_tx(nf, pair);
	struct vq_buffer buffers[NETFRONT_PIECES_MAX];
	int head;

	if (unlikely(n == 0 || n > NETFRONT_PIECES_MAX))
		return -EINVAL;
	for (unsigned int i = 0; i < n; i++) {
		uint64_t offset = (uint64_t)pieces[i].tag * NETFRONT_LINE + pieces[i].offset;

		buffers[i] = (struct vq_buffer){.addr = netfront_guest_addr(nf, offset), .len = pieces[i].size};
	}
	head = vq_driver_add(&queue->vq, buffers, n, 0, pieces[0].tag);
	if (unlikely(head == -ENOSPC)) {
		int reclaimed = netfront_reclaim(nf, pair);

		if (reclaimed < 0)
			return reclaimed;
		head = vq_driver_add(&queue->vq, buffers, n, 0, pieces[0].tag);
	}
	if (unlikely(head < 0))
		return head == -ENOSPC ? -ENOBUFS : head;
	queue->posted += n;
	if (unlikely(n > 1))
		keep_more(queue, (uint16_t)head, pieces, n);
	return 0;
}
