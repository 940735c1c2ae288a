/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A batch is fetched in passes, so that the cache misses of one pass overlap: all heads, then all descriptors
 * (prefetching the data they name), then all headers.
 *
 * Completion has two ways. Without waiting packets the batch's heads go straight to the used ring. Once a packet
 * waits or is still being copied, heads[] and done[] remember what follows it, until the oldest one is done.
 */
#include "datapath/txq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/copy.h"
#include "datapath/drop.h"
#include "datapath/offload.h"
#include "datapath/txq_packed.h"

#define ETH_HEADER 14

/* As if it had been stopped, and then with what both kinds of ring have in common. Not live yet. */
static void begin(struct txq *txq, const struct guest_memory *memory, uint64_t features, uint16_t base, int call_fd)
{
	uint32_t port = txq->port, queue = txq->queue;

	txq_stop(txq);
	memset(txq, 0, sizeof(*txq));
	txq->port = port;
	txq->queue = queue;
	txq->walk = (struct chain_walk){
		.ring = &txq->ring,
		.memory = memory,
		.indirect = features & VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC),
	};
	txq->features = features;
	txq->net_hdr_len = virtio_net_hdr_len(features);
	txq->event_idx = features & VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX);
	txq->call_fd = call_fd;
	txq->last_avail = base;
	txq->used = base;
}

int txq_start(struct txq *txq, const struct vring_split *ring, const struct guest_memory *memory, uint64_t features,
	      uint16_t base, int call_fd)
{
	begin(txq, memory, features, base, call_fd);
	txq->heads = calloc(ring->size, sizeof(*txq->heads));
	txq->done = calloc(ring->size, sizeof(*txq->done));
	if (!txq->heads || !txq->done) {
		txq_stop(txq);
		return -ENOMEM;
	}
	txq->ring = *ring;
	store_release(&txq->live, true);
	return 0;
}

int txq_start_packed(struct txq *txq, const struct vring_packed *ring, const struct guest_memory *memory,
		     uint64_t features, uint16_t base, int call_fd)
{
	begin(txq, memory, features, base, call_fd);
	txq->packed = txq_packed_create(ring);
	if (!txq->packed)
		return -ENOMEM;
	store_release(&txq->live, true);
	return 0;
}

static void mark(struct txq *txq, uint16_t position, bool done)
{
	if (txq->packed)
		txq_packed_mark(txq, position, done);
	else
		txq->done[position & txq->ring.mask] = done;
}

/* Packets of copies that have ended are like others that are done. */
static bool end_copies(struct txq *txq)
{
	bool any = false;

	for (unsigned int i = 0; i < TXQ_COPIES; i++) {
		struct txq_copy *copy = &txq->copies[i];

		if (likely(copy->count == 0) || load_acquire(&copy->under_way))
			continue;
		for (unsigned int k = 0; k < copy->count; k++)
			mark(txq, copy->position[k], true);
		copy->count = 0;
		any = true;
	}
	return any;
}

static struct publication publish_done(struct txq *txq);

unsigned int txq_ring_size(const struct txq *txq)
{
	return txq->packed ? txq->packed->ring.size : txq->ring.size;
}

uint16_t txq_end(const struct txq *txq)
{
	const unsigned int size = txq_ring_size(txq);
	uint16_t end = txq->last_avail;

	for (unsigned int i = 0; unlikely(txq->holds[0].count) && i < ARRAY_SIZE(txq->holds); i++) {
		const uint16_t held = txq->holds[i].position;

		if (txq->holds[i].count == 0)
			continue;
		if (txq->packed
			    ? vring_packed_distance(txq->used, held, size) < vring_packed_distance(txq->used, end, size)
			    : (uint16_t)(held - txq->used) < (uint16_t)(end - txq->used))
			end = held;
	}
	return end;
}

uint16_t txq_stop(struct txq *txq)
{
	bool any = txq->holds[0].count > 0;

	store_release(&txq->live, false);
	txq->holds[0].count = 0;
	txq->holds[1].count = 0;
	if (txq->done || txq->packed) {
		any |= end_copies(txq);
		if (any)
			publish_done(txq);
	}
	free(txq->heads);
	free(txq->done);
	free(txq->packed);
	txq->heads = NULL;
	txq->done = NULL;
	txq->packed = NULL;
	txq->waiting_count = 0;
	txq->last_avail = txq->used;
	return txq->used;
}

