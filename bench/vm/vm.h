/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of bench_vm share: the options, the VMs, and who does what with them. The options
 * are written before there are threads; a VM is used by one thread at a time, but for its counters,
 * which the main thread reads.
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
#define HELLO_SIZE 60 /* bytes of the frames by which VMs find each other */

/* Round-trip times: for each power of two of nanoseconds 64 buckets. */
#define BUCKET_BITS 6
#define BUCKETS     (64 << BUCKET_BITS)

struct options {
	bool server, irq, both, touch, latency, threads, gso, json;
	bool mergeable, header_apart;
	uint32_t size, ring, rx_buffer, piece;
	unsigned int batch;
	double seconds, warm_up;
	int cpus[VMS_MAX];
	unsigned int cpu_count;
};

/* What the VM's thread counts and the main thread reads. */
struct counters {
	uint64_t sent;      /* frames that the back end has consumed */
	uint64_t delivered; /* of the right kind */
	uint64_t wrong;
};

struct vm {
	cache_aligned struct counters counters;
	struct netfront *nf;
	const char *path;
	unsigned int number;
	struct vm *peer;
	bool sender;
	uint64_t given;      /* frames offered to the back end */
	uint64_t seq;        /* --touch: of the next frame sent */
	uint64_t expected;   /* --touch: of the next frame received */
	uint64_t disordered; /* --touch: frames that were not the expected one */
	uint64_t sum;        /* of what was read, so that reading is not optimized away */
	uint32_t frame_left; /* pieces of a mergeable frame still to come */
	uint32_t frame_size;
	uint64_t sent_at; /* --latency: 0: no frame is under way */
	uint64_t *histogram;
	pthread_t thread;
};

extern struct options opt;
extern struct vm vms[VMS_MAX];
extern unsigned int vm_count;

void fail(const char *format, ...) __attribute__((noreturn)) printf_like(1, 2);

/* options.c: fills in opt and the VMs' sockets, or ends the program. */
void options_parse(int argc, char **argv);

/* frames.c */
void frame_make(const struct vm *vm, uint8_t *frame, uint32_t size, bool gso);
void frame_gso_header(struct virtio_net_hdr *header);
bool frame_is_for(const struct vm *vm, const uint8_t *frame, bool gso);

/* The whole payload is written, or read, behind the signature: a sequence number, then bytes of it.
 */
void frame_touch_write(struct vm *vm, uint8_t *frame);
void frame_touch_read(struct vm *vm, const uint8_t *piece, uint32_t size, bool first);

/* report.c */
void report_round_trip(struct vm *vm, uint64_t ns);
struct counters report_total(void);
void report_print(const struct counters *in, const struct counters *all, uint64_t start,
		  uint64_t end);

#endif
