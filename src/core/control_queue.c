/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A command is a class, a number and its data in the chain's readable part; the answer is one byte at the start
 * of the writable part. The command is gathered into private memory before it is looked at.
 *
 * Receive filters (modes, MAC tables) are accepted and not applied: the switch sends a port what its flows say,
 * and the specification lets a device pass more than the filter asks for.
 */
#include "core/control_queue.h"

#include <string.h>

#include "virtio/virtio_net.h"

#define COMMAND_MAX 2048
#define MAC_SIZE    6

struct command {
	uint8_t class;
	uint8_t number;
	uint32_t size; /* bytes of data */
	uint8_t data[COMMAND_MAX];
};

void control_queue_start(struct control_queue *queue, const struct vring_any *ring, const struct guest_memory *memory,
			 uint64_t features, uint16_t base)
{
	queue->ring = *ring;
	queue->walk = (struct chain_walk){
		.ring = &queue->ring.split,
		.memory = memory,
		.indirect = features & VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC),
		.mixed = true,
	};
	queue->features = features;
	queue->last_avail = base;
	queue->live = true;
	if (ring->is_packed)
		vring_packed_event_store(ring->packed.device, vring_packed_event_of(0, VRING_PACKED_EVENT_FLAG_ENABLE));
	else
		WRITE_ONCE(ring->split.used->flags, 0);
}

static bool gather(const struct control_queue *queue, unsigned int readable, struct command *command)
{
	uint8_t bytes[COMMAND_MAX + 2];
	uint32_t size = 0;

	for (unsigned int i = 0; i < readable; i++) {
		const struct chain_piece *piece = &queue->pieces[i];

		if (piece->length > sizeof(bytes) - size)
			return false;
		memcpy(bytes + size, piece->data, piece->length);
		size += piece->length;
	}
	if (size < 2)
		return false;
	command->class = bytes[0];
	command->number = bytes[1];
	command->size = size - 2;
	memcpy(command->data, bytes + 2, command->size);
	return true;
}

/* Two tables, unicast and multicast, each a count and that many addresses. */
static bool mac_tables_valid(const struct command *command)
{
	uint32_t offset = 0;

	for (unsigned int table = 0; table < 2; table++) {
		uint32_t count;

		if (command->size - offset < sizeof(count))
			return false;
		memcpy(&count, command->data + offset, sizeof(count));
		offset += sizeof(count);
		if (count > (command->size - offset) / MAC_SIZE)
			return false;
		offset += count * MAC_SIZE;
	}
	return offset == command->size;
}

static bool carry_out_mac(struct control_queue *queue, const struct command *command)
{
	switch (command->number) {
	case VIRTIO_NET_CTRL_MAC_TABLE_SET:
		return mac_tables_valid(command);
	case VIRTIO_NET_CTRL_MAC_ADDR_SET:
		if (command->size != MAC_SIZE || (command->data[0] & 1))
			return false;
		queue->ops->set_mac(queue, command->data);
		return true;
	default:
		return false;
	}
}

static bool carry_out_driver(struct control_queue *queue, const struct command *command)
{
	struct driver_status status;

	return command->number == DRIVER_CTRL_STATUS && queue->ops->driver_status &&
	       driver_status_parse(&status, command->data, command->size) && queue->ops->driver_status(queue, &status);
}

static bool carry_out(struct control_queue *queue, const struct command *command)
{
	uint16_t pairs;
	uint64_t offloads;

	switch (command->class) {
	case VIRTIO_NET_CTRL_RX:
		return command->number <= VIRTIO_NET_CTRL_RX_NOBCAST && command->size == 1 && command->data[0] <= 1;
	case VIRTIO_NET_CTRL_MAC:
		return carry_out_mac(queue, command);
	case VIRTIO_NET_CTRL_ANNOUNCE:
		return command->number == VIRTIO_NET_CTRL_ANNOUNCE_ACK && command->size == 0;
	case VIRTIO_NET_CTRL_MQ:
		if (command->number != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || command->size != sizeof(pairs))
			return false;
		memcpy(&pairs, command->data, sizeof(pairs));
		return queue->ops->set_pairs(queue, pairs);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		if (command->number != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || command->size != sizeof(offloads))
			return false;
		memcpy(&offloads, command->data, sizeof(offloads));
		return queue->ops->set_offloads(queue, offloads);
	case DRIVER_CTRL_CLASS:
		return carry_out_driver(queue, command);
	default:
		return false;
	}
}