unsigned int txq_verdict_reason(enum chain_verdict verdict)
{
	switch (verdict) {
	case CHAIN_UNMAPPED:
		return DROP_DESC_UNMAPPED + 1;
	case CHAIN_DIRECTION:
		return DROP_DESC_DIRECTION + 1;
	default:
		return DROP_DESC_LENGTH + 1;
	}
}

/* Copies size bytes from the front of the pieces without consuming them. They have that many. */
static void gather(uint8_t *dst, const struct chain_piece *pieces, uint32_t size)
{
	while (size > 0) {
		uint32_t part = min(size, pieces->length);

		copy_bytes(dst, pieces->data, part);
		dst += part;
		size -= part;
		pieces++;
	}
}

/* Any layout: the net header may share a buffer with the frame, have its own, or be spread over several. */
static void skip_net_header(struct packet *packet, struct chain_piece *pieces, unsigned int count, uint32_t size)
{
	while (size >= pieces->length) {
		size -= pieces->length;
		pieces++;
		count--;
	}
	pieces->data += size;
	pieces->length -= size;
	packet->pieces = pieces;
	packet->piece_count = (uint16_t)count;
}

static void stage_slow(struct txq *txq, struct txq_batch *batch, struct packet *packet, struct chain_piece *pieces,
		       unsigned int count)
{
	uint64_t total = 0;
	uint32_t head;

	for (unsigned int i = 0; i < count; i++)
		total += pieces[i].length;
	packet->length = 0;
	if (total < txq->net_hdr_len + ETH_HEADER) {
		packet->reason = DROP_DESC_LENGTH + 1;
		return;
	}
	if (total > txq->net_hdr_len + VIRTIO_NET_FRAME_MAX) {
		packet->reason = DROP_FRAME_TOO_LONG + 1;
		return;
	}
	gather((uint8_t *)&packet->net, pieces, txq->net_hdr_len);
	packet->net.num_buffers = 1;
	packet->length = (uint32_t)total - txq->net_hdr_len;
	batch->bytes += packet->length;
	skip_net_header(packet, pieces, count, txq->net_hdr_len);
	head = packet->net.hdr.flags | packet->net.hdr.gso_type ? PACKET_HEAD_MAX : PACKET_HEAD_FIRST;
	head = min(head, packet->length);
	gather(packet->head, packet->pieces, head);
	packet->head_length = (uint16_t)head;
	batch->staged_bytes += head + txq->net_hdr_len;
	if (packet->net.hdr.flags | packet->net.hdr.gso_type)
		packet->reason = (uint16_t)offload_check(packet, txq->features);
	/* What no offload uses must not reach the receiver either. */
	else
		memset(&packet->net.hdr, 0, sizeof(packet->net.hdr));
}

/* The common case: everything in one buffer, a current driver's net header, no offload. False: it is not that. */
static force_inline bool stage_plain(struct txq_batch *batch, struct packet *packet, struct chain_piece *piece)
{
	const uint32_t total = piece->length;
	uint32_t staged = VIRTIO_NET_HDR_LEN + PACKET_HEAD_FIRST;

	/* One comparison for both bounds: what is too short wraps. */
	if (unlikely(total - (VIRTIO_NET_HDR_LEN + ETH_HEADER) > VIRTIO_NET_FRAME_MAX - ETH_HEADER))
		return false;
	if (total < staged) {
		staged = total;
		copy_short(&packet->net, piece->data, staged);
	} else {
		copy_fixed(&packet->net, piece->data, VIRTIO_NET_HDR_LEN + PACKET_HEAD_FIRST);
	}
	if (unlikely(packet->net.hdr.flags | packet->net.hdr.gso_type))
		return false;
	/* What no offload uses must not reach the receiver. */
	packet->net = (struct virtio_net_hdr_mrg_rxbuf){.num_buffers = 1};
	packet->pieces = piece;
	packet->length = total - VIRTIO_NET_HDR_LEN;
	packet->head_length = (uint16_t)(staged - VIRTIO_NET_HDR_LEN);
	packet->piece_count = 1;
	packet->reason = 0;
	piece->data += VIRTIO_NET_HDR_LEN;
	piece->length = total - VIRTIO_NET_HDR_LEN;
	batch->bytes += total - VIRTIO_NET_HDR_LEN;
	batch->staged_bytes += staged;
	return true;
}

