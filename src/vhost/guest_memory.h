/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port's guest memory: the regions a front end shared, mapped here, and the only way from an
 * address that a guest named to a pointer (rule 3). It is the port's I/O table in its simplest
 * form: every access is looked up with its length, and what lies outside or runs across a region's
 * end has no pointer.
 *
 * Owner: a vhost_device; only its thread (the main loop) adds and removes regions, and only while
 * no worker uses the table (vhost_device_ops.quiesce). Between that, any worker may translate.
 *
 * A front end may shrink its memory file while it is mapped. The access then raises SIGBUS; the
 * handler of guest_memory_init() puts zero pages in the region's place, marks the table faulted,
 * and the access continues. Whoever used the table sees guest_memory_faulted() at its next look and
 * quarantines the port.
 */
#ifndef LASTHOP_VHOST_GUEST_MEMORY_H
#define LASTHOP_VHOST_GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/compiler.h"
#include "vhost/vhost_proto.h"

/*
 * Bytes of address space that one table may take. A sparse file may be far larger than the
 * machine's memory, and the address space (128 TiB) is shared with all other ports.
 */
#define GUEST_MEMORY_BYTES_MAX (2ULL << 40)

/* Addresses and offsets are multiples of this: host pointers are aligned as the guest's are. */
#define GUEST_REGION_ALIGN 16

struct guest_region {
	uint64_t guest_addr;
	uint64_t size; /* bytes, never 0; guest_addr + size and user_addr + size do not wrap */
	uint8_t *host; /* our mapping of guest_addr */
	uint64_t user_addr;
	void *map; /* what munmap() takes */
	size_t map_size;
	unsigned int watch; /* its entry among the ranges that the SIGBUS handler knows */
};

struct guest_memory {
	unsigned int count;
	bool faulted; /* written by the SIGBUS handler, relaxed */
	/* Sorted by guest_addr, without overlap in guest or in front end addresses. */
	struct guest_region regions[VHOST_USER_MEM_SLOTS];
};

/* Installs the SIGBUS handler, once a process, before any thread is made. 0 or -errno. */
int guest_memory_init(void);

/* A table without regions; nothing is unmapped. */
void guest_memory_reset(struct guest_memory *memory);

/*
 * Maps a region of fd and adds it. The fd stays the caller's (close it afterwards, the mapping
 * remains). Never waits for whoever may serve the file. Nothing has changed when it fails:
 *
 *	-EINVAL		empty, wraps, misaligned, or exceeds the file
 *	-EEXIST		overlaps another region
 *	-EALREADY	this very region is there (same addresses and size)
 *	-ENOSPC		no slot left, or more than GUEST_MEMORY_BYTES_MAX
 *	-EMEDIUMTYPE	not a file in memory or on a local disk: pages that a remote or a user-space
 *			file system serves could stall us for ever
 *	others		mmap's
 */
int guest_memory_add(struct guest_memory *memory, const struct vhost_user_region *region, int fd);

/*
 * Unmaps and removes the region with these guest address, size and front end address (where in its
 * file it began does not matter: QEMU says 0 here). -ENOENT: none such.
 */
int guest_memory_remove(struct guest_memory *memory, const struct vhost_user_region *region);

/* Unmaps all, and forgets that a file had shrunk. */
void guest_memory_clear(struct guest_memory *memory);

/* Pointer to [user_addr, user_addr + size) by the front end's addresses (ring areas), or NULL. */
void *guest_memory_at_user_addr(const struct guest_memory *memory, uint64_t user_addr, uint64_t size);

static inline bool guest_memory_faulted(const struct guest_memory *memory)
{
	return unlikely(__atomic_load_n(&memory->faulted, __ATOMIC_RELAXED));
}

/* The slow half of guest_memory_translate: searches the table; sets *hint to the region found. */
void *guest_memory_search(const struct guest_memory *memory, uint64_t addr, uint32_t size, unsigned int *hint);

/*
 * Pointer to [addr, addr + size) of the guest's address space, or NULL if that is not wholly inside
 * one region. *hint is the caller's private memory of the region that served last (any value
 * is safe).
 */
static inline void *guest_memory_translate(const struct guest_memory *memory, uint64_t addr, uint32_t size,
					   unsigned int *hint)
{
	if (likely(*hint < memory->count)) {
		const struct guest_region *region = &memory->regions[*hint];
		uint64_t offset = addr - region->guest_addr;

		if (likely(offset < region->size && size <= region->size - offset))
			return region->host + offset;
	}
	return guest_memory_search(memory, addr, size, hint);
}

#endif
