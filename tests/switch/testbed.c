/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The core runs in a forked child, from the same code as lasthop-core's main but without its sandbox, which the
 * sanitizers and an unprivileged build machine would not stand. Waiting is by state, with a generous bound that
 * only a failing test reaches.
 */
#include "testbed.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "core/core.h"
#include "lib/clock.h"
#include "lib/fdpass.h"
#include "lib/log.h"

#define ETH_TYPE_TEST 0x88b5 /* for experiments */

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

struct stopper {
	struct loop_signals signals;
	struct core core;
};

static void on_signal(struct loop_signals *signals, int signo)
{
	(void)signo;
	loop_stop(&container_of(signals, struct stopper, signals)->core.loop);
}

/* What a switch has if nobody says otherwise. */
#define LINGER_NS 20000

static int run_core(const struct testbed *bed)
{
	static struct stopper stopper = {.signals.caught = on_signal};
	struct core_config config = {
		.dir = bed->dir,
		.workers = bed->workers,
		.linger_ns = bed->linger_ns,
		.state_batching = true,
		.preemptive_copy = true,
		.offload = true,
		.pinned = true,
		.flows_max = 1 << 17,
		.observer_fd = bed->observer > 0 ? bed->observer : -1,
	};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	log_init("core", getenv("TESTBED_VERBOSE") ? LOG_DEBUG : LOG_ERROR);
	if (core_open(&stopper.core, &config) ||
	    loop_signals_add(&stopper.core.loop, &stopper.signals, (int[]){SIGTERM, 0}) || core_start(&stopper.core) ||
	    core_run(&stopper.core))
		return 1;
	core_close(&stopper.core);
	return 0;
}

static void fork_core(struct testbed *bed)
{
	bed->core = fork();
	assert_true(bed->core >= 0);
	if (bed->core == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		exit(run_core(bed));
	}
}

void testbed_open_client(struct testbed *bed)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	char path[128];
	int error;

	snprintf(path, sizeof(path), "%s/%s", bed->dir, DP_SOCKET_NAME);
	while ((error = datapath_client_open(&bed->client, path, &bed->hello)) && clock_now_ns() < deadline)
		nap();
	assert_int_equal(error, 0);
}

void testbed_close_client(struct testbed *bed)
{
	datapath_client_close(bed->client);
	bed->client = NULL;
}

void testbed_start(struct testbed *bed, unsigned int workers)
{
	testbed_start_observed(bed, workers, 0);
}

void testbed_start_observed(struct testbed *bed, unsigned int workers, int observer)
{
	testbed_start_lingering(bed, workers, observer, LINGER_NS);
}

void testbed_start_lingering(struct testbed *bed, unsigned int workers, int observer, uint64_t linger_ns)
{
	memset(bed, 0, sizeof(*bed));
	bed->linger_ns = linger_ns;
	assert_non_null(unit_temporary_dir(bed->dir));
	bed->workers = workers;
	bed->observer = observer;
	fork_core(bed);
	testbed_open_client(bed);
}

void testbed_kill(struct testbed *bed)
{
	int status;

	testbed_close_client(bed);
	kill(bed->core, SIGKILL);
	assert_int_equal(waitpid(bed->core, &status, 0), bed->core);
	assert_true(WIFSIGNALED(status));
}

void testbed_restart(struct testbed *bed)
{
	fork_core(bed);
	testbed_open_client(bed);
}

