/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A transmit queue, device side: what is fetched of packets in any layout, and that they are given back in the ring's
 * order whatever became of them.
 */
#include "guest_ring.h"

#include "datapath/drop.h"
#include "datapath/txq.h"

#define NEXT VRING_DESC_F_NEXT
#define SIZE 64u
#define BASE 0xfff0 /* indexes wrap early */
#define FEATURES                                                                    \
	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
	 VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) | VIRTIO_BIT(VIRTIO_NET_F_CSUM))
#define FRAME 60u

struct fixture {
	struct guest_ring guest;
	struct txq *txq;
	struct txq_batch *batch;
	struct txq_waiting slots[TXQ_BATCH];
	const struct txq_waiting *wait[TXQ_BATCH];
};

static int set_up_features(void **state, uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	guest_ring_init(&f->guest, SIZE);
	f->guest.ring.avail->idx = BASE;
	f->guest.ring.used->idx = BASE;
	f->txq = aligned_alloc(CACHE_LINE, align_up(sizeof(*f->txq), CACHE_LINE));
	f->batch = aligned_alloc(CACHE_LINE, align_up(sizeof(*f->batch), CACHE_LINE));
	assert_non_null(f->txq);
	assert_non_null(f->batch);
	memset(f->txq, 0, sizeof(*f->txq));
	f->txq->port = 3;
	assert_int_equal(txq_start(f->txq, &f->guest.ring, &f->guest.memory, features, BASE, -1), 0);
	*state = f;
	return 0;
}

static int set_up(void **state)
{
	return set_up_features(state, FEATURES);
}

static int set_up_legacy(void **state)
{
	return set_up_features(state, 0);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	txq_stop(f->txq);
	guest_ring_fini(&f->guest);
	free(f->txq);
	free(f->batch);
	free(f);
	return 0;
}

/* Net header and frame of packet `number` in memory; its first byte tells which it is. */
static uint32_t write_packet(struct fixture *f, unsigned int number)
{
	uint32_t at = GUEST_DATA + number * 256, header = f->txq->net_hdr_len;

	memset(f->guest.bytes[0] + at, 0, header);
	for (unsigned int i = 0; i < FRAME; i++)
		f->guest.bytes[0][at + header + i] = (uint8_t)(number + i);
	return at;
}

static void offer(struct fixture *f, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		uint32_t at = write_packet(f, i);

		guest_desc(&f->guest, i, guest_addr(at), f->txq->net_hdr_len + FRAME, 0, 0);
		guest_offer(&f->guest, (uint16_t)i);
	}
}

static void expect_packet(const struct fixture *f, unsigned int index, unsigned int number)
{
	const struct packet *packet = &f->batch->packets[index];

	assert_int_equal(packet->reason, 0);
	assert_int_equal(f->batch->heads[index], number);
	assert_int_equal(packet->length, FRAME);
	assert_int_equal(packet->head_length, FRAME);
	assert_int_equal(packet->net.num_buffers, 1);
	for (unsigned int i = 0; i < FRAME; i++)
		assert_int_equal(packet->head[i], (uint8_t)(number + i));
}

/* The pieces are the frame, without the net header. */
static void expect_pieces(const struct fixture *f, unsigned int index, unsigned int number)
{
	const struct packet *packet = &f->batch->packets[index];
	unsigned int seen = 0;

	for (unsigned int i = 0; i < packet->piece_count; i++) {
		for (uint32_t j = 0; j < packet->pieces[i].length; j++, seen++)
			assert_int_equal(packet->pieces[i].data[j], (uint8_t)(number + seen));
	}
	assert_int_equal(seen, packet->length);
}

static void fetch(struct fixture *f, unsigned int count, unsigned int retried)
{
	assert_true(txq_fetch(f->txq, f->batch));
	assert_int_equal(f->batch->count, count);
	assert_int_equal(f->batch->retried, retried);
	memset(f->wait, 0, sizeof(f->wait));
}

