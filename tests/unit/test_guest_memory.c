/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory: what may be added, what an address translates to, and what happens when the file
 * below shrinks. cmocka takes SIGBUS for itself around each test, so each that wants ours installs
 * it.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "vhost/guest_memory.h"

#define PAGE 4096ULL

static struct guest_memory memory;

static int memory_file(size_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static struct vhost_user_region region_at(uint64_t guest_addr, uint64_t size)
{
	return (struct vhost_user_region){
		.guest_addr = guest_addr,
		.size = size,
		.user_addr = guest_addr + (1ULL << 40),
	};
}

static int add(uint64_t guest_addr, uint64_t size, int fd)
{
	struct vhost_user_region region = region_at(guest_addr, size);

	return guest_memory_add(&memory, &region, fd);
}

/* Mappings of memory_file()s. */
static unsigned int mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned int n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL)
		n += strstr(line, "memfd:guest") != NULL;
	fclose(maps);
	return n;
}

static int setup(void **state)
{
	(void)state;
	guest_memory_reset(&memory);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	guest_memory_clear(&memory);
	return 0;
}

static void test_translate(void **state)
{
	int fd = memory_file(16 * PAGE);
	unsigned int hint = 12345;
	uint8_t *base, *shared;

	(void)state;
	assert_int_equal(add(0x10000, 4 * PAGE, fd), 0);
	shared = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	base = guest_memory_translate(&memory, 0x10000, 1, &hint);
	assert_non_null(base);
	assert_int_equal(hint, 0);
	base[5] = 77;
	assert_int_equal(shared[5], 77);
	/* To the last byte and not further, however the end is missed. */
	assert_ptr_equal(guest_memory_translate(&memory, 0x10000 + 4 * PAGE - 1, 1, &hint), base + 4 * PAGE - 1);
	assert_ptr_equal(guest_memory_translate(&memory, 0x10000, 4 * PAGE, &hint), base);
	assert_null(guest_memory_translate(&memory, 0x10000, 4 * PAGE + 1, &hint));
	assert_null(guest_memory_translate(&memory, 0x10000 + 4 * PAGE - 1, 2, &hint));
	assert_null(guest_memory_translate(&memory, 0x10000 + 4 * PAGE, 1, &hint));
	assert_null(guest_memory_translate(&memory, 0xffff, 2, &hint));
	assert_null(guest_memory_translate(&memory, UINT64_MAX, 1, &hint));
	assert_null(guest_memory_translate(&memory, UINT64_MAX - 3, UINT32_MAX, &hint));
	assert_null(guest_memory_translate(&memory, 0x10000 + PAGE, UINT32_MAX, &hint));
	munmap(shared, 16 * PAGE);
	close(fd);
}

static void test_regions_are_sorted_and_apart(void **state)
{
	static const uint64_t addrs[] = {0x50000, 0x10000, 0x30000, 0x11000, 0x70000};
	int fd = memory_file(16 * PAGE);
	unsigned int hint = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++)
		assert_int_equal(add(addrs[i], PAGE, fd), 0);
	for (unsigned int i = 1; i < memory.count; i++)
		assert_true(memory.regions[i - 1].guest_addr < memory.regions[i].guest_addr);
	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++)
		assert_non_null(guest_memory_translate(&memory, addrs[i] + 8, 8, &hint));
	/* Neighbours in guest addresses are still two mappings. */
	assert_non_null(guest_memory_translate(&memory, 0x10ff8, 8, &hint));
	assert_null(guest_memory_translate(&memory, 0x10ff8, 9, &hint));
	assert_null(guest_memory_translate(&memory, 0x20000, 1, &hint));
	assert_null(guest_memory_translate(&memory, 0x100, 1, &hint));
	close(fd);
}

static void test_user_addresses(void **state)
{
	struct vhost_user_region region = {.guest_addr = 0x1000, .size = 2 * PAGE, .user_addr = 0x7f0000000000};
	int fd = memory_file(2 * PAGE);
	uint8_t *base;

	(void)state;
	assert_int_equal(guest_memory_add(&memory, &region, fd), 0);
	base = guest_memory_at_user_addr(&memory, 0x7f0000000000, 2 * PAGE);
	assert_non_null(base);
	assert_ptr_equal(guest_memory_at_user_addr(&memory, 0x7f0000001000, PAGE), base + PAGE);
	assert_null(guest_memory_at_user_addr(&memory, 0x7f0000001000, PAGE + 1));
	assert_null(guest_memory_at_user_addr(&memory, 0x7f0000001000, UINT64_MAX));
	assert_null(guest_memory_at_user_addr(&memory, 0x1000, 1));
	close(fd);
}

