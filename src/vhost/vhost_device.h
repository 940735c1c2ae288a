/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device side of one vhost-user connection: receives messages, checks them, keeps what they set
 * (features, memory, rings' addresses and descriptors) and answers. It knows no packets and no
 * threads: its owner tells it when a socket is there and readable, and is told through
 * vhost_device_ops what changed.
 *
 * Called from the main loop's thread only. Messages that change what workers use are bracketed:
 * ops->quiesce before (on its return no other thread uses memory, rings or descriptors),
 * ops->update after. In between every descriptor of a ring may be closed and its number used again:
 * the owner forgets in quiesce what it polls, and looks again in update.
 *
 * A message that breaks the protocol ends the connection with a named reason (enum vhost_fault);
 * every descriptor that came along is closed. A message that is well-formed but cannot be granted
 * is refused by REPLY_ACK where the front end asked for an acknowledgement, else it ends the
 * connection too. Requests whose protocol feature is not offered are unknown.
 */
#ifndef LASTHOP_VHOST_VHOST_DEVICE_H
#define LASTHOP_VHOST_VHOST_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/log.h"
#include "vhost/guest_memory.h"
#include "vhost/vhost_proto.h"
#include "virtio/vring.h"

#define VHOST_DEVICE_PAIRS_MAX 16
#define VHOST_DEVICE_RINGS_MAX (2 * VHOST_DEVICE_PAIRS_MAX + 1) /* the control queue is the last one */

/* Why a connection ended. Names (vhost_fault_name) are part of the interface: log, counters, port
 * show. */
enum vhost_fault {
	VHOST_FAULT_NONE,
	VHOST_FAULT_HANGUP,      /* the front end closed, or the owner let go: no fault */
	VHOST_FAULT_IO,          /* recvmsg or sendmsg failed */
	VHOST_FAULT_VERSION,     /* header's version is not 1 */
	VHOST_FAULT_UNKNOWN,     /* request not known, or not offered */
	VHOST_FAULT_SIZE,        /* payload size is not the request's */
	VHOST_FAULT_DESCRIPTORS, /* missing, surplus or truncated descriptors */
	VHOST_FAULT_QUEUE_INDEX,
	VHOST_FAULT_QUEUE_SIZE,    /* not a power of two (of a packed ring, not anything) up to 32768 */
	VHOST_FAULT_RING_ADDRESS,  /* ring area outside memory, across regions or misaligned */
	VHOST_FAULT_FEATURES,      /* bits set that were not offered, or changed under running rings */
	VHOST_FAULT_REGION,        /* empty, wraps, exceeds its file, or overlaps */
	VHOST_FAULT_MEMORY_FILE,   /* not a memory file, or cannot be mapped (may be refused) */
	VHOST_FAULT_EVENT_FD,      /* kick, call or err is not an eventfd, pipe or socket */
	VHOST_FAULT_STATE,         /* request in a state that does not allow it */
	VHOST_FAULT_VALUE,         /* some other field is out of range (may be refused) */
	VHOST_FAULT_MEMORY_SHRUNK, /* the memory file was truncated while mapped (raised by the
				      owner) */
	VHOST_FAULT_COUNT
};

/* What a front end said of one ring. Descriptors are -1 where there is none. */
struct vhost_ring {
	uint16_t size;
	/*
	 * Where the device starts at update: next available (and used) index, or position in a packed
	 * ring. Kept current by ops->ring_base, and over resets: QEMU 7.2 resets a device before it
	 * asks for this.
	 */
	uint16_t base;
	bool base_own;      /* base is where ops->ring_base stopped, not what the front end says */
	bool addressed;     /* SET_VRING_ADDR has been seen */
	bool started;       /* kick descriptor (or NOFD) seen and not stopped since */
	bool enabled;       /* SET_VRING_ENABLE, or protocol features not negotiated */
	bool enable_seen;   /* SET_VRING_ENABLE has been seen: it may come before SET_FEATURES */
	bool kick_polled;   /* NOFD: the front end never kicks; the owner must poll */
	uint64_t desc_addr; /* as in SET_VRING_ADDR, the front end's addresses */
	uint64_t avail_addr;
	uint64_t used_addr;
	int kick_fd;
	int call_fd;
	int err_fd;
};

struct vhost_device;

struct vhost_device_ops {
	/* On return no other thread uses memory, rings or descriptors. May be called twice. */
	void (*quiesce)(struct vhost_device *dev);
	/*
	 * Something changed: use what is ready now (vhost_device_ring_ready), each ring from its
	 * base on. Also after a lone quiesce. Not called when the message ends the connection.
	 */
	void (*update)(struct vhost_device *dev);
	/* The next available index (position) of a ring that was ready. After quiesce, for each of them. */
	uint16_t (*ring_base)(struct vhost_device *dev, unsigned int index);
	/* Announce this MAC on the front end's behalf (SEND_RARP). */
	void (*announce)(struct vhost_device *dev, const uint8_t mac[6]);
	/* The front end runs with this MTU; or the guest does, having read it in mtu below. */
	void (*mtu)(struct vhost_device *dev, uint16_t mtu);
};

struct vhost_device_config {
	const char *name;  /* for the log; the caller's, lives as long as the device */
	uint64_t features; /* virtio features to offer (VHOST_USER_F_PROTOCOL_FEATURES is added) */
	/*
	 * Queue pairs to offer, 1 to VHOST_DEVICE_PAIRS_MAX. PROTOCOL_F_MQ is offered from 2 on;
	 * QEMU takes the answer to GET_QUEUE_NUM for pairs, as we do, but cloud-hypervisor and
	 * crosvm for queues: offer them twice as many as they shall use.
	 */
	unsigned int pairs;
	bool control_queue; /* a control queue follows the pairs: see vhost_device_control_index */
	uint8_t mac[6];     /* configuration space (GET_CONFIG), with F_MAC */
	uint16_t mtu;       /* configuration space, with F_MTU; 68 to 65535 */
};

struct vhost_device {
	const struct vhost_device_ops *ops;
	struct vhost_device_config config;
	int sock;                   /* -1: not connected */
	uint64_t features;          /* negotiated virtio features, protocol bit included */
	uint64_t protocol_features; /* negotiated */
	uint64_t protocol_offered;  /* 0: not asked for yet */
	bool owned;                 /* SET_OWNER has been seen */
	bool features_set;
	uint8_t status;              /* virtio device status (SET_STATUS) */
	uint8_t mac[6];              /* configuration space: config.mac until the guest writes its own */
	uint64_t messages;           /* handled since the start, all connections */
	uint64_t refused;            /* answered with "no", all connections */
	enum vhost_fault last_fault; /* of the last connection that ended */
	struct log_limit log_limit;
	struct guest_memory memory;
	struct vhost_ring rings[VHOST_DEVICE_RINGS_MAX];
	int backend_fd; /* SET_BACKEND_REQ_FD: where requests to the front end go; -1: none */
	/* A message that arrives in pieces: its bytes and descriptors so far. */
	struct vhost_user_msg msg;
	size_t received;
	int fds[VHOST_USER_TABLE_REGIONS];
	unsigned int fd_count;
};

/* ops and config are copied by value or kept by pointer as declared. Never fails. */
void vhost_device_init(struct vhost_device *dev, const struct vhost_device_ops *ops,
		       const struct vhost_device_config *config);

/* Takes over a connected stream socket (made non-blocking). The device must not be connected. */
void vhost_device_connect(struct vhost_device *dev, int sock);

/*
 * The socket is readable (level-triggered): receives and handles at most one message, never blocks.
 * VHOST_FAULT_NONE: go on. Anything else: the caller calls vhost_device_disconnect() with it.
 */
enum vhost_fault vhost_device_receive(struct vhost_device *dev);

/*
 * Quiesces, closes and unmaps everything, forgets what was negotiated; remembers the fault; calls
 * ops->update with nothing ready. Without a connection it does nothing.
 */
void vhost_device_disconnect(struct vhost_device *dev, enum vhost_fault fault);

/*
 * True if ring index is complete, started and enabled, and its areas lie in memory; fills *ring
 * then, of the kind that was negotiated. (Enabled does not matter for the control queue.)
 */
bool vhost_device_ring_ready(const struct vhost_device *dev, unsigned int index, struct vring_any *ring);

/*
 * Where the ring that is ready starts. Of a packed one that this device has not stopped itself, that is what the ring
 * says (vhost/chain_packed.h), which its front end may not know. In ops->update, before anybody uses it.
 */
uint16_t vhost_device_ring_start(struct vhost_device *dev, unsigned int index, const struct vring_any *ring);

/* Index of the control queue under the negotiated features, or -1: 2 * pairs with MQ, else 2. */
int vhost_device_control_index(const struct vhost_device *dev);

/* True for the faults that REPLY_ACK can answer instead: the connection goes on then. */
bool vhost_fault_refusable(enum vhost_fault fault);

const char *vhost_fault_name(enum vhost_fault fault); /* like "queue-index"; never NULL */

#endif
