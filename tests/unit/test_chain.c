/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every way to write a descriptor chain, and what becomes of it. A rule that a chain breaks has a name; whether the
 * chain alone is lost or the ring depends on whether it is the chain's extent that makes no sense.
 */
#include "guest_ring.h"

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define SIZE     8u
#define DESC     ((uint32_t)sizeof(struct vring_desc))
#define PIECES   16u

struct fixture {
	struct guest_ring guest;
	struct chain_walk walk;
	struct chain_piece pieces[CHAIN_PIECES_MAX];
	unsigned int count;
};

static int set_up_size(void **state, unsigned int size)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	guest_ring_init(&f->guest, size);
	f->walk = (struct chain_walk){.ring = &f->guest.ring, .memory = &f->guest.memory, .indirect = true};
	*state = f;
	return 0;
}

static int set_up(void **state)
{
	return set_up_size(state, SIZE);
}

static int set_up_large(void **state)
{
	return set_up_size(state, 2 * CHAIN_PIECES_MAX);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	guest_ring_fini(&f->guest);
	free(f);
	return 0;
}

/* Both ways to fetch must agree on everything. */
static enum chain_verdict fetch(struct fixture *f, uint16_t head, unsigned int room)
{
	struct chain_walk walk = f->walk;
	unsigned int count = 0;
	enum chain_verdict verdict = chain_fetch(&f->walk, head, f->pieces, room, &f->count);

	assert_int_equal(chain_fetch_one(&walk, head, f->pieces, room, &count), verdict);
	if (verdict == CHAIN_OK)
		assert_int_equal(count, f->count);
	return verdict;
}

/* A chain of direct descriptors from 0 on, each of 10 bytes. */
static void write_chain(struct fixture *f, unsigned int length, uint16_t flags)
{
	for (unsigned int i = 0; i < length; i++)
		guest_desc(&f->guest, i, guest_addr(GUEST_DATA + i * 16), 10,
			   (uint16_t)(flags | (i + 1 < length ? NEXT : 0)), (uint16_t)(i + 1));
}

static void expect_pieces(const struct fixture *f, unsigned int count)
{
	assert_int_equal(f->count, count);
	for (unsigned int i = 0; i < count; i++) {
		assert_ptr_equal(f->pieces[i].data, f->guest.bytes[0] + GUEST_DATA + i * 16);
		assert_int_equal(f->pieces[i].length, 10);
	}
}

static void chains_of_every_length(void **state)
{
	struct fixture *f = *state;

	for (unsigned int length = 1; length <= SIZE; length++) {
		write_chain(f, length, 0);
		assert_int_equal(fetch(f, 0, PIECES), CHAIN_OK);
		expect_pieces(f, length);
	}
	f->walk.writable = true;
	write_chain(f, SIZE, WRITE);
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_OK);
	expect_pieces(f, SIZE);
}

static void heads_and_nexts_out_of_range(void **state)
{
	struct fixture *f = *state;

	write_chain(f, 2, 0);
	assert_int_equal(fetch(f, SIZE, PIECES), CHAIN_HEAD);
	assert_int_equal(fetch(f, UINT16_MAX, PIECES), CHAIN_HEAD);
	f->guest.ring.desc[0].next = SIZE;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_NEXT);
	f->guest.ring.desc[0].next = UINT16_MAX;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_NEXT);
}

static void loops(void **state)
{
	struct fixture *f = *state;

	write_chain(f, 1, 0);
	f->guest.ring.desc[0].flags = NEXT;
	f->guest.ring.desc[0].next = 0;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_LOOP);
	write_chain(f, 2, 0);
	f->guest.ring.desc[1].flags = NEXT;
	f->guest.ring.desc[1].next = 0;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_LOOP);
	/* Longer than the ring is the same. */
	write_chain(f, SIZE, 0);
	f->guest.ring.desc[SIZE - 1].flags = NEXT;
	f->guest.ring.desc[SIZE - 1].next = 3;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_LOOP);
	/* That a buffer on the way is bad as well does not make it better. */
	f->guest.ring.desc[1].len = 0;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_LOOP);
}

