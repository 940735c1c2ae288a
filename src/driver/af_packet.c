/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Any interface of the kernel's, through packet sockets: the fallback that works everywhere. PACKET_VNET_HDR makes the
 * kernel say in a virtio net header what it has not finished, and take frames that we have not: large frames that it
 * has coalesced come as one, and segmentation is left to the NIC.
 *
 * The kernel sees every frame too. An interface that is an uplink should have no address of its own, and no bridge.
 *
 * The header on the socket has 10 bytes, the one in the pool 12: the two are one piece of an iovec apart. A VLAN tag
 * comes beside the frame, and is put back into it, into room that was left in front.
 *
 * @syscalls driver: recvmmsg sendmmsg
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/device.h"
#include "driver/netif.h"
#include "lib/log.h"

#define SOCKET_HEADER ((uint32_t)sizeof(struct virtio_net_hdr))
#define HEADER        VIRTIO_NET_HDR_LEN
#define VLAN_SIZE     4
#define MAC_PAIR      12
#define HEADROOM      DRIVER_UNIT /* for a VLAN tag, with the header where it is aligned */
#define FROM_SIZE     (HEADROOM + HEADER + VIRTIO_NET_FRAME_MAX + 1)
#define TO_SIZE       4096
#define PIECES_MAX    32
#define BUFFER_SIZE   (4 << 20) /* bytes that the kernel may keep for us, each way, of its own accounting */

static const struct driver_option af_packet_options[] = {
	{"promiscuous", "yes (default): also frames for other addresses than the interface's; no"},
	{NULL, NULL},
};

static int set_option(int fd, int option, int value)
{
	return setsockopt(fd, SOL_PACKET, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int open_socket(const struct netif *netif, unsigned int queues, bool promiscuous)
{
	/* One that listens to nothing yet, so that nothing comes without a header. */
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), size = BUFFER_SIZE, err = 0;
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = netif->ifindex};
	const struct packet_mreq membership = {.mr_ifindex = netif->ifindex, .mr_type = PACKET_MR_PROMISC};

	if (fd < 0)
		return -errno;
	/* More than an administrator's limit takes privilege, and is a wish only. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	err = set_option(fd, PACKET_VNET_HDR, 1);
	if (!err)
		err = set_option(fd, PACKET_AUXDATA, 1);
	if (!err)
		err = set_option(fd, PACKET_IGNORE_OUTGOING, 1);
	if (!err && promiscuous &&
	    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof(membership)) < 0)
		err = -errno;
	if (!err && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		err = -errno;
	/* By flow, so that order within one is kept. The group's number is ours alone on this interface and in this
	 * process. */
	if (!err && queues > 1)
		err = set_option(fd, PACKET_FANOUT, (getpid() & 0xffff) | PACKET_FANOUT_HASH << 16);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int af_packet_open(struct driver_device *dev)
{
	const char *name = dev->config->device, *promiscuous = driver_option(dev->config, "promiscuous", "yes");
	struct netif netif;
	int err = netif_find(name, &netif);

	if (strcmp(promiscuous, "yes") != 0 && strcmp(promiscuous, "no") != 0) {
		log_error("--option promiscuous takes yes or no, not '%s'", promiscuous);
		return -EINVAL;
	}
	if (err) {
		log_error("interface %s: %s; `ip link` shows those there are%s", name, strerror(-err),
			  dev->config->netns ? " in that network namespace" : ", --netns names another namespace");
		return err;
	}
	if (dev->config->mtu)
		err = netif_set_mtu(name, dev->config->mtu);
	if (err) {
		log_error("interface %s: MTU %u: %s", name, dev->config->mtu, strerror(-err));
		return err;
	}
	for (unsigned int i = 0; i < dev->queue_count; i++) {
		int fd = open_socket(&netif, dev->queue_count, !strcmp(promiscuous, "yes"));

		if (fd < 0) {
			log_error("interface %s: %s; packet sockets take root or CAP_NET_RAW", name, strerror(-fd));
			return fd;
		}
		dev->queues[i].fd = fd;
	}
	if (!netif.up)
		log_warn("interface %s is down: `ip link set %s up`", name, name);
	dev->facts = (struct driver_facts){
		.features = VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_BIT(VIRTIO_NET_F_CSUM) |
			    VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) |
			    VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) |
			    VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) |
			    VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN),
		.mtu = dev->config->mtu ? dev->config->mtu : netif.mtu,
		.speed_mbps = netif_speed(name),
		.link = netif.up && netif.carrier,
		.ifindex = netif.ifindex,
		.mode = "packet socket, copy",
		.from_size = FROM_SIZE,
		.to_size = TO_SIZE,
		.headroom = HEADROOM,
	};
	memcpy(dev->facts.mac, netif.mac, sizeof(dev->facts.mac));
	return 0;
}

static int af_packet_bind(struct driver_device *dev)
{
	/* A member of the group that nobody reads would swallow a part of the frames. */
	for (unsigned int i = dev->queue_count; i < dev->config->queues; i++) {
		if (dev->queues[i].fd >= 0)
			close(dev->queues[i].fd);
		dev->queues[i].fd = -1;
	}
	return 0;
}

