/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A receive queue, device side: buffers reserved by several senders at once and published in order, what is refused
 * taken back, and guests whose buffers are of no use.
 */
#include "guest_ring.h"

#include <pthread.h>
#include <sched.h>

#include "datapath/rxq.h"

#define NEXT  VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define SIZE  256u
#define BASE  0xfffe /* indexes wrap early */
#define FEATURES \
	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX))

struct fixture {
	struct guest_ring guest;
	struct rxq *rxq;
	struct rxq_reservation a, b;
};

static int set_up_size(void **state, unsigned int size, uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	guest_ring_init(&f->guest, size);
	f->guest.ring.avail->idx = BASE;
	f->rxq = aligned_alloc(CACHE_LINE, align_up(sizeof(*f->rxq), CACHE_LINE));
	assert_non_null(f->rxq);
	memset(f->rxq, 0, sizeof(*f->rxq));
	rxq_start(f->rxq, &f->guest.ring, &f->guest.memory, features, BASE, -1);
	*state = f;
	return 0;
}

static int set_up(void **state)
{
	return set_up_size(state, SIZE, FEATURES);
}

static int set_up_whole(void **state)
{
	return set_up_size(state, SIZE, FEATURES & ~VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF));
}

static int set_up_large(void **state)
{
	return set_up_size(state, 2048, FEATURES);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	guest_ring_fini(&f->guest);
	free(f->rxq);
	free(f);
	return 0;
}

/* Offers `count` buffers of one descriptor each, from descriptor `first` on. */
static void offer(struct fixture *f, unsigned int first, unsigned int count, uint32_t bytes)
{
	for (unsigned int i = first; i < first + count; i++) {
		guest_desc(&f->guest, i, guest_addr(GUEST_DATA + i * 64), bytes, WRITE, 0);
		guest_offer(&f->guest, (uint16_t)i);
	}
}

/* A reservation with one packet, or the answer. */
static enum rxq_answer take_one(struct fixture *f, struct rxq_reservation *res, uint32_t bytes)
{
	enum rxq_answer answer;

	assert_true(rxq_reserve_begin(f->rxq, res));
	answer = rxq_take(f->rxq, res, bytes);
	rxq_reserve_end(f->rxq, res);
	return answer;
}

/* True if the guest wants to be called for it. */
static bool publish(struct rxq *rxq, struct rxq_reservation *res)
{
	struct publication what = rxq_publish(rxq, res);

	full_barrier();
	return what.from != what.to && rxq_wants_call(rxq, what.from, what.to);
}

static uint16_t used_count(const struct fixture *f)
{
	return (uint16_t)(f->guest.ring.used->idx - BASE);
}

static void expect_used(const struct fixture *f, uint16_t at, uint32_t id, uint32_t length)
{
	const struct vring_used_elem *elem = &f->guest.ring.used->ring[(uint16_t)(BASE + at) & f->guest.ring.mask];

	assert_int_equal(elem->id, id);
	assert_int_equal(elem->len, length);
}

static void one_packet_one_buffer(void **state)
{
	struct fixture *f = *state;

	f->guest.ring.used->idx = BASE;
	assert_int_equal(take_one(f, &f->a, 40), RXQ_EMPTY);
	assert_false(publish(f->rxq, &f->a));
	offer(f, 0, 2, 64);
	assert_int_equal(take_one(f, &f->a, 40), RXQ_TAKEN);
	assert_int_equal(f->a.unit_count, 1);
	assert_int_equal(f->a.units[0].buffers, 1);
	assert_int_equal(f->a.units[0].piece_count, 1);
	assert_ptr_equal(f->a.pieces[0].data, f->guest.bytes[0] + GUEST_DATA);
	assert_int_equal(used_count(f), 0);
	/* The guest asked to be called at the first one. */
	f->guest.ring.avail->ring[SIZE] = BASE;
	assert_true(publish(f->rxq, &f->a));
	assert_int_equal(used_count(f), 1);
	expect_used(f, 0, 0, 40);
	assert_int_equal(rxq_stop(f->rxq), (uint16_t)(BASE + 1));
	assert_false(rxq_reserve_begin(f->rxq, &f->a));
}

