/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unix sockets that carry file descriptors.
 *
 * Owns nothing between calls; usable from any thread. All sockets made here are non-blocking and
 * closed on exec. Results are 0, a descriptor or a number of bytes, or a negative errno. A peer may
 * be hostile: however many descriptors it sends, none is leaked and none is delivered that was not
 * asked for.
 */
#ifndef LIB_FDPASS_H
#define LIB_FDPASS_H

#include "lib/compiler.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* The most descriptors that Linux passes in one message. */
#define FDPASS_MAX 253

/*
 * A listening socket of `type` (SOCK_STREAM or SOCK_SEQPACKET) at `path` with permissions `mode`,
 * regardless of the umask. A socket that is there already and that nobody answers on is replaced;
 * -EADDRINUSE if somebody does, or if the file is no socket. -ENAMETOOLONG: over 107 bytes. The
 * directory must not be writable by others than the caller trusts.
 */
int fdpass_listen(const char *path, int type, int backlog, mode_t mode) must_check;

/* -EAGAIN: the listener's backlog is full, try later. -ECONNREFUSED, -ENOENT: nobody listens. */
int fdpass_connect(const char *path, int type) must_check;

/* -EAGAIN: no (longer a) connection is waiting. */
int fdpass_accept(int listener) must_check;

/*
 * Returns the bytes sent, which on a stream may be fewer than given: the descriptors have then gone
 * with them. `n_fds` up to FDPASS_MAX; they stay open here. -EPIPE instead of a signal.
 */
ssize_t fdpass_send(int sock, const struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds) must_check;

/*
 * Returns the bytes received, 0 when the peer has closed; `*n_fds` descriptors, at most `max_fds`,
 * are then the caller's, closed on exec. On error there are none: -EPROTO when more came than
 * `max_fds` or than this process may open, -EMSGSIZE when a packet was longer than `size`; the data
 * are lost and the connection should be ended.
 */
ssize_t fdpass_recv(int sock, void *buf, size_t size, int *fds, size_t max_fds, size_t *n_fds) must_check;

/* Closes all of them and sets them to -1; those that are negative are skipped. */
void fdpass_close(int *fds, size_t n_fds);

/* Who called connect() at the other end, as the kernel has seen it then. */
int fdpass_peer(int sock, struct ucred *peer) must_check;

#endif
