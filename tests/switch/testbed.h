/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole data plane to test against: the core as a process of its own in a directory of its own, the controller's
 * end of its channel, and front ends on its ports. Everything is real but the control plane: tests set the flows.
 *
 * The environment's TESTBED_RINGS says over which rings: split ones (also if it says nothing), packed, or mixed, when
 * every second front end has packed ones.
 *
 * Used by one thread. What cannot be set up fails the test at once; testbed_stop() fails it if the core did not end
 * cleanly, so that a sanitizer's finding in there is one of the test.
 */
#ifndef TESTS_SWITCH_TESTBED_H
#define TESTS_SWITCH_TESTBED_H

#include "../unit/unit.h"

#include <sys/types.h>

#include "lib/clock.h"
#include "proto/datapath_client.h"
#include "proto/stats_reader.h"
#include "vhost/netfront.h"

#define TESTBED_NAMES_MAX 128

/*
 * For what must come but has no set time. A virtual machine that tests run on may stand still for 20 s, and a
 * sanitizer's program beside others may have a tenth of a CPU.
 */
#define PATIENCE_NS (120 * NS_PER_S)

struct testbed {
	char dir[64];
	pid_t core;
	unsigned int workers;
	uint64_t linger_ns;
	int observer;          /* the core's end of a socket, 0: none */
	unsigned int attached; /* front ends, ever */
	unsigned int name_count;
	char paths[TESTBED_NAMES_MAX][DP_PATH_SIZE]; /* that front ends were given: they keep pointers */
	struct datapath_client *client;
	struct dp_hello hello;
};

void testbed_start(struct testbed *bed, unsigned int workers);
/* With a socket whose other end plays the observer (proto/observer_map.h); it stays the caller's. */
void testbed_start_observed(struct testbed *bed, unsigned int workers, int observer);
/* ... and workers that look for more for so long before they sleep. */
void testbed_start_lingering(struct testbed *bed, unsigned int workers, int observer, uint64_t linger_ns);
void testbed_stop(struct testbed *bed);

/* kill -9 of the core, and a new one in the same directory: it has no ports and no flows. */
void testbed_kill(struct testbed *bed);
void testbed_restart(struct testbed *bed);

/* The controller goes, and a new one comes: the core stays. */
void testbed_close_client(struct testbed *bed);
void testbed_open_client(struct testbed *bed);

/* What the environment adds to the features of the next front end. */
uint64_t testbed_rings(struct testbed *bed);

/* Adds a server port with config's options (NULL: all default); its socket is dir/name.sock. Returns its index. */
uint32_t testbed_port(struct testbed *bed, const char *name, const struct dp_port_add *options);

/* Attaches a front end to the port; config's path is set here. NULL: all default. */
struct netfront *testbed_attach(struct testbed *bed, const char *name, const struct netfront_config *config);
const char *testbed_path(struct testbed *bed, const char *name); /* of a port's socket; as long as bed */

/* A flow by L2: from port, any source, destination mac, to the ports listed. Returns its id. */
uint64_t testbed_flow(struct testbed *bed, uint32_t from, const uint8_t dst[6], const uint32_t *to, uint32_t count);
/* Everything from one port goes to another. */
uint64_t testbed_wire(struct testbed *bed, uint32_t from, uint32_t to);

void testbed_info(struct testbed *bed, uint32_t port, struct dp_port_info *info);
/* Waits (bounded) until the port is in this state. */
void testbed_wait_state(struct testbed *bed, uint32_t port, enum dp_port_state state);
/* Waits (bounded) until the port has had so many faults; then its last one must have this name. */
void testbed_wait_fault(struct testbed *bed, uint32_t port, uint64_t faults, const char *name);

/* Waits (bounded) until the counters say that so many packets came in from the port: they lag behind the packets. */
void testbed_wait_in(struct testbed *bed, uint32_t port, uint64_t packets);
/* The same, until so many were dropped for this reason. */
void testbed_wait_drops(struct testbed *bed, uint32_t port, enum drop_reason reason, uint64_t packets);
/* Sums over the workers, at this moment. */
void testbed_stats(struct testbed *bed, uint32_t port, struct stats_port *sum);
void testbed_totals(struct testbed *bed, struct stats_worker *sum);

/* An Ethernet frame of this size: addresses from the ids, a type nobody knows, a pattern from seed. */
void testbed_frame(uint8_t *frame, uint32_t size, uint8_t dst_id, uint8_t src_id, uint32_t seed);
void testbed_mac(uint8_t mac[6], uint8_t id);

/* Receives one frame into buf, waiting for it (bounded); returns its size, 0 if none came. */
uint32_t testbed_receive(struct netfront *nf, unsigned int pair, struct virtio_net_hdr_mrg_rxbuf *header, void *buf,
			 uint32_t size);
/* Sends size bytes of a pattern each way and expects them there. */
void testbed_expect_traffic(struct netfront *a, struct netfront *b, uint32_t size);

/* Descriptors that a process has open, at this moment. */
unsigned int testbed_count_descriptors(pid_t pid);

#endif
