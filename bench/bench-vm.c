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
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/compiler.h"
#include "vhost/netfront.h"

#define VMS_MAX      128
#define BATCH        32
#define SAMPLE       8 /* one frame in so many is read */
#define SIGNATURE    0x6c617374686f7001ULL
#define SIGNATURE_AT 42 /* behind Ethernet, IPv4 and UDP; with TCP behind those */
#define GSO_FROM     9000
#define GSO_SEGMENT  1448
#define HELLO_SIZE   60
#define HELLO_WAIT_S 20
#define DRAIN_MS     100

enum phase { PHASE_RUN, PHASE_DRAIN, PHASE_END };

/* Round-trip times: for each power of two of nanoseconds 64 buckets. */
#define BUCKET_BITS 6
#define BUCKETS     (64 << BUCKET_BITS)

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

static struct options {
	bool server, irq, both, touch, latency, threads, gso, json;
	bool mergeable, header_apart;
	uint32_t size, ring, rx_buffer, piece;
	unsigned int batch;
	double seconds, warm_up;
	int cpus[VMS_MAX];
	unsigned int cpu_count;
} opt = {.size = 64, .ring = 256, .batch = BATCH, .seconds = 3, .warm_up = 0.5, .mergeable = true};

static struct vm vms[VMS_MAX];
static unsigned int vm_count;
static enum phase phase;

static void __attribute__((noreturn)) printf_like(1, 2) fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench_vm: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

/* Frames. */

static void mac_of(unsigned int vm, uint8_t mac[ETH_ALEN])
{
	const uint8_t bytes[ETH_ALEN] = {0x52, 0x54, 0x00, 0xbe, (uint8_t)(vm >> 8), (uint8_t)vm};

	memcpy(mac, bytes, ETH_ALEN);
}

static uint32_t sum16(const void *data, size_t size, uint32_t sum)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i + 1 < size; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint32_t signature_at(void)
{
	return opt.gso ? SIGNATURE_AT - (uint32_t)sizeof(struct udphdr) +
				 (uint32_t)sizeof(struct tcphdr)
		       : SIGNATURE_AT;
}

/* TCP with what segmentation needs: the pseudo header's sum in the checksum field. */
static void make_tcp(uint8_t *at, const struct iphdr *ip, uint32_t size)
{
	struct tcphdr tcp = {
		.source = htons(5000),
		.dest = htons(5001),
		.doff = sizeof(tcp) / 4,
		.ack = 1,
		.window = htons(0xffff),
	};
	uint32_t sum = sum16(&ip->saddr, 8, IPPROTO_TCP + size);

	tcp.check = htons((uint16_t)sum);
	memcpy(at, &tcp, sizeof(tcp));
}

static void make_frame(const struct vm *vm, uint8_t *frame, uint32_t size, bool gso)
{
	const uint64_t signature = SIGNATURE;
	uint32_t ip_size = size - ETH_HLEN, l4_size = ip_size - (uint32_t)sizeof(struct iphdr);
	struct iphdr ip = {
		.version = 4,
		.ihl = sizeof(ip) / 4,
		.ttl = 64,
		.tot_len = htons((uint16_t)ip_size),
		.protocol = gso ? IPPROTO_TCP : IPPROTO_UDP,
		.saddr = htonl(0x0a000001 + vm->number),
		.daddr = htonl(0x0a000001 + vm->peer->number),
	};
	struct udphdr udp = {
		.source = htons(5000), .dest = htons(5001), .len = htons((uint16_t)l4_size)};

	ip.check = htons((uint16_t)~sum16(&ip, sizeof(ip), 0));
	memset(frame, 0, size);
	mac_of(vm->peer->number, frame);
	mac_of(vm->number, frame + ETH_ALEN);
	frame[12] = ETH_P_IP >> 8;
	frame[13] = ETH_P_IP & 0xff;
	memcpy(frame + ETH_HLEN, &ip, sizeof(ip));
	if (gso)
		make_tcp(frame + ETH_HLEN + sizeof(ip), &ip, l4_size);
	else
		memcpy(frame + ETH_HLEN + sizeof(ip), &udp, sizeof(udp));
	memcpy(frame + (gso ? signature_at() : SIGNATURE_AT), &signature, sizeof(signature));
}

static bool is_for(const struct vm *vm, const uint8_t *frame, uint32_t at)
{
	const uint64_t signature = SIGNATURE;
	uint8_t macs[2 * ETH_ALEN];

	mac_of(vm->number, macs);
	mac_of(vm->peer->number, macs + ETH_ALEN);
	return !memcmp(frame, macs, sizeof(macs)) &&
	       !memcmp(frame + at, &signature, sizeof(signature));
}

