/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Front end side of vhost-user: messages out, answers in, each with a deadline.
 *
 * The socket never blocks; waiting is poll() up to a deadline that is taken once a call, so that a
 * back end that sends a byte now and then cannot stretch it. Answers are matched by request number.
 * The protocol has no sequence numbers, so after a time-out there is no way back but a new
 * connection: the front end is marked broken.
 *
 * @syscalls driver: poll sendmsg recvmsg close
 */
#include "vhost/vhost_frontend.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/compiler.h"
#include "lib/fdpass.h"

void vhost_frontend_init(struct vhost_frontend *fe, int timeout_ms)
{
	*fe = (struct vhost_frontend){.sock = -1, .timeout_ms = timeout_ms};
}

static uint64_t deadline_of(const struct vhost_frontend *fe)
{
	return clock_now_ns() + (uint64_t)max(fe->timeout_ms, 0) * NS_PER_MS;
}

/* Waits for events on fd. 0 or -ETIMEDOUT. */
static int wait_until(int fd, short events, uint64_t deadline)
{
	struct pollfd pfd = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = clock_now_ns();
		int left = now < deadline ? (int)((deadline - now + NS_PER_MS - 1) / NS_PER_MS) : 0;
		int ready = poll(&pfd, 1, left);

		if (ready > 0)
			return 0;
		if (ready == 0 && left == 0)
			return -ETIMEDOUT;
		if (ready < 0 && errno != EINTR)
			return -errno;
	}
}

static int broken(struct vhost_frontend *fe, int err)
{
	fe->broken = true;
	return err;
}

static int usable(const struct vhost_frontend *fe)
{
	return fe->sock < 0 || fe->broken ? -ENOTCONN : 0;
}

