/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-net driver's memory and queues.
 *
 * One memory file, sealed against resizing unless asked otherwise, holds in this order the rings
 * and indirect tables of every queue, then all buffers. As seen by the back end it is cut into
 * regions: the first has the rings, each further one its share of the buffers, whole buffers only,
 * and there are holes between them in the guest's address space. With a single region all lies in
 * that.
 *
 * Buffers are an odd number of cache lines apart: at a power of two they would share a few sets of
 * the first-level cache, and the frames' headers would evict each other. Who wants them aligned has to bear that.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/compiler.h"
#include "vhost/netfront_internal.h"

#define PAGE         4096u
#define REGION_HOLE  0x10000u /* bytes of guest addresses between two regions */
#define RING_ALIGN   128u     /* two lines: some processors fetch them in pairs */
#define CONTROL_SIZE 16u      /* descriptors of the control queue's ring */
#define BUFFER_MIN   64u
#define BUFFER_MAX   (1u << 20)

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
	return value ? value : fallback;
}

static int check_config(struct netfront_config *config)
{
	config->timeout_ms = config->timeout_ms ? config->timeout_ms : 5000;
	config->features = config->features ? config->features : NETFRONT_FEATURES;
	config->pairs = or_default(config->pairs, 1);
	config->regions = or_default(config->regions, 1);
	config->rx_size = or_default(config->rx_size, 256);
	config->tx_size = or_default(config->tx_size, 256);
	config->rx_buffer = or_default(config->rx_buffer, 2048);
	config->tx_buffer = or_default(config->tx_buffer, 2048);
	config->rx_buffers = or_default(config->rx_buffers, config->rx_size);
	if (config->pairs > 1)
		config->features |= VIRTIO_BIT(VIRTIO_NET_F_MQ);

	if (!is_power_of_two(config->rx_size) || config->rx_size > VRING_SIZE_MAX ||
	    !is_power_of_two(config->tx_size) || config->tx_size > VRING_SIZE_MAX ||
	    config->pairs > NETFRONT_PAIRS_MAX || config->regions > VHOST_USER_MEM_SLOTS ||
	    config->rx_buffer < BUFFER_MIN || config->rx_buffer > BUFFER_MAX || config->tx_buffer < BUFFER_MIN ||
	    config->tx_buffer > BUFFER_MAX || config->rx_buffers > config->rx_size || config->align > BUFFER_MAX ||
	    (config->align && (!is_power_of_two(config->align) || config->align % NETFRONT_LINE)))
		return -EINVAL;
	return 0;
}

/* Descriptors of a chain over a buffer of len bytes, header included. */
static unsigned int pieces_of(const struct netfront_config *config, uint32_t len)
{
	unsigned int apart = config->header_apart ? 1 : 0;

	/* One more than enough where the header ends inside a piece. */
	return config->piece ? apart + (len + config->piece - 1) / config->piece : apart + 1;
}

uint64_t netfront_guest_addr(const struct netfront *nf, uint64_t offset)
{
	uint64_t region = 0;

	if (nf->region_count > 1 && offset >= nf->buffers_offset)
		region = 1 + (offset - nf->buffers_offset) / nf->region_stride;
	return NETFRONT_GUEST_BASE + offset + region * REGION_HOLE;
}

static uint64_t buffer_offset(const struct netfront *nf, uint64_t number)
{
	return nf->buffers_offset + number / nf->region_buffers * nf->region_stride +
	       number % nf->region_buffers * nf->buffer_stride;
}

/*
 * Gives a queue's rings their place from *at on, and moves that behind them; pointers once there is memory. Of a packed
 * ring, whose areas are no larger, the driver's events go to the available ring's place and the device's to the used's.
 */
