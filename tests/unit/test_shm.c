/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared segments: what a reader finds, and how it notices that a new one took the name.
 */
#include "unit.h"

#include "lib/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static char dir[64], path[96];

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "%s/stats", unit_temporary_dir(dir));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static void test_write_read(void **state)
{
	struct shm writer, reader;
	struct stat st;
	int next = unit_next_fd();

	(void)state;
	assert_int_equal(shm_create(&writer, dir, "stats", 10000, 0644), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(shm_attach(&reader, path, 10000), 0);
	assert_int_equal(reader.size, 10000);
	assert_int_equal(((const char *)reader.base)[9999], 0);
	strcpy(writer.base, "counters");
	assert_string_equal(reader.base, "counters");
	assert_false(shm_is_stale(&reader));
	shm_close(&reader);
	shm_close(&writer);
	shm_close(&writer);
	assert_int_equal(unit_next_fd(), next);
}

/* A reader dies if the file becomes shorter: who made it keeps nothing by which it could. */
static void test_writer_has_no_descriptor(void **state)
{
	int next = unit_next_fd();
	struct shm writer;

	(void)state;
	assert_int_equal(shm_create(&writer, dir, "stats", 10000, 0644), 0);
	assert_int_equal(writer.fd, -1);
	assert_int_equal(unit_next_fd(), next);
	shm_close(&writer);
}

static int write_to_reader(void *arg)
{
	struct shm *reader = arg;

	*(char *)reader->base = 'x';
	return 0;
}

static void test_reader_cannot_write(void **state)
{
	struct shm writer, reader;

	(void)state;
	assert_int_equal(shm_create(&writer, dir, "stats", 100, 0644), 0);
	assert_int_equal(shm_attach(&reader, path, 1), 0);
	assert_int_not_equal(unit_in_child(write_to_reader, &reader), 0);
	shm_close(&reader);
	shm_close(&writer);
}

static void test_replaced(void **state)
{
	struct shm old, new, reader;

	(void)state;
	assert_int_equal(shm_create(&old, dir, "stats", 100, 0644), 0);
	assert_int_equal(shm_attach(&reader, path, 100), 0);
	strcpy(old.base, "old");
	assert_int_equal(shm_create(&new, dir, "stats", 200, 0644), 0);
	assert_true(shm_is_stale(&reader));
	assert_string_equal(reader.base, "old");
	shm_close(&reader);
	assert_int_equal(shm_attach(&reader, path, 200), 0);
	assert_false(shm_is_stale(&reader));
	shm_close(&reader);
	shm_close(&old);
	shm_close(&new);
}

static void test_refused(void **state)
{
	struct shm shm;
	int fd, next = unit_next_fd();

	(void)state;
	assert_int_equal(shm_attach(&shm, path, 1), -ENOENT);
	shm_close(&shm);
	assert_int_equal(shm_attach(&shm, dir, 1), -ENODATA);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(shm_attach(&shm, path, 0), -ENODATA);
	assert_int_equal(ftruncate(fd, 99), 0);
	assert_int_equal(shm_attach(&shm, path, 100), -ENODATA);
	close(fd);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(shm_attach(&shm, path, 1), -ENODATA);
	assert_int_equal(shm_create(&shm, dir, "stats", 0, 0600), -EINVAL);
	assert_int_equal(shm_create(&shm, "/nonexistent", "stats", 1, 0600), -ENOENT);
	assert_int_equal(unit_next_fd(), next);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_write_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_writer_has_no_descriptor, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reader_cannot_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
