/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * In lasthop-driver's place, to test who supervises it: takes its command line, ends with its exit statuses, connects
 * to its port and reports through it. Its devices are files in the directory $FAKE_DEVICES: one that is not there is
 * missing, and what is in it says what the driver does: "up", "down" (no link), "silent" (no reports), "fail", "speak"
 * (a line and a part of another to its standard error), "flood" (without end, and all that an operator would not like
 * to find in his log). What it was asked to do it writes to the file `log` there, a line each time.
 */
#include "proto/driver_status.h"
#include "vhost/netfront.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_USAGE     2
#define EXIT_NO_DEVICE 3
#define EXIT_NO_PORT   4
#define PERIOD_MS      100

static const char *devices, *device, *port, *kind;
static volatile sig_atomic_t ended;

static void on_signal(int signo)
{
	(void)signo;
	ended = 1;
}

/* False: there is no such device. */
static bool read_device(char *text, size_t size)
{
	char path[512];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", devices, device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return true;
}

static void note(int argc, char **argv)
{
	char path[512], line[2048] = "";
	size_t used = 0;
	int fd;

	for (int i = 1; i < argc && used < sizeof(line) - 2; i++)
		used += (size_t)snprintf(line + used, sizeof(line) - used, "%s ", argv[i]);
	snprintf(path, sizeof(path), "%s/log", devices);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || dprintf(fd, "%d %s\n", getpid(), line) < 0)
		exit(EXIT_FAILURE);
	close(fd);
}

static int report(struct netfront *nf, bool up)
{
	struct driver_status status = {
		.version = DRIVER_STATUS_VERSION,
		.link = up,
		.queues = (uint16_t)nf->pairs,
		.mtu = 1400,
		.speed_mbps = 10000,
		.mode = "fake",
		.rx_packets = 1,
		.rx_bytes = 60,
		.drops = {[DRIVER_DROP_TOO_LONG] = 2},
	};

	snprintf(status.kind, sizeof(status.kind), "%s", kind);
	snprintf(status.device, sizeof(status.device), "%.15s", device);
	return netfront_control(nf, DRIVER_CTRL_CLASS, DRIVER_CTRL_STATUS, &status, sizeof(status));
}

static int set_link(struct netfront *nf, bool up)
{
	int error = 0;

	for (unsigned int i = 0; i < 2 * nf->pairs && error == 0; i++)
		error = vhost_frontend_set_vring_enable(&nf->fe, nf->queues[i].index, up);
	return error;
}

static void say(int fd, const char *text, size_t size)
{
	if (write(fd, text, size) < 0)
		ended = 1;
}

static void *flood(void *unused)
{
	static const char evil[] =
		"\n\x1b]0;title\a\x1b[2Jgone\r\xc2\x9b\0lasthop: ready\nlasthop-core: error: forged\n\n\xff\n";
	static char endless[20000];

	memset(endless, 'x', sizeof(endless));
	while (!ended) {
		say(STDERR_FILENO, evil, sizeof(evil) - 1);
		say(STDOUT_FILENO, endless, sizeof(endless));
	}
	return unused;
}

/* Once for each process. */
static void speak(bool without_end)
{
	static const char text[] = "fake: info: a word\nand half a line";
	static pthread_t thread;
	static bool spoken;

	if (spoken)
		return;
	spoken = true;
	say(STDERR_FILENO, text, sizeof(text) - 1);
	if (without_end && pthread_create(&thread, NULL, flood, NULL) != 0)
		ended = 1;
}

static int serve(struct netfront *nf)
{
	bool up = true;
	char text[64];

	while (!ended) {
		if (!read_device(text, sizeof(text)))
			return EXIT_NO_DEVICE;
		if (strcmp(text, "fail") == 0)
			return EXIT_FAILURE;
		if (strcmp(text, "speak") == 0 || strcmp(text, "flood") == 0)
			speak(strcmp(text, "flood") == 0);
		if ((strcmp(text, "down") != 0) != up) {
			up = !up;
			if (set_link(nf, up) < 0)
				return EXIT_NO_PORT;
		}
		if (strcmp(text, "silent") != 0 && report(nf, up) < 0)
			return EXIT_NO_PORT;
		if (netfront_wait(nf, 0, NETFRONT_WAIT_RX, PERIOD_MS) == -ECONNRESET)
			return EXIT_NO_PORT;
	}
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct option table[] = {
		{"port", required_argument, NULL, 'p'},      {"kind", required_argument, NULL, 'k'},
		{"device", required_argument, NULL, 'd'},    {"queues", required_argument, NULL, 'q'},
		{"netns", required_argument, NULL, 'i'},     {"mtu", required_argument, NULL, 'i'},
		{"option", required_argument, NULL, 'i'},    {"user", required_argument, NULL, 'i'},
		{"remove", no_argument, NULL, 'r'},          {"no-sandbox", no_argument, NULL, 'i'},
		{"log-level", required_argument, NULL, 'i'}, {NULL, 0, NULL, 0},
	};
	struct netfront_config config = {
		.features = NETFRONT_FEATURES | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX),
		.required = VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ),
	};
	bool remove = false;
	struct netfront *nf;
	char text[64];
	int option, status;

	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == 'p')
			port = optarg;
		else if (option == 'k')
			kind = optarg;
		else if (option == 'd')
			device = optarg;
		else if (option == 'q')
			config.pairs = (unsigned int)atoi(optarg);
		else if (option == 'r')
			remove = true;
		else if (option == '?')
			return EXIT_USAGE;
	}
	devices = getenv("FAKE_DEVICES");
	if (devices == NULL || port == NULL || kind == NULL || device == NULL)
		return EXIT_USAGE;
	note(argc, argv);
	if (!read_device(text, sizeof(text)))
		return EXIT_NO_DEVICE;
	if (remove) {
		char path[512];

		snprintf(path, sizeof(path), "%s/%s", devices, device);
		return unlink(path) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	signal(SIGTERM, on_signal);
	config.path = port;
	if (netfront_open(&nf, &config, NULL) < 0)
		return EXIT_NO_PORT;
	status = serve(nf);
	netfront_close(nf);
	return status;
}
