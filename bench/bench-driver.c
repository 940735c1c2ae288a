/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_driver: what it costs that a driver is a process of its own.
 *
 * A switch in a thread (vhost_device for the socket, the data plane's forwarding turn for the ring)
 * sends bursts of frames to a TAP device through the very same driver code, which is
 *
 *	inline   called after each turn: no thread, no notification, no sandbox
 *	thread   a thread of this process, woken through its call descriptor
 *	process  lasthop-driver as it is, woken the same way: another user, other namespaces, a
 *	         filter on its system calls
 *	direct   the kind's tx and nothing else, for frames that lie ready in the pool
 *
 * What differs between inline and process is the cost of isolation: notifications, switching between
 * processes, caches, the filter. The copy into the driver's pool is in all but the last. CPU time is
 * that of both processes, kernel included. Nobody listens behind the device.
 *
 *	bench_driver MODE [SIZE [RATE [BURST [SECONDS [PATH-OF-LASTHOP-DRIVER]]]]]
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "datapath/forward.h"
#include "driver/driver.h"
#include "lib/clock.h"
#include "lib/fdpass.h"
#include "lib/log.h"
#include "vhost/vhost_device.h"

#define DEVICE      "lhbench"
#define RING        256
#define STRIDE      2112
#define HEADER      VIRTIO_NET_HDR_LEN
#define PATIENCE_NS (10 * NS_PER_S)

static struct {
	struct vhost_device dev;
	struct vring_any ring; /* that the switch delivers into */
	int listener;
	int ready;
	int stop;
	pthread_t thread;
} back;

static struct {
	struct datapath dp;
	struct forwarder *fwd;
	struct guest_memory memory; /* of the sender */
	struct vring_split ring;    /* it sends on */
	uint64_t delivered;
} sw = {.dp.event_fd = -1};

static struct driver driver;

static void fail(const char *what, int err)
{
	fprintf(stderr, "bench_driver: %s: %s\n", what, strerror(err));
	exit(1);
}

/* The back end's side of the socket: nothing but messages. */

static void quiesce(struct vhost_device *dev)
{
	(void)dev;
}

static void update(struct vhost_device *dev)
{
	if (vhost_device_ring_ready(dev, 0, &back.ring))
		store_release(&back.ready, 1);
}

static uint16_t ring_base(struct vhost_device *dev, unsigned int index)
{
	(void)dev;
	(void)index;
	return 0;
}

static void announce(struct vhost_device *dev, const uint8_t mac[6])
{
	(void)dev;
	(void)mac;
}

static void mtu(struct vhost_device *dev, uint16_t size)
{
	(void)dev;
	(void)size;
}

static void *serve(void *arg)
{
	static const struct vhost_device_ops ops = {quiesce, update, ring_base, announce, mtu};
	const struct vhost_device_config config = {
		.name = DEVICE,
		.features = VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) |
			    VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX),
		.pairs = 1,
	};
	struct pollfd pfd = {.fd = back.listener, .events = POLLIN};

	(void)arg;
	vhost_device_init(&back.dev, &ops, &config);
	while (!load_relaxed(&back.stop)) {
		if (poll(&pfd, 1, 100) <= 0)
			continue;
		if (back.dev.sock < 0) {
			vhost_device_connect(&back.dev, fdpass_accept(back.listener));
			pfd.fd = back.dev.sock;
		} else if (vhost_device_receive(&back.dev) != VHOST_FAULT_NONE) {
			break; /* memory stays mapped: the switch may be in it */
		}
	}
	return NULL;
}

/* The sender, whose frames lie ready, and the switch's way from it to the driver's ring. */

