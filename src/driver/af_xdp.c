/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A NIC of the kernel's through AF_XDP: its frames are written into the pool, and sent from it, by its own kernel
 * driver where that can (zero copy), or else by the kernel (one copy, of its own). Nothing is copied here: a frame goes
 * from the device to the switch, and back, in the buffer it was put in.
 *
 *	from the device   | headroom ............ | net header | frame        the kernel puts the frame at 256
 *	to the device     | net header | frame                                the switch writes, the kernel reads
 *
 * AF_XDP knows no offloads: each frame is whole and alone, so none of GUEST_* is negotiated, and the switch segments
 * and finishes what it sends here. From a veth, however, come frames with unfinished checksums: partial_checksum.h.
 */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/device.h"
#include "driver/netif.h"
#include "driver/partial_checksum.h"
#include "driver/xdp_prog.h"
#include "driver/xsk_pool.h"
#include "lib/clock.h"
#include "lib/log.h"

#define CHUNK_SMALL 2048u
#define CHUNK_LARGE 4096u /* a page: more is not to be had */
#define RING_SIZE   2048u /* a few milliseconds: so long others may have the CPU without a loss */
#define ETH_MAX     18u   /* Ethernet header and a VLAN tag */
#define RETRY_US    100   /* until a device that was full is tried again */
#define LOOK_NS     (100 * NS_PER_MS)

#define MTU_OF(chunk) ((chunk)-XSK_HEADROOM - ETH_MAX)

/* Each queue's, of its thread. */
struct af_xdp_queue {
	struct xsk_queue *xsk;
	bool down;              /* the device was, when it was told to send last */
	uint64_t look_ns;       /* when to ask for losses again */
	struct xsk_losses lost; /* so many are counted */
	uint64_t lies;
	bool warned; /* of frames that are too long */
};

struct af_xdp {
	struct xdp_prog prog;
	struct xsk_pool pool;
	int promiscuous_fd; /* keeps the device so */
	uint32_t chunk_size;
	bool repair;     /* look for unfinished checksums */
	bool generic;    /* generic XDP is asked for */
	bool native;     /* native XDP is asked for */
	uint32_t tx_max; /* bytes of a frame; written by the main thread */
	unsigned int device_queues;
	struct xdp_keep keep;
	struct af_xdp_queue *queues;
};

static const struct driver_option af_xdp_options[] = {
	{"xdp-mode",
	 "auto (default): native XDP, or generic where the device's kernel driver has none; native; generic"},
	{"keep", "leave frames to the kernel: mac, mac:MAC, ethertype:0xN, arp, lldp, ip:ADDRESS, port:N[/tcp|/udp]; "
		 "conditions joined by + must all hold; can be repeated"},
	{"checksum",
	 "auto (default): look for unfinished checksums if the device is a veth; repair: always; trust: never"},
	{"promiscuous", "yes (default): also frames for other addresses than the device's; no"},
	{NULL, NULL},
};

/* Opening. */

/* One of the words, up to NULL; -EINVAL after a line in the log. The first is the default. */
static int choose(const struct driver_config *config, const char *key, const char *const words[])
{
	const char *value = driver_option(config, key, words[0]);

	for (int i = 0; words[i]; i++) {
		if (!strcmp(words[i], value))
			return i;
	}
	log_error("--option %s=%s: takes %s, %s%s%s", key, value, words[0], words[1], words[2] ? ", " : "",
		  words[2] ? words[2] : "");
	return -EINVAL;
}

static int read_options(struct driver_device *dev, struct af_xdp *state, const struct netif *netif)
{
	static const char *const modes[] = {"auto", "native", "generic", NULL};
	static const char *const checksums[] = {"auto", "repair", "trust", NULL};
	static const char *const answers[] = {"yes", "no", NULL};
	const struct driver_config *config = dev->config;
	int mode = choose(config, "xdp-mode", modes), checksum = choose(config, "checksum", checksums), err = 0;

	if (mode < 0 || checksum < 0 || choose(config, "promiscuous", answers) < 0)
		return -EINVAL;
	state->native = mode == 1;
	state->generic = mode == 2;
	state->repair = checksum == 0 ? !strcmp(netif->kind, "veth") : checksum == 1;
	for (unsigned int i = 0; !err && i < config->option_count; i++) {
		if (!strcmp(config->options[i].key, "keep"))
			err = xdp_keep_add(&state->keep, config->options[i].value, netif->mac);
	}
	return err;
}

