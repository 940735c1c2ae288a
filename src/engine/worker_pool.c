/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pool: makes the workers, gives queues to them, ends them.
 *
 * Workers are pinned where there is one for each CPU that the process may use; fewer are left to the kernel.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/engine_internal.h"

void worker_wake(struct worker *worker)
{
	const uint64_t one = 1;

	/* A full counter means that it has been woken already. */
	if (write(worker->wake_fd, &one, sizeof(one)) < 0)
		return;
}

void worker_note(struct worker *worker, uint32_t id)
{
	__atomic_fetch_or(&worker->attention[id / 64], 1ULL << (id % 64), __ATOMIC_RELEASE);
}

/* The nth CPU that this process may use. */
static uint32_t allowed_cpu(const cpu_set_t *allowed, unsigned int n)
{
	for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, allowed) && n-- == 0)
			return cpu;
	}
	return CPU_NONE;
}

static void place_workers(struct worker_pool *pool)
{
	uint32_t cpus[STATS_WORKERS_MAX];
	cpu_set_t allowed;
	bool pinned = pool->config.pinned && !sched_getaffinity(0, sizeof(allowed), &allowed) &&
		      CPU_COUNT(&allowed) == (int)pool->started;

	for (unsigned int i = 0; i < pool->started; i++) {
		cpus[i] = pinned ? allowed_cpu(&allowed, i) : CPU_NONE;
		pool->workers[i]->cpu = cpus[i];
	}
	for (unsigned int i = 0; i < pool->started; i++)
		topology_order(pool->config.topology, cpus, pool->started, i, pool->workers[i]->nearest);
}

static int worker_create(struct worker_pool *pool, unsigned int index)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_EVENT};
	struct worker *worker = aligned_alloc(CACHE_LINE, align_up(sizeof(*worker), CACHE_LINE));

	if (!worker)
		return -ENOMEM;
	memset(worker, 0, sizeof(*worker));
	pool->workers[index] = worker;
	worker->pool = pool;
	worker->index = index;
	worker->epoll_fd = -1;
	worker->wake_fd = -1;
	worker->fwd = forwarder_create(pool->config.dp, index, pool->config.ports + index * FLOW_PORTS_MAX,
				       pool->config.stats + index);
	if (!worker->fwd)
		return -ENOMEM;
	worker->fwd->watcher = &pool->watchdog.watcher;
	worker->fwd->wakes_first = !pool->config.preemptive_copy;
	if (copy_init(worker))
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
	copy_fini(worker);
	free(worker);
}

static int pool_init(struct worker_pool *pool)
{
	int error = watchdog_init(&pool->watchdog);

	if (!error)
		error = homes_init(pool);
	/* All of them before the first one runs: they wake each other. */
	for (unsigned int i = 0; i < pool->config.workers && !error; i++)
		error = worker_create(pool, i);
	if (error)
		return error;
	pool->started = pool->config.workers;
	place_workers(pool);
	return 0;
}

static int pool_run(struct worker_pool *pool)
{
	int error = 0;

	for (unsigned int i = 0; i < pool->started && !error; i++) {
		error = worker_start(pool->workers[i]);
		if (!error)
			watchdog_add(&pool->watchdog, pool->workers[i]->thread, pool->workers[i]->fwd);
	}
	if (pool->config.caller) {
		pool->config.caller->watcher = &pool->watchdog.watcher;
		watchdog_add(&pool->watchdog, pthread_self(), pool->config.caller);
	}
	return error ? error : watchdog_start(&pool->watchdog);
}

int worker_pool_start(struct worker_pool **pool, const struct worker_pool_config *config)
{
	struct worker_pool *new = calloc(1, sizeof(*new));
	int error;

	if (!new)
		return -ENOMEM;
	new->config = *config;
	error = pool_init(new);
	if (!error)
		error = pool_run(new);
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

		if (!worker->running)
			continue;
		store_release(&worker->stop, true);
		worker_wake(worker);
		pthread_join(worker->thread, NULL);
	}
	/* Not before: a worker may have had to be interrupted to end. */
	watchdog_stop(&pool->watchdog);
	watchdog_fini(&pool->watchdog);
	if (pool->config.caller)
		pool->config.caller->watcher = NULL;
	for (unsigned int i = 0; i < STATS_WORKERS_MAX; i++)
		worker_free(pool->workers[i]);
	homes_fini(pool);
	free(pool);
}

int worker_pool_attach(struct worker_pool *pool, const struct txq *txq, int kick_fd)
{
	uint32_t id = queue_id(txq->port, txq->queue);
	int error = kick_fd >= 0 ? homes_add(pool, id, false, kick_fd) : 0;

	if (error)
		return error;
	store_relaxed(&pool->seats[id].polled, kick_fd < 0);
	worker_pool_attend(pool, txq);
	return 0;
}

void worker_pool_attend(struct worker_pool *pool, const struct txq *txq)
{
	uint32_t id = queue_id(txq->port, txq->queue);

	worker_attend(homes_get(pool, id), id);
}

int worker_pool_attach_rx(struct worker_pool *pool, uint32_t port, uint32_t queue, int kick_fd)
{
	return homes_add(pool, queue_id(port, queue), true, kick_fd);
}

void worker_pool_detach(struct worker_pool *pool, uint32_t port, uint32_t queue, int kick_fd)
{
	homes_remove(pool, queue_id(port, queue), kick_fd);
}

void worker_pool_wake(struct worker_pool *pool)
{
	full_barrier();
	for (unsigned int i = 0; i < pool->started; i++) {
		if (load_acquire(&pool->workers[i]->has_waiting))
			worker_wake(pool->workers[i]);
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
