/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chains of packed rings, of every size and across the ring's end: what is walked, what is wrong with what is not, and
 * how many descriptors to skip. And where a device finds itself that knows only the ring: against a driver and a device
 * that know.
 */
#include "unit.h"

#include "guest_ring.h"
#include "vhost/chain_packed.h"

#include <pthread.h>
#include <sched.h>

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define EVENTS   0xf000u /* offset of the two event structures */

struct fixture {
	struct guest_ring guest;
	struct vring_packed ring;
	struct chain_walk walk;
	struct chain_piece pieces[CHAIN_PIECES_MAX];
	unsigned int count;
	struct chain_extent extent;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	guest_ring_init(&f->guest, 8);
	f->ring = (struct vring_packed){
		.desc = (struct vring_packed_desc *)(void *)f->guest.bytes[0],
		.driver = (struct vring_packed_desc_event *)(void *)(f->guest.bytes[0] + EVENTS),
		.device = (struct vring_packed_desc_event *)(void *)(f->guest.bytes[0] + EVENTS + 4),
		.size = 7,
	};
	f->walk = (struct chain_walk){.memory = &f->guest.memory, .indirect = true};
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	guest_ring_fini(&f->guest);
	free(f);
	return 0;
}

static void desc(struct fixture *f, unsigned int index, uint64_t addr, uint32_t length, uint16_t flags)
{
	f->ring.desc[index] = (struct vring_packed_desc){
		.addr = addr,
		.len = length,
		.id = (uint16_t)(index + 100),
		.flags = flags,
	};
}

static enum chain_verdict fetch(struct fixture *f, uint16_t position, unsigned int room)
{
	struct vring_packed_desc first = vring_packed_fetch(&f->ring, vring_packed_index(position));

	f->extent = (struct chain_extent){0};
	return chain_packed_fetch(&f->walk, &f->ring, position, &first, f->pieces, room, &f->count, &f->extent);
}

static void expect_piece(const struct fixture *f, unsigned int index, uint32_t offset, uint32_t length)
{
	assert_ptr_equal(f->pieces[index].data, f->guest.bytes[0] + offset);
	assert_int_equal(f->pieces[index].length, length);
}

static void test_positions(void **state)
{
	(void)state;
	for (unsigned int size = 1; size <= 9; size++) {
		uint16_t position = VRING_PACKED_START;

		for (unsigned int i = 0; i < 2 * size; i++) {
			assert_int_equal(vring_packed_distance(VRING_PACKED_START, position, size), i);
			assert_int_equal(vring_packed_distance(position, VRING_PACKED_START, size),
					 (2 * size - i) % (2 * size));
			position = vring_packed_advance(position, 1, size);
		}
		assert_int_equal(position, VRING_PACKED_START);
		assert_int_equal(vring_packed_advance(position, size, size), 0);
	}
}

static void test_direct(void **state)
{
	struct fixture *f = *state;

	desc(f, 2, guest_addr(GUEST_DATA), 60, 0);
	assert_int_equal(fetch(f, 0x8002, CHAIN_PIECES_MAX), CHAIN_OK);
	assert_int_equal(f->count, 1);
	assert_int_equal(f->extent.slots, 1);
	assert_int_equal(f->extent.id, 102);
	expect_piece(f, 0, GUEST_DATA, 60);

	/* Across the end; the last one's id counts. */
	desc(f, 5, guest_addr(GUEST_DATA), 12, NEXT);
	desc(f, 6, guest_addr(GUEST_DATA + 100), 50, NEXT);
	desc(f, 0, guest_addr(GUEST_DATA + 200), 70, 0);
	assert_int_equal(fetch(f, 5, CHAIN_PIECES_MAX), CHAIN_OK);
	assert_int_equal(f->count, 3);
	assert_int_equal(f->extent.slots, 3);
	assert_int_equal(f->extent.id, 100);
	expect_piece(f, 2, GUEST_DATA + 200, 70);
	assert_int_equal(fetch(f, 5, 2), CHAIN_LENGTH);
	assert_int_equal(f->extent.slots, 3);

	/* As long as the ring, and without an end. */
	for (unsigned int size = 1; size <= 7; size++) {
		f->ring.size = (uint16_t)size;
		for (unsigned int i = 0; i < size; i++)
			desc(f, i, guest_addr(GUEST_DATA), 10, i + 1 < size ? NEXT : 0);
		assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_OK);
		assert_int_equal(f->extent.slots, size);
		desc(f, size - 1, guest_addr(GUEST_DATA), 10, NEXT);
		assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_LOOP);
	}
}