static void buffers_outside_memory(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t length;
	} bad[] = {
		{0, 1},
		{GUEST_BASE - 1, 1},
		{GUEST_BASE - 1, 2},
		{GUEST_BASE + 2 * GUEST_BYTES, 1},
		{GUEST_BASE + 2 * GUEST_BYTES - 1, 2},
		{GUEST_BASE + GUEST_BYTES - 1, 2}, /* the next region begins there */
		{GUEST_BASE, GUEST_BYTES + 1},
		{GUEST_BASE, UINT32_MAX},
		{UINT64_MAX, 1},
		{UINT64_MAX, UINT32_MAX},
		{UINT64_MAX - 0xfffff, UINT32_MAX}, /* wraps to within */
	};
	struct fixture *f = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		write_chain(f, 3, 0);
		for (unsigned int at = 0; at < 3; at++) {
			guest_desc(&f->guest, at, bad[i].addr, bad[i].length, at < 2 ? NEXT : 0, (uint16_t)(at + 1));
			assert_int_equal(fetch(f, (uint16_t)at, PIECES), CHAIN_UNMAPPED);
		}
	}
	/* Exactly a whole region is fine. */
	guest_desc(&f->guest, 0, GUEST_BASE + GUEST_BYTES, GUEST_BYTES, 0, 0);
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_OK);
	assert_ptr_equal(f->pieces[0].data, f->guest.bytes[1]);
}

static void buffers_of_the_wrong_kind(void **state)
{
	struct fixture *f = *state;

	write_chain(f, 3, 0);
	f->guest.ring.desc[1].flags |= WRITE;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_DIRECTION);
	assert_int_equal(fetch(f, 2, PIECES), CHAIN_OK);
	f->walk.writable = true;
	assert_int_equal(fetch(f, 2, PIECES), CHAIN_DIRECTION);
	f->walk.writable = false;
	write_chain(f, 3, 0);
	f->guest.ring.desc[2].len = 0;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_LENGTH);
	/* Of several, the first decides. */
	f->guest.ring.desc[1].addr = 0;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_UNMAPPED);
}

static void mixed_chains_are_read_first(void **state)
{
	struct fixture *f = *state;

	f->walk.mixed = true;
	write_chain(f, 4, 0);
	f->guest.ring.desc[2].flags |= WRITE;
	f->guest.ring.desc[3].flags |= WRITE;
	assert_int_equal(chain_fetch(&f->walk, 0, f->pieces, PIECES, &f->count), CHAIN_OK);
	expect_pieces(f, 4);
	assert_int_equal(f->walk.readable, 2);
	f->guest.ring.desc[3].flags = 0;
	assert_int_equal(chain_fetch(&f->walk, 0, f->pieces, PIECES, &f->count), CHAIN_DIRECTION);
}

static void room_is_kept(void **state)
{
	struct fixture *f = *state;

	write_chain(f, SIZE, 0);
	assert_int_equal(fetch(f, 0, SIZE), CHAIN_OK);
	for (unsigned int room = 0; room < SIZE; room++) {
		f->pieces[room].length = 12345;
		assert_int_equal(fetch(f, 0, room), CHAIN_LENGTH);
		assert_int_equal(f->pieces[room].length, 12345);
	}
}

static void write_indirect(struct fixture *f, unsigned int head, uint32_t table, unsigned int length)
{
	guest_desc(&f->guest, head, guest_addr(table), length * DESC, INDIRECT, 0);
	for (unsigned int i = 0; i < length; i++)
		guest_indirect(&f->guest, table, i, guest_addr(GUEST_DATA + i * 16), 10, i + 1 < length ? NEXT : 0,
			       (uint16_t)(i + 1));
}

static void indirect_chains(void **state)
{
	struct fixture *f = *state;

	for (unsigned int length = 1; length <= 3 * SIZE; length++) {
		write_indirect(f, 5, GUEST_TABLES, length);
		assert_int_equal(fetch(f, 5, CHAIN_PIECES_MAX), CHAIN_OK);
		expect_pieces(f, length);
	}
	/* Nothing says that a table is aligned. */
	for (uint32_t odd = 1; odd < DESC; odd++) {
		write_indirect(f, 5, GUEST_TABLES + odd, 3);
		assert_int_equal(fetch(f, 5, PIECES), CHAIN_OK);
		expect_pieces(f, 3);
	}
	/* It ends a chain that began in the ring. */
	write_chain(f, 2, 0);
	f->guest.ring.desc[1] = (struct vring_desc){guest_addr(GUEST_TABLES), DESC, INDIRECT, 0};
	guest_indirect(&f->guest, GUEST_TABLES, 0, guest_addr(GUEST_DATA + 16), 10, 0, 0);
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_OK);
	expect_pieces(f, 2);
}

