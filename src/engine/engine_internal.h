/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of this room share: the workers, and the seats of the queues that they serve. Not for others.
 */
#ifndef LASTHOP_ENGINE_INTERNAL_H
#define LASTHOP_ENGINE_INTERNAL_H

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include "engine/claim.h"
#include "engine/vm_state.h"
#include "engine/watchdog.h"
#include "engine/worker.h"

/* Queues of one worker: every transmit queue of a full switch. */
#define QUEUES_MAX (FLOW_PORTS_MAX * PORT_PAIRS_MAX)
#define WAKE_EVENT UINT64_MAX
#define RX_EVENT   (1ULL << 63)

#define CPU_NONE UINT32_MAX

/* Queue pairs are numbered through all ports. */
struct seat {
	uint32_t claim cache_aligned; /* claim.h: of the transmit queue */
	uint32_t home;                /* atomic: the worker whose epoll has the pair's kicks */
	uint32_t offered_to;          /* atomic: the worker that may take it from its holder, + 1; 0: none */
	bool polled;                  /* atomic: its guest never kicks */
	uint8_t sent;                 /* the holder's: packets of the last turns that found any, on average */
	/* under the pool's home_lock */
	int tx_fd; /* -1: none */
	int rx_fd;
	uint32_t strange_kicks; /* atomic; the home worker's: in a row, from a VM that runs elsewhere */
	/* by those who have something for the receive queue, who seldom have the transmit queue as well */
	uint64_t given_ns cache_aligned; /* atomic, a hint: when the last notice was given */
	uint8_t bursts;                  /* atomic, a hint: packets of the last notices, on average */
};

/* Calls that a worker is asked to make at once. */
#define CALL_POSTS 16

/* A call that was left to another worker. */
struct posted {
	uint32_t *slot; /* where; it holds the post until somebody takes it */
	uint32_t post;
	uint64_t since_ns;
};

/* Queues that are looked at without a turn while there is nothing to do: with more, turns take the time anyway. */
#define PEEKS_MAX 8

/* What a worker has to have its copies shared with (copy.c); its own. */
struct copying {
	struct copy_helpers helpers; /* the forwarder's */
	struct worker *worker;
	struct worker *helper; /* of the job that is being made */
	unsigned int missed;   /* large copies without one; goes round */
	uint64_t missed_since_ns;
};

struct worker {
	struct worker_pool *pool;
	struct forwarder *fwd;
	pthread_t thread;
	unsigned int index;
	uint32_t cpu;                       /* where it is pinned; CPU_NONE: it is not */
	uint8_t nearest[STATS_WORKERS_MAX]; /* the others, by how near their CPUs are */
	bool running;
	int epoll_fd;
	int wake_fd;
	bool stop;        /* atomic */
	bool asleep;      /* atomic: what it holds may be taken over */
	bool has_waiting; /* atomic: wake it when something changes */
	bool moved;       /* atomic: by another worker, to finish its round there (rescue.c) */
	pid_t tid;        /* atomic */
	uint32_t rounds;  /* atomic: goes round */
	/* by queue, atomic */
	uint64_t attention[QUEUES_MAX / 64]; /* look at it without a kick; set by anyone, who then wakes the worker */

	/* calls to be made from this CPU, by anyone; atomic: 0 or a queue's number and direction */
	uint32_t posts[CALL_POSTS] cache_aligned;
	uint64_t duty_until_ns; /* atomic: it stays awake for them until then */
	/* atomic; hints of any worker's, not always right */
	uint32_t calls_from_afar;
	uint64_t afar_since_ns;

	/* a copy that another worker would share, by anyone; atomic; who takes it out helps */
	struct copy_job *copy_slot cache_aligned;
	bool at_hand; /* atomic: it is awake and has nothing to do */
	bool copies;  /* atomic: it is in the middle of another's copy */

	/*
	 * The worker's own from here: the queues that it holds or thinks it holds. Others may look, and believe what
	 * the claims say.
	 */
	uint32_t active_count cache_aligned;
	uint32_t active[QUEUES_MAX];
	bool is_active[QUEUES_MAX];
	uint32_t first;                           /* position of the queue with which the next round begins */
	uint64_t now_ns;                          /* the time, as read lately */
	uint64_t idle_since_ns;                   /* when it found nothing more to do; 0: it has something */
	uint64_t gap_ns;                          /* how long that lasts, on average */
	uint64_t credit_ns;                       /* earned by packets, to be spent on looking for more */
	uint32_t calls_seen;                      /* the forwarder's count, up to which it has looked for answers */
	bool has_called;                          /* since it slept */
	bool is_answered;                         /* when it had called and slept last, a kick came at once */
	unsigned int looks;                       /* for more work; goes round */
	bool polite;                              /* it is of the batch class */
	unsigned int guests_asked, guests_called; /* lately: wanted to be called or not, and did */
	struct seen {
		uint32_t rounds;
		uint64_t since_ns;
	} seen[STATS_WORKERS_MAX]; /* of others, by rescue.c */
	struct copying *copying;   /* NULL: it copies alone */
	unsigned int posted_count;
	struct posted posted[CALL_POSTS];
	uint64_t load_since_ns;     /* of the load below */
	uint64_t load;              /* what it has moved since, in packets */
	uint64_t copied_before;     /* bytes that are in the load already */
	struct cpu_history history; /* of its CPU, when the load began */
	struct {
		uint32_t cpu;
		uint32_t switches;
	} idle; /* the CPU that was idle when a load was weighed last, and what it had done */
	/* the queues of which the last round found nothing new, and no reason for another turn before there is */
	unsigned int peek_count;
	struct peek {
		uint32_t id;
		uint32_t at;       /* on the list */
		uint16_t position; /* of the next packet */
		bool sparse;       /* it sends few packets at a time */
	} peeks[PEEKS_MAX];
};