/* One bad buffer loses the chain, whose end is found all the same. */
static void test_bad_buffers(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t length;
		uint16_t flags;
		enum chain_verdict verdict;
	} bad[] = {
		{GUEST_BASE + GUEST_DATA, 0, 0, CHAIN_LENGTH},
		{0, 10, 0, CHAIN_UNMAPPED},
		{UINT64_MAX - 5, 10, 0, CHAIN_UNMAPPED},
		{GUEST_BASE + GUEST_BYTES - 5, 10, 0, CHAIN_UNMAPPED},
		{GUEST_BASE + GUEST_DATA, UINT32_MAX, 0, CHAIN_UNMAPPED},
		{GUEST_BASE + GUEST_DATA, 10, WRITE, CHAIN_DIRECTION},
	};
	struct fixture *f = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		for (unsigned int at = 0; at < 3; at++) {
			for (unsigned int j = 0; j < 3; j++)
				desc(f, j, guest_addr(GUEST_DATA), 10, j < 2 ? NEXT : 0);
			desc(f, at, bad[i].addr, bad[i].length, bad[i].flags | (at < 2 ? NEXT : 0));
			assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), bad[i].verdict);
			assert_int_equal(f->extent.slots, 3);
			assert_int_equal(f->extent.id, 102);
		}
	}
}

static void table(struct fixture *f, uint32_t offset, unsigned int index, uint64_t addr, uint32_t length,
		  uint16_t flags)
{
	struct vring_packed_desc entry = {.addr = addr, .len = length, .flags = flags};

	memcpy(f->guest.bytes[0] + offset + index * sizeof(entry), &entry, sizeof(entry));
}

static void test_indirect(void **state)
{
	struct fixture *f = *state;

	/* Not aligned; what is no WRITE in a table means nothing. */
	for (unsigned int i = 0; i < 3; i++)
		table(f, GUEST_TABLES + 3, i, guest_addr(GUEST_DATA + i * 100), 20 + i, i == 1 ? NEXT | INDIRECT : 0);
	desc(f, 0, guest_addr(GUEST_TABLES + 3), 48, INDIRECT);
	assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_OK);
	assert_int_equal(f->count, 3);
	assert_int_equal(f->extent.slots, 1);
	expect_piece(f, 2, GUEST_DATA + 200, 22);
	/* At the end of a direct chain. */
	desc(f, 6, guest_addr(GUEST_DATA), 12, NEXT);
	assert_int_equal(fetch(f, 0x8006, CHAIN_PIECES_MAX), CHAIN_OK);
	assert_int_equal(f->count, 4);
	assert_int_equal(f->extent.slots, 2);

	table(f, GUEST_TABLES + 3, 1, guest_addr(GUEST_DATA), 20, WRITE);
	assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_DIRECTION);
	assert_int_equal(f->extent.slots, 1);
	desc(f, 0, 0, 48, INDIRECT);
	assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_UNMAPPED);
	assert_int_equal(f->extent.slots, 1);
	desc(f, 0, guest_addr(GUEST_TABLES), (CHAIN_PIECES_MAX + 1) * 16, INDIRECT);
	assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_LENGTH);

	desc(f, 0, guest_addr(GUEST_TABLES), 0, INDIRECT);
	assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_INDIRECT);
	desc(f, 0, guest_addr(GUEST_TABLES), 47, INDIRECT);
	assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_INDIRECT);
	desc(f, 0, guest_addr(GUEST_TABLES), 48, INDIRECT | NEXT);
	assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_INDIRECT);
	desc(f, 0, guest_addr(GUEST_TABLES), 48, INDIRECT);
	f->walk.indirect = false;
	assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_INDIRECT);
}

/* More buffers than a chain may have, in a ring that takes them: lost, and skipped in full. */
static void test_long(void **state)
{
	struct fixture *f = *state;

	f->ring.size = 2000;
	for (unsigned int i = 0; i < 1500; i++)
		desc(f, i, guest_addr(GUEST_DATA), 10, i < 1499 ? NEXT : 0);
	assert_int_equal(fetch(f, 0x8000, CHAIN_PIECES_MAX), CHAIN_LENGTH);
	assert_int_equal(f->extent.slots, 1500);
	assert_int_equal(f->extent.id, 1599);
}

/* A driver and a device over one ring, and what is true of both. */
struct model {
	struct vring_packed *ring;
	uint16_t driver, device;
	unsigned int slots[64]; /* of the chains that are out, oldest first */
	unsigned int chains;
	unsigned int free;
};

static void model_post(struct model *m, unsigned int slots)
{
	for (unsigned int i = 0; i < slots; i++) {
		struct vring_packed_desc *slot = &m->ring->desc[vring_packed_index(m->driver)];
		uint16_t flags = vring_packed_avail_flags(m->driver) | (i + 1 < slots ? NEXT : 0);

		*slot = (struct vring_packed_desc){.addr = 1, .len = 77, .id = (uint16_t)slots, .flags = flags};
		m->driver = vring_packed_advance(m->driver, 1, m->ring->size);
	}
	m->slots[m->chains++] = slots;
	m->free -= slots;
}

