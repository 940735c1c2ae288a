/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A single-producer, single-consumer ring. A key that was sent is not sent again for a while, although every
 * retry of its packet misses again; after that while it is, since an upcall may be lost on its way.
 */
#include "datapath/upcall.h"

static uint64_t upcall_hash(const struct flow_key *key)
{
	union flow_words words = {.key = *key};
	uint64_t hash = 0x9e3779b97f4a7c15ULL;

	/* What a flow of the control plane can tell apart by switching; ports and addresses only add upcalls. */
	for (unsigned int i = 0; i < 3; i++) {
		hash = (hash ^ words.words[i]) * 0xd6e8feb86659fd93ULL;
		hash ^= hash >> 29;
	}
	return hash | 1;
}

enum upcall_answer upcall_put(struct upcall_ring *ring, const struct flow_key *key, uint32_t length, uint64_t now_ns,
			      bool credit)
{
	uint64_t hash = upcall_hash(key);
	unsigned int slot = (unsigned int)(hash >> 32) % UPCALL_RECENT;
	uint32_t head = ring->head;

	if (ring->recent[slot].hash == hash && now_ns < ring->recent[slot].until_ns)
		return UPCALL_PENDING;
	if (!credit)
		return UPCALL_REFUSED;
	if (head - load_acquire(&ring->tail) >= UPCALL_RING_SIZE)
		return UPCALL_FULL;
	ring->recent[slot].hash = hash;
	ring->recent[slot].until_ns = now_ns + UPCALL_RESEND_NS;
	ring->entries[head % UPCALL_RING_SIZE].key = *key;
	ring->entries[head % UPCALL_RING_SIZE].length = length;
	store_release(&ring->head, head + 1);
	return UPCALL_SENT;
}

bool upcall_get(struct upcall_ring *ring, struct upcall *upcall)
{
	uint32_t tail = ring->tail;

	if (tail == load_acquire(&ring->head))
		return false;
	*upcall = ring->entries[tail % UPCALL_RING_SIZE];
	store_release(&ring->tail, tail + 1);
	return true;
}