int vhost_frontend_adopt(struct vhost_frontend *fe, int sock)
{
	int flags = fcntl(sock, F_GETFL);

	if (flags < 0 || fcntl(sock, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	vhost_frontend_close(fe);
	fe->sock = sock;
	return 0;
}

int vhost_frontend_connect(struct vhost_frontend *fe, const char *path)
{
	uint64_t deadline = deadline_of(fe);

	for (;;) {
		int sock = fdpass_connect(path, SOCK_STREAM);

		if (sock >= 0)
			return vhost_frontend_adopt(fe, sock);
		/* A back end that is starting has no socket yet, or nobody behind it, or a full
		 * backlog. */
		if ((sock != -ENOENT && sock != -ECONNREFUSED && sock != -EAGAIN) || clock_now_ns() >= deadline)
			return sock;
		poll(NULL, 0, 5);
	}
}

int vhost_frontend_listen(const char *path)
{
	return fdpass_listen(path, SOCK_STREAM, 1, 0600);
}

int vhost_frontend_accept(struct vhost_frontend *fe, int listen_fd)
{
	uint64_t deadline = deadline_of(fe);

	for (;;) {
		int err, sock = fdpass_accept(listen_fd);

		if (sock >= 0)
			return vhost_frontend_adopt(fe, sock);
		if (sock != -EAGAIN)
			return sock;
		err = wait_until(listen_fd, POLLIN, deadline);
		if (err)
			return err;
	}
}

void vhost_frontend_close(struct vhost_frontend *fe)
{
	if (fe->sock >= 0)
		close(fe->sock);
	fe->sock = -1;
	fe->broken = false;
	fe->features = 0;
	fe->protocol_features = 0;
}

int vhost_frontend_check(struct vhost_frontend *fe)
{
	struct pollfd pfd = {.fd = fe->sock, .events = POLLRDHUP};

	if (usable(fe))
		return -ENOTCONN;
	if (poll(&pfd, 1, 0) > 0)
		return broken(fe, -ECONNRESET);
	return 0;
}

/* Sends all of iov, which it uses up. */
static int send_all(struct vhost_frontend *fe, struct iovec *iov, size_t count, const int *fds, unsigned int fd_count)
{
	uint64_t deadline = deadline_of(fe);

	if (usable(fe))
		return -ENOTCONN;
	while (count > 0) {
		ssize_t sent = fdpass_send(fe->sock, iov, count, fds, fd_count);

		if (sent == -EAGAIN) {
			int err = wait_until(fe->sock, POLLOUT, deadline);

			if (err)
				return broken(fe, err);
			continue;
		}
		if (sent < 0)
			return broken(fe, sent == -EPIPE ? -ECONNRESET : (int)sent);
		fd_count = 0; /* they went with the first byte */
		for (; count > 0 && (size_t)sent >= iov->iov_len; iov++, count--)
			sent -= (ssize_t)iov->iov_len;
		if (count > 0) {
			iov->iov_base = (char *)iov->iov_base + sent;
			iov->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

/* sendmsg() does not write through it, but struct iovec does not say so. */
static struct iovec to_send(const void *bytes, size_t size)
{
	return (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
}

int vhost_frontend_send_bytes(struct vhost_frontend *fe, const void *bytes, size_t size, const int *fds,
			      unsigned int fd_count)
{
	struct iovec iov = to_send(bytes, size);

	return send_all(fe, &iov, 1, fds, fd_count);
}

int vhost_frontend_send(struct vhost_frontend *fe, uint32_t request, uint32_t flags, const void *payload, uint32_t size,
			const int *fds, unsigned int fd_count)
{
	struct vhost_user_header header = {.request = request, .flags = flags, .size = size};
	/* Two pieces: struct vhost_user_msg has a hole between them. */
	struct iovec iov[] = {to_send(&header, sizeof(header)), to_send(payload, size)};

	return send_all(fe, iov, size > 0 ? 2 : 1, fds, fd_count);
}

static int receive_bytes(struct vhost_frontend *fe, void *bytes, size_t size, int *fds, size_t max, size_t *count,
			 uint64_t deadline)
{
	char *at = bytes;

	while (size > 0) {
		size_t more;
		ssize_t got = fdpass_recv(fe->sock, at, size, fds + *count, max - *count, &more);

		if (got == -EAGAIN) {
			int err = wait_until(fe->sock, POLLIN, deadline);

			if (err)
				return err;
			continue;
		}
		if (got <= 0)
			return got == 0 ? -ECONNRESET : (int)got;
		*count += more;
		at += got;
		size -= (size_t)got;
	}
	return 0;
}

int vhost_frontend_receive(struct vhost_frontend *fe, struct vhost_user_msg *msg, int *fds, unsigned int *fd_count)
{
	uint64_t deadline = deadline_of(fe);
	size_t max = fds && fd_count ? *fd_count : 0, count = 0;
	int none, err;

	if (fd_count)
		*fd_count = 0;
	if (usable(fe))
		return -ENOTCONN;
	if (!fds)
		fds = &none;
	memset(msg, 0, sizeof(*msg));
	err = receive_bytes(fe, &msg->header, sizeof(msg->header), fds, max, &count, deadline);
	if (!err && msg->header.size > sizeof(msg->payload))
		err = -EPROTO;
	if (!err)
		err = receive_bytes(fe, &msg->payload, msg->header.size, fds, max, &count, deadline);
	if (err) {
		fdpass_close(fds, count);
		return broken(fe, err);
	}
	if (fd_count)
		*fd_count = (unsigned int)count;
	return 0;
}

static int receive_answer(struct vhost_frontend *fe, uint32_t request, struct vhost_user_msg *msg)
{
	int err = vhost_frontend_receive(fe, msg, NULL, NULL);

	if (err)
		return err;
	if (msg->header.request != request || (msg->header.flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION ||
	    !(msg->header.flags & VHOST_USER_REPLY))
		return broken(fe, -EPROTO);
	return 0;
}

int vhost_frontend_ask(struct vhost_frontend *fe, uint32_t request, const void *payload, uint32_t size,
		       struct vhost_user_msg *answer)
{
	int err = vhost_frontend_send(fe, request, VHOST_USER_VERSION, payload, size, NULL, 0);

	return err ? err : receive_answer(fe, request, answer);
}

int vhost_frontend_tell(struct vhost_frontend *fe, uint32_t request, const void *payload, uint32_t size, const int *fds,
			unsigned int fd_count)
{
	bool ack = fe->ack && vhost_frontend_has(fe, VHOST_USER_PROTOCOL_F_REPLY_ACK);
	uint32_t flags = VHOST_USER_VERSION | (ack ? VHOST_USER_NEED_REPLY : 0);
	struct vhost_user_msg answer;
	int err;

	err = vhost_frontend_send(fe, request, flags, payload, size, fds, fd_count);
	if (err || !ack)
		return err;
	err = receive_answer(fe, request, &answer);
	if (err)
		return err;
	if (answer.header.size != sizeof(answer.payload.u64))
		return broken(fe, -EPROTO);
	return answer.payload.u64 ? -EREMOTEIO : 0;
}

int vhost_frontend_get_u64(struct vhost_frontend *fe, uint32_t request, uint64_t *value)
{
	struct vhost_user_msg answer;
	int err = vhost_frontend_ask(fe, request, NULL, 0, &answer);

	if (err)
		return err;
	if (answer.header.size != sizeof(answer.payload.u64))
		return broken(fe, -EPROTO);
	*value = answer.payload.u64;
	return 0;
}

int vhost_frontend_set_u64(struct vhost_frontend *fe, uint32_t request, uint64_t value)
{
	return vhost_frontend_tell(fe, request, &value, sizeof(value), NULL, 0);
}