/* A batch of single buffers: piece i is packet i. Returns how many packets from the first on are plain. */
static unsigned int stage_all_plain(struct txq_batch *batch, unsigned int count)
{
	unsigned int i = 0;

	while (i < count && likely(stage_plain(batch, &batch->packets[i], &batch->pieces[i])))
		i++;
	return i;
}

static unsigned int gather_heads(struct txq *txq, struct txq_batch *batch)
{
	const struct vring_split ring = txq->ring;
	uint16_t avail = load_acquire(&ring.avail->idx);
	unsigned int count = 0, fresh;

	if (unlikely((uint16_t)(avail - txq->used) > ring.size ||
		     (uint16_t)(avail - txq->used) < (uint16_t)(txq->last_avail - txq->used))) {
		txq->fault = CHAIN_AVAIL;
		return 0;
	}
	for (; unlikely(count < txq->waiting_count); count++) {
		batch->position[count] = txq->waiting[count].position;
		batch->heads[count] = txq->heads[batch->position[count] & ring.mask];
	}
	batch->retried = count;
	fresh = min((unsigned int)(uint16_t)(avail - txq->last_avail), TXQ_BATCH - count);
	vring_avail_copy(&ring, txq->last_avail, &batch->heads[count], fresh);
	for (unsigned int i = 0; i < fresh; i++)
		batch->position[count + i] = (uint16_t)(txq->last_avail + i);
	return count + fresh;
}

/* One direct buffer in the region that served last; what is not so simple is left to chain_fetch. */
static force_inline bool fetch_simple(const struct vring_split *ring, const struct guest_region *region, uint16_t head,
				      struct chain_piece *piece)
{
	struct vring_desc desc;
	uint64_t offset;

	if (unlikely(head >= ring->size))
		return false;
	desc = vring_desc_fetch(&ring->desc[head]);
	offset = desc.addr - region->guest_addr;
	if (unlikely(desc.flags || desc.len == 0 || offset >= region->size || desc.len > region->size - offset))
		return false;
	piece->data = region->host + offset;
	piece->length = desc.len;
	return true;
}

/* Chains of one buffer each, piece i for packet i. Returns how many from the first on are that; may lower *count. */
static unsigned int fetch_all_simple(struct txq *txq, struct txq_batch *batch, unsigned int *count, uint64_t *bytes)
{
	const struct guest_memory *memory = txq->walk.memory;
	const struct vring_split ring = txq->ring;
	struct guest_region region;
	unsigned int i;

	if (unlikely(txq->walk.hint >= memory->count))
		return 0;
	region = memory->regions[txq->walk.hint];
	for (i = 0; i < *count; i++) {
		if (unlikely(!fetch_simple(&ring, &region, batch->heads[i], &batch->pieces[i])))
			break;
		*bytes += i >= batch->retried ? batch->pieces[i].length : 0;
		if (unlikely(*bytes > TXQ_BYTES_MAX))
			*count = i + 1;
		__builtin_prefetch(batch->pieces[i].data);
		__builtin_prefetch(batch->pieces[i].data + CACHE_LINE);
	}
	return i;
}

/*
 * Walks the chains of the packets from first on, whose pieces go behind those before. Returns how many packets there
 * are then, or -1: the ring is broken.
 */
static int fetch_chains(struct txq *txq, struct txq_batch *batch, unsigned int first, unsigned int count,
			uint64_t bytes)
{
	unsigned int used = first;

	for (unsigned int i = first; i < count; i++) {
		struct packet *packet = &batch->packets[i];
		unsigned int room = min(TXQ_PIECES_MAX - used, (unsigned int)CHAIN_PIECES_MAX);
		unsigned int piece_count = 0;
		enum chain_verdict verdict;

		packet->pieces = &batch->pieces[used];
		packet->reason = 0;
		verdict = chain_fetch_one(&txq->walk, batch->heads[i], &batch->pieces[used], room, &piece_count);
		if (unlikely(verdict >= CHAIN_BROKEN)) {
			txq->fault = verdict;
			return -1;
		}
		/* Perhaps only our own room was too small: the rest is for the next turn. */
		if (unlikely(verdict == CHAIN_LENGTH && room < CHAIN_PIECES_MAX))
			return (int)i;
		packet->piece_count = (uint16_t)piece_count;
		if (unlikely(verdict != CHAIN_OK)) {
			packet->reason = (uint16_t)txq_verdict_reason(verdict);
			packet->length = 0;
			packet->piece_count = 0;
			continue;
		}
		__builtin_prefetch(batch->pieces[used].data);
		__builtin_prefetch(batch->pieces[used].data + CACHE_LINE);
		for (unsigned int piece = used; i >= batch->retried && piece < used + piece_count; piece++)
			bytes += batch->pieces[piece].length;
		if (unlikely(bytes > TXQ_BYTES_MAX))
			return (int)i + 1;
		used += piece_count;
	}
	return (int)count;
}