/* True if the guest wants to be called for it. */
static bool complete(struct fixture *f)
{
	struct publication what = txq_complete(f->txq, f->batch, f->wait);

	full_barrier();
	return what.from != what.to && txq_wants_call(f->txq, what.from, what.to);
}

static void let_wait(struct fixture *f, unsigned int index)
{
	f->slots[index] = (struct txq_waiting){.reason = DROP_OUT_FULL, .port = 7, .since_ns = 1 + index};
	f->wait[index] = &f->slots[index];
}

static unsigned int used_count(const struct fixture *f)
{
	return (uint16_t)(f->guest.ring.used->idx - BASE);
}

static void expect_used(const struct fixture *f, unsigned int count)
{
	assert_int_equal(used_count(f), count);
	for (unsigned int i = 0; i < count; i++) {
		const struct vring_used_elem *elem =
			&f->guest.ring.used->ring[(uint16_t)(BASE + i) & f->guest.ring.mask];

		assert_int_equal(elem->id, i);
		assert_int_equal(elem->len, 0);
	}
}

static void batches_in_order(void **state)
{
	struct fixture *f = *state;

	fetch(f, 0, 0);
	offer(f, 40);
	fetch(f, TXQ_BATCH, 0);
	for (unsigned int i = 0; i < TXQ_BATCH; i++) {
		expect_packet(f, i, i);
		expect_pieces(f, i, i);
	}
	assert_int_equal(used_count(f), 0);
	complete(f);
	expect_used(f, TXQ_BATCH);
	assert_true(txq_pending(f->txq));
	fetch(f, 40 - TXQ_BATCH, 0);
	expect_packet(f, 0, TXQ_BATCH);
	complete(f);
	expect_used(f, 40);
	assert_false(txq_pending(f->txq));
	assert_int_equal(txq_stop(f->txq), (uint16_t)(BASE + 40));
}

/* The net header may share a buffer, have its own, or be cut anywhere; so may the frame. */
static void any_layout(void **state)
{
	struct fixture *f = *state;
	const uint32_t total = f->txq->net_hdr_len + FRAME;

	for (uint32_t first = 1; first < total; first++) {
		for (uint32_t second = first + 1; second < total; second += 5) {
			uint32_t at = write_packet(f, 9);

			guest_desc(&f->guest, 9, guest_addr(at), first, NEXT, 4);
			guest_desc(&f->guest, 4, guest_addr(at + first), second - first, NEXT, 5);
			guest_desc(&f->guest, 5, guest_addr(at + second), total - second, 0, 0);
			guest_offer(&f->guest, 9);
			fetch(f, 1, 0);
			expect_packet(f, 0, 9);
			expect_pieces(f, 0, 9);
			complete(f);
		}
	}
}

static void indirect_chains(void **state)
{
	struct fixture *f = *state;
	uint32_t at = write_packet(f, 1);

	guest_desc(&f->guest, 1, guest_addr(GUEST_TABLES), 2 * sizeof(struct vring_desc), VRING_DESC_F_INDIRECT, 0);
	guest_indirect(&f->guest, GUEST_TABLES, 0, guest_addr(at), 20, NEXT, 1);
	guest_indirect(&f->guest, GUEST_TABLES, 1, guest_addr(at + 20), f->txq->net_hdr_len + FRAME - 20, 0, 0);
	guest_offer(&f->guest, 1);
	fetch(f, 1, 0);
	expect_packet(f, 0, 1);
	expect_pieces(f, 0, 1);
}

