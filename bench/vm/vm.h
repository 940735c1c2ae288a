/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of bench_vm share: the options, the VMs, and what the processes of one run tell
 * each other. The options are written before there are threads or processes. A VM is used by one
 * thread at a time; struct shared is in memory that all processes of the run have, so that a VM may
 * be a process of its own.
 *
 * Sizes are bytes, times nanoseconds of clock_now_ns() unless their name says otherwise. What goes
 * wrong ends the program: fail().
 */
#ifndef BENCH_VM_VM_H
#define BENCH_VM_VM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/compiler.h"
#include "vhost/netfront.h"

#define VMS_MAX    128
#define BATCH_MAX  32
#define WAIT_S     30 /* for a switch, and for other VMs, to get ready */
#define HELLO_SIZE 60 /* bytes of the frames by which VMs find each other */

/* Round-trip times: for each power of two of nanoseconds 64 buckets. */
#define BUCKET_BITS 6
#define BUCKETS     (64 << BUCKET_BITS)

/* Both appear with the front end's packed rings (vhost/netfront.h). */
#ifdef NETFRONT_FEATURES_PACKED
#define HAVE_PACKED true
#else
#define HAVE_PACKED              false
#define NETFRONT_FEATURES_PACKED 0
#endif

enum topology {
	TOPOLOGY_PAIRS,      /* 0 sends to 1, 2 to 3 */
	TOPOLOGY_ALL_TO_ONE, /* all send to 0 */
	TOPOLOGY_ONE_TO_ALL, /* 0 sends to all, frame by frame */
};

enum vary { VARY_PORT, VARY_MAC };

struct options {
	bool server, irq, both, touch, threads, processes, gso, json;
	bool mergeable, header_apart, packed;
	bool paced; /* rate says how fast */
	enum topology topology;
	enum vary vary;
	uint32_t size, ring, rx_ring, rx_buffer, piece;
	uint32_t rate;     /* frames a second and sender; 0: nobody sends */
	uint32_t flows;    /* each sender's frames belong to so many */
	uint32_t pause_us; /* a slow VM takes what is there, then waits so long; 0: takes nothing */
	unsigned int batch;
	unsigned int idle;  /* so many VMs, the last ones, are only there */
	unsigned int slow;  /* the last so many of the others receive slowly */
	unsigned int pings; /* the first so many pairs exchange one frame at a time */
	double seconds, warm_up;
	int cpus[VMS_MAX];
	unsigned int cpu_count;
};

/* What a VM counts and the main thread reads. */
struct counters {
	uint64_t sent;      /* frames that the back end has consumed */
	uint64_t delivered; /* of the right kind */
	uint64_t wrong;
	uint64_t disordered; /* --touch: frames that were not the expected one */
	uint64_t unanswered; /* round trips given up */
};

enum phase {
	PHASE_HELLO,   /* find each other */
	PHASE_PREPARE, /* fill transmit rings */
	PHASE_RUN,
	PHASE_DRAIN, /* nobody sends any more */
	PHASE_END,
};

struct shared {
	enum phase phase;
	bool measuring;                            /* round-trip times count */
	unsigned int opened, acquainted, prepared; /* VMs that have come so far */
	struct shared_vm {
		cache_aligned struct counters counters;
		uint64_t kicks;
		uint64_t features; /* negotiated */
		uint64_t histogram[BUCKETS];
	} vms[VMS_MAX];
};

struct vm {
	struct shared_vm *shared;
	const struct io *io;
	struct netfront *nf;
	const char *path;
	unsigned int number;
	unsigned int first_peer, peer_count; /* whom it sends to */
	bool idle, sender, slow;
	bool pings;             /* has one frame under way, or answers one */
	uint8_t heard[VMS_MAX]; /* hello frames of each VM */
	uint32_t next_peer;     /* of peer_count: who gets the next frame */
	uint32_t next_flow;     /* of the next frame */
	uint64_t due;           /* --rate: the next frame's time */
	uint64_t resume;        /* slow: when it takes frames again */
	uint64_t seq;           /* --touch, pings: of the next frame sent */
	uint64_t expected;      /* --touch: of the next frame received */
	uint64_t heard_seq;     /* pings: of the last frame received */
	uint64_t sum;           /* of what was read, so that reading is not optimized away */
	uint32_t frame_left;    /* pieces of a mergeable frame still to come */
	uint32_t frame_size;
	uint64_t sent_at; /* pings; 0: no frame is under way */
	pthread_t thread;
};

