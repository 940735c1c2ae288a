/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A round takes a batch from the device and gives it to the switch, then a batch from the switch and gives it to the
 * device. A thread that has gone round in vain asks both to call, and sleeps.
 *
 * Buffers from the device lie on a stack (the virtqueue's `idle`), so that the same few, which are in the cache, are
 * used again and again; only under load do all of them come into play.
 *
 * The switch is not trusted. vq_driver keeps what it says about chains within what was posted, and lengths within the
 * buffers; here remains how many chains a frame has. A ring that makes no sense ends the process: it has nothing worth
 * keeping, and a new one starts with new rings.
 *
 * @syscalls driver: ppoll poll read write futex
 */
#include "driver/pump.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"

#define ETH_HEADER 14

/* How long a device is left alone whose descriptor is readable for ever, and says nothing. */
#define AILING_MS 100

/* Sleeps end in time for those who ask whether we live, whatever they forgot to write. */
#define SLEEP_MAX_MS 1000

static uint32_t buffer_number(const struct pump *pump, uint32_t buffer)
{
	const struct driver_pool *pool = &pump->dev->pool;

	return (uint32_t)(((uint64_t)buffer * DRIVER_UNIT - pool->first) / pool->stride);
}

static void drop(struct pump *pump, enum driver_drop reason, unsigned int n)
{
	DRIVER_COUNT(pump->queue->counters.drops[reason], n);
}

/* From the device. */

static void set_idle(struct pump *pump, const struct driver_frame *frame)
{
	for (; frame; frame = frame->next)
		netfront_tx_put_back(pump->nf, pump->pair, &frame->buffer, 1);
}

static uint64_t frame_size(const struct driver_frame *frame)
{
	uint64_t size = 0;

	for (; frame; frame = frame->next)
		size += frame->size;
	return size;
}

static bool too_short(const struct pump *pump, uint64_t size)
{
	return size < pump->dev->pool.header + ETH_HEADER;
}

/* Gives one frame to the switch, whose buffers are nobody's at this moment. */
static void send_frame(struct pump *pump, const struct driver_frame *frame)
{
	struct netfront_piece pieces[NETFRONT_PIECES_MAX];
	const struct driver_frame *piece = frame;
	unsigned int count = 0;

	if (too_short(pump, frame_size(frame))) {
		drop(pump, DRIVER_DROP_BAD_FRAME, 1);
		set_idle(pump, frame);
		return;
	}
	do {
		pieces[count++] = (struct netfront_piece){
			.tag = piece->buffer,
			.offset = (uint32_t)(piece->data - driver_buffer(&pump->dev->pool, piece->buffer)),
			.size = piece->size,
		};
		piece = piece->next;
	} while (piece && count < NETFRONT_PIECES_MAX);
	if (netfront_tx_post(pump->nf, pump->pair, pieces, count) < 0) {
		drop(pump, DRIVER_DROP_NO_BUFFER, 1);
		set_idle(pump, frame);
	}
}

/* What came, before anything is merged: that saves headers, but the device has had them. */
static void count_received(struct pump *pump, const struct driver_frame *frames, unsigned int n)
{
	struct driver_counters *counters = &pump->queue->counters;
	unsigned int received = 0;
	uint64_t total = 0;

	for (unsigned int i = 0; i < n; i++) {
		uint64_t size = frame_size(&frames[i]);

		if (frames[i].part || too_short(pump, size))
			continue;
		received++;
		total += size - pump->dev->pool.header;
	}
	DRIVER_COUNT(counters->rx_packets, received);
	DRIVER_COUNT(counters->rx_bytes, total);
}

static void send_frames(struct pump *pump, struct driver_frame *frames, unsigned int n)
{
	count_received(pump, frames, n);
	if (pump->coalesces)
		DRIVER_COUNT(pump->queue->counters.rx_coalesced, gro_batch(&pump->gro, frames, n));
	for (unsigned int i = 0; i < n; i++) {
		if (!frames[i].part)
			send_frame(pump, &frames[i]);
	}
	if (n > 0)
		netfront_flush(pump->nf, pump->from);
}

/* Puts n buffers back, those that were to be used first on top. */
static void put_back(struct pump *pump, const uint32_t *buffers, unsigned int n)
{
	while (n-- > 0)
		netfront_tx_put_back(pump->nf, pump->pair, &buffers[n], 1);
}

/* A kind that has rx_give gets all buffers that there are. */
static void give_buffers(struct pump *pump)
{
	uint32_t buffers[DRIVER_BATCH];
	int n, taken;

	do {
		n = netfront_tx_buffers(pump->nf, pump->pair, buffers, DRIVER_BATCH);
		if (n <= 0)
			return;
		taken = max(pump->dev->kind->rx_give(pump->queue, buffers, (unsigned int)n), 0);
		put_back(pump, buffers + taken, (unsigned int)(n - taken));
	} while ((unsigned int)taken == DRIVER_BATCH);
}

void pump_prime(struct pump *pump)
{
	if (pump->dev->kind->rx_give)
		give_buffers(pump);
}

/*
 * The others are offered empty ones, of which they fill the first. What they have not filled is offered again the next
 * time as it is, so that a look at a device that has nothing costs nothing here.
 */
static void offer_buffers(struct pump *pump)
{
	uint32_t buffers[DRIVER_BATCH], headroom = pump->dev->facts.headroom;
	unsigned int wanted = DRIVER_BATCH - pump->offered_count + pump->filled;
	int n;

	if (wanted == 0)
		return;
	n = max(netfront_tx_buffers(pump->nf, pump->pair, buffers, wanted), 0);
	/* Those that were used last first: in the place of those that were filled. */
	for (unsigned int i = 0; i < (unsigned int)n; i++) {
		unsigned int at = i < pump->filled ? i : pump->offered_count++;

		pump->offered[at] = (struct driver_frame){
			.data = driver_buffer(&pump->dev->pool, buffers[i]) + headroom,
			.room = pump->from->buffer_size - headroom,
			.buffer = buffers[i],
		};
	}
	while ((unsigned int)n < pump->filled) {
		pump->filled--;
		pump->offered[pump->filled] = pump->offered[--pump->offered_count];
	}
	pump->filled = 0;
}

static int from_device(struct pump *pump)
{
	const struct driver_kind *kind = pump->dev->kind;
	struct driver_frame *frames = pump->offered;
	int n = netfront_reclaim(pump->nf, pump->pair);

	if (unlikely(n < 0))
		return n;
	if (kind->rx_give) {
		give_buffers(pump);
		n = kind->rx(pump->queue, frames, DRIVER_BATCH);
	} else if (pump->quiet) {
		pump->quiet = false;
		return 0;
	} else {
		offer_buffers(pump);
		n = pump->offered_count > 0 ? kind->rx(pump->queue, frames, pump->offered_count) : 0;
	}
	if (unlikely(n < 0)) {
		if (n == -ENODEV)
			return n;
		if (n != -ENETDOWN)
			drop(pump, DRIVER_DROP_DEVICE_ERROR, 1);
		return 0;
	}
	send_frames(pump, frames, (unsigned int)n);
	if (!kind->rx_give)
		pump->filled = (unsigned int)n;
	return n;
}

/* To the device. */

/* The switch may fill it again. */
static void give_back(struct pump *pump, const struct vq_used *slots, unsigned int n)
{
	vq_driver_post(&pump->to->vq, slots, n);
}

static void give_back_frame(struct pump *pump, const struct driver_frame *frame)
{
	for (; frame; frame = frame->next) {
		struct vq_used slot = {.head = pump->head[buffer_number(pump, frame->buffer)]};

		give_back(pump, &slot, 1);
	}
}

static int take_done(struct pump *pump)
{
	uint32_t buffers[DRIVER_BATCH];
	int n, total = 0;

	if (!pump->dev->kind->tx_done)
		return 0;
	while ((n = pump->dev->kind->tx_done(pump->queue, buffers, DRIVER_BATCH)) > 0) {
		for (int i = 0; i < n; i++) {
			struct vq_used slot = {.head = pump->head[buffer_number(pump, buffers[i])]};

			give_back(pump, &slot, 1);
		}
		total += n;
	}
	if (total > 0)
		netfront_flush(pump->nf, pump->to);
	return n < 0 ? n : total;
}

/*
 * How many of the held chains from `first` on are one frame: 0: not all of them have come yet; negative: as many are
 * none, and go back.
 */
static int frame_extent(struct pump *pump, unsigned int first)
{
	const struct vq_used *slot = &pump->held[first];
	uint32_t header = pump->dev->pool.header, size = 0;
	struct virtio_net_hdr_mrg_rxbuf said;
	unsigned int pieces = 1;
	bool empty_piece = false;

	/* Given back empty: a switch that came back from the dead could not tell what was to be in it. */
	if (slot->len == 0)
		return -1;
	if (slot->len < header) {
		drop(pump, DRIVER_DROP_BAD_CHAIN, 1);
		return -1;
	}
	if (pump->dev->pool.features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)) {
		memcpy(&said, driver_buffer(&pump->dev->pool, slot->tag), sizeof(said));
		pieces = said.num_buffers;
	}
	if (pieces == 0 || pieces > pump->to->buffer_count) {
		drop(pump, DRIVER_DROP_BAD_CHAIN, 1);
		return -1;
	}
	if (pieces > pump->held_first + pump->held_count - first)
		return 0;
	for (unsigned int i = 0; i < pieces; i++) {
		size += slot[i].len;
		empty_piece |= slot[i].len == 0;
	}
	if (empty_piece || size < header + ETH_HEADER || size > header + VIRTIO_NET_FRAME_MAX) {
		drop(pump, empty_piece ? DRIVER_DROP_BAD_CHAIN : DRIVER_DROP_BAD_FRAME, 1);
		return -(int)pieces;
	}
	return (int)pieces;
}

