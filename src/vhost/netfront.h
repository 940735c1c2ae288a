/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver of a virtio-net device behind vhost-user: what a guest and its VMM are together,
 * without either. It owns a memory file ("guest memory": rings, indirect tables, buffers), the
 * connection, and the virtqueues; driver domains, tests, fuzzers and benchmarks send and receive
 * frames through it.
 *
 * Queues count as in virtio-net: pair p receives on queue 2p and transmits on 2p + 1. The layout of
 * descriptors, the ring sizes, the features and the number of memory regions are the caller's
 * choice, so that a test can be any guest. struct netfront is open on purpose: whoever plays a
 * hostile guest writes to its rings and memory directly.
 *
 * Two ways to move frames, not to be mixed on one queue. netfront_send() and netfront_receive()
 * copy into the pool and gather what came in pieces. The *_take() and *_give() functions hand out
 * the buffers themselves, one chain a frame, which stay where they are; this is the fast way.
 *
 * The device is not trusted: what it says is checked, and a queue it lied about answers -EPROTO
 * from then on. Functions return 0 or a count, or a negative errno (vhost_frontend.h has those of
 * the connection). Sizes are bytes.
 *
 * Thread safety: set-up (open, attach, start, stop, reconnect, close) by one thread while no other
 * uses it; then each queue by one thread at a time, different queues concurrently.
 */
#ifndef LASTHOP_VHOST_NETFRONT_H
#define LASTHOP_VHOST_NETFRONT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vhost/vhost_frontend.h"
#include "virtio/virtio_net.h"
#include "virtio/vq_driver_any.h"

#define NETFRONT_PAIRS_MAX  64
#define NETFRONT_PIECES_MAX 1088 /* descriptors of one chain */
#define NETFRONT_LINE       64   /* buffers begin at a multiple of this */
#define NETFRONT_GUEST_BASE 0x40000000ULL

/* What a modern guest asks for, without and with offloads. */
#define NETFRONT_FEATURES                                                                                            \
	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) | \
	 VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC))
#define NETFRONT_FEATURES_PACKED VIRTIO_BIT(VIRTIO_F_RING_PACKED) /* besides any of the others */
#define NETFRONT_FEATURES_CSUM   (VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM))
#define NETFRONT_FEATURES_TSO                                                                               \
	(NETFRONT_FEATURES_CSUM | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6))
#define NETFRONT_FEATURES_USO                                                                               \
	(NETFRONT_FEATURES_CSUM | VIRTIO_BIT(VIRTIO_NET_F_HOST_USO) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4) | \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6))

/* All zero but path is a good choice for a test of something else. */
struct netfront_config {
	const char *path; /* of the socket; must stay valid */
	bool listen;      /* the back end connects */
	bool ack;         /* every message waits for its acknowledgement, where negotiated */
	/*
	 * The caller polls: a kick is decided on at the next call on that queue, which is cheaper;
	 * so after the last send or give there must be one more (reclaim, take, receive).
	 */
	bool polling;
	bool header_apart;    /* the net header has a descriptor of its own */
	bool mem_slots;       /* regions go one by one (ADD_MEM_REG) even if they fit into one table */
	bool unsealed;        /* the memory file can be truncated, for those who want to */
	int timeout_ms;       /* of each exchange with the back end; 0: 5000 */
	uint64_t features;    /* wanted; 0: NETFRONT_FEATURES */
	uint64_t required;    /* without these of the wanted ones, attaching is -ENOTSUP */
	unsigned int pairs;   /* queue pairs; 0: 1. More than one adds VIRTIO_NET_F_MQ */
	unsigned int regions; /* memory regions, the first with the rings; 0: 1 */
	uint32_t rx_size;     /* descriptors of each receive ring, a power of two; 0: 256 */
	uint32_t tx_size;
	uint32_t rx_buffer;  /* bytes of a receive buffer, net header included; 0: 2048 */
	uint32_t tx_buffer;  /* the largest frame to send, net header included; 0: 2048 */
	uint32_t rx_buffers; /* receive buffers; 0: as many as the ring takes */
	uint32_t piece;      /* a descriptor covers no more than this many bytes; 0: no limit */
	uint32_t align;      /* buffers begin at a multiple of this in the memory file, and are one apart; 0: any */
};