static void packets_over_several_buffers(void **state)
{
	struct fixture *f = *state;

	f->guest.ring.used->idx = BASE;
	offer(f, 0, 5, 64);
	assert_int_equal(take_one(f, &f->a, 150), RXQ_TAKEN);
	assert_int_equal(f->a.units[0].buffers, 3);
	publish(f->rxq, &f->a);
	assert_int_equal(used_count(f), 3);
	expect_used(f, 0, 0, 64);
	expect_used(f, 1, 1, 64);
	expect_used(f, 2, 2, 22);
	/* Two are left: what needs three waits, and takes nothing meanwhile. */
	assert_int_equal(take_one(f, &f->a, 150), RXQ_EMPTY);
	assert_int_equal(f->a.elem_count, 0);
	assert_int_equal(f->a.piece_count, 0);
	assert_int_equal(take_one(f, &f->a, 128), RXQ_TAKEN);
	publish(f->rxq, &f->a);
	expect_used(f, 3, 3, 64);
	expect_used(f, 4, 4, 64);
}

static void a_refusal_leaves_the_others(void **state)
{
	struct fixture *f = *state;

	f->guest.ring.used->idx = BASE;
	offer(f, 0, 3, 64);
	assert_true(rxq_reserve_begin(f->rxq, &f->a));
	assert_int_equal(rxq_take(f->rxq, &f->a, 64), RXQ_TAKEN);
	assert_int_equal(rxq_take(f->rxq, &f->a, 129), RXQ_EMPTY);
	assert_int_equal(rxq_take(f->rxq, &f->a, 65), RXQ_TAKEN);
	rxq_reserve_end(f->rxq, &f->a);
	assert_int_equal(f->a.unit_count, 2);
	assert_int_equal(f->a.units[1].piece, 1);
	publish(f->rxq, &f->a);
	assert_int_equal(used_count(f), 3);
	expect_used(f, 2, 2, 1);
}

static void reservations_are_published_in_order(void **state)
{
	struct fixture *f = *state;

	f->guest.ring.used->idx = BASE;
	f->guest.ring.avail->ring[SIZE] = (uint16_t)(BASE + 1);
	offer(f, 0, 4, 64);
	assert_int_equal(take_one(f, &f->a, 10), RXQ_TAKEN);
	assert_int_equal(take_one(f, &f->b, 100), RXQ_TAKEN);
	/* The second is complete first: nobody may see it, nor is anybody called. */
	assert_false(publish(f->rxq, &f->b));
	assert_int_equal(used_count(f), 0);
	assert_true(publish(f->rxq, &f->a));
	assert_int_equal(used_count(f), 3);
	expect_used(f, 0, 0, 10);
	expect_used(f, 1, 1, 64);
	expect_used(f, 2, 2, 36);
}

static void tickets_are_limited(void **state)
{
	struct fixture *f = *state;
	struct rxq_reservation *held = calloc(RXQ_TICKETS, sizeof(*held));

	assert_non_null(held);
	f->guest.ring.used->idx = BASE;
	/* More than once round. */
	for (unsigned int round = 0; round < 3; round++) {
		offer(f, 0, RXQ_TICKETS, 64);
		for (unsigned int i = 0; i < RXQ_TICKETS; i++)
			assert_int_equal(take_one(f, &held[i], 8), RXQ_TAKEN);
		assert_false(rxq_reserve_begin(f->rxq, &f->a));
		for (unsigned int i = RXQ_TICKETS; i-- > 0;) {
			publish(f->rxq, &held[i]);
			assert_int_equal(used_count(f), i ? round * RXQ_TICKETS : (round + 1) * RXQ_TICKETS);
		}
	}
	/* One that took nothing needs none. */
	for (unsigned int i = 0; i < 2 * RXQ_TICKETS; i++) {
		assert_int_equal(take_one(f, &f->a, 8), RXQ_EMPTY);
		assert_false(publish(f->rxq, &f->a));
	}
	free(held);
}

static void units_are_limited(void **state)
{
	struct fixture *f = *state;

	offer(f, 0, RXQ_UNITS_MAX + 1, 64);
	assert_true(rxq_reserve_begin(f->rxq, &f->a));
	for (unsigned int i = 0; i < RXQ_UNITS_MAX; i++)
		assert_int_equal(rxq_take(f->rxq, &f->a, 64), RXQ_TAKEN);
	assert_int_equal(rxq_take(f->rxq, &f->a, 64), RXQ_ROOM);
	rxq_reserve_end(f->rxq, &f->a);
	publish(f->rxq, &f->a);
	assert_int_equal(take_one(f, &f->a, 64), RXQ_TAKEN);
}

