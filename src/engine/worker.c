/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A worker's loop: a round of turns over its active queues; when a round made no progress for a while, ask the
 * guests for kicks, look once more, sleep. While it is awake, kicks are off.
 *
 * Kicks arrive through the worker's epoll, edge-triggered, so that nothing has to be read from descriptors that
 * belong to somebody else. An event names port and queue by number: by the time it is handled the port may be
 * gone, which the lookup under RCU tells. Asleep, a worker is offline for RCU.
 *
 * The watchdog is a thread of its own because the main thread may be waiting for the very worker that hangs, in a
 * grace period, or hang itself.
 */
#include "engine/worker.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"

/* Queues of one worker: every transmit queue of a full switch. */
#define QUEUES_MAX (FLOW_PORTS_MAX * PORT_PAIRS_MAX)
#define EVENTS_MAX 64
#define WAKE_EVENT UINT64_MAX
#define RX_EVENT   (1ULL << 63)
/* Queues without kicks are looked at this often at least. */
#define POLLED_NS  200000ULL
#define RETRY_NS   1000000ULL
/* Who is in the same notification for a whole period hangs in it. */
#define WATCH_NS   100000000ULL

/* The watchdog's view of one thread. */
struct watched {
	pthread_t thread;
	const struct forwarder *fwd;
	uint32_t calls; /* as seen last */
};

struct worker {
	struct worker_pool *pool;
	struct forwarder *fwd;
	pthread_t thread;
	bool running;
	int epoll_fd;
	int wake_fd;
	bool stop;        /* atomic */
	bool has_waiting; /* atomic: wake it when something changes */
	/* by queue, atomic; set by the main thread */
	uint64_t attention[QUEUES_MAX / 64]; /* attached lately: look at it without a kick */
	uint64_t polled[QUEUES_MAX / 64];    /* its guest never kicks */
	/* the worker's own: queues that had something lately */
	uint32_t active_count;
	uint32_t active[QUEUES_MAX];
	bool is_active[QUEUES_MAX];
};

struct worker_pool {
	struct worker_pool_config config;
	unsigned int started;
	unsigned int next_upcall;
	struct worker *workers[STATS_WORKERS_MAX];
	pthread_t watchdog;
	bool watching;
	bool watch_stop; /* under watch_lock */
	pthread_mutex_t watch_lock;
	pthread_cond_t watch_wake;
	unsigned int watched_count;
	struct watched watched[STATS_WORKERS_MAX];
};

static uint32_t queue_id(uint32_t port, uint32_t queue)
{
	return port * PORT_PAIRS_MAX + queue;
}

static struct txq *find_queue(struct worker *worker, uint32_t id)
{
	struct port *port = datapath_port(worker->pool->config.dp, id / PORT_PAIRS_MAX);

	return port ? &port->txq[id % PORT_PAIRS_MAX] : NULL;
}

