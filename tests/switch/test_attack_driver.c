/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hostile driver domain, beyond what any front end can do to its rings and memory (the other attacks): reports from
 * who is none, that are none, and far too many. All of it is work for the core's main thread, which must not become
 * busy.
 */
#include "attack.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"

/* What the core grants: core_port.c. */
#define BURST    64u
#define PER_MS   2u
#define STORM_NS (400 * NS_PER_MS)

static const struct netfront_config evil = {
	.features = NETFRONT_FEATURES | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX),
};
static const struct dp_port_add driver_port = {.flags = DP_PORT_DRIVER};

static struct driver_status good_status(void)
{
	return (struct driver_status){
		.version = DRIVER_STATUS_VERSION,
		.link = 1,
		.queues = 1,
		.mtu = 1500,
		.kind = "tap",
		.device = "evil0",
		.mode = "copy",
		.rx_packets = 3,
		.drops = {[DRIVER_DROP_NO_BUFFER] = 9},
	};
}

static int report(struct attack *attack, const struct driver_status *status, uint32_t size)
{
	return netfront_control(attack->evil, DRIVER_CTRL_CLASS, DRIVER_CTRL_STATUS, status, size);
}

static struct stats_driver shared(struct attack *attack)
{
	struct stats_reader reader;
	struct stats_driver entry;

	assert_int_equal(stats_reader_open(&reader, attack->bed.dir), 0);
	assert_int_equal(stats_reader_driver(&reader, attack->evil_port, &entry), 0);
	stats_reader_close(&reader);
	return entry;
}

/* Any guest could claim to be a driver. */
static void from_who_is_none(void **state)
{
	const struct driver_status status = good_status();
	struct dp_port_info info;
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &evil, NULL, NULL);
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(report(&attack, &status, sizeof(status)), -EREMOTEIO);
	testbed_info(&attack.bed, attack.evil_port, &info);
	assert_int_equal(info.driver_seen_ns, 0);
	assert_string_equal(info.driver.device, "");
	assert_int_equal(shared(&attack).seen_ns, 0);
	assert_int_equal(shared(&attack).connected_ns, 0);
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

static void expect_shown(struct attack *attack, uint64_t since)
{
	struct dp_port_info info;
	struct stats_driver entry = shared(attack);
	uint64_t now = clock_now_ns();

	testbed_info(&attack->bed, attack->evil_port, &info);
	assert_true(info.driver_seen_ns >= since && info.driver_seen_ns <= now);
	assert_string_equal(info.driver.device, "evil0");
	assert_int_equal(info.driver.drops[DRIVER_DROP_NO_BUFFER], 9);
	assert_int_equal(entry.seen_ns, info.driver_seen_ns);
	assert_true(entry.connected_ns > 0 && entry.connected_ns <= entry.seen_ns);
	assert_string_equal(entry.kind, "tap");
	assert_string_equal(entry.device, "evil0");
	assert_int_equal(entry.link, 1);
	assert_int_equal(entry.mtu, 1500);
	assert_int_equal(entry.rx_packets, 3);
	assert_int_equal(entry.drops[DRIVER_DROP_NO_BUFFER], 9);
}

/* What is refused changes nothing of what was said before. */
static void that_are_none(void **state)
{
	struct driver_status status = good_status();
	uint64_t since = clock_now_ns();
	struct stats_driver entry;
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &evil, NULL, &driver_port);
	assert_int_equal(report(&attack, &status, sizeof(status)), 0);
	expect_shown(&attack, since);
	status.link = 7;
	assert_int_equal(report(&attack, &status, sizeof(status)), -EREMOTEIO);
	status = good_status();
	memset(status.device, 'x', sizeof(status.device));
	assert_int_equal(report(&attack, &status, sizeof(status)), -EREMOTEIO);
	status = good_status();
	strcpy(status.mode, "\x1b[2J");
	assert_int_equal(report(&attack, &status, sizeof(status)), -EREMOTEIO);
	status = good_status();
	assert_int_equal(report(&attack, &status, sizeof(status) - 1), -EREMOTEIO);
	expect_shown(&attack, since);
	assert_int_equal(shared(&attack).reports, 1);
	/* It is kept while nobody is connected, and who comes next is another one. */
	netfront_close(attack.evil);
	attack.evil = testbed_attach(&attack.bed, "evil", &evil);
	testbed_wait_state(&attack.bed, attack.evil_port, DP_PORT_UP);
	entry = shared(&attack);
	assert_string_equal(entry.device, "evil0");
	assert_true(entry.connected_ns > entry.seen_ns);
	assert_int_equal(entry.reports, 0);
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

/* Nanoseconds that the core's main thread has run for. */
static uint64_t main_thread_ns(const struct attack *attack)
{
	char path[64];
	unsigned long long ns = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", attack->bed.core, attack->bed.core);
	file = fopen(path, "r");
	if (!file)
		return 0;
	if (fscanf(file, "%llu", &ns) != 1)
		ns = 0;
	fclose(file);
	return ns;
}

/* As fast as they are answered. */
static void too_many(void **state)
{
	struct driver_status status = good_status();
	uint64_t begin, elapsed_ms, sent = 0;
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &evil, NULL, &driver_port);
	begin = clock_now_ns();
	while (clock_now_ns() - begin < STORM_NS) {
		status.rx_packets = ++sent;
		assert_int_equal(report(&attack, &status, sizeof(status)), 0);
	}
	elapsed_ms = (clock_now_ns() - begin) / NS_PER_MS;
	/* Each of them cost a kick and a command. */
	assert_true(shared(&attack).reports == sent);
	assert_in_range(sent, BURST / 2, (BURST + PER_MS * (elapsed_ms + 1)) / 2 + 1);
	/* None was lost for that, and the others had no part in it. */
	assert_int_equal(shared(&attack).rx_packets, sent);
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

/* Kicks without a command; and the next command is answered all the same. */
static void kicks_for_nothing(void **state)
{
	const struct driver_status status = good_status();
	uint64_t begin, used;
	struct attack attack;

	(void)state;
	attack_start(&attack, 1, &evil, NULL, &driver_port);
	begin = clock_now_ns();
	used = main_thread_ns(&attack);
	while (clock_now_ns() - begin < STORM_NS)
		netfront_kick(attack.evil->control);
	used = main_thread_ns(&attack) - used;
	assert_true(used < STORM_NS / 4);
	attack_expect_others(&attack);
	assert_int_equal(report(&attack, &status, sizeof(status)), 0);
	attack_expect_traffic(&attack);
	attack_stop(&attack);
}

/* A port whose driver is none is no place for one. */
static void ports_that_cannot_be(void **state)
{
	struct dp_port_add config = {
		.name = "x", .mode = DP_PORT_CLIENT, .pairs = 1, .notify_packets = 1, .flags = DP_PORT_DRIVER};
	struct testbed bed;
	uint32_t index;

	(void)state;
	testbed_start(&bed, 1);
	config.features_off = VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ);
	assert_int_equal(datapath_client_port_add(bed.client, &config, -1, &index), -EINVAL);
	config.features_off = 0;
	config.flags = 1u << 31;
	assert_int_equal(datapath_client_port_add(bed.client, &config, -1, &index), -EINVAL);
	config.flags = DP_PORT_DRIVER;
	assert_int_equal(datapath_client_port_add(bed.client, &config, -1, &index), 0);
	testbed_stop(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(from_who_is_none),  cmocka_unit_test(that_are_none),        cmocka_unit_test(too_many),
		cmocka_unit_test(kicks_for_nothing), cmocka_unit_test(ports_that_cannot_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