/* Links the pieces of a frame; the first is frames[], the others are of `pieces`, each at its chain's place in held. */
static void lay_out(struct pump *pump, unsigned int first, unsigned int count, struct driver_frame *frame)
{
	for (unsigned int i = 0; i < count; i++) {
		const struct vq_used *slot = &pump->held[first + i];
		struct driver_frame *piece = i == 0 ? frame : &pump->pieces[first + i];

		*piece = (struct driver_frame){
			.data = driver_buffer(&pump->dev->pool, slot->tag),
			.size = slot->len,
			.room = pump->to->buffer_size,
			.buffer = slot->tag,
			.part = i > 0,
			.next = i + 1 < count ? &pump->pieces[first + i + 1] : NULL,
		};
		pump->head[buffer_number(pump, slot->tag)] = slot->head;
	}
}

/* Fills frames[], which is empty, from what is held and what the switch has. Returns how many chains were looked at. */
static int take_frames(struct pump *pump)
{
	unsigned int seen = 0;
	int n, extent;

	if (pump->held_first > 0) {
		memmove(pump->held, pump->held + pump->held_first, pump->held_count * sizeof(*pump->held));
		pump->held_first = 0;
	}
	n = vq_driver_collect(&pump->to->vq, pump->held + pump->held_count,
			      min(DRIVER_BATCH, pump->to->buffer_count - pump->held_count));
	if (unlikely(n < 0))
		return n;
	pump->held_count += (unsigned int)n;
	pump->frame_first = pump->frame_count = 0;
	while (pump->held_count > 0 && pump->frame_count < DRIVER_BATCH) {
		unsigned int first = pump->held_first, chains;

		extent = frame_extent(pump, first);
		if (extent == 0)
			break;
		chains = (unsigned int)abs(extent);
		if (extent > 0)
			lay_out(pump, first, chains, &pump->frames[pump->frame_count++]);
		else
			give_back(pump, &pump->held[first], chains);
		pump->held_first += chains;
		pump->held_count -= chains;
		seen += chains;
	}
	return n > 0 ? n : (int)seen;
}