/* Receive queues of the device now. One that does not know the question has one. */
static unsigned int count_queues(const char *device)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq request = {.ifr_data = (char *)&channels};
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	unsigned int count = 1;

	if (sock < 0)
		return count;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
	if (ioctl(sock, SIOCETHTOOL, &request) == 0)
		count = max(channels.rx_count + channels.combined_count, 1u);
	close(sock);
	return count;
}

/*
 * By a socket, as that ends with the process. A packet socket sends out of every interface that its network namespace
 * has, whoever has it; one with a ring sends only what is in the ring, and nobody ever maps this one's.
 */
static int set_promiscuous(struct af_xdp *state, int ifindex)
{
	const struct packet_mreq membership = {.mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC};
	const unsigned int page = (unsigned int)sysconf(_SC_PAGESIZE);
	const struct tpacket_req ring = {
		.tp_block_size = page, .tp_block_nr = 1, .tp_frame_size = page, .tp_frame_nr = 1};

	state->promiscuous_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (state->promiscuous_fd < 0 ||
	    setsockopt(state->promiscuous_fd, SOL_PACKET, PACKET_TX_RING, &ring, sizeof(ring)) < 0 ||
	    setsockopt(state->promiscuous_fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof(membership)) < 0)
		return -errno;
	return 0;
}

static int find_device(struct driver_device *dev, struct netif *netif)
{
	const char *name = dev->config->device;
	int err = netif_find(name, netif);

	if (err) {
		log_error("interface %s: %s; `ip link` shows those there are%s", name, strerror(-err),
			  dev->config->netns ? " in that network namespace" : ", --netns names another namespace");
		return err;
	}
	if (dev->config->mtu) {
		err = netif_set_mtu(name, dev->config->mtu);
		if (err) {
			log_error("interface %s: MTU %u: %s", name, dev->config->mtu, strerror(-err));
			return err;
		}
		netif->mtu = dev->config->mtu;
	}
	if (netif->mtu > MTU_OF(CHUNK_LARGE)) {
		log_error("%s: an MTU of %u is too large for AF_XDP, whose frames fit into a page: `ip link set %s mtu "
			  "%u`, "
			  "or use --kind af_packet",
			  name, netif->mtu, name, MTU_OF(CHUNK_LARGE));
		return -EINVAL;
	}
	if (!netif->up)
		log_warn("interface %s is down: `ip link set %s up`", name, name);
	return 0;
}

static int af_xdp_open(struct driver_device *dev)
{
	const char *name = dev->config->device;
	struct af_xdp *state = calloc(1, sizeof(*state));
	struct netif netif;
	int err;

	dev->state = state;
	if (!state)
		return -ENOMEM;
	state->promiscuous_fd = -1;
	state->prog.link_fd = -1;
	err = find_device(dev, &netif);
	if (!err)
		err = read_options(dev, state, &netif);
	if (!err)
		err = xdp_prog_open(&state->prog, name, (unsigned int)netif.ifindex, &state->keep);
	if (err)
		return err;
	state->device_queues = count_queues(name);
	if (state->device_queues < dev->queue_count) {
		log_info("%s has %u receive queues, not %u", name, state->device_queues, dev->queue_count);
		dev->queue_count = state->device_queues;
	}
	state->chunk_size = netif.mtu <= MTU_OF(CHUNK_SMALL) ? CHUNK_SMALL : CHUNK_LARGE;
	state->tx_max = netif.mtu + ETH_MAX;
	dev->facts = (struct driver_facts){
		.features = state->repair ? VIRTIO_BIT(VIRTIO_NET_F_CSUM) : 0,
		.mtu = netif.mtu,
		.speed_mbps = netif_speed(name),
		.link = netif.up && netif.carrier,
		.ifindex = netif.ifindex,
		.from_size = state->chunk_size,
		.to_size = state->chunk_size,
		.headroom = XSK_HEADROOM - VIRTIO_NET_HDR_LEN,
		.alignment = state->chunk_size,
		.ring_size = RING_SIZE,
	};
	memcpy(dev->facts.mac, netif.mac, sizeof(dev->facts.mac));
	return 0;
}