/* The packets from `plain` on, of which those before `simple` are one buffer each. */
static void stage_rest(struct txq *txq, struct txq_batch *batch, unsigned int plain, unsigned int simple)
{
	unsigned int piece = plain;

	for (unsigned int i = plain; i < batch->count; i++) {
		struct packet *packet = &batch->packets[i];
		/* packet->pieces, but writable; staging may take some of them off. */
		struct chain_piece *own = &batch->pieces[piece];

		if (i < simple) {
			packet->reason = 0;
			packet->piece_count = 1;
		} else if (unlikely(packet->reason)) {
			continue;
		}
		piece += packet->piece_count;
		if (packet->piece_count != 1 || txq->net_hdr_len != VIRTIO_NET_HDR_LEN ||
		    !stage_plain(batch, packet, own))
			stage_slow(txq, batch, packet, own, packet->piece_count);
	}
}

/* What waits and what is new, as txq_packed_fetch(). */
static int fetch_split(struct txq *txq, struct txq_batch *batch, unsigned int *simple)
{
	unsigned int gathered = gather_heads(txq, batch);
	uint64_t bytes = 0;
	int count;

	if (unlikely(txq->fault != CHAIN_OK))
		return -1;
	*simple = fetch_all_simple(txq, batch, &gathered, &bytes);
	count = (int)gathered;
	if (unlikely(*simple < gathered)) {
		count = fetch_chains(txq, batch, *simple, gathered, bytes);
		if (unlikely(count < 0))
			return -1;
	}
	batch->retried = min(batch->retried, (unsigned int)count);
	txq->last_avail = (uint16_t)(txq->last_avail + ((unsigned int)count - batch->retried));
	return count;
}

bool txq_fetch(struct txq *txq, struct txq_batch *batch)
{
	unsigned int simple, plain = 0;
	int count = unlikely(txq->packed) ? txq_packed_fetch(txq, batch, &simple) : fetch_split(txq, batch, &simple);

	batch->count = 0;
	batch->keeps = false;
	memset(batch->copying, 0, sizeof(batch->copying));
	batch->bytes = 0;
	batch->staged_bytes = 0;
	if (unlikely(count < 0))
		return false;
	batch->count = (unsigned int)count;
	if (likely(txq->net_hdr_len == VIRTIO_NET_HDR_LEN))
		plain = stage_all_plain(batch, simple);
	batch->plain = plain == batch->count;
	if (unlikely(!batch->plain))
		stage_rest(txq, batch, plain, simple);
	return true;
}

void txq_fetch_nothing(struct txq_batch *batch)
{
	batch->count = 0;
	batch->retried = 0;
	batch->keeps = false;
	memset(batch->copying, 0, sizeof(batch->copying));
}

static struct publication publish_used(struct txq *txq, uint16_t used)
{
	const uint16_t old = txq->used;

	if (likely(used != old)) {
		store_release(&txq->ring.used->idx, used);
		txq->used = used;
	}
	return (struct publication){old, used, (uint16_t)(used - old)};
}

static force_inline void put_used(struct txq *txq, uint16_t position, uint16_t head)
{
	vring_used_put(&txq->ring.used->ring[position & txq->ring.mask], head, 0);
}

/* The list of waiting packets: those of the batch that wait, and those that were not fetched this time. */
static void keep_waiting(struct txq *txq, const struct txq_batch *batch, const struct txq_waiting *const *wait)
{
	unsigned int waiting = 0;
	/* What was not fetched (our room was too small) waits on, behind those that were. */
	struct txq_waiting kept[TXQ_BATCH];
	unsigned int kept_count = txq->waiting_count - batch->retried;

	memcpy(kept, &txq->waiting[batch->retried], kept_count * sizeof(kept[0]));
	for (unsigned int i = 0; wait && i < batch->count; i++) {
		if (!wait[i])
			continue;
		txq->waiting[waiting] = *wait[i];
		txq->waiting[waiting].position = batch->position[i];
		waiting++;
	}
	memcpy(&txq->waiting[waiting], kept, kept_count * sizeof(kept[0]));
	txq->waiting_count = waiting + kept_count;
}

