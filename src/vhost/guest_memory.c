/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Regions are kept sorted by guest address: a translation is a look at the region that served last,
 * else a binary search.
 *
 * Of a file that a front end hands over nothing is asked that its file system could take time to
 * answer: an fstat() of a FUSE file waits for its server, who may be the front end. Files in memory
 * (memfd, tmpfs, hugetlbfs) are the ones that have seals, any other must be on a block device.
 *
 * The SIGBUS handler must find the region of an address without a lock, in whatever thread the
 * fault is, while the main loop adds and removes regions of other ports. It scans a registry of
 * watched ranges: chunks of entries that are allocated when needed and never freed, each entry
 * under a sequence count that is odd while the entry changes. An entry that changes is of a region
 * that nobody uses, so the handler may skip it.
 *
 * @syscalls core: mmap munmap madvise statx fcntl rt_sigaction rt_sigreturn gettid getpid tgkill
 */
#include "vhost/guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_BYTES 4096ULL

#define WATCH_CHUNK  1024 /* entries */
#define WATCH_CHUNKS 64   /* about as many regions in all as a process may have mappings */

struct watch {
	uint32_t sequence; /* odd: being changed */
	uintptr_t start;   /* of the mapping; 0: the entry is free */
	size_t size;
	size_t page; /* bytes; what a part of the mapping can be replaced by */
	struct guest_memory *memory;
};

static struct watch *watch_chunks[WATCH_CHUNKS]; /* filled from 0 on, by the main loop's thread */

/* An entry's content as one moment had it, or false. */
static bool watch_read(const struct watch *entry, struct watch *copy)
{
	copy->sequence = load_acquire(&entry->sequence);
	copy->start = load_acquire(&entry->start);
	copy->size = load_acquire(&entry->size);
	copy->page = load_acquire(&entry->page);
	copy->memory = load_acquire(&entry->memory);
	return (copy->sequence & 1) == 0 && load_relaxed(&entry->sequence) == copy->sequence;
}

static void watch_write(struct watch *entry, uintptr_t start, size_t size, size_t page, struct guest_memory *memory)
{
	uint32_t sequence = load_relaxed(&entry->sequence);

	store_relaxed(&entry->sequence, sequence + 1);
	store_release(&entry->start, start);
	store_release(&entry->size, size);
	store_release(&entry->page, page);
	store_release(&entry->memory, memory);
	store_release(&entry->sequence, sequence + 2);
}

static struct watch *watch_entry(unsigned int index)
{
	return &watch_chunks[index / WATCH_CHUNK][index % WATCH_CHUNK];
}

/* Index of the new entry, or a negative errno. */
static int watch_add(void *map, size_t size, size_t page, struct guest_memory *memory)
{
	unsigned int index;

	for (index = 0; index < WATCH_CHUNKS * WATCH_CHUNK; index++) {
		if (index % WATCH_CHUNK == 0 && watch_chunks[index / WATCH_CHUNK] == NULL) {
			struct watch *chunk = mmap(NULL, WATCH_CHUNK * sizeof(*chunk), PROT_READ | PROT_WRITE,
						   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (chunk == MAP_FAILED)
				return -errno;
			store_release(&watch_chunks[index / WATCH_CHUNK], chunk);
		}
		if (watch_entry(index)->start == 0) {
			watch_write(watch_entry(index), (uintptr_t)map, size, page, memory);
			return (int)index;
		}
	}
	return -ENOSPC;
}

static void watch_remove(unsigned int index)
{
	watch_write(watch_entry(index), 0, 0, 0, NULL);
}

/*
 * Zero pages in place of the mapping. Where the kernel promises no more memory than it has
 * (overcommit_memory 2) it may refuse that for a whole region; then the page alone, because the
 * port is about to be quarantined and will not touch many.
 */
static bool watch_replace(const struct watch *entry, uintptr_t addr)
{
	const long prot = PROT_READ | PROT_WRITE;
	const long flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

	/* The bare call, because nobody promises that mmap() works in a signal handler. */
	return syscall(SYS_mmap, entry->start, entry->size, prot, flags, -1L, 0L) != -1 ||
	       syscall(SYS_mmap, align_down(addr, entry->page), entry->page, prot, flags, -1L, 0L) != -1;
}

/* Runs in any thread, in the middle of any access to guest memory: no locks, no log, errno kept. */
static void guest_memory_sigbus(int signal, siginfo_t *info, void *context)
{
	const struct sigaction standard = {.sa_handler = SIG_DFL};
	uintptr_t addr = (uintptr_t)info->si_addr;
	int saved_errno = errno;
	const struct watch *chunk;
	struct watch entry;

	(void)context;
	for (unsigned int i = 0; info->si_code > 0 && i < WATCH_CHUNKS; i++) {
		chunk = load_acquire(&watch_chunks[i]);
		if (chunk == NULL)
			break;
		for (unsigned int j = 0; j < WATCH_CHUNK; j++) {
			if (!watch_read(&chunk[j], &entry) || entry.start == 0 || addr - entry.start >= entry.size)
				continue;
			if (!watch_replace(&entry, addr))
				goto fatal;
			store_relaxed(&entry.memory->faulted, true);
			errno = saved_errno;
			return;
		}
	}
fatal:
	/* Not about guest memory: end as if there were no handler. */
	sigaction(signal, &standard, NULL);
	raise(signal);
	errno = saved_errno;
}

int guest_memory_init(void)
{
	struct sigaction action = {
		.sa_sigaction = guest_memory_sigbus,
		.sa_flags = SA_SIGINFO | SA_RESTART,
	};

	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

void guest_memory_reset(struct guest_memory *memory)
{
	memory->count = 0;
	store_relaxed(&memory->faulted, false);
}

/* Where in its file it began does not matter. */
static bool guest_region_is(const struct guest_region *mapped, const struct vhost_user_region *region)
{
	return mapped->guest_addr == region->guest_addr && mapped->size == region->size &&
	       mapped->user_addr == region->user_addr;
}

static bool guest_ranges_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a - b < b_size || b - a < a_size;
}

/* What the numbers alone tell. Sets *position to the region's place in the table. */
static int guest_memory_check(const struct guest_memory *memory, const struct vhost_user_region *region,
			      unsigned int *position)
{
	if (region->size == 0 || region->size > UINT64_MAX - region->guest_addr ||
	    region->size > UINT64_MAX - region->user_addr)
		return -EINVAL;
	if (!is_aligned(region->guest_addr | region->user_addr | region->mmap_offset, GUEST_REGION_ALIGN))
		return -EINVAL;
	*position = 0;
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_region *other = &memory->regions[i];

		if (guest_region_is(other, region))
			return -EALREADY;
		if (guest_ranges_overlap(region->guest_addr, region->size, other->guest_addr, other->size) ||
		    guest_ranges_overlap(region->user_addr, region->size, other->user_addr, other->size))
			return -EEXIST;
		if (other->guest_addr < region->guest_addr)
			*position = i + 1;
	}
	return memory->count == VHOST_USER_MEM_SLOTS ? -ENOSPC : 0;
}