static void count_sent(struct pump *pump, const struct driver_frame *frames, unsigned int n)
{
	struct driver_counters *counters = &pump->queue->counters;
	unsigned int sent = 0;
	uint64_t size = 0;

	for (unsigned int i = 0; i < n; i++) {
		if (frames[i].size == 0)
			continue;
		sent++;
		for (const struct driver_frame *piece = &frames[i]; piece; piece = piece->next)
			size += piece->size;
		size -= pump->dev->pool.header;
	}
	DRIVER_COUNT(counters->tx_packets, sent);
	DRIVER_COUNT(counters->tx_bytes, size);
}

static int to_device(struct pump *pump)
{
	const struct driver_kind *kind = pump->dev->kind;
	struct driver_frame *frames;
	unsigned int waiting, given;
	int n, work = take_done(pump);

	if (unlikely(work < 0))
		return work;
	if (pump->frame_first == pump->frame_count) {
		n = take_frames(pump);
		if (n < 0)
			return n;
		work += n;
	}
	waiting = pump->frame_count - pump->frame_first;
	if (waiting == 0) {
		if (work > 0)
			netfront_flush(pump->nf, pump->to);
		return work;
	}
	frames = &pump->frames[pump->frame_first];
	n = kind->tx(pump->queue, frames, waiting);
	pump->blocked = n >= 0 && (unsigned int)n < waiting;
	given = (unsigned int)max(n, 0);
	count_sent(pump, frames, given);
	if (unlikely(n < 0)) {
		if (n == -ENODEV)
			return n;
		drop(pump, n == -ENETDOWN ? DRIVER_DROP_DEVICE_DOWN : DRIVER_DROP_DEVICE_ERROR, waiting);
		given = waiting;
	}
	pump->frame_first += given;
	/* What the device has not kept. */
	for (unsigned int i = 0; i < given; i++) {
		if (n < 0 || !kind->tx_done || frames[i].size == 0)
			give_back_frame(pump, &frames[i]);
	}
	netfront_flush(pump->nf, pump->to);
	return work + (int)given;
}

