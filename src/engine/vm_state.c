/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tables have a fixed place, where memory that is all zero is replaced by the observer's and back: a reader
 * follows no pointer, needs not know whether there is an observer, and never holds on to a mapping that goes. The
 * kernel replaces a mapping in one step; a reader that comes in between waits for it in a page fault.
 *
 * What the observer should know is kept here as a wish per slot, sent when the socket has room, and sent again to
 * every new observer.
 *
 * @syscalls core: mmap munmap recvmsg sendmsg epoll_ctl close fcntl
 */
#include "engine/vm_state.h"

#include "lib/fdpass.h"
#include "lib/log.h"
#include "lib/tsan.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define VM_STATE_FDS 2

struct vm_state_tables vm_state_tables;

struct wish {
	pid_t pid; /* 0: nobody */
	uint32_t users;
	bool unsent;
};

static struct {
	struct loop *loop;
	struct loop_io io; /* .fd -1: not open */
	bool available;
	bool reset_unsent;
	uint32_t next; /* where to look for a free slot: the last one used is the last one used again */
	uint32_t unsent;
	struct wish wish[OBSERVER_SLOTS];
} vm_state = {.io.fd = -1};

/* Puts the descriptor's memory, or none, in the place of a table. */
static int vm_state_replace(void *table, size_t size, int fd)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *trial, *mapped;

	/* A mapping that fails over another may leave a hole there. */
	trial = mmap(NULL, size, PROT_READ, flags, fd, 0);
	if (trial == MAP_FAILED)
		return -errno;
	munmap(trial, size);
	tsan_remap_begin();
	mapped = mmap(table, size, PROT_READ, flags | MAP_FIXED, fd, 0);
	tsan_remap_end();
	return mapped == MAP_FAILED ? -errno : 0;
}

static int vm_state_map(const int fds[VM_STATE_FDS])
{
	int error = vm_state_replace(vm_state_tables.slots, sizeof(vm_state_tables.slots), fds[0]);

	return error != 0 ? error : vm_state_replace(vm_state_tables.cpus, sizeof(vm_state_tables.cpus), fds[1]);
}

static void vm_state_unmap(void)
{
	static const int none[VM_STATE_FDS] = {-1, -1};
	int error;

	if (!vm_state.available)
		return;
	vm_state.available = false;
	error = vm_state_map(none);
	if (error != 0)
		log_error("what is seen of VMs and CPUs stands still: %s", strerror(-error));
}

static void vm_state_want(struct wish *wish)
{
	if (!wish->unsent)
		vm_state.unsent++;
	wish->unsent = true;
}

static bool vm_state_request(uint32_t type, uint32_t slot, pid_t pid)
{
	struct observer_request request = {.type = type, .slot = slot, .pid = pid};
	struct iovec iov = {.iov_base = &request, .iov_len = sizeof(request)};

	/* Other failures than the lack of room show as the end of the connection. */
	return fdpass_send(vm_state.io.fd, &iov, 1, NULL, 0) == (ssize_t)sizeof(request);
}

/* What does not fit is sent when the loop says that there is room. Nobody but an observer is told of wishes. */
static void vm_state_send(void)
{
	uint32_t events = EPOLLIN;

	if (vm_state.reset_unsent && vm_state_request(OBSERVER_RESET, 0, 0))
		vm_state.reset_unsent = false;
	for (uint32_t slot = 0; slot < OBSERVER_SLOTS && vm_state.unsent > 0; slot++) {
		struct wish *wish = &vm_state.wish[slot];

		if (!wish->unsent || !vm_state.available || vm_state.reset_unsent)
			continue;
		if (!vm_state_request(wish->pid != 0 ? OBSERVER_WATCH : OBSERVER_FORGET, slot, wish->pid))
			break;
		wish->unsent = false;
		vm_state.unsent--;
	}
	if (vm_state.reset_unsent || (vm_state.available && vm_state.unsent > 0))
		events |= EPOLLOUT;
	if (loop_modify(vm_state.loop, &vm_state.io, events) < 0)
		log_warn("the observer may not be told of all VMs");
}

static void vm_state_greeted(const int fds[VM_STATE_FDS])
{
	int error = vm_state_map(fds);

	if (error != 0) {
		log_warn("the observer's tables cannot be mapped: %s", strerror(-error));
		vm_state.available = true;
		vm_state_unmap();
		return;
	}
	if (!vm_state.available)
		log_info("sees the states of VMs and CPUs");
	vm_state.available = true;
	for (uint32_t slot = 0; slot < OBSERVER_SLOTS; slot++) {
		if (vm_state.wish[slot].pid != 0)
			vm_state_want(&vm_state.wish[slot]);
	}
	vm_state_send();
}

