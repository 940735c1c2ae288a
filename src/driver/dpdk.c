/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Any NIC that DPDK has a poll-mode driver for. In a program of its own, lasthop-driver-dpdk: linked with DPDK, every
 * driver domain would load a hundred drivers and have their threads, memory and start-up time.
 *
 * Nothing is copied between DPDK and the pool. Receiving: mbufs are mere handles. One that has no buffer is `loose`;
 * rx_give points it at a buffer and puts it into the mempool that the driver allocates from, and when it comes back
 * with a frame the buffer goes on without it. Sending: an mbuf is attached to the frame as an external buffer, whose
 * release names the buffer as done. A device that hands out mbufs of others (net_ring: those that were sent) costs a
 * copy.
 *
 * Sleeping: on the queue's interrupt where the driver has one. Where not, the queue is looked at again after a pause
 * that doubles from IDLE_FIRST_US to the option idle-us. So a frame waits for a sleeper about as long as there was none
 * before it, and at most idle-us.
 *
 * What of the sandbox is different: DPDK has threads of its own before privilege is given up, so what a process does to
 * its calling thread alone does not do. See confine.c.
 *
 * @syscalls driver: ioctl readv writev poll epoll_wait epoll_ctl sendto recvfrom sendmsg recvmsg read write lseek
 * pread64
 * @syscalls driver: fcntl sched_yield nanosleep clock_nanosleep getpid gettid timerfd_settime
 */
/* For rte_dev_dma_map(), which NICs need and nobody else. */
#define ALLOW_EXPERIMENTAL_API

#include "driver/device.h"
#include "driver/dpdk_filter.h"
#include "lib/log.h"

#include <ctype.h>
#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FROM_SIZE     2304u /* at least: some drivers want 2 KiB behind the headroom */
#define FRAME_EXTRA   18u   /* of a frame over the MTU: addresses, type, a VLAN tag */
#define RING_SIZE     1024
#define DESCRIPTORS   256
#define MEMORY_MIB    "64"
#define IDLE_FIRST_US 50
#define IDLE_LIMIT_US 1000000
#define ARGUMENTS_MAX 16
#define BUFFER_MAX    65472u /* what an mbuf can say, in units */

struct dpdk_sent {
	struct rte_mbuf_ext_shared_info info;
	struct dpdk_queue *queue;
	uint32_t buffer;
	bool refused; /* not sent, so not done either */
};

struct dpdk_queue {
	struct rte_mempool *rx_pool; /* mbufs with a buffer that the device may fill */
	struct rte_mempool *tx_pool; /* mbufs without one */
	struct rte_mbuf **loose;
	uint32_t loose_count;
	uint32_t *done;
	uint32_t done_count;
	uint32_t away; /* buffers that the device is sending */
	unsigned int idle_us;
	bool interrupt;
	bool interrupt_on;
};

struct dpdk {
	uint16_t port;
	uint16_t from_size;
	unsigned int idle_max_us;
	struct rte_eth_dev_info info;
	struct dpdk_queue *queues;
	struct dpdk_sent *sent; /* by buffer */
	bool checksums;         /* the device verifies them */
	int gone;
};

static const struct driver_option dpdk_options[] = {
	{"idle-us", "microseconds that a device without interrupts is left alone at most (default 10000)"},
	{NULL, NULL},
};

/* How many characters of text are of this form, where x is a hexadecimal digit; 0 unless it is there as a whole. */
static size_t form_length(const char *text, const char *form)
{
	size_t n = 0;

	for (; form[n] != '\0'; n++) {
		if (form[n] == 'x' ? !isxdigit((unsigned char)text[n]) : text[n] != form[n])
			return 0;
	}
	return n;
}

/* An address, and perhaps settings behind a comma. */
static bool is_pci(const char *device)
{
	size_t n = form_length(device, "xxxx:xx:xx.x");

	if (n == 0)
		n = form_length(device, "xx:xx.x");
	return n > 0 && (device[n] == '\0' || device[n] == ',');
}

static bool huge_pages_free(void)
{
	static const char name[] = "HugePages_Free:";
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long pages = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, name, sizeof(name) - 1) == 0)
			pages = strtoul(line + sizeof(name) - 1, NULL, 10);
	}
	if (file)
		fclose(file);
	return pages > 0;
}

