/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every way to write a ring wrongly, by a guest that sends and by one that receives. Each costs the attacker a chain
 * with a named reason, or its rings until they are started again; the neighbours see nothing.
 */
#include "attack.h"

#include <errno.h>
#include <string.h>

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define DESC     ((uint32_t)sizeof(struct vring_desc))

/* How one attack on the transmit ring is written. Buffer 0 holds a good frame of `size` bytes at `addr`. */
struct tx_attack {
	const char *what;
	void (*write)(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size);
	const char *fault; /* quarantine; NULL: the chain is dropped */
	enum drop_reason reason;
};

/* An indirect table in buffer 1. */
static struct vring_desc *table(struct attack *attack)
{
	return (struct vring_desc *)(void *)attack_buffer(attack, 1);
}

static void avail_forward(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, 0, 0);
	ring->avail->idx = (uint16_t)(ring->avail->idx + ring->size + 1);
	netfront_kick(netfront_tx(attack->evil, 0));
}

static void avail_far_forward(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, 0, 0);
	ring->avail->idx = (uint16_t)(ring->avail->idx + 0x8000);
	netfront_kick(netfront_tx(attack->evil, 0));
}

static void avail_backward(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, 0, 0);
	ring->avail->idx--;
	netfront_kick(netfront_tx(attack->evil, 0));
}

static void head_out_of_range(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, 0, 0);
	attack_offer(attack, ring->size);
}

static void head_far_out_of_range(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, 0, 0);
	attack_offer(attack, UINT16_MAX);
}

static void next_out_of_range(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, NEXT, ring->size);
	attack_offer(attack, 0);
}

static void loop_to_itself(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, NEXT, 0);
	attack_offer(attack, 0);
}

static void loop_of_two(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, NEXT, 1);
	attack_desc(ring, 1, addr, size, NEXT, 0);
	attack_offer(attack, 0);
}

static void longer_than_the_ring(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)size;
	for (unsigned int i = 0; i < ring->size; i++)
		attack_desc(ring, i, addr, 1, NEXT, (uint16_t)((i + 1) % ring->size));
	attack_offer(attack, 0);
}

static void zero_length(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)size;
	attack_desc(ring, 0, addr, 0, 0, 0);
	attack_offer(attack, 0);
}

static void zero_length_at_the_end(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, NEXT, 1);
	attack_desc(ring, 1, addr, 0, 0, 0);
	attack_offer(attack, 0);
}

static void huge_length(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)size;
	attack_desc(ring, 0, addr, UINT32_MAX, 0, 0);
	attack_offer(attack, 0);
}

static void wrapping_address(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)addr;
	attack_desc(ring, 0, UINT64_MAX - size / 2, size, 0, 0);
	attack_offer(attack, 0);
}

static void wrapping_to_memory(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)addr;
	(void)size;
	attack_desc(ring, 0, NETFRONT_GUEST_BASE - 0x10, UINT32_MAX, 0, 0);
	attack_offer(attack, 0);
}

static void address_below_memory(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)addr;
	attack_desc(ring, 0, NETFRONT_GUEST_BASE - 1, size, 0, 0);
	attack_offer(attack, 0);
}

static void address_zero(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)addr;
	attack_desc(ring, 0, 0, size, 0, 0);
	attack_offer(attack, 0);
}

static void over_the_end_of_memory(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	const struct vhost_user_region *last = &attack->evil->regions[attack->evil->region_count - 1];

	(void)addr;
	attack_desc(ring, 0, last->guest_addr + last->size - size + 1, size, 0, 0);
	attack_offer(attack, 0);
}

static void across_regions(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	const struct vhost_user_region *first = &attack->evil->regions[0];

	assert_true(attack->evil->region_count > 1);
	(void)addr;
	attack_desc(ring, 0, first->guest_addr + first->size - size / 2, size, 0, 0);
	attack_offer(attack, 0);
}

static void second_piece_outside(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, NEXT, 1);
	attack_desc(ring, 1, 0x1000, 100, 0, 0);
	attack_offer(attack, 0);
}

static void writable(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, WRITE, 0);
	attack_offer(attack, 0);
}

static void writable_behind_readable(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	attack_desc(ring, 0, addr, size, NEXT, 1);
	attack_desc(ring, 1, addr, size, WRITE, 0);
	attack_offer(attack, 0);
}

