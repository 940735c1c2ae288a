/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driver side of a virtqueue against the reference device: what an honest device sees and gives
 * back, in any order, for every ring size; and what a lying one gets away with, which is nothing.
 * Everything for a split ring, then for a packed one.
 */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "ref_device.h"
#include "virtio/vq_driver_any.h"

#define BASE          0x80000000ULL
#define TABLE_ENTRIES 8
#define TABLE_OFFSET  (4u << 20)
#define MEMORY_SIZE   (16u << 20)

static uint8_t *memory;

struct both {
	struct vq_driver vq;
	struct ref_device dev;
	struct ref_chain chain;
};

static struct both b;
static bool is_packed; /* what set_up() makes */

static struct vring_any ring_of(unsigned int size)
{
	struct vring_any ring = {.is_packed = is_packed};

	if (is_packed)
		ring.packed = (struct vring_packed){
			.desc = (void *)memory,
			.driver = (void *)(memory + (1u << 20)),
			.device = (void *)(memory + (2u << 20)),
			.size = (uint16_t)size,
		};
	else
		ring.split = (struct vring_split){
			.desc = (void *)memory,
			.avail = (void *)(memory + (1u << 20)),
			.used = (void *)(memory + (2u << 20)),
			.size = (uint16_t)size,
		};
	return ring;
}

static void set_up(unsigned int size, bool event_idx, bool indirect)
{
	struct vring_any ring = ring_of(size);
	struct vq_driver_indirect tables = {
		.tables = (void *)(memory + TABLE_OFFSET),
		.addr = BASE + TABLE_OFFSET,
		.entries = TABLE_ENTRIES,
	};

	memset(memory, 0xa5, 3u << 20);
	memset(&b.dev, 0, sizeof(b.dev));
	assert_int_equal(vq_driver_init(&b.vq, &ring, indirect ? &tables : NULL, event_idx), 0);
	ref_start(&b.dev, &ring, (uint16_t)vq_driver_base_first(&b.vq));
	b.dev.event_idx = event_idx;
	b.dev.memory = memory;
	b.dev.base = BASE;
}

static unsigned int free_count(void)
{
	return is_packed ? b.vq.packed.free_count : b.vq.split.free_count;
}

static uint64_t clamped(void)
{
	return is_packed ? b.vq.packed.clamped : b.vq.split.clamped;
}

static void tear_down(void)
{
	vq_driver_fini(&b.vq);
}

static int add(uint32_t tag, unsigned int out, unsigned int in)
{
	struct vq_buffer buffers[16];

	for (unsigned int i = 0; i < out + in; i++)
		buffers[i] = (struct vq_buffer){.addr = BASE + tag * 0x100ULL + i, .len = 10 + i};
	return vq_driver_add(&b.vq, buffers, out, in, tag);
}

static void take_expecting(uint32_t tag, unsigned int out, unsigned int in, bool indirect)
{
	assert_true(ref_take(&b.dev, &b.chain));
	assert_int_equal(b.chain.out, out);
	assert_int_equal(b.chain.in, in);
	assert_int_equal(b.chain.indirect, indirect);
	for (unsigned int i = 0; i < out + in; i++) {
		assert_int_equal(b.chain.pieces[i].addr, BASE + tag * 0x100ULL + i);
		assert_int_equal(b.chain.pieces[i].len, 10 + i);
	}
}

static void collect_expecting(uint32_t tag, uint32_t len)
{
	struct vq_used used;

	assert_int_equal(vq_driver_collect(&b.vq, &used, 1), 1);
	assert_int_equal(used.tag, tag);
	assert_int_equal(used.len, len);
}

static void test_sizes(void **state)
{
	struct vring_any ring = ring_of(0);
	struct vq_driver vq;

	(void)state;
	assert_int_equal(vq_driver_init(&vq, &ring, NULL, false), -EINVAL);
	for (unsigned int size = 3; size < 40000; size = size * 2 + 1) {
		ring = ring_of(size);
		assert_int_equal(vq_driver_init(&vq, &ring, NULL, false), -EINVAL);
	}
	for (unsigned int size = 1; size <= VRING_SIZE_MAX; size *= 2) {
		set_up(size, true, false);
		assert_int_equal(free_count(), size);
		assert_false(ref_has(&b.dev));
		tear_down();
	}
}

