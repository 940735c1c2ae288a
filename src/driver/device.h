/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The line between what moves frames (pump.c) and what drives a device (a file for each kind: tap.c, the example to
 * copy). A kind is a table of functions; it knows no virtqueue, no port and no thread. What moves frames knows no
 * device.
 *
 * Life of a device, in this order:
 *
 *	open    with whatever privilege the process was started with, in the device's network namespace. Takes the
 *	        device and says what it is and can do: dev->facts, and each queue's descriptor.
 *	bind    the port is connected, features are negotiated and the pool is there: dev->pool, dev->queue_count.
 *	        Still privileged.
 *	link    tells the device whether the port carries frames. Still privileged, the rings run.
 *	--      privilege, files, network and most system calls are gone: confine.h. From here on:
 *	rx, tx, rx_give, tx_done, arm      by the queue's own thread
 *	events                             by the main thread
 *	close   by the main thread, the queues' threads are gone
 *
 * A process has one device and lives as long as its port's connection: nothing is ever opened again. A kind that meets
 * its device's end says -ENODEV; the process ends, and whoever watches it starts another when the device is back.
 *
 * Memory. All frames are in the pool, a sealed memory file that the switch sees too, and nowhere else: a buffer is
 * named by its offset in the file, divided by DRIVER_UNIT, and belongs to the pump, the device or the switch. Devices
 * work in place where the kernel lets them. In front of each frame are pool->header bytes of virtio net header (struct
 * virtio_net_hdr_mrg_rxbuf), with checksum and segmentation left undone as far as features were negotiated: HOST_* for
 * frames from the device, GUEST_* for those to it. Who has nothing to say writes zeros.
 *
 * What arrives in rx from the device is checked by the kind for its length alone; what frames say is for the switch to
 * check. What the switch hands to tx has been checked by the pump to lie in the pool; its net header has not been, and
 * may change while it is looked at: copy what decides something.
 *
 * Functions return 0 or a count, or a negative errno. Sizes are bytes, net header included unless said otherwise.
 */
#ifndef LASTHOP_DRIVER_DEVICE_H
#define LASTHOP_DRIVER_DEVICE_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/compiler.h"
#include "proto/driver_status.h"
#include "virtio/virtio_net.h"

#define DRIVER_UNIT        64 /* bytes */
#define DRIVER_QUEUES_MAX  64
#define DRIVER_OPTIONS_MAX 16
#define DRIVER_BATCH       64u /* frames of one call of rx or tx, at most */

struct driver_device;
struct driver_queue;

/* Exit statuses beside EXIT_SUCCESS and EXIT_FAILURE; lasthop-driver(8) says who does what about them. */
#define DRIVER_EXIT_USAGE     2
#define DRIVER_EXIT_NO_DEVICE 3
#define DRIVER_EXIT_NO_PORT   4

struct driver_option {
	const char *key;
	const char *value; /* in a kind's table: what it is, for --help */
};

/* What was asked for on the command line; nothing of it changes any more. */
struct driver_config {
	const char *port;   /* path of the port's socket */
	const char *device; /* an interface's name, or what the kind takes for one */
	const char *netns;  /* NULL: the one we are in. `open` is called in it already */
	unsigned int queues;
	unsigned int mtu; /* of the device, to be set by open; 0: as it is */
	struct driver_option options[DRIVER_OPTIONS_MAX];
	unsigned int option_count;
};

/* The option's value, or `fallback` if it was not given. */
const char *driver_option(const struct driver_config *config, const char *key, const char *fallback);

/* Options of every kind whose frames come small. */
extern const struct driver_option driver_options_small[];