static void vm_state_gone(void)
{
	if (vm_state.available)
		log_warn("does not see the states of VMs and CPUs any more");
	vm_state_unmap();
}

static void vm_state_hang_up(void)
{
	vm_state_gone();
	loop_remove(vm_state.loop, &vm_state.io);
	close(vm_state.io.fd);
	vm_state.io.fd = -1;
}

static bool vm_state_understands(const struct observer_notice *notice, size_t n_fds)
{
	return notice->type == OBSERVER_HELLO && notice->version == OBSERVER_VERSION &&
	       notice->slots == OBSERVER_SLOTS && notice->cpus == OBSERVER_CPUS && n_fds == VM_STATE_FDS;
}

static void vm_state_notice(const struct observer_notice *notice, const int *fds, size_t n_fds)
{
	if (vm_state_understands(notice, n_fds)) {
		vm_state_greeted(fds);
		return;
	}
	if (notice->type != OBSERVER_GONE)
		log_warn("the observer is of another version (%u)", notice->version);
	vm_state_gone();
}

static void vm_state_ready(struct loop_io *io, uint32_t events)
{
	struct observer_notice notice;
	int fds[VM_STATE_FDS];
	size_t n_fds;
	ssize_t n;

	if ((events & EPOLLOUT) != 0)
		vm_state_send();
	n = fdpass_recv(io->fd, &notice, sizeof(notice), fds, VM_STATE_FDS, &n_fds);
	if (n == -EAGAIN)
		return;
	if (n == (ssize_t)sizeof(notice))
		vm_state_notice(&notice, fds, n_fds);
	else
		vm_state_hang_up();
	fdpass_close(fds, n_fds);
}

int vm_state_open(struct loop *loop, int sock)
{
	int flags = fcntl(sock, F_GETFL);
	int error;

	if (flags < 0 || fcntl(sock, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(sock, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	vm_state.loop = loop;
	vm_state.io.fd = sock;
	vm_state.io.ready = vm_state_ready;
	error = loop_add(loop, &vm_state.io, EPOLLIN);
	if (error != 0) {
		vm_state.io.fd = -1;
		return error;
	}
	/* There may be an observer that has served another of us. */
	vm_state.reset_unsent = true;
	vm_state_send();
	return 0;
}

void vm_state_close(void)
{
	if (vm_state.io.fd >= 0) {
		loop_remove(vm_state.loop, &vm_state.io);
		close(vm_state.io.fd);
	}
	vm_state_unmap();
	memset(&vm_state, 0, sizeof(vm_state));
	vm_state.io.fd = -1;
}

bool vm_state_available(void)
{
	return vm_state.available;
}

static int vm_state_find(pid_t pid)
{
	for (uint32_t slot = 0; slot < OBSERVER_SLOTS; slot++) {
		if (vm_state.wish[slot].pid == pid)
			return (int)slot;
	}
	return -ENOSPC;
}

static int vm_state_find_free(void)
{
	for (uint32_t i = 0; i < OBSERVER_SLOTS; i++) {
		uint32_t slot = (vm_state.next + i) % OBSERVER_SLOTS;

		if (vm_state.wish[slot].users == 0) {
			vm_state.next = slot + 1;
			return (int)slot;
		}
	}
	return -ENOSPC;
}

int vm_state_watch(pid_t pid)
{
	int slot;

	if (pid <= 0)
		return -EINVAL;
	slot = vm_state_find(pid);
	if (slot < 0)
		slot = vm_state_find_free();
	if (slot < 0)
		return slot;
	vm_state.wish[slot].pid = pid;
	vm_state.wish[slot].users++;
	/* Also if it is watched already: that may have been an earlier process of the same number. */
	vm_state_want(&vm_state.wish[slot]);
	if (vm_state.available)
		vm_state_send();
	return slot;
}

void vm_state_forget(int slot)
{
	struct wish *wish;

	if (slot < 0 || slot >= OBSERVER_SLOTS)
		return;
	wish = &vm_state.wish[slot];
	if (wish->users == 0 || --wish->users > 0)
		return;
	wish->pid = 0;
	vm_state_want(wish);
	if (vm_state.available)
		vm_state_send();
}
