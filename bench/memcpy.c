/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memcpy: what the machine itself can do of a switch's work, the bound of every switch that copies
 * once: one thread copies frames from the buffers of one ring into those of another, of the same
 * number, size and spacing as bench_vm's, on the switch's core. There are no rings, no addresses to
 * check, no headers to read.
 *
 * --touch adds the VMs: a thread on their core writes each frame before it is copied and reads it
 * afterwards, so that the payload crosses from core to core as it does between VMs.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/compiler.h"

#define HEADER     12 /* the net header */
#define GSO_FROM   9000
#define GSO_RX     4096
#define BATCH      32
#define WARM_UP_NS (300 * NS_PER_MS)

static struct {
	uint32_t size, ring;
	int vm_cpu, switch_cpu;
	bool touch;
	double seconds;
} opt = {.size = 64, .ring = 256, .vm_cpu = -1, .switch_cpu = -1, .seconds = 1};

static struct {
	cache_aligned uint64_t written; /* frames: by the VMs */
	cache_aligned uint64_t copied;  /* by the switch */
	cache_aligned bool over;
	uint8_t *from, *to;
	uint32_t from_stride, to_stride, piece; /* piece: bytes of a receive buffer */
	uint32_t pieces;                        /* of a frame */
	uint64_t sum;                           /* of what was read: it must not be optimized away */
} work;

static void pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set)) {
		fprintf(stderr, "bench_memcpy: no cpu %d\n", cpu);
		exit(1);
	}
}

static uint8_t *source(uint64_t frame)
{
	return work.from + (frame % opt.ring) * work.from_stride;
}

static uint8_t *target(uint64_t frame, uint32_t piece)
{
	return work.to + ((frame * work.pieces + piece) % opt.ring) * work.to_stride;
}

static void copy_frame(uint64_t frame)
{
	const uint8_t *from = source(frame);
	uint32_t left = HEADER + opt.size;

	for (uint32_t i = 0; left > 0; i++) {
		uint32_t n = min(left, work.piece);

		memcpy(target(frame, i), from, n);
		from += n;
		left -= n;
	}
}

static void read_frame(uint64_t frame)
{
	uint32_t left = HEADER + opt.size;
	uint64_t word, sum = 0;

	for (uint32_t i = 0; left > 0; i++) {
		const uint8_t *at = target(frame, i);
		uint32_t n = min(left, work.piece);

		for (uint32_t k = 0; k + 8 <= n; k += 8) {
			memcpy(&word, at + k, 8);
			sum += word;
		}
		left -= n;
	}
	work.sum += sum;
}

/* Writes what is to be copied and reads what was; never more under way than both rings hold. */
static void *vms(void *arg)
{
	uint64_t written = 0, seen = 0, limit = opt.ring / work.pieces;

	(void)arg;
	pin(opt.vm_cpu);
	while (!load_relaxed(&work.over)) {
		uint64_t copied = load_acquire(&work.copied);

		for (; seen < copied; seen++)
			read_frame(seen);
		for (unsigned int n = 0; n < BATCH && written - seen < limit; n++) {
			memset(source(written), (int)written, HEADER + opt.size);
			written++;
		}
		store_release(&work.written, written);
	}
	return NULL;
}

static void *copier(void *arg)
{
	uint64_t copied = 0;

	(void)arg;
	pin(opt.switch_cpu);
	while (!load_relaxed(&work.over)) {
		uint64_t to = copied + BATCH;

		if (opt.touch)
			to = min(to, load_acquire(&work.written));
		for (; copied < to; copied++)
			copy_frame(copied);
		store_release(&work.copied, copied);
	}
	return NULL;
}

static void sleep_ns(uint64_t ns)
{
	uint64_t until = clock_now_ns() + ns;
	struct timespec ts = {(time_t)(until / NS_PER_S), (long)(until % NS_PER_S)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void measure(void)
{
	uint64_t start, end, from, packets;
	pthread_t threads[2];

	if (pthread_create(&threads[0], NULL, copier, NULL) ||
	    (opt.touch && pthread_create(&threads[1], NULL, vms, NULL))) {
		fputs("bench_memcpy: no thread\n", stderr);
		exit(1);
	}
	sleep_ns(WARM_UP_NS);
	start = clock_now_ns();
	from = load_relaxed(&work.copied);
	sleep_ns((uint64_t)(opt.seconds * 1e9));
	end = clock_now_ns();
	packets = load_relaxed(&work.copied) - from;
	store_relaxed(&work.over, true);
	for (unsigned int i = 0; i < (opt.touch ? 2 : 1); i++)
		pthread_join(threads[i], NULL);
	printf("{\"packets\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"start_ns\": %llu, "
	       "\"end_ns\": %llu, \"size\": %u, \"touch\": %s}\n",
	       (unsigned long long)packets, (unsigned long long)packets * opt.size, (double)(end - start) / 1e9,
	       (unsigned long long)start, (unsigned long long)end, opt.size, opt.touch ? "true" : "false");
}

static void make_buffers(void)
{
	uint32_t whole = HEADER + opt.size;

	/* As bench_vm lays out its rings. */
	work.piece = opt.size >= GSO_FROM ? GSO_RX : max(whole, 2048u);
	work.pieces = (whole + work.piece - 1) / work.piece;
	work.from_stride = (uint32_t)align_up(max(whole, 2048u), CACHE_LINE);
	work.to_stride = (uint32_t)align_up(work.piece, CACHE_LINE);
	work.from = aligned_alloc(4096, align_up((size_t)work.from_stride * opt.ring, 4096));
	work.to = aligned_alloc(4096, align_up((size_t)work.to_stride * opt.ring, 4096));
	if (!work.from || !work.to || work.pieces > opt.ring) {
		fputs("bench_memcpy: no memory for that, or the ring is too small\n", stderr);
		exit(1);
	}
	memset(work.from, 1, (size_t)work.from_stride * opt.ring);
	memset(work.to, 0, (size_t)work.to_stride * opt.ring);
}

static const char help[] = "usage: bench_memcpy [options]\n"
			   "\n"
			   "Copies frames from one ring's buffers to another's; prints one JSON object.\n"
			   "\n"
			   "  --size N         bytes of a frame, 64\n"
			   "  --ring N         buffers of a ring, 256\n"
			   "  --touch          a second thread writes and reads the frames\n"
			   "  --vm-cpu N       where that runs; --switch-cpu N where the copies are made\n"
			   "  --seconds S      1\n";

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"size", required_argument, NULL, 'n'},
		{"ring", required_argument, NULL, 'r'},
		{"touch", no_argument, NULL, 't'},
		{"vm-cpu", required_argument, NULL, 'v'},
		{"switch-cpu", required_argument, NULL, 's'},
		{"seconds", required_argument, NULL, 'S'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int which;

	while ((which = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (which) {
		case 'n':
			opt.size = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'r':
			opt.ring = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 't':
			opt.touch = true;
			break;
		case 'v':
			opt.vm_cpu = atoi(optarg);
			break;
		case 's':
			opt.switch_cpu = atoi(optarg);
			break;
		case 'S':
			opt.seconds = strtod(optarg, NULL);
			break;
		default:
			fputs(help, which == 'h' ? stdout : stderr);
			return which == 'h' ? 0 : 2;
		}
	}
	if (opt.size < 1 || opt.size > 1 << 20 || opt.ring < 1 || opt.ring > 32768) {
		fputs(help, stderr);
		return 2;
	}
	make_buffers();
	measure();
	free(work.from);
	free(work.to);
	return 0;
}
