/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A switch under attack: two healthy ports whose traffic goes on all the time in a thread of its own, and beside them,
 * on the same workers, the attacker's port and a peer that it is wired to. What the attacker does to its rings is done
 * behind its driver's back (attack_desc, attack_offer), after which the driver has to begin anew: attack_restart()
 * or attack_reconnect().
 *
 * The test's thread owns everything but the two healthy front ends. What is wrong fails the test.
 */
#ifndef TESTS_SWITCH_ATTACK_H
#define TESTS_SWITCH_ATTACK_H

#include "testbed.h"

#include <pthread.h>

#define ATTACK_FRAME 200u /* bytes of the frames that attack_expect_traffic() sends */

struct attack {
	struct testbed bed;
	uint32_t evil_port, peer_port, healthy_ports[2];
	struct netfront *evil, *peer, *healthy[2];
	uint64_t flows[2]; /* from the attacker to the peer, and back */
	uint64_t faults;   /* that the attacker's port had so far */
	/* the healthy ones' thread; atomic */
	pthread_t thread;
	bool stop;
	uint32_t rounds;
	uint32_t failed; /* source line, 0: nothing is wrong */
};

/* NULL: default features and sizes; options of the attacker's port and of its peer's. */
void attack_start(struct attack *attack, unsigned int workers, const struct netfront_config *evil,
		  const struct netfront_config *peer, const struct dp_port_add *options);
/* Ends it all; nothing of the healthy ports' traffic may have been lost, nor they have had a fault. */
void attack_stop(struct attack *attack);

/* The healthy ports' traffic goes on. */
void attack_expect_others(struct attack *attack);
/* The attacker's port works: each way a frame. */
void attack_expect_traffic(struct attack *attack);
/* The same, behind whatever may still be under way. */
void attack_drain(struct attack *attack);

/* The attacker's port is quarantined for this reason, as of now. */
void attack_expect_quarantine(struct attack *attack, const char *name);
/* The connection was ended for this reason. */
void attack_expect_disconnect(struct attack *attack, const char *name);
/* Nothing came of it but drops: so many for this reason at that port, counted from before. */
void attack_expect_drops(struct attack *attack, uint32_t port, const struct stats_port *before, enum drop_reason reason,
			 uint64_t count);

/* The driver stops all rings, forgets what it had in them and starts them: what a guest does after a reset. */
void attack_restart(struct attack *attack);
/* The front end connects anew; bounded, since it may be barred for a while. */
void attack_reconnect(struct attack *attack);

/* The attacker's memory and split rings (packed ones: below). Buffers are those of its transmit queue, `number` from 0
 * on. */
struct vring_split *attack_tx_ring(struct attack *attack);
struct vring_split *attack_rx_ring(struct attack *attack);
uint8_t *attack_buffer(struct attack *attack, unsigned int number);
uint64_t attack_buffer_addr(struct attack *attack, unsigned int number);
void attack_desc(struct vring_split *ring, unsigned int index, uint64_t addr, uint32_t length, uint16_t flags,
		 uint16_t next);
/* Fills buffer `number` with a net header (NULL: zero) and a frame of ATTACK_FRAME bytes; its size with header. */
uint32_t attack_write_frame(struct attack *attack, unsigned int number, const struct virtio_net_hdr *header);
/* Makes a head available on the transmit ring, and kicks. */
void attack_offer(struct attack *attack, uint16_t head);
/* The same for buffer `number` as a chain of its own, in a ring of either kind. */
void attack_offer_buffer(struct attack *attack, unsigned int number, uint32_t size);

/*
 * Packed rings, from where the driver goes on (`ahead` descriptors on from there): writes one, with AVAIL and USED as
 * if it were available; other bits of flags are flipped, so that 0 leaves them.
 */
void attack_packed_desc(struct netfront_queue *queue, unsigned int ahead, uint64_t addr, uint32_t length,
			uint16_t flags);

#endif