static void answer(struct control_queue *queue, struct chain_extent extent, uint32_t written)
{
	const struct vring_split *ring = &queue->ring.split;
	struct vring_used_elem *elem;

	if (queue->ring.is_packed) {
		const struct vring_packed *packed = &queue->ring.packed;

		chain_packed_use(packed, queue->last_avail, extent, written, written > 0);
		queue->last_avail = vring_packed_advance(queue->last_avail, extent.slots, packed->size);
		return;
	}
	elem = &ring->used->ring[queue->last_avail & ring->mask];
	elem->id = extent.id;
	elem->len = written;
	queue->last_avail++;
	store_release(&ring->used->idx, queue->last_avail);
}

static enum chain_verdict serve_one(struct control_queue *queue, struct chain_extent extent, enum chain_verdict verdict,
				    unsigned int count)
{
	unsigned int readable = queue->walk.readable;
	struct command command;
	bool done;

	if (verdict >= CHAIN_BROKEN)
		return verdict;
	queue->commands++;
	if (verdict != CHAIN_OK || count == readable) {
		/* There is no place for the answer. */
		queue->refused++;
		answer(queue, extent, 0);
		return CHAIN_OK;
	}
	done = gather(queue, readable, &command);
	/* Answered before it is carried out if it may stop this very queue; nobody can see the difference. */
	*queue->pieces[readable].data = VIRTIO_NET_OK;
	if (!done || !carry_out(queue, &command)) {
		queue->refused++;
		*queue->pieces[readable].data = VIRTIO_NET_ERR;
	}
	answer(queue, extent, 1);
	return CHAIN_OK;
}

static enum chain_verdict serve_split(struct control_queue *queue, unsigned int most, bool *call)
{
	const struct vring_split *ring = &queue->ring.split;
	bool event_idx = queue->features & VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX);
	uint16_t start = queue->last_avail;
	uint16_t avail = load_acquire(&ring->avail->idx);

	for (unsigned int round = 0; round < most && queue->live; round++) {
		struct chain_extent extent = {.slots = 1};
		enum chain_verdict verdict;
		unsigned int count;

		if (queue->last_avail == avail) {
			if (event_idx)
				WRITE_ONCE(*vring_split_avail_event(ring), avail);
			full_barrier();
			avail = load_acquire(&ring->avail->idx);
			if (queue->last_avail == avail)
				break;
		}
		if ((uint16_t)(avail - queue->last_avail) > ring->size)
			return CHAIN_AVAIL;
		extent.id = READ_ONCE(ring->avail->ring[queue->last_avail & ring->mask]);
		verdict = chain_fetch(&queue->walk, extent.id, queue->pieces, ARRAY_SIZE(queue->pieces), &count);
		verdict = serve_one(queue, extent, verdict, count);
		if (verdict != CHAIN_OK)
			return verdict;
	}
	full_barrier();
	if (start != queue->last_avail)
		*call = event_idx
				? vring_passes_event(READ_ONCE(*vring_split_used_event(ring)), queue->last_avail, start)
				: !(READ_ONCE(ring->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	return CHAIN_OK;
}

/* The guest is asked to kick from the start on, and never not to. */
static enum chain_verdict serve_packed(struct control_queue *queue, unsigned int most, bool *call)
{
	const struct vring_packed *ring = &queue->ring.packed;
	bool event_idx = queue->features & VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX);
	unsigned int used = 0;

	for (unsigned int round = 0; round < most && queue->live; round++) {
		struct vring_packed_desc desc = vring_packed_fetch(ring, vring_packed_index(queue->last_avail));
		struct chain_extent extent;
		enum chain_verdict verdict;
		unsigned int count;

		if (!vring_packed_is_avail(desc.flags, queue->last_avail))
			break;
		verdict = chain_packed_fetch(&queue->walk, ring, queue->last_avail, &desc, queue->pieces,
					     ARRAY_SIZE(queue->pieces), &count, &extent);
		verdict = serve_one(queue, extent, verdict, count);
		if (verdict != CHAIN_OK)
			return verdict;
		used += extent.slots;
	}
	full_barrier();
	*call = vring_packed_event_due(ring->driver, event_idx, queue->last_avail, used, ring->size);
	return CHAIN_OK;
}

enum chain_verdict control_queue_serve(struct control_queue *queue, unsigned int most, bool *call)
{
	*call = false;
	return queue->ring.is_packed ? serve_packed(queue, most, call) : serve_split(queue, most, call);
}