/* Gives n chains back; the first one is not made visible if cut is set: the device dies there. */
static void model_use(struct model *m, unsigned int n, bool cut)
{
	uint16_t at = m->device;

	for (unsigned int i = 0; i < n; i++) {
		struct chain_extent extent = {.slots = (uint16_t)m->slots[i], .id = 5};

		if (i > 0 || !cut)
			chain_packed_use(m->ring, at, extent, 33, true);
		at = vring_packed_advance(at, m->slots[i], m->ring->size);
		m->free += m->slots[i];
	}
	m->device = at;
	m->chains -= n;
	memmove(m->slots, m->slots + n, m->chains * sizeof(m->slots[0]));
}

static void test_recover(void **state)
{
	struct fixture *f = *state;
	unsigned int seed = 11;

	for (unsigned int round = 0; round < 3000; round++) {
		struct model m = {.ring = &f->ring, .driver = VRING_PACKED_START, .device = VRING_PACKED_START};

		f->ring.size = (uint16_t)(1 + round % 23);
		memset(f->ring.desc, 0, vring_packed_desc_bytes(f->ring.size));
		m.free = f->ring.size;
		for (unsigned int step = 0; step < (unsigned int)rand_r(&seed) % 60; step++) {
			uint16_t before = m.device;
			unsigned int n;
			bool cut;

			while (m.free > 0 && rand_r(&seed) % 4)
				model_post(&m, 1 + (unsigned int)rand_r(&seed) % min(m.free, 3u));
			/* Whatever is said: most often it is where the ring began. */
			assert_int_equal(chain_packed_recover(&f->ring, VRING_PACKED_START), m.device);
			n = m.chains ? (unsigned int)rand_r(&seed) % (m.chains + 1) : 0;
			/* Cut off, it shows only if something behind the first was written. */
			cut = n > 1 && rand_r(&seed) % 3 == 0;
			model_use(&m, n, cut);
			assert_int_equal(chain_packed_recover(&f->ring, cut ? before : 0), m.device);
			if (!cut)
				continue;
			/* All of it is the driver's now, empty. */
			while (before != m.device) {
				struct vring_packed_desc *slot = &f->ring.desc[vring_packed_index(before)];

				assert_true(vring_packed_is_used(slot->flags, before));
				assert_int_not_equal(slot->len, 33);
				before = vring_packed_advance(before, 1, f->ring.size);
			}
		}
	}
}

/* Another kind of device wrote the first descriptor of each chain only: then what is said counts. */
static void test_recover_foreign(void **state)
{
	struct fixture *f = *state;
	struct model m = {.ring = &f->ring, .driver = VRING_PACKED_START, .device = VRING_PACKED_START, .free = 16};

	f->ring.size = 16;
	memset(f->ring.desc, 0, vring_packed_desc_bytes(16));
	for (unsigned int i = 0; i < 5; i++)
		model_post(&m, 3);
	for (unsigned int i = 0; i < 3; i++)
		f->ring.desc[3 * i].flags = VRING_PACKED_AVAIL | VRING_PACKED_USED;
	assert_int_equal(chain_packed_recover(&f->ring, 0x8009), 0x8009);
	/* Nonsense of any kind stays within the ring. */
	for (unsigned int i = 0; i < 16; i++)
		f->ring.desc[i].flags = i % 2 ? VRING_PACKED_AVAIL : VRING_PACKED_USED;
	assert_int_equal(chain_packed_recover(&f->ring, 0x0003), 0x0003);
}

/* The first descriptor of a batch is not written yet: what is said and true is not doubted for it. */
static void test_recover_under_driver(void **state)
{
	struct fixture *f = *state;

	for (unsigned int size = 2; size < 20; size++) {
		for (unsigned int start = 0; start < size; start++) {
			struct model m = {.ring = &f->ring, .driver = VRING_PACKED_START, .device = VRING_PACKED_START};
			struct vring_packed_desc *first;

			f->ring.size = (uint16_t)size;
			memset(f->ring.desc, 0, vring_packed_desc_bytes(size));
			for (unsigned int i = 0; i < start; i++) {
				model_post(&m, 1);
				model_use(&m, 1, false);
			}
			first = &f->ring.desc[vring_packed_index(m.driver)];
			for (unsigned int i = 0; i < size; i++) {
				uint16_t before = first->flags;

				model_post(&m, 1);
				if (i == 0)
					first->flags = before;
				assert_int_equal(chain_packed_recover(&f->ring, m.device), m.device);
			}
		}
	}
}

/* A driver that goes on while the ring is read, as fast as it can or slower. */
struct busy_driver {
	struct model *m;
	unsigned int posts, pause;
	uint32_t begin, done; /* atomic: rounds */
	bool stop;            /* atomic */
};