static void test_chains(void **state)
{
	(void)state;
	set_up(16, false, false);
	assert_int_equal(add(0, 0, 0), -EINVAL);
	assert_true(add(1, 1, 0) >= 0);
	assert_true(add(2, 2, 3) >= 0);
	assert_true(add(3, 0, 10) >= 0);
	assert_int_equal(add(4, 1, 0), -ENOSPC);
	assert_false(ref_has(&b.dev));
	vq_driver_publish(&b.vq);

	take_expecting(1, 1, 0, false);
	ref_give_back(&b.dev, b.chain.head, 0);
	take_expecting(2, 2, 3, false);
	ref_give_back(&b.dev, b.chain.head, 39);
	take_expecting(3, 0, 10, false);
	ref_give_back(&b.dev, b.chain.head, 7);
	collect_expecting(1, 0);
	collect_expecting(2, 39);
	collect_expecting(3, 7);
	assert_int_equal(free_count(), 16);
	assert_int_equal(clamped(), 0);
	tear_down();

	/* As long as the ring, and longer. */
	set_up(4, false, false);
	assert_int_equal(add(1, 3, 2), -EINVAL);
	assert_true(add(1, 2, 2) >= 0);
	vq_driver_publish(&b.vq);
	take_expecting(1, 2, 2, false);
	tear_down();
}

static void test_indirect(void **state)
{
	(void)state;
	set_up(4, false, true);
	/* One buffer needs no table; what a table cannot hold takes descriptors of the ring. */
	assert_true(add(1, 1, 0) >= 0);
	assert_true(add(2, 4, 4) >= 0);
	assert_true(add(3, 8, 0) >= 0);
	assert_int_equal(add(4, 5, 4), -EINVAL);
	assert_true(add(4, 0, 2) >= 0);
	assert_int_equal(add(5, 0, 2), -ENOSPC);
	vq_driver_publish(&b.vq);
	take_expecting(1, 1, 0, false);
	take_expecting(2, 4, 4, true);
	ref_give_back(&b.dev, b.chain.head, 60);
	take_expecting(3, 8, 0, true);
	take_expecting(4, 0, 2, true);
	ref_give_back(&b.dev, b.chain.head, 21);
	collect_expecting(2, 60);
	collect_expecting(4, 21);
	tear_down();
}

/* Any order of adding and giving back, over many turns of the index; each tag comes back once. */
static void turn(unsigned int size, bool event_idx, bool indirect, unsigned int rounds)
{
	static uint32_t heads[VRING_SIZE_MAX];
	static uint8_t out_there[1 << 17];
	unsigned int with_device = 0, seed = size;
	uint32_t tag = 0;

	set_up(size, event_idx, indirect);
	memset(out_there, 0, sizeof(out_there));
	for (unsigned int r = 0; r < rounds; r++) {
		struct vq_used used[7];
		int n;

		for (unsigned int i = (unsigned int)rand_r(&seed) % 5; i > 0; i--) {
			unsigned int out = 1 + (unsigned int)rand_r(&seed) % min(size, 3u);

			if (add(tag % ARRAY_SIZE(out_there), out, 0) < 0)
				break;
			assert_int_equal(out_there[tag % ARRAY_SIZE(out_there)], 0);
			out_there[tag++ % ARRAY_SIZE(out_there)] = 1;
		}
		vq_driver_publish(&b.vq);
		while (ref_take(&b.dev, &b.chain))
			heads[with_device++] = b.chain.head;
		for (unsigned int i = (unsigned int)rand_r(&seed) % 5; i > 0 && with_device; i--) {
			unsigned int at = (unsigned int)rand_r(&seed) % with_device;

			ref_give_back(&b.dev, heads[at], 0);
			heads[at] = heads[--with_device];
		}
		while ((n = vq_driver_collect(&b.vq, used, ARRAY_SIZE(used))) > 0)
			for (int i = 0; i < n; i++)
				assert_int_equal(out_there[used[i].tag]--, 1);
		assert_int_equal(n, 0);
		assert_int_equal(vq_driver_in_flight(&b.vq), with_device);
	}
	assert_true(tag > rounds / 2);
	tear_down();
}

