/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Internet checksum: published examples, and the fast sum against the slow one over every size
 * and alignment that matters and over random splits.
 */
#include "unit.h"

#include "datapath/checksum.h"
#include "frame.h"

static uint32_t seed = 1;

static uint32_t random_below(uint32_t bound)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)seed * bound >> 32);
}

/* Sums are numbers modulo 65535: 0 and 0xffff are the same. */
static void assert_sum(uint64_t sum, uint32_t expected)
{
	assert_int_equal(ntohs(checksum_fold(sum)) % 0xffff, expected % 0xffff);
}

static void rfc1071_example(void **state)
{
	static const uint8_t data[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	(void)state;
	assert_int_equal(ntohs(checksum_fold(checksum_add(0, data, sizeof(data), 0))), 0xddf2);
}

static void ipv4_header_example(void **state)
{
	static const uint8_t data[] = {0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
				       0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7};

	(void)state;
	assert_int_equal(ntohs(checksum_finish(checksum_add(0, data, sizeof(data), 0))), 0xb861);
}

static void fold_of_extremes(void **state)
{
	(void)state;
	assert_int_equal(checksum_fold(0), 0);
	assert_int_equal(checksum_fold(UINT64_MAX), 0xffff);
	assert_int_equal(checksum_fold(0xffff), 0xffff);
	assert_int_equal(checksum_fold(0x10000), 1);
	assert_int_equal(checksum_fold(0xffffffff0000), 0xffff);
	assert_int_equal(checksum_fold(0x1ffffffffffff), 1);
	assert_int_equal(checksum_join(UINT64_MAX, 1), 1);
	assert_int_equal(checksum_join(UINT64_MAX, UINT64_MAX), UINT64_MAX);
}

static void finish_is_never_zero(void **state)
{
	(void)state;
	assert_int_equal(checksum_finish(0xffff), 0xffff);
	assert_int_equal(checksum_finish(0), 0xffff);
	assert_int_equal(checksum_finish(0x1234), 0xedcb);
}

static void every_size_and_alignment(void **state)
{
	uint8_t *area = malloc(512 + 64);
	uint8_t copy[512];

	(void)state;
	for (unsigned int i = 0; i < 512 + 64; i++)
		area[i] = (uint8_t)random_below(256);
	for (unsigned int size = 0; size < 300; size++) {
		for (unsigned int at = 0; at < 17; at++) {
			uint8_t *data = malloc(size);
			uint32_t expected = frame_sum(0, area + at, size);

			memcpy(data, area + at, size);
			assert_sum(checksum_add(0, area + at, size, 0), expected);
			assert_sum(checksum_add(0, data, size, 0), expected);
			memset(copy, 0x5a, sizeof(copy));
			assert_sum(checksum_copy(0, copy + at, data, size, 0), expected);
			assert_memory_equal(copy + at, data, size);
			assert_int_equal(copy[at + size], 0x5a);
			if (at > 0)
				assert_int_equal(copy[at - 1], 0x5a);
			free(data);
		}
	}
	free(area);
}

static void all_ones_do_not_overflow(void **state)
{
	size_t size = 1 << 20;
	uint8_t *data = malloc(size);

	(void)state;
	memset(data, 0xff, size);
	assert_int_equal(checksum_fold(checksum_add(0, data, size, 0)), 0xffff);
	assert_int_equal(checksum_fold(checksum_add(UINT64_MAX, data, size, 1)), 0xffff);
	assert_int_equal(checksum_fold(checksum_add(UINT64_MAX - 3, data, size, 0)), checksum_fold(UINT64_MAX - 3));
	free(data);
}

static void random_splits(void **state)
{
	uint32_t size = 70000;
	uint8_t *data = malloc(size), *copy = malloc(size);

	(void)state;
	for (uint32_t i = 0; i < size; i++)
		data[i] = (uint8_t)random_below(256);
	for (unsigned int round = 0; round < 200; round++) {
		uint32_t length = 1 + random_below(round % 4 ? 3000 : size);
		uint32_t longest = 1 + random_below(length);
		uint64_t added = 0, copied = 0;

		memset(copy, 0, length);
		for (uint32_t at = 0; at < length;) {
			uint32_t piece = min(random_below(longest + 1), length - at);

			added = checksum_add(added, data + at, piece, at & 1);
			copied = checksum_copy(copied, copy + at, data + at, piece, at & 1);
			at += piece;
		}
		assert_sum(added, frame_sum(0, data, length));
		assert_sum(copied, frame_sum(0, data, length));
		assert_memory_equal(copy, data, length);
	}
	free(copy);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc1071_example),
		cmocka_unit_test(ipv4_header_example),
		cmocka_unit_test(fold_of_extremes),
		cmocka_unit_test(finish_is_never_zero),
		cmocka_unit_test(every_size_and_alignment),
		cmocka_unit_test(all_ones_do_not_overflow),
		cmocka_unit_test(random_splits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
