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

void control_queue_start(struct control_queue *queue, const struct vring_split *ring, const struct guest_memory *memory,
			 uint64_t features, uint16_t base)
{
	queue->ring = *ring;
	queue->walk = (struct chain_walk){
		.ring = &queue->ring,
		.memory = memory,
		.indirect = features & VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC),
		.mixed = true,
	};
	queue->features = features;
	queue->last_avail = base;
	queue->live = true;
	WRITE_ONCE(ring->used->flags, 0);
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
	default:
		return false;
	}
}

static void answer(struct control_queue *queue, uint16_t head, uint32_t written)
{
	struct vring_used_elem *elem = &queue->ring.used->ring[queue->last_avail & queue->ring.mask];

	elem->id = head;
	elem->len = written;
	queue->last_avail++;
	store_release(&queue->ring.used->idx, queue->last_avail);
}

static enum chain_verdict serve_one(struct control_queue *queue)
{
	uint16_t head = READ_ONCE(queue->ring.avail->ring[queue->last_avail & queue->ring.mask]);
	unsigned int count;
	enum chain_verdict verdict = chain_fetch(&queue->walk, head, queue->pieces, ARRAY_SIZE(queue->pieces), &count);
	unsigned int readable = queue->walk.readable;
	struct command command;
	bool done;

	if (verdict >= CHAIN_BROKEN)
		return verdict;
	queue->commands++;
	if (verdict != CHAIN_OK || count == readable) {
		/* There is no place for the answer. */
		queue->refused++;
		answer(queue, head, 0);
		return CHAIN_OK;
	}
	done = gather(queue, readable, &command);
	/* Answered before it is carried out if it may stop this very queue; nobody can see the difference. */
	*queue->pieces[readable].data = VIRTIO_NET_OK;
	if (!done || !carry_out(queue, &command)) {
		queue->refused++;
		*queue->pieces[readable].data = VIRTIO_NET_ERR;
	}
	answer(queue, head, 1);
	return CHAIN_OK;
}

enum chain_verdict control_queue_serve(struct control_queue *queue, bool *call)
{
	uint16_t start = queue->last_avail;
	uint16_t avail = load_acquire(&queue->ring.avail->idx);

	*call = false;
	for (unsigned int round = 0; round < queue->ring.size && queue->live; round++) {
		enum chain_verdict verdict;

		if (queue->last_avail == avail) {
			if (queue->features & VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX))
				WRITE_ONCE(*vring_split_avail_event(&queue->ring), avail);
			full_barrier();
			avail = load_acquire(&queue->ring.avail->idx);
			if (queue->last_avail == avail)
				break;
		}
		if ((uint16_t)(avail - queue->last_avail) > queue->ring.size)
			return CHAIN_AVAIL;
		verdict = serve_one(queue);
		if (verdict != CHAIN_OK)
			return verdict;
	}
	full_barrier();
	if (start != queue->last_avail)
		*call = queue->features & VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX)
				? vring_passes_event(READ_ONCE(*vring_split_used_event(&queue->ring)),
						     queue->last_avail, start)
				: !(READ_ONCE(queue->ring.avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	return CHAIN_OK;
}
