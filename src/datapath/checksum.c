/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Internet checksum is a sum modulo 65535, in which 2^16, 2^32 and 2^64 all count as 1. So
 * words of any width may be added up, as they stand in memory and in the machine's own byte order,
 * and folded once at the end; and an area that begins at an odd offset counts 2^8 times its sum,
 * which is a rotation.
 *
 * The bulk is added as 32-bit halves into 64-bit lanes: no carry can be lost before 2^32 additions,
 * which leaves nothing in the loop that a vector unit could not do. Copying goes in blocks that
 * stay in the first-level cache, each copied by memcpy() and then summed where it arrived: faster
 * than one loop that does both.
 */
#include "datapath/checksum.h"

#include <string.h>

#define COPY_BLOCK 2048 /* bytes; even, and with its copy well within a first-level cache */

typedef uint64_t lanes __attribute__((vector_size(16)));

static uint64_t sum_even(const uint8_t *data, size_t size)
{
	lanes a = {0}, b = {0}, c = {0}, d = {0};
	uint64_t sum = 0;

	if (size >= 32) {
		do {
			lanes words[2];

			memcpy(words, data, sizeof(words));
			a += words[0] & 0xffffffff;
			b += words[0] >> 32;
			c += words[1] & 0xffffffff;
			d += words[1] >> 32;
			data += sizeof(words);
			size -= sizeof(words);
		} while (size >= 32);
		a += b + c + d;
		sum = a[0] + a[1];
	}
	while (size >= 4) {
		uint32_t word;

		memcpy(&word, data, sizeof(word));
		sum += word;
		data += sizeof(word);
		size -= sizeof(word);
	}
	if (size > 0) {
		uint8_t last[4] = {data[0], size > 1 ? data[1] : 0, size > 2 ? data[2] : 0, 0};
		uint32_t word;

		memcpy(&word, last, sizeof(word));
		sum += word;
	}
	return sum;
}

uint64_t checksum_add(uint64_t sum, const void *data, size_t size, int odd)
{
	uint64_t more = sum_even(data, size);

	if (odd)
		more = more << 8 | more >> 56;
	return checksum_join(sum, more);
}

uint64_t checksum_copy(uint64_t sum, void *dst, const void *src, size_t size, int odd)
{
	const uint8_t *from = src;
	uint8_t *to = dst;

	while (size > 0) {
		size_t block = size < COPY_BLOCK ? size : COPY_BLOCK;

		memcpy(to, from, block);
		sum = checksum_add(sum, to, block, odd);
		to += block;
		from += block;
		size -= block;
	}
	return sum;
}