/* What the header says is looked at in the private copy, and cleared where it means nothing. */
static void net_headers(void **state)
{
	struct fixture *f = *state;
	struct virtio_net_hdr_mrg_rxbuf *net;

	offer(f, 2);
	net = (struct virtio_net_hdr_mrg_rxbuf *)(void *)(f->guest.bytes[0] + GUEST_DATA);
	net->hdr = (struct virtio_net_hdr){.hdr_len = 99, .gso_size = 98, .csum_start = 97, .csum_offset = 96};
	net->num_buffers = 95;
	net = (struct virtio_net_hdr_mrg_rxbuf *)(void *)(f->guest.bytes[0] + GUEST_DATA + 256);
	net->hdr = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = FRAME};
	fetch(f, 2, 0);
	expect_packet(f, 0, 0);
	assert_int_equal(f->batch->packets[0].net.hdr.hdr_len, 0);
	assert_int_equal(f->batch->packets[0].net.hdr.gso_size, 0);
	assert_int_equal(f->batch->packets[0].net.hdr.csum_start, 0);
	assert_int_equal(f->batch->packets[0].net.hdr.csum_offset, 0);
	assert_int_equal(f->batch->packets[1].reason, DROP_OFFLOAD_INVALID + 1);
	complete(f);
	expect_used(f, 2);
}

static void lost_packets_are_given_back(void **state)
{
	struct fixture *f = *state;
	const uint32_t size = f->txq->net_hdr_len + FRAME;

	offer(f, 6);
	f->guest.ring.desc[0].len = f->txq->net_hdr_len + 13;
	f->guest.ring.desc[1].len = 0;
	f->guest.ring.desc[2].addr = 5;
	f->guest.ring.desc[3].flags = VRING_DESC_F_WRITE;
	guest_desc(&f->guest, 4, GUEST_BASE + GUEST_BYTES, GUEST_BYTES, 0, 0);
	fetch(f, 6, 0);
	assert_int_equal(f->batch->packets[0].reason, DROP_DESC_LENGTH + 1);
	assert_int_equal(f->batch->packets[1].reason, DROP_DESC_LENGTH + 1);
	assert_int_equal(f->batch->packets[2].reason, DROP_DESC_UNMAPPED + 1);
	assert_int_equal(f->batch->packets[3].reason, DROP_DESC_DIRECTION + 1);
	assert_int_equal(f->batch->packets[4].reason, DROP_FRAME_TOO_LONG + 1);
	expect_packet(f, 5, 5);
	complete(f);
	expect_used(f, 6);
	assert_int_equal(size, f->guest.ring.desc[5].len);
}

static void waiting_packets_hold_the_used_index(void **state)
{
	struct fixture *f = *state;

	offer(f, 10);
	fetch(f, 10, 0);
	let_wait(f, 2);
	let_wait(f, 5);
	complete(f);
	expect_used(f, 2);
	assert_int_equal(f->txq->waiting_count, 2);
	assert_int_equal(f->txq->waiting[1].since_ns, 6);

	/* They come again at the head of the next batch, with what is new behind them. */
	offer(f, 10);
	offer(f, 3);
	fetch(f, 2 + 13, 2);
	expect_packet(f, 0, 2);
	expect_packet(f, 1, 5);
	expect_packet(f, 2, 0);
	let_wait(f, 1);
	complete(f);
	expect_used(f, 5);
	assert_int_equal(f->txq->waiting_count, 1);

	fetch(f, 1, 1);
	expect_packet(f, 0, 5);
	complete(f);
	assert_int_equal(used_count(f), 23);
	assert_int_equal(f->txq->waiting_count, 0);
}

static void the_window_is_a_batch(void **state)
{
	struct fixture *f = *state;

	offer(f, 40);
	fetch(f, TXQ_BATCH, 0);
	for (unsigned int i = 0; i < TXQ_BATCH; i++)
		let_wait(f, i);
	complete(f);
	assert_int_equal(used_count(f), 0);
	/* There are more, but no room for them. */
	assert_false(txq_pending(f->txq));
	assert_false(txq_kicks_on(f->txq));
	fetch(f, TXQ_BATCH, TXQ_BATCH);
	for (unsigned int i = 0; i < TXQ_BATCH - 1; i++)
		let_wait(f, i);
	complete(f);
	assert_true(txq_pending(f->txq));
	fetch(f, TXQ_BATCH, TXQ_BATCH - 1);
	expect_packet(f, TXQ_BATCH - 1, TXQ_BATCH);
	complete(f);
	expect_used(f, TXQ_BATCH + 1);
}

