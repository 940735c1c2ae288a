/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Everything at once, for a while: front ends that flood, stop, die and come back, break their rings and lose their
 * memory; a controller that adds and removes ports and flows, answers misses or does not, and goes away itself. Beside
 * them two healthy ports exchange frames, and a sender counts what it sends to its peer.
 *
 * Time is divided into phases. At the end of each, the ports that came and went are gone: the core has the descriptors
 * and mappings that it had before the first one, and, without sanitizers, not much more memory than after it. At the
 * very end the counted frames add up. A wrong memory access or a race in the core ends it, and fails the test.
 *
 * STRESS_SECONDS is how long: a minute under ThreadSanitizer and 5 seconds elsewhere, unless told.
 */
#include "attack.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "../unit/frame.h"
#include "lib/clock.h"
#include "lib/compiler.h"

#define PHASES       4
#define THREADS      3u
#define ENDS         4u /* of each thread */
#define PORTS        (THREADS * ENDS)
#define FLOWS        64u
#define EVENTS       3u /* handled between two changes */
#define LARGE        17000u
#define BURST        32u
#define GROWTH_PAGES 1024u

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STRESS_TSAN
#endif
#elif defined(__SANITIZE_THREAD__)
#define STRESS_TSAN
#endif
#if defined(STRESS_TSAN) || defined(FRAME_ASAN)
#define STRESS_SANITIZED 1
#else
#define STRESS_SANITIZED 0
#endif
#ifdef STRESS_TSAN
#define STRESS_SECONDS 60
#else
#define STRESS_SECONDS 5
#endif

/* A port of those that come and go, seen from its front end. */
struct end {
	const char *path;
	uint8_t id;
	struct netfront *nf; /* NULL: not attached */
	bool deaf;           /* takes nothing for a while */
};

struct actor {
	pthread_t thread;
	uint32_t random;
	bool *pause;   /* atomic */
	bool resting;  /* atomic: it has seen pause, and all its ends are closed */
	bool stop;     /* atomic */
	uint64_t sent; /* atomic; just to see that it lives */
	uint64_t attached;
	struct end ends[ENDS];
	struct frame large;
};

/* The counted ones. */
struct counter {
	pthread_t thread;
	struct netfront *from, *to;
	bool stop;     /* atomic */
	uint64_t sent; /* frames */
	uint64_t received;
	uint32_t failed; /* source line */
};

struct stress {
	struct attack attack;
	struct actor actors[THREADS];
	struct counter counter;
	bool pause; /* atomic */
	uint32_t random;
	uint32_t ports[PORTS];
	bool present[PORTS];
	char names[PORTS][8];
	uint64_t flows[FLOWS];
	unsigned int flow_count;
	unsigned int changes;
};

static uint32_t random_next(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

static uint32_t random_below(uint32_t *state, uint32_t bound)
{
	return random_next(state) % bound;
}

static bool one_in(uint32_t *state, uint32_t n)
{
	return random_below(state, n) == 0;
}

static void nap_us(long us)
{
	nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}, NULL);
}

/* What the front ends do. Nothing that a call answers is wrong here: rings are broken, ports and connections gone. */

static void attach(struct actor *actor, struct end *end)
{
	struct netfront_config config = {
		.path = end->path,
		.rx_size = 32u << random_below(&actor->random, 4),
		.tx_size = 32u << random_below(&actor->random, 4),
		.tx_buffer = LARGE + 64,
		.features = NETFRONT_FEATURES,
		.pairs = 1 + one_in(&actor->random, 4),
		.unsealed = true,
	};

	if (one_in(&actor->random, 2))
		config.features |= NETFRONT_FEATURES_TSO;
	if (one_in(&actor->random, 2))
		config.features &= ~VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX);
	if (one_in(&actor->random, 3))
		config.features &= ~VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (one_in(&actor->random, 3))
		config.features |= VIRTIO_BIT(VIRTIO_F_RING_PACKED);
	config.header_apart = one_in(&actor->random, 8);
	config.polling = one_in(&actor->random, 4);
	if (netfront_open(&end->nf, &config, NULL))
		end->nf = NULL;
	else
		actor->attached++;
	end->deaf = false;
}

static void detach(struct end *end, bool orderly)
{
	if (!end->nf)
		return;
	/* As a VM that is killed: the connection ends, and the memory is gone, at whatever moment it is. */
	if (!orderly)
		vhost_frontend_close(&end->nf->fe);
	netfront_close(end->nf);
	end->nf = NULL;
}