static void only_a_net_header(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)size;
	attack_desc(ring, 0, addr, attack->evil->hdr_len, 0, 0);
	attack_offer(attack, 0);
}

static void part_of_a_net_header(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)size;
	attack_desc(ring, 0, addr, attack->evil->hdr_len - 1, 0, 0);
	attack_offer(attack, 0);
}

static void frame_of_13_bytes(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)size;
	attack_desc(ring, 0, addr, attack->evil->hdr_len, NEXT, 1);
	attack_desc(ring, 1, addr + attack->evil->hdr_len, 13, 0, 0);
	attack_offer(attack, 0);
}

/* The same buffer over and over: more than any frame has. */
static void frame_too_long(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	unsigned int count = (VIRTIO_NET_FRAME_MAX + attack->evil->hdr_len) / 2048 + 1;

	(void)size;
	for (unsigned int i = 0; i < count; i++)
		attack_desc(ring, i, addr, 2048, i + 1 < count ? NEXT : 0, (uint16_t)(i + 1));
	attack_offer(attack, 0);
}

static void indirect_nested(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	uint64_t at = attack_buffer_addr(attack, 1);

	table(attack)[0] = (struct vring_desc){.addr = addr, .len = size, .flags = NEXT, .next = 1};
	table(attack)[1] = (struct vring_desc){.addr = at, .len = DESC, .flags = INDIRECT};
	attack_desc(ring, 0, at, 2 * DESC, INDIRECT, 0);
	attack_offer(attack, 0);
}

static void indirect_to_itself(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	uint64_t at = attack_buffer_addr(attack, 1);

	(void)addr;
	(void)size;
	table(attack)[0] = (struct vring_desc){.addr = at, .len = DESC, .flags = INDIRECT};
	attack_desc(ring, 0, at, DESC, INDIRECT, 0);
	attack_offer(attack, 0);
}

static void indirect_with_next(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	table(attack)[0] = (struct vring_desc){.addr = addr, .len = size};
	attack_desc(ring, 0, attack_buffer_addr(attack, 1), DESC, INDIRECT | NEXT, 1);
	attack_desc(ring, 1, addr, size, 0, 0);
	attack_offer(attack, 0);
}

static void indirect_of_odd_size(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	table(attack)[0] = (struct vring_desc){.addr = addr, .len = size};
	attack_desc(ring, 0, attack_buffer_addr(attack, 1), DESC + 1, INDIRECT, 0);
	attack_offer(attack, 0);
}

static void indirect_of_no_size(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)addr;
	(void)size;
	attack_desc(ring, 0, attack_buffer_addr(attack, 1), 0, INDIRECT, 0);
	attack_offer(attack, 0);
}

static void indirect_of_huge_size(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)addr;
	(void)size;
	attack_desc(ring, 0, attack_buffer_addr(attack, 1), UINT32_MAX - DESC + 1, INDIRECT, 0);
	attack_offer(attack, 0);
}

static void indirect_outside_memory(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	(void)addr;
	(void)size;
	attack_desc(ring, 0, 0x1000, 4 * DESC, INDIRECT, 0);
	attack_offer(attack, 0);
}

static void indirect_next_out_of_range(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	/* Within the ring, but not within the table. */
	table(attack)[0] = (struct vring_desc){.addr = addr, .len = size, .flags = NEXT, .next = 2};
	attack_desc(ring, 0, attack_buffer_addr(attack, 1), 2 * DESC, INDIRECT, 0);
	attack_offer(attack, 0);
}

static void indirect_loop(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	table(attack)[0] = (struct vring_desc){.addr = addr, .len = size, .flags = NEXT, .next = 1};
	table(attack)[1] = (struct vring_desc){.addr = addr, .len = size, .flags = NEXT, .next = 0};
	attack_desc(ring, 0, attack_buffer_addr(attack, 1), 2 * DESC, INDIRECT, 0);
	attack_offer(attack, 0);
}

static void indirect_writable(struct attack *attack, struct vring_split *ring, uint64_t addr, uint32_t size)
{
	table(attack)[0] = (struct vring_desc){.addr = addr, .len = size, .flags = WRITE};
	attack_desc(ring, 0, attack_buffer_addr(attack, 1), DESC, INDIRECT, 0);
	attack_offer(attack, 0);
}