static void *drive(void *arg)
{
	struct busy_driver *driver = arg;
	uint32_t round = 0;

	while (!load_acquire(&driver->stop)) {
		struct model *m = driver->m;

		if (load_acquire(&driver->begin) == round) {
			sched_yield();
			continue;
		}
		for (unsigned int i = 0; i < driver->posts; i++) {
			vring_packed_word *word = vring_packed_word_at(m->ring, vring_packed_index(m->driver));

			store_release(word, vring_packed_word_of(77, 1, vring_packed_avail_flags(m->driver)));
			m->driver = vring_packed_advance(m->driver, 1, m->ring->size);
			for (unsigned int n = 0; n < driver->pause; n++)
				cpu_relax();
		}
		store_release(&driver->done, ++round);
	}
	return NULL;
}

static void use_one(struct model *m)
{
	chain_packed_use(m->ring, m->device, (struct chain_extent){.slots = 1, .id = 1}, 33, true);
	m->device = vring_packed_advance(m->device, 1, m->ring->size);
}

/* Neither what is true nor what is long past makes us believe what a ring never said at any one moment. */
static void test_recover_while_driven(void **state)
{
	struct fixture *f = *state;
	struct model m = {.ring = &f->ring};
	struct busy_driver driver = {.m = &m};
	pthread_t thread;
	unsigned int seed = 5;

	f->ring.size = 256;
	assert_int_equal(pthread_create(&thread, NULL, drive, &driver), 0);
	for (unsigned int round = 0; round < 4000; round++) {
		const unsigned int start = 1 + (unsigned int)rand_r(&seed) % 255,
				   out = (unsigned int)rand_r(&seed) % 128;
		uint16_t said, found;

		memset(f->ring.desc, 0, vring_packed_desc_bytes(f->ring.size));
		m.driver = m.device = VRING_PACKED_START;
		for (unsigned int i = 0; i < start + out; i++) {
			m.chains = 0;
			model_post(&m, 1);
			if (i >= out)
				use_one(&m);
		}
		said = round % 2 ? m.device : VRING_PACKED_START;
		driver.posts = 256 - out;
		driver.pause = (unsigned int)rand_r(&seed) % 8;
		store_release(&driver.begin, round + 1);
		for (unsigned int n = (unsigned int)rand_r(&seed) % 512; n > 0; n--)
			cpu_relax();
		found = chain_packed_recover(&f->ring, said);
		while (load_acquire(&driver.done) != round + 1)
			sched_yield();
		assert_int_equal(found, m.device);
		/* Nothing that the driver wrote was taken for the rest of a publication. */
		for (unsigned int i = 0; i < 256; i++)
			assert_int_equal(f->ring.desc[i].len, 77);
	}
	store_release(&driver.stop, true);
	pthread_join(thread, NULL);
}

static void test_events(void **state)
{
	struct fixture *f = *state;
	const unsigned int size = f->ring.size;

	vring_packed_event_store(f->ring.driver, vring_packed_event_of(0, VRING_PACKED_EVENT_FLAG_ENABLE));
	assert_true(vring_packed_event_due(f->ring.driver, true, 0x8003, 1, size));
	assert_false(vring_packed_event_due(f->ring.driver, true, 0x8003, 0, size));
	vring_packed_event_store(f->ring.driver, vring_packed_event_of(0, VRING_PACKED_EVENT_FLAG_DISABLE));
	assert_false(vring_packed_event_due(f->ring.driver, true, 0x8003, 1, size));
	/* One position: passed by those that end behind it and began at it or before. */
	for (unsigned int event = 0; event < 2 * size; event++) {
		uint16_t wanted = vring_packed_advance(VRING_PACKED_START, event % size, size);

		if (event >= size)
			wanted ^= VRING_PACKED_WRAP;
		vring_packed_event_store(f->ring.driver, vring_packed_event_of(wanted, VRING_PACKED_EVENT_FLAG_DESC));
		for (unsigned int count = 1; count < 2 * size; count++) {
			for (unsigned int start = 0; start < 2 * size; start++) {
				uint16_t end = VRING_PACKED_START;
				bool passes = (event + 2 * size - start) % (2 * size) < count;

				for (unsigned int i = 0; i < start + count; i++)
					end = vring_packed_advance(end, 1, size);
				assert_int_equal(vring_packed_event_due(f->ring.driver, true, end, count, size),
						 passes);
			}
		}
	}
}

#define chain_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		chain_test(test_positions),
		chain_test(test_direct),
		chain_test(test_bad_buffers),
		chain_test(test_indirect),
		chain_test(test_long),
		chain_test(test_recover),
		chain_test(test_recover_foreign),
		chain_test(test_recover_under_driver),
		chain_test(test_recover_while_driven),
		chain_test(test_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
