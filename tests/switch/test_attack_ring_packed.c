/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a guest can write into its packed rings: broken ones put its port, and nothing else, into quarantine; chains
 * whose buffers are wrong are lost by name and given back. And flags that change under the switch.
 */
#include <errno.h>
#include <stdlib.h>

#include "attack.h"
#include "lib/clock.h"

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define DESC     ((uint32_t)sizeof(struct vring_packed_desc))
#define RING     16u

static const struct netfront_config evil = {
	.features = NETFRONT_FEATURES | NETFRONT_FEATURES_PACKED,
	.required = NETFRONT_FEATURES_PACKED,
	.tx_size = RING,
	.rx_size = RING,
};

static struct vring_packed_desc *table(struct attack *attack)
{
	return (struct vring_packed_desc *)(void *)attack_buffer(attack, 1);
}

static uint64_t table_addr(struct attack *attack)
{
	return attack_buffer_addr(attack, 1);
}

static void no_end(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	for (unsigned int i = 0; i < RING; i++)
		attack_packed_desc(queue, i, addr, 20, NEXT);
	(void)attack;
}

static void indirect_with_next(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	(void)addr;
	attack_packed_desc(queue, 0, table_addr(attack), DESC, INDIRECT | NEXT);
}

static void indirect_of_odd_size(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	(void)addr;
	attack_packed_desc(queue, 0, table_addr(attack), DESC + 1, INDIRECT);
}

static void indirect_of_no_size(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	(void)addr;
	attack_packed_desc(queue, 0, table_addr(attack), 0, INDIRECT);
}

static void zero_length(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	(void)attack;
	attack_packed_desc(queue, 0, addr, 0, 0);
}

static void huge_length(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	(void)attack;
	attack_packed_desc(queue, 0, addr, UINT32_MAX, 0);
}

static void wrapping_address(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	(void)attack;
	(void)addr;
	attack_packed_desc(queue, 0, UINT64_MAX - 10, 100, 0);
}

static void second_piece_outside(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	(void)attack;
	attack_packed_desc(queue, 1, 0, 100, 0);
	attack_packed_desc(queue, 0, addr, 100, NEXT);
}

static void writable(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	(void)attack;
	attack_packed_desc(queue, 0, addr, 100, WRITE);
}

static void indirect_writable(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	table(attack)[0] = (struct vring_packed_desc){.addr = addr, .len = 100, .flags = WRITE};
	attack_packed_desc(queue, 0, table_addr(attack), DESC, INDIRECT);
}

static void indirect_in_indirect(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	/* Means nothing there: the table is taken for a frame. */
	(void)addr;
	table(attack)[0] = (struct vring_packed_desc){.addr = table_addr(attack), .len = DESC, .flags = INDIRECT};
	attack_packed_desc(queue, 0, table_addr(attack), DESC, INDIRECT);
}

static void indirect_without_end(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	(void)addr;
	attack_packed_desc(queue, 0, table_addr(attack), DESC * 40000, INDIRECT);
}

static void only_a_net_header(struct attack *attack, struct netfront_queue *queue, uint64_t addr)
{
	attack_packed_desc(queue, 0, addr, attack->evil->hdr_len, 0);
}

static const struct tx_attack {
	const char *what;
	void (*write)(struct attack *attack, struct netfront_queue *queue, uint64_t addr);
	const char *fault; /* NULL: only the chain is lost */
	enum drop_reason reason;
	unsigned int slots;
} tx_attacks[] = {
	{"no end", no_end, "ring-loop", DROP_COUNT, 0},
	{"indirect with next", indirect_with_next, "ring-indirect", DROP_COUNT, 0},
	{"indirect of odd size", indirect_of_odd_size, "ring-indirect", DROP_COUNT, 0},
	{"indirect of no size", indirect_of_no_size, "ring-indirect", DROP_COUNT, 0},
	{"indirect without end", indirect_without_end, "ring-indirect", DROP_COUNT, 0},
	{"zero length", zero_length, NULL, DROP_DESC_LENGTH, 1},
	{"huge length", huge_length, NULL, DROP_DESC_UNMAPPED, 1},
	{"wrapping address", wrapping_address, NULL, DROP_DESC_UNMAPPED, 1},
	{"second piece outside", second_piece_outside, NULL, DROP_DESC_UNMAPPED, 2},
	{"writable", writable, NULL, DROP_DESC_DIRECTION, 1},
	{"indirect writable", indirect_writable, NULL, DROP_DESC_DIRECTION, 1},
	{"indirect in indirect", indirect_in_indirect, NULL, DROP_DESC_LENGTH, 1},
	{"only a net header", only_a_net_header, NULL, DROP_DESC_LENGTH, 1},
};