static void wake_fd(int fd)
{
	const uint64_t one = 1;

	/* A full counter means that it has been woken already. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

static bool test_bit(const uint64_t *bits, uint32_t id)
{
	return load_acquire(&bits[id / 64]) >> (id % 64) & 1;
}

static void change_bit(uint64_t *bits, uint32_t id, bool set)
{
	if (set)
		__atomic_fetch_or(&bits[id / 64], 1ULL << (id % 64), __ATOMIC_RELEASE);
	else
		__atomic_fetch_and(&bits[id / 64], ~(1ULL << (id % 64)), __ATOMIC_RELEASE);
}

static void activate(struct worker *worker, uint32_t id)
{
	struct txq *txq = find_queue(worker, id);

	if (!txq || !load_acquire(&txq->live))
		return;
	txq_kicks_off(txq);
	if (worker->is_active[id])
		return;
	worker->is_active[id] = true;
	worker->active[worker->active_count++] = id;
}

static void activate_attached(struct worker *worker)
{
	for (uint32_t word = 0; word < ARRAY_SIZE(worker->attention); word++) {
		uint64_t bits = load_relaxed(&worker->attention[word]);

		if (!bits)
			continue;
		bits = __atomic_exchange_n(&worker->attention[word], 0, __ATOMIC_ACQUIRE);
		for (; bits; bits &= bits - 1)
			activate(worker, word * 64 + (uint32_t)__builtin_ctzll(bits));
	}
}

static void deactivate(struct worker *worker, uint32_t position)
{
	worker->is_active[worker->active[position]] = false;
	worker->active[position] = worker->active[--worker->active_count];
}

/* One turn for every active queue. Returns the packets it made progress with. */
static unsigned int round_of_turns(struct worker *worker)
{
	unsigned int progress = 0;

	for (uint32_t i = 0; i < worker->active_count;) {
		struct txq *txq = find_queue(worker, worker->active[i]);

		if (!txq || !load_acquire(&txq->live)) {
			deactivate(worker, i);
			continue;
		}
		progress += forward_turn(worker->fwd, txq);
		notice_give_all(worker->fwd);
		i++;
	}
	return progress;
}

/* Kicks on for all active queues; those without waiting packets become inactive. True: do not sleep. */
static bool arm(struct worker *worker, uint64_t *deadline)
{
	bool ready = false, waiting = false;

	*deadline = 0;
	for (uint32_t i = 0; i < worker->active_count;) {
		struct txq *txq = find_queue(worker, worker->active[i]);
		uint64_t until;

		if (!txq || !load_acquire(&txq->live)) {
			deactivate(worker, i);
			continue;
		}
		if (forward_arm(worker->fwd, txq)) {
			ready = true;
			txq_kicks_off(txq);
			i++;
			continue;
		}
		until = forward_deadline(worker->fwd, txq);
		if (test_bit(worker->polled, worker->active[i])) {
			until = clock_now_ns() + POLLED_NS;
		} else if (until == 0) {
			deactivate(worker, i);
			continue;
		} else {
			waiting = true;
		}
		if (*deadline == 0 || until < *deadline)
			*deadline = until;
		i++;
	}
	store_release(&worker->has_waiting, waiting);
	full_barrier();
	return ready;
}

static void handle_events(struct worker *worker, const struct epoll_event *events, int count)
{
	for (int i = 0; i < count; i++) {
		uint64_t data = events[i].data.u64;

		if (data == WAKE_EVENT) {
			uint64_t value;

			if (read(worker->wake_fd, &value, sizeof(value)) < 0)
				continue;
			activate_attached(worker);
		} else if (data & RX_EVENT) {
			worker_pool_wake(worker->pool);
		} else {
			activate(worker, (uint32_t)data);
			stats_add(&worker->fwd->stats[(uint32_t)data / PORT_PAIRS_MAX].kicks, 1);
		}
	}
}

/* @syscalls core: epoll_wait epoll_pwait epoll_pwait2 sched_yield write read futex */
static int wait_for_events(struct worker *worker, struct epoll_event *events, uint64_t deadline)
{
	struct timespec timeout = {0};
	int count;

	if (deadline) {
		uint64_t now = clock_now_ns();
		uint64_t left = deadline > now ? deadline - now : 0;

		/* What changes without telling us (a lost wake-up of a broken guest) is found soon enough. */
		left = min(left, (uint64_t)RETRY_NS);
		timeout.tv_nsec = (long)left;
	}
	rcu_thread_offline();
	count = epoll_pwait2(worker->epoll_fd, events, EVENTS_MAX, deadline ? &timeout : NULL, NULL);
	rcu_thread_online();
	return count;
}

static void poll_events(struct worker *worker)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(worker->epoll_fd, events, EVENTS_MAX, 0);

	handle_events(worker, events, count);
}

static void sleep_until_kicked(struct worker *worker)
{
	struct epoll_event events[EVENTS_MAX];
	uint64_t deadline;
	int count;

	if (arm(worker, &deadline))
		return;
	stats_add(&worker->fwd->worker_stats->sleeps, 1);
	count = wait_for_events(worker, events, deadline);
	store_release(&worker->has_waiting, false);
	handle_events(worker, events, count);
	for (uint32_t i = 0; i < worker->active_count; i++) {
		struct txq *txq = find_queue(worker, worker->active[i]);

		if (txq && load_acquire(&txq->live))
			txq_kicks_off(txq);
	}
}

