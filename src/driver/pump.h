/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What moves frames between one queue of the device and one queue pair of the port: a thread, which sleeps when neither
 * side has anything. Owns the pair's virtqueues and buffers, and the queue's counters, as long as the thread runs.
 *
 * Buffers go round and are never copied:
 *
 *	from the device    idle -> offered, or the device's by rx_give -> rx -> switch -> idle
 *	to the device      switch -> held -> device (tx) -> switch
 *
 * A device that is full makes frames wait in `held`, then in the switch's ring, whose senders feel it: nothing is lost
 * here for that. What is lost has a name in driver_status.h.
 *
 * Functions return 0 or a negative errno.
 */
#ifndef LASTHOP_DRIVER_PUMP_H
#define LASTHOP_DRIVER_PUMP_H

#include <pthread.h>
#include <semaphore.h>

#include "driver/device.h"
#include "driver/gro.h"
#include "vhost/netfront.h"

struct pump {
	struct driver_device *dev;
	struct driver_queue *queue;
	struct netfront *nf;
	unsigned int pair;
	struct netfront_queue *from; /* what the device sends: the pair's transmit queue */
	struct netfront_queue *to;
	bool coalesces;
	struct gro gro;
	struct driver_frame offered[DRIVER_BATCH]; /* to the device for what it has: empty, kept from round to round */
	unsigned int offered_count;                /* 0: it has rx_give */
	unsigned int filled;                       /* the first of them: under way, to be replaced by empty ones */
	uint16_t *head;                            /* by buffer: its chain on `to`, while the device has it */
	struct vq_used *held;                      /* chains from the switch that the device was not given yet */
	unsigned int held_first;                   /* its first that is in use */
	unsigned int held_count;
	struct driver_frame *pieces;              /* one for each of held */
	struct driver_frame frames[DRIVER_BATCH]; /* to the device, which has refused them so far */
	unsigned int frame_first;
	unsigned int frame_count;
	bool blocked;   /* the device is full */
	bool quiet;     /* the device had nothing a moment ago: one look at it can be spared */
	bool ailing;    /* its descriptor says error, and nothing else */
	int wake_fd;    /* eventfd: something is asked of the thread */
	int report_fd;  /* the main thread's eventfd: written when the thread ends by itself */
	uint32_t asked; /* written by the main thread: pump_ask */
	uint32_t answered;
	int stop;   /* written by the main thread */
	int result; /* why the thread has ended: valid once `ended` */
	int ended;
	bool running;
	pthread_t thread;
	sem_t started; /* the thread is past what libc does before ours, which takes other system calls */
};

/* The pool that a front end has made for us; once features are negotiated. */
struct driver_pool pump_pool(const struct netfront *nf);

/* After bind; the rings may stand still yet. -ENOMEM, -EMFILE. */
int pump_init(struct pump *pump, struct driver_queue *queue, struct netfront *nf, unsigned int pair, int report_fd);
void pump_cleanup(struct pump *pump);

/* Gives the device the buffers that it wants to have before it is started. Main thread, before the pump's. */
void pump_prime(struct pump *pump);

/*
 * Moves what there is to move, a batch each way. Returns how much it did, 0: nothing; -ENODEV: the device is gone;
 * -EPROTO: the switch broke a ring. For the thread, and for tests, which have none.
 */
int pump_round(struct pump *pump);

/* Sleeps until there may be something to do, at most max_ms (-1: for ever). */
void pump_sleep(struct pump *pump, int max_ms);

/* The thread, started and ended by the main thread. start waits until it runs, stop until it has ended. */
int pump_start(struct pump *pump);
void pump_stop(struct pump *pump);

/* Asks whether it still goes round; later: whether it has answered. Main thread. */
void pump_ask(struct pump *pump);
bool pump_answered(const struct pump *pump);

#endif
