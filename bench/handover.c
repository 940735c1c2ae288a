/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handover: how long a cache line takes from one core to another.
 *
 * Two threads, one on each core, pass a counter to and fro in one cache line. Half a round trip is
 * a hand-over. On a virtual machine whose host moves the virtual CPUs between clusters this time
 * jumps by a factor, and every switch's rate jumps with it; so the benchmark asks before and after
 * each point.
 *
 * A contender may be polling on one of the cores meanwhile, and then owns it for whole time slices.
 * The round trips are timed in batches much shorter than a time slice, so only few batches see a
 * preemption, and the median sees none.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CACHE_LINE 64
#define BATCH      64  /* round trips a batch: at most about 30 us */
#define BATCHES    512 /* at most about 15 ms where nobody else runs */

struct shared {
	_Alignas(CACHE_LINE) _Atomic uint32_t turn; /* odd: the echo's; even: ours */
	_Alignas(CACHE_LINE) int echo_cpu;
};

static int pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	return -pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void wait_for(_Atomic uint32_t *turn, uint32_t value)
{
	while (atomic_load_explicit(turn, memory_order_acquire) != value)
		__builtin_ia32_pause();
}

static void *echo(void *arg)
{
	struct shared *s = arg;

	pin(s->echo_cpu); /* main has tried it before */
	for (uint32_t i = 0; i < BATCHES * BATCH; i++) {
		wait_for(&s->turn, 2 * i + 1);
		atomic_store_explicit(&s->turn, 2 * i + 2, memory_order_release);
	}
	return NULL;
}

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
	static struct shared s;
	static uint64_t batch_ns[BATCHES];
	pthread_t thread;
	uint32_t i = 0;
	int here, err;

	if (argc != 3) {
		fprintf(stderr, "usage: %s CPU CPU: prints nanoseconds from one to the other\n", argv[0]);
		return 2;
	}
	here = atoi(argv[1]);
	s.echo_cpu = atoi(argv[2]);
	if (here < 0 || here >= CPU_SETSIZE || s.echo_cpu < 0 || s.echo_cpu >= CPU_SETSIZE) {
		fprintf(stderr, "%s: no such CPU\n", argv[0]);
		return 2;
	}
	err = pin(s.echo_cpu);
	if (!err)
		err = pin(here);
	if (!err)
		err = -pthread_create(&thread, NULL, echo, &s);
	if (err) {
		fprintf(stderr, "%s: %s\n", argv[0], strerror(-err));
		return 1;
	}

	for (uint32_t b = 0; b < BATCHES; b++) {
		uint64_t start = now_ns();

		for (uint32_t n = 0; n < BATCH; n++, i++) {
			atomic_store_explicit(&s.turn, 2 * i + 1, memory_order_release);
			wait_for(&s.turn, 2 * i + 2);
		}
		batch_ns[b] = now_ns() - start;
	}
	pthread_join(thread, NULL);
	qsort(batch_ns, BATCHES, sizeof(batch_ns[0]), compare_u64);
	printf("%.1f\n", (double)batch_ns[BATCHES / 2] / (2 * BATCH));
	return 0;
}
