/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The walk: descriptors of a chain follow each other in the ring, so there is no index to check, and a loop is a chain
 * as long as the ring. The last one's buffer id counts.
 *
 * Recovery: if what is said can be true, it is. Else each descriptor says in AVAIL in which lap the driver wrote it (a
 * used one repeats that), so the driver is where AVAIL changes. Going back from there over one lap, a descriptor with
 * AVAIL and USED alike has been used, and one where they differ has not, because chain_packed_use() leaves none of a
 * used chain behind. The oldest of these is where the device was. A publication writes its first descriptor last; if
 * that is missing, used ones follow an unused one, in one run. More runs than one are another device's: it may leave
 * the rest of each used chain as it was.
 */
#include "vhost/chain_packed.h"

/* Descriptors that recovery looks at while it waits for the driver to stand still. */
#define LOOKS_MAX (1U << 18)

static struct vring_packed_desc fetch_indirect(const uint8_t *table, unsigned int index)
{
	const struct vring_desc *shared = (const struct vring_desc *)(const void *)table;
	/* Same place and size, and it need not be aligned; the last two members are called otherwise. */
	struct vring_desc desc = vring_desc_fetch(&shared[index]);

	return (struct vring_packed_desc){.addr = desc.addr, .len = desc.len, .id = desc.flags, .flags = desc.next};
}

/* All of an indirect table. Of its flags only VRING_DESC_F_WRITE means anything. */
static enum chain_verdict walk_indirect(struct chain_walk *walk, const struct vring_packed_desc *desc,
					struct chain_piece *pieces, unsigned int room, unsigned int *count)
{
	unsigned int size = desc->len / sizeof(struct vring_packed_desc);
	const uint8_t *table;

	if (!walk->indirect || (desc->flags & VRING_DESC_F_NEXT) || size == 0 ||
	    desc->len % sizeof(struct vring_packed_desc) != 0 || size > VRING_SIZE_MAX)
		return CHAIN_INDIRECT;
	table = guest_memory_translate(walk->memory, desc->addr, desc->len, &walk->hint);
	if (!table)
		return CHAIN_UNMAPPED;
	if (size > CHAIN_PIECES_MAX)
		return CHAIN_LENGTH;
	for (unsigned int i = 0; i < size; i++) {
		struct vring_packed_desc entry = fetch_indirect(table, i);
		enum chain_verdict step = chain_add(walk, entry.addr, entry.len, entry.flags & VRING_DESC_F_WRITE,
						    pieces, room, count);

		if (step != CHAIN_OK)
			return step;
	}
	return CHAIN_OK;
}

enum chain_verdict chain_packed_fetch(struct chain_walk *walk, const struct vring_packed *ring, uint16_t position,
				      const struct vring_packed_desc *first, struct chain_piece *pieces,
				      unsigned int room, unsigned int *count, struct chain_extent *extent)
{
	enum chain_verdict verdict = CHAIN_OK;
	struct vring_packed_desc desc = *first;
	unsigned int slots = 1;

	*count = 0;
	walk->readable = 0;
	for (;; slots++) {
		enum chain_verdict step;

		if (desc.flags & VRING_DESC_F_INDIRECT)
			step = walk_indirect(walk, &desc, pieces, room, count);
		else if (slots <= CHAIN_PIECES_MAX)
			step = chain_add(walk, desc.addr, desc.len, desc.flags & VRING_DESC_F_WRITE, pieces, room,
					 count);
		else
			step = CHAIN_LENGTH;
		if (step >= CHAIN_BROKEN)
			return step;
		if (verdict == CHAIN_OK)
			verdict = step;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			break;
		if (slots == ring->size)
			return CHAIN_LOOP;
		position = vring_packed_advance(position, 1, ring->size);
		desc = vring_packed_fetch(ring, vring_packed_index(position));
	}
	*extent = (struct chain_extent){.slots = (uint16_t)slots, .id = desc.id};
	return verdict;
}

static void mark_rest(const struct vring_packed *ring, uint16_t position, unsigned int slots)
{
	for (unsigned int i = 1; i < slots; i++) {
		uint16_t *flags, now;

		position = vring_packed_advance(position, 1, ring->size);
		flags = &ring->desc[vring_packed_index(position)].flags;
		now = load_relaxed(flags) & (uint16_t) ~(VRING_PACKED_AVAIL | VRING_PACKED_USED);
		store_relaxed(flags, now | vring_packed_used_flags(position));
	}
}

void chain_packed_use(const struct vring_packed *ring, uint16_t position, struct chain_extent extent, uint32_t length,
		      bool writable)
{
	uint16_t flags = vring_packed_used_flags(position) | (writable ? VRING_DESC_F_WRITE : 0);

	if (unlikely(extent.slots > 1))
		mark_rest(ring, position, extent.slots);
	store_release(vring_packed_word_at(ring, vring_packed_index(position)),
		      vring_packed_word_of(length, extent.id, flags));
}

static bool avail_bit(const struct vring_packed *ring, unsigned int index)
{
	return vring_packed_flags(ring, index) & VRING_PACKED_AVAIL;
}

