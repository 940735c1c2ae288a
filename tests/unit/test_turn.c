/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Turns of one queue, this test being both guests: what a turn does is bounded, and what it leaves goes on in the next
 * one, in order and without a loss.
 */
#include "guest_ring.h"

#include "datapath/forward.h"
#include "datapath/hold.h"
#include "frame.h"

#define SIZE     1024u
#define BUFFER   2048u
#define FEATURES (VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF))
#define OFFLOADS (VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4))
#define HEADER   ((uint32_t)VIRTIO_NET_HDR_LEN)

struct fixture {
	struct guest_ring sender, receiver;
	struct datapath dp;
	struct stats_port *stats;
	struct stats_worker worker;
	struct forwarder *fwd;
	struct txq *txq;
	struct frame frame;
};

static int set_up(void **state)
{
	const struct flow_key mask = {.in_port = UINT32_MAX};
	const struct flow_action action = {.type = FLOW_ACTION_OUTPUT, .value = 1};
	struct flow_key key = {.in_port = 0};
	struct fixture *f = calloc(1, sizeof(*f));
	uint64_t id;

	assert_non_null(f);
	guest_ring_init(&f->sender, SIZE);
	guest_ring_init(&f->receiver, SIZE);
	f->dp.event_fd = -1;
	f->dp.flows = flow_table_create(1, 16);
	f->stats = calloc(FLOW_PORTS_MAX, sizeof(*f->stats));
	f->fwd = forwarder_create(&f->dp, 0, f->stats, &f->worker);
	assert_true(f->dp.flows && f->stats && f->fwd);
	assert_int_equal(flow_table_add(f->dp.flows, &key, &mask, &action, 1, 0, &id), 0);
	/* Whoever waits for the receiver more than once loses its packet. */
	for (uint32_t i = 0; i < 2; i++)
		f->dp.ports[i] = port_create(i, 0);
	f->dp.ports[0]->memory = &f->sender.memory;
	f->dp.ports[1]->memory = &f->receiver.memory;
	f->txq = &f->dp.ports[0]->txq[0];
	assert_int_equal(txq_start(f->txq, &f->sender.ring, &f->sender.memory, FEATURES | OFFLOADS, 0, -1), 0);
	rxq_start(&f->dp.ports[1]->rxq[0], &f->receiver.ring, &f->receiver.memory, FEATURES, 0, -1);
	f->dp.ports[1]->pairs_running = 1;
	for (unsigned int i = 0; i < SIZE; i++) {
		guest_desc(&f->receiver, i, guest_addr(GUEST_DATA), BUFFER, VRING_DESC_F_WRITE, 0);
		guest_offer(&f->receiver, (uint16_t)i);
	}
	rcu_register_thread();
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	rcu_unregister_thread();
	for (unsigned int i = 0; i < 2; i++)
		port_destroy(f->dp.ports[i]);
	forwarder_destroy(f->fwd);
	flow_table_destroy(f->dp.flows);
	guest_ring_fini(&f->sender);
	guest_ring_fini(&f->receiver);
	free(f->stats);
	free(f);
	return 0;
}

/* A TCP segment at the front of the sender's data. Returns its address; frame tells its length. */
static uint64_t write_frame(struct fixture *f, unsigned int payload, uint16_t gso_size)
{
	const struct frame_spec spec = {.version = 4, .proto = IPPROTO_TCP, .payload = payload};
	struct virtio_net_hdr_mrg_rxbuf net = {0};

	frame_build(&f->frame, &spec);
	if (gso_size) {
		net.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		net.hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		net.hdr.gso_size = gso_size;
		net.hdr.csum_start = (uint16_t)f->frame.l4;
		net.hdr.csum_offset = 16;
	}
	memcpy(f->sender.bytes[0] + GUEST_DATA, &net, sizeof(net));
	memcpy(f->sender.bytes[0] + GUEST_DATA + HEADER, f->frame.data, f->frame.length);
	return guest_addr(GUEST_DATA);
}

static unsigned int turn(struct fixture *f)
{
	unsigned int progress = forward_turn(f->fwd, f->txq);

	notice_give_all(f->fwd);
	rcu_quiescent_state();
	return progress;
}