static void make_sender(uint32_t size)
{
	size_t bytes = vring_desc_bytes(RING) + vring_avail_bytes(RING) + vring_used_bytes(RING) + (RING + 1) * STRIDE;
	uint8_t *at = aligned_alloc(4096, align_up(bytes + 4096, 4096));
	uint8_t *memory = at;

	if (!at)
		fail("memory", ENOMEM);
	memset(at, 0, align_up(bytes + 4096, 4096));
	sw.memory.count = 1;
	sw.memory.regions[0] = (struct guest_region){.size = align_up(bytes + 4096, 4096), .host = memory};
	sw.ring = (struct vring_split){.size = RING, .mask = RING - 1, .desc = (void *)at};
	at += align_up(vring_desc_bytes(RING), CACHE_LINE);
	sw.ring.avail = (void *)at;
	at += align_up(vring_avail_bytes(RING), CACHE_LINE);
	sw.ring.used = (void *)at;
	at += align_up(vring_used_bytes(RING), CACHE_LINE);
	for (uint16_t i = 0; i < RING; i++, at += STRIDE) {
		static const uint8_t to[6] = {0x52, 0x54, 0, 0, 0, 1}, from[6] = {0x52, 0x54, 0, 0, 0, 2};

		memcpy(at + HEADER, to, sizeof(to));
		memcpy(at + HEADER + sizeof(to), from, sizeof(from));
		at[HEADER + 12] = 0x88; /* for experiments: no protocol of the kernel's takes it */
		at[HEADER + 13] = 0xb5;
		sw.ring.desc[i] = (struct vring_desc){.addr = (uint64_t)(at - memory), .len = size + HEADER};
		sw.ring.avail->ring[i] = i;
	}
	sw.ring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
}

static void make_switch(void)
{
	const uint64_t features = VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	const struct flow_action output = {.type = FLOW_ACTION_OUTPUT, .value = 1};
	const struct flow_key key = {.in_port = 0, .stage = FLOW_STAGE_FIRST};
	const struct flow_key mask = {.in_port = UINT32_MAX, .stage = UINT8_MAX};
	struct stats_port *stats = aligned_alloc(CACHE_LINE, sizeof(*stats) * FLOW_PORTS_MAX);
	struct stats_worker *worker = aligned_alloc(CACHE_LINE, sizeof(*worker));
	uint64_t id;

	sw.dp.flows = flow_table_create(1, 16);
	sw.dp.ports[0] = port_create(0, FORWARD_FULL_WAIT_NS);
	sw.dp.ports[1] = port_create(1, FORWARD_FULL_WAIT_NS);
	if (!stats || !worker || !sw.dp.flows || !sw.dp.ports[0] || !sw.dp.ports[1])
		fail("memory", ENOMEM);
	memset(stats, 0, sizeof(*stats) * FLOW_PORTS_MAX);
	memset(worker, 0, sizeof(*worker));
	sw.fwd = forwarder_create(&sw.dp, 0, stats, worker);
	rcu_register_thread();
	if (!sw.fwd || flow_table_add(sw.dp.flows, &key, &mask, &output, 1, 0, &id))
		fail("the switch", ENOMEM);
	flow_table_reclaim(sw.dp.flows);
	sw.dp.ports[0]->memory = &sw.memory;
	sw.dp.ports[1]->memory = &back.dev.memory;
	if (txq_start(&sw.dp.ports[0]->txq[0], &sw.ring, &sw.memory, features, 0, -1))
		fail("the sender's ring", ENOMEM);
	rxq_start(&sw.dp.ports[1]->rxq[0], &back.ring.split, &back.dev.memory, back.dev.features, 0,
		  back.dev.rings[0].call_fd);
	sw.dp.ports[1]->pairs_running = 1;
}

/* So many more frames are to be sent. */
static void offer(unsigned int n)
{
	uint16_t room = (uint16_t)(RING - (uint16_t)(sw.ring.avail->idx - load_acquire(&sw.ring.used->idx)));

	store_release(&sw.ring.avail->idx, (uint16_t)(sw.ring.avail->idx + min(n, (unsigned int)room)));
}

/* Sends what is offered, as far as the driver has buffers. */
static void turn(bool inlined)
{
	unsigned int n;

	do {
		n = forward_turn(sw.fwd, &sw.dp.ports[0]->txq[0]);
		notice_give_all(sw.fwd);
		sw.delivered += n;
		while (inlined && pump_round(&driver.pumps[0]) > 0)
			;
	} while (n > 0);
	rcu_quiescent_state();
}

/* The kind's tx alone, of frames that are ready in the pool's buffers. */
static void send_direct(unsigned int count, uint32_t size)
{
	static struct driver_frame frames[DRIVER_BATCH];
	const struct driver_pool *pool = &driver.dev.pool;

	for (unsigned int sent = 0; sent < count;) {
		unsigned int n = min(count - sent, DRIVER_BATCH);
		int taken;

		for (unsigned int i = 0; i < n; i++) {
			uint8_t *at = pool->memory + pool->first + (uint64_t)i * pool->stride;

			at[HEADER + 12] = 0x88;
			at[HEADER + 13] = 0xb5;
			frames[i] = (struct driver_frame){.data = at, .size = size + HEADER, .room = pool->stride};
		}
		taken = driver.kind->tx(&driver.dev.queues[0], frames, n);
		if (taken <= 0)
			fail("the device", taken < 0 ? -taken : EAGAIN);
		sent += (unsigned int)taken;
	}
	sw.delivered += count;
}