void testbed_stop(struct testbed *bed)
{
	char command[128];
	int status = 0;

	testbed_close_client(bed);
	kill(bed->core, SIGTERM);
	assert_int_equal(waitpid(bed->core, &status, 0), bed->core);
	snprintf(command, sizeof(command), "rm -rf '%s'", bed->dir);
	assert_int_equal(system(command), 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

const char *testbed_path(struct testbed *bed, const char *name)
{
	char path[DP_PATH_SIZE];
	unsigned int i = 0;

	assert_true(snprintf(path, sizeof(path), "%s/%s.sock", bed->dir, name) < (int)sizeof(path));
	while (i < bed->name_count && strcmp(bed->paths[i], path) != 0)
		i++;
	if (i == bed->name_count) {
		assert_true(i < TESTBED_NAMES_MAX);
		memcpy(bed->paths[bed->name_count++], path, sizeof(path));
	}
	return bed->paths[i];
}

uint32_t testbed_port(struct testbed *bed, const char *name, const struct dp_port_add *options)
{
	struct dp_port_add config = options ? *options : (struct dp_port_add){0};
	int listener = fdpass_listen(testbed_path(bed, name), SOCK_STREAM, 4, 0600);
	uint32_t port;

	assert_true(listener >= 0);
	strncpy(config.name, name, sizeof(config.name) - 1);
	strncpy(config.path, testbed_path(bed, name), sizeof(config.path) - 1);
	if (config.pairs == 0)
		config.pairs = 1;
	assert_int_equal(datapath_client_port_add(bed->client, &config, listener, &port), 0);
	close(listener);
	return port;
}

uint64_t testbed_rings(struct testbed *bed)
{
	const char *rings = getenv("TESTBED_RINGS");
	bool odd = bed->attached++ % 2;

	if (!rings || !strcmp(rings, "split"))
		return 0;
	assert_true(!strcmp(rings, "packed") || !strcmp(rings, "mixed"));
	return odd || !strcmp(rings, "packed") ? NETFRONT_FEATURES_PACKED : 0;
}

struct netfront *testbed_attach(struct testbed *bed, const char *name, const struct netfront_config *config)
{
	struct netfront_config own = config ? *config : (struct netfront_config){0};
	uint64_t rings = testbed_rings(bed);
	struct netfront *nf = NULL;
	const char *step = "?";
	int error;

	own.path = testbed_path(bed, name);
	own.features = (own.features ? own.features : NETFRONT_FEATURES) | rings;
	own.required |= rings;
	error = netfront_open(&nf, &own, &step);
	if (error)
		print_error("attaching to %s: %s: %s\n", name, step, strerror(-error));
	assert_int_equal(error, 0);
	return nf;
}

uint64_t testbed_flow(struct testbed *bed, uint32_t from, const uint8_t dst[6], const uint32_t *to, uint32_t count)
{
	union {
		struct dp_flow_add add;
		uint8_t bytes[sizeof(struct dp_flow_add) + 64 * sizeof(struct flow_action)];
	} flow = {.add = {.action_count = count}};
	struct flow_action *actions = (struct flow_action *)(void *)(flow.bytes + sizeof(flow.add));
	uint64_t id;

	assert_true(count <= 64);
	flow.add.key.in_port = from;
	flow.add.mask.in_port = UINT32_MAX;
	if (dst) {
		memcpy(flow.add.key.eth_dst, dst, 6);
		memset(flow.add.mask.eth_dst, 0xff, 6);
	}
	for (uint32_t i = 0; i < count; i++)
		actions[i] = (struct flow_action){.type = FLOW_ACTION_OUTPUT, .value = to[i]};
	assert_int_equal(datapath_client_flow_add(bed->client, &flow.add, &id), 0);
	return id;
}

uint64_t testbed_wire(struct testbed *bed, uint32_t from, uint32_t to)
{
	return testbed_flow(bed, from, NULL, &to, 1);
}

struct info_search {
	uint32_t port;
	bool found;
	struct dp_port_info *info;
};

static void compare_info(void *arg, const struct dp_port_info *info)
{
	struct info_search *search = arg;

	if (info->port != search->port)
		return;
	*search->info = *info;
	search->found = true;
}

void testbed_info(struct testbed *bed, uint32_t port, struct dp_port_info *info)
{
	struct info_search search = {.port = port, .info = info};
	struct datapath_event event;

	assert_int_equal(datapath_client_port_dump(bed->client, compare_info, &search), 0);
	assert_true(search.found);
	while (datapath_client_event(bed->client, &event) == 0)
		;
}

void testbed_wait_state(struct testbed *bed, uint32_t port, enum dp_port_state state)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct dp_port_info info;

	do {
		testbed_info(bed, port, &info);
		if (info.state == state)
			return;
		nap();
	} while (clock_now_ns() < deadline);
	assert_int_equal(info.state, state);
}

void testbed_wait_fault(struct testbed *bed, uint32_t port, uint64_t faults, const char *name)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct dp_port_info info;

	do {
		testbed_info(bed, port, &info);
		if (info.faults >= faults)
			break;
		nap();
	} while (clock_now_ns() < deadline);
	assert_string_equal(info.fault, name);
	assert_int_equal(info.faults, faults);
}

