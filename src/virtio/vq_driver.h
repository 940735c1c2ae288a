/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver side of a split virtqueue (virtio 1.2, section 2.7): adds descriptor chains, publishes
 * them, decides whether to kick, collects what the device used. It works over ring memory that the
 * caller provides and addresses that the caller knows to be the guest's; it never looks into
 * buffers. (vq_driver_packed.h is the same for a packed one, vq_driver_any.h for either.)
 *
 * The device is not trusted. What tells free descriptors from used ones, and how much of a chain is
 * writable, is kept in private memory; an index, id or length that the device writes is checked
 * against that. A device that lies makes the queue faulty (vq_driver_split.fault) until it is
 * reset; a length that is too large is clamped and counted.
 *
 * Two ways to use chains. vq_driver_split_add() writes descriptors, and collecting frees them. A
 * pool whose buffers stay where they are calls vq_driver_split_prepare() once a buffer and
 * afterwards only posts the written chains again: in the steady state of a device that works in
 * order, this writes no shared memory but the available index.
 *
 * Thread safety: one thread at a time per queue; the device runs concurrently. Functions return 0
 * or a count, or a negative errno. Sizes are in bytes.
 */
#ifndef LASTHOP_VIRTIO_VQ_DRIVER_H
#define LASTHOP_VIRTIO_VQ_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/vring.h"

/* A piece of guest memory, by the guest's address. */
struct vq_buffer {
	uint64_t addr;
	uint32_t len;
};

/* A chain that the device gave back. */
struct vq_used {
	uint32_t tag;  /* the caller's, as given to add or prepare */
	uint32_t len;  /* bytes the device says to have written; at most what was writable */
	uint16_t head; /* of a prepared chain: post it again with this */
};

enum vq_driver_fault {
	VQ_DRIVER_FAULT_NONE,
	VQ_DRIVER_FAULT_INDEX, /* the used index passed what was made available */
	VQ_DRIVER_FAULT_ID,    /* a used id is no descriptor of the ring */
	VQ_DRIVER_FAULT_STATE, /* a used id names a chain that the device does not have */
};

enum vq_driver_chain_state {
	VQ_DRIVER_CHAIN_FREE, /* also: a descriptor that is not a chain's head */
	VQ_DRIVER_CHAIN_IDLE, /* prepared and not posted */
	VQ_DRIVER_CHAIN_POSTED,
};

/* What is private about one descriptor, and about the chain that it heads. */
struct vq_driver_chain {
	uint32_t tag;
	uint32_t writable; /* bytes of the chain that the device may write */
	uint16_t next;     /* descriptor: the next one of its chain, or of the free list */
	uint16_t count;    /* head: descriptors of the ring in this chain, 1 if indirect */
	uint8_t state;     /* head: enum vq_driver_chain_state */
	bool prepared;     /* head: collecting does not free it */
	bool indirect;     /* head: its one descriptor points to a table */
	bool mark;         /* of vq_driver_split_resume() */
};

/* Memory for indirect tables, one for each descriptor of the ring; entries == 0: none. */
struct vq_driver_indirect {
	struct vring_desc *tables;
	uint64_t addr;        /* the guest's address of tables */
	unsigned int entries; /* descriptors in each table */
};

struct vq_driver_split {
	struct vring_split ring;
	struct vq_driver_indirect indirect;
	bool event_idx;        /* VIRTIO_F_EVENT_IDX is negotiated */
	bool callbacks;        /* the device is asked to call */
	uint8_t fault;         /* enum vq_driver_fault; not NONE: nothing is collected any more */
	uint16_t avail_next;   /* index after the last chain posted */
	uint16_t avail_shown;  /* what the device was told of that */
	uint16_t avail_kicked; /* avail_shown when a kick was decided on last */
	uint16_t used_next;    /* index of the first chain not collected */
	uint16_t used_seen;    /* the device's used index when it was read last */
	uint16_t used_event;   /* where the device was last told to call */
	uint16_t free_head;
	uint16_t free_count;
	uint64_t clamped;       /* lengths that exceeded what was writable */
	uint16_t *avail_shadow; /* what avail->ring holds */
	struct vq_driver_chain *chains;
};