static uint64_t clock_of(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts))
		return 0;
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t cpu_ns(pid_t child)
{
	clockid_t clock;
	uint64_t ns = clock_of(CLOCK_PROCESS_CPUTIME_ID);

	if (child > 0 && clock_getcpuclockid(child, &clock) == 0)
		ns += clock_of(clock);
	return ns;
}

static void sleep_until(uint64_t at)
{
	struct timespec ts = {(time_t)(at / NS_PER_S), (long)(at % NS_PER_S)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static pid_t start_process(const char *program, const char *path)
{
	pid_t child = fork();

	if (child < 0)
		fail("fork", errno);
	if (child > 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl(program, program, "--port", path, "--kind", "tap", "--device", DEVICE, "--log-level", "1", NULL);
	fail(program, errno);
	return -1;
}

static void start_driver(const char *path)
{
	driver.config = (struct driver_config){.port = path, .device = DEVICE, .queues = 1};
	driver.kind = driver_kind_find("tap");
	if (!driver.kind || driver_open(&driver) != EXIT_SUCCESS)
		fail("the driver", EIO);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "", *program = argc > 6 ? argv[6] : "build/lasthop-driver";
	uint32_t size = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 64;
	unsigned long rate = argc > 3 ? strtoul(argv[3], NULL, 10) : 100000;
	unsigned int burst = argc > 4 ? (unsigned int)strtoul(argv[4], NULL, 10) : 32;
	double seconds = argc > 5 ? strtod(argv[5], NULL) : 2;
	bool process = !strcmp(mode, "process"), thread = !strcmp(mode, "thread"), inlined = !strcmp(mode, "inline");
	bool direct = !strcmp(mode, "direct");
	uint64_t next, end, interval, cpu, deadline;
	char path[64];
	pid_t child = -1;

	if (process + thread + inlined + direct != 1 || size < 60 || size > 2000 || !rate || !burst || burst > RING) {
		fprintf(stderr, "usage: bench_driver inline|thread|process|direct [SIZE [RATE [BURST [SECONDS "
				"[PATH-OF-LASTHOP-DRIVER]]]]]\n");
		return 2;
	}
	log_set_level(LOG_WARN);
	if (unshare(CLONE_NEWNET))
		fail("a network namespace", errno);
	snprintf(path, sizeof(path), "/tmp/lhbench-%d.sock", getpid());
	back.listener = fdpass_listen(path, SOCK_STREAM, 1, 0666);
	if (back.listener < 0 || pthread_create(&back.thread, NULL, serve, NULL))
		fail(path, -back.listener);
	if (process)
		child = start_process(program, path);
	else
		start_driver(path);
	for (deadline = clock_now_ns() + PATIENCE_NS; !load_acquire(&back.ready); usleep(1000))
		if (clock_now_ns() > deadline)
			fail("no ring is ready", ETIMEDOUT);
	unlink(path);
	if (thread)
		driver_start(&driver);
	usleep(200000); /* the driver gets into its jail */
	make_sender(size);
	make_switch();
	prctl(PR_SET_TIMERSLACK, 1);

	interval = NS_PER_S * burst / rate;
	cpu = cpu_ns(child);
	next = clock_now_ns();
	end = next + (uint64_t)(seconds * 1e9);
	for (; next < end; next += interval) {
		sleep_until(next);
		if (direct) {
			send_direct(burst, size);
		} else {
			offer(burst);
			turn(inlined);
		}
	}
	cpu = cpu_ns(child) - cpu;
	printf("%s, %u bytes, bursts of %u: %.0f frames a second of %lu, %.0f ns CPU time a frame\n", mode, size, burst,
	       (double)sw.delivered / seconds, rate, (double)cpu / (double)sw.delivered);
	store_relaxed(&back.stop, 1);
	if (child > 0)
		kill(child, SIGKILL);
	return 0;
}