#define BREAKS(write, fault)                     \
	{                                        \
#write, write, fault, DROP_COUNT \
	}
#define LOSES(write, reason)                \
	{                                   \
#write, write, NULL, reason \
	}

static const struct tx_attack tx_attacks[] = {
	BREAKS(avail_forward, "ring-avail"),
	BREAKS(avail_far_forward, "ring-avail"),
	BREAKS(avail_backward, "ring-avail"),
	BREAKS(head_out_of_range, "ring-head"),
	BREAKS(head_far_out_of_range, "ring-head"),
	BREAKS(next_out_of_range, "ring-next"),
	BREAKS(loop_to_itself, "ring-loop"),
	BREAKS(loop_of_two, "ring-loop"),
	BREAKS(longer_than_the_ring, "ring-loop"),
	BREAKS(indirect_nested, "ring-indirect"),
	BREAKS(indirect_to_itself, "ring-indirect"),
	BREAKS(indirect_with_next, "ring-indirect"),
	BREAKS(indirect_of_odd_size, "ring-indirect"),
	BREAKS(indirect_of_no_size, "ring-indirect"),
	BREAKS(indirect_of_huge_size, "ring-indirect"),
	BREAKS(indirect_next_out_of_range, "ring-next"),
	BREAKS(indirect_loop, "ring-loop"),
	LOSES(zero_length, DROP_DESC_LENGTH),
	LOSES(zero_length_at_the_end, DROP_DESC_LENGTH),
	LOSES(huge_length, DROP_DESC_UNMAPPED),
	LOSES(wrapping_address, DROP_DESC_UNMAPPED),
	LOSES(wrapping_to_memory, DROP_DESC_UNMAPPED),
	LOSES(address_below_memory, DROP_DESC_UNMAPPED),
	LOSES(address_zero, DROP_DESC_UNMAPPED),
	LOSES(over_the_end_of_memory, DROP_DESC_UNMAPPED),
	LOSES(across_regions, DROP_DESC_UNMAPPED),
	LOSES(second_piece_outside, DROP_DESC_UNMAPPED),
	LOSES(writable, DROP_DESC_DIRECTION),
	LOSES(writable_behind_readable, DROP_DESC_DIRECTION),
	LOSES(only_a_net_header, DROP_DESC_LENGTH),
	LOSES(part_of_a_net_header, DROP_DESC_LENGTH),
	LOSES(frame_of_13_bytes, DROP_DESC_LENGTH),
	LOSES(frame_too_long, DROP_FRAME_TOO_LONG),
	LOSES(indirect_outside_memory, DROP_DESC_UNMAPPED),
	LOSES(indirect_writable, DROP_DESC_DIRECTION),
};

static void write_attack(struct attack *attack, const struct tx_attack *tx)
{
	uint32_t size = attack_write_frame(attack, 0, NULL);

	tx->write(attack, attack_tx_ring(attack), attack_buffer_addr(attack, 0), size);
}

/* A chain that was lost is given back, and the next one is forwarded as if nothing had been. */
static void expect_next_chain(struct attack *attack)
{
	struct vring_split *ring = attack_tx_ring(attack);
	uint32_t size = attack_write_frame(attack, 2, NULL);
	uint8_t received[2048];

	assert_int_equal(load_acquire(&ring->used->idx), ring->avail->idx);
	attack_desc(ring, 2, attack_buffer_addr(attack, 2), size, 0, 0);
	attack_offer(attack, 2);
	assert_int_equal(testbed_receive(attack->peer, 0, NULL, received, sizeof(received)), ATTACK_FRAME);
	assert_memory_equal(received, attack_buffer(attack, 2) + attack->evil->hdr_len, ATTACK_FRAME);
}

static void transmit_rings(void **state)
{
	const struct netfront_config config = {.regions = 3};
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &config, NULL, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(tx_attacks); i++) {
		struct stats_port before;

		attack_expect_traffic(&attack);
		print_message("%s\n", tx_attacks[i].what);
		testbed_stats(&attack.bed, attack.evil_port, &before);
		write_attack(&attack, &tx_attacks[i]);
		if (tx_attacks[i].fault) {
			attack_expect_quarantine(&attack, tx_attacks[i].fault);
		} else {
			attack_expect_drops(&attack, attack.evil_port, &before, tx_attacks[i].reason, 1);
			expect_next_chain(&attack);
		}
		/* Both ways back lead to the same. */
		if (i % 2)
			attack_reconnect(&attack);
		else
			attack_restart(&attack);
	}
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