/* One lcore, which may run wherever this thread may: "0@(0,1)". */
static void lcore_argument(char *text, size_t size)
{
	cpu_set_t set;
	size_t at = (size_t)snprintf(text, size, "--lcores=0@(");
	bool first = true;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		CPU_SET(0, &set);
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE && at + 8 < size; cpu++) {
		if (!CPU_ISSET(cpu, &set))
			continue;
		at += (size_t)snprintf(text + at, size - at, "%s%u", first ? "" : ",", cpu);
		first = false;
	}
	snprintf(text + at, size - at, ")");
}

static int start_eal(const char *device)
{
	char lcores[6 * CPU_SETSIZE], wanted[256];
	const char *arguments[ARGUMENTS_MAX] = {"lasthop-driver-dpdk", "--no-telemetry", lcores, wanted};
	int count = 4;

	lcore_argument(lcores, sizeof(lcores));
	if (is_pci(device)) {
		snprintf(wanted, sizeof(wanted), "--allow=%s", device);
		arguments[count++] = "--iova-mode=va";
	} else {
		snprintf(wanted, sizeof(wanted), "--vdev=%s", device);
		arguments[count++] = "--no-pci";
	}
	if (!is_pci(device) || !huge_pages_free()) {
		arguments[count++] = "--no-huge";
		arguments[count++] = "-m";
		arguments[count++] = MEMORY_MIB;
		/* What --in-memory is, which does not go with it: no files, no other process. */
		arguments[count++] = "--no-shconf";
	} else {
		arguments[count++] = "--in-memory";
	}
	if (!log_enabled(LOG_DEBUG))
		arguments[count++] = "--log-level=*:error";
	if (rte_eal_init(count, (char **)(uintptr_t)arguments) < 0) {
		log_error("DPDK and its device %s: %s; --log-level 3 shows what DPDK says", device,
			  rte_strerror(rte_errno));
		return -ENODEV;
	}
	return 0;
}

static int device_removed(uint16_t port, enum rte_eth_event_type event, void *argument, void *result)
{
	(void)port;
	(void)event;
	(void)result;
	store_release((int *)argument, 1);
	return 0;
}

static int open_port(struct driver_device *dev)
{
	struct dpdk *dpdk = dev->state;
	struct rte_ether_addr mac;
	unsigned int size;
	uint16_t mtu = 0;

	if (rte_eth_dev_count_avail() != 1) {
		log_error("device %s: DPDK made %u ports of it, not one", dev->config->device,
			  rte_eth_dev_count_avail());
		return -ENODEV;
	}
	dpdk->port = (uint16_t)rte_eth_find_next(0);
	if (rte_eth_dev_info_get(dpdk->port, &dpdk->info) || rte_eth_dev_get_mtu(dpdk->port, &mtu))
		return -ENODEV;
	rte_eth_dev_callback_register(dpdk->port, RTE_ETH_EVENT_INTR_RMV, device_removed, &dpdk->gone);
	if (dev->config->mtu)
		mtu = (uint16_t)min(dev->config->mtu, (unsigned int)UINT16_MAX);
	if (dpdk->info.max_mtu && mtu > dpdk->info.max_mtu) {
		log_error("device %s: its MTU can be %u at most", dev->config->device, dpdk->info.max_mtu);
		return -EINVAL;
	}
	dev->queue_count = min(dev->queue_count, (unsigned int)dpdk->info.max_rx_queues);
	dev->queue_count = min(dev->queue_count, (unsigned int)dpdk->info.max_tx_queues);
	if (dev->queue_count == 0)
		return -ENODEV;
	size = max(FROM_SIZE, (unsigned int)RTE_PKTMBUF_HEADROOM + mtu + FRAME_EXTRA);
	dpdk->from_size = (uint16_t)min((unsigned int)align_up(size, DRIVER_UNIT), BUFFER_MAX);
	dev->facts = (struct driver_facts){
		.mtu = mtu,
		.from_size = dpdk->from_size,
		.to_size = dpdk->from_size,
		.ring_size = RING_SIZE,
	};
	if (dpdk->info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS)
		dev->facts.features |= VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (rte_eth_macaddr_get(dpdk->port, &mac) == 0)
		memcpy(dev->facts.mac, mac.addr_bytes, sizeof(dev->facts.mac));
	snprintf(dev->facts.mode, sizeof(dev->facts.mode), "%.*s", (int)sizeof(dev->facts.mode) - 1,
		 dpdk->info.driver_name);
	return 0;
}