/* In the ring's order, up to the first one that is not done. */
static struct publication publish_done(struct txq *txq)
{
	const uint16_t end = txq_end(txq);
	uint16_t used = txq->used;

	if (txq->packed)
		return txq_packed_publish(txq, end);
	while (used != end && txq->done[used & txq->ring.mask]) {
		put_used(txq, used, txq->heads[used & txq->ring.mask]);
		used++;
	}
	return publish_used(txq, used);
}

/* What the batch's packets are held back for. */
static void keep_copying(struct txq *txq, const struct txq_batch *batch)
{
	for (unsigned int i = 0; i < TXQ_COPIES; i++) {
		struct txq_copy *copy = &txq->copies[i];

		for (uint32_t left = batch->copying[i]; left; left &= left - 1) {
			uint16_t position = batch->position[__builtin_ctz(left)];

			mark(txq, position, false);
			copy->position[copy->count++] = position;
		}
	}
}

static struct publication complete_in_window(struct txq *txq, struct txq_batch *batch,
					     const struct txq_waiting *const *wait)
{
	for (unsigned int i = 0; i < batch->count; i++) {
		uint16_t slot = batch->position[i] & txq->ring.mask;

		txq->heads[slot] = batch->heads[i];
		txq->done[slot] = !wait || !wait[i];
	}
	keep_waiting(txq, batch, wait);
	keep_copying(txq, batch);
	return publish_done(txq);
}

static no_inline struct publication complete_packed(struct txq *txq, const struct txq_batch *batch,
						    const struct txq_waiting *const *wait, bool waits)
{
	txq_packed_mark_done(txq, batch, wait);
	if (unlikely(waits)) {
		keep_waiting(txq, batch, wait);
		keep_copying(txq, batch);
	}
	return publish_done(txq);
}

struct publication txq_complete(struct txq *txq, struct txq_batch *batch, const struct txq_waiting *const *wait)
{
	bool waits = txq->waiting_count > 0 || batch->count == 0 || batch->position[0] != txq->used;

	end_copies(txq);
	waits |= batch->keeps;
	for (unsigned int i = 0; wait && i < batch->count && !waits; i++)
		waits = wait[i] != NULL;
	if (unlikely(txq->packed))
		return complete_packed(txq, batch, wait, waits);
	if (unlikely(waits))
		return complete_in_window(txq, batch, wait);
	for (unsigned int i = 0; i < batch->count; i++)
		put_used(txq, batch->position[i], batch->heads[i]);
	return publish_used(txq, txq->last_avail);
}

bool txq_wants_call(const struct txq *txq, uint16_t from, uint16_t to)
{
	if (unlikely(txq->packed))
		return txq_packed_wants_call(txq, from);
	if (txq->event_idx)
		return vring_passes_event(READ_ONCE(*vring_split_used_event(&txq->ring)), to, from);
	return !(READ_ONCE(txq->ring.avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}

bool txq_has_at(const struct txq *txq, uint16_t position)
{
	if (unlikely(txq->packed))
		return txq_packed_has_at(txq, position);
	return load_acquire(&txq->ring.avail->idx) != position;
}

bool txq_pending(const struct txq *txq)
{
	return txq_has_room(txq) && (likely(!txq->packed) || txq_packed_has_room(txq)) &&
	       txq_has_at(txq, txq->last_avail);
}

void txq_kicks_off(struct txq *txq)
{
	if (unlikely(txq->packed))
		txq_packed_kicks(txq, false);
	else
		WRITE_ONCE(txq->ring.used->flags, VRING_USED_F_NO_NOTIFY);
}

bool txq_kicks_on(struct txq *txq)
{
	if (unlikely(txq->packed)) {
		txq_packed_kicks(txq, true);
	} else {
		if (txq->event_idx)
			WRITE_ONCE(*vring_split_avail_event(&txq->ring), txq->last_avail);
		WRITE_ONCE(txq->ring.used->flags, 0);
	}
	full_barrier();
	return txq_pending(txq);
}
