/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's network interfaces, through rtnetlink: what one is, and a watch on what becomes of it. All of the
 * network namespace that the process was in when it asked, or when the watch was opened.
 *
 * Functions return 0 or a negative errno. The main thread's.
 */
#ifndef LASTHOP_DRIVER_NETIF_H
#define LASTHOP_DRIVER_NETIF_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/loop.h"

struct netif {
	int ifindex;
	char name[IFNAMSIZ];
	char kind[16];        /* "veth", "tun"; "" for many a NIC */
	char alias[IFNAMSIZ]; /* what somebody has noted at it, or the beginning of that */
	bool up;              /* an administrator wants it up */
	bool carrier;
	uint32_t mtu;
	uint8_t mac[6];
	uint32_t tun_queues; /* of a multi-queue "tun": held open by processes */
};

/* Whether an interface can have that name. */
bool netif_name_valid(const char *name);

/* -ENODEV: there is none of that name. */
int netif_find(const char *name, struct netif *netif);

int netif_set_mtu(const char *name, uint32_t mtu);
int netif_set_up(const char *name);
uint32_t netif_speed(const char *name); /* megabits a second; 0: unknown */
int netif_remove(int ifindex);
int netif_set_alias(int ifindex, const char *alias); /* shorter than IFNAMSIZ */

/*
 * Enters a network namespace: a name below /run/netns, or a path. Logs what is wrong.
 */
int netif_enter_namespace(const char *netns);

struct netif_watch {
	struct loop_io io;
	int ifindex;
	/* Something may have changed. NULL: the interface is no more (here, or at all). */
	void (*changed)(struct netif_watch *watch, const struct netif *netif);
};

/* changed is set by the caller. Says at once how things are, through the loop. */
int netif_watch_open(struct netif_watch *watch, int ifindex, struct loop *loop);
void netif_watch_close(struct netif_watch *watch, struct loop *loop);

/* A message of rtnetlink's about a link. 0, or -ENOMSG: it is none, or cut off. For tests. */
struct nlmsghdr;
int netif_parse(struct nlmsghdr *message, struct netif *netif, bool *gone);

#endif
