/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which CPUs are near, by directories that look like sysfs of machines that somebody might have.
 */
#include "unit.h"

#include "engine/topology.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static struct topology topology;
static char root[64];
static cpu_set_t cpus;

static int set_up(void **state)
{
	(void)state;
	CPU_ZERO(&cpus);
	return unit_temporary_dir(root) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

static void put(const char *directory, const char *name, const char *text)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void make(const char *path)
{
	assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
}

static void cache(unsigned int cpu, unsigned int index, const char *level, const char *list)
{
	char path[192];

	CPU_SET(cpu, &cpus);
	snprintf(path, sizeof(path), "%s/cpu%u", root, cpu);
	make(path);
	strcat(path, "/cache");
	make(path);
	snprintf(path + strlen(path), sizeof(path) - strlen(path), "/index%u", index);
	make(path);
	put(path, "level", level);
	if (list)
		put(path, "shared_cpu_list", list);
}

static void expect_order(const uint32_t *on, unsigned int count, unsigned int own, const uint8_t *expected)
{
	uint8_t order[8] = {0};

	assert_true(count - 1 <= sizeof(order));
	topology_order(&topology, on, count, own, order);
	assert_memory_equal(order, expected, count - 1);
}

/* Two sockets of two cores with two threads each; the second thread's number is 4 higher, as on most machines. */
static void threads_and_sockets(void **state)
{
	static const char *const core[] = {"0,4\n", "1,5\n", "2,6\n", "3,7\n"};
	static const char *const socket[] = {"0-1,4-5\n", "2-3,6-7\n"};
	static const uint32_t on[] = {0, 1, 2, 3, 4, 5, 6, 7};

	(void)state;
	for (unsigned int cpu = 0; cpu < 8; cpu++) {
		cache(cpu, 0, "1\n", core[cpu % 4]);
		cache(cpu, 1, "1\n", core[cpu % 4]);
		cache(cpu, 2, "2\n", core[cpu % 4]);
		cache(cpu, 3, "3\n", socket[cpu % 4 / 2]);
	}
	assert_int_equal(topology_read(&topology, root, &cpus), 8);
	assert_int_equal(topology_distance(&topology, 1, 5), TOPOLOGY_CORE);
	assert_int_equal(topology_distance(&topology, 5, 1), TOPOLOGY_CORE);
	assert_int_equal(topology_distance(&topology, 0, 5), TOPOLOGY_CACHE);
	assert_int_equal(topology_distance(&topology, 1, 2), TOPOLOGY_FAR);
	assert_int_equal(topology_distance(&topology, 0, UINT32_MAX), TOPOLOGY_FAR);
	expect_order(on, 8, 0, (uint8_t[]){4, 1, 5, 2, 3, 6, 7});
	expect_order(on, 8, 6, (uint8_t[]){2, 7, 3, 0, 1, 4, 5});
	/* Workers are on some of them only. */
	expect_order((uint32_t[]){2, 0, 7, 4}, 4, 1, (uint8_t[]){3, 2, 0});
}

/* Clusters that share the second level, nothing behind it, levels in another order. */
static void clusters(void **state)
{
	(void)state;
	for (unsigned int cpu = 0; cpu < 4; cpu++) {
		char own[8];

		snprintf(own, sizeof(own), "%u\n", cpu);
		cache(cpu, 0, "2\n", cpu < 2 ? "0-1\n" : "2-3\n");
		cache(cpu, 1, "1\n", own);
	}
	assert_int_equal(topology_read(&topology, root, &cpus), 4);
	expect_order((uint32_t[]){0, 1, 2, 3}, 4, 3, (uint8_t[]){2, 0, 1});
}

/* A fourth level that all share does not hide the third, which they do not; without a third it is what there is. */
static void outer_cache(void **state)
{
	(void)state;
	for (unsigned int cpu = 0; cpu < 4; cpu++) {
		if (cpu < 3)
			cache(cpu, 1, "3\n", cpu == 1 ? "1\n" : "0,2\n");
		cache(cpu, 0, "4\n", "0-3\n");
	}
	cache(3, 1, "1\n", "3\n");
	assert_int_equal(topology_read(&topology, root, &cpus), 4);
	assert_int_equal(topology_distance(&topology, 0, 1), TOPOLOGY_FAR);
	assert_int_equal(topology_distance(&topology, 0, 2), TOPOLOGY_CACHE);
	expect_order((uint32_t[]){0, 1, 2, 3}, 4, 0, (uint8_t[]){2, 3, 1});
}

/* Nothing is known: neighbours first, as by numbers. */
static void expect_numbers(void)
{
	expect_order((uint32_t[]){0, 1, 2, 3}, 4, 2, (uint8_t[]){3, 0, 1});
}

static void no_sysfs(void **state)
{
	char long_root[5000];

	(void)state;
	for (unsigned int cpu = 0; cpu < 4; cpu++)
		CPU_SET(cpu, &cpus);
	assert_int_equal(topology_read(&topology, root, &cpus), 0);
	expect_numbers();
	memset(long_root, 'x', sizeof(long_root) - 1);
	long_root[sizeof(long_root) - 1] = '\0';
	assert_int_equal(topology_read(&topology, long_root, &cpus), 0);
	expect_numbers();
	/* A worker that is pinned nowhere. */
	expect_order((uint32_t[]){UINT32_MAX, UINT32_MAX, UINT32_MAX}, 3, 1, (uint8_t[]){2, 0});
}

static void nonsense(void **state)
{
	static const char *const lists[] = {
		"",       "\n",     "x\n",       "0-\n",  "-3\n",  "3-0\n", "0-3x\n",
		"0,,3\n", "0-3,\n", "0-70000\n", "0 3\n", "4-5\n", NULL,    "99999999999999999999\n"};
	static const char *const levels[] = {"", "\n", "x\n", "-1\n", "0\n", "3x\n", "99999999999999999999\n"};
	char long_list[5000];

	(void)state;
	for (unsigned int i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		for (unsigned int cpu = 0; cpu < 4; cpu++) {
			char path[192];

			snprintf(path, sizeof(path), "%s/cpu%u/cache/index0/shared_cpu_list", root, cpu);
			unlink(path);
			cache(cpu, 0, "3\n", lists[i]);
		}
		assert_int_equal(topology_read(&topology, root, &cpus), 0);
		expect_numbers();
	}
	for (unsigned int i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		for (unsigned int cpu = 0; cpu < 4; cpu++)
			cache(cpu, 0, levels[i], "0-3\n");
		assert_int_equal(topology_read(&topology, root, &cpus), 0);
	}
	memset(long_list, '1', sizeof(long_list) - 1);
	long_list[sizeof(long_list) - 1] = '\0';
	cache(1, 0, "3\n", long_list);
	assert_int_equal(topology_read(&topology, root, &cpus), 0);
	/* One that makes sense among them is alone. */
	cache(0, 0, "3\n", "0-3");
	assert_int_equal(topology_read(&topology, root, &cpus), 1);
	expect_numbers();
}

/* This machine's: whatever it is, each CPU is nearest to itself. */
static void this_machine(void **state)
{
	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	if (topology_read(&topology, TOPOLOGY_ROOT, &cpus) == 0)
		skip();
	for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (topology.core[cpu])
			assert_int_equal(topology_distance(&topology, cpu, cpu), TOPOLOGY_CORE);
		if (topology.cache[cpu])
			assert_true(topology_distance(&topology, cpu, topology.cache[cpu] - 1u) <= TOPOLOGY_CACHE);
	}
}

#define topology_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		topology_test(threads_and_sockets),
		topology_test(clusters),
		topology_test(outer_cache),
		topology_test(no_sysfs),
		topology_test(nonsense),
		topology_test(this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