static void what_no_ring_can_take_is_too_long(void **state)
{
	struct fixture *f = *state;

	offer(f, 0, SIZE, 64);
	assert_int_equal(take_one(f, &f->a, SIZE * 64 + 1), RXQ_TOO_LONG);
	assert_int_equal(f->a.elem_count, 0);
	assert_int_equal(take_one(f, &f->a, SIZE * 64), RXQ_TAKEN);
	assert_int_equal(f->a.units[0].buffers, SIZE);
}

static void without_merging_one_buffer_must_do(void **state)
{
	struct fixture *f = *state;

	f->guest.ring.used->idx = BASE;
	offer(f, 0, 2, 64);
	assert_int_equal(take_one(f, &f->a, 65), RXQ_TOO_LONG);
	assert_int_equal(f->a.elem_count, 0);
	assert_int_equal(take_one(f, &f->a, 64), RXQ_TAKEN);
	publish(f->rxq, &f->a);
	expect_used(f, 0, 0, 64);
}

/* A bad buffer goes back empty, with the good ones that the packet had before it: the order is fixed by then. */
static void bad_buffers_go_back_empty(void **state)
{
	struct fixture *f = *state;

	f->guest.ring.used->idx = BASE;
	offer(f, 0, 4, 64);
	f->guest.ring.desc[1].flags = 0;
	assert_true(rxq_reserve_begin(f->rxq, &f->a));
	assert_int_equal(rxq_take(f->rxq, &f->a, 100), RXQ_BAD);
	assert_int_equal(rxq_take(f->rxq, &f->a, 100), RXQ_TAKEN);
	rxq_reserve_end(f->rxq, &f->a);
	assert_int_equal(f->a.unit_count, 1);
	assert_int_equal(f->a.units[0].piece, 0);
	assert_ptr_equal(f->a.pieces[0].data, f->guest.bytes[0] + GUEST_DATA + 128);
	publish(f->rxq, &f->a);
	assert_int_equal(used_count(f), 4);
	expect_used(f, 0, 0, 0);
	expect_used(f, 1, 1, 0);
	expect_used(f, 2, 2, 64);
	expect_used(f, 3, 3, 36);
}

static void each_kind_of_bad_buffer(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t length;
		uint16_t flags;
	} bad[] = {
		{GUEST_BASE + GUEST_DATA, 64, 0},         {GUEST_BASE + GUEST_DATA, 0, WRITE}, {0, 64, WRITE},
		{GUEST_BASE + GUEST_BYTES - 1, 2, WRITE}, {UINT64_MAX, UINT32_MAX, WRITE},
	};
	struct fixture *f = *state;

	f->guest.ring.used->idx = BASE;
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		guest_desc(&f->guest, i, bad[i].addr, bad[i].length, bad[i].flags, 0);
		guest_offer(&f->guest, (uint16_t)i);
		assert_int_equal(take_one(f, &f->a, 10), RXQ_BAD);
		publish(f->rxq, &f->a);
		expect_used(f, (uint16_t)i, i, 0);
	}
	assert_int_equal(f->rxq->fault, CHAIN_OK);
}

/*
 * Buffers of one byte, and after many of them a bad one: all go back empty, packet for packet, and no more of them
 * in one reservation than it has places for.
 */
static void bad_buffers_after_many_good_ones(void **state)
{
	struct fixture *f = *state;
	unsigned int packets = 0, buffers = 0;
	enum rxq_answer answer;

	f->guest.ring.used->idx = BASE;
	offer(f, 0, 2048, 1);
	for (unsigned int i = 900; i < 2048; i += 901)
		f->guest.ring.desc[i].addr = 0;
	while (buffers < 1802) {
		assert_true(rxq_reserve_begin(f->rxq, &f->a));
		do
			answer = rxq_take(f->rxq, &f->a, 1000);
		while (answer == RXQ_BAD && ++packets);
		assert_in_range(f->a.elem_count, 0, RXQ_PIECES_MAX);
		rxq_reserve_end(f->rxq, &f->a);
		buffers += f->a.elem_count;
		publish(f->rxq, &f->a);
	}
	assert_int_equal(packets, 2);
	assert_int_equal(answer, RXQ_EMPTY);
	for (uint16_t i = 0; i < 1802; i++)
		expect_used(f, i, i, 0);
}