static void expect_no_loss(const struct fixture *f)
{
	for (unsigned int port = 0; port < 2; port++) {
		assert_int_equal(f->stats[port].waits, 0);
		for (unsigned int i = 0; i < DROP_COUNT; i++)
			assert_int_equal(f->stats[port].drops[i], 0);
	}
}

/* A packet of 600 segments, and a short one behind it. */
static void segments_are_bounded(void **state)
{
	const unsigned int segments = 600;
	struct fixture *f = *state;
	uint64_t address = write_frame(f, segments * 100, 100), before = 0;
	const struct vring_used_elem *used = f->receiver.ring.used->ring;
	unsigned int turns = 0;

	guest_desc(&f->sender, 0, address, HEADER + f->frame.length, 0, 0);
	memset(f->sender.bytes[1], 0, HEADER);
	memcpy(f->sender.bytes[1] + HEADER, f->frame.data, 60);
	guest_desc(&f->sender, 1, guest_addr(GUEST_BYTES), HEADER + 60, 0, 0);
	guest_offer(&f->sender, 0);
	guest_offer(&f->sender, 1);
	while (f->sender.ring.used->idx < 2) {
		assert_int_not_equal(turn(f), 0);
		assert_in_range(f->stats[1].out_packets, before + 1, before + FORWARD_SEGMENTS_MAX + 1);
		before = f->stats[1].out_packets;
		turns++;
		/* It has something to do, and does not wait for a kick of the receiver. */
		assert_int_equal(forward_arm(f->fwd, f->txq), f->sender.ring.used->idx < 2);
		assert_true(f->receiver.ring.used->flags & VRING_USED_F_NO_NOTIFY);
	}
	assert_int_equal(turns, (segments + FORWARD_SEGMENTS_MAX - 1) / FORWARD_SEGMENTS_MAX);
	assert_int_equal(f->stats[1].out_segmented, segments);
	assert_int_equal(f->receiver.ring.used->idx, segments + 1);
	/* Nobody has overtaken. */
	for (unsigned int i = 0; i < segments; i++)
		assert_int_equal(used[i].len, HEADER + f->frame.payload + 100);
	assert_int_equal(used[segments].len, HEADER + 60);
	assert_int_equal(turn(f), 0);
	expect_no_loss(f);
}

static void bytes_are_bounded(void **state)
{
	struct fixture *f = *state;
	uint64_t address = write_frame(f, 60000, 0);
	const uint32_t each = HEADER + f->frame.length;
	const unsigned int most = TXQ_BYTES_MAX / each + 1;

	for (uint16_t i = 0; i < 2 * most; i++) {
		/* Some of them in two buffers, which are fetched in another way. */
		if (i < most) {
			guest_desc(&f->sender, i, address, each, 0, 0);
			guest_offer(&f->sender, i);
			continue;
		}
		guest_desc(&f->sender, i, address, 1000, VRING_DESC_F_NEXT, (uint16_t)(i + SIZE / 2));
		guest_desc(&f->sender, i + SIZE / 2, address + 1000, each - 1000, 0, 0);
		guest_offer(&f->sender, i);
	}
	assert_int_equal(turn(f), most);
	assert_int_equal(f->stats[1].out_packets, most);
	assert_int_equal(turn(f), most);
	assert_int_equal(f->stats[1].out_packets, 2 * most);
	assert_int_equal(turn(f), 0);
	expect_no_loss(f);
}

/* Another sender has reserved a buffer and fills it: what comes behind it is not published yet. */
static void begin_other(struct fixture *f, struct rxq_reservation *other)
{
	struct rxq *rxq = &f->dp.ports[1]->rxq[0];

	assert_true(rxq_reserve_begin(rxq, other));
	assert_int_equal(rxq_take(rxq, other, HEADER + 60), RXQ_TAKEN);
	rxq_reserve_end(rxq, other);
}

static void send_small(struct fixture *f, unsigned int count)
{
	uint64_t address = write_frame(f, 100, 0);

	for (unsigned int i = 0; i < count; i++) {
		guest_desc(&f->sender, i, address, HEADER + f->frame.length, 0, 0);
		guest_offer(&f->sender, (uint16_t)i);
	}
}