static uint32_t make_frame(struct actor *actor, const struct end *end, uint8_t *frame)
{
	static const uint32_t sizes[] = {60, 60, 64, 200, 900, 1514};
	uint32_t size = sizes[random_below(&actor->random, ARRAY_SIZE(sizes))];
	uint8_t to = (uint8_t)(1 + random_below(&actor->random, PORTS + 2));

	testbed_frame(frame, size, to, end->id, actor->random);
	if (one_in(&actor->random, 16))
		memset(frame, 0xff, 6);
	return size;
}

static int send_large(struct actor *actor, struct end *end, unsigned int pair)
{
	const struct virtio_net_hdr header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = (uint16_t)actor->large.payload,
		.gso_size = 1448,
		.csum_start = (uint16_t)actor->large.l4,
		.csum_offset = 16,
	};
	const struct iovec iov = {actor->large.data, actor->large.length};

	testbed_mac(actor->large.data, (uint8_t)(1 + random_below(&actor->random, PORTS)));
	testbed_mac(actor->large.data + 6, end->id);
	return netfront_send(end->nf, pair, &header, &iov, 1, false);
}

/* Returns a negative errno of what does not get better. */
static int flood(struct actor *actor, struct end *end, unsigned int pair)
{
	unsigned int count = 1 + random_below(&actor->random, BURST);
	uint8_t frame[1514];
	int error = 0;

	for (unsigned int i = 0; i < count && !error; i++) {
		if (one_in(&actor->random, 8))
			error = send_large(actor, end, pair);
		else
			error = netfront_send_frame(end->nf, pair, frame, make_frame(actor, end, frame));
		if (!error)
			store_relaxed(&actor->sent, actor->sent + 1);
	}
	if (error == -ENOBUFS)
		error = netfront_reclaim(end->nf, pair);
	return min(error, 0);
}

static int take(struct end *end, unsigned int pair)
{
	struct netfront_frame frames[32];
	int n;

	if (end->deaf)
		return 0;
	do
		n = netfront_receive(end->nf, pair, frames, ARRAY_SIZE(frames));
	while (n == (int)ARRAY_SIZE(frames));
	return n;
}

static void break_ring(struct actor *actor, struct end *end)
{
	struct netfront_queue *queue = &end->nf->queues[random_below(&actor->random, 2 * end->nf->pairs)];
	uint32_t choice = random_next(&actor->random);

	switch (choice % 3) {
	case 0:
		WRITE_ONCE(queue->ring.avail->idx, (uint16_t)choice);
		break;
	case 1:
		WRITE_ONCE(queue->ring.desc[choice % queue->ring.size].addr, (uint64_t)choice << 40);
		break;
	default:
		WRITE_ONCE(queue->ring.desc[choice % queue->ring.size].flags, (uint16_t)choice);
	}
	netfront_kick(queue);
}

/* The file is smaller for a moment; what is mapped beyond its end is not for anybody to touch, us included. */
static void lose_memory(struct end *end)
{
	struct netfront *nf = end->nf;

	if (ftruncate(nf->memfd, (off_t)(nf->memory_size / 2)))
		return;
	netfront_kick(netfront_tx(nf, 0));
	nap_us(500);
	if (ftruncate(nf->memfd, (off_t)nf->memory_size))
		detach(end, false);
}

static void reconnect(struct end *end, bool fresh)
{
	if (netfront_reconnect(end->nf, fresh))
		detach(end, false);
}

static void misbehave(struct actor *actor, struct end *end)
{
	switch (random_below(&actor->random, 12)) {
	case 0:
	case 1:
	case 2:
		detach(end, false);
		break;
	case 3:
		detach(end, true);
		break;
	case 4:
		reconnect(end, true);
		break;
	case 5:
		reconnect(end, false);
		break;
	case 6:
	case 7:
		break_ring(actor, end);
		break;
	case 8:
		lose_memory(end);
		break;
	case 9:
		if (netfront_stop(end->nf) || netfront_start(end->nf))
			reconnect(end, true);
		break;
	default:
		end->deaf = true;
	}
}

