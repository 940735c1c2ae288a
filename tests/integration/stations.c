/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stations for the scripts of this directory: attaches a front end to each socket that is named and
 * then does what it is told, a line each, answered by a line:
 *
 *   send I SRC DST N   N frames from front end I                  -> ok
 *   take I N MS        waits for N frames, at most so long        -> how many came
 *   stream MS          frames 0 -> 1 and 1 -> 0 for so long,
 *                      then waits for those under way             -> SENT RECEIVED
 *   announce I MAC     asks that the address be announced         -> ok
 *
 * Ends with its standard input. What goes wrong is told on standard error, with exit status 1.
 */
#include "lib/clock.h"
#include "vhost/netfront.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATIONS_MAX 64
#define FRAME_SIZE   60
#define WINDOW       8    /* frames of a stream under way, each direction */
#define LAST_MS      2000 /* for those under way at its end */

static struct netfront *stations[STATIONS_MAX];
static unsigned int count;

static void fail(const char *what, int error)
{
	fprintf(stderr, "stations: %s: %s\n", what, strerror(-error));
	exit(EXIT_FAILURE);
}

static bool parse_mac(uint8_t mac[6], const char *text)
{
	return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6;
}

static void send_frame(unsigned int i, const uint8_t *frame)
{
	uint64_t deadline = clock_now_ns() + LAST_MS * NS_PER_MS;
	int error;

	while ((error = netfront_send_frame(stations[i], 0, frame, FRAME_SIZE)) == -ENOBUFS &&
	       clock_now_ns() < deadline)
		netfront_wait(stations[i], 0, NETFRONT_WAIT_TX, 10);
	if (error < 0)
		fail("send", error);
}

/* Of ours, or an announcement: Linux interfaces on the same bridge send all kinds of things when they come up. */
static bool is_wanted(const struct netfront_frame *frame)
{
	static const uint8_t ours[] = {0x88, 0xb5}, announcement[] = {0x80, 0x35}, hostile[] = {0x02, 0xee};
	uint8_t head[14];

	return netfront_frame_copy(frame, 0, head, sizeof(head)) == sizeof(head) &&
	       (memcmp(head + 12, ours, 2) == 0 || memcmp(head + 12, announcement, 2) == 0) &&
	       memcmp(head + 6, hostile, 2) != 0;
}

/* Takes what is there; returns how many frames. */
static unsigned int take_now(unsigned int i)
{
	struct netfront_frame frames[32];
	int n = netfront_receive(stations[i], 0, frames, 32);
	unsigned int wanted = 0;

	if (n < 0)
		fail("receive", n);
	for (int j = 0; j < n; j++)
		wanted += is_wanted(&frames[j]);
	netfront_recycle(stations[i], 0);
	return wanted;
}

static unsigned int take(unsigned int i, unsigned int wanted, unsigned int ms)
{
	uint64_t deadline = clock_now_ns() + ms * NS_PER_MS;
	unsigned int taken = 0;

	for (;;) {
		uint64_t now = clock_now_ns();

		taken += take_now(i);
		if (taken >= wanted || now >= deadline)
			return taken;
		netfront_wait(stations[i], 0, NETFRONT_WAIT_RX, (int)((deadline - now) / NS_PER_MS) + 1);
	}
}

static void stream(unsigned int ms)
{
	uint8_t frames[2][FRAME_SIZE] = {{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5},
					 {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5}};
	uint64_t end = clock_now_ns() + ms * NS_PER_MS;
	unsigned long sent[2] = {0}, received[2] = {0};

	while (clock_now_ns() < end) {
		for (unsigned int i = 0; i < 2; i++) {
			while (sent[i] - received[i] < WINDOW) {
				send_frame(i, frames[i]);
				sent[i]++;
			}
		}
		for (unsigned int i = 0; i < 2; i++)
			received[i] += take_now(!i);
		if (sent[0] - received[0] == WINDOW && sent[1] - received[1] == WINDOW)
			netfront_wait(stations[0], 0, NETFRONT_WAIT_RX, 1);
	}
	for (unsigned int i = 0; i < 2; i++)
		received[i] += take(!i, (unsigned int)(sent[i] - received[i]), LAST_MS);
	printf("%lu %lu\n", sent[0] + sent[1], received[0] + received[1]);
}

static bool send_frames(unsigned int i, const char *src, const char *dst, unsigned int n)
{
	uint8_t frame[FRAME_SIZE] = {0};

	if (!parse_mac(frame, dst) || !parse_mac(frame + 6, src))
		return false;
	frame[12] = 0x88;
	frame[13] = 0xb5;
	for (unsigned int j = 0; j < n; j++)
		send_frame(i, frame);
	puts("ok");
	return true;
}

static bool announce(unsigned int i, const char *text)
{
	uint8_t mac[6];
	int error;

	if (!parse_mac(mac, text))
		return false;
	error = vhost_frontend_send_rarp(&stations[i]->fe, mac);
	if (error < 0)
		fail("announce", error);
	puts("ok");
	return true;
}

static bool execute(const char *line)
{
	char src[32], dst[32];
	unsigned int i = 0, n, ms;

	if (sscanf(line, "send %u %31s %31s %u", &i, src, dst, &n) == 4 && i < count)
		return send_frames(i, src, dst, n);
	if (sscanf(line, "take %u %u %u", &i, &n, &ms) == 3 && i < count) {
		printf("%u\n", take(i, n, ms));
		return true;
	}
	if (sscanf(line, "stream %u", &ms) == 1 && count >= 2) {
		stream(ms);
		return true;
	}
	if (sscanf(line, "announce %u %31s", &i, src) == 2 && i < count)
		return announce(i, src);
	return false;
}

int main(int argc, char **argv)
{
	char line[256];

	for (int i = 1; i < argc && i <= STATIONS_MAX; i++) {
		struct netfront_config config = {.path = argv[i]};
		const char *step = "";
		int error = netfront_open(&stations[count], &config, &step);

		if (error < 0)
			fail(step, error);
		count++;
	}
	puts("ok");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (!execute(line)) {
			fprintf(stderr, "stations: not understood: %s", line);
			return EXIT_FAILURE;
		}
		fflush(stdout);
	}
	for (unsigned int i = 0; i < count; i++)
		netfront_close(stations[i]);
	return EXIT_SUCCESS;
}