static void test_any_order(void **state)
{
	(void)state;
	for (unsigned int size = 1; size <= 1024; size *= 4) {
		turn(size, false, false, 100000);
		turn(size, true, true, 100000);
	}
}

/* The largest ring, completely in flight, through the end of the 16-bit index. */
static void test_full(void **state)
{
	static struct vq_used used[VRING_SIZE_MAX];

	(void)state;
	set_up(VRING_SIZE_MAX, true, false);
	for (unsigned int r = 0; r < 5; r++) {
		for (uint32_t i = 0; i < VRING_SIZE_MAX; i++)
			assert_true(add(i, 1, 0) >= 0);
		assert_int_equal(add(0, 1, 0), -ENOSPC);
		vq_driver_publish(&b.vq);
		assert_int_equal(vq_driver_in_flight(&b.vq), VRING_SIZE_MAX);
		for (uint32_t i = 0; i < VRING_SIZE_MAX; i++) {
			assert_true(ref_take(&b.dev, &b.chain));
			ref_put(&b.dev, i, b.chain.head, 0);
		}
		assert_false(ref_has(&b.dev));
		assert_int_equal(vq_driver_collect(&b.vq, used, VRING_SIZE_MAX), 0);
		ref_publish(&b.dev, VRING_SIZE_MAX);
		assert_int_equal(vq_driver_collect(&b.vq, used, VRING_SIZE_MAX), VRING_SIZE_MAX);
	}
	tear_down();
}

static void pass_one(uint32_t tag)
{
	assert_true(add(tag, 1, 0) >= 0);
	vq_driver_publish(&b.vq);
	take_expecting(tag, 1, 0, false);
	ref_give_back(&b.dev, b.chain.head, 0);
	collect_expecting(tag, 0);
}

static void test_kicks(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		set_up(8, event_idx, false);
		assert_false(vq_driver_kick_due(&b.vq));

		assert_true(ref_want_kick(&b.dev, true));
		assert_true(add(1, 1, 0) >= 0);
		assert_false(vq_driver_kick_due(&b.vq)); /* not published yet */
		vq_driver_publish(&b.vq);
		assert_true(vq_driver_kick_due(&b.vq));
		assert_false(vq_driver_kick_due(&b.vq));

		/* One kick for several; with the event index none for those behind it. */
		assert_true(add(2, 1, 0) >= 0);
		vq_driver_publish(&b.vq);
		assert_int_equal(vq_driver_kick_due(&b.vq), !event_idx);

		take_expecting(1, 1, 0, false);
		take_expecting(2, 1, 0, false);
		assert_true(ref_want_kick(&b.dev, false));
		assert_true(add(3, 1, 0) >= 0);
		vq_driver_publish(&b.vq);
		assert_false(vq_driver_kick_due(&b.vq));
		assert_false(ref_want_kick(&b.dev, true)); /* the race the device must see */
		tear_down();
	}
}

static void test_callbacks(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		set_up(8, event_idx, false);
		pass_one(1);
		assert_false(ref_call_due(&b.dev)); /* disabled from the start */

		assert_true(vq_driver_enable_callbacks(&b.vq, 1));
		pass_one(2);
		assert_true(ref_call_due(&b.dev));
		vq_driver_disable_callbacks(&b.vq);
		pass_one(3);
		assert_false(ref_call_due(&b.dev));

		/* Something came before the wish: the caller must not sleep. */
		assert_true(add(4, 1, 0) >= 0);
		vq_driver_publish(&b.vq);
		take_expecting(4, 1, 0, false);
		ref_give_back(&b.dev, b.chain.head, 0);
		assert_true(vq_driver_pending(&b.vq));
		assert_false(vq_driver_enable_callbacks(&b.vq, 1));
		collect_expecting(4, 0);
		assert_false(vq_driver_pending(&b.vq));
		tear_down();
	}
}