static void act(struct actor *actor, struct end *end)
{
	unsigned int pair;
	int error;

	if (!end->nf) {
		if (one_in(&actor->random, 4))
			attach(actor, end);
		return;
	}
	pair = random_below(&actor->random, end->nf->pairs);
	error = flood(actor, end, pair);
	if (!error)
		error = take(end, pair);
	if (error >= 0 && one_in(&actor->random, 8))
		error = netfront_wait(end->nf, pair, NETFRONT_WAIT_RX, 2);
	if (end->deaf && one_in(&actor->random, 50))
		end->deaf = false;
	if (error < 0) {
		if (one_in(&actor->random, 2))
			reconnect(end, true);
		else
			detach(end, false);
	} else if (one_in(&actor->random, 40)) {
		misbehave(actor, end);
	}
}

static void *actor_main(void *arg)
{
	struct actor *actor = arg;

	while (!load_acquire(&actor->stop)) {
		if (!load_acquire(actor->pause)) {
			store_release(&actor->resting, false);
			act(actor, &actor->ends[random_below(&actor->random, ENDS)]);
			continue;
		}
		for (unsigned int i = 0; i < ENDS; i++)
			detach(&actor->ends[i], i % 2);
		store_release(&actor->resting, true);
		nap_us(1000);
	}
	return NULL;
}

/* A stream whose every frame is accounted for. */

static int receive_counted(struct counter *counter)
{
	struct netfront_frame frames[32];
	int n = netfront_receive(counter->to, 0, frames, ARRAY_SIZE(frames));

	if (n > 0)
		counter->received += (unsigned int)n;
	return n;
}

static void *counter_main(void *arg)
{
	struct counter *counter = arg;
	uint8_t frame[400];

	testbed_frame(frame, sizeof(frame), 2, 1, 0);
	while (!load_acquire(&counter->stop) && !counter->failed) {
		int error = 0;

		for (unsigned int i = 0; i < 16 && !error; i++) {
			error = netfront_send_frame(counter->from, 0, frame, 60 + (uint32_t)counter->sent % 340);
			counter->sent += !error;
		}
		if (error == -ENOBUFS)
			error = netfront_reclaim(counter->from, 0);
		if (error < 0 || receive_counted(counter) < 0 || netfront_wait(counter->to, 0, NETFRONT_WAIT_RX, 1) < 0)
			counter->failed = __LINE__;
		/* The others shall have most of the processor. */
		nap_us(200);
	}
	return NULL;
}

/* What the controller does. */

static void expect_one_of(int error, int a, int b)
{
	if (error && error != a && error != b)
		print_error("the data plane answers: %s\n", strerror(-error));
	assert_true(error == 0 || error == a || error == b);
}

static void add_port(struct stress *stress, unsigned int i)
{
	const struct dp_port_add options = {
		.pairs = 1 + i % 2,
		.wait_us = one_in(&stress->random, 2) ? 0 : 1000,
	};

	stress->ports[i] = testbed_port(&stress->attack.bed, stress->names[i], &options);
	stress->present[i] = true;
}

static void del_port(struct stress *stress, unsigned int i)
{
	assert_int_equal(datapath_client_port_del(stress->attack.bed.client, stress->ports[i]), 0);
	stress->present[i] = false;
}

static void del_flow(struct stress *stress, unsigned int i)
{
	/* It may have gone with its controller or with a port. */
	expect_one_of(datapath_client_flow_del(stress->attack.bed.client, stress->flows[i]), -ENOENT, 0);
	stress->flows[i] = stress->flows[--stress->flow_count];
}

static void add_flow(struct stress *stress, uint32_t from, const uint8_t *dst, bool to_all)
{
	union {
		struct dp_flow_add add;
		uint8_t bytes[sizeof(struct dp_flow_add) + PORTS * sizeof(struct flow_action)];
	} flow = {.add = {.key.in_port = from, .mask.in_port = UINT32_MAX}};
	struct flow_action *actions = (struct flow_action *)(void *)(flow.bytes + sizeof(flow.add));
	unsigned int first = random_below(&stress->random, PORTS);
	uint64_t id;
	int error;

	for (unsigned int i = 0; i < PORTS && (to_all || !flow.add.action_count); i++) {
		unsigned int to = (first + i) % PORTS;

		if (stress->present[to])
			actions[flow.add.action_count++] = (struct flow_action){.type = FLOW_ACTION_OUTPUT,
										.value = stress->ports[to]};
	}
	memcpy(flow.add.key.eth_dst, dst, sizeof(flow.add.key.eth_dst));
	memset(flow.add.mask.eth_dst, 0xff, sizeof(flow.add.mask.eth_dst));
	if (stress->flow_count == FLOWS)
		del_flow(stress, random_below(&stress->random, FLOWS));
	error = datapath_client_flow_add(stress->attack.bed.client, &flow.add, &id);
	expect_one_of(error, -EEXIST, -ENOENT);
	if (!error)
		stress->flows[stress->flow_count++] = id;
}

