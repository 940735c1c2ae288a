/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_vm: VMs that do nothing but send and receive.
 *
 * Each socket is a VM with one virtio-net device; VMs 0 and 1 are a pair, 2 and 3 the next. The
 * even VM of a pair sends to the odd one, with --direction both also the other way. Transmit
 * buffers are filled once and only offered again, so that nearly all the time is the switch's;
 * --touch writes and reads each frame's whole payload, as real guests do.
 *
 * A run: connect; exchange small frames until every VM hears its peer, which also teaches a
 * learning switch where they are; warm up; measure; stop sending, wait until nothing arrives any
 * more, and compare what the switch took with what it delivered. Frames are counted if they have
 * the right length; a sample of them is read and must have the right addresses and signature.
 *
 * In poll mode one thread serves all VMs (or one each, --threads). In irq mode each VM is a thread
 * that sleeps until its call descriptor is signalled. The main thread only sleeps and takes
 * snapshots of the counters.
 */
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "vm/vm.h"

#define SAMPLE       8 /* one frame in so many is read */
#define HELLO_WAIT_S 20
#define DRAIN_MS     100

enum phase { PHASE_RUN, PHASE_DRAIN, PHASE_END };

struct vm vms[VMS_MAX];
unsigned int vm_count;
static enum phase phase;

void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench_vm: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

/* Sending and receiving. */

static void add(uint64_t *counter, uint64_t n)
{
	store_relaxed(counter, *counter + n);
}

static int vm_send(struct vm *vm, unsigned int max)
{
	struct vq_used slots[BATCH_MAX];
	struct netfront *nf = vm->nf;
	int n = netfront_tx_take(nf, 0, slots, min(max, opt.batch));

	if (n < 0)
		fail("%s: the transmit ring broke", vm->path);
	if (n > 0) {
		for (int i = 0; opt.touch && i < n; i++)
			frame_touch_write(vm, netfront_buffer(nf, slots[i].tag) + nf->hdr_len);
		netfront_tx_give(nf, 0, slots, (unsigned int)n);
		vm->given += (unsigned int)n;
	}
	store_relaxed(&vm->counters.sent,
		      vm->given - vq_driver_split_in_flight(&netfront_tx(nf, 0)->vq));
	return n;
}

/* Takes back what is under way when no more is sent. */
static void vm_finish_send(struct vm *vm)
{
	netfront_reclaim(vm->nf, 0);
	store_relaxed(&vm->counters.sent,
		      vm->given - vq_driver_split_in_flight(&netfront_tx(vm->nf, 0)->vq));
}

static uint32_t pieces_of(const struct vm *vm, const uint8_t *buffer)
{
	struct virtio_net_hdr_mrg_rxbuf header;

	if (!(vm->nf->features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)))
		return 1;
	memcpy(&header, buffer, sizeof(header));
	return header.num_buffers;
}

/* One receive buffer. Returns 1 if it ends a frame of the right kind. */
static unsigned int take_piece(struct vm *vm, const struct vq_used *slot, bool sample)
{
	struct netfront *nf = vm->nf;
	const uint8_t *buffer = netfront_buffer(nf, slot->tag);
	bool first = vm->frame_left == 0, small = opt.size + nf->hdr_len <= opt.rx_buffer;
	uint32_t skip = first ? nf->hdr_len : 0;

	if (first) {
		/* The header of a frame that fits is not looked at: its length tells enough. */
		vm->frame_left = small && slot->len == opt.size + nf->hdr_len
					 ? 1
					 : pieces_of(vm, buffer);
		vm->frame_size = 0;
	}
	if (slot->len < skip || vm->frame_left == 0)
		fail("%s: broken frame received", vm->path);
	vm->frame_size += slot->len - skip;
	vm->frame_left--;
	if (opt.touch)
		frame_touch_read(vm, buffer + skip, slot->len - skip, first);
	if (first && sample && !frame_is_for(vm, buffer + skip, opt.gso)) {
		add(&vm->counters.wrong, 1);
		return 0;
	}
	if (vm->frame_left > 0)
		return 0;
	if (vm->frame_size != opt.size) {
		add(&vm->counters.wrong, 1);
		return 0;
	}
	return 1;
}

