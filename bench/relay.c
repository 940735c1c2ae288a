/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relay: what a thread costs that does nothing but wait for an event and pass it on.
 *
 * A sender writes to an eventfd every 50 us or so; the relay waits for that in epoll_wait and writes to another one,
 * which a receiver reads. That is the least that a switch between sleeping VMs does for a packet that comes alone, so
 * no such switch uses less CPU time a packet than the relay. Prints microseconds of its CPU time for each event.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/compiler.h"

#define EVENTS   20000
#define PAUSE_NS 50000

struct relay {
	int cpu[3]; /* sender's, relay's, receiver's */
	int from;
	int to;
	clockid_t clock; /* of the relay's CPU time */
	bool ready;      /* atomic */
};

static bool pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

static void *relay_main(void *arg)
{
	struct relay *relay = arg;
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	const uint64_t one = 1;
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	if (!pin(relay->cpu[1]) || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, relay->from, &event) ||
	    pthread_getcpuclockid(pthread_self(), &relay->clock))
		return NULL;
	store_release(&relay->ready, true);
	for (;;) {
		if (epoll_wait(epoll_fd, &event, 1, -1) == 1 && write(relay->to, &one, sizeof(one)) < 0)
			return NULL;
	}
}

static void *receiver_main(void *arg)
{
	struct relay *relay = arg;
	uint64_t value;

	if (pin(relay->cpu[2])) {
		while (read(relay->to, &value, sizeof(value)) > 0)
			;
	}
	return NULL;
}

static bool start(struct relay *relay)
{
	pthread_t thread;

	relay->from = eventfd(0, EFD_CLOEXEC);
	relay->to = eventfd(0, EFD_CLOEXEC);
	if (relay->from < 0 || relay->to < 0 || pthread_create(&thread, NULL, relay_main, relay) ||
	    pthread_create(&thread, NULL, receiver_main, relay))
		return false;
	for (unsigned int ms = 0; ms < 1000 && !load_acquire(&relay->ready); ms++)
		usleep(1000);
	return load_acquire(&relay->ready) && pin(relay->cpu[0]);
}

static double run(const struct relay *relay)
{
	const struct timespec pause = {0, PAUSE_NS};
	const uint64_t one = 1;
	struct timespec used;

	for (unsigned int i = 0; i < EVENTS; i++) {
		nanosleep(&pause, NULL);
		if (write(relay->from, &one, sizeof(one)) < 0)
			return -1;
	}
	if (clock_gettime(relay->clock, &used))
		return -1;
	return (double)((uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec) / EVENTS / 1000;
}

int main(int argc, char **argv)
{
	struct relay relay = {0};
	double cost;

	if (argc != 4) {
		fprintf(stderr, "usage: %s CPU CPU CPU: of sender, relay and receiver; prints microseconds an event\n",
			argv[0]);
		return 2;
	}
	for (int i = 0; i < 3; i++)
		relay.cpu[i] = atoi(argv[1 + i]);
	if (!start(&relay) || (cost = run(&relay)) < 0) {
		fprintf(stderr, "relay: %s\n", strerror(errno));
		return 1;
	}
	printf("%.1f\n", cost);
	return 0;
}