void testbed_wait_in(struct testbed *bed, uint32_t port, uint64_t packets)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct stats_port sum;

	do {
		testbed_stats(bed, port, &sum);
		if (sum.in_packets >= packets)
			break;
		nap();
	} while (clock_now_ns() < deadline);
	assert_int_equal(sum.in_packets, packets);
}

void testbed_wait_drops(struct testbed *bed, uint32_t port, enum drop_reason reason, uint64_t packets)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct stats_port sum;

	do {
		testbed_stats(bed, port, &sum);
		if (sum.drops[reason] >= packets)
			break;
		nap();
	} while (clock_now_ns() < deadline);
	assert_int_equal(sum.drops[reason], packets);
}

void testbed_stats(struct testbed *bed, uint32_t port, struct stats_port *sum)
{
	struct stats_reader reader;

	assert_int_equal(stats_reader_open(&reader, bed->dir), 0);
	stats_reader_port(&reader, port, sum);
	stats_reader_close(&reader);
}

void testbed_totals(struct testbed *bed, struct stats_worker *sum)
{
	struct stats_reader reader;

	assert_int_equal(stats_reader_open(&reader, bed->dir), 0);
	stats_reader_total(&reader, sum);
	stats_reader_close(&reader);
}

void testbed_mac(uint8_t mac[6], uint8_t id)
{
	const uint8_t own[6] = {0x02, 0x1a, 0x57, 0x40, 0x90, id};

	memcpy(mac, own, 6);
}

void testbed_frame(uint8_t *frame, uint32_t size, uint8_t dst_id, uint8_t src_id, uint32_t seed)
{
	testbed_mac(frame, dst_id);
	testbed_mac(frame + 6, src_id);
	frame[12] = ETH_TYPE_TEST >> 8;
	frame[13] = ETH_TYPE_TEST & 0xff;
	for (uint32_t i = 14; i < size; i++)
		frame[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

uint32_t testbed_receive(struct netfront *nf, unsigned int pair, struct virtio_net_hdr_mrg_rxbuf *header, void *buf,
			 uint32_t size)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct netfront_frame frame;

	do {
		int n = netfront_receive(nf, pair, &frame, 1);

		assert_true(n >= 0);
		if (n == 1) {
			uint32_t copied = netfront_frame_copy(&frame, 0, buf, size);

			if (header)
				*header = frame.header;
			assert_int_equal(copied, frame.size);
			assert_true(netfront_recycle(nf, pair) >= 0);
			return copied;
		}
		assert_true(netfront_wait(nf, pair, NETFRONT_WAIT_RX, 100) >= 0);
	} while (clock_now_ns() < deadline);
	return 0;
}

static void expect_one(struct netfront *from, struct netfront *to, uint32_t size, uint32_t seed)
{
	uint8_t sent[9216], received[9216];

	assert_true(size <= sizeof(sent));
	testbed_frame(sent, size, 2, 1, seed);
	assert_int_equal(netfront_send_frame(from, 0, sent, size), 0);
	assert_int_equal(testbed_receive(to, 0, NULL, received, sizeof(received)), size);
	assert_memory_equal(sent, received, size);
}

void testbed_expect_traffic(struct netfront *a, struct netfront *b, uint32_t size)
{
	expect_one(a, b, size, size);
	expect_one(b, a, size, size + 1);
}

unsigned int testbed_count_descriptors(pid_t pid)
{
	unsigned int count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}