static void test_callback_after(void **state)
{
	(void)state;
	set_up(8, true, false);
	for (uint32_t i = 0; i < 4; i++)
		assert_true(add(i, 1, 0) >= 0);
	vq_driver_publish(&b.vq);
	assert_true(vq_driver_enable_callbacks(&b.vq, 3));
	for (uint32_t i = 0; i < 4; i++) {
		take_expecting(i, 1, 0, false);
		ref_give_back(&b.dev, b.chain.head, 0);
		assert_int_equal(ref_call_due(&b.dev), i == 2);
	}
	assert_false(vq_driver_enable_callbacks(&b.vq, 4));
	assert_true(vq_driver_enable_callbacks(&b.vq, 5));
	tear_down();
}

/* With the event index, "do not call" must be said again before the index comes round to it. */
static void test_disabled_for_long(void **state)
{
	(void)state;
	set_up(8, true, false);
	for (unsigned int i = 0; i < 200000; i++) {
		pass_one(i % 1000);
		assert_false(ref_call_due(&b.dev));
	}
	tear_down();
}

static void test_lies(void **state)
{
	struct vq_used used[8];

	(void)state;
	/* The index passes what was shown, by one and by many. */
	for (unsigned int jump = 2; !is_packed && jump < 0x10000; jump = jump * 3 + 1) {
		set_up(8, false, false);
		assert_true(add(1, 1, 0) >= 0);
		vq_driver_publish(&b.vq);
		assert_true(add(2, 1, 0) >= 0); /* not shown */
		ref_publish(&b.dev, jump);
		assert_int_equal(vq_driver_collect(&b.vq, used, 8), -EPROTO);
		assert_int_equal(vq_driver_fault(&b.vq), VQ_DRIVER_FAULT_INDEX);
		tear_down();
	}

	/* Used without having been shown: where nothing is, and by the name of what is not shown yet. */
	if (is_packed) {
		set_up(8, false, false);
		ref_give_back(&b.dev, 0, 0);
		assert_int_equal(vq_driver_collect(&b.vq, used, 8), -EPROTO);
		assert_int_equal(vq_driver_fault(&b.vq), VQ_DRIVER_FAULT_INDEX);
		tear_down();

		set_up(8, false, false);
		assert_true(add(1, 1, 0) >= 0);
		vq_driver_publish(&b.vq);
		ref_give_back(&b.dev, (uint32_t)add(2, 1, 0), 0);
		assert_int_equal(vq_driver_collect(&b.vq, used, 8), -EPROTO);
		assert_int_equal(vq_driver_fault(&b.vq), VQ_DRIVER_FAULT_STATE);
		tear_down();
	}

	/* An id outside the ring, after a good one: that one still counts. */
	set_up(8, false, false);
	assert_true(add(1, 1, 0) >= 0 && add(2, 1, 0) >= 0);
	vq_driver_publish(&b.vq);
	take_expecting(1, 1, 0, false);
	ref_give_back(&b.dev, b.chain.head, 0);
	ref_give_back(&b.dev, 8, 0);
	assert_int_equal(vq_driver_collect(&b.vq, used, 8), 1);
	assert_int_equal(vq_driver_collect(&b.vq, used, 8), -EPROTO);
	assert_int_equal(vq_driver_fault(&b.vq), VQ_DRIVER_FAULT_ID);
	vq_driver_reset(&b.vq);
	b.dev.avail_next = b.dev.used_next = b.dev.called_at = 0;
	pass_one(5);
	tear_down();

	/* The same chain twice. */
	set_up(8, false, false);
	assert_true(add(1, 1, 0) >= 0 && add(2, 1, 0) >= 0);
	vq_driver_publish(&b.vq);
	take_expecting(1, 1, 0, false);
	ref_give_back(&b.dev, b.chain.head, 0);
	ref_give_back(&b.dev, b.chain.head, 0);
	assert_int_equal(vq_driver_collect(&b.vq, used, 8), 1);
	assert_int_equal(vq_driver_collect(&b.vq, used, 8), -EPROTO);
	assert_int_equal(vq_driver_fault(&b.vq), VQ_DRIVER_FAULT_STATE);
	tear_down();

	/* The middle of a chain, and a descriptor that is free. */
	for (uint32_t id = 1; id < 8; id++) {
		set_up(8, false, false);
		assert_int_equal(add(1, 4, 0), 0);
		vq_driver_publish(&b.vq);
		ref_give_back(&b.dev, id, 0);
		assert_int_equal(vq_driver_collect(&b.vq, used, 8), -EPROTO);
		assert_int_equal(vq_driver_fault(&b.vq), VQ_DRIVER_FAULT_STATE);
		tear_down();
	}

	/* More written than there was room. */
	set_up(8, false, false);
	assert_true(add(1, 1, 2) >= 0);
	vq_driver_publish(&b.vq);
	take_expecting(1, 1, 2, false);
	ref_give_back(&b.dev, b.chain.head, UINT32_MAX);
	collect_expecting(1, 23);
	assert_int_equal(clamped(), 1);
	tear_down();
}