/* The whole payload is written, or read, behind the signature: a sequence number, then bytes of it.
 */
static void touch_write(struct vm *vm, uint8_t *frame)
{
	uint32_t at = signature_at() + 8;

	if (opt.size >= at + 8)
		memcpy(frame + at, &vm->seq, 8);
	if (opt.size > at + 8)
		memset(frame + at + 8, (int)(vm->seq & 0xff), opt.size - at - 8);
	vm->seq++;
}

static void touch_read(struct vm *vm, const uint8_t *piece, uint32_t size, bool first)
{
	uint64_t word, sum = 0, seq;

	for (uint32_t i = 0; i + 8 <= size; i += 8) {
		memcpy(&word, piece + i, 8);
		sum += word;
	}
	vm->sum += sum;
	if (first && size >= signature_at() + 16) {
		memcpy(&seq, piece + signature_at() + 8, 8);
		vm->disordered += seq != vm->expected;
		vm->expected = seq + 1;
	}
}

/* Sending and receiving. */

static void add(uint64_t *counter, uint64_t n)
{
	store_relaxed(counter, *counter + n);
}

static int vm_send(struct vm *vm, unsigned int max)
{
	struct vq_used slots[BATCH];
	struct netfront *nf = vm->nf;
	int n = netfront_tx_take(nf, 0, slots, min(max, opt.batch));

	if (n < 0)
		fail("%s: the transmit ring broke", vm->path);
	if (n > 0) {
		for (int i = 0; opt.touch && i < n; i++)
			touch_write(vm, netfront_buffer(nf, slots[i].tag) + nf->hdr_len);
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
		touch_read(vm, buffer + skip, slot->len - skip, first);
	if (first && sample && !is_for(vm, buffer + skip, signature_at())) {
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
	struct vq_used slots[BATCH];
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

static void record(struct vm *vm, uint64_t ns)
{
	unsigned int high = 63 - (unsigned int)__builtin_clzll(ns | 1 << BUCKET_BITS);
	unsigned int shift = high - BUCKET_BITS;

	vm->histogram[(shift << BUCKET_BITS) + (ns >> shift)]++;
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
		record(vm, clock_now_ns() - vm->sent_at);
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
	busy = vm_receive(vm) > 0;
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
	struct netfront_frame frames[BATCH];
	uint8_t copy[HELLO_SIZE];
	bool heard = false;
	int n;

	while ((n = netfront_receive(vm->nf, 0, frames, BATCH)) > 0)
		for (int i = 0; i < n; i++)
			heard |= netfront_frame_copy(&frames[i], 0, copy, sizeof(copy)) ==
					 sizeof(copy) &&
				 is_for(vm, copy, SIGNATURE_AT);
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
			make_frame(&vms[i], frame, sizeof(frame), false);
			netfront_send_frame(vms[i].nf, 0, frame, sizeof(frame));
		}
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
	struct virtio_net_hdr header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr),
		.gso_size = GSO_SEGMENT,
		.csum_start = ETH_HLEN + sizeof(struct iphdr),
		.csum_offset = offsetof(struct tcphdr, check),
	};
	uint64_t deadline = clock_now_ns() + HELLO_WAIT_S * NS_PER_S;
	uint8_t *frame = malloc(opt.size);

	vm->histogram = calloc(BUCKETS, sizeof(*vm->histogram));
	if (!frame || !vm->histogram)
		fail("out of memory");
	while (netfront_reclaim(vm->nf, 0) >= 0 &&
	       vq_driver_split_in_flight(&netfront_tx(vm->nf, 0)->vq) > 0)
		if (clock_now_ns() > deadline)
			fail("%s: the switch keeps the first frames", vm->path);
	make_frame(vm, frame, opt.size, opt.gso);
	if (netfront_tx_prepare(vm->nf, 0, opt.gso ? &header : NULL, frame, opt.size))
		fail("%s: frames do not fit", vm->path);
	free(frame);
}

static struct counters total(void)
{
	struct counters sum = {0};

	for (unsigned int i = 0; i < vm_count; i++) {
		sum.sent += load_relaxed(&vms[i].counters.sent);
		sum.delivered += load_relaxed(&vms[i].counters.delivered);
		sum.wrong += load_relaxed(&vms[i].counters.wrong);
	}
	return sum;
}