static int bind_queues(struct driver_device *dev, struct af_xdp *state)
{
	const struct xsk_pool_config config = {
		.device = dev->config->device,
		.memory = dev->pool.memory + dev->pool.first,
		.size = dev->pool.size - dev->pool.first,
		.chunk_size = state->chunk_size,
		.ring_size = RING_SIZE,
		.queues = dev->queue_count,
		.copy = state->prog.mode == XDP_MODE_GENERIC,
	};
	int err;

	if (state->device_queues > dev->queue_count) {
		log_error("%s has %u receive queues, and %u would be served: `ethtool -L %s` sets their number "
			  "(combined %u "
			  "or rx %u); or have %u queues at the port, and --queues %u here",
			  config.device, state->device_queues, dev->queue_count, config.device, dev->queue_count,
			  dev->queue_count, state->device_queues, state->device_queues);
		return -EINVAL;
	}
	if (dev->pool.stride != state->chunk_size)
		return -EINVAL;
	err = xsk_pool_open(&state->pool, &config);
	for (unsigned int i = 0; !err && i < dev->queue_count; i++) {
		state->queues[i].xsk = &state->pool.queues[i];
		dev->queues[i].state = &state->queues[i];
		/* The descriptor is closed with its socket. */
		dev->queues[i].fd = dup(state->pool.queues[i].fd);
		err = dev->queues[i].fd < 0 ? -errno : xdp_prog_set_socket(&state->prog, i, state->pool.queues[i].fd);
	}
	return err;
}

static int af_xdp_bind(struct driver_device *dev)
{
	struct af_xdp *state = dev->state;
	enum xdp_mode mode = state->generic ? XDP_MODE_GENERIC : state->native ? XDP_MODE_NATIVE : XDP_MODE_AUTO;
	int err;

	state->queues = calloc(dev->queue_count, sizeof(*state->queues));
	if (!state->queues)
		return -ENOMEM;
	err = xdp_prog_attach(&state->prog, mode);
	if (!err)
		err = bind_queues(dev, state);
	if (!err && !strcmp(driver_option(dev->config, "promiscuous", "yes"), "yes"))
		err = set_promiscuous(state, dev->facts.ifindex);
	if (err)
		return err;
	state->repair = dev->pool.features & VIRTIO_BIT(VIRTIO_NET_F_CSUM);
	snprintf(dev->facts.mode, sizeof(dev->facts.mode), "%s, %s",
		 state->prog.mode == XDP_MODE_NATIVE ? "native" : "generic",
		 state->pool.zero_copy ? "zero copy" : "copy");
	return 0;
}

/* Moving. */

static uint32_t buffer_of(const struct driver_pool *pool, uint64_t chunk)
{
	return (uint32_t)((pool->first + chunk) / DRIVER_UNIT);
}