struct netfront_queue {
	struct vq_driver vq;
	struct vring_split
		ring; /* where its areas are, a packed ring's too; vq has them once features are negotiated */
	struct vq_driver_indirect indirect;
	unsigned int index; /* of the ring in vhost-user messages */
	uint32_t base;      /* where the device starts, or stopped, as vhost-user says it */
	bool started;
	bool faulty; /* the device said what cannot be; beyond vq.fault */
	int kick_fd;
	int call_fd;
	int err_fd;
	uint64_t kicks; /* written */
	uint32_t buffer_size;
	uint32_t buffer_count;
	uint64_t first; /* number of its first buffer among all */
	uint32_t *idle; /* tags of buffers that are in no chain */
	uint32_t idle_count;
	struct vq_used *held; /* chains that are with the caller: received, or prepared and not sent */
	uint32_t held_count;
	uint32_t delivered; /* so many of held, the first, are in frames that receive() gave out */
	struct iovec *iov;  /* one for each of held */
};

struct netfront {
	struct netfront_config config; /* with the defaults filled in */
	struct vhost_frontend fe;
	const char *step; /* what is being set up: for the message when it fails */
	int listen_fd;
	int memfd;
	uint8_t *memory;
	size_t memory_size;
	struct vhost_user_region *regions;
	unsigned int region_count;
	uint64_t buffers_offset; /* of the first buffer in memory */
	uint64_t region_buffers; /* buffers in each region but the first, which has all if alone */
	uint64_t region_stride;  /* bytes of memory of each region but the first */
	uint32_t buffer_stride;
	uint64_t offered;               /* virtio features of the back end */
	uint64_t features;              /* negotiated */
	unsigned int hdr_len;           /* of the net header, as negotiated */
	unsigned int pairs;             /* in use: at most what the back end has */
	bool resume;                    /* rings still hold what the last back end did not use */
	struct netfront_queue *control; /* the control queue, if negotiated */
	bool commanding;                /* a command is on it */
	struct netfront_queue *queues;
};

/* A frame that was received. The pieces are valid until the pair's next netfront_receive(). */
struct netfront_frame {
	struct virtio_net_hdr_mrg_rxbuf header; /* num_buffers is 1 where the header has none */
	uint32_t size;                          /* bytes of the frame itself */
	unsigned int pieces;
	const struct iovec *iov;
};

/* Set-up: all at once, or step by step for those who want to do a step differently. */

/* create and attach. On error nothing is left, and *step (if not NULL) says at what it failed. */
int netfront_open(struct netfront **out, const struct netfront_config *config, const char **step);
void netfront_close(struct netfront *nf); /* NULL is fine */

/* Memory and queues, no connection. -EINVAL: a configuration that no ring can serve. */
int netfront_create(struct netfront **out, const struct netfront_config *config);

/* connect, negotiate, share_memory, start: each only goes on from the one before. */
int netfront_attach(struct netfront *nf);
int netfront_connect(struct netfront *nf);
int netfront_negotiate(struct netfront *nf);
int netfront_share_memory(struct netfront *nf);
int netfront_start(struct netfront *nf); /* fills the receive rings, starts and enables every queue */

/* Stops every queue (GET_VRING_BASE) and keeps where it was: netfront_start() goes on there. */
int netfront_stop(struct netfront *nf);
int netfront_start_queue(struct netfront *nf, struct netfront_queue *queue);
int netfront_stop_queue(struct netfront *nf, struct netfront_queue *queue);

/*
 * Stops the queues if the back end is still there, hangs up and attaches again. fresh: as a guest
 * that was reset; all buffers are back in the pool. Else as a VMM whose back end was restarted:
 * what was published and not used is offered again.
 */
int netfront_reconnect(struct netfront *nf, bool fresh);

/* A command on the control queue (VIRTIO_NET_CTRL_*). -ENOTSUP: there is none; -EREMOTEIO: refused. */
int netfront_control(struct netfront *nf, uint8_t class, uint8_t command, const void *data, uint32_t size);

/*
 * The two halves of that, for who must not wait: begin, of which there can be one at a time (-EBUSY); end when the
 * control queue's call_fd is readable, or now and then: -EAGAIN: there is no answer yet.
 */