/* What open finds out. Link, speed and MTU are kept up to date by the main thread, nobody else reads them then. */
struct driver_facts {
	/*
	 * Offloads the device can do something with, to be negotiated: VIRTIO_NET_F_CSUM, HOST_* (frames that come
	 * from it unfinished), GUEST_* (that it takes unfinished), and VIRTIO_NET_F_MRG_RXBUF if tx takes frames in
	 * several pieces. All others are the pump's.
	 */
	uint64_t features;
	uint32_t mtu;        /* payload, without Ethernet header; 0: unknown */
	uint32_t speed_mbps; /* 0: unknown */
	bool link;
	uint8_t mac[6];
	int ifindex; /* whose link and MTU are to be watched through netlink; 0: the kind has events */
	char mode[sizeof(((struct driver_status *)0)->mode)];
	/* The pool's shape. 0 for what does not matter. */
	uint32_t from_size; /* of a buffer for a frame from the device, net header and headroom included */
	uint32_t to_size;   /* of a buffer for a frame, or a piece of one, to the device */
	uint32_t headroom;  /* bytes in front of the net header, in buffers for frames from the device */
	uint32_t alignment; /* a power of two: buffers begin at a multiple of it in the file, and are one apart */
	uint32_t ring_size; /* descriptors of the virtqueues, a power of two */
};

/* Since bind. */
struct driver_pool {
	uint8_t *memory; /* mapped; page-aligned */
	uint64_t size;
	int fd;            /* of the memory file, where the kernel wants to be told; not to be kept after bind */
	uint32_t header;   /* bytes of the net header */
	uint64_t features; /* negotiated */
	uint32_t stride;   /* bytes from one buffer to the next */
	uint64_t first;    /* bytes from memory to the first buffer; those before are rings, not for devices */
};

static inline uint8_t *driver_buffer(const struct driver_pool *pool, uint32_t buffer)
{
	return pool->memory + (uint64_t)buffer * DRIVER_UNIT;
}

/*
 * A frame, or a further piece of one: contiguous, within one buffer. A frame's first piece begins with the net header,
 * further ones have none.
 */
struct driver_frame {
	uint8_t *data;
	uint32_t size;
	uint32_t room;             /* from data on to the buffer's end */
	uint32_t buffer;           /* that data is in */
	bool part;                 /* is a further piece: not to be looked at by itself */
	struct driver_frame *next; /* the next piece; NULL: this is the last */
};

/* Written by the queue's thread alone, read by others at any time: DRIVER_COUNT. */
struct driver_counters {
	uint64_t rx_packets;
	uint64_t rx_bytes; /* without net headers */
	uint64_t tx_packets;
	uint64_t tx_bytes;
	uint64_t rx_coalesced;
	uint64_t drops[DRIVER_DROP_COUNT];
};

#define DRIVER_COUNT(counter, n) store_relaxed(&(counter), (counter) + (n))

struct driver_queue {
	struct driver_device *dev;
	unsigned int index;
	/*
	 * Readable when there may be something to receive; watched for being writable only after tx took less than
	 * was offered. -1: there is none, and arm says how long to sleep. Set by open or bind.
	 */
	int fd;
	void *state; /* the kind's */
	struct driver_counters counters;
} cache_aligned;

/* In tx: the frame is lost for this reason, and counts as taken. In rx a kind counts its drops itself. */
static inline void driver_refuse(struct driver_queue *queue, struct driver_frame *frame, enum driver_drop reason)
{
	frame->size = 0;
	DRIVER_COUNT(queue->counters.drops[reason], 1);
}

struct driver_device {
	const struct driver_kind *kind;
	const struct driver_config *config;
	struct driver_facts facts;
	struct driver_pool pool;
	/*
	 * config->queues of them for open, which sets the number it got. Before bind it becomes what the port has, if
	 * that is less: bind gives up the rest.
	 */
	unsigned int queue_count;
	struct driver_queue *queues;
	bool coalesces; /* comes_small, and nobody is against it */
	void *state;    /* the kind's */
};