/* The thread is about to end: it must not be interrupted any more. */
static void watch_end(struct worker_pool *pool, const struct forwarder *fwd)
{
	pthread_mutex_lock(&pool->watch_lock);
	for (unsigned int i = 0; i < pool->watched_count; i++) {
		if (pool->watched[i].fwd == fwd)
			pool->watched[i] = pool->watched[--pool->watched_count];
	}
	pthread_mutex_unlock(&pool->watch_lock);
}

/* Looks for new kicks of other queues this often while some queue keeps the worker busy: rounds. */
#define EVENTS_EVERY 16

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	uint64_t idle_since = 0;
	unsigned int rounds = 0;

	rcu_register_thread();
	while (!load_acquire(&worker->stop)) {
		unsigned int progress = round_of_turns(worker);

		rcu_quiescent_state();
		if (progress > 0) {
			idle_since = 0;
			if (++rounds % EVENTS_EVERY == 0)
				poll_events(worker);
			continue;
		}
		if (idle_since == 0)
			idle_since = clock_now_ns();
		if (worker->active_count > 0 && clock_now_ns() - idle_since < worker->pool->config.linger_ns) {
			sched_yield();
			continue;
		}
		sleep_until_kicked(worker);
		idle_since = 0;
	}
	rcu_unregister_thread();
	watch_end(worker->pool, worker->fwd);
	return NULL;
}

static void on_watch_signal(int signo)
{
	/* It only has to interrupt a system call. */
	(void)signo;
}

static void watch_one(struct watched *watched)
{
	static struct log_limit limit;
	uint32_t calls = load_acquire(&watched->fwd->calls);

	if ((calls & 1) && calls == watched->calls) {
		log_limited(&limit, LOG_WARN, "interrupting a notification of port %u that hangs",
			    load_relaxed(&watched->fwd->call_port));
		pthread_kill(watched->thread, SIGUSR1);
	}
	watched->calls = calls;
}

static void *watchdog_main(void *arg)
{
	struct worker_pool *pool = arg;

	pthread_mutex_lock(&pool->watch_lock);
	while (!pool->watch_stop) {
		uint64_t at = clock_now_ns() + WATCH_NS;
		struct timespec until = {.tv_sec = (time_t)(at / NS_PER_S), .tv_nsec = (long)(at % NS_PER_S)};

		for (unsigned int i = 0; i < pool->watched_count; i++)
			watch_one(&pool->watched[i]);
		pthread_cond_timedwait(&pool->watch_wake, &pool->watch_lock, &until);
	}
	pthread_mutex_unlock(&pool->watch_lock);
	return NULL;
}

static void watch_thread(struct worker_pool *pool, pthread_t thread, const struct forwarder *fwd)
{
	pool->watched[pool->watched_count++] = (struct watched){.thread = thread, .fwd = fwd};
}

static int watchdog_start(struct worker_pool *pool)
{
	int error;

	for (unsigned int i = 0; i < pool->started; i++)
		watch_thread(pool, pool->workers[i]->thread, pool->workers[i]->fwd);
	if (pool->config.caller)
		watch_thread(pool, pthread_self(), pool->config.caller);
	error = pthread_create(&pool->watchdog, NULL, watchdog_main, pool);
	pool->watching = !error;
	return -error;
}

static void watchdog_stop(struct worker_pool *pool)
{
	if (!pool->watching)
		return;
	pthread_mutex_lock(&pool->watch_lock);
	pool->watch_stop = true;
	pthread_cond_signal(&pool->watch_wake);
	pthread_mutex_unlock(&pool->watch_lock);
	pthread_join(pool->watchdog, NULL);
}

static int worker_create(struct worker_pool *pool, unsigned int index)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_EVENT};
	struct worker *worker = calloc(1, sizeof(*worker));

	if (!worker)
		return -ENOMEM;
	pool->workers[index] = worker;
	worker->pool = pool;
	worker->epoll_fd = -1;
	worker->wake_fd = -1;
	worker->fwd = forwarder_create(pool->config.dp, index, pool->config.ports + index * FLOW_PORTS_MAX,
				       pool->config.stats + index);
	if (!worker->fwd)
		return -ENOMEM;
	worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->epoll_fd < 0 || worker->wake_fd < 0 ||
	    epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->wake_fd, &event))
		return -errno;
	return 0;
}