static int dpdk_open(struct driver_device *dev)
{
	const char *idle = driver_option(dev->config, "idle-us", "10000");
	struct dpdk *dpdk = calloc(1, sizeof(*dpdk));
	char *end;
	unsigned long idle_us = strtoul(idle, &end, 10);
	int err;

	if (!dpdk)
		return -ENOMEM;
	dev->state = dpdk;
	dpdk->idle_max_us = (unsigned int)min(idle_us, (unsigned long)IDLE_LIMIT_US);
	if (*end || end == idle || idle_us < IDLE_FIRST_US || idle_us > IDLE_LIMIT_US) {
		log_error("--option idle-us takes a number from %d to %d, not '%s'", IDLE_FIRST_US, IDLE_LIMIT_US,
			  idle);
		return -EINVAL;
	}
	if (strncmp(dev->config->device, "net_", 4) != 0 && !is_pci(dev->config->device)) {
		log_error("device '%s': a PCI address, or net_... as DPDK's --vdev takes it", dev->config->device);
		return -EINVAL;
	}
	err = start_eal(dev->config->device);
	return err ? err : open_port(dev);
}

/* Mempools. */

/* As rte_pktmbuf_init, of an mbuf whose buffer comes later. */
static void init_mbuf(struct rte_mempool *pool, void *argument, void *object, unsigned int index)
{
	struct rte_mbuf *mbuf = object;

	(void)argument;
	(void)index;
	memset(mbuf, 0, sizeof(*mbuf));
	mbuf->pool = pool;
	mbuf->nb_segs = 1;
	mbuf->port = RTE_MBUF_PORT_INVALID;
	rte_mbuf_refcnt_set(mbuf, 1);
}

static struct rte_mempool *make_mempool(const char *what, unsigned int queue, unsigned int count, uint16_t room)
{
	struct rte_pktmbuf_pool_private data = {.mbuf_data_room_size = room};
	char name[32];

	snprintf(name, sizeof(name), "lasthop_%s%u", what, queue);
	return rte_mempool_create(name, count, sizeof(struct rte_mbuf), 0, sizeof(data), rte_pktmbuf_pool_init, &data,
				  init_mbuf, NULL, SOCKET_ID_ANY, RTE_MEMPOOL_F_SP_PUT | RTE_MEMPOOL_F_SC_GET);
}

static int init_queue(struct driver_device *dev, unsigned int index, uint32_t buffers)
{
	struct dpdk *dpdk = dev->state;
	struct dpdk_queue *queue = &dpdk->queues[index];

	queue->rx_pool = make_mempool("rx", index, buffers, dpdk->from_size);
	queue->tx_pool = make_mempool("tx", index, buffers, 0);
	queue->loose = calloc(buffers, sizeof(struct rte_mbuf *));
	queue->done = calloc(buffers, sizeof(*queue->done));
	queue->idle_us = IDLE_FIRST_US;
	dev->queues[index].state = queue;
	if (!queue->rx_pool || !queue->tx_pool || !queue->loose || !queue->done)
		return -ENOMEM;
	while (queue->loose_count < buffers) {
		void *mbuf;

		if (rte_mempool_get(queue->rx_pool, &mbuf))
			return -ENOMEM;
		queue->loose[queue->loose_count++] = mbuf;
	}
	return 0;
}

/* A NIC reads and writes the pool by itself: it has to be told where that is. */
static int map_for_dma(const struct driver_device *dev)
{
	const struct dpdk *dpdk = dev->state;
	const struct driver_pool *pool = &dev->pool;
	int err;

	if (!is_pci(dev->config->device))
		return 0;
	err = rte_extmem_register(pool->memory, pool->size, NULL, 0, (size_t)sysconf(_SC_PAGESIZE));
	if (!err)
		err = rte_dev_dma_map(dpdk->info.device, pool->memory, (uintptr_t)pool->memory, pool->size);
	if (err)
		log_error("device %s cannot be given the port's memory (%s); it takes vfio-pci with an IOMMU",
			  dev->config->device, rte_strerror(rte_errno));
	return err ? -ENOTSUP : 0;
}