static void more_buffers_than_a_reservation_takes(void **state)
{
	struct fixture *f = *state;

	offer(f, 0, 2048, 1);
	assert_true(rxq_reserve_begin(f->rxq, &f->a));
	assert_int_equal(rxq_take(f->rxq, &f->a, 1000), RXQ_TAKEN);
	assert_int_equal(rxq_take(f->rxq, &f->a, 1000), RXQ_ROOM);
	rxq_reserve_end(f->rxq, &f->a);
	publish(f->rxq, &f->a);
	assert_int_equal(take_one(f, &f->a, 1000), RXQ_TAKEN);
	publish(f->rxq, &f->a);
	offer(f, 0, 2000, 1);
	assert_int_equal(take_one(f, &f->a, RXQ_PIECES_MAX + 1), RXQ_TOO_LONG);
	assert_int_equal(take_one(f, &f->a, RXQ_PIECES_MAX), RXQ_TAKEN);
}

static void broken_rings(void **state)
{
	static const enum chain_verdict expected[] = {CHAIN_AVAIL, CHAIN_AVAIL, CHAIN_HEAD,
						      CHAIN_NEXT,  CHAIN_LOOP,  CHAIN_INDIRECT};
	struct fixture *f = *state;

	for (unsigned int kind = 0; kind < ARRAY_SIZE(expected); kind++) {
		f->guest.ring.avail->idx = BASE;
		rxq_start(f->rxq, &f->guest.ring, &f->guest.memory, FEATURES, BASE, -1);
		offer(f, 0, 2, 64);
		switch (kind) {
		case 0:
			f->guest.ring.avail->idx = (uint16_t)(BASE + SIZE + 1);
			break;
		case 1:
			f->guest.ring.avail->idx = BASE - 1;
			break;
		case 2:
			f->guest.ring.avail->ring[BASE & (SIZE - 1)] = SIZE;
			break;
		case 3:
			guest_desc(&f->guest, 0, guest_addr(GUEST_DATA), 64, WRITE | NEXT, SIZE);
			break;
		case 4:
			guest_desc(&f->guest, 0, guest_addr(GUEST_DATA), 64, WRITE | NEXT, 0);
			break;
		case 5:
			guest_desc(&f->guest, 0, guest_addr(GUEST_TABLES), 16, VRING_DESC_F_INDIRECT, 0);
			break;
		}
		assert_int_equal(take_one(f, &f->a, 10), RXQ_BROKEN);
		assert_int_equal(f->a.elem_count, 0);
		assert_int_equal(f->rxq->fault, expected[kind]);
	}
	/* What was taken before the fault showed is published all the same. */
	f->guest.ring.avail->idx = BASE;
	f->guest.ring.used->idx = BASE;
	rxq_start(f->rxq, &f->guest.ring, &f->guest.memory, FEATURES, BASE, -1);
	offer(f, 0, 2, 64);
	f->guest.ring.avail->ring[(BASE + 1) & (SIZE - 1)] = SIZE;
	assert_true(rxq_reserve_begin(f->rxq, &f->a));
	assert_int_equal(rxq_take(f->rxq, &f->a, 10), RXQ_TAKEN);
	assert_int_equal(rxq_take(f->rxq, &f->a, 10), RXQ_BROKEN);
	rxq_reserve_end(f->rxq, &f->a);
	publish(f->rxq, &f->a);
	assert_int_equal(used_count(f), 1);
}

static void kicks_only_while_wanted(void **state)
{
	struct fixture *f = *state;
	const uint16_t *avail_event = vring_split_avail_event(&f->guest.ring);

	assert_int_equal(f->guest.ring.used->flags, VRING_USED_F_NO_NOTIFY);
	assert_int_equal(take_one(f, &f->a, 10), RXQ_EMPTY);
	assert_false(rxq_want_kick(f->rxq));
	assert_int_equal(f->guest.ring.used->flags, 0);
	assert_int_equal(*avail_event, BASE);
	offer(f, 0, 1, 64);
	assert_true(rxq_want_kick(f->rxq));
	assert_int_equal(take_one(f, &f->a, 10), RXQ_TAKEN);
	assert_int_equal(f->guest.ring.used->flags, VRING_USED_F_NO_NOTIFY);
	assert_int_equal(*avail_event, BASE);
	rxq_stop(f->rxq);
	assert_false(rxq_want_kick(f->rxq));
}

