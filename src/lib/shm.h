/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file that one process writes through a mapping and others map read-only.
 *
 * Each process owns its own struct shm, used by one thread at a time; the memory itself may be read
 * and written as its user defines. Sizes are bytes; functions return 0 or a negative errno. What is
 * in the segment, and by which mark a reader knows that it is complete, is the user's affair.
 */
#ifndef LIB_SHM_H
#define LIB_SHM_H

#include "lib/compiler.h"

#include <sys/stat.h>

struct shm {
	void *base;
	size_t size;
	int fd; /* who made it has -1: none */
};

/*
 * Creates `dir`/`name` of `size` zero bytes with permissions `mode`, replacing one that is there;
 * those who have the old one mapped keep it. Its blocks are allocated: writing cannot fail later.
 * It appears under its name with its size and permissions, but not filled: its first words should
 * say when it is. The caller keeps no descriptor of it, so its size stays what it is if the caller may not open it
 * again.
 */
int shm_create(struct shm *shm, const char *dir, const char *name, size_t size, mode_t mode) must_check;

/* Maps it read-only. -ENODATA: no regular file, or smaller than `min_size`. */
int shm_attach(struct shm *shm, const char *path, size_t min_size) must_check;

/* Whether the file has been replaced or removed since, so that a reader should attach anew. */
bool shm_is_stale(const struct shm *shm);

/* Unmaps; the file stays. Harmless on one that is all zero, or closed already. */
void shm_close(struct shm *shm);

#endif