static int dpdk_bind(struct driver_device *dev)
{
	struct dpdk *dpdk = dev->state;
	uint32_t buffers = (uint32_t)((dev->pool.size - dev->pool.first) / dev->pool.stride);
	struct rte_eth_conf conf = {.rxmode.mtu = dev->facts.mtu, .intr_conf.rxq = 1};
	int err = map_for_dma(dev);

	if (err)
		return err;
	dpdk->queues = calloc(dev->queue_count, sizeof(*dpdk->queues));
	dpdk->sent = calloc(buffers, sizeof(*dpdk->sent));
	if (!dpdk->queues || !dpdk->sent)
		return -ENOMEM;
	for (unsigned int i = 0; !err && i < dev->queue_count; i++)
		err = init_queue(dev, i, buffers);
	if (err)
		return err;

	/* Drivers of virtual devices would verify checksums in software, and of every frame. */
	dpdk->checksums = is_pci(dev->config->device) &&
			  (dpdk->info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_CHECKSUM) == RTE_ETH_RX_OFFLOAD_CHECKSUM;
	if (dpdk->checksums)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_CHECKSUM;
	if (dev->queue_count > 1 && dpdk->info.flow_type_rss_offloads) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = dpdk->info.flow_type_rss_offloads &
						   (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
	}
	conf.txmode.offloads = dpdk->info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	err = rte_eth_dev_configure(dpdk->port, (uint16_t)dev->queue_count, (uint16_t)dev->queue_count, &conf);
	if (err) {
		conf.intr_conf.rxq = 0;
		err = rte_eth_dev_configure(dpdk->port, (uint16_t)dev->queue_count, (uint16_t)dev->queue_count, &conf);
	}
	if (!err && dev->config->mtu)
		err = rte_eth_dev_set_mtu(dpdk->port, (uint16_t)dev->facts.mtu);
	if (err)
		log_error("device %s: DPDK could not configure it: %s", dev->config->device, rte_strerror(-err));
	return err ? -ENODEV : 0;
}

static void find_interrupt(struct driver_device *dev, unsigned int index)
{
	struct dpdk *dpdk = dev->state;
	struct dpdk_queue *queue = dev->queues[index].state;
	int fd;

	/* That there is none is no error. */
	rte_log_set_level_pattern("lib.ethdev", RTE_LOG_CRIT);
	fd = rte_eth_dev_rx_intr_ctl_q_get_fd(dpdk->port, (uint16_t)index);
	rte_log_set_level_pattern("lib.ethdev", RTE_LOG_ERR);
	if (fd >= 0)
		dev->queues[index].fd = dup(fd);
	queue->interrupt = dev->queues[index].fd >= 0;
}

/* Once the queues have buffers: drivers take theirs now. */
static int dpdk_link(struct driver_device *dev, bool up)
{
	struct dpdk *dpdk = dev->state;
	uint16_t rx_descriptors = DESCRIPTORS, tx_descriptors = DESCRIPTORS;
	int err = rte_eth_dev_adjust_nb_rx_tx_desc(dpdk->port, &rx_descriptors, &tx_descriptors);

	if (!up)
		return 0;
	for (unsigned int i = 0; !err && i < dev->queue_count; i++)
		err = rte_eth_rx_queue_setup(dpdk->port, (uint16_t)i, rx_descriptors, 0, NULL, dpdk->queues[i].rx_pool);
	for (unsigned int i = 0; !err && i < dev->queue_count; i++)
		err = rte_eth_tx_queue_setup(dpdk->port, (uint16_t)i, tx_descriptors, 0, NULL);
	if (!err)
		err = rte_eth_dev_start(dpdk->port);
	if (err) {
		log_error("device %s: DPDK could not start it: %s", dev->config->device, rte_strerror(-err));
		return -ENODEV;
	}
	/* Frames for whoever is behind the switch; some drivers have no such mode, and need none. */
	if (rte_eth_promiscuous_enable(dpdk->port))
		log_debug("device %s has no promiscuous mode", dev->config->device);
	for (unsigned int i = 0; i < dev->queue_count; i++)
		find_interrupt(dev, i);
	dev->kind->events(dev);
	return 0;
}