extern struct options opt;
extern struct shared *shared;
extern struct vm vms[VMS_MAX];
extern unsigned int vm_count;

void fail(const char *format, ...) __attribute__((noreturn)) printf_like(1, 2);

static inline void add_relaxed(uint64_t *counter, uint64_t n)
{
	store_relaxed(counter, *counter + n);
}

/* options.c: fills in opt, the VMs' sockets and who sends to whom, or ends the program. */
void options_parse(int argc, char **argv);

/* frames.c */

/* A frame of vm to another VM. */
void frame_make(const struct vm *vm, unsigned int to, uint8_t *frame, uint32_t size, bool gso);
void frame_gso_header(struct virtio_net_hdr *header);

/* Whether it is for this VM, from one of its peers or whoever sends to it, and as it was made. */
bool frame_is_for(const struct vm *vm, const uint8_t *frame, bool gso);
unsigned int frame_sender(const uint8_t *frame);

/* Stations that vm sends from, and receives at, for --vary mac: flows are pairs of the two. */
unsigned int frame_stations(void);
void frame_set_station(uint8_t *frame, unsigned int source, unsigned int destination);

/* Whether a VM's frames differ; then what each is changed to: receiver, flow, number, payload. */
bool frame_differs(const struct vm *vm);
void frame_next(struct vm *vm, uint8_t *frame);

/* What frame_next() wrote: number and payload. */
uint64_t frame_seq(const uint8_t *frame);
void frame_touch_read(struct vm *vm, const uint8_t *piece, uint32_t size, bool first);

/*
 * A VM's device. Before the run it says and hears single small frames, then prepare() makes those
 * that are sent from then on. Each function keeps the VM's counters.
 */
struct io {
	void (*open)(struct vm *vm);
	void (*close)(struct vm *vm);
	void (*say)(struct vm *vm, const uint8_t *frame, uint32_t size);
	unsigned int (*hear)(struct vm *vm, uint8_t frames[BATCH_MAX][HELLO_SIZE]);
	void (*prepare)(struct vm *vm);
	/* Send and receive return what they did, 0 if there was nothing to do. */
	int (*send)(struct vm *vm, unsigned int max);
	void (*finish_send)(struct vm *vm); /* takes back what is under way when no more is sent */
	int (*receive)(struct vm *vm);      /* frames; pieces of frames where those are what a batch counts */
	bool (*discard)(struct vm *vm);
	void (*wait)(struct vm *vm, bool transmit, uint64_t ns); /* for frames, or for room too */
};

/* Which one a VM has is told by its path. */
extern const struct io io_vhost;  /* a vhost-user socket */
extern const struct io io_socket; /* netns:PID: AF_PACKET on an interface of a network namespace */
extern const struct io io_tap;    /* tap:PID:NAME: what a VMM without vhost does with a TAP device there */

/* setup.c: connects, finds the peers, fills the transmit rings; returns in PHASE_PREPARE. */
void setup_run(struct vm *vm);

/* traffic.c */

/* One round of sending and receiving. Returns whether there was anything to do. */
bool traffic_round(struct vm *vm);

/* Rounds until PHASE_END, sleeping between them if VMs do. */
void traffic_run(struct vm *vm);

/* report.c */
void report_round_trip(struct vm *vm, uint64_t ns);

/* All VMs' counters, summed up or one by one; those that receive slowly apart. */
struct snapshot {
	uint64_t time;
	uint64_t sent, delivered, delivered_slow, wrong, disordered, unanswered;
	uint64_t vm_sent[VMS_MAX], vm_delivered[VMS_MAX];
};

void report_snapshot(struct snapshot *at);

/* From `from` to `to` is measured; `end` is when nothing came any more. */
void report_print(const struct snapshot *from, const struct snapshot *to, const struct snapshot *end);

#endif
