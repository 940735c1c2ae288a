/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread of its own, because the main thread may be waiting for the very worker that hangs, in a grace period, or
 * hang itself. It looks once a period; who is in the same notification at two looks hangs in it.
 *
 * When nobody has notified anybody for a period it sleeps until somebody wakes up, so that an idle switch is idle.
 * That a thread goes to sleep with the dog and wakes it again costs nothing in between.
 */
#include "engine/watchdog.h"

#include <errno.h>
#include <signal.h>

#include "lib/clock.h"
#include "lib/log.h"

#define PERIOD_NS 100000000ULL

static void on_signal(int signo)
{
	/* It only has to interrupt a system call. */
	(void)signo;
}

/* True: it has notified somebody since the last look, or does so now. */
static bool look_at(struct watchdog *dog, unsigned int index)
{
	static struct log_limit limit;
	const struct forwarder *fwd = dog->watched[index].fwd;
	uint32_t before = dog->watched[index].calls;
	uint32_t calls = load_acquire(&fwd->calls);

	if ((calls & 1) && calls == before) {
		log_limited(&limit, LOG_WARN, "interrupting a notification of port %u that hangs",
			    load_relaxed(&fwd->call_port));
		pthread_kill(dog->watched[index].thread, SIGUSR1);
	}
	dog->watched[index].calls = calls;
	return (calls & 1) || calls != before;
}

static bool look_at_all(struct watchdog *dog)
{
	bool active = false;

	for (unsigned int i = 0; i < dog->count; i++)
		active |= look_at(dog, i);
	return active;
}

static void *watchdog_main(void *arg)
{
	struct watchdog *dog = arg;

	pthread_mutex_lock(&dog->lock);
	while (!dog->stop) {
		uint64_t at = clock_now_ns() + PERIOD_NS;
		struct timespec until = {.tv_sec = (time_t)(at / NS_PER_S), .tv_nsec = (long)(at % NS_PER_S)};

		pthread_cond_timedwait(&dog->wake, &dog->lock, &until);
		if (dog->stop || look_at_all(dog))
			continue;
		store_relaxed(&dog->watcher.asleep, true);
		full_barrier();
		/* Whoever began a notification before it could see that the dog sleeps (forward_call). */
		if (!look_at_all(dog)) {
			while (load_relaxed(&dog->watcher.asleep) && !dog->stop)
				pthread_cond_wait(&dog->wake, &dog->lock);
		}
		store_relaxed(&dog->watcher.asleep, false);
	}
	pthread_mutex_unlock(&dog->lock);
	return NULL;
}

static void wake(struct call_watcher *watcher)
{
	struct watchdog *dog = container_of(watcher, struct watchdog, watcher);

	pthread_mutex_lock(&dog->lock);
	store_relaxed(&dog->watcher.asleep, false);
	pthread_cond_signal(&dog->wake);
	pthread_mutex_unlock(&dog->lock);
}

int watchdog_init(struct watchdog *dog)
{
	struct sigaction action = {.sa_handler = on_signal};
	pthread_condattr_t clock;

	dog->watcher.wake = wake;
	pthread_mutex_init(&dog->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&dog->wake, &clock);
	pthread_condattr_destroy(&clock);
	return sigaction(SIGUSR1, &action, NULL) ? -errno : 0;
}

void watchdog_add(struct watchdog *dog, pthread_t thread, const struct forwarder *fwd)
{
	dog->watched[dog->count].thread = thread;
	dog->watched[dog->count].fwd = fwd;
	dog->count++;
}

int watchdog_start(struct watchdog *dog)
{
	int error = pthread_create(&dog->thread, NULL, watchdog_main, dog);

	dog->running = !error;
	return -error;
}

void watchdog_stop(struct watchdog *dog)
{
	if (!dog->running)
		return;
	pthread_mutex_lock(&dog->lock);
	dog->stop = true;
	pthread_cond_signal(&dog->wake);
	pthread_mutex_unlock(&dog->lock);
	pthread_join(dog->thread, NULL);
	dog->running = false;
}

void watchdog_fini(struct watchdog *dog)
{
	pthread_cond_destroy(&dog->wake);
	pthread_mutex_destroy(&dog->lock);
}

void watchdog_end(struct watchdog *dog, const struct forwarder *fwd)
{
	pthread_mutex_lock(&dog->lock);
	for (unsigned int i = 0; i < dog->count; i++) {
		if (dog->watched[i].fwd == fwd)
			dog->watched[i] = dog->watched[--dog->count];
	}
	pthread_mutex_unlock(&dog->lock);
}
