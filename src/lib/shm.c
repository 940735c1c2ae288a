/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A segment is made under a temporary name and renamed, so that a reader finds either the old one
 * or the new one and never half a file. Replacing takes the last name from the old file, which is
 * how its readers notice.
 *
 * @syscalls core: openat fchmod ftruncate fallocate mmap munmap close fstat newfstatat rename
 * unlink
 */
#include "lib/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int shm_map(struct shm *shm, int fd, size_t size, int protection)
{
	void *base = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return -errno;
	shm->base = base;
	shm->size = size;
	shm->fd = fd;
	return 0;
}

static int shm_prepare(int fd, size_t size, mode_t mode)
{
	if (fchmod(fd, mode) < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	return -posix_fallocate(fd, 0, (off_t)size);
}

int shm_create(struct shm *shm, const char *dir, const char *name, size_t size, mode_t mode)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	int fd, error;

	memset(shm, 0, sizeof(*shm));
	shm->fd = -1;
	if (size == 0 || size > PTRDIFF_MAX)
		return -EINVAL;
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path) ||
	    snprintf(temporary, sizeof(temporary), "%s/.%s.new", dir, name) >= (int)sizeof(temporary))
		return -ENAMETOOLONG;
	/* One that a killed predecessor was making. */
	unlink(temporary);
	fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	error = shm_prepare(fd, size, mode);
	if (error == 0)
		error = shm_map(shm, fd, size, PROT_READ | PROT_WRITE);
	if (error == 0 && rename(temporary, path) < 0)
		error = -errno;
	/* Whoever gets hold of us later cannot make the file shorter, under readers that would die of that. */
	close(fd);
	shm->fd = -1;
	if (error != 0) {
		unlink(temporary);
		shm_close(shm);
	}
	return error;
}

int shm_attach(struct shm *shm, const char *path, size_t min_size)
{
	struct stat st;
	int fd, error;

	memset(shm, 0, sizeof(*shm));
	shm->fd = -1;
	/* O_NONBLOCK: a FIFO of that name must not hold us. */
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		error = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size < min_size)
		error = -ENODATA;
	else
		error = shm_map(shm, fd, (size_t)st.st_size, PROT_READ);
	if (error != 0)
		close(fd);
	return error;
}

bool shm_is_stale(const struct shm *shm)
{
	struct stat st;

	return fstat(shm->fd, &st) < 0 || st.st_nlink == 0;
}

void shm_close(struct shm *shm)
{
	if (shm->base == NULL)
		return;
	munmap(shm->base, shm->size);
	if (shm->fd >= 0)
		close(shm->fd);
	shm->base = NULL;
	shm->size = 0;
	shm->fd = -1;
}