/* What was lost is used, and behind it the next one is forwarded as if nothing had been. */
static void expect_next_chain(struct attack *attack, unsigned int slots)
{
	struct netfront_queue *queue = netfront_tx(attack->evil, 0);
	uint32_t size = attack_write_frame(attack, 2, NULL);
	uint8_t received[2048];

	assert_true(vq_driver_packed_used_at(&queue->vq.packed, queue->vq.packed.avail_next));
	attack_packed_desc(queue, slots, attack_buffer_addr(attack, 2), size, 0);
	netfront_kick(queue);
	assert_int_equal(testbed_receive(attack->peer, 0, NULL, received, sizeof(received)), ATTACK_FRAME);
	assert_memory_equal(received, attack_buffer(attack, 2) + attack->evil->hdr_len, ATTACK_FRAME);
}

static void transmit_rings(void **state)
{
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &evil, NULL, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(tx_attacks); i++) {
		struct netfront_queue *queue = netfront_tx(attack.evil, 0);
		struct stats_port before;

		/* To be in another place of the ring each time. */
		for (unsigned int j = 0; j <= i; j++)
			attack_expect_traffic(&attack);
		print_message("%s\n", tx_attacks[i].what);
		testbed_stats(&attack.bed, attack.evil_port, &before);
		attack_write_frame(&attack, 0, NULL);
		tx_attacks[i].write(&attack, queue, attack_buffer_addr(&attack, 0));
		netfront_kick(queue);
		if (tx_attacks[i].fault) {
			attack_expect_quarantine(&attack, tx_attacks[i].fault);
		} else {
			attack_expect_drops(&attack, attack.evil_port, &before, tx_attacks[i].reason, 1);
			expect_next_chain(&attack, tx_attacks[i].slots);
		}
		if (i % 2)
			attack_reconnect(&attack);
		else
			attack_restart(&attack);
	}
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

/* Every descriptor looks available for this lap, then for the next one as well: each is taken once a time. */
static void laps_that_lie(void **state)
{
	struct attack attack;
	struct stats_port before, after;
	uint64_t taken = 0;

	(void)state;
	attack_start(&attack, 1, &evil, NULL, NULL);
	for (unsigned int round = 0; round < 20; round++) {
		struct netfront_queue *queue = netfront_tx(attack.evil, 0);
		uint32_t size = attack_write_frame(&attack, 0, NULL);
		uint64_t until;

		attack_expect_traffic(&attack);
		testbed_stats(&attack.bed, attack.evil_port, &before);
		until = clock_now_ns() + 2 * NS_PER_MS;
		for (unsigned int lap = 0; clock_now_ns() < until; lap++) {
			for (unsigned int i = 0; i < RING; i++)
				attack_packed_desc(queue, lap % 2 * RING + i, attack_buffer_addr(&attack, 0), size, 0);
			netfront_kick(queue);
		}
		attack_expect_others(&attack);
		testbed_stats(&attack.bed, attack.evil_port, &after);
		taken += after.in_packets - before.in_packets;
		attack_reconnect(&attack);
		attack_drain(&attack);
	}
	assert_true(taken > 0);
	attack_stop(&attack);
}

/* A chain that waits (nobody takes it) grows: it is walked again at each try. */
static void waiting_chain_changes(void **state)
{
	static const struct netfront_config peer = {.rx_buffers = 1};
	static const struct dp_port_add patient = {.wait_us = 10000000};
	struct attack attack;
	struct netfront_queue *queue;
	uint32_t size;

	(void)state;
	attack_start(&attack, 1, &evil, &peer, &patient);
	queue = netfront_tx(attack.evil, 0);
	size = attack_write_frame(&attack, 0, NULL);
	for (unsigned int i = 0; i < 4; i++)
		attack_packed_desc(queue, i, attack_buffer_addr(&attack, 0), size, 0);
	netfront_kick(queue);
	/* The first one took the peer's only buffer, the others wait. */
	for (uint64_t until = clock_now_ns() + 10 * NS_PER_S; clock_now_ns() < until;) {
		struct stats_port stats;

		testbed_stats(&attack.bed, attack.evil_port, &stats);
		if (stats.waits >= 3)
			break;
	}
	attack_packed_desc(queue, 1, attack_buffer_addr(&attack, 0), size, NEXT);
	netfront_kick(queue);
	attack_expect_quarantine(&attack, "ring-avail");
	attack_reconnect(&attack);
	attack_drain(&attack);
	attack_stop(&attack);
}