/* Nothing in shared memory decides what is free: a device may scribble over all of it. */
static void test_scribbling(void **state)
{
	struct vq_used used[4];
	unsigned int seed = 1;

	(void)state;
	set_up(4, true, true);
	for (unsigned int r = 0; r < 20000; r++) {
		int head = add(r, 1 + r % 3, 0);

		assert_true(head >= 0 && head < 4);
		vq_driver_publish(&b.vq);
		vq_driver_kick_due(&b.vq);
		for (unsigned int i = 0; i < 4 * sizeof(struct vring_desc); i++)
			memory[i] = (uint8_t)rand_r(&seed);
		for (unsigned int i = 0; i < 12; i++)
			memory[(1u << 20) + i] = (uint8_t)rand_r(&seed);
		ref_give_back(&b.dev, (uint32_t)head, 0);
		assert_int_equal(vq_driver_collect(&b.vq, used, 1), 1);
		assert_int_equal(used[0].tag, r);
	}
	tear_down();
}

static void test_prepared(void **state)
{
	struct vq_buffer buffers[2] = {{.addr = BASE, .len = 12}, {.addr = BASE + 12, .len = 100}};
	uint8_t descs[8 * sizeof(struct vring_desc)], available[4 + 8 * sizeof(uint16_t)];
	struct vq_used slots[4], used[4];

	(void)state;
	set_up(8, true, false);
	for (unsigned int i = 0; i < 4; i++) {
		int head = vq_driver_prepare(&b.vq, buffers, 0, 2, i);

		assert_true(head >= 0);
		slots[i] = (struct vq_used){.head = (uint16_t)head};
	}
	assert_int_equal(vq_driver_prepare(&b.vq, buffers, 0, 1, 9), -ENOSPC);
	assert_int_equal(vq_driver_in_flight(&b.vq), 0);
	for (unsigned int r = 0; r < 70000; r++) {
		assert_int_equal(vq_driver_post(&b.vq, slots, 4), 0);
		vq_driver_publish(&b.vq);
		for (unsigned int i = 0; i < 4; i++) {
			assert_true(ref_take(&b.dev, &b.chain));
			assert_int_equal(b.chain.in, 2);
			ref_give_back(&b.dev, b.chain.head, 112);
		}
		assert_int_equal(vq_driver_collect(&b.vq, used, 4), 4);
		for (unsigned int i = 0; i < 4; i++) {
			assert_int_equal(used[i].tag, i);
			assert_int_equal(used[i].len, 112);
		}
		memcpy(slots, used, sizeof(slots));
		/* In the steady state of a split ring only the index is written. */
		if (r == 2) {
			memcpy(descs, memory, sizeof(descs));
			memcpy(available, memory + (1u << 20), sizeof(available));
		}
		if (r > 2 && !is_packed) {
			assert_memory_equal(descs, memory, sizeof(descs));
			assert_memory_equal(available + 4, memory + (1u << 20) + 4, sizeof(available) - 4);
		}
	}

	/* Posted twice, resized while posted or with two descriptors, released while posted. */
	assert_int_equal(vq_driver_post(&b.vq, slots, 1), 0);
	assert_int_equal(vq_driver_post(&b.vq, slots, 2), -EINVAL);
	assert_int_equal(vq_driver_release(&b.vq, slots[0].head), -EINVAL);
	assert_int_equal(vq_driver_resize(&b.vq, slots[1].head, 5), -EINVAL);
	assert_int_equal(vq_driver_resize(&b.vq, 8, 5), -EINVAL);
	assert_int_equal(vq_driver_release(&b.vq, slots[1].head), 0);
	assert_int_equal(free_count(), 2);
	tear_down();
}