/* Puts the tag, which the kernel took out of the frame, between addresses and type. */
static void insert_tag(struct driver_frame *frame, uint16_t tpid, uint16_t tci)
{
	struct virtio_net_hdr_mrg_rxbuf *header;
	uint16_t tag[2] = {htons(tpid), htons(tci)};

	memmove(frame->data - VLAN_SIZE, frame->data, HEADER + MAC_PAIR);
	frame->data -= VLAN_SIZE;
	memcpy(frame->data + HEADER + MAC_PAIR, tag, sizeof(tag));
	frame->size += VLAN_SIZE;
	header = (struct virtio_net_hdr_mrg_rxbuf *)(void *)frame->data;
	if (header->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		header->hdr.csum_start = (uint16_t)(header->hdr.csum_start + VLAN_SIZE);
	if (header->hdr.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		header->hdr.hdr_len = (uint16_t)(header->hdr.hdr_len + VLAN_SIZE);
}

static void restore_tag(struct driver_frame *frame, struct msghdr *message)
{
	const struct cmsghdr *cmsg = CMSG_FIRSTHDR(message);
	struct tpacket_auxdata aux;

	if (!cmsg || cmsg->cmsg_level != SOL_PACKET || cmsg->cmsg_type != PACKET_AUXDATA ||
	    cmsg->cmsg_len < CMSG_LEN(sizeof(aux)))
		return;
	memcpy(&aux, CMSG_DATA(cmsg), sizeof(aux));
	if (aux.tp_status & TP_STATUS_VLAN_VALID)
		insert_tag(frame, aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q,
			   aux.tp_vlan_tci);
}

/* errno, as rx and tx have to say it. */
static int socket_error(void)
{
	return errno == ENXIO || errno == ENODEV ? -ENODEV : -errno;
}

static int af_packet_rx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	union {
		char bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		struct cmsghdr align;
	} control[DRIVER_BATCH];
	struct mmsghdr messages[DRIVER_BATCH] = {0};
	struct iovec iov[DRIVER_BATCH][2];
	unsigned int filled = 0;
	int received;

	for (unsigned int i = 0; i < n; i++) {
		iov[i][0] = (struct iovec){.iov_base = frames[i].data, .iov_len = SOCKET_HEADER};
		iov[i][1] = (struct iovec){.iov_base = frames[i].data + HEADER, .iov_len = frames[i].room - HEADER};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = iov[i],
						      .msg_iovlen = 2,
						      .msg_control = &control[i],
						      .msg_controllen = sizeof(control[i])};
	}
	received = recvmmsg(queue->fd, messages, n, MSG_DONTWAIT, NULL);
	if (received < 0)
		return errno == EAGAIN ? 0 : socket_error();
	for (int i = 0; i < received; i++) {
		struct driver_frame *frame = &frames[filled];

		if (messages[i].msg_hdr.msg_flags & MSG_TRUNC || messages[i].msg_len < SOCKET_HEADER) {
			DRIVER_COUNT(queue->counters.drops[DRIVER_DROP_TOO_LONG], 1);
			continue;
		}
		/* Moved up, if one before it is lost: the lost one's buffer is free. */
		if (frame != &frames[i]) {
			struct driver_frame lost = *frame;

			*frame = frames[i];
			frames[i] = lost;
		}
		frame->size = messages[i].msg_len - SOCKET_HEADER + HEADER;
		memset(frame->data + SOCKET_HEADER, 0, HEADER - SOCKET_HEADER);
		restore_tag(frame, &messages[i].msg_hdr);
		filled++;
	}
	return (int)filled;
}

/* The frame as the socket wants it. Returns how many entries of iov. */
static unsigned int lay_out(const struct driver_frame *frame, struct iovec iov[PIECES_MAX + 1])
{
	unsigned int n = 2;

	iov[0] = (struct iovec){.iov_base = frame->data, .iov_len = SOCKET_HEADER};
	iov[1] = (struct iovec){.iov_base = frame->data + HEADER, .iov_len = frame->size - HEADER};
	for (const struct driver_frame *piece = frame->next; piece && n <= PIECES_MAX; piece = piece->next)
		iov[n++] = (struct iovec){.iov_base = piece->data, .iov_len = piece->size};
	return n;
}

/* One that the device does not take by itself. True: it is done with; false: it may be taken later. */
static bool refuse(struct driver_queue *queue, struct driver_frame *frame)
{
	switch (errno) {
	case EAGAIN:
	case ENOBUFS:
	case ENOMEM:
		return false;
	case EMSGSIZE:
		driver_refuse(queue, frame, DRIVER_DROP_TOO_LONG);
		return true;
	case EINVAL:
	case EFAULT:
		driver_refuse(queue, frame, DRIVER_DROP_BAD_FRAME);
		return true;
	default:
		driver_refuse(queue, frame, DRIVER_DROP_DEVICE_ERROR);
		return true;
	}
}

static int af_packet_tx(struct driver_queue *queue, struct driver_frame *frames, unsigned int n)
{
	struct mmsghdr messages[DRIVER_BATCH] = {0};
	struct iovec iov[DRIVER_BATCH][PIECES_MAX + 1];
	unsigned int done = 0;

	for (unsigned int i = 0; i < n; i++)
		messages[i].msg_hdr = (struct msghdr){.msg_iov = iov[i], .msg_iovlen = lay_out(&frames[i], iov[i])};
	while (done < n) {
		int sent = sendmmsg(queue->fd, messages + done, n - done, MSG_DONTWAIT);

		if (sent > 0) {
			done += (unsigned int)sent;
			continue;
		}
		if (errno == ENETDOWN || errno == ENXIO || errno == ENODEV)
			return done > 0 ? (int)done : socket_error();
		if (!refuse(queue, &frames[done]))
			break;
		done++;
	}
	return (int)done;
}

static void af_packet_close(struct driver_device *dev)
{
	(void)dev; /* has nothing but the queues' descriptors */
}

const struct driver_kind driver_af_packet = {
	.name = "af_packet",
	.summary = "any interface of the kernel's, through packet sockets",
	.options = af_packet_options,
	.open = af_packet_open,
	.bind = af_packet_bind,
	.rx = af_packet_rx,
	.tx = af_packet_tx,
	.close = af_packet_close,
};
