/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reader of the statistics segment: sums over the workers, and what it makes of segments that
 * are incomplete, of another version, or lie about their size.
 */
#include "unit.h"

#include "lib/shm.h"
#include "proto/stats_reader.h"

#include <errno.h>
#include <string.h>

#define PORTS   4
#define WORKERS 3

struct segment {
	struct stats_header header;
	struct stats_directory directory[PORTS];
	struct stats_worker workers[WORKERS];
	struct stats_port ports[WORKERS][PORTS];
};

static char dir[64];
static struct shm shm;
static struct segment *segment;

static int setup(void **state)
{
	(void)state;
	assert_non_null(unit_temporary_dir(dir));
	assert_int_equal(shm_create(&shm, dir, STATS_FILE_NAME, sizeof(*segment), 0644), 0);
	segment = shm.base;
	segment->header = (struct stats_header){
		.magic = STATS_MAGIC,
		.ports_max = PORTS,
		.workers = WORKERS,
		.drops = DROP_COUNT,
		.directory_offset = offsetof(struct segment, directory),
		.workers_offset = offsetof(struct segment, workers),
		.ports_offset = offsetof(struct segment, ports),
		.size = sizeof(*segment),
	};
	strcpy(segment->header.drop_names[DROP_OUT_FULL], "out-full");
	segment->directory[2] = (struct stats_directory){.sequence = 4, .used = 1, .name = "vm"};
	return 0;
}

static int teardown(void **state)
{
	char path[96];

	(void)state;
	shm_close(&shm);
	snprintf(path, sizeof(path), "%s/%s", dir, STATS_FILE_NAME);
	unlink(path);
	return rmdir(dir);
}

static void test_sums(void **state)
{
	struct stats_reader reader;
	struct stats_port port;
	struct stats_worker worker;
	char name[24];

	(void)state;
	assert_int_equal(stats_reader_open(&reader, dir), 0);
	for (unsigned int i = 0; i < WORKERS; i++) {
		stats_add(&segment->ports[i][2].in_packets, 10 + i);
		stats_add(&segment->ports[i][2].drops[DROP_OUT_FULL], 1);
		stats_add(&segment->workers[i].copied_bytes, 100 * i);
	}
	stats_reader_port(&reader, 2, &port);
	assert_int_equal(port.in_packets, 33);
	assert_int_equal(port.drops[DROP_OUT_FULL], 3);
	assert_int_equal(stats_field_value(&port, &stats_port_fields[0]), 33);
	assert_string_equal(stats_port_fields[0].name, "in_packets");
	stats_reader_port(&reader, 3, &port);
	assert_int_equal(port.in_packets, 0);
	stats_reader_port(&reader, PORTS, &port);
	assert_int_equal(port.in_packets, 0);
	stats_reader_total(&reader, &worker);
	assert_int_equal(worker.copied_bytes, 300);
	assert_int_equal(stats_reader_worker(&reader, 2, &worker), 0);
	assert_int_equal(worker.copied_bytes, 200);
	assert_int_equal(stats_reader_worker(&reader, WORKERS, &worker), -ENOENT);
	stats_reader_drop_name(&reader, DROP_OUT_FULL, name);
	assert_string_equal(name, "out-full");
	stats_reader_drop_name(&reader, DROP_COUNT, name);
	assert_string_equal(name, "");
	stats_reader_close(&reader);
}

static void test_directory(void **state)
{
	struct stats_reader reader;
	struct stats_directory entry;

	(void)state;
	assert_int_equal(stats_reader_open(&reader, dir), 0);
	assert_int_equal(stats_reader_directory(&reader, 2, &entry), 0);
	assert_string_equal(entry.name, "vm");
	assert_int_equal(stats_reader_directory(&reader, 1, &entry), -ENOENT);
	assert_int_equal(stats_reader_directory(&reader, PORTS, &entry), -ENOENT);
	/* Its writer died in the middle: nobody waits for ever. */
	segment->directory[2].sequence = 5;
	assert_int_equal(stats_reader_directory(&reader, 2, &entry), -EAGAIN);
	memset(segment->directory[1].name, 'x', sizeof(segment->directory[1].name));
	segment->directory[1].used = 1;
	assert_int_equal(stats_reader_directory(&reader, 1, &entry), 0);
	assert_int_equal(strlen(entry.name), DP_NAME_SIZE - 1);
	stats_reader_close(&reader);
}

static void refuse(int expected)
{
	struct stats_reader reader;

	assert_int_equal(stats_reader_open(&reader, dir), expected);
}

static void test_refused(void **state)
{
	char path[128];
	struct stats_header right = segment->header;

	(void)state;
	segment->header.magic = 0;
	refuse(-ENODATA);
	segment->header.magic = STATS_MAGIC + 1;
	refuse(-EPROTO);
	segment->header = right;
	segment->header.ports_max = DP_PORTS_MAX;
	refuse(-EPROTO);
	segment->header.ports_max = UINT32_MAX;
	refuse(-EPROTO);
	segment->header = right;
	segment->header.workers = WORKERS + 1;
	refuse(-EPROTO);
	segment->header = right;
	segment->header.drops = STATS_DROPS_MAX + 1;
	refuse(-EPROTO);
	segment->header = right;
	segment->header.ports_offset = sizeof(*segment);
	refuse(-EPROTO);
	segment->header.ports_offset = UINT64_MAX - 63;
	refuse(-EPROTO);
	segment->header.ports_offset = right.ports_offset + 8;
	refuse(-EPROTO);
	segment->header = right;
	segment->header.directory_offset = UINT64_MAX - 63;
	refuse(-EPROTO);
	segment->header = right;
	snprintf(path, sizeof(path), "%s/" STATS_FILE_NAME, dir);
	assert_int_equal(truncate(path, 100), 0);
	refuse(-ENODATA);
}

static void test_replaced(void **state)
{
	struct stats_reader reader;
	struct shm successor;

	(void)state;
	assert_int_equal(stats_reader_open(&reader, dir), 0);
	assert_false(stats_reader_is_stale(&reader));
	assert_int_equal(shm_create(&successor, dir, STATS_FILE_NAME, sizeof(*segment), 0644), 0);
	assert_true(stats_reader_is_stale(&reader));
	refuse(-ENODATA);
	stats_reader_close(&reader);
	shm_close(&successor);
}

static void test_missing(void **state)
{
	struct stats_reader reader;

	(void)state;
	assert_int_equal(stats_reader_open(&reader, "/nonexistent"), -ENOENT);
	stats_reader_close(&reader);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sums), TEST(test_directory), TEST(test_refused), TEST(test_replaced), TEST(test_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