static void test_resize(void **state)
{
	struct vq_buffer buffer = {.addr = BASE, .len = 100};
	struct vq_used slot = {0};

	(void)state;
	set_up(8, true, false);
	slot.head = (uint16_t)vq_driver_prepare(&b.vq, &buffer, 0, 1, 1);
	assert_int_equal(vq_driver_resize(&b.vq, slot.head, 40), 0);
	vq_driver_post(&b.vq, &slot, 1);
	vq_driver_publish(&b.vq);
	assert_true(ref_take(&b.dev, &b.chain));
	assert_int_equal(b.chain.pieces[0].len, 40);
	ref_give_back(&b.dev, b.chain.head, 41);
	collect_expecting(1, 40);
	tear_down();
}

/* A device that dies with some chains, having given back others out of order; the next one gets the
 * rest. */
static void test_resume(void **state)
{
	struct vq_used used[64];
	unsigned int seed = 3;

	(void)state;
	for (unsigned int r = 0; r < 2000; r++) {
		unsigned int taken = 0, missing = 0;
		uint16_t heads[16];
		bool seen[16] = {false};
		uint32_t base = 0;

		set_up(16, r % 2, false);
		for (unsigned int i = 0; i < (unsigned int)rand_r(&seed) % 100; i++) {
			add(0, 1 + (unsigned int)rand_r(&seed) % 3, 0);
			vq_driver_publish(&b.vq);
			while (ref_take(&b.dev, &b.chain))
				heads[taken++] = b.chain.head;
			if (taken > 0 && rand_r(&seed) % 2) {
				unsigned int at = (unsigned int)rand_r(&seed) % taken;

				ref_give_back(&b.dev, heads[at], 0);
				heads[at] = heads[--taken];
				vq_driver_collect(&b.vq, used, 1);
			}
		}
		assert_true(vq_driver_collect(&b.vq, used, 64) >= 0);
		missing = vq_driver_in_flight(&b.vq);
		assert_int_equal(missing, taken);

		assert_int_equal(vq_driver_resume(&b.vq, &base), 0);
		b.dev.avail_next = b.dev.used_next;
		assert_int_equal((uint16_t)base, ref_base(&b.dev));
		assert_int_equal(base >> 16, is_packed ? base & 0xffff : 0);
		assert_true(vq_driver_base_possible(&b.vq, base));
		while (ref_take(&b.dev, &b.chain)) {
			assert_false(seen[b.chain.head]);
			seen[b.chain.head] = true;
			ref_give_back(&b.dev, b.chain.head, 0);
			missing--;
		}
		assert_int_equal(missing, 0);
		assert_int_equal(vq_driver_collect(&b.vq, used, 64), (int)taken);
		assert_int_equal(free_count(), 16);
		tear_down();
	}
}