static void receive_rings(void **state)
{
	static const struct {
		const char *what;
		uint32_t length;
		uint16_t flags;
		uint64_t addr;
		const char *fault;
	} attacks[] = {
		{"readable", 100, 0, NETFRONT_GUEST_BASE, NULL},
		{"no length", 0, WRITE, NETFRONT_GUEST_BASE, NULL},
		{"huge length", UINT32_MAX, WRITE, NETFRONT_GUEST_BASE, NULL},
		{"outside", 2000, WRITE, 0, NULL},
		{"wraps", 2000, WRITE, UINT64_MAX - 100, NULL},
		{"indirect", 2001, WRITE | INDIRECT, NETFRONT_GUEST_BASE, "ring-indirect"},
		{"no end", 20, WRITE | NEXT, NETFRONT_GUEST_BASE, "ring-loop"},
	};
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &evil, NULL, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(attacks); i++) {
		struct netfront_queue *queue = netfront_rx(attack.evil, 0);
		struct stats_port before;
		uint8_t frame[ATTACK_FRAME];

		attack_expect_traffic(&attack);
		print_message("%s\n", attacks[i].what);
		testbed_stats(&attack.bed, attack.evil_port, &before);
		/* All that are with the device, each in its place. */
		for (unsigned int j = 0; j < RING; j++)
			attack_packed_desc(queue, j - RING, attacks[i].addr, attacks[i].length, attacks[i].flags);
		testbed_frame(frame, sizeof(frame), 1, 2, 1);
		assert_int_equal(netfront_send_frame(attack.peer, 0, frame, sizeof(frame)), 0);
		if (attacks[i].fault)
			attack_expect_quarantine(&attack, attacks[i].fault);
		else
			attack_expect_drops(&attack, attack.evil_port, &before, DROP_OUT_BUFFER, 1);
		attack_reconnect(&attack);
	}
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

/* Flags, lengths and events flip all the time, on both rings: the port may break, and nobody else. */
static void flags_that_flip(void **state)
{
	struct attack attack;
	unsigned int seed = 5;

	(void)state;
	attack_start(&attack, 2, &evil, NULL, NULL);
	for (unsigned int round = 0; round < 30; round++) {
		uint64_t until = clock_now_ns() + 5 * NS_PER_MS;
		uint8_t frame[ATTACK_FRAME];

		testbed_frame(frame, sizeof(frame), 1, 2, round);
		while (clock_now_ns() < until) {
			struct netfront_queue *queue = &attack.evil->queues[rand_r(&seed) % 2];
			struct vq_driver_packed *vq = &queue->vq.packed;
			unsigned int index = (unsigned int)rand_r(&seed) % RING;

			WRITE_ONCE(vq->ring.desc[index].flags, (uint16_t)(rand_r(&seed) & 0x8087));
			if (rand_r(&seed) % 4 == 0)
				WRITE_ONCE(vq->ring.desc[index].len, (uint32_t)rand_r(&seed) % 3000);
			vring_packed_event_store(vq->ring.driver, (uint32_t)rand_r(&seed));
			vring_packed_event_store(vq->ring.device, (uint32_t)rand_r(&seed));
			netfront_kick(queue);
			netfront_send_frame(attack.peer, 0, frame, sizeof(frame));
		}
		attack_expect_others(&attack);
		attack_reconnect(&attack);
	}
	attack_drain(&attack);
	testbed_wait_state(&attack.bed, attack.evil_port, DP_PORT_UP);
	attack.faults = 0;
	attack_stop(&attack);
}

static void control_rings(void **state)
{
	struct netfront_config config = evil;
	static const char *const faults[] = {"ring-loop", "ring-indirect"};
	const uint8_t on = 1;
	struct attack attack;

	(void)state;
	config.features |= VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX);
	attack_start(&attack, 1, &config, NULL, NULL);
	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(faults); i++) {
		assert_non_null(attack.evil->control);
		/* Round the ring, and then some. */
		for (unsigned int j = 0; j < 20; j++) {
			assert_int_equal(
				netfront_control(attack.evil, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1),
				0);
			assert_int_equal(netfront_control(attack.evil, 0xff, 0xff, &on, 1), -EREMOTEIO);
		}
		for (unsigned int j = 0; j < 16; j++)
			attack_packed_desc(attack.evil->control, 15 - j, attack_buffer_addr(&attack, 0), 2,
					   i % 2 ? INDIRECT : NEXT);
		netfront_kick(attack.evil->control);
		attack_expect_quarantine(&attack, faults[i % 2]);
		attack_reconnect(&attack);
		attack_expect_traffic(&attack);
	}
	attack_stop(&attack);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transmit_rings),        cmocka_unit_test(laps_that_lie),
		cmocka_unit_test(waiting_chain_changes), cmocka_unit_test(receive_rings),
		cmocka_unit_test(flags_that_flip),       cmocka_unit_test(control_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