static void one_reserves_at_a_time(void **state)
{
	struct fixture *f = *state;

	assert_true(rxq_reserve_begin(f->rxq, &f->a));
	assert_false(rxq_reserve_begin(f->rxq, &f->b));
	rxq_reserve_end(f->rxq, &f->a);
	assert_true(rxq_reserve_begin(f->rxq, &f->b));
	rxq_reserve_end(f->rxq, &f->b);
}

#define SENDERS      3
#define PACKETS      20000u /* of each sender */
#define PACKET_BYTES 100u

struct sender {
	pthread_t thread;
	struct rxq *rxq;
	uint8_t id;
	uint32_t calls;
};

static void *sender_main(void *arg)
{
	struct sender *sender = arg;
	struct rxq_reservation *res = malloc(sizeof(*res));
	uint32_t sent = 0;

	while (res && sent < PACKETS) {
		if (!rxq_reserve_begin(sender->rxq, res)) {
			sched_yield();
			continue;
		}
		while (sent + res->unit_count < PACKETS && res->unit_count < 1 + sent % 7 &&
		       rxq_take(sender->rxq, res, PACKET_BYTES) == RXQ_TAKEN)
			;
		rxq_reserve_end(sender->rxq, res);
		if (res->unit_count == 0)
			sched_yield();
		for (unsigned int i = 0; i < res->piece_count; i++)
			memset(res->pieces[i].data, sender->id, res->pieces[i].length);
		sent += res->unit_count;
		sender->calls += publish(sender->rxq, res);
	}
	free(res);
	return NULL;
}

/* The guest's side: everything comes in the order in which it was offered, a packet's two buffers after another. */
static void expect_in_order(struct fixture *f, uint32_t count)
{
	const struct vring_split *ring = &f->guest.ring;
	uint8_t id = 0;

	for (uint32_t i = 0; i < count; i++) {
		const uint16_t at = (uint16_t)(BASE + i);
		const struct vring_used_elem *elem = &ring->used->ring[at & ring->mask];

		while (load_acquire(&ring->used->idx) == at)
			sched_yield();
		assert_int_equal(elem->id, i % SIZE);
		assert_int_equal(elem->len, i % 2 ? PACKET_BYTES - 64 : 64);
		if (i % 2 == 0)
			id = f->guest.bytes[0][GUEST_DATA + i % SIZE * 64];
		assert_in_range(id, 1, SENDERS);
		for (uint32_t j = 0; j < elem->len; j++)
			assert_int_equal(f->guest.bytes[0][GUEST_DATA + i % SIZE * 64 + j], id);
		guest_offer(&f->guest, (uint16_t)(i % SIZE));
	}
}

static void senders_at_once(void **state)
{
	struct sender senders[SENDERS];
	struct fixture *f = *state;

	f->guest.ring.used->idx = BASE;
	offer(f, 0, SIZE, 64);
	for (uint8_t i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){.rxq = f->rxq, .id = (uint8_t)(i + 1)};
		assert_int_equal(pthread_create(&senders[i].thread, NULL, sender_main, &senders[i]), 0);
	}
	expect_in_order(f, SENDERS * PACKETS * 2);
	for (unsigned int i = 0; i < SENDERS; i++)
		assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
	assert_int_equal(f->rxq->fault, CHAIN_OK);
	assert_int_equal(used_count(f), (uint16_t)(SENDERS * PACKETS * 2));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_packet_one_buffer),
		TEST(packets_over_several_buffers),
		TEST(a_refusal_leaves_the_others),
		TEST(reservations_are_published_in_order),
		TEST(tickets_are_limited),
		TEST(units_are_limited),
		TEST(what_no_ring_can_take_is_too_long),
		cmocka_unit_test_setup_teardown(without_merging_one_buffer_must_do, set_up_whole, tear_down),
		TEST(bad_buffers_go_back_empty),
		TEST(each_kind_of_bad_buffer),
		cmocka_unit_test_setup_teardown(bad_buffers_after_many_good_ones, set_up_large, tear_down),
		cmocka_unit_test_setup_teardown(more_buffers_than_a_reservation_takes, set_up_large, tear_down),
		TEST(broken_rings),
		TEST(kicks_only_while_wanted),
		TEST(one_reserves_at_a_time),
		TEST(senders_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