static void expect_used(const struct fixture *f, unsigned int receiver, unsigned int sender)
{
	assert_int_equal(f->receiver.ring.used->idx, receiver);
	assert_int_equal(f->sender.ring.used->idx, sender);
}

/* A kill at any time: what the sender was told to be gone the receiver has. */
static void reversed_reservations(void **state)
{
	struct rxq_reservation *other = calloc(2, sizeof(*other));
	struct fixture *f = *state;

	assert_non_null(other);
	begin_other(f, &other[0]);
	send_small(f, 5);
	assert_int_equal(turn(f), 5);
	expect_used(f, 0, 0);
	assert_int_equal(turn(f), 0);
	assert_false(forward_arm(f->fwd, f->txq));
	assert_int_not_equal(forward_deadline(f->fwd, f->txq), 0);
	/* What comes later is held for a later ticket, and the first ones not for that. */
	begin_other(f, &other[1]);
	send_small(f, 40);
	assert_int_equal(turn(f), TXQ_BATCH);
	assert_int_equal(turn(f), 40 - TXQ_BATCH);
	expect_used(f, 0, 0);
	rxq_publish(&f->dp.ports[1]->rxq[0], &other[0]);
	expect_used(f, 6, 0);
	assert_true(forward_arm(f->fwd, f->txq));
	assert_int_equal(turn(f), 1);
	expect_used(f, 6, 5);
	assert_int_equal(turn(f), 0);
	rxq_publish(&f->dp.ports[1]->rxq[0], &other[1]);
	expect_used(f, 47, 5);
	/* With new ones in the same turn. */
	send_small(f, 3);
	assert_int_equal(turn(f), 3);
	expect_used(f, 50, 48);
	assert_int_equal(forward_deadline(f->fwd, f->txq), 0);
	expect_no_loss(f);
	free(other);
}

/* The receiver starts anew, at any ticket, before the sender looks. */
static void receiver_starts_anew(void **state)
{
	struct rxq_reservation *other = calloc(1, sizeof(*other));
	struct fixture *f = *state;

	assert_non_null(other);
	for (unsigned int i = 0; i < 3 * RXQ_TICKETS; i++) {
		struct rxq *rxq = &f->dp.ports[1]->rxq[0];

		begin_other(f, other);
		send_small(f, 1);
		assert_int_equal(turn(f), 1);
		expect_used(f, 2 * i, i);
		rxq_publish(rxq, other);
		rxq_start(rxq, &f->receiver.ring, &f->receiver.memory, FEATURES, rxq_stop(rxq), -1);
		assert_int_equal(turn(f), 1);
		expect_used(f, 2 * i + 2, i + 1);
	}
	free(other);
}

/* Another port has its index, and tickets of the same numbers. */
static void receiver_is_replaced(void **state)
{
	struct rxq_reservation *other = calloc(1, sizeof(*other));
	struct fixture *f = *state;
	struct port *old = f->dp.ports[1];

	assert_non_null(other);
	begin_other(f, other);
	send_small(f, 1);
	assert_int_equal(turn(f), 1);
	rxq_publish(&old->rxq[0], other);
	f->dp.ports[1] = port_create(1, 0);
	assert_non_null(f->dp.ports[1]);
	port_destroy(old);
	assert_int_equal(turn(f), 1);
	expect_used(f, 2, 1);
	free(other);
}

/* Who stops gives back what was delivered: it would come twice. */
static void sender_stops(void **state)
{
	struct rxq_reservation *other = calloc(1, sizeof(*other));
	struct fixture *f = *state;

	assert_non_null(other);
	begin_other(f, other);
	send_small(f, 5);
	assert_int_equal(turn(f), 5);
	port_pause(f->dp.ports[0], true);
	hold_settle(&f->dp, f->dp.ports[0]);
	expect_used(f, 0, 0);
	rxq_publish(&f->dp.ports[1]->rxq[0], other);
	hold_settle(&f->dp, f->dp.ports[0]);
	assert_int_equal(txq_stop(f->txq), 5);
	expect_used(f, 6, 5);
	free(other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(segments_are_bounded), TEST(reversed_reservations), TEST(receiver_starts_anew),
		TEST(receiver_is_replaced), TEST(sender_stops),          TEST(bytes_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