static void test_offset_into_the_file(void **state)
{
	struct vhost_user_region region = {
		.guest_addr = 0x1000, .size = PAGE, .user_addr = 0x2000, .mmap_offset = PAGE + 16};
	int fd = memory_file(3 * PAGE);
	unsigned int hint = 0;
	uint8_t *byte;

	(void)state;
	assert_int_equal(pwrite(fd, "x", 1, PAGE + 16), 1);
	assert_int_equal(guest_memory_add(&memory, &region, fd), 0);
	byte = guest_memory_translate(&memory, 0x1000, 1, &hint);
	assert_non_null(byte);
	assert_int_equal(*byte, 'x');
	close(fd);
}

static void test_bad_regions(void **state)
{
	static const struct {
		uint64_t guest_addr, size, user_addr, offset;
		int rc;
	} cases[] = {
		{0x1000, 0, 0x1000, 0, -EINVAL},
		{UINT64_MAX - PAGE + 1, PAGE, 0x1000, 0, -EINVAL},
		{0x1000, PAGE, UINT64_MAX - PAGE + 1, 0, -EINVAL},
		{UINT64_MAX - 15, 4 * PAGE, 0x1000, 0, -EINVAL},
		{0x1000, UINT64_MAX, 0x1000, 0, -EINVAL},
		{0x1000, 5 * PAGE, 0x1000, 0, -EINVAL}, /* the file has 4 */
		{0x1000, 4 * PAGE, 0x1000, 16, -EINVAL},
		{0x1000, PAGE, 0x1000, UINT64_MAX - 15, -EINVAL},
		{0x1000, PAGE, 0x1000, 1ULL << 63, -EINVAL},
		{0x1001, PAGE, 0x1000, 0, -EINVAL},
		{0x1000, PAGE, 0x1008, 0, -EINVAL},
		{0x1000, PAGE, 0x1000, 4, -EINVAL},
		{0x20000, PAGE, 0x1000, 0, -EEXIST},
		{0x21000, PAGE, 0x1000, 0, -EEXIST},
		{0x1f000, 4 * PAGE, 0x1000, 0, -EEXIST}, /* around the other one */
		{0x1f000, PAGE + 16, 0x1000, 0, -EEXIST},
		{0x1000, PAGE, 0x91000, 0, -EEXIST}, /* front end addresses */
		{0x1000, 4 * PAGE, 0x8f000, 0, -EEXIST},
	};
	struct vhost_user_region other = {.guest_addr = 0x20000, .size = 2 * PAGE, .user_addr = 0x90000};
	int fd = memory_file(4 * PAGE);
	int next_fd = unit_next_fd();

	(void)state;
	assert_int_equal(guest_memory_add(&memory, &other, fd), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vhost_user_region region = {
			.guest_addr = cases[i].guest_addr,
			.size = cases[i].size,
			.user_addr = cases[i].user_addr,
			.mmap_offset = cases[i].offset,
		};

		assert_int_equal(guest_memory_add(&memory, &region, fd), cases[i].rc);
		assert_int_equal(memory.count, 1);
	}
	assert_int_equal(mappings(), 1);
	assert_int_equal(unit_next_fd(), next_fd);
	close(fd);
}