static void sleep_s(double seconds)
{
	uint64_t until = clock_now_ns() + (uint64_t)(seconds * 1e9);
	struct timespec ts = {(time_t)(until / NS_PER_S), (long)(until % NS_PER_S)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static double percentile(double part)
{
	uint64_t count = 0, seen = 0;

	for (unsigned int v = 0; v < vm_count; v++)
		for (unsigned int i = 0; i < BUCKETS; i++)
			count += vms[v].histogram[i];
	for (unsigned int i = 0; i < BUCKETS; i++) {
		unsigned int shift = i >> BUCKET_BITS > 0 ? (i >> BUCKET_BITS) - 1 : 0;

		for (unsigned int v = 0; v < vm_count; v++)
			seen += vms[v].histogram[i];
		if (count > 0 && (double)seen >= part * (double)count)
			return (double)((uint64_t)(i - (shift << BUCKET_BITS)) << shift);
	}
	return 0;
}

static void print_result(const struct counters *in, const struct counters *all, uint64_t start,
			 uint64_t end)
{
	double seconds = (double)(end - start) / 1e9;
	uint64_t lost = all->sent > all->delivered ? all->sent - all->delivered : 0;
	uint64_t disordered = 0, kicks = 0;

	for (unsigned int i = 0; i < vm_count; i++) {
		disordered += vms[i].disordered;
		kicks += netfront_tx(vms[i].nf, 0)->kicks + netfront_rx(vms[i].nf, 0)->kicks;
	}
	if (!opt.json) {
		printf("%.3f Mpps, %.2f Gb/s delivered; lost %.2f %%; wrong %llu; kicks %llu\n",
		       (double)in->delivered / seconds / 1e6,
		       (double)in->delivered * opt.size * 8 / seconds / 1e9,
		       all->sent ? 100.0 * (double)lost / (double)all->sent : 0,
		       (unsigned long long)all->wrong, (unsigned long long)kicks);
		if (opt.latency)
			printf("round trip: median %.0f ns, p99 %.0f ns, p99.9 %.0f ns\n",
			       percentile(0.5), percentile(0.99), percentile(0.999));
		return;
	}
	printf("{\"packets\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"start_ns\": %llu, "
	       "\"end_ns\": %llu, \"sent\": %llu, \"total_sent\": %llu, \"total_delivered\": %llu, "
	       "\"lost\": %llu, \"loss\": %.6f, \"wrong\": %llu, \"kicks\": %llu, ",
	       (unsigned long long)in->delivered, (unsigned long long)in->delivered * opt.size,
	       seconds, (unsigned long long)start, (unsigned long long)end,
	       (unsigned long long)in->sent, (unsigned long long)all->sent,
	       (unsigned long long)all->delivered, (unsigned long long)lost,
	       all->sent ? (double)lost / (double)all->sent : 0, (unsigned long long)all->wrong,
	       (unsigned long long)kicks);
	if (opt.touch)
		printf("\"disordered\": %llu, ", (unsigned long long)disordered);
	if (opt.latency)
		printf("\"rtt_ns\": {\"median\": %.0f, \"p99\": %.0f, \"p99.9\": %.0f}, ",
		       percentile(0.5), percentile(0.99), percentile(0.999));
	printf("\"size\": %u, \"mode\": \"%s\", \"direction\": \"%s\", \"gso\": %s, \"vms\": %u, "
	       "\"ring\": %u, \"features\": \"0x%llx\"}\n",
	       opt.size, opt.irq ? "irq" : "poll", opt.both ? "both" : "one",
	       opt.gso ? "true" : "false", vm_count, opt.ring,
	       (unsigned long long)vms[0].nf->features);
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
	before = total();
	sleep_s(opt.seconds);
	end = clock_now_ns();
	after = total();

	store_relaxed(&phase, PHASE_DRAIN);
	all = total();
	do {
		last = all;
		sleep_s(DRAIN_MS / 1e3);
		all = total();
	} while (all.delivered != last.delivered);
	store_relaxed(&phase, PHASE_END);
	join(each ? vm_count : 1);

	after.sent -= before.sent;
	after.delivered -= before.delivered;
	print_result(&after, &all, start, end);
}

/* The command line. */

static const char help[] =
	"usage: bench_vm --client|--server SOCKET SOCKET... [options]\n"
	"\n"
	"VMs that send to each other through a switch, two sockets a pair of VMs. They connect to "
	"the\n"
	"sockets (--client) or listen there (--server).\n"
	"\n"
	"  --size N              bytes of a frame, 64 (60 to 65549); from 9000 on as one TCP "
	"segment\n"
	"  --gso                 as a TCP segment also if it is smaller\n"
	"  --mode poll|irq       VMs poll (one thread for all), or sleep (a thread each)\n"
	"  --threads             polling VMs have a thread each\n"
	"  --direction one|both  who sends\n"
	"  --latency             one frame at a time, to and fro: round-trip times\n"
	"  --touch               write and read whole payloads\n"
	"  --seconds S           measured interval, 3; --warm-up S before it, 0.5\n"
	"  --ring N              descriptors of a ring, 256\n"
	"  --batch N             frames given or taken at once, 1 to 32\n"
	"  --rx-buffer N         bytes of a receive buffer\n"
	"  --piece N             bytes that a descriptor covers at most\n"
	"  --header-apart        the net header has a descriptor of its own\n"
	"  --no-mergeable        receive buffers hold whole frames\n"
	"  --cpu N[,N...]        where the threads run\n"
	"  --json                one JSON object on standard output\n";

static uint32_t number(const char *text, const char *what, unsigned long low, unsigned long high)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value < low || value > high)
		fail("--%s: %s is not a number from %lu to %lu", what, text, low, high);
	return (uint32_t)value;
}