/* Where the driver makes the next descriptor available. False: it has changed its lap more than once, or is at it. */
static bool find_driver(const struct vring_packed *ring, uint16_t *position)
{
	const bool lap = avail_bit(ring, 0);
	unsigned int index = 1;

	while (index < ring->size && avail_bit(ring, index) == lap)
		index++;
	if (index == ring->size) {
		*position = lap ? 0 : VRING_PACKED_WRAP;
		return true;
	}
	*position = (uint16_t)(index | (lap ? VRING_PACKED_WRAP : 0));
	while (index < ring->size && avail_bit(ring, index) != lap)
		index++;
	return index == ring->size;
}

/* Counts, from `driver` back over a lap: descriptors up to the oldest unused one, and runs of used ones among them. */
static unsigned int find_oldest(const struct vring_packed *ring, uint16_t driver, unsigned int *runs)
{
	unsigned int oldest = 0, found = 0;
	bool before_used = false;

	*runs = 0;
	for (unsigned int back = 1; back <= ring->size; back++) {
		unsigned int index = (vring_packed_index(driver) + ring->size - back) % ring->size;
		uint16_t flags = vring_packed_flags(ring, index);
		bool used = !(flags & VRING_PACKED_AVAIL) == !(flags & VRING_PACKED_USED);

		found += used && !before_used;
		if (!used) {
			oldest = back;
			*runs = found;
		}
		before_used = used;
	}
	return oldest;
}

/* Of the chain at position, which is no longer than left. */
static struct chain_extent extent_at(const struct vring_packed *ring, uint16_t position, unsigned int left)
{
	struct vring_packed_desc desc = vring_packed_fetch(ring, vring_packed_index(position));
	unsigned int slots = 1;

	for (; (desc.flags & VRING_DESC_F_NEXT) && slots < left; slots++) {
		position = vring_packed_advance(position, 1, ring->size);
		desc = vring_packed_fetch(ring, vring_packed_index(position));
	}
	return (struct chain_extent){.slots = (uint16_t)slots, .id = desc.id};
}

static bool is_avail_at(const struct vring_packed *ring, uint16_t position)
{
	return vring_packed_is_avail(vring_packed_flags(ring, vring_packed_index(position)), position);
}

/* Position is where unused ones begin, `left` from the driver's. Returns where the run of used ones behind them ends.
 */
static uint16_t complete_publication(const struct vring_packed *ring, uint16_t position, unsigned int left)
{
	unsigned int unused = 0;
	uint16_t at = position;

	while (unused < left && is_avail_at(ring, at)) {
		struct chain_extent extent = extent_at(ring, at, left - unused);

		unused += extent.slots;
		at = vring_packed_advance(at, extent.slots, ring->size);
	}
	/* What follows a buffer that was never filled may be half a frame: the driver shall not take it for one. */
	for (left -= unused; left > 0 && !is_avail_at(ring, at); left--) {
		store_relaxed(&ring->desc[vring_packed_index(at)].len, 0);
		at = vring_packed_advance(at, 1, ring->size);
	}
	while (unused > 0) {
		struct chain_extent extent = extent_at(ring, position, unused);

		chain_packed_use(ring, position, extent, 0, false);
		position = vring_packed_advance(position, extent.slots, ring->size);
		unused -= extent.slots;
	}
	return at;
}

/*
 * Whether a device that goes on at position finds what it must: over the lap to come what is available in that lap, and
 * then what was used in the one before; or, where the driver writes a batch just now, one gap in what is available.
 */
static bool is_possible(const struct vring_packed *ring, uint16_t position)
{
	unsigned int gap = 0, gaps = 0;

	for (unsigned int i = 0; i < ring->size; i++) {
		uint16_t flags = vring_packed_flags(ring, vring_packed_index(position));

		if (vring_packed_is_avail(flags, position)) {
			gaps += gap;
			gap = 0;
		} else if (vring_packed_is_used(flags, position ^ VRING_PACKED_WRAP)) {
			gap++;
		} else {
			return false;
		}
		position = vring_packed_advance(position, 1, ring->size);
	}
	return gaps <= 1;
}

uint16_t chain_packed_recover(const struct vring_packed *ring, uint16_t said)
{
	unsigned int runs, oldest;
	uint16_t driver, now, position;

	/*
	 * The driver may go on meanwhile, and what is read of two moments was never there: a lap of new descriptors
	 * looks like the rest of a publication. So the driver is looked for again. It stops when it has filled the
	 * ring, because nobody gives it anything back; and a batch whose first descriptor is still to be written is
	 * complete soon.
	 */
	for (unsigned int looked = 0;; looked += ring->size) {
		bool found = find_driver(ring, &driver);

		if (is_possible(ring, said) || looked >= LOOKS_MAX)
			return said;
		oldest = find_oldest(ring, driver, &runs);
		if (found && find_driver(ring, &now) && now == driver)
			break;
		cpu_relax();
	}
	if (runs > 1)
		return said;
	/* One lap less `oldest` on from the driver's position of the lap before. */
	position = vring_packed_advance(driver ^ VRING_PACKED_WRAP, ring->size - oldest, ring->size);
	return runs ? complete_publication(ring, position, oldest) : position;
}
