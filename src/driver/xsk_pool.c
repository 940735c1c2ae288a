/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Setting up AF_XDP sockets through libxdp, which knows how the kernel's rings are mapped, and moving frames through
 * the rings.
 *
 * A kernel in copy mode sends in the call that tells it to, 32 frames at a time, and says EAGAIN while there are more.
 *
 * @syscalls driver: sendto recvfrom getsockopt
 */
#include "driver/xsk_pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/log.h"

#define SEND_BUFFER (8 << 20) /* bytes of the kernel's own accounting that may be under way, a queue */
#define KICKS_MAX   8         /* of one turn: a ring of 32 times as many frames */
#define LEAVES_MS   1000      /* what a dead process's socket may take to go */
#define LOOK_MS     10

#define IN_FILL 1
#define IN_TX   2

/* Set-up. */

static int open_socket(struct xsk_pool *pool, const struct xsk_pool_config *config, struct xsk_queue *queue,
		       unsigned int index)
{
	const struct xsk_socket_config socket_config = {
		.rx_size = config->ring_size,
		.tx_size = config->ring_size,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = (uint16_t)(XDP_USE_NEED_WAKEUP | (config->copy ? XDP_COPY : 0)),
	};
	const struct timespec pause = {.tv_nsec = LOOK_MS * NS_PER_MS};
	uint64_t deadline = clock_now_ns() + LEAVES_MS * NS_PER_MS;
	int err, size = SEND_BUFFER;

	for (;;) {
		err = xsk_socket__create_shared(&queue->socket, config->device, index, pool->umem, &queue->rx,
						&queue->tx, &queue->fill, &queue->completion, &socket_config);
		if (err != -EBUSY || clock_now_ns() > deadline)
			break;
		/* Whose process was killed a moment ago goes in the background. */
		nanosleep(&pause, NULL);
	}
	if (err)
		return err;
	queue->fd = xsk_socket__fd(queue->socket);
	/* More than an administrator's limit takes privilege; less makes us kick more often. */
	if (setsockopt(queue->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		log_debug("%s: queue %u: send buffer: %s", config->device, index, strerror(errno));
	return 0;
}

static void explain(const struct xsk_pool_config *config, int queue, int err)
{
	const char *advice = "--log-level 3 may tell more";

	switch (err) {
	case -EBUSY:
		advice = "another process has an AF_XDP socket on this queue: end that one";
		break;
	case -EPERM:
	case -EACCES:
		advice = "AF_XDP takes root or CAP_NET_RAW (and CAP_IPC_LOCK for the pool)";
		break;
	case -ENOBUFS:
	case -ENOMEM:
		advice = "the kernel may not lock so much memory: raise `ulimit -l`, start with CAP_IPC_LOCK, or have "
			 "fewer queues";
		break;
	case -EINVAL:
		advice = "the device has no such queue (`ethtool -l`), or does not take buffers of this size";
		break;
	case -EOPNOTSUPP:
	case -EAFNOSUPPORT:
	case -EPROTONOSUPPORT:
		advice = "the kernel or the device cannot: use --kind af_packet";
		break;
	case -ENETDOWN:
		advice = "the device is down: `ip link set DEVICE up`";
		break;
	default:
		break;
	}
	if (queue < 0)
		log_error("%s: memory for AF_XDP (%llu KiB): %s; %s", config->device,
			  (unsigned long long)(config->size >> 10), strerror(-err), advice);
	else
		log_error("%s: AF_XDP socket of queue %d: %s; %s", config->device, queue, strerror(-err), advice);
}

static bool is_zero_copy(const struct xsk_queue *queue)
{
	struct xdp_options options = {0};
	socklen_t size = sizeof(options);

	return getsockopt(queue->fd, SOL_XDP, XDP_OPTIONS, &options, &size) == 0 &&
	       (options.flags & XDP_OPTIONS_ZEROCOPY);
}

static int register_memory(struct xsk_pool *pool, const struct xsk_pool_config *config)
{
	const struct xsk_umem_config umem_config = {
		.fill_size = config->ring_size,
		.comp_size = config->ring_size,
		.frame_size = config->chunk_size,
	};

	*pool = (struct xsk_pool){
		.memory = config->memory,
		.size = align_down(config->size, config->chunk_size),
		.chunk_size = config->chunk_size,
		.chunk_shift = (unsigned int)__builtin_ctz(config->chunk_size),
	};
	pool->where = calloc(pool->size >> pool->chunk_shift, 1);
	pool->queues = aligned_alloc(CACHE_LINE, config->queues * sizeof(*pool->queues));
	if (!pool->where || !pool->queues)
		return -ENOMEM;
	memset(pool->queues, 0, config->queues * sizeof(*pool->queues));
	return xsk_umem__create(&pool->umem, pool->memory, pool->size, &pool->queues[0].fill,
				&pool->queues[0].completion, &umem_config);
}

int xsk_pool_open(struct xsk_pool *pool, const struct xsk_pool_config *config)
{
	int err = config->queues > 0 && config->queues <= XSK_QUEUES_MAX ? register_memory(pool, config) : -EINVAL;

	if (err)
		explain(config, -1, err);
	for (unsigned int i = 0; !err && i < config->queues; i++) {
		struct xsk_queue *queue = &pool->queues[i];

		queue->pool = pool;
		queue->here = (uint8_t)(2 * i);
		err = open_socket(pool, config, queue, i);
		if (err)
			explain(config, (int)i, err);
		pool->queue_count += !err;
	}
	if (err) {
		xsk_pool_close(pool);
		return err;
	}
	pool->zero_copy = is_zero_copy(&pool->queues[0]);
	return 0;
}

void xsk_pool_close(struct xsk_pool *pool)
{
	for (unsigned int i = 0; i < pool->queue_count; i++)
		xsk_socket__delete(pool->queues[i].socket);
	if (pool->umem)
		xsk_umem__delete(pool->umem);
	free(pool->queues);
	free(pool->where);
	*pool = (struct xsk_pool){0};
}

/* Rings. */

/* The chunk that has `size` bytes at addr is taken back from the kernel, if it has it. */
static bool take_back(struct xsk_queue *queue, uint64_t addr, uint32_t size, uint8_t direction)
{
	struct xsk_pool *pool = queue->pool;
	uint8_t *where;

	if (likely(addr < pool->size)) {
		where = &pool->where[addr >> pool->chunk_shift];
		if (likely(*where == queue->here + direction &&
			   size <= pool->chunk_size - (addr & (pool->chunk_size - 1)))) {
			*where = 0;
			return true;
		}
	}
	queue->lies++;
	return false;
}

static bool hand_over(struct xsk_queue *queue, uint64_t addr, uint8_t direction)
{
	struct xsk_pool *pool = queue->pool;
	uint64_t chunk = addr >> pool->chunk_shift;

	if (unlikely(addr >= pool->size || pool->where[chunk] != 0))
		return false;
	pool->where[chunk] = (uint8_t)(queue->here + direction);
	return true;
}

unsigned int xsk_queue_give(struct xsk_queue *queue, const uint64_t *chunks, unsigned int n)
{
	uint32_t at, given = 0;

	n = min(n, xsk_prod_nb_free(&queue->fill, n));
	if (n == 0 || xsk_ring_prod__reserve(&queue->fill, n, &at) != n)
		return 0;
	while (given < n && hand_over(queue, chunks[given], IN_FILL)) {
		*xsk_ring_prod__fill_addr(&queue->fill, at + given) = chunks[given];
		given++;
	}
	queue->fill.cached_prod -= n - given;
	xsk_ring_prod__submit(&queue->fill, given);
	queue->receiving += given;
	return given;
}

unsigned int xsk_queue_receive(struct xsk_queue *queue, struct xsk_frame *frames, unsigned int n)
{
	unsigned int got = 0;
	uint32_t at;

	n = xsk_ring_cons__peek(&queue->rx, n, &at);
	for (unsigned int i = 0; i < n; i++) {
		struct xdp_desc desc = *xsk_ring_cons__rx_desc(&queue->rx, at + i);

		if (take_back(queue, desc.addr, desc.len, IN_FILL))
			frames[got++] = (struct xsk_frame){.addr = desc.addr, .size = desc.len};
	}
	if (n > 0)
		xsk_ring_cons__release(&queue->rx, n);
	queue->receiving -= got;
	return got;
}

unsigned int xsk_queue_send(struct xsk_queue *queue, const struct xsk_frame *frames, unsigned int n)
{
	uint32_t at, sent = 0;

	n = min(n, xsk_prod_nb_free(&queue->tx, n));
	if (n == 0 || xsk_ring_prod__reserve(&queue->tx, n, &at) != n)
		return 0;
	while (sent < n && hand_over(queue, frames[sent].addr, IN_TX)) {
		*xsk_ring_prod__tx_desc(&queue->tx, at + sent) = (struct xdp_desc){.addr = frames[sent].addr,
										   .len = frames[sent].size};
		sent++;
	}
	queue->tx.cached_prod -= n - sent;
	xsk_ring_prod__submit(&queue->tx, sent);
	queue->sending += sent;
	return sent;
}

unsigned int xsk_queue_completed(struct xsk_queue *queue, uint64_t *chunks, unsigned int n)
{
	unsigned int got = 0;
	uint32_t at;

	n = xsk_ring_cons__peek(&queue->completion, n, &at);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t addr = *xsk_ring_cons__comp_addr(&queue->completion, at + i);

		if (take_back(queue, addr, 0, IN_TX))
			chunks[got++] = addr;
	}
	if (n > 0)
		xsk_ring_cons__release(&queue->completion, n);
	queue->sending -= got;
	return got;
}

uint32_t xsk_queue_unsent(const struct xsk_queue *queue)
{
	return queue->tx.cached_prod - load_acquire(queue->tx.consumer);
}

uint32_t xsk_queue_unread(const struct xsk_queue *queue)
{
	return load_acquire(queue->rx.producer) - queue->rx.cached_cons;
}

uint32_t xsk_queue_unfilled(const struct xsk_queue *queue)
{
	return queue->fill.cached_prod - load_acquire(queue->fill.consumer);
}

int xsk_queue_kick(struct xsk_queue *queue)
{
	if (!xsk_ring_prod__needs_wakeup(&queue->tx))
		return 0;
	for (unsigned int i = 0; i < KICKS_MAX; i++) {
		if (sendto(queue->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0)
			return 0;
		switch (errno) {
		case EAGAIN:
		case EBUSY: /* the device has dropped one, and gives it back */
			if (xsk_queue_unsent(queue) == 0)
				return 0;
			break;
		case EINTR:
			break;
		case ENXIO:
		case ENODEV:
		case EBADF:
			return -ENODEV;
		case ENETDOWN:
			return -ENETDOWN;
		default: /* ENOBUFS and the like: not now */
			return -EAGAIN;
		}
	}
	return -EAGAIN;
}

void xsk_queue_kick_fill(struct xsk_queue *queue)
{
	/* It fails if the device is down or gone, which others notice. */
	if (xsk_ring_prod__needs_wakeup(&queue->fill) && recvfrom(queue->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) < 0)
		return;
}

int xsk_queue_losses(const struct xsk_queue *queue, struct xsk_losses *losses)
{
	struct xdp_statistics stats = {0};
	socklen_t size = sizeof(stats);

	if (getsockopt(queue->fd, SOL_XDP, XDP_STATISTICS, &stats, &size) < 0)
		return -errno;
	/* A frame that finds the fill ring empty counts there and, in copy mode, as dropped as well. */
	*losses = (struct xsk_losses){
		.too_long = stats.rx_dropped > stats.rx_fill_ring_empty_descs
				    ? stats.rx_dropped - stats.rx_fill_ring_empty_descs
				    : 0,
		.no_buffer = stats.rx_fill_ring_empty_descs + stats.rx_ring_full,
		.bad = stats.rx_invalid_descs + stats.tx_invalid_descs,
	};
	return 0;
}
