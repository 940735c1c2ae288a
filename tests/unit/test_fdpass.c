/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sockets and the descriptors that they carry: none leaks, whatever the peer sends.
 */
#include "unit.h"

#include "lib/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>

static char dir[64], path[96];
static int pair[2];
static char hello[] = "hello";
static struct iovec one_byte = {.iov_base = hello, .iov_len = 1};

static int setup(void **state)
{
	(void)state;
	if (unit_temporary_dir(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/sock", dir);
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair);
}

static int teardown(void **state)
{
	(void)state;
	close(pair[0]);
	close(pair[1]);
	unlink(path);
	return rmdir(dir);
}

static void send_fds(size_t n_fds)
{
	int fds[FDPASS_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = 0;
	assert_int_equal(fdpass_send(pair[0], &one_byte, 1, fds, n_fds), 1);
}

static void test_send_receive(void **state)
{
	struct iovec iov[2] = {{.iov_base = hello, .iov_len = 3}, {.iov_base = hello + 3, .iov_len = 2}};
	int pipe_fds[2], fds[4];
	char buf[16];
	size_t n_fds;

	(void)state;
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(fdpass_send(pair[0], iov, 2, pipe_fds, 2), 5);
	assert_int_equal(fdpass_recv(pair[1], buf, sizeof(buf), fds, 4, &n_fds), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(n_fds, 2);
	assert_true((fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(write(fds[1], "!", 1), 1);
	assert_int_equal(read(pipe_fds[0], buf, 1), 1);
	fdpass_close(pipe_fds, 2);
	fdpass_close(fds, 2);
	assert_int_equal(fds[0], -1);
	fdpass_close(fds, 2);
	assert_int_equal(fdpass_recv(pair[1], buf, sizeof(buf), fds, 4, &n_fds), -EAGAIN);
	assert_int_equal(fdpass_send(pair[0], iov, 2, NULL, 0), 5);
	assert_int_equal(fdpass_recv(pair[1], buf, sizeof(buf), fds, 4, &n_fds), 5);
	assert_int_equal(n_fds, 0);
}

static void test_too_many(void **state)
{
	int fds[8], next = unit_next_fd();
	char buf[4];
	size_t n_fds = 99;

	(void)state;
	send_fds(3);
	assert_int_equal(fdpass_recv(pair[1], buf, sizeof(buf), fds, 2, &n_fds), -EPROTO);
	assert_int_equal(n_fds, 0);
	send_fds(FDPASS_MAX);
	assert_int_equal(fdpass_recv(pair[1], buf, sizeof(buf), fds, 8, &n_fds), -EPROTO);
	send_fds(1);
	assert_int_equal(fdpass_recv(pair[1], buf, sizeof(buf), NULL, 0, &n_fds), -EPROTO);
	assert_int_equal(unit_next_fd(), next);
	assert_int_equal(fdpass_send(pair[0], &one_byte, 1, fds, 254), -E2BIG);
}

/* What the process may not open, the kernel drops and reports. */
static void test_descriptor_limit(void **state)
{
	struct rlimit saved, limit;
	int fds[8], next = unit_next_fd();
	char buf[4];
	size_t n_fds;
	ssize_t n;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &saved);
	limit = saved;
	send_fds(4);
	limit.rlim_cur = (rlim_t)next + 2;
	setrlimit(RLIMIT_NOFILE, &limit);
	n = fdpass_recv(pair[1], buf, sizeof(buf), fds, 8, &n_fds);
	setrlimit(RLIMIT_NOFILE, &saved);
	assert_int_equal(n, -EPROTO);
	assert_int_equal(n_fds, 0);
	assert_int_equal(unit_next_fd(), next);
}

static void test_closed_peer(void **state)
{
	char buf[4];
	size_t n_fds;

	(void)state;
	close(pair[0]);
	assert_int_equal(fdpass_recv(pair[1], buf, sizeof(buf), NULL, 0, &n_fds), 0);
	assert_int_equal(fdpass_send(pair[1], &one_byte, 1, NULL, 0), -EPIPE);
	pair[0] = dup(pair[1]);
}

static void test_long_packet(void **state)
{
	int packet[2], fds[2], next;
	char buf[4];
	size_t n_fds;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packet), 0);
	next = unit_next_fd();
	assert_int_equal(
		fdpass_send(packet[0], &(struct iovec){.iov_base = hello, .iov_len = 5}, 1, (const int[]){0}, 1), 5);
	assert_int_equal(fdpass_recv(packet[1], buf, 4, fds, 2, &n_fds), -EMSGSIZE);
	assert_int_equal(unit_next_fd(), next);
	fdpass_close(packet, 2);
}

static void test_listen(void **state)
{
	int listener, client, server, next = unit_next_fd();
	struct ucred peer;
	struct stat st;

	(void)state;
	assert_int_equal(fdpass_connect(path, SOCK_STREAM), -ENOENT);
	listener = fdpass_listen(path, SOCK_STREAM, 4, 0666);
	assert_true(listener >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	assert_int_equal(fdpass_accept(listener), -EAGAIN);
	/* Somebody listens, so it is not stale. */
	assert_int_equal(fdpass_listen(path, SOCK_STREAM, 4, 0600), -EADDRINUSE);
	server = fdpass_accept(listener);
	if (server >= 0)
		close(server);
	client = fdpass_connect(path, SOCK_STREAM);
	assert_true(client >= 0);
	server = fdpass_accept(listener);
	assert_true(server >= 0);
	assert_int_equal(fdpass_peer(server, &peer), 0);
	assert_int_equal(peer.pid, getpid());
	assert_int_equal(peer.uid, geteuid());
	close(client);
	close(server);
	/* Left behind by its owner: replaced. */
	close(listener);
	assert_int_equal(fdpass_connect(path, SOCK_STREAM), -ECONNREFUSED);
	listener = fdpass_listen(path, SOCK_STREAM, 4, 0600);
	assert_true(listener >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(listener);
	assert_int_equal(unit_next_fd(), next);
}

static void test_bad_paths(void **state)
{
	char longest[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	int file, next = unit_next_fd();

	(void)state;
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(fdpass_listen(longest, SOCK_STREAM, 1, 0600), -ENAMETOOLONG);
	assert_int_equal(fdpass_connect(longest, SOCK_STREAM), -ENAMETOOLONG);
	assert_int_equal(fdpass_listen("", SOCK_STREAM, 1, 0600), -EINVAL);
	assert_int_equal(fdpass_listen("/nonexistent/sock", SOCK_STREAM, 1, 0600), -ENOENT);
	file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(file >= 0);
	close(file);
	assert_int_equal(fdpass_listen(path, SOCK_STREAM, 1, 0600), -EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(unit_next_fd(), next);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_send_receive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_descriptor_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closed_peer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_packet, setup, teardown),
		cmocka_unit_test_setup_teardown(test_listen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_paths, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