/* What the file allows. Sets *page to the unit in which it can be mapped. */
static int guest_file_check(const struct vhost_user_region *region, int fd, uint64_t *page)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_SIZE, &st) < 0)
		return -errno;
	if (!S_ISREG(st.stx_mode))
		return -EMEDIUMTYPE;
	*page = PAGE_BYTES;
	if (fcntl(fd, F_GET_SEALS) >= 0) {
		/* Of hugetlbfs this is the huge page; of others it does no harm. */
		if (is_power_of_two(st.stx_blksize))
			*page = max((uint64_t)st.stx_blksize, *page);
	} else if (st.stx_dev_major == 0) {
		return -EMEDIUMTYPE;
	}
	if (region->size > st.stx_size || region->mmap_offset > st.stx_size - region->size)
		return -EINVAL;
	return 0;
}

int guest_memory_add(struct guest_memory *memory, const struct vhost_user_region *region, int fd)
{
	uint64_t page = 0, offset, map_size, mapped = 0;
	struct guest_region *slot;
	unsigned int position;
	void *map;
	int rc;

	rc = guest_memory_check(memory, region, &position);
	if (rc == 0)
		rc = guest_file_check(region, fd, &page);
	if (rc < 0)
		return rc;

	offset = align_down(region->mmap_offset, page);
	map_size = align_up(region->mmap_offset - offset + region->size, page);
	for (unsigned int i = 0; i < memory->count; i++)
		mapped += memory->regions[i].map_size;
	if (map_size > GUEST_MEMORY_BYTES_MAX - mapped)
		return -ENOSPC;

	map = mmap(NULL, map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
	if (map == MAP_FAILED)
		return -errno;
	rc = watch_add(map, map_size, page, memory);
	if (rc < 0) {
		munmap(map, map_size);
		return rc;
	}
	/* A core dump is ours to have, the guest's memory is not. */
	(void)madvise(map, map_size, MADV_DONTDUMP);

	slot = &memory->regions[position];
	memmove(slot + 1, slot, (memory->count - position) * sizeof(*slot));
	*slot = (struct guest_region){
		.guest_addr = region->guest_addr,
		.size = region->size,
		.host = (uint8_t *)map + (region->mmap_offset - offset),
		.user_addr = region->user_addr,
		.map = map,
		.map_size = map_size,
		.watch = (unsigned int)rc,
	};
	memory->count++;
	return 0;
}

static void guest_region_unmap(struct guest_region *region)
{
	/* In this order: another mapping of the process may get the address at once. */
	watch_remove(region->watch);
	munmap(region->map, region->map_size);
}

int guest_memory_remove(struct guest_memory *memory, const struct vhost_user_region *region)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		struct guest_region *slot = &memory->regions[i];

		if (!guest_region_is(slot, region))
			continue;
		guest_region_unmap(slot);
		memory->count--;
		memmove(slot, slot + 1, (memory->count - i) * sizeof(*slot));
		return 0;
	}
	return -ENOENT;
}

void guest_memory_clear(struct guest_memory *memory)
{
	for (unsigned int i = 0; i < memory->count; i++)
		guest_region_unmap(&memory->regions[i]);
	guest_memory_reset(memory);
}

void *guest_memory_at_user_addr(const struct guest_memory *memory, uint64_t user_addr, uint64_t size)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_region *region = &memory->regions[i];
		uint64_t offset = user_addr - region->user_addr;

		if (offset < region->size && size <= region->size - offset)
			return region->host + offset;
	}
	return NULL;
}

void *guest_memory_search(const struct guest_memory *memory, uint64_t addr, uint32_t size, unsigned int *hint)
{
	unsigned int low = 0, high = memory->count;
	const struct guest_region *region;

	/* The last region that does not begin behind addr is the only one that can hold it. */
	while (low < high) {
		unsigned int middle = low + (high - low) / 2;

		if (memory->regions[middle].guest_addr <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return NULL;
	region = &memory->regions[low - 1];
	if (addr - region->guest_addr >= region->size || size > region->size - (addr - region->guest_addr))
		return NULL;
	*hint = low - 1;
	return region->host + (addr - region->guest_addr);
}