struct driver_kind {
	const char *name;
	const char *summary;                 /* for --help */
	const struct driver_option *options; /* that it knows, up to one without key; NULL: none */
	bool comes_small;                    /* frames come from it as they are on the wire: gro.h may merge them */
	bool has_threads;                    /* of its own, from open on: the sandbox must hold those, too */
	const int *calls;                    /* system calls that it may make; NULL: those of the kernel's kinds */
	size_t call_count;
	bool keeps_network; /* does not work once the process is in another network namespace */

	/*
	 * -ENODEV, -EBUSY, -EPERM, -EINVAL and the like: after a line in the log that says what is wrong and what to
	 * do. All that was opened and is not in a queue's fd is to be closed on error.
	 */
	int (*open)(struct driver_device *dev);
	/* Makes an end of what open made, for good. NULL: there is nothing. Without open before. -ENODEV: it is gone.
	 */
	int (*remove)(const struct driver_config *config);
	int (*bind)(struct driver_device *dev);
	/* NULL: it does not care. Of a kind with rx_give the queues have buffers already. */
	int (*link)(struct driver_device *dev, bool up);

	/*
	 * From the device. Up to n frames into frames[]; returns how many came. -ENODEV, -ENETDOWN; anything else is
	 * counted as device-error.
	 *
	 * A kind without rx_give is handed an empty buffer in each of frames[0..n) (data, room, buffer; data leaves the
	 * headroom that it asked for) and fills as many as it has, from the first on. It may change their order; those
	 * that it did not fill it is handed again, as it left them.
	 *
	 * A kind with rx_give is handed nothing here: it has buffers already, and says in frames[] where the frames are
	 * in them. rx_give takes up to n buffers of which it says how many; they are the device's until rx returns
	 * them.
	 */
	int (*rx)(struct driver_queue *queue, struct driver_frame *frames, unsigned int n);
	int (*rx_give)(struct driver_queue *queue, const uint32_t *buffers, unsigned int n);

	/*
	 * To the device. Returns how many of the n frames were taken, from the first on, those included that it refused
	 * for ever by driver_refuse(). Fewer than n: it is full, the rest is offered again when fd is writable.
	 * -ENODEV, -ENETDOWN: none was taken.
	 *
	 * A kind without tx_done is done with what it took when it returns. One with it keeps the buffers until tx_done
	 * names them, all pieces of a frame one by one, in any order, but not those of a refused frame. It is called
	 * before every tx and before sleeping.
	 */
	int (*tx)(struct driver_queue *queue, struct driver_frame *frames, unsigned int n);
	int (*tx_done)(struct driver_queue *queue, uint32_t *buffers, unsigned int n);

	/*
	 * The queue's thread wants to sleep until fd is readable (or the switch calls). Returns how long it may at
	 * most: microseconds, 0: there is something to do already, DRIVER_FOREVER. NULL: for ever.
	 */
	int (*arm)(struct driver_queue *queue);

	/*
	 * For devices that netlink does not know. events_fd: a descriptor to watch, -1: none, events is then called
	 * once a second, and when netlink (facts.ifindex) has told of a change. events brings dev->facts up to date;
	 * -ENODEV; or another error, after a line in the log, when the device cannot be driven on as it is now.
	 */
	int (*events_fd)(struct driver_device *dev);
	int (*events)(struct driver_device *dev);

	/* Closes what is the kind's; also after an open that failed. Queues' fd >= 0 are closed by the caller. */
	void (*close)(struct driver_device *dev);
};

#define DRIVER_FOREVER (-1)

/* The kinds of this build, up to NULL. */
extern const struct driver_kind *const driver_kinds[];

/* In a program of its own: lasthop-driver-dpdk. */
extern const struct driver_kind driver_dpdk __attribute__((weak));

const struct driver_kind *driver_kind_find(const char *name); /* NULL: there is none */

/* Allocates config->queues queues with fd -1. -ENOMEM. */
int driver_device_init(struct driver_device *dev, const struct driver_kind *kind, const struct driver_config *config);
void driver_device_close(struct driver_device *dev);

#endif