/* What the kernel lost counts as ours. */
static void count_losses(struct driver_queue *queue)
{
	struct af_xdp_queue *state = queue->state;
	struct driver_counters *counters = &queue->counters;
	uint64_t now = clock_now_ns();
	struct xsk_losses lost;

	if (now < state->look_ns || xsk_queue_losses(state->xsk, &lost) != 0)
		return;
	state->look_ns = now + LOOK_NS;
	if (lost.too_long > state->lost.too_long && !state->warned) {
		state->warned = true;
		log_warn("%s: frames came from it that are too large for AF_XDP, and are lost: turn segmentation "
			 "offload "
			 "off where they are sent (ethtool -K DEVICE tso off gso off), and receive offload here "
			 "(ethtool "
			 "-K %s gro off lro off)",
			 queue->dev->config->device, queue->dev->config->device);
	}
	/* The kernel's counts, but for the first, which is a difference, do not go back. */
	DRIVER_COUNT(counters->drops[DRIVER_DROP_TOO_LONG], lost.too_long - min(lost.too_long, state->lost.too_long));
	DRIVER_COUNT(counters->drops[DRIVER_DROP_NO_BUFFER], lost.no_buffer - state->lost.no_buffer);
	DRIVER_COUNT(counters->drops[DRIVER_DROP_DEVICE_ERROR], lost.bad - state->lost.bad);
	DRIVER_COUNT(counters->drops[DRIVER_DROP_DEVICE_ERROR], state->xsk->lies - state->lies);
	lost.too_long = max(lost.too_long, state->lost.too_long);
	state->lost = lost;
	state->lies = state->xsk->lies;
}

static int af_xdp_rx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	const struct driver_pool *pool = &queue->dev->pool;
	const struct af_xdp *device = queue->dev->state;
	struct af_xdp_queue *state = queue->state;
	struct xsk_frame received[DRIVER_BATCH];
	uint64_t chunk_mask = device->chunk_size - 1;

	n = xsk_queue_receive(state->xsk, received, n);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t addr = received[i].addr, chunk = addr & ~chunk_mask;
		struct driver_frame *frame = &frames[i];

		*frame = (struct driver_frame){.data = pool->memory + pool->first + addr - pool->header,
					       .size = received[i].size + pool->header,
					       .room = (uint32_t)(chunk + device->chunk_size - addr) + pool->header,
					       .buffer = buffer_of(pool, chunk)};
		/* Without room for the net header it is no frame; an empty one is dropped, and its buffer is not. */
		if (unlikely(addr - chunk < pool->header)) {
			frame->size = 0;
			continue;
		}
		memset(frame->data, 0, pool->header);
		if (device->repair)
			partial_checksum(frame->data + pool->header, received[i].size,
					 (struct virtio_net_hdr *)(void *)frame->data);
	}
	count_losses(queue);
	return (int)n;
}

static int af_xdp_rx_give(struct driver_queue *queue, const uint32_t *buffers, unsigned int n)
{
	struct af_xdp_queue *state = queue->state;
	uint64_t chunks[DRIVER_BATCH];
	unsigned int given;

	n = min(n, DRIVER_BATCH);
	for (unsigned int i = 0; i < n; i++)
		chunks[i] = (uint64_t)buffers[i] * DRIVER_UNIT - queue->dev->pool.first;
	given = xsk_queue_give(state->xsk, chunks, n);
	xsk_queue_kick_fill(state->xsk);
	return (int)given;
}

/* Tells the kernel to send what is in the ring. */
static int kick(struct af_xdp_queue *state)
{
	int err = xsk_queue_kick(state->xsk);

	state->down = err == -ENETDOWN;
	return err;
}

static int af_xdp_tx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	const struct driver_pool *pool = &queue->dev->pool;
	const struct af_xdp *device = queue->dev->state;
	struct af_xdp_queue *state = queue->state;
	uint32_t largest = load_relaxed(&device->tx_max) + pool->header;
	struct xsk_frame sent[DRIVER_BATCH];
	unsigned int taken = 0, room, count = 0;

	if (unlikely(state->down) && kick(state) == -ENETDOWN)
		return -ENETDOWN;
	n = min(n, DRIVER_BATCH);
	room = xsk_prod_nb_free(&state->xsk->tx, n);
	for (; taken < n && count < room; taken++) {
		struct driver_frame *frame = &frames[taken];

		if (unlikely(frame->size > largest || frame->next)) {
			driver_refuse(queue, frame, DRIVER_DROP_TOO_LONG);
			continue;
		}
		sent[count++] =
			(struct xsk_frame){.addr = (uint64_t)(frame->data - pool->memory) - pool->first + pool->header,
					   .size = frame->size - pool->header};
	}
	/* All go in, as there is room, and all are ours. */
	if (xsk_queue_send(state->xsk, sent, count) != count)
		return -EIO;
	return kick(state) == -ENODEV ? -ENODEV : (int)taken;
}