static void indirect_tables_that_are_none(void **state)
{
	static const uint32_t sizes[] = {
		0, 1, DESC - 1, DESC + 1, UINT32_MAX, UINT32_MAX - DESC + 1, (VRING_SIZE_MAX + 1) * DESC};
	struct fixture *f = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		guest_desc(&f->guest, 0, guest_addr(GUEST_TABLES), sizes[i], INDIRECT, 0);
		assert_int_equal(fetch(f, 0, PIECES), CHAIN_INDIRECT);
	}
	/* Nested, with a successor, not negotiated. */
	write_indirect(f, 0, GUEST_TABLES, 2);
	guest_indirect(&f->guest, GUEST_TABLES, 1, guest_addr(GUEST_TABLES), DESC, INDIRECT, 0);
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_INDIRECT);
	write_indirect(f, 0, GUEST_TABLES, 2);
	f->guest.ring.desc[0].flags |= NEXT;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_INDIRECT);
	write_indirect(f, 0, GUEST_TABLES, 2);
	f->walk.indirect = false;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_INDIRECT);
	f->walk.indirect = true;
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_OK);

	/* Within the table the rules of the ring hold, with the table's own size. */
	guest_indirect(&f->guest, GUEST_TABLES, 0, guest_addr(GUEST_DATA), 10, NEXT, 2);
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_NEXT);
	guest_indirect(&f->guest, GUEST_TABLES, 0, guest_addr(GUEST_DATA), 10, NEXT, 0);
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_LOOP);
}

static void indirect_tables_outside_memory(void **state)
{
	struct fixture *f = *state;

	guest_desc(&f->guest, 0, 0, DESC, INDIRECT, 0);
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_UNMAPPED);
	guest_desc(&f->guest, 0, guest_addr(GUEST_BYTES - DESC), 2 * DESC, INDIRECT, 0);
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_UNMAPPED);
	guest_desc(&f->guest, 0, UINT64_MAX - DESC + 1, DESC, INDIRECT, 0);
	assert_int_equal(fetch(f, 0, PIECES), CHAIN_UNMAPPED);
}

/* However long a ring is, no chain costs more steps than the longest chain that could be used. */
static void long_chains_end_at_the_limit(void **state)
{
	struct fixture *f = *state;
	const unsigned int length = 2 * CHAIN_PIECES_MAX;

	for (unsigned int i = 0; i < length; i++)
		guest_desc(&f->guest, i, guest_addr(GUEST_DATA), 1, i + 1 < length ? NEXT : 0, (uint16_t)(i + 1));
	assert_int_equal(fetch(f, length - CHAIN_PIECES_MAX, CHAIN_PIECES_MAX), CHAIN_OK);
	assert_int_equal(f->count, CHAIN_PIECES_MAX);
	assert_int_equal(fetch(f, 0, CHAIN_PIECES_MAX), CHAIN_LENGTH);
	/* Behind that many descriptors nobody looks. */
	f->guest.ring.desc[CHAIN_PIECES_MAX + 1].next = UINT16_MAX;
	assert_int_equal(fetch(f, 0, CHAIN_PIECES_MAX), CHAIN_LENGTH);
	f->guest.ring.desc[3].addr = 0;
	assert_int_equal(fetch(f, 0, CHAIN_PIECES_MAX), CHAIN_UNMAPPED);
}

static void verdicts_have_names(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < CHAIN_VERDICTS; i++) {
		const char *name = chain_verdict_name((enum chain_verdict)i);

		assert_string_not_equal(name, "unknown");
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(name, chain_verdict_name((enum chain_verdict)j));
	}
	assert_string_equal(chain_verdict_name(CHAIN_VERDICTS), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(chains_of_every_length, set_up, tear_down),
		cmocka_unit_test_setup_teardown(heads_and_nexts_out_of_range, set_up, tear_down),
		cmocka_unit_test_setup_teardown(loops, set_up, tear_down),
		cmocka_unit_test_setup_teardown(buffers_outside_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(buffers_of_the_wrong_kind, set_up, tear_down),
		cmocka_unit_test_setup_teardown(mixed_chains_are_read_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(room_is_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(indirect_chains, set_up, tear_down),
		cmocka_unit_test_setup_teardown(indirect_tables_that_are_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(indirect_tables_outside_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(long_chains_end_at_the_limit, set_up_large, tear_down),
		cmocka_unit_test(verdicts_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