static void place_ring(struct netfront *nf, struct netfront_queue *queue, uint64_t *at)
{
	struct vring_split *ring = &queue->ring;
	uint8_t *memory = nf->memory;

	if (memory)
		ring->desc = (struct vring_desc *)(void *)(memory + *at);
	*at = align_up(*at + vring_desc_bytes(ring->size), RING_ALIGN);
	if (memory)
		ring->avail = (struct vring_avail *)(void *)(memory + *at);
	*at = align_up(*at + vring_avail_bytes(ring->size), RING_ALIGN);
	if (memory)
		ring->used = (struct vring_used *)(void *)(memory + *at);
	*at = align_up(*at + vring_used_bytes(ring->size), RING_ALIGN);

	if (memory) {
		queue->indirect.tables = (struct vring_desc *)(void *)(memory + *at);
		queue->indirect.addr = netfront_guest_addr(nf, *at);
	}
	*at = align_up(*at + ring->size * vring_desc_bytes(queue->indirect.entries), RING_ALIGN);
}

static uint64_t place_rings(struct netfront *nf)
{
	uint64_t at = 0;

	for (unsigned int i = 0; i <= 2 * nf->config.pairs; i++)
		place_ring(nf, &nf->queues[i], &at);
	return at;
}

static int make_memory(struct netfront *nf, uint64_t buffers)
{
	uint32_t lines = max(nf->config.rx_buffer, nf->config.tx_buffer);
	unsigned int buffer_regions = nf->config.regions > 1 ? nf->config.regions - 1 : 1;

	lines = (lines + NETFRONT_LINE - 1) / NETFRONT_LINE;
	nf->buffer_stride = (lines | 1) * NETFRONT_LINE;
	if (nf->config.align)
		nf->buffer_stride = (uint32_t)align_up(lines * NETFRONT_LINE, nf->config.align);
	nf->buffers_offset = align_up(place_rings(nf), max(PAGE, nf->config.align));
	nf->region_buffers = (buffers + buffer_regions - 1) / buffer_regions;
	nf->region_stride = align_up(nf->region_buffers * nf->buffer_stride, PAGE);
	nf->memory_size = nf->buffers_offset + buffer_regions * nf->region_stride;
	if (nf->memory_size / NETFRONT_LINE > UINT32_MAX)
		return -EINVAL;

	nf->memfd = memfd_create("netfront", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (nf->memfd < 0 || ftruncate(nf->memfd, (off_t)nf->memory_size) < 0)
		return -errno;
	if (!nf->config.unsealed && fcntl(nf->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	nf->memory = mmap(NULL, nf->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, nf->memfd, 0);
	if (nf->memory == MAP_FAILED) {
		nf->memory = NULL;
		return -errno;
	}
	return 0;
}

static int make_regions(struct netfront *nf)
{
	nf->region_count = nf->config.regions;
	nf->regions = calloc(nf->region_count, sizeof(*nf->regions));
	if (!nf->regions)
		return -ENOMEM;
	for (unsigned int i = 0; i < nf->region_count; i++) {
		uint64_t offset = i ? nf->buffers_offset + (i - 1) * nf->region_stride : 0;

		nf->regions[i] = (struct vhost_user_region){
			.guest_addr = netfront_guest_addr(nf, offset),
			.user_addr = (uint64_t)(uintptr_t)nf->memory + offset,
			.mmap_offset = offset,
			.size = nf->region_count == 1 ? nf->memory_size
				: i                   ? nf->region_stride
						      : nf->buffers_offset,
		};
	}
	return 0;
}

void netfront_clear_queue(const struct netfront *nf, struct netfront_queue *queue)
{
	queue->faulty = false;
	queue->held_count = 0;
	queue->delivered = 0;
	/* From the end, because the last one is taken first. */
	for (uint32_t i = 0; i < queue->buffer_count; i++) {
		uint64_t number = queue->first + queue->buffer_count - 1 - i;

		queue->idle[i] = (uint32_t)(buffer_offset(nf, number) / NETFRONT_LINE);
	}
	queue->idle_count = queue->buffer_count;
}

static int make_queue(struct netfront *nf, struct netfront_queue *queue)
{
	size_t chains = queue->ring.size;

	queue->idle = calloc(queue->buffer_count, sizeof(*queue->idle));
	queue->held = calloc(chains, sizeof(*queue->held));
	queue->iov = calloc(chains, sizeof(*queue->iov));
	queue->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!queue->idle || !queue->held || !queue->iov)
		return -ENOMEM;
	if (queue->kick_fd < 0 || queue->call_fd < 0 || queue->err_fd < 0)
		return -EMFILE;
	netfront_clear_queue(nf, queue);
	return 0;
}

static uint64_t size_queues(struct netfront *nf)
{
	const struct netfront_config *config = &nf->config;
	unsigned int last = 2 * config->pairs;
	uint64_t buffers = 0;

	for (unsigned int i = 0; i <= last; i++) {
		struct netfront_queue *queue = &nf->queues[i];
		bool rx = i % 2 == 0;

		queue->kick_fd = queue->call_fd = queue->err_fd = -1;
		queue->index = i;
		queue->buffer_size = rx ? config->rx_buffer : config->tx_buffer;
		queue->ring.size = (uint16_t)(rx ? config->rx_size : config->tx_size);
		queue->buffer_count = rx ? config->rx_buffers : queue->ring.size;
		if (i == last) {
			queue->ring.size = CONTROL_SIZE;
			queue->buffer_count = 1;
		} else if (config->features & VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC)) {
			unsigned int pieces = pieces_of(config, queue->buffer_size);

			queue->indirect.entries = pieces > 1 ? pieces : 0;
		}
		queue->first = buffers;
		buffers += queue->buffer_count;
	}
	return buffers;
}

int netfront_create(struct netfront **out, const struct netfront_config *config)
{
	struct netfront *nf = calloc(1, sizeof(*nf));
	int err;

	*out = NULL;
	if (!nf)
		return -ENOMEM;
	nf->listen_fd = nf->memfd = -1;
	nf->step = "configuration";
	nf->config = *config;
	err = check_config(&nf->config);
	vhost_frontend_init(&nf->fe, nf->config.timeout_ms);
	nf->fe.ack = nf->config.ack;
	if (!err && (pieces_of(&nf->config, nf->config.rx_buffer) > NETFRONT_PIECES_MAX ||
		     pieces_of(&nf->config, nf->config.tx_buffer) > NETFRONT_PIECES_MAX))
		err = -EINVAL;
	if (!err) {
		nf->queues = calloc(2 * nf->config.pairs + 1, sizeof(*nf->queues));
		err = nf->queues ? make_memory(nf, size_queues(nf)) : -ENOMEM;
	}
	if (!err) {
		err = make_regions(nf);
		place_rings(nf);
	}
	for (unsigned int i = 0; !err && i <= 2 * nf->config.pairs; i++)
		err = make_queue(nf, &nf->queues[i]);
	if (err) {
		netfront_close(nf);
		return err;
	}
	*out = nf;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void netfront_close(struct netfront *nf)
{
	if (!nf)
		return;
	vhost_frontend_close(&nf->fe);
	if (nf->listen_fd >= 0) {
		close(nf->listen_fd);
		unlink(nf->config.path);
	}
	for (unsigned int i = 0; nf->queues && i <= 2 * nf->config.pairs; i++) {
		struct netfront_queue *queue = &nf->queues[i];

		vq_driver_fini(&queue->vq);
		close_fd(queue->kick_fd);
		close_fd(queue->call_fd);
		close_fd(queue->err_fd);
		free(queue->idle);
		free(queue->held);
		free(queue->iov);
	}
	if (nf->memory)
		munmap(nf->memory, nf->memory_size);
	close_fd(nf->memfd);
	free(nf->regions);
	free(nf->queues);
	free(nf);
}
