/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rtnetlink's multicast group of links. What is read is the kernel's own: others' messages are left out by their
 * sender.
 */
#include "cli/run_links.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int run_links_open(void)
{
	const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	int error;

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	error = -errno;
	close(fd);
	return error;
}

/* The kernel's macros take no const. */
static void read_link(struct nlmsghdr *message, void (*came)(void *arg, const char *name), void *arg)
{
	struct ifinfomsg *link = NLMSG_DATA(message);
	struct rtattr *attribute = IFLA_RTA(link);
	int left = (int)IFLA_PAYLOAD(message);
	char name[IFNAMSIZ];

	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		if (attribute->rta_type != IFLA_IFNAME)
			continue;
		memset(name, 0, sizeof(name));
		memcpy(name, RTA_DATA(attribute), min((size_t)RTA_PAYLOAD(attribute), sizeof(name) - 1));
		came(arg, name);
		return;
	}
}

void run_links_read(int fd, void (*came)(void *arg, const char *name), void *arg)
{
	union {
		struct nlmsghdr header;
		char bytes[16384];
	} buffer;
	struct sockaddr_nl from;

	for (;;) {
		socklen_t from_size = sizeof(from);
		ssize_t n = recvfrom(fd, &buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &from_size);
		struct nlmsghdr *message = &buffer.header;
		unsigned int left = (unsigned int)max(n, (ssize_t)0);

		/* ENOBUFS: some were lost, and more may be there. */
		if (n < 0 && errno == ENOBUFS)
			continue;
		if (n <= 0)
			return;
		for (; from.nl_pid == 0 && NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
			if (message->nlmsg_type == RTM_NEWLINK)
				read_link(message, came, arg);
		}
	}
}
