/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Internet checksum (RFC 1071), accumulated in pieces. A running sum is a uint64_t of any
 * value, 0 to begin with; pieces may have any size and alignment and begin at odd offsets. Pure
 * functions, any thread; they cannot fail.
 */
#ifndef LASTHOP_DATAPATH_CHECKSUM_H
#define LASTHOP_DATAPATH_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* sum plus the bytes at data, which begin at an even (odd = 0) or odd (1) offset of the summed
 * area. */
uint64_t checksum_add(uint64_t sum, const void *data, size_t size, int odd);

/*
 * The same, and copies the bytes to dst, which may not overlap src. What is summed is what arrived
 * at dst: a sender that rewrites its packet meanwhile spoils nothing but its own checksum.
 */
uint64_t checksum_copy(uint64_t sum, void *dst, const void *src, size_t size, int odd);

/* sum plus another running sum (of an area that began at an even offset) or a word as it stands in
 * memory. */
static inline uint64_t checksum_join(uint64_t sum, uint64_t other)
{
	sum += other;
	return sum + (sum < other);
}

/* Folds to 16 bits, not inverted, in network byte order as it stands in memory. */
static inline uint16_t checksum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/*
 * What to write into a TCP, UDP or other checksum field, given the sum of all that it covers. Never
 * 0: UDP takes that for "no checksum", and everybody else takes 0xffff for the same number.
 */
static inline uint16_t checksum_finish(uint64_t sum)
{
	uint16_t value = (uint16_t)~checksum_fold(sum);

	return value ? value : 0xffff;
}

#endif