static void indirect_that_was_not_negotiated(void **state)
{
	const struct netfront_config config = {
		.features = NETFRONT_FEATURES & ~VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC),
	};
	struct attack attack;
	uint32_t size;

	(void)state;
	attack_start(&attack, 1, &config, NULL, NULL);
	attack_expect_traffic(&attack);
	size = attack_write_frame(&attack, 0, NULL);
	table(&attack)[0] = (struct vring_desc){.addr = attack_buffer_addr(&attack, 0), .len = size};
	attack_desc(attack_tx_ring(&attack), 0, attack_buffer_addr(&attack, 1), DESC, INDIRECT, 0);
	attack_offer(&attack, 0);
	attack_expect_quarantine(&attack, "ring-indirect");
	attack_restart(&attack);
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

/* An attack on the receive ring: what the next buffers, as the guest offered them, are changed to. */
struct rx_attack {
	const char *what;
	void (*write)(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head);
	const char *fault;
	enum drop_reason reason;
};

static void rx_avail_forward(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)desc;
	(void)head;
	ring->avail->idx = (uint16_t)(ring->avail->idx + ring->size + 1);
}

static void rx_avail_backward(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)desc;
	(void)head;
	ring->avail->idx = (uint16_t)(ring->used->idx - 1);
}

static void rx_head(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)desc;
	*head = ring->size;
}

static void rx_next(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)head;
	desc->flags |= NEXT;
	desc->next = ring->size;
}

static void rx_loop(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)ring;
	desc->flags |= NEXT;
	desc->next = *head;
}

static void rx_indirect(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)ring;
	(void)head;
	desc->flags = INDIRECT;
	desc->len = DESC - 1;
}

static void rx_readable(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)ring;
	(void)head;
	desc->flags = 0;
}

static void rx_no_length(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)ring;
	(void)head;
	desc->len = 0;
}

static void rx_huge_length(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)ring;
	(void)head;
	desc->len = UINT32_MAX;
}

static void rx_outside(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)ring;
	(void)head;
	desc->addr = 0x1000;
}

static void rx_wraps(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	(void)attack;
	(void)ring;
	(void)head;
	desc->addr = UINT64_MAX - 10;
}

static void rx_over_the_end(struct attack *attack, struct vring_split *ring, struct vring_desc *desc, uint16_t *head)
{
	const struct vhost_user_region *last = &attack->evil->regions[attack->evil->region_count - 1];

	(void)ring;
	(void)head;
	desc->addr = last->guest_addr + last->size - desc->len + 1;
}

static const struct rx_attack rx_attacks[] = {
	BREAKS(rx_avail_forward, "ring-avail"), BREAKS(rx_avail_backward, "ring-avail"),
	BREAKS(rx_head, "ring-head"),           BREAKS(rx_next, "ring-next"),
	BREAKS(rx_loop, "ring-loop"),           BREAKS(rx_indirect, "ring-indirect"),
	LOSES(rx_readable, DROP_OUT_BUFFER),    LOSES(rx_no_length, DROP_OUT_BUFFER),
	LOSES(rx_huge_length, DROP_OUT_BUFFER), LOSES(rx_outside, DROP_OUT_BUFFER),
	LOSES(rx_wraps, DROP_OUT_BUFFER),       LOSES(rx_over_the_end, DROP_OUT_BUFFER),
};

static void send_from_peer(struct attack *attack)
{
	uint8_t frame[ATTACK_FRAME];

	testbed_frame(frame, sizeof(frame), 1, 2, 1);
	assert_int_equal(netfront_send_frame(attack->peer, 0, frame, sizeof(frame)), 0);
}

