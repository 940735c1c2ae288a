/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking a device for AF_XDP. Until the port is there nothing of the device is touched, as many a NIC loses its link
 * for a moment when it is given an XDP program: a driver that only looks for its port must not do that once a second.
 */
#include "driver/af_xdp.h"

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

#include "driver/netif.h"
#include "lib/log.h"

#define CHUNK_SMALL 2048u
#define CHUNK_LARGE 4096u /* a page: more is not to be had */

const struct driver_option af_xdp_options[] = {
	{"xdp-mode",
	 "auto (default): native XDP, or generic where the device's kernel driver has none; native; generic"},
	{"keep", "leave frames to the kernel: mac, mac:MAC, ethertype:0xN, arp, lldp, ip:ADDRESS, port:N[/tcp|/udp]; "
		 "conditions joined by + must all hold; can be repeated"},
	{"checksum",
	 "auto (default): look for unfinished checksums if the device is a veth; repair: always; trust: never"},
	{"promiscuous", "yes (default): also frames for other addresses than the device's; no"},
	{NULL, NULL},
};

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
	if (netif->mtu > AF_XDP_MTU(CHUNK_LARGE)) {
		log_error("%s: an MTU of %u is too large for AF_XDP, whose frames fit into a page: `ip link set %s mtu "
			  "%u`, "
			  "or use --kind af_packet",
			  name, netif->mtu, name, AF_XDP_MTU(CHUNK_LARGE));
		return -EINVAL;
	}
	if (!netif->up)
		log_warn("interface %s is down: `ip link set %s up`", name, name);
	return 0;
}

int af_xdp_open(struct driver_device *dev)
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
	state->chunk_size = netif.mtu <= AF_XDP_MTU(CHUNK_SMALL) ? CHUNK_SMALL : CHUNK_LARGE;
	state->tx_max = netif.mtu + AF_XDP_ETH_MAX;
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
		.ring_size = AF_XDP_RING_SIZE,
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
		.ring_size = AF_XDP_RING_SIZE,
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

int af_xdp_bind(struct driver_device *dev)
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
	/* Which may also have been asked for to coalesce. */
	state->repair = state->repair && dev->pool.features & VIRTIO_BIT(VIRTIO_NET_F_CSUM);
	snprintf(dev->facts.mode, sizeof(dev->facts.mode), "%s, %s",
		 state->prog.mode == XDP_MODE_NATIVE ? "native" : "generic",
		 state->pool.zero_copy ? "zero copy" : "copy");
	return 0;
}