/* In order, what is offered again keeps its order. */
static void test_resume_order(void **state)
{
	struct vq_used used[16];
	uint32_t base = 0;

	(void)state;
	set_up(16, true, false);
	for (uint32_t tag = 0; tag < 10; tag++)
		assert_true(add(tag, 1, 0) >= 0);
	vq_driver_publish(&b.vq);
	for (uint32_t tag = 0; tag < 4; tag++) {
		take_expecting(tag, 1, 0, false);
		ref_give_back(&b.dev, b.chain.head, 0);
	}
	assert_int_equal(vq_driver_collect(&b.vq, used, 16), 4);
	assert_int_equal(vq_driver_resume(&b.vq, &base), 0);
	assert_int_equal(base, is_packed ? 0x80048004u : 4);
	assert_false(vq_driver_base_possible(&b.vq, is_packed ? 0x80038003u : 3));
	assert_false(vq_driver_base_possible(&b.vq, is_packed ? 0x800b800bu : 11));
	assert_true(vq_driver_base_possible(&b.vq, is_packed ? 0x800a800au : 10));
	b.dev.avail_next = 4;
	for (uint32_t tag = 4; tag < 10; tag++)
		take_expecting(tag, 1, 0, false);
	assert_true(ref_want_kick(&b.dev, true));
	tear_down();
}

/* Two threads that sleep until the other notifies them: a lost wake-up would hang here. */

#define MESSAGES 100000u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned int kicks, calls;

static void notify(unsigned int *count)
{
	pthread_mutex_lock(&lock);
	(*count)++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void await(unsigned int *count)
{
	pthread_mutex_lock(&lock);
	while (*count == 0)
		pthread_cond_wait(&changed, &lock);
	*count = 0;
	pthread_mutex_unlock(&lock);
}

static void *device_main(void *arg)
{
	static struct ref_chain chain;
	unsigned int done = 0;

	(void)arg;
	while (done < MESSAGES) {
		if (!ref_take(&b.dev, &chain)) {
			if (ref_want_kick(&b.dev, true))
				await(&kicks);
			ref_want_kick(&b.dev, false);
			continue;
		}
		ref_give_back(&b.dev, chain.head, 0);
		done++;
		if (ref_call_due(&b.dev))
			notify(&calls);
	}
	return NULL;
}

static void test_two_threads(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		unsigned int sent = 0, back = 0;
		pthread_t device;

		set_up(16, event_idx, false);
		kicks = calls = 0;
		assert_int_equal(pthread_create(&device, NULL, device_main, NULL), 0);
		while (back < MESSAGES) {
			struct vq_used used[16];
			int n = vq_driver_collect(&b.vq, used, 16);

			assert_true(n >= 0);
			for (int i = 0; i < n; i++)
				assert_int_equal(used[i].tag, back++);
			while (sent < MESSAGES && add(sent, 1, 0) >= 0)
				sent++;
			vq_driver_publish(&b.vq);
			if (vq_driver_kick_due(&b.vq))
				notify(&kicks);
			if (n > 0)
				continue;
			/* No more than are out, or the call never comes. */
			if (vq_driver_enable_callbacks(&b.vq, (uint16_t)min(back % 3 + 1, sent - back)))
				await(&calls);
			vq_driver_disable_callbacks(&b.vq);
		}
		pthread_join(device, NULL);
		tear_down();
	}
}

static int map_memory(void **state)
{
	(void)state;
	memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return memory == MAP_FAILED;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_indirect),
		cmocka_unit_test(test_any_order),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_kicks),
		cmocka_unit_test(test_callbacks),
		cmocka_unit_test(test_callback_after),
		cmocka_unit_test(test_disabled_for_long),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_scribbling),
		cmocka_unit_test(test_prepared),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_resume_order),
		cmocka_unit_test(test_two_threads),
	};

	int failed = cmocka_run_group_tests_name("split", tests, map_memory, NULL);

	is_packed = true;
	return failed + cmocka_run_group_tests_name("packed", tests, map_memory, NULL);
}
