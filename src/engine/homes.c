/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the work is done. Workers are pinned, one to a CPU, and a queue's kicks come to the worker of the CPU where its
 * VM runs: the kick wakes a thread on the kicker's own CPU, which is quick, nothing that sleeps has to be started for
 * it, and the packets are still in that CPU's cache. As VMs move, so do the kicks: by the home worker itself, after a
 * few kicks in a row from elsewhere. The descriptors' registrations change under a lock that the worker only tries.
 *
 * Without an observer nobody knows where VMs run, and homes stay where they were given in turn.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

/* Kicks from another CPU before a pair moves there. */
#define STRANGE_KICKS 4

int homes_init(struct worker_pool *pool)
{
	pool->seats = aligned_alloc(CACHE_LINE, QUEUES_MAX * sizeof(*pool->seats));
	if (!pool->seats)
		return -ENOMEM;
	pthread_mutex_init(&pool->home_lock, NULL);
	for (uint32_t id = 0; id < QUEUES_MAX; id++)
		pool->seats[id] = (struct seat){.tx_fd = -1, .rx_fd = -1};
	return 0;
}

void homes_fini(struct worker_pool *pool)
{
	if (pool->seats)
		pthread_mutex_destroy(&pool->home_lock);
	free(pool->seats);
}

struct worker *homes_at(struct worker_pool *pool, uint32_t cpu)
{
	for (unsigned int i = 0; i < pool->started; i++) {
		if (pool->workers[i]->cpu == cpu)
			return pool->workers[i];
	}
	return NULL;
}

static struct worker *worker_near(struct worker_pool *pool, const struct port *port)
{
	int slot = load_relaxed(&port->vm_slot);

	return vm_state_get(slot) == VM_STATE_UNKNOWN ? NULL : homes_at(pool, vm_state_last_cpu(slot));
}

static int watch(const struct worker *worker, int fd, uint64_t data)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = data};

	return epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static void unwatch(const struct worker *worker, int fd)
{
	epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

int homes_add(struct worker_pool *pool, uint32_t id, bool receive, int fd)
{
	const struct port *port = datapath_port(pool->config.dp, id / PORT_PAIRS_MAX);
	struct worker *near = port ? worker_near(pool, port) : NULL;
	struct seat *seat = &pool->seats[id];
	int error;

	pthread_mutex_lock(&pool->home_lock);
	if (seat->tx_fd < 0 && seat->rx_fd < 0) {
		unsigned int turn = (id / PORT_PAIRS_MAX + id % PORT_PAIRS_MAX) % pool->started;

		store_relaxed(&seat->home, near ? near->index : turn);
	}
	error = watch(homes_get(pool, id), fd, receive ? id | RX_EVENT : id);
	if (!error)
		*(receive ? &seat->rx_fd : &seat->tx_fd) = fd;
	pthread_mutex_unlock(&pool->home_lock);
	return error;
}

void homes_remove(struct worker_pool *pool, uint32_t id, int fd)
{
	struct seat *seat = &pool->seats[id];

	pthread_mutex_lock(&pool->home_lock);
	unwatch(homes_get(pool, id), fd);
	if (seat->tx_fd == fd)
		seat->tx_fd = -1;
	if (seat->rx_fd == fd)
		seat->rx_fd = -1;
	pthread_mutex_unlock(&pool->home_lock);
}

/* The new home first: what comes in between is then told to both. */
static void move(struct seat *seat, uint32_t id, const struct worker *from, const struct worker *to)
{
	if (seat->tx_fd >= 0 && watch(to, seat->tx_fd, id))
		return;
	if (seat->rx_fd >= 0 && watch(to, seat->rx_fd, id | RX_EVENT)) {
		if (seat->tx_fd >= 0)
			unwatch(to, seat->tx_fd);
		return;
	}
	store_relaxed(&seat->home, to->index);
	if (seat->tx_fd >= 0)
		unwatch(from, seat->tx_fd);
	if (seat->rx_fd >= 0)
		unwatch(from, seat->rx_fd);
}

/* @syscalls core: epoll_ctl */
void homes_follow(struct worker *worker, uint32_t id, const struct port *port)
{
	struct seat *seat = &worker->pool->seats[id];
	struct worker *near = worker_near(worker->pool, port);
	uint32_t kicks;

	if (!near || near == worker) {
		store_relaxed(&seat->strange_kicks, 0);
		return;
	}
	kicks = load_relaxed(&seat->strange_kicks) + 1;
	store_relaxed(&seat->strange_kicks, kicks);
	if (kicks < STRANGE_KICKS || pthread_mutex_trylock(&worker->pool->home_lock))
		return;
	store_relaxed(&seat->strange_kicks, 0);
	if (homes_get(worker->pool, id) == worker)
		move(seat, id, worker, near);
	pthread_mutex_unlock(&worker->pool->home_lock);
}

struct worker *homes_find_idle(struct worker *worker)
{
	struct worker_pool *pool = worker->pool;

	/* The nearest one: the packets are in this CPU's caches. */
	for (unsigned int i = 0; i + 1 < pool->started; i++) {
		struct worker *other = pool->workers[worker->nearest[i]];

		if (load_relaxed(&other->asleep) && vm_state_cpu_is_idle(other->cpu))
			return other;
	}
	return NULL;
}
