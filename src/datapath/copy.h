/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Copies into and out of guest memory. Short ones are done with overlapping moves of fixed size, without a
 * call and without a loop; long ones are left to the C library, which knows the processor.
 *
 * Source or destination may be written by a guest at the same time: what arrives is then any mixture, but
 * nothing here takes a decision by what it reads.
 */
#ifndef LASTHOP_DATAPATH_COPY_H
#define LASTHOP_DATAPATH_COPY_H

#include <stdint.h>
#include <string.h>

#include "lib/compiler.h"

#define COPY_SHORT_MAX 128

static force_inline void copy_fixed(void *dst, const void *src, size_t size)
{
	__builtin_memcpy(dst, src, size);
}

/* size is at most COPY_SHORT_MAX. */
static force_inline void copy_short(void *dst, const void *src, size_t size)
{
	uint8_t *to = dst;
	const uint8_t *from = src;

	if (size >= 64) {
		copy_fixed(to, from, 64);
		if (size > 96)
			copy_fixed(to + size - 64, from + size - 64, 64);
		else if (size > 80)
			copy_fixed(to + size - 32, from + size - 32, 32);
		else
			copy_fixed(to + size - 16, from + size - 16, 16);
	} else if (size >= 32) {
		copy_fixed(to, from, 32);
		copy_fixed(to + size - 32, from + size - 32, 32);
	} else if (size >= 16) {
		copy_fixed(to, from, 16);
		copy_fixed(to + size - 16, from + size - 16, 16);
	} else if (size >= 8) {
		copy_fixed(to, from, 8);
		copy_fixed(to + size - 8, from + size - 8, 8);
	} else if (size >= 4) {
		copy_fixed(to, from, 4);
		copy_fixed(to + size - 4, from + size - 4, 4);
	} else {
		for (size_t i = 0; i < size; i++)
			to[i] = from[i];
	}
}

static force_inline void copy_bytes(void *dst, const void *src, size_t size)
{
	if (size <= COPY_SHORT_MAX)
		copy_short(dst, src, size);
	else
		memcpy(dst, src, size);
}

#endif