static int vm_receive(struct vm *vm)
{
	struct vq_used slots[BATCH_MAX];
	int n = netfront_rx_take(vm->nf, 0, slots, opt.batch);
	unsigned int frames = 0;

	if (n < 0)
		fail("%s: the receive ring broke", vm->path);
	if (n == 0)
		return 0;
	for (int i = 0; i < n; i++)
		frames += take_piece(vm, &slots[i], i % SAMPLE == 0);
	netfront_rx_give(vm->nf, 0, slots, (unsigned int)n);
	add(&vm->counters.delivered, frames);
	return opt.latency ? (int)frames : n;
}

/* All that is there, but not what comes meanwhile for ever: a mergeable frame is many buffers. */
static bool vm_receive_round(struct vm *vm)
{
	unsigned int turns = opt.ring / opt.batch + 1;
	bool busy = false;
	int n;

	do {
		n = vm_receive(vm);
		busy |= n > 0;
	} while (n == (int)opt.batch && --turns > 0);
	return busy;
}

/* The sender has one frame under way; its peer answers each with one of its own. */
static bool vm_ping(struct vm *vm, bool sending)
{
	int n = vm_receive(vm);

	if (!vm->sender) {
		while (n > 0 && vm_send(vm, 1) > 0)
			n--;
		return n > 0;
	}
	if (n > 0 && vm->sent_at) {
		report_round_trip(vm, clock_now_ns() - vm->sent_at);
		vm->sent_at = 0;
	}
	if (!vm->sent_at && sending) {
		vm->sent_at = clock_now_ns();
		if (vm_send(vm, 1) <= 0)
			vm->sent_at = 0;
		return true;
	}
	return n > 0;
}

/* One round of a VM. Returns whether there was anything to do. */
static bool vm_round(struct vm *vm)
{
	bool sending = load_relaxed(&phase) == PHASE_RUN, busy;

	if (!sending)
		vm_finish_send(vm);
	if (opt.latency)
		return vm_ping(vm, sending);
	busy = vm_receive_round(vm);
	if (vm->sender && sending)
		busy |= vm_send(vm, opt.batch) > 0;
	return busy;
}

static void pin(unsigned int thread)
{
	cpu_set_t set;

	if (opt.cpu_count == 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)opt.cpus[thread % opt.cpu_count], &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("cpu %d: %s", opt.cpus[thread % opt.cpu_count], strerror(errno));
}

static void *run_all(void *arg)
{
	(void)arg;
	pin(0);
	while (load_relaxed(&phase) != PHASE_END)
		for (unsigned int i = 0; i < vm_count; i++)
			vm_round(&vms[i]);
	return NULL;
}

static void *run_one(void *arg)
{
	struct vm *vm = arg;

	pin(vm->number);
	while (load_relaxed(&phase) != PHASE_END) {
		unsigned int what = NETFRONT_WAIT_RX;

		if (vm_round(vm) || !opt.irq)
			continue;
		if (vm->sender && !opt.latency && load_relaxed(&phase) == PHASE_RUN)
			what |= NETFRONT_WAIT_TX;
		/* Not for ever: the phase may end meanwhile. */
		if (netfront_wait(vm->nf, 0, what, 20) < 0)
			fail("%s: the switch hung up", vm->path);
	}
	return NULL;
}

/* A run. */

static void vm_open(struct vm *vm)
{
	uint32_t whole = VIRTIO_NET_HDR_LEN + opt.size;
	struct netfront_config config = {
		.path = vm->path,
		.listen = opt.server,
		.polling = !opt.irq && !opt.latency,
		.timeout_ms = 20000,
		.features = NETFRONT_FEATURES,
		.rx_size = opt.ring,
		.tx_size = opt.ring,
		.rx_buffer = opt.rx_buffer,
		.tx_buffer = max(whole, 2048u),
		.piece = opt.piece,
		.header_apart = opt.header_apart,
	};
	const char *step;
	int err;

	if (!opt.mergeable)
		config.features &= ~VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (opt.gso) {
		config.features |= NETFRONT_FEATURES_TSO;
		config.required = VIRTIO_BIT(VIRTIO_NET_F_CSUM) |
				  VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) |
				  VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4);
	}
	err = netfront_open(&vm->nf, &config, &step);
	if (err)
		fail("%s: %s: %s", vm->path, step, strerror(-err));
}

/* Opening in threads, because a switch may connect to its ports in any order. */
static void *open_one(void *arg)
{
	vm_open(arg);
	return NULL;
}