static int dpdk_events(struct driver_device *dev)
{
	struct dpdk *dpdk = dev->state;
	struct rte_eth_link link;
	uint16_t mtu;

	if (load_acquire(&dpdk->gone) || !rte_eth_dev_is_valid_port(dpdk->port))
		return -ENODEV;
	if (rte_eth_link_get_nowait(dpdk->port, &link) == 0) {
		dev->facts.link = link.link_status == RTE_ETH_LINK_UP;
		dev->facts.speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	}
	if (rte_eth_dev_get_mtu(dpdk->port, &mtu) == 0)
		dev->facts.mtu = mtu;
	return 0;
}

/* From the device. */

static int dpdk_rx_give(struct driver_queue *driver_queue, const uint32_t *buffers, unsigned int n)
{
	const struct driver_device *dev = driver_queue->dev;
	const struct dpdk *dpdk = dev->state;
	struct dpdk_queue *queue = driver_queue->state;
	unsigned int given = min(n, (unsigned int)queue->loose_count);

	for (unsigned int i = 0; i < given; i++) {
		struct rte_mbuf *mbuf = queue->loose[--queue->loose_count];

		mbuf->buf_addr = driver_buffer(&dev->pool, buffers[i]);
		rte_mbuf_iova_set(mbuf, (uintptr_t)mbuf->buf_addr);
		mbuf->buf_len = dpdk->from_size;
		rte_mbuf_raw_free(mbuf);
	}
	return (int)given;
}

/* A frame in somebody else's memory, into a buffer of ours. NULL: there is none, or it is too long. */
static struct rte_mbuf *copy_frame(struct driver_queue *driver_queue, struct rte_mbuf *from)
{
	struct dpdk_queue *queue = driver_queue->state;
	uint32_t size = rte_pktmbuf_pkt_len(from);
	enum driver_drop reason = DRIVER_DROP_TOO_LONG;
	struct rte_mbuf *to = NULL;
	const void *data;

	if (size <= (uint32_t)rte_pktmbuf_data_room_size(queue->rx_pool) - RTE_PKTMBUF_HEADROOM) {
		reason = DRIVER_DROP_NO_BUFFER;
		to = rte_pktmbuf_alloc(queue->rx_pool);
	}
	if (to) {
		data = rte_pktmbuf_read(from, 0, size, rte_pktmbuf_mtod(to, void *));
		if (data && data != rte_pktmbuf_mtod(to, void *))
			memcpy(rte_pktmbuf_mtod(to, void *), data, size);
		to->data_len = (uint16_t)size;
		to->pkt_len = size;
	} else {
		DRIVER_COUNT(driver_queue->counters.drops[reason], 1);
	}
	rte_pktmbuf_free(from);
	return to;
}

/* The mbuf's buffer, and what is in it. The mbuf is loose then. */
static void fill_frame(struct driver_queue *driver_queue, struct rte_mbuf *mbuf, struct driver_frame *frame)
{
	const struct driver_pool *pool = &driver_queue->dev->pool;
	const struct dpdk *dpdk = driver_queue->dev->state;
	struct dpdk_queue *queue = driver_queue->state;
	const uint64_t good = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	struct virtio_net_hdr net = {0};
	uint8_t *data = rte_pktmbuf_mtod(mbuf, uint8_t *);

	*frame = (struct driver_frame){
		.data = data - pool->header,
		.size = pool->header + mbuf->data_len,
		.room = pool->header + mbuf->data_len + rte_pktmbuf_tailroom(mbuf),
		.buffer = (uint32_t)((uint64_t)((uint8_t *)mbuf->buf_addr - pool->memory) / DRIVER_UNIT),
	};
	memset(frame->data, 0, pool->header);
	if (dpdk->checksums && (mbuf->ol_flags & good) == good)
		net.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	memcpy(frame->data, &net, sizeof(net));
	mbuf->ol_flags = 0;
	queue->loose[queue->loose_count++] = mbuf;
}