struct worker_pool {
	struct worker_pool_config config;
	unsigned int started;
	unsigned int next_upcall;
	struct worker *workers[STATS_WORKERS_MAX];
	struct seat *seats; /* [QUEUES_MAX] */
	pthread_mutex_t home_lock;
	struct watchdog watchdog;
};

static inline uint32_t queue_id(uint32_t port, uint32_t queue)
{
	return port * PORT_PAIRS_MAX + queue;
}

/* A queue that gets or sends so few packets at a time, on average. */
#define SPARSE_PACKETS 4

/* An average of numbers of packets: up at once, down by and by. */
static inline uint8_t average_packets(uint8_t before, unsigned int packets)
{
	packets = min(packets, 255u);
	return (uint8_t)max(packets, (7u * before + packets) / 8);
}

/* worker_pool.c: for any thread */

/* The worker shall look at the queue: it will when it is woken. */
void worker_note(struct worker *worker, uint32_t id);
void worker_wake(struct worker *worker);
static inline void worker_attend(struct worker *worker, uint32_t id)
{
	worker_note(worker, id);
	worker_wake(worker);
}

/* worker.c */
void *worker_main(void *arg); /* the worker */
/* There may be something in the queue, and perhaps it is nobody's, or its holder sleeps. */
void worker_activate(struct worker *worker, uint32_t id);
/*
 * Before a call: a turn for each queue that sends few packets at a time and has something since the last round, and the
 * calls for them.
 */
void worker_serve_sparse(struct worker *worker);
/* Takes a queue from another worker, who holds it between turns. */
void worker_take_over(struct worker *worker, uint32_t id, unsigned int holder);

/* homes.c */

int homes_init(struct worker_pool *pool); /* 0 or -errno */
void homes_fini(struct worker_pool *pool);

/* Kicks of a pair's queue, by the main thread. 0 or -errno. */
int homes_add(struct worker_pool *pool, uint32_t id, bool receive, int fd);
void homes_remove(struct worker_pool *pool, uint32_t id, int fd);

static inline struct worker *homes_get(struct worker_pool *pool, uint32_t id)
{
	return pool->workers[load_relaxed(&pool->seats[id].home)];
}

/* The worker was kicked: has the VM moved for good? Then its next kicks go elsewhere. */
void homes_follow(struct worker *worker, uint32_t id, const struct port *port);

/* The nearest worker that sleeps on an idle CPU, or NULL. */
struct worker *homes_find_idle(struct worker *worker);

/* The worker that is pinned to a CPU, or NULL. */
struct worker *homes_at(struct worker_pool *pool, uint32_t cpu);

/* call.c */

/* Takes the notice, and has the guest called if it wants that: from here, or from where it is best done. */
void call_give(struct worker *worker, unsigned int index);
/* Makes the calls that others have left to this worker. */
void call_take_posts(struct worker *worker);
/* Makes the calls that were left to others and not made: those that are late, or all. */
void call_chase(struct worker *worker, bool all);

/* copy.c */

int copy_init(struct worker *worker); /* 0 or -errno; has its forwarder */
void copy_fini(struct worker *worker);
/* Helps who has asked this worker to. */
void copy_take(struct worker *worker);
/* Whether it may be asked to. */
void copy_at_hand(struct worker *worker, bool at_hand);

/* rescue.c */

/* A worker that has nothing to do looks whether others are kept from what they have to do. */
void rescue_look(struct worker *worker);
/* The worker was moved, and is done with what it was moved for. */
void rescue_return(struct worker *worker);

/* merge.c */

/*
 * Its guest gets few packets at a time, and not in short order either: whoever waits for one of them gains more by a
 * call at once than all others lose.
 */
bool merge_is_sparse(const struct worker *worker, const struct notice *notice);
/* A notice is given. */
void merge_learn(struct worker *worker, const struct notice *notice);

/* Gives the notices that are due, after turns; `idle`: the last ones found nothing more. */
void merge_notices(struct worker *worker, bool idle);
void merge_give_all(struct worker *worker);
/* Gives those of single packets. */
void merge_give_sparse(struct worker *worker);

#endif