static bool hear(struct vm *vm)
{
	struct netfront_frame frames[BATCH_MAX];
	uint8_t copy[HELLO_SIZE];
	bool heard = false;
	int n;

	while ((n = netfront_receive(vm->nf, 0, frames, BATCH_MAX)) > 0)
		for (int i = 0; i < n; i++)
			heard |= netfront_frame_copy(&frames[i], 0, copy, sizeof(copy)) ==
					 sizeof(copy) &&
				 frame_is_for(vm, copy, false);
	return heard;
}

/* Small frames to and fro until everybody has heard its peer twice: flooded first, then as learned.
 */
static void say_hello(void)
{
	uint64_t deadline = clock_now_ns() + HELLO_WAIT_S * NS_PER_S;
	unsigned int heard[VMS_MAX] = {0}, done = 0;
	uint8_t frame[HELLO_SIZE];

	while (done < vm_count) {
		if (clock_now_ns() > deadline)
			fail("a VM does not hear its peer through the switch");
		for (unsigned int i = 0; i < vm_count; i++) {
			frame_make(&vms[i], frame, sizeof(frame), false);
			netfront_send_frame(vms[i].nf, 0, frame, sizeof(frame));
		}
		for (unsigned int i = 0; i < vm_count; i++)
			netfront_reclaim(vms[i].nf, 0);
		usleep(20000);
		for (unsigned int i = 0; i < vm_count; i++)
			if (hear(&vms[i]) && ++heard[i] == 2)
				done++;
	}
	usleep(50000);
	for (unsigned int i = 0; i < vm_count; i++) {
		hear(&vms[i]);
		netfront_recycle(vms[i].nf, 0);
	}
}

static void prepare(struct vm *vm)
{
	struct virtio_net_hdr header;
	uint64_t deadline = clock_now_ns() + HELLO_WAIT_S * NS_PER_S;
	uint8_t *frame = malloc(opt.size);

	vm->histogram = calloc(BUCKETS, sizeof(*vm->histogram));
	if (!frame || !vm->histogram)
		fail("out of memory");
	while (netfront_reclaim(vm->nf, 0) >= 0 &&
	       vq_driver_split_in_flight(&netfront_tx(vm->nf, 0)->vq) > 0)
		if (clock_now_ns() > deadline)
			fail("%s: the switch keeps the first frames", vm->path);
	frame_gso_header(&header);
	frame_make(vm, frame, opt.size, opt.gso);
	if (netfront_tx_prepare(vm->nf, 0, opt.gso ? &header : NULL, frame, opt.size))
		fail("%s: frames do not fit", vm->path);
	free(frame);
}

static void sleep_s(double seconds)
{
	uint64_t until = clock_now_ns() + (uint64_t)(seconds * 1e9);
	struct timespec ts = {(time_t)(until / NS_PER_S), (long)(until % NS_PER_S)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void for_each_vm_in_thread(void *(*run)(void *arg))
{
	for (unsigned int i = 0; i < vm_count; i++)
		if (pthread_create(&vms[i].thread, NULL, run, &vms[i]))
			fail("no thread");
}

static void join(unsigned int threads)
{
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(vms[i].thread, NULL);
}

static void measure(void)
{
	struct counters before, after, all, last;
	bool each = opt.irq || opt.threads;
	uint64_t start, end;

	if (each)
		for_each_vm_in_thread(run_one);
	else if (pthread_create(&vms[0].thread, NULL, run_all, NULL))
		fail("no thread");
	sleep_s(opt.warm_up);
	start = clock_now_ns();
	before = report_total();
	sleep_s(opt.seconds);
	end = clock_now_ns();
	after = report_total();

	store_relaxed(&phase, PHASE_DRAIN);
	all = report_total();
	do {
		last = all;
		sleep_s(DRAIN_MS / 1e3);
		all = report_total();
	} while (all.delivered != last.delivered);
	store_relaxed(&phase, PHASE_END);
	join(each ? vm_count : 1);

	after.sent -= before.sent;
	after.delivered -= before.delivered;
	report_print(&after, &all, start, end);
}

int main(int argc, char **argv)
{
	options_parse(argc, argv);
	for (unsigned int i = 0; i < vm_count; i++) {
		vms[i].number = i;
		vms[i].peer = &vms[i ^ 1];
		vms[i].sender = i % 2 == 0 || (opt.both && !opt.latency);
	}
	for_each_vm_in_thread(open_one);
	join(vm_count);
	say_hello();
	for (unsigned int i = 0; i < vm_count; i++)
		prepare(&vms[i]);
	measure();
	for (unsigned int i = 0; i < vm_count; i++) {
		netfront_close(vms[i].nf);
		free(vms[i].histogram);
	}
	return 0;
}