static int dpdk_rx(struct driver_queue *driver_queue, struct driver_frame *frames, unsigned int n)
{
	const struct dpdk *dpdk = driver_queue->dev->state;
	struct dpdk_queue *queue = driver_queue->state;
	struct rte_mbuf *mbufs[DRIVER_BATCH];
	unsigned int filled = 0;
	uint16_t received;

	if (queue->interrupt_on)
		rte_eth_dev_rx_intr_disable(dpdk->port, (uint16_t)driver_queue->index);
	queue->interrupt_on = false;
	received = rte_eth_rx_burst(dpdk->port, (uint16_t)driver_queue->index, mbufs,
				    (uint16_t)min(n, (unsigned int)DRIVER_BATCH));
	for (unsigned int i = 0; i < received; i++) {
		struct rte_mbuf *mbuf = mbufs[i];

		if (mbuf->pool != queue->rx_pool)
			mbuf = copy_frame(driver_queue, mbuf);
		if (!mbuf)
			continue;
		if (mbuf->nb_segs != 1 || rte_pktmbuf_headroom(mbuf) < driver_queue->dev->pool.header) {
			DRIVER_COUNT(driver_queue->counters.drops[DRIVER_DROP_TOO_LONG], 1);
			rte_pktmbuf_free(mbuf);
			continue;
		}
		fill_frame(driver_queue, mbuf, &frames[filled++]);
	}
	if (received > 0)
		queue->idle_us = IDLE_FIRST_US;
	return (int)filled;
}

/* To the device. */

static void sent(void *address, void *argument)
{
	struct dpdk_sent *entry = argument;
	struct dpdk_queue *queue = entry->queue;

	(void)address;
	queue->away--;
	if (!entry->refused)
		queue->done[queue->done_count++] = entry->buffer;
}

static struct rte_mbuf *attach(struct driver_queue *driver_queue, const struct driver_frame *piece, uint32_t skip)
{
	const struct driver_pool *pool = &driver_queue->dev->pool;
	const struct dpdk *dpdk = driver_queue->dev->state;
	struct dpdk_queue *queue = driver_queue->state;
	uint64_t offset = (uint64_t)piece->buffer * DRIVER_UNIT - pool->first;
	struct dpdk_sent *entry = &dpdk->sent[offset / pool->stride];
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(queue->tx_pool);

	if (!mbuf)
		return NULL;
	*entry = (struct dpdk_sent){
		.info = {.free_cb = sent, .fcb_opaque = entry},
		.queue = queue,
		.buffer = piece->buffer,
	};
	rte_mbuf_ext_refcnt_set(&entry->info, 1);
	rte_pktmbuf_attach_extbuf(mbuf, piece->data, (uintptr_t)piece->data, (uint16_t)piece->size, &entry->info);
	mbuf->data_off = (uint16_t)skip;
	mbuf->data_len = (uint16_t)(piece->size - skip);
	mbuf->pkt_len = mbuf->data_len;
	queue->away++;
	return mbuf;
}

/* The buffers stay the pump's. */
static void detach(struct rte_mbuf *mbuf)
{
	for (struct rte_mbuf *piece = mbuf; piece; piece = piece->next)
		((struct dpdk_sent *)piece->shinfo->fcb_opaque)->refused = true;
	rte_pktmbuf_free(mbuf);
}

/* NULL: no mbufs, which is as good as full. */
static struct rte_mbuf *attach_frame(struct driver_queue *queue, const struct driver_frame *frame)
{
	struct rte_mbuf *first = attach(queue, frame, queue->dev->pool.header), *last = first;

	for (const struct driver_frame *piece = frame->next; first && piece; piece = piece->next) {
		struct rte_mbuf *mbuf = attach(queue, piece, 0);

		if (!mbuf) {
			detach(first);
			return NULL;
		}
		last->next = mbuf;
		last = mbuf;
		first->pkt_len += mbuf->data_len;
		first->nb_segs++;
	}
	return first;
}

