/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The statistics segment as the core writes it and anybody reads it, and the one list of drop reasons that feeds it.
 */
#include "unit.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "core/statistics.h"
#include "proto/stats_reader.h"

#define THREADS 3

struct fixture {
	char dir[64];
	struct statistics stats;
	struct stats_reader reader;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_non_null(unit_temporary_dir(f->dir));
	assert_int_equal(statistics_create(&f->stats, f->dir, THREADS, 4711), 0);
	assert_int_equal(stats_reader_open(&f->reader, f->dir), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char path[128];

	stats_reader_close(&f->reader);
	statistics_close(&f->stats);
	snprintf(path, sizeof(path), "%s/%s", f->dir, STATS_FILE_NAME);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static void describes_itself(void **state)
{
	const struct fixture *f = *state;
	const struct stats_header *header = f->reader.header;

	assert_int_equal(header->magic, STATS_MAGIC);
	assert_int_equal(header->workers, THREADS);
	assert_int_equal(header->ports_max, DP_PORTS_MAX);
	assert_int_equal(header->drops, DROP_COUNT);
	assert_int_equal(header->pid, getpid());
	assert_int_equal(header->instance, 4711);
	/* Nobody's counters share a cache line with another's, and nothing overlaps. */
	assert_int_equal(header->directory_offset % CACHE_LINE, 0);
	assert_int_equal(header->workers_offset % CACHE_LINE, 0);
	assert_int_equal(header->ports_offset % CACHE_LINE, 0);
	assert_true(header->directory_offset >= sizeof(*header));
	assert_true(header->workers_offset >= header->directory_offset + DP_PORTS_MAX * sizeof(struct stats_directory));
	assert_true(header->ports_offset >= header->workers_offset + THREADS * sizeof(struct stats_worker));
	assert_true(header->size >= header->ports_offset + THREADS * DP_PORTS_MAX * sizeof(struct stats_port));
	assert_int_equal(sizeof(struct stats_port) % CACHE_LINE, 0);
	assert_int_equal(sizeof(struct stats_worker) % CACHE_LINE, 0);
	assert_int_equal(sizeof(struct stats_directory) % CACHE_LINE, 0);
	for (unsigned int i = 0; i < DROP_COUNT; i++) {
		char name[24];

		stats_reader_drop_name(&f->reader, i, name);
		assert_string_equal(name, drop_name((enum drop_reason)i));
	}
}

/* Each thread's block is the thread's own; a reader sums. */
static void blocks_add_up(void **state)
{
	struct fixture *f = *state;
	struct stats_worker total;
	struct stats_port sum;

	for (uint32_t thread = 0; thread < THREADS; thread++) {
		for (uint32_t port = 0; port < DP_PORTS_MAX; port += 341) {
			struct stats_port *block = &f->stats.ports[thread * DP_PORTS_MAX + port];

			stats_add(&block->in_packets, thread + 1);
			stats_add(&block->drops[DROP_COUNT - 1], port + 1);
		}
		stats_add(&f->stats.workers[thread].turns, 10 + thread);
	}
	for (uint32_t port = 0; port < DP_PORTS_MAX; port += 341) {
		stats_reader_port(&f->reader, port, &sum);
		assert_int_equal(sum.in_packets, 1 + 2 + 3);
		assert_int_equal(sum.drops[DROP_COUNT - 1], THREADS * (port + 1));
		assert_int_equal(sum.out_packets, 0);
	}
	stats_reader_total(&f->reader, &total);
	assert_int_equal(total.turns, 10 + 11 + 12);
}

static void ports_come_and_go(void **state)
{
	struct fixture *f = *state;
	struct stats_directory entry;
	struct stats_port sum;

	assert_int_equal(stats_reader_directory(&f->reader, 5, &entry), -ENOENT);
	statistics_port(&f->stats, 5, "a-long-name", DP_PORT_DOWN);
	assert_int_equal(stats_reader_directory(&f->reader, 5, &entry), 0);
	assert_string_equal(entry.name, "a-long-name");
	assert_int_equal(entry.state, DP_PORT_DOWN);
	stats_add(&f->stats.ports[5].in_packets, 7);
	/* Its state changes, its counters do not. */
	statistics_port(&f->stats, 5, "a-long-name", DP_PORT_UP);
	assert_int_equal(stats_reader_directory(&f->reader, 5, &entry), 0);
	assert_int_equal(entry.state, DP_PORT_UP);
	stats_reader_port(&f->reader, 5, &sum);
	assert_int_equal(sum.in_packets, 7);
	statistics_port(&f->stats, 5, NULL, DP_PORT_DOWN);
	assert_int_equal(stats_reader_directory(&f->reader, 5, &entry), -ENOENT);
	stats_reader_port(&f->reader, 5, &sum);
	assert_int_equal(sum.in_packets, 0);
	/* A straggler's loss is not the next one's. */
	stats_add(&f->stats.ports[DP_PORTS_MAX + 5].drops[DROP_OUT_DOWN], 3);
	statistics_port(&f->stats, 5, "b", DP_PORT_DOWN);
	assert_int_equal(stats_reader_directory(&f->reader, 5, &entry), 0);
	assert_string_equal(entry.name, "b");
	stats_reader_port(&f->reader, 5, &sum);
	assert_int_equal(sum.drops[DROP_OUT_DOWN], 0);
}

static void every_drop_has_its_name(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < DROP_COUNT; i++) {
		const char *name = drop_name((enum drop_reason)i), *text = drop_text((enum drop_reason)i);

		assert_in_range(strlen(name), 1, sizeof(((struct stats_header *)NULL)->drop_names[0]) - 1);
		for (const char *at = name; *at; at++)
			assert_true(islower((unsigned char)*at) || *at == '-');
		assert_true(strlen(text) > 10);
		for (unsigned int j = 0; j < i; j++) {
			assert_string_not_equal(name, drop_name((enum drop_reason)j));
			assert_string_not_equal(text, drop_text((enum drop_reason)j));
		}
	}
	assert_string_equal(drop_name(DROP_COUNT), "unknown");
	assert_string_equal(drop_text((enum drop_reason)1000), "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(describes_itself),
		TEST(blocks_add_up),
		TEST(ports_come_and_go),
		cmocka_unit_test(every_drop_has_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