int pump_round(struct pump *pump)
{
	int back, there = from_device(pump);

	if (unlikely(there < 0))
		return there;
	back = to_device(pump);
	return unlikely(back < 0) ? back : there + back;
}

/* Sleeping. */

enum { WAKE, DEVICE, FROM, TO, WATCHED };

/* True if there is something already. */
static bool prepare_sleep(struct pump *pump, struct pollfd *pfds)
{
	bool gives = pump->dev->kind->rx_give;
	bool starved = pump->from->idle_count == 0 && pump->offered_count == pump->filled && !gives;
	unsigned int chains = vq_driver_in_flight(&pump->from->vq);
	short device;

	pfds[WAKE] = (struct pollfd){.fd = pump->wake_fd, .events = POLLIN};
	pfds[FROM] = (struct pollfd){.fd = -1, .events = POLLIN};
	pfds[TO] = (struct pollfd){.fd = -1, .events = POLLIN};
	/* What the device has can wait until the switch has given back a few buffers. */
	if (starved || (gives && pump->from->posted > pump->from->buffer_count / 2)) {
		if (!netfront_arm(pump->from, (uint16_t)max(chains / 2, 1u)))
			return true;
		pfds[FROM].fd = pump->from->call_fd;
	}
	/* And what the switch has, until the device has taken what it was given. */
	if (!pump->blocked) {
		if (!netfront_arm(pump->to, 1))
			return true;
		pfds[TO].fd = pump->to->call_fd;
	}
	device = (short)((starved ? 0 : POLLIN) | (pump->blocked ? POLLOUT : 0));
	pfds[DEVICE] = (struct pollfd){.fd = pump->ailing || !device ? -1 : pump->queue->fd, .events = device};
	return false;
}

void pump_sleep(struct pump *pump, int max_ms)
{
	int limit_us = pump->dev->kind->arm ? pump->dev->kind->arm(pump->queue) : DRIVER_FOREVER;
	int64_t limit_ns = (int64_t)NS_PER_MS * (max_ms < 0 ? SLEEP_MAX_MS : max_ms);
	struct pollfd pfds[WATCHED];
	struct timespec limit;
	uint64_t count;
	int events = 0;

	if (limit_us != DRIVER_FOREVER)
		limit_ns = min(limit_ns, (int64_t)limit_us * (int64_t)NS_PER_US);
	if (pump->ailing)
		limit_ns = min(limit_ns, (int64_t)(AILING_MS * NS_PER_MS));
	for (unsigned int i = 0; i < WATCHED; i++)
		pfds[i] = (struct pollfd){.fd = -1};
	if (!prepare_sleep(pump, pfds) && limit_ns > 0) {
		limit = (struct timespec){.tv_sec = (time_t)(limit_ns / (int64_t)NS_PER_S),
					  .tv_nsec = (long)(limit_ns % (int64_t)NS_PER_S)};
		events = ppoll(pfds, WATCHED, &limit, NULL);
	}
	if (pfds[FROM].fd >= 0)
		netfront_disarm(pump->from);
	if (pfds[TO].fd >= 0)
		netfront_disarm(pump->to);
	if (events > 0 && pfds[WAKE].revents && read(pump->wake_fd, &count, sizeof(count)) < 0)
		log_debug("queue %u: nobody had woken it", pump->queue->index);
	/* Somebody else has woken us: the next round looks at the device no more, the one after that does. */
	pump->quiet = events > 0 && pfds[DEVICE].fd >= 0 && (pfds[DEVICE].events & POLLIN) && !pfds[DEVICE].revents;
	/* The next round finds out what is wrong, or nothing; then it is left alone for a while. */
	pump->ailing = events > 0 && (pfds[DEVICE].revents & (POLLERR | POLLHUP | POLLNVAL));
}