int netfront_control_begin(struct netfront *nf, uint8_t class, uint8_t command, const void *data, uint32_t size);
int netfront_control_end(struct netfront *nf);

static inline struct netfront_queue *netfront_rx(struct netfront *nf, unsigned int pair)
{
	return &nf->queues[2 * pair];
}

static inline struct netfront_queue *netfront_tx(struct netfront *nf, unsigned int pair)
{
	return &nf->queues[2 * pair + 1];
}

/* Memory of a buffer by its tag (struct vq_used), the net header first. */
static inline uint8_t *netfront_buffer(const struct netfront *nf, uint32_t tag)
{
	return nf->memory + (uint64_t)tag * NETFRONT_LINE;
}

/* The guest's address of an offset in memory. */
uint64_t netfront_guest_addr(const struct netfront *nf, uint64_t offset);

/* Copying. */

/*
 * Sends one frame, whose bytes lie in iov. header NULL: no offload. Returns 0; -ENOBUFS: the ring
 * or the pool is full (after giving it a chance to reclaim); -EMSGSIZE: larger than a transmit
 * buffer. The device is shown it at once and kicked if it wants, unless `more` says that another
 * call follows: the last must not say so.
 */
int netfront_send(struct netfront *nf, unsigned int pair, const struct virtio_net_hdr *header, const struct iovec *iov,
		  unsigned int iov_count, bool more);

/* Sends one contiguous frame without offload. */
int netfront_send_frame(struct netfront *nf, unsigned int pair, const void *frame, uint32_t size);

/* Takes back what was sent. Returns how many frames the back end has consumed since last time. */
int netfront_reclaim(struct netfront *nf, unsigned int pair);

/*
 * Gives the buffers of the last call's frames back to the device, then takes up to max frames.
 * Returns their number, 0 if there is nothing yet.
 */
int netfront_receive(struct netfront *nf, unsigned int pair, struct netfront_frame *frames, unsigned int max);

/* Gives the last frames' buffers back without asking for more. */
int netfront_recycle(struct netfront *nf, unsigned int pair);

/* Copies a frame from offset on into buf. Returns the bytes copied. */
uint32_t netfront_frame_copy(const struct netfront_frame *frame, uint32_t offset, void *buf, uint32_t size);

/* In place. */

/*
 * Turns all transmit buffers of a pair into chains of net header and `size` bytes of frame, filled
 * with a copy of `frame`. Once after attaching, instead of netfront_send().
 */
int netfront_tx_prepare(struct netfront *nf, unsigned int pair, const struct virtio_net_hdr *header, const void *frame,
			uint32_t size);

/*
 * Up to max transmit chains that the device does not have; first reclaims. Their memory is
 * netfront_buffer(slot.tag).
 */
int netfront_tx_take(struct netfront *nf, unsigned int pair, struct vq_used *slots, unsigned int max);
int netfront_tx_give(struct netfront *nf, unsigned int pair, const struct vq_used *slots, unsigned int n);

/* Up to max receive chains as the device filled them (slot.len), mergeable ones piece by piece. */
int netfront_rx_take(struct netfront *nf, unsigned int pair, struct vq_used *slots, unsigned int max);
int netfront_rx_give(struct netfront *nf, unsigned int pair, const struct vq_used *slots, unsigned int n);

/* Notification. */

/* Writes the queue's kick descriptor, whatever the device wished. */
void netfront_kick(struct netfront_queue *queue);

/* Shows the device what was posted, and kicks if it is due. Part of send, receive and give. */
void netfront_flush(struct netfront *nf, struct netfront_queue *queue);

#define NETFRONT_WAIT_RX 1u
#define NETFRONT_WAIT_TX 2u

/*
 * Sleeps until the device has used something on the queues named by `what` (for TX: half of what it
 * has), or hung up (-ECONNRESET), or timeout_ms passed (0; negative: never). Returns which. Only
 * meanwhile is the device asked to call.
 */
int netfront_wait(struct netfront *nf, unsigned int pair, unsigned int what, int timeout_ms);

/*
 * The two halves of that, for callers with an event loop over many call_fds: arm; false: there is
 * something already. After an event: disarm, which also drains the descriptor.
 */
bool netfront_arm(struct netfront_queue *queue, uint16_t after);
void netfront_disarm(struct netfront_queue *queue);

#endif