static void stop_and_start(void **state)
{
	struct fixture *f = *state;
	uint16_t base;

	offer(f, 6);
	fetch(f, 6, 0);
	let_wait(f, 3);
	complete(f);
	expect_used(f, 3);
	/* From the first that was not given back, the waiting one included. */
	base = txq_stop(f->txq);
	assert_int_equal(base, (uint16_t)(BASE + 3));
	assert_int_equal(txq_stop(f->txq), base);
	assert_int_equal(txq_start(f->txq, &f->guest.ring, &f->guest.memory, FEATURES, base, -1), 0);
	assert_int_equal(f->txq->port, 3);
	fetch(f, 3, 0);
	expect_packet(f, 0, 3);
	complete(f);
	expect_used(f, 6);
}

static void calls_as_the_guest_asked(void **state)
{
	struct fixture *f = *state;
	uint16_t *used_event = vring_split_used_event(&f->guest.ring);

	*used_event = BASE + 1;
	offer(f, 1);
	fetch(f, 1, 0);
	assert_false(complete(f));
	offer(f, 2);
	fetch(f, 2, 0);
	assert_true(complete(f));
	/* Nothing was given back: nobody is called. */
	*used_event = BASE + 3;
	offer(f, 1);
	fetch(f, 1, 0);
	let_wait(f, 0);
	assert_false(complete(f));
	fetch(f, 1, 1);
	assert_true(complete(f));
	assert_int_equal(used_count(f), 4);
}

static void without_the_event_index(void **state)
{
	struct fixture *f = *state;

	f->guest.ring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	offer(f, 1);
	fetch(f, 1, 0);
	expect_packet(f, 0, 0);
	expect_pieces(f, 0, 0);
	assert_false(complete(f));
	f->guest.ring.avail->flags = 0;
	offer(f, 1);
	fetch(f, 1, 0);
	assert_true(complete(f));
}

static void broken_rings(void **state)
{
	static const enum chain_verdict expected[] = {CHAIN_AVAIL, CHAIN_AVAIL, CHAIN_HEAD,
						      CHAIN_NEXT,  CHAIN_LOOP,  CHAIN_INDIRECT};
	struct fixture *f = *state;

	for (unsigned int kind = 0; kind < ARRAY_SIZE(expected); kind++) {
		f->guest.ring.avail->idx = BASE;
		f->guest.ring.used->idx = BASE;
		assert_int_equal(txq_start(f->txq, &f->guest.ring, &f->guest.memory, FEATURES, BASE, -1), 0);
		offer(f, 2);
		switch (kind) {
		case 0:
			f->guest.ring.avail->idx = (uint16_t)(BASE + SIZE + 1);
			break;
		case 1:
			f->guest.ring.avail->idx = BASE - 1;
			break;
		case 2:
			f->guest.ring.avail->ring[(BASE + 1) & (SIZE - 1)] = SIZE;
			break;
		case 3:
			guest_desc(&f->guest, 1, guest_addr(GUEST_DATA), 64, NEXT, SIZE);
			break;
		case 4:
			guest_desc(&f->guest, 1, guest_addr(GUEST_DATA), 64, NEXT, 1);
			break;
		case 5:
			guest_desc(&f->guest, 1, guest_addr(GUEST_TABLES), 15, VRING_DESC_F_INDIRECT, 0);
			break;
		}
		assert_false(txq_fetch(f->txq, f->batch));
		assert_int_equal(f->txq->fault, expected[kind]);
		/* Nothing of the batch was taken: it is offered again after a restart. */
		assert_int_equal(txq_stop(f->txq), BASE);
	}
}