/* Some drivers stop at a frame that they cannot send, for ever. */
static bool sendable(const struct driver_queue *queue, const struct driver_frame *frame)
{
	const struct dpdk *dpdk = queue->dev->state;
	unsigned int pieces = 0;
	uint64_t size = 0;
	uint16_t mtu = 0;

	for (const struct driver_frame *piece = frame; piece; piece = piece->next, pieces++)
		size += piece->size;
	size -= queue->dev->pool.header;
	rte_eth_dev_get_mtu(dpdk->port, &mtu);
	return size <= (uint64_t)mtu + FRAME_EXTRA && pieces <= RTE_MBUF_MAX_NB_SEGS &&
	       (pieces == 1 || dpdk->info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS);
}

static int dpdk_tx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	const struct dpdk *dpdk = queue->dev->state;
	struct rte_mbuf *mbufs[DRIVER_BATCH];
	unsigned int place[DRIVER_BATCH] = {0}, count = 0, taken = 0, accepted;

	for (; taken < n && count < DRIVER_BATCH; taken++) {
		if (!sendable(queue, &frames[taken])) {
			driver_refuse(queue, &frames[taken], DRIVER_DROP_TOO_LONG);
			continue;
		}
		mbufs[count] = attach_frame(queue, &frames[taken]);
		if (!mbufs[count])
			break;
		place[count++] = taken;
	}
	accepted = rte_eth_tx_burst(dpdk->port, (uint16_t)queue->index, mbufs, (uint16_t)count);
	for (unsigned int i = accepted; i < count; i++)
		detach(mbufs[i]);
	return (int)(accepted < count ? place[accepted] : taken);
}

static int dpdk_tx_done(struct driver_queue *driver_queue, uint32_t *buffers, unsigned int n)
{
	const struct dpdk *dpdk = driver_queue->dev->state;
	struct dpdk_queue *queue = driver_queue->state;
	unsigned int taken;

	/* Not every driver can: then they come back when it sends the next ones. */
	if (queue->done_count == 0 && queue->away > 0)
		rte_eth_tx_done_cleanup(dpdk->port, (uint16_t)driver_queue->index, 0);
	taken = min(n, (unsigned int)queue->done_count);
	for (unsigned int i = 0; i < taken; i++)
		buffers[i] = queue->done[--queue->done_count];
	return (int)taken;
}

static int dpdk_arm(struct driver_queue *driver_queue)
{
	const struct dpdk *dpdk = driver_queue->dev->state;
	struct dpdk_queue *queue = driver_queue->state;
	unsigned int pause = queue->idle_us;

	if (queue->interrupt) {
		/* One that cannot be switched is on for ever. */
		queue->interrupt_on = rte_eth_dev_rx_intr_enable(dpdk->port, (uint16_t)driver_queue->index) == 0;
		if (queue->interrupt_on && rte_eth_rx_queue_count(dpdk->port, (uint16_t)driver_queue->index) > 0)
			return 0;
		return DRIVER_FOREVER;
	}
	queue->idle_us = min(2 * pause, dpdk->idle_max_us);
	return (int)pause;
}

/*
 * DPDK's own way down needs system calls that are gone, and the process ends anyway: the kernel takes back what is
 * left, the devices included.
 */
static void dpdk_close(struct driver_device *dev)
{
	struct dpdk *dpdk = dev->state;

	for (unsigned int i = 0; dpdk && dpdk->queues && i < dev->queue_count; i++) {
		free(dpdk->queues[i].loose);
		free(dpdk->queues[i].done);
	}
	if (dpdk) {
		free(dpdk->queues);
		free(dpdk->sent);
	}
	free(dpdk);
	dev->state = NULL;
}

const struct driver_kind driver_dpdk = {
	.name = "dpdk",
	.summary = "whatever DPDK has a driver for: net_... as its --vdev takes it, or a PCI address",
	.options = dpdk_options,
	.comes_small = true,
	.keeps_network = true,
	.has_threads = true,
	.calls = seccomp_driver,
	.call_count = ARRAY_SIZE(seccomp_driver),
	.open = dpdk_open,
	.bind = dpdk_bind,
	.link = dpdk_link,
	.rx = dpdk_rx,
	.rx_give = dpdk_rx_give,
	.tx = dpdk_tx,
	.tx_done = dpdk_tx_done,
	.arm = dpdk_arm,
	.events = dpdk_events,
	.close = dpdk_close,
};