/* The thread. */

static void *pump_main(void *argument)
{
	struct pump *pump = argument;
	int work = 0;

	sem_post(&pump->started);
	while (!load_acquire(&pump->stop)) {
		store_release(&pump->answered, load_acquire(&pump->asked));
		work = pump_round(pump);
		if (work < 0)
			break;
		if (work == 0)
			pump_sleep(pump, -1);
		else
			pump->ailing = false;
	}
	if (work < 0) {
		const uint64_t one = 1;

		pump->result = work;
		store_release(&pump->ended, 1);
		if (write(pump->report_fd, &one, sizeof(one)) < 0)
			log_debug("queue %u: its end was reported before", pump->queue->index);
	}
	return NULL;
}

static void wake(struct pump *pump)
{
	const uint64_t one = 1;

	/* A full counter wakes as well. */
	if (write(pump->wake_fd, &one, sizeof(one)) < 0)
		return;
}

struct driver_pool pump_pool(const struct netfront *nf)
{
	return (struct driver_pool){
		.memory = nf->memory,
		.size = nf->memory_size,
		.fd = nf->memfd,
		.header = nf->hdr_len,
		.features = nf->features,
		.stride = nf->buffer_stride,
		.first = nf->buffers_offset,
	};
}

int pump_init(struct pump *pump, struct driver_queue *queue, struct netfront *nf, unsigned int pair, int report_fd)
{
	const struct driver_pool *pool = &queue->dev->pool;
	size_t buffers = (pool->size - pool->first) / pool->stride;

	*pump = (struct pump){
		.dev = queue->dev,
		.queue = queue,
		.nf = nf,
		.pair = pair,
		.from = netfront_tx(nf, pair),
		.to = netfront_rx(nf, pair),
		.report_fd = report_fd,
		.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	if (queue->dev->coalesces) {
		gro_init(&pump->gro, pool->features, netfront_tx_pieces_max(nf, pair));
		pump->coalesces = gro_wanted(&pump->gro);
	}
	pump->head = calloc(buffers, sizeof(*pump->head));
	pump->held = calloc(pump->to->ring.size, sizeof(*pump->held));
	pump->pieces = calloc(pump->to->ring.size, sizeof(*pump->pieces));
	if (pump->wake_fd >= 0 && pump->head && pump->held && pump->pieces)
		return 0;
	pump_cleanup(pump);
	return -ENOMEM;
}

void pump_cleanup(struct pump *pump)
{
	if (pump->wake_fd >= 0)
		close(pump->wake_fd);
	pump->wake_fd = -1;
	free(pump->head);
	free(pump->held);
	free(pump->pieces);
	pump->head = NULL;
	pump->held = NULL;
	pump->pieces = NULL;
}

int pump_start(struct pump *pump)
{
	int err;

	sem_init(&pump->started, 0, 0);
	err = pthread_create(&pump->thread, NULL, pump_main, pump);
	pump->running = !err;
	while (!err && sem_wait(&pump->started) < 0 && errno == EINTR)
		;
	return -err;
}

void pump_stop(struct pump *pump)
{
	if (!pump->running)
		return;
	store_release(&pump->stop, 1);
	wake(pump);
	pthread_join(pump->thread, NULL);
	pump->running = false;
}

void pump_ask(struct pump *pump)
{
	store_release(&pump->asked, pump->asked + 1);
	wake(pump);
}

bool pump_answered(const struct pump *pump)
{
	return load_acquire(&pump->answered) == pump->asked;
}