/* The index may not move back either, behind what was taken of it. */
static void taken_is_taken(void **state)
{
	struct fixture *f = *state;

	offer(f, 4);
	fetch(f, 4, 0);
	let_wait(f, 0);
	complete(f);
	f->guest.ring.avail->idx = (uint16_t)(BASE + 2);
	assert_false(txq_fetch(f->txq, f->batch));
	assert_int_equal(f->txq->fault, CHAIN_AVAIL);
}

/* A waiting packet's descriptors are the guest's to change: they are checked anew. */
static void waiting_packets_may_change(void **state)
{
	struct fixture *f = *state;

	offer(f, 2);
	fetch(f, 2, 0);
	let_wait(f, 0);
	complete(f);
	f->guest.ring.desc[0].addr = 5;
	/* The head was read once; that is the chain that goes back. */
	f->guest.ring.avail->ring[BASE & (SIZE - 1)] = SIZE;
	fetch(f, 1, 1);
	assert_int_equal(f->batch->packets[0].reason, DROP_DESC_UNMAPPED + 1);
	complete(f);
	expect_used(f, 2);
}

/* Long chains: as many packets a batch as there are places for their pieces; the others come next. */
static void long_chains_share_the_room(void **state)
{
	struct fixture *f = *state;
	const unsigned int pieces = 400;
	unsigned int got = 0;

	for (unsigned int i = 0; i < 12; i++) {
		guest_desc(&f->guest, i, guest_addr(GUEST_TABLES), pieces * sizeof(struct vring_desc),
			   VRING_DESC_F_INDIRECT, 0);
		guest_offer(&f->guest, (uint16_t)i);
	}
	for (unsigned int i = 0; i < pieces; i++)
		guest_indirect(&f->guest, GUEST_TABLES, i, guest_addr(GUEST_DATA), 1, i + 1 < pieces ? NEXT : 0,
			       (uint16_t)(i + 1));
	while (got < 12) {
		assert_true(txq_fetch(f->txq, f->batch));
		assert_true(f->batch->count > 0);
		assert_in_range(f->batch->count * pieces, pieces, TXQ_PIECES_MAX);
		for (unsigned int i = 0; i < f->batch->count; i++) {
			assert_int_equal(f->batch->packets[i].reason, 0);
			assert_int_equal(f->batch->packets[i].length, pieces - f->txq->net_hdr_len);
		}
		memset(f->wait, 0, sizeof(f->wait));
		/* Once with packets that wait among them. */
		if (got == 0)
			let_wait(f, 0);
		got += f->batch->count - (got == 0);
		complete(f);
	}
	expect_used(f, 12);
}

static void kicks(void **state)
{
	struct fixture *f = *state;

	txq_kicks_off(f->txq);
	assert_int_equal(f->guest.ring.used->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(txq_kicks_on(f->txq));
	assert_int_equal(f->guest.ring.used->flags, 0);
	assert_int_equal(*vring_split_avail_event(&f->guest.ring), BASE);
	offer(f, 1);
	assert_true(txq_kicks_on(f->txq));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(batches_in_order),
		TEST(any_layout),
		cmocka_unit_test_setup_teardown(any_layout, set_up_legacy, tear_down),
		TEST(indirect_chains),
		TEST(net_headers),
		TEST(lost_packets_are_given_back),
		TEST(waiting_packets_hold_the_used_index),
		TEST(the_window_is_a_batch),
		TEST(stop_and_start),
		TEST(calls_as_the_guest_asked),
		cmocka_unit_test_setup_teardown(without_the_event_index, set_up_legacy, tear_down),
		TEST(broken_rings),
		TEST(taken_is_taken),
		TEST(waiting_packets_may_change),
		TEST(long_chains_share_the_room),
		TEST(kicks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
