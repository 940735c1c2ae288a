/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tables are memory files that stay writable here; the core maps them read-only, as it does the real ones.
 */
#include "observer.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/fdpass.h"

static void *make_table(int *fd, size_t size)
{
	void *table;

	*fd = memfd_create("table", MFD_CLOEXEC);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, (off_t)size), 0);
	table = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	assert_ptr_not_equal(table, MAP_FAILED);
	return table;
}

void observer_open(struct observer *observer)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	observer->sock = pair[0];
	observer->their = pair[1];
	observer->slots = make_table(&observer->fds[0], OBSERVER_SLOTS * sizeof(*observer->slots));
	observer->cpus = make_table(&observer->fds[1], OBSERVER_CPUS * sizeof(*observer->cpus));
}

void observer_close(struct observer *observer)
{
	munmap(observer->slots, OBSERVER_SLOTS * sizeof(*observer->slots));
	munmap(observer->cpus, OBSERVER_CPUS * sizeof(*observer->cpus));
	fdpass_close(observer->fds, 2);
	close(observer->sock);
	close(observer->their);
}

void observer_say(const struct observer *observer, uint32_t type)
{
	struct observer_notice packet = {type, OBSERVER_VERSION, OBSERVER_SLOTS, OBSERVER_CPUS};
	struct iovec iov = {.iov_base = &packet, .iov_len = sizeof(packet)};

	assert_int_equal(fdpass_send(observer->sock, &iov, 1, observer->fds, type == OBSERVER_HELLO ? 2 : 0),
			 sizeof(packet));
}