static void add_any_flow(struct stress *stress)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	unsigned int from = random_below(&stress->random, PORTS);
	uint8_t mac[6];

	testbed_mac(mac, (uint8_t)(1 + random_below(&stress->random, PORTS)));
	if (stress->present[from])
		add_flow(stress, stress->ports[from], one_in(&stress->random, 4) ? broadcast : mac,
			 one_in(&stress->random, 4));
}

static void handle_events(struct stress *stress)
{
	struct datapath_event event;

	/* Not all: while some are handled others come. */
	for (unsigned int i = 0; i < EVENTS && datapath_client_event(stress->attack.bed.client, &event) == 0; i++) {
		if (event.type == DP_EVENT_UPCALL && !one_in(&stress->random, 4))
			add_flow(stress, event.upcall.key.in_port, event.upcall.key.eth_dst,
				 event.upcall.key.eth_dst[0] & 1);
	}
}

static void change_something(struct stress *stress)
{
	unsigned int port = random_below(&stress->random, PORTS);
	struct testbed *bed = &stress->attack.bed;
	struct stats_port stats;

	switch (random_below(&stress->random, 16)) {
	case 0:
		if (stress->present[port])
			del_port(stress, port);
		break;
	case 1:
	case 2:
		if (!stress->present[port])
			add_port(stress, port);
		break;
	case 3:
		if (one_in(&stress->random, 8)) {
			testbed_close_client(bed);
			testbed_open_client(bed);
		}
		break;
	case 4:
	case 5:
	case 6:
		if (stress->flow_count > 0)
			del_flow(stress, random_below(&stress->random, stress->flow_count));
		break;
	case 7:
		testbed_stats(bed, stress->ports[port], &stats);
		break;
	case 8:
		if (stress->present[port]) {
			uint8_t frame[300];

			testbed_frame(frame, sizeof(frame), 1, 1, port);
			expect_one_of(datapath_client_packet_out(bed->client, DP_PORTS_MAX, &stress->ports[port], 1,
								 frame, sizeof(frame)),
				      -ENOENT, 0);
		}
		break;
	default:
		add_any_flow(stress);
	}
}

/* What the core has. */

struct footprint {
	unsigned int descriptors;
	unsigned int memories; /* mappings of front ends' memory */
	unsigned long pages;   /* resident */
};

static void measure(pid_t pid, struct footprint *is)
{
	char line[512];
	FILE *file;

	memset(is, 0, sizeof(*is));
	is->descriptors = testbed_count_descriptors(pid);
	snprintf(line, sizeof(line), "/proc/%d/maps", (int)pid);
	file = fopen(line, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		is->memories += strstr(line, "/memfd:") != NULL;
	fclose(file);
	snprintf(line, sizeof(line), "/proc/%d/statm", (int)pid);
	file = fopen(line, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*u %lu", &is->pages), 1);
	fclose(file);
}

static void count_port(void *arg, const struct dp_port_info *info)
{
	(void)info;
	++*(unsigned int *)arg;
}

static void expect_as_before(struct stress *stress, const struct footprint *before, const struct footprint *first)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct testbed *bed = &stress->attack.bed;
	struct footprint now;
	unsigned int ports = 0;

	/* A connection that was made and dropped may not have been noticed yet. */
	do {
		measure(bed->core, &now);
		nap_us(1000);
	} while ((now.descriptors != before->descriptors || now.memories != before->memories) &&
		 clock_now_ns() < deadline);
	assert_int_equal(now.descriptors, before->descriptors);
	assert_int_equal(now.memories, before->memories);
	if (!STRESS_SANITIZED && first)
		assert_in_range(now.pages, 0, first->pages + GROWTH_PAGES);
	assert_int_equal(datapath_client_port_dump(bed->client, count_port, &ports), 0);
	assert_int_equal(ports, 4);
}

static void phase(struct stress *stress, uint64_t ns)
{
	uint64_t until = clock_now_ns() + ns;

	for (unsigned int i = 0; i < PORTS; i++)
		add_port(stress, i);
	store_release(&stress->pause, false);
	while (clock_now_ns() < until) {
		change_something(stress);
		stress->changes++;
		handle_events(stress);
		nap_us(random_below(&stress->random, 2000));
	}
	store_release(&stress->pause, true);
	/* Half of the ports go while their front ends are at it. */
	for (unsigned int i = 0; i < PORTS; i += 2) {
		if (stress->present[i])
			del_port(stress, i);
	}
	until = clock_now_ns() + PATIENCE_NS;
	for (unsigned int i = 0; i < THREADS; i++) {
		while (!load_acquire(&stress->actors[i].resting)) {
			assert_true(clock_now_ns() < until);
			nap_us(1000);
		}
	}
	while (stress->flow_count > 0)
		del_flow(stress, stress->flow_count - 1);
	for (unsigned int i = 0; i < PORTS; i++) {
		if (stress->present[i])
			del_port(stress, i);
	}
	attack_expect_others(&stress->attack);
}

static uint64_t sum_drops(const struct stats_port *stats)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < DROP_COUNT; i++)
		sum += stats->drops[i];
	return sum;
}