static int worker_start(struct worker *worker)
{
	int error = pthread_create(&worker->thread, NULL, worker_main, worker);

	worker->running = !error;
	return -error;
}

static void worker_free(struct worker *worker)
{
	if (!worker)
		return;
	if (worker->epoll_fd >= 0)
		close(worker->epoll_fd);
	if (worker->wake_fd >= 0)
		close(worker->wake_fd);
	forwarder_destroy(worker->fwd);
	free(worker);
}

int worker_pool_start(struct worker_pool **pool, const struct worker_pool_config *config)
{
	struct sigaction action = {.sa_handler = on_watch_signal};
	struct worker_pool *new = calloc(1, sizeof(*new));
	pthread_condattr_t clock;
	int error;

	if (!new)
		return -ENOMEM;
	new->config = *config;
	pthread_mutex_init(&new->watch_lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&new->watch_wake, &clock);
	pthread_condattr_destroy(&clock);
	if (sigaction(SIGUSR1, &action, NULL)) {
		free(new);
		return -errno;
	}
	/* All of them before the first one runs: they wake each other. */
	new->started = config->workers;
	error = 0;
	for (unsigned int i = 0; i < config->workers && !error; i++)
		error = worker_create(new, i);
	for (unsigned int i = 0; i < config->workers && !error; i++)
		error = worker_start(new->workers[i]);
	if (!error)
		error = watchdog_start(new);
	if (error) {
		worker_pool_stop(new);
		return error;
	}
	*pool = new;
	return 0;
}

void worker_pool_stop(struct worker_pool *pool)
{
	for (unsigned int i = 0; i < pool->started; i++) {
		struct worker *worker = pool->workers[i];

		if (!worker || !worker->running)
			continue;
		store_release(&worker->stop, true);
		wake_fd(worker->wake_fd);
		pthread_join(worker->thread, NULL);
	}
	/* Not before: a worker may have had to be interrupted to end. */
	watchdog_stop(pool);
	for (unsigned int i = 0; i < pool->started; i++)
		worker_free(pool->workers[i]);
	pthread_cond_destroy(&pool->watch_wake);
	pthread_mutex_destroy(&pool->watch_lock);
	free(pool);
}

static struct worker *worker_for(struct worker_pool *pool, uint32_t port, uint32_t queue)
{
	return pool->workers[(port + queue) % pool->started];
}

static int watch(struct worker *worker, int fd, uint64_t data)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = data};

	return epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int worker_pool_attach(struct worker_pool *pool, const struct txq *txq, int kick_fd)
{
	struct worker *worker = worker_for(pool, txq->port, txq->queue);
	uint32_t id = queue_id(txq->port, txq->queue);
	int error = kick_fd >= 0 ? watch(worker, kick_fd, id) : 0;

	if (error)
		return error;
	change_bit(worker->polled, id, kick_fd < 0);
	worker_pool_attend(pool, txq);
	return 0;
}

void worker_pool_attend(struct worker_pool *pool, const struct txq *txq)
{
	struct worker *worker = worker_for(pool, txq->port, txq->queue);

	change_bit(worker->attention, queue_id(txq->port, txq->queue), true);
	wake_fd(worker->wake_fd);
}

int worker_pool_attach_rx(struct worker_pool *pool, uint32_t port, uint32_t queue, int kick_fd)
{
	return watch(worker_for(pool, port, queue), kick_fd, queue_id(port, queue) | RX_EVENT);
}

void worker_pool_detach(struct worker_pool *pool, uint32_t port, uint32_t queue, int kick_fd)
{
	epoll_ctl(worker_for(pool, port, queue)->epoll_fd, EPOLL_CTL_DEL, kick_fd, NULL);
}

void worker_pool_wake(struct worker_pool *pool)
{
	full_barrier();
	for (unsigned int i = 0; i < pool->started; i++) {
		if (load_acquire(&pool->workers[i]->has_waiting))
			wake_fd(pool->workers[i]->wake_fd);
	}
}

bool worker_pool_upcall(struct worker_pool *pool, struct upcall *upcall)
{
	for (unsigned int i = 0; i < pool->started; i++) {
		struct worker *worker = pool->workers[pool->next_upcall++ % pool->started];

		if (upcall_get(&worker->fwd->upcalls, upcall))
			return true;
	}
	return false;
}