static void test_files(void **state)
{
	char path[64];
	int fds[2], fd;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(add(0x1000, PAGE, fds[0]), -EMEDIUMTYPE);
	close(fds[0]);
	close(fds[1]);
	fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(add(0x1000, PAGE, fd), -EMEDIUMTYPE);
	close(fd);
	fd = open("/", O_RDONLY | O_DIRECTORY);
	assert_int_equal(add(0x1000, PAGE, fd), -EMEDIUMTYPE);
	close(fd);
	fd = open("/dev/zero", O_RDWR);
	assert_int_equal(add(0x1000, PAGE, fd), -EMEDIUMTYPE);
	close(fd);
	/* A regular file, of a file system that is neither memory nor on a disk. */
	fd = open("/proc/self/status", O_RDONLY);
	assert_int_equal(add(0x1000, PAGE, fd), -EMEDIUMTYPE);
	close(fd);
	assert_int_equal(add(0x1000, PAGE, -1), -EBADF);

	fd = memory_file(PAGE);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fds[0] = open(path, O_RDONLY);
	assert_int_equal(add(0x1000, PAGE, fds[0]), -EACCES);
	close(fds[0]);
	close(fd);
	fd = memfd_create("sealed", MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(add(0x1000, PAGE, fd), -EPERM);
	close(fd);
	assert_int_equal(memory.count, 0);
}

static void test_slots(void **state)
{
	int fd = memory_file(PAGE);
	unsigned int hint = 0;

	(void)state;
	/* Downwards, the worst order for the table. */
	for (uint64_t i = VHOST_USER_MEM_SLOTS; i > 0; i--)
		assert_int_equal(add(i * 2 * PAGE, PAGE, fd), 0);
	assert_int_equal(add(0x40000000, PAGE, fd), -ENOSPC);
	for (uint64_t i = VHOST_USER_MEM_SLOTS; i > 0; i--) {
		assert_non_null(guest_memory_translate(&memory, i * 2 * PAGE, PAGE, &hint));
		assert_null(guest_memory_translate(&memory, i * 2 * PAGE - 1, 1, &hint));
	}
	for (uint64_t i = 1; i <= VHOST_USER_MEM_SLOTS; i += 2) {
		struct vhost_user_region region = region_at(i * 2 * PAGE, PAGE);

		assert_int_equal(guest_memory_remove(&memory, &region), 0);
		assert_int_equal(guest_memory_remove(&memory, &region), -ENOENT);
	}
	assert_int_equal(memory.count, VHOST_USER_MEM_SLOTS / 2);
	assert_non_null(guest_memory_translate(&memory, 4 * PAGE, PAGE, &hint));
	assert_null(guest_memory_translate(&memory, 6 * PAGE, PAGE, &hint));
	guest_memory_clear(&memory);
	assert_int_equal(memory.count, 0);
	assert_int_equal(mappings(), 0);
	close(fd);
}

static void test_address_space_is_bounded(void **state)
{
	int fd = memory_file(3ULL << 40);

	(void)state;
	assert_int_equal(add(0x1000, GUEST_MEMORY_BYTES_MAX + PAGE, fd), -ENOSPC);
#ifndef __SANITIZE_THREAD__ /* which leaves a program less address space than that */
	assert_int_equal(add(0x1000, 1ULL << 40, fd), 0);
	assert_int_equal(add(4ULL << 40, GUEST_MEMORY_BYTES_MAX, fd), -ENOSPC);
#endif
	close(fd);
}

static void test_remove_must_match(void **state)
{
	int fd = memory_file(4 * PAGE);
	struct vhost_user_region region = region_at(0x1000, 2 * PAGE);
	struct vhost_user_region wrong;

	(void)state;
	region.mmap_offset = PAGE;
	assert_int_equal(guest_memory_add(&memory, &region, fd), 0);
	wrong = region;
	wrong.size = PAGE;
	assert_int_equal(guest_memory_remove(&memory, &wrong), -ENOENT);
	wrong = region;
	wrong.user_addr += PAGE;
	assert_int_equal(guest_memory_remove(&memory, &wrong), -ENOENT);
	wrong = region;
	wrong.mmap_offset = 0;
	assert_int_equal(guest_memory_remove(&memory, &wrong), 0);
	close(fd);
}

static void test_shrunk_file(void **state)
{
	static struct guest_memory neighbour;
	struct vhost_user_region region = region_at(0x1000, 4 * PAGE);
	int fd = memory_file(4 * PAGE), other_fd = memory_file(4 * PAGE);
	unsigned int hint = 0;
	volatile uint8_t *byte;

	(void)state;
	assert_int_equal(guest_memory_init(), 0);
	guest_memory_reset(&neighbour);
	assert_int_equal(add(0x1000, 4 * PAGE, fd), 0);
	assert_int_equal(guest_memory_add(&neighbour, &region, other_fd), 0);
	byte = guest_memory_translate(&memory, 0x1000 + 3 * PAGE, 1, &hint);
	assert_non_null(byte);
	*byte = 1;
	assert_int_equal(ftruncate(fd, PAGE), 0);
	errno = EDOM;
	assert_int_equal(*byte, 0);
	assert_int_equal(errno, EDOM);
	assert_true(guest_memory_faulted(&memory));
	assert_false(guest_memory_faulted(&neighbour));
	/* From here on the region is ours alone; writing works and reaches nobody. */
	*byte = 9;
	assert_int_equal(*byte, 9);
	assert_int_equal(ftruncate(fd, 0), 0);
	byte = guest_memory_translate(&memory, 0x1000, 1, &hint);
	*byte = 3;

	assert_int_equal(guest_memory_remove(&memory, &region), 0);
	guest_memory_clear(&memory);
	assert_false(guest_memory_faulted(&memory));
	guest_memory_clear(&neighbour);
	close(fd);
	close(other_fd);
}

/* No huge pages need be reserved: then the first access is the fault. */
static void test_huge_pages(void **state)
{
	const uint64_t huge = 2ULL << 20;
	struct vhost_user_region region = {
		.guest_addr = 0x200000, .size = huge, .user_addr = 0x200000, .mmap_offset = huge};
	int fd = memfd_create("huge", MFD_HUGETLB);
	unsigned int hint = 0;
	volatile uint8_t *byte;

	(void)state;
	if (fd < 0 || ftruncate(fd, (off_t)(2 * huge)) < 0)
		skip();
	assert_int_equal(guest_memory_init(), 0);
	/* What is mapped and unmapped is whole pages, whatever the region's end. */
	region.size = huge - 0x1000;
	assert_int_equal(guest_memory_add(&memory, &region, fd), 0);
	assert_int_equal(memory.regions[0].map_size, huge);
	byte = guest_memory_translate(&memory, 0x200000 + 0x3000, 1, &hint);
	assert_non_null(byte);
	*byte = 1;
	assert_int_equal(*byte, 1);
	assert_int_equal(ftruncate(fd, 0), 0);
	(void)*byte;
	assert_true(guest_memory_faulted(&memory));
	assert_int_equal(guest_memory_remove(&memory, &region), 0);
	close(fd);
}

struct toucher {
	pthread_t thread;
	uint8_t *bytes;
	size_t size;
	const bool *stop;
};

static void *touch(void *arg)
{
	struct toucher *toucher = arg;

	while (!load_acquire(toucher->stop)) {
		for (size_t i = 0; i < toucher->size; i += PAGE)
			__atomic_fetch_add(&toucher->bytes[i], 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Workers in the middle of copying, the file shrinks, the main loop adds and removes other ports'
 * regions. */
static void test_shrunk_under_workers(void **state)
{
	static struct guest_memory others;
	struct toucher touchers[2];
	int fd = memory_file(64 * PAGE);
	unsigned int hint = 0;
	bool stop = false;

	(void)state;
	assert_int_equal(guest_memory_init(), 0);
	guest_memory_reset(&others);
	assert_int_equal(add(0x100000, 64 * PAGE, fd), 0);
	for (size_t i = 0; i < ARRAY_SIZE(touchers); i++) {
		touchers[i] = (struct toucher){
			.bytes = guest_memory_translate(&memory, 0x100000, 64 * PAGE, &hint),
			.size = 64 * PAGE,
			.stop = &stop,
		};
		assert_int_equal(pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]), 0);
	}
	for (int round = 0; round < 200; round++) {
		int other_fd = memory_file(PAGE);
		struct vhost_user_region region = region_at(0x1000, PAGE);

		assert_int_equal(guest_memory_add(&others, &region, other_fd), 0);
		if (round == 100)
			assert_int_equal(ftruncate(fd, 0), 0);
		guest_memory_clear(&others);
		close(other_fd);
	}
	while (!guest_memory_faulted(&memory))
		sched_yield();
	store_release(&stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(touchers); i++)
		pthread_join(touchers[i].thread, NULL);
	close(fd);
}

/* A fault that has nothing to do with guest memory still ends the process. */
static void test_other_faults_are_fatal(void **state)
{
	int fd = memory_file(PAGE);
	int status = 0;
	pid_t pid;

	(void)state;
	assert_int_equal(add(0x1000, PAGE, fd), 0);
	pid = fork();
	if (pid == 0) {
		int own = memory_file(PAGE);
		volatile uint8_t *byte = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);

		if (guest_memory_init() == 0 && ftruncate(own, 0) == 0)
			*byte = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_translate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_regions_are_sorted_and_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_user_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_offset_into_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_regions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_address_space_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_must_match, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shrunk_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_huge_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shrunk_under_workers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_faults_are_fatal, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