/* In is out and what was dropped by name; and what came out was received. */
static void expect_sums(struct stress *stress)
{
	struct counter *counter = &stress->counter;
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct stats_port from, to;

	assert_int_equal(counter->failed, 0);
	testbed_wait_in(&stress->attack.bed, stress->attack.evil_port, counter->sent);
	testbed_stats(&stress->attack.bed, stress->attack.evil_port, &from);
	testbed_stats(&stress->attack.bed, stress->attack.peer_port, &to);
	assert_int_equal(to.out_packets + sum_drops(&to) + sum_drops(&from), counter->sent);
	while (counter->received < to.out_packets && clock_now_ns() < deadline)
		assert_true(receive_counted(counter) >= 0);
	assert_int_equal(counter->received, to.out_packets);
	assert_int_equal(netfront_recycle(counter->to, 0), 0);
}

static void start(struct stress *stress)
{
	const struct frame_spec spec = {.version = 4, .proto = IPPROTO_TCP, .payload = LARGE - 54};

	attack_start(&stress->attack, 3, NULL, NULL, NULL);
	stress->random = 5;
	stress->pause = true;
	for (unsigned int i = 0; i < PORTS; i++) {
		struct actor *actor = &stress->actors[i / ENDS];

		snprintf(stress->names[i], sizeof(stress->names[i]), "s%u", i);
		actor->ends[i % ENDS].path = testbed_path(&stress->attack.bed, stress->names[i]);
		actor->ends[i % ENDS].id = (uint8_t)(i + 1);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		struct actor *actor = &stress->actors[i];

		actor->random = 17 + i;
		actor->pause = &stress->pause;
		frame_build(&actor->large, &spec);
		assert_int_equal(pthread_create(&actor->thread, NULL, actor_main, actor), 0);
	}
	stress->counter.from = stress->attack.evil;
	stress->counter.to = stress->attack.peer;
	assert_int_equal(pthread_create(&stress->counter.thread, NULL, counter_main, &stress->counter), 0);
}

static void stop(struct stress *stress)
{
	for (unsigned int i = 0; i < THREADS; i++) {
		store_release(&stress->actors[i].stop, true);
		assert_int_equal(pthread_join(stress->actors[i].thread, NULL), 0);
		print_message("sent %llu frames, attached %llu times\n", (unsigned long long)stress->actors[i].sent,
			      (unsigned long long)stress->actors[i].attached);
		assert_in_range(stress->actors[i].attached, PHASES, UINT64_MAX);
	}
	store_release(&stress->counter.stop, true);
	assert_int_equal(pthread_join(stress->counter.thread, NULL), 0);
	print_message("%u changes\n", stress->changes);
	print_message("counted %llu frames\n", (unsigned long long)stress->counter.sent);
	expect_sums(stress);
	attack_drain(&stress->attack);
	attack_stop(&stress->attack);
}

static void all_at_once(void **state)
{
	static struct stress stress;
	const char *told = getenv("STRESS_SECONDS");
	uint64_t seconds = told ? strtoul(told, NULL, 10) : STRESS_SECONDS;
	struct footprint before, first;

	(void)state;
	start(&stress);
	measure(stress.attack.bed.core, &before);
	for (unsigned int i = 0; i < PHASES; i++) {
		phase(&stress, seconds * NS_PER_S / PHASES);
		expect_as_before(&stress, &before, i > 0 ? &first : NULL);
		if (i == 0)
			measure(stress.attack.bed.core, &first);
	}
	stop(&stress);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