static double duration(const char *text, const char *what)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= 0 && value <= 86400))
		fail("--%s: %s is no number of seconds", what, text);
	return value;
}

static bool choice(const char *text, const char *what, const char *no, const char *yes)
{
	if (strcmp(text, no) && strcmp(text, yes))
		fail("--%s: %s or %s", what, no, yes);
	return !strcmp(text, yes);
}

static void parse_cpus(char *list)
{
	for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) {
		if (opt.cpu_count == VMS_MAX)
			fail("--cpu: too many");
		opt.cpus[opt.cpu_count++] = (int)number(word, "cpu", 0, CPU_SETSIZE - 1);
	}
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"client", no_argument, NULL, 'c'},
		{"server", no_argument, NULL, 's'},
		{"size", required_argument, NULL, 'n'},
		{"gso", no_argument, NULL, 'g'},
		{"mode", required_argument, NULL, 'm'},
		{"threads", no_argument, NULL, 't'},
		{"direction", required_argument, NULL, 'd'},
		{"latency", no_argument, NULL, 'l'},
		{"touch", no_argument, NULL, 'T'},
		{"seconds", required_argument, NULL, 'S'},
		{"warm-up", required_argument, NULL, 'w'},
		{"ring", required_argument, NULL, 'r'},
		{"batch", required_argument, NULL, 'b'},
		{"rx-buffer", required_argument, NULL, 'B'},
		{"piece", required_argument, NULL, 'p'},
		{"header-apart", no_argument, NULL, 'a'},
		{"no-mergeable", no_argument, NULL, 'M'},
		{"cpu", required_argument, NULL, 'C'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int which, role = 0, at = 0;

	while ((which = getopt_long(argc, argv, "h", longs, &at)) != -1) {
		const char *name = which == '?' ? "" : longs[at].name;

		switch (which) {
		case 'c':
		case 's':
			role = which;
			opt.server = which == 's';
			break;
		case 'n':
			opt.size = number(optarg, name, HELLO_SIZE, 65549);
			break;
		case 'g':
			opt.gso = true;
			break;
		case 'm':
			opt.irq = choice(optarg, name, "poll", "irq");
			break;
		case 't':
			opt.threads = true;
			break;
		case 'd':
			opt.both = choice(optarg, name, "one", "both");
			break;
		case 'l':
			opt.latency = true;
			break;
		case 'T':
			opt.touch = true;
			break;
		case 'S':
			opt.seconds = duration(optarg, name);
			break;
		case 'w':
			opt.warm_up = duration(optarg, name);
			break;
		case 'r':
			opt.ring = number(optarg, name, 1, VRING_SIZE_MAX);
			break;
		case 'b':
			opt.batch = number(optarg, name, 1, BATCH);
			break;
		case 'B':
			opt.rx_buffer = number(optarg, name, 64, 1 << 20);
			break;
		case 'p':
			opt.piece = number(optarg, name, 1, 1 << 20);
			break;
		case 'a':
			opt.header_apart = true;
			break;
		case 'M':
			opt.mergeable = false;
			break;
		case 'C':
			parse_cpus(optarg);
			break;
		case 'j':
			opt.json = true;
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		default:
			fputs(help, stderr);
			exit(2);
		}
	}
	vm_count = (unsigned int)(argc - optind);
	if (!role || vm_count < 2 || vm_count % 2 || vm_count > VMS_MAX) {
		fputs(help, stderr);
		exit(2);
	}
	for (unsigned int i = 0; i < vm_count; i++)
		vms[i].path = argv[optind + (int)i];
	opt.gso |= opt.size >= GSO_FROM;
	if (opt.rx_buffer == 0) {
		uint32_t whole = opt.size + VIRTIO_NET_HDR_LEN;

		/* Linux guests have mergeable buffers of up to a page. */
		opt.rx_buffer = opt.gso && opt.mergeable ? 4096 : max(whole, 2048u);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
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