/*
 * Sets up a queue over zeroed or dirty ring memory of ring->size descriptors and resets it.
 * ring->mask is filled in. indirect may be NULL. -EINVAL: size is no power of two up to
 * VRING_SIZE_MAX; -ENOMEM.
 */
int vq_driver_split_init(struct vq_driver_split *vq, const struct vring_split *ring,
			 const struct vq_driver_indirect *indirect, bool event_idx);

void vq_driver_split_fini(struct vq_driver_split *vq);

/*
 * Frees all chains, prepared ones too, clears the rings and the fault; callbacks are disabled. The device must be
 * stopped.
 */
void vq_driver_split_reset(struct vq_driver_split *vq);

/*
 * For a device that lost its state, and will start at the used index (which is to be told to it,
 * returned here): makes everything available again that is posted and not used. All used chains
 * must have been collected before; -EPROTO on a faulty queue. The device must be stopped.
 */
int vq_driver_split_resume(struct vq_driver_split *vq);

/*
 * Posts a chain of `out` device-readable buffers, then `in` writable ones; through an indirect
 * table if there is one and the chain fits in it but not in one descriptor. Returns the head.
 * -ENOSPC: not enough descriptors now; -EINVAL: empty, or longer than can ever fit. The device sees
 * it after vq_driver_split_publish().
 */
int vq_driver_split_add(struct vq_driver_split *vq, const struct vq_buffer *buffers, unsigned int out, unsigned int in,
			uint32_t tag);

/* As add, but neither posts the chain nor frees it when it is collected. Returns the head. */
int vq_driver_split_prepare(struct vq_driver_split *vq, const struct vq_buffer *buffers, unsigned int out,
			    unsigned int in, uint32_t tag);

/* New length of an idle prepared chain of one direct descriptor, at most what its buffer has. -EINVAL: it is none. */
int vq_driver_split_resize(struct vq_driver_split *vq, uint16_t head, uint32_t len);

/* Frees an idle prepared chain. -EINVAL: it is none. */
int vq_driver_split_release(struct vq_driver_split *vq, uint16_t head);

/*
 * Posts idle prepared chains (of each slot only the head is used). -EINVAL: one is not idle; those before it are
 * posted.
 */
int vq_driver_split_post(struct vq_driver_split *vq, const struct vq_used *slots, unsigned int n);

/* Shows the device everything posted so far. */
void vq_driver_split_publish(struct vq_driver_split *vq);

/*
 * True if the device wants a kick for what was published since the last call. Call it after
 * publish; one that polls may do so a round later, when the barrier inside is cheaper, but once in
 * 32768 chains at least.
 */
bool vq_driver_split_kick_due(struct vq_driver_split *vq);

/* Takes up to max used chains. Returns their number; -EPROTO: the queue is faulty (and what was good came before). */
int vq_driver_split_collect(struct vq_driver_split *vq, struct vq_used *used, unsigned int max);

/* Asks the device not to call. It may still do so now and then. */
void vq_driver_split_disable_callbacks(struct vq_driver_split *vq);

/*
 * Asks the device to call when it has used `after` more chains than were collected (at least 1;
 * without the event index, at the next one). True: it will. False: that many are there already, and
 * it may not call; collect first.
 */
bool vq_driver_split_enable_callbacks(struct vq_driver_split *vq, uint16_t after);

/* Chains that the device has, shown to it or not yet. */
static inline unsigned int vq_driver_split_in_flight(const struct vq_driver_split *vq)
{
	return (uint16_t)(vq->avail_next - vq->used_next);
}

/* Whether there is something to collect: a look that may be out of date. */
static inline bool vq_driver_split_pending(const struct vq_driver_split *vq)
{
	return load_relaxed(&vq->ring.used->idx) != vq->used_next;
}

#endif
