/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A chain is walked with a budget of as many descriptors as its table has: whoever needs more is in a loop. Nor
 * are there more than the longest chain that could be used would take, so that a large ring buys no long walk.
 * A fault of one buffer (unmapped, wrong direction, no length) does not end the walk: a chain that is broken
 * later is a fault of the ring, and which of the two it is decides whether the queue goes on.
 */
#include "vhost/chain.h"

static const char *const verdict_names[CHAIN_VERDICTS] = {
	[CHAIN_OK] = "ok",
	[CHAIN_UNMAPPED] = "desc-unmapped",
	[CHAIN_DIRECTION] = "desc-direction",
	[CHAIN_LENGTH] = "desc-length",
	[CHAIN_HEAD] = "ring-head",
	[CHAIN_NEXT] = "ring-next",
	[CHAIN_LOOP] = "ring-loop",
	[CHAIN_INDIRECT] = "ring-indirect",
	[CHAIN_AVAIL] = "ring-avail",
};

const char *chain_verdict_name(enum chain_verdict verdict)
{
	return (unsigned int)verdict < CHAIN_VERDICTS ? verdict_names[verdict] : "unknown";
}

/* The table being walked: the ring's own, or an indirect one. */
struct table {
	const struct vring_desc *desc;
	unsigned int size;
	bool nested;
};

static enum chain_verdict enter_indirect(struct chain_walk *walk, const struct vring_desc *desc, struct table *table)
{
	unsigned int size = desc->len / sizeof(struct vring_desc);
	void *data;

	if (!walk->indirect || table->nested || (desc->flags & VRING_DESC_F_NEXT) || size == 0 ||
	    desc->len % sizeof(struct vring_desc) != 0 || size > VRING_SIZE_MAX)
		return CHAIN_INDIRECT;
	data = guest_memory_translate(walk->memory, desc->addr, desc->len, &walk->hint);
	if (!data)
		return CHAIN_UNMAPPED;
	table->desc = data;
	table->size = size;
	table->nested = true;
	return CHAIN_OK;
}

enum chain_verdict chain_add(struct chain_walk *walk, uint64_t addr, uint32_t length, bool writable,
			     struct chain_piece *pieces, unsigned int room, unsigned int *count)
{
	uint8_t *data;

	if (walk->mixed ? !writable && *count > walk->readable : writable != walk->writable)
		return CHAIN_DIRECTION;
	if (length == 0 || *count >= room)
		return CHAIN_LENGTH;
	data = guest_memory_translate(walk->memory, addr, length, &walk->hint);
	if (!data)
		return CHAIN_UNMAPPED;
	pieces[*count].data = data;
	pieces[*count].length = length;
	++*count;
	walk->readable += !writable;
	return CHAIN_OK;
}

enum chain_verdict chain_fetch(struct chain_walk *walk, uint16_t head, struct chain_piece *pieces, unsigned int room,
			       unsigned int *count)
{
	struct table table = {.desc = walk->ring->desc, .size = walk->ring->size};
	enum chain_verdict verdict = CHAIN_OK;
	unsigned int budget = min(table.size, (unsigned int)CHAIN_PIECES_MAX);
	unsigned int index = head;

	*count = 0;
	walk->readable = 0;
	if (head >= table.size)
		return CHAIN_HEAD;
	for (;;) {
		struct vring_desc desc = vring_desc_fetch(&table.desc[index]);
		enum chain_verdict step;

		if (desc.flags & VRING_DESC_F_INDIRECT) {
			step = enter_indirect(walk, &desc, &table);
			if (step != CHAIN_OK)
				return step;
			/* A table of its own size: an indirect chain may be longer than what is left of the ring. */
			budget = min(table.size, (unsigned int)CHAIN_PIECES_MAX);
			index = 0;
			continue;
		}
		step = chain_add(walk, desc.addr, desc.len, desc.flags & VRING_DESC_F_WRITE, pieces, room, count);
		if (verdict == CHAIN_OK)
			verdict = step;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return verdict;
		if (--budget == 0)
			return table.size <= CHAIN_PIECES_MAX ? CHAIN_LOOP
			       : verdict != CHAIN_OK          ? verdict
							      : CHAIN_LENGTH;
		index = desc.next;
		if (index >= table.size)
			return CHAIN_NEXT;
	}
}
