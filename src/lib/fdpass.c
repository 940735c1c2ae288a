/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Received descriptors are in our table from the moment recvmsg() returns, whatever we think of
 * the message; so they are first collected, all that the kernel can deliver at once, and only then
 * judged. Any fault closes every one of them.
 *
 * @syscalls core: socket bind listen connect accept4 sendmsg recvmsg getsockopt close
 * @syscalls core: fchmod chmod lstat newfstatat unlink
 */
#include "lib/fdpass.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

union fdpass_control {
	char bytes[CMSG_SPACE(FDPASS_MAX * sizeof(int))];
	struct cmsghdr align;
};

static int fdpass_address(struct sockaddr_un *address, const char *path)
{
	size_t length = strlen(path);

	if (length == 0)
		return -EINVAL;
	if (length >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, length);
	return 0;
}

static int fdpass_socket(int type)
{
	int sock = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return sock < 0 ? -errno : sock;
}

/* Removes a socket that its owner left behind; anything else stays and is -EADDRINUSE. */
static int fdpass_remove_stale(const char *path, int type)
{
	struct stat st;
	int sock;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	sock = fdpass_connect(path, type);
	if (sock >= 0)
		close(sock);
	if (sock != -ECONNREFUSED)
		return sock == -ENOENT ? 0 : -EADDRINUSE;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int fdpass_listen(const char *path, int type, int backlog, mode_t mode)
{
	struct sockaddr_un address;
	int sock, error;

	error = fdpass_address(&address, path);
	if (error == 0)
		error = fdpass_remove_stale(path, type);
	if (error != 0)
		return error;
	sock = fdpass_socket(type);
	if (sock < 0)
		return sock;
	/* The first keeps the file closed from its first moment, the second undoes the umask. */
	if (fchmod(sock, mode) < 0 || bind(sock, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		error = -errno;
	} else if (chmod(path, mode) < 0 || listen(sock, backlog) < 0) {
		error = -errno;
		unlink(path);
	}
	if (error != 0) {
		close(sock);
		return error;
	}
	return sock;
}

int fdpass_connect(const char *path, int type)
{
	struct sockaddr_un address;
	int sock, error;

	error = fdpass_address(&address, path);
	if (error != 0)
		return error;
	sock = fdpass_socket(type);
	if (sock < 0)
		return sock;
	if (connect(sock, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		error = -errno;
		close(sock);
		return error;
	}
	return sock;
}

int fdpass_accept(int listener)
{
	int sock;

	do {
		sock = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (sock < 0 && (errno == EINTR || errno == ECONNABORTED));
	return sock < 0 ? -errno : sock;
}

ssize_t fdpass_send(int sock, const struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds)
{
	union fdpass_control control;
	struct msghdr msg = {
		/* sendmsg() does not write to what it sends. */
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = n_iov,
	};
	ssize_t n;

	if (n_fds > FDPASS_MAX)
		return -E2BIG;
	if (n_fds > 0) {
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Gathers what the kernel has installed; `fds` has room for FDPASS_MAX, all that it can be. */
static size_t fdpass_collect(struct msghdr *msg, int *fds)
{
	size_t n_fds = 0;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		size_t n;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		n = min((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int), FDPASS_MAX - n_fds);
		memcpy(fds + n_fds, CMSG_DATA(cmsg), n * sizeof(int));
		n_fds += n;
	}
	return n_fds;
}

ssize_t fdpass_recv(int sock, void *buf, size_t size, int *fds, size_t max_fds, size_t *n_fds)
{
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	union fdpass_control control;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int received[FDPASS_MAX];
	size_t n_received;
	ssize_t n;

	*n_fds = 0;
	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	n_received = fdpass_collect(&msg, received);
	if (n_received > max_fds || (msg.msg_flags & MSG_CTRUNC) != 0)
		n = -EPROTO;
	else if ((msg.msg_flags & MSG_TRUNC) != 0)
		n = -EMSGSIZE;
	if (n < 0) {
		fdpass_close(received, n_received);
		return n;
	}
	if (n_received > 0)
		memcpy(fds, received, n_received * sizeof(int));
	*n_fds = n_received;
	return n;
}

void fdpass_close(int *fds, size_t n_fds)
{
	for (size_t i = 0; i < n_fds; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

int fdpass_peer(int sock, struct ucred *peer)
{
	socklen_t size = sizeof(*peer);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, peer, &size) < 0 ? -errno : 0;
}