static int af_xdp_tx_done(struct driver_queue *queue, uint32_t *buffers, unsigned int n)
{
	const struct af_xdp *device = queue->dev->state;
	struct af_xdp_queue *state = queue->state;
	uint64_t chunks[DRIVER_BATCH];

	n = xsk_queue_completed(state->xsk, chunks, min(n, DRIVER_BATCH));
	for (unsigned int i = 0; i < n; i++)
		buffers[i] = buffer_of(&queue->dev->pool, align_down(chunks[i], device->chunk_size));
	return (int)n;
}

static int af_xdp_arm(struct driver_queue *queue)
{
	struct af_xdp_queue *state = queue->state;

	count_losses(queue);
	if (xsk_queue_unsent(state->xsk) > 0)
		kick(state);
	if (state->down)
		return DRIVER_FOREVER;
	/* Nothing is readable when a frame was sent. The switch can wait for a few buffers, not for most of them. */
	return xsk_queue_unsent(state->xsk) > 0 || state->xsk->sending > RING_SIZE / 2 ? RETRY_US : DRIVER_FOREVER;
}

static int af_xdp_events(struct driver_device *dev)
{
	struct af_xdp *state = dev->state;

	if (dev->facts.mtu > MTU_OF(state->chunk_size)) {
		log_error("%s: its MTU is %u now, and its buffers were made for %u at most: the driver has to start "
			  "again",
			  dev->config->device, dev->facts.mtu, MTU_OF(state->chunk_size));
		return -ERANGE;
	}
	store_relaxed(&state->tx_max, dev->facts.mtu + ETH_MAX);
	return 0;
}

/* Closing. */

/*
 * In copy mode the kernel keeps no buffer for frames from the device but those in its rings: one that it was given and
 * does not have is lost for good.
 */
static void account(const struct driver_device *dev, const struct af_xdp *state)
{
	for (unsigned int i = 0; i < state->pool.queue_count; i++) {
		const struct xsk_queue *xsk = &state->pool.queues[i];
		uint32_t waiting = xsk_queue_unfilled(xsk) + xsk_queue_unread(xsk);

		log_debug("%s: queue %u: of %u buffers for frames from it the kernel has %u, and %u frames to it",
			  dev->config->device, i, RING_SIZE, xsk->receiving, xsk->sending);
		if (!state->pool.zero_copy && xsk->receiving != waiting)
			log_warn("%s: queue %u: the kernel was given %u buffers, and has %u", dev->config->device, i,
				 xsk->receiving, waiting);
		if (xsk->lies > 0)
			log_warn("%s: queue %u: the kernel named %llu buffers that it did not have",
				 dev->config->device, i, (unsigned long long)xsk->lies);
	}
	if (state->keep.count > 0 && state->pool.queue_count > 0)
		log_info("%s: %llu frames were left to the kernel", dev->config->device,
			 (unsigned long long)xdp_prog_kept(&state->prog));
}

static void af_xdp_close(struct driver_device *dev)
{
	struct af_xdp *state = dev->state;

	if (!state)
		return;
	account(dev, state);
	xdp_prog_close(&state->prog);
	xsk_pool_close(&state->pool);
	if (state->promiscuous_fd >= 0)
		close(state->promiscuous_fd);
	free(state->queues);
	free(state);
	dev->state = NULL;
}

const struct driver_kind driver_af_xdp = {
	.name = "af_xdp",
	.summary = "a NIC of the kernel's through AF_XDP, in place",
	.options = af_xdp_options,
	.comes_small = true,
	.open = af_xdp_open,
	.bind = af_xdp_bind,
	.rx = af_xdp_rx,
	.rx_give = af_xdp_rx_give,
	.tx = af_xdp_tx,
	.tx_done = af_xdp_tx_done,
	.arm = af_xdp_arm,
	.events = af_xdp_events,
	.close = af_xdp_close,
};
