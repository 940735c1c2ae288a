/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Holds a pidfd for each slot in use. It names the process to the kernel, and tells when the process has ended: the
 * slot is then unknown without anybody asking, and its number may come round as another process's.
 *
 * A process can be watched in one slot only, the last one that it was asked for.
 *
 * @syscalls observer: pidfd_open close recvmsg sendmsg
 */
#include "observer/watches.h"

#include "lib/fdpass.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Requests taken in one round of the loop, so that what else happens has its turn. */
#define REQUESTS_BATCH 64

static void watch_end(struct watch *watch)
{
	struct watches *watches = watch->watches;

	if (watch->pidfd.fd < 0)
		return;
	loop_remove(watches->loop, &watch->pidfd);
	close(watch->pidfd.fd);
	watch->pidfd.fd = -1;
	watch->pid = 0;
	sched_tables_end(watches->tables, (uint32_t)(watch - watches->slot));
}

static void watch_process_ended(struct loop_io *io, uint32_t events)
{
	(void)events;
	watch_end(container_of(io, struct watch, pidfd));
}

/* Once more for the same process, so that it is counted anew. */
static void watch_recount(struct watches *watches, uint32_t slot)
{
	struct watch *watch = &watches->slot[slot];
	int nobody;

	if (watch->pidfd.fd < 0)
		return;
	sched_tables_end(watches->tables, slot);
	if (sched_tables_begin(watches->tables, slot, watch->pidfd.fd, &nobody) != 0)
		watch_end(watch);
}

static int watch_begin(struct watches *watches, uint32_t slot, pid_t pid)
{
	struct watch *watch = &watches->slot[slot];
	int robbed = -1, error;

	watch->pidfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (watch->pidfd.fd < 0)
		return -errno;
	error = sched_tables_begin(watches->tables, slot, watch->pidfd.fd, &robbed);
	if (error == 0) {
		error = loop_add(watches->loop, &watch->pidfd, EPOLLIN);
		if (error != 0)
			sched_tables_end(watches->tables, slot);
	}
	if (error != 0) {
		close(watch->pidfd.fd);
		watch->pidfd.fd = -1;
		return error;
	}
	watch->pid = pid;
	if (robbed >= 0)
		watch_recount(watches, (uint32_t)robbed);
	return 0;
}

static bool watch_is_alive(const struct watch *watch)
{
	struct pollfd pollfd = {.fd = watch->pidfd.fd, .events = POLLIN};

	return watch->pidfd.fd >= 0 && poll(&pollfd, 1, 0) == 0;
}

static void watches_watch(struct watches *watches, uint32_t slot, pid_t pid)
{
	int error;

	if (watches->slot[slot].pid == pid && watch_is_alive(&watches->slot[slot]))
		return;
	watch_end(&watches->slot[slot]);
	for (uint32_t i = 0; i < OBSERVER_SLOTS; i++) {
		if (watches->slot[i].pid == pid)
			watch_end(&watches->slot[i]);
	}
	error = watch_begin(watches, slot, pid);
	if (error != 0)
		log_limited(&watches->limit, error == -ESRCH ? LOG_DEBUG : LOG_WARN, "process %d cannot be watched: %s",
			    (int)pid, strerror(-error));
}

static void watches_end_all(struct watches *watches)
{
	for (size_t i = 0; i < OBSERVER_SLOTS; i++)
		watch_end(&watches->slot[i]);
}

static int watches_hello(const struct watches *watches)
{
	struct observer_notice hello = {
		.type = OBSERVER_HELLO,
		.version = OBSERVER_VERSION,
		.slots = OBSERVER_SLOTS,
		.cpus = OBSERVER_CPUS,
	};
	struct iovec iov = {.iov_base = &hello, .iov_len = sizeof(hello)};
	int fds[2] = {sched_tables_slots_fd(watches->tables), sched_tables_cpus_fd(watches->tables)};
	ssize_t n = fdpass_send(watches->sock.fd, &iov, 1, fds, ARRAY_SIZE(fds));

	return n < 0 ? (int)n : 0;
}

static void watches_reset(struct watches *watches)
{
	int error;

	watches_end_all(watches);
	error = watches_hello(watches);
	/* A reader that does not read will ask again, or be replaced by one that does. */
	if (error != 0)
		log_limited(&watches->limit, LOG_WARN, "cannot say hello: %s", strerror(-error));
}

static void watches_request(struct watches *watches, const struct observer_request *request)
{
	if (request->type == OBSERVER_RESET)
		watches_reset(watches);
	else if (request->slot < OBSERVER_SLOTS && request->type == OBSERVER_FORGET)
		watch_end(&watches->slot[request->slot]);
	else if (request->slot < OBSERVER_SLOTS && request->type == OBSERVER_WATCH && request->pid > 0)
		watches_watch(watches, request->slot, request->pid);
	else
		log_limited(&watches->limit, LOG_WARN, "request %u about slot %u and process %d makes no sense",
			    request->type, request->slot, request->pid);
}

static void watches_ready(struct loop_io *io, uint32_t events)
{
	struct watches *watches = container_of(io, struct watches, sock);
	struct observer_request request;
	size_t n_fds;
	ssize_t n;

	(void)events;
	for (int i = 0; i < REQUESTS_BATCH; i++) {
		n = fdpass_recv(io->fd, &request, sizeof(request), NULL, 0, &n_fds);
		if (n == -EAGAIN)
			return;
		if (n == -EMSGSIZE || n == -EPROTO || (n > 0 && n != (ssize_t)sizeof(request))) {
			log_limited(&watches->limit, LOG_WARN, "what came is no request");
			continue;
		}
		if (n <= 0) {
			loop_stop(watches->loop);
			return;
		}
		watches_request(watches, &request);
	}
}

int watches_init(struct watches *watches, struct loop *loop, struct sched_tables *tables, int sock)
{
	int error;

	memset(watches, 0, sizeof(*watches));
	watches->loop = loop;
	watches->tables = tables;
	watches->sock.fd = sock;
	watches->sock.ready = watches_ready;
	for (size_t i = 0; i < OBSERVER_SLOTS; i++) {
		watches->slot[i].pidfd.fd = -1;
		watches->slot[i].pidfd.ready = watch_process_ended;
		watches->slot[i].watches = watches;
	}
	error = watches_hello(watches);
	return error != 0 ? error : loop_add(loop, &watches->sock, EPOLLIN);
}

void watches_cleanup(struct watches *watches)
{
	watches_end_all(watches);
	loop_remove(watches->loop, &watches->sock);
}
