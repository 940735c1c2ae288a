/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Netlink is a handful of structures; a library for it would be longer than this file's use of it. Attributes are
 * walked by the kernel's own macros, which check lengths against the message's.
 *
 * A watch that has missed messages (the kernel drops them when the socket is full) asks for the state again.
 *
 * @syscalls driver: recvfrom sendto recvmsg sendmsg
 */
#include "driver/netif.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"

#define MESSAGE_MAX 32768 /* bytes; what the kernel sends at once, at most */
#define NETNS_DIR   "/run/netns/"

bool netif_name_valid(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length >= IFNAMSIZ || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	for (size_t i = 0; i < length; i++) {
		if (name[i] <= ' ' || name[i] > '~' || name[i] == '/' || name[i] == ':' || name[i] == '%')
			return false;
	}
	return true;
}

/* Bytes of an attribute's data, or of what of it fits. Here as below: the kernel's macros take no const. */
static void copy_attribute(struct rtattr *attribute, void *to, size_t size)
{
	size_t there = RTA_PAYLOAD(attribute);

	memcpy(to, RTA_DATA(attribute), there < size ? there : size);
}

static void parse_tun(struct rtattr *data, struct netif *netif)
{
	int left = (int)RTA_PAYLOAD(data);
	uint32_t queues = 0, disabled = 0;

	for (struct rtattr *at = RTA_DATA(data); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		if (at->rta_type == IFLA_TUN_NUM_QUEUES)
			copy_attribute(at, &queues, sizeof(queues));
		else if (at->rta_type == IFLA_TUN_NUM_DISABLED_QUEUES)
			copy_attribute(at, &disabled, sizeof(disabled));
	}
	netif->tun_queues = queues + disabled;
}

static void parse_kind(struct rtattr *info, struct netif *netif)
{
	int left = (int)RTA_PAYLOAD(info);

	for (struct rtattr *at = RTA_DATA(info); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		if (at->rta_type == IFLA_INFO_KIND)
			copy_attribute(at, netif->kind, sizeof(netif->kind) - 1);
		else if (at->rta_type == IFLA_INFO_DATA && !strcmp(netif->kind, "tun"))
			parse_tun(at, netif);
	}
}

int netif_parse(struct nlmsghdr *message, struct netif *netif, bool *gone)
{
	struct ifinfomsg *info = NLMSG_DATA(message);
	uint8_t carrier = 1;
	int left;

	if ((message->nlmsg_type != RTM_NEWLINK && message->nlmsg_type != RTM_DELLINK) ||
	    message->nlmsg_len < NLMSG_LENGTH(sizeof(*info)))
		return -ENOMSG;
	*netif = (struct netif){.ifindex = info->ifi_index, .up = info->ifi_flags & IFF_UP};
	left = (int)IFLA_PAYLOAD(message);
	for (struct rtattr *at = IFLA_RTA(info); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		switch (at->rta_type) {
		case IFLA_IFNAME:
			copy_attribute(at, netif->name, sizeof(netif->name) - 1);
			break;
		case IFLA_MTU:
			copy_attribute(at, &netif->mtu, sizeof(netif->mtu));
			break;
		case IFLA_ADDRESS:
			copy_attribute(at, netif->mac, sizeof(netif->mac));
			break;
		case IFLA_IFALIAS:
			copy_attribute(at, netif->alias, sizeof(netif->alias) - 1);
			break;
		case IFLA_CARRIER:
			copy_attribute(at, &carrier, sizeof(carrier));
			break;
		case IFLA_LINKINFO:
			parse_kind(at, netif);
			break;
		default:
			break;
		}
	}
	netif->carrier = carrier;
	*gone = message->nlmsg_type == RTM_DELLINK;
	return 0;
}

/* Asks for one link, by index or, if that is 0, by name; or to delete it, or to give it an alias, which is `text`. */
static int ask(int sock, uint16_t type, int ifindex, const char *text)
{
	const bool changes = type == RTM_DELLINK || type == RTM_SETLINK;

	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
		struct rtattr attribute;
		char text[IFNAMSIZ];
	} request = {
		.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(request.info)),
			   .nlmsg_type = type,
			   .nlmsg_flags = NLM_F_REQUEST | (changes ? NLM_F_ACK : 0)},
		.info = {.ifi_family = AF_UNSPEC, .ifi_index = ifindex},
	};

	if (text && strlen(text) < sizeof(request.text)) {
		request.attribute = (struct rtattr){.rta_type = type == RTM_SETLINK ? IFLA_IFALIAS : IFLA_IFNAME,
						    .rta_len = (uint16_t)RTA_LENGTH(strlen(text) + 1)};
		memcpy(request.text, text, strlen(text) + 1);
		request.header.nlmsg_len += RTA_SPACE(strlen(text) + 1);
	}
	return send(sock, &request, request.header.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* The first answer to what was asked. */
static int answer(int sock, struct netif *netif)
{
	static union {
		char bytes[MESSAGE_MAX];
		struct nlmsghdr header;
	} buffer;
	struct nlmsghdr *message = &buffer.header;
	const struct nlmsgerr *error;
	ssize_t size = recv(sock, &buffer, sizeof(buffer), 0);
	bool gone;

	if (size < 0)
		return -errno;
	if (!NLMSG_OK(message, (size_t)size))
		return -EPROTO;
	if (message->nlmsg_type == NLMSG_ERROR) {
		error = NLMSG_DATA(message);
		return message->nlmsg_len < NLMSG_LENGTH(sizeof(*error)) ? -EPROTO : error->error;
	}
	return netif_parse(message, netif, &gone);
}

static int ask_once(uint16_t type, int ifindex, const char *name, struct netif *netif)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int err;

	if (sock < 0)
		return -errno;
	err = ask(sock, type, ifindex, name);
	if (!err)
		err = answer(sock, netif);
	close(sock);
	return err;
}