static void receive_rings(void **state)
{
	/* Few buffers, all to be seen by the device before the attack: what it has seen is not taken back. */
	const struct netfront_config config = {.regions = 3, .rx_size = 8};
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &config, NULL, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(rx_attacks); i++) {
		struct vring_split *ring = attack_rx_ring(&attack);
		struct stats_port before;
		uint16_t *head;

		for (unsigned int j = 0; j < 8; j++)
			attack_expect_traffic(&attack);
		print_message("%s\n", rx_attacks[i].what);
		testbed_stats(&attack.bed, attack.evil_port, &before);
		head = &ring->avail->ring[ring->used->idx & ring->mask];
		rx_attacks[i].write(&attack, ring, &ring->desc[*head], head);
		if (rx_attacks[i].fault) {
			/* The index is looked at again when what was seen of it is used up. */
			for (unsigned int j = 0; j < 8; j++)
				send_from_peer(&attack);
			attack_expect_quarantine(&attack, rx_attacks[i].fault);
		} else {
			send_from_peer(&attack);
			attack_expect_drops(&attack, attack.evil_port, &before, rx_attacks[i].reason, 1);
		}
		attack_reconnect(&attack);
	}
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

/* The device only writes its used rings: what the guest writes there must not matter to it. */
static void used_rings_scribbled_on(void **state)
{
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, NULL, NULL, NULL);
	for (unsigned int i = 0; i < 50; i++) {
		struct vring_split *ring = attack_tx_ring(&attack);
		uint32_t size = attack_write_frame(&attack, i, NULL);
		uint8_t received[2048];

		memset(ring->used, (int)(i * 37 + 1), vring_used_bytes(ring->size));
		memset(attack_rx_ring(&attack)->used, (int)(i * 59 + 1), vring_used_bytes(ring->size));
		attack_desc(ring, i, attack_buffer_addr(&attack, i), size, 0, 0);
		attack_offer(&attack, (uint16_t)i);
		assert_int_equal(testbed_receive(attack.peer, 0, NULL, received, sizeof(received)), ATTACK_FRAME);
		send_from_peer(&attack);
	}
	testbed_wait_in(&attack.bed, attack.peer_port, 50);
	attack_restart(&attack);
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

static void rings_of_one_and_two(void **state)
{
	(void)state;
	for (uint32_t size = 1; size <= 2; size++) {
		const struct netfront_config config = {.rx_size = size, .tx_size = size};
		struct attack attack;

		attack_start(&attack, 1, &config, NULL, NULL);
		for (unsigned int i = 0; i < 20; i++)
			attack_expect_traffic(&attack);
		/* And here an index moves too far with the second step. */
		attack_tx_ring(&attack)->avail->idx = (uint16_t)(attack_tx_ring(&attack)->avail->idx + size + 1);
		netfront_kick(netfront_tx(attack.evil, 0));
		attack_expect_quarantine(&attack, "ring-avail");
		attack_restart(&attack);
		attack_expect_traffic(&attack);
		attack_desc(attack_tx_ring(&attack), 0, attack_buffer_addr(&attack, 0), 100, NEXT, 0);
		attack_offer(&attack, 0);
		attack_expect_quarantine(&attack, "ring-loop");
		attack_reconnect(&attack);
		attack_expect_traffic(&attack);
		attack_stop(&attack);
	}
}

/* The main thread serves it; its faults are the port's all the same. */
static void control_rings(void **state)
{
	const struct netfront_config config = {
		.features = NETFRONT_FEATURES | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX),
	};
	static const char *const faults[] = {"ring-avail", "ring-head", "ring-loop", "ring-indirect"};
	const uint8_t on = 1;
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &config, NULL, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(faults); i++) {
		struct vring_split *ring;

		assert_non_null(attack.evil->control);
		ring = &attack.evil->control->vq.split.ring;
		assert_int_equal(netfront_control(attack.evil, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1),
				 0);
		assert_int_equal(netfront_control(attack.evil, 0xff, 0xff, &on, 1), -EREMOTEIO);
		attack_desc(ring, 0, attack_buffer_addr(&attack, 0), 2, i == 2 ? NEXT : i == 3 ? INDIRECT : 0, 0);
		ring->avail->ring[ring->avail->idx & ring->mask] = i == 1 ? ring->size : 0;
		store_release(&ring->avail->idx, (uint16_t)(ring->avail->idx + (i == 0 ? ring->size + 1 : 1)));
		netfront_kick(attack.evil->control);
		attack_expect_quarantine(&attack, faults[i]);
		attack_reconnect(&attack);
		attack_expect_traffic(&attack);
	}
	attack_stop(&attack);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transmit_rings),       cmocka_unit_test(indirect_that_was_not_negotiated),
		cmocka_unit_test(receive_rings),        cmocka_unit_test(used_rings_scribbled_on),
		cmocka_unit_test(rings_of_one_and_two), cmocka_unit_test(control_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