int netif_find(const char *name, struct netif *netif)
{
	return netif_name_valid(name) ? ask_once(RTM_GETLINK, 0, name, netif) : -EINVAL;
}

int netif_remove(int ifindex)
{
	struct netif unused;

	return ask_once(RTM_DELLINK, ifindex, NULL, &unused);
}

int netif_set_alias(int ifindex, const char *alias)
{
	struct netif unused;

	return ask_once(RTM_SETLINK, ifindex, alias, &unused);
}

static int interface_ioctl(unsigned long request, const char *name, struct ifreq *ifr)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err = 0;

	if (sock < 0)
		return -errno;
	strncpy(ifr->ifr_name, name, sizeof(ifr->ifr_name) - 1);
	if (ioctl(sock, request, ifr) < 0)
		err = -errno;
	close(sock);
	return err;
}

int netif_set_mtu(const char *name, uint32_t mtu)
{
	struct ifreq ifr = {.ifr_mtu = (int)mtu};

	return interface_ioctl(SIOCSIFMTU, name, &ifr);
}

int netif_set_up(const char *name)
{
	struct ifreq ifr = {0};
	int err = interface_ioctl(SIOCGIFFLAGS, name, &ifr);

	if (err || ifr.ifr_flags & IFF_UP)
		return err;
	ifr.ifr_flags |= IFF_UP;
	return interface_ioctl(SIOCSIFFLAGS, name, &ifr);
}

uint32_t netif_speed(const char *name)
{
	struct ethtool_cmd command = {.cmd = ETHTOOL_GSET};
	struct ifreq ifr = {.ifr_data = (void *)&command};
	uint32_t speed;

	if (interface_ioctl(SIOCETHTOOL, name, &ifr))
		return 0;
	speed = ethtool_cmd_speed(&command);
	return speed == (uint32_t)SPEED_UNKNOWN || speed == UINT16_MAX ? 0 : speed;
}

int netif_enter_namespace(const char *netns)
{
	char path[sizeof(NETNS_DIR) + 256];
	int fd, err = 0;

	if (!strchr(netns, '/')) {
		if ((size_t)snprintf(path, sizeof(path), NETNS_DIR "%s", netns) >= sizeof(path))
			return -ENAMETOOLONG;
		netns = path;
	}
	/* Whatever lies there: a FIFO must not hold us, and no terminal become ours. */
	fd = open(netns, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		err = -errno;
		log_error("network namespace %s: %s; `ip netns list` shows those with names", netns, strerror(errno));
		return err;
	}
	if (setns(fd, CLONE_NEWNET) < 0) {
		err = -errno;
		log_error("network namespace %s: %s; it must be one, and takes root to enter", netns, strerror(errno));
	}
	close(fd);
	return err;
}

/* Every message of one datagram. */
static void handle(struct netif_watch *watch, struct nlmsghdr *message, size_t left)
{
	struct netif netif;
	bool gone;

	for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
		const struct nlmsgerr *error = NLMSG_DATA(message);

		if (message->nlmsg_type == NLMSG_ERROR && message->nlmsg_len >= NLMSG_LENGTH(sizeof(*error))) {
			/* What we asked for is not there. */
			if (error->error == -ENODEV)
				watch->changed(watch, NULL);
			continue;
		}
		if (netif_parse(message, &netif, &gone) == 0 && netif.ifindex == watch->ifindex)
			watch->changed(watch, gone ? NULL : &netif);
	}
}

static void watch_ready(struct loop_io *io, uint32_t events)
{
	static union {
		char bytes[MESSAGE_MAX];
		struct nlmsghdr header;
	} buffer;
	struct netif_watch *watch = container_of(io, struct netif_watch, io);
	struct sockaddr_nl sender = {0};
	socklen_t size_of_sender = sizeof(sender);
	ssize_t size = recvfrom(io->fd, &buffer, sizeof(buffer), MSG_DONTWAIT, (struct sockaddr *)&sender,
				&size_of_sender);

	(void)events;
	if (size >= 0 && sender.nl_pid == 0)
		handle(watch, &buffer.header, (size_t)size);
	else if (size < 0 && errno == ENOBUFS)
		ask(io->fd, RTM_GETLINK, watch->ifindex, NULL);
}

int netif_watch_open(struct netif_watch *watch, int ifindex, struct loop *loop)
{
	struct sockaddr_nl groups = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
	int err = 0;

	watch->ifindex = ifindex;
	watch->io = (struct loop_io){.ready = watch_ready};
	watch->io.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (watch->io.fd < 0)
		return -errno;
	if (bind(watch->io.fd, (struct sockaddr *)&groups, sizeof(groups)) < 0)
		err = -errno;
	if (!err)
		err = loop_add(loop, &watch->io, EPOLLIN);
	if (!err)
		err = ask(watch->io.fd, RTM_GETLINK, ifindex, NULL);
	if (err)
		netif_watch_close(watch, loop);
	return err;
}

void netif_watch_close(struct netif_watch *watch, struct loop *loop)
{
	if (watch->io.fd < 0)
		return;
	loop_remove(loop, &watch->io);
	close(watch->io.fd);
	watch->io.fd = -1;
}
