/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_turn: what one turn of the forwarding loop costs, without guests, sockets or a second core.
 *
 * Two ports over one block of memory; this program plays both guests between turns, outside of what is measured.
 * The minimum over many turns is the cost in a warm cache, the part of a packet's cost that is ours to shorten.
 * Under callgrind (--toggle-collect=forward_turn --toggle-collect=notice_give_all) the instructions a packet are exact
 * and repeatable.
 *
 * With FLOWS, packets belong to so many pairs of addresses in turn, in random order: each pair a flow of the table's,
 * or with "stages" a flow for each source and each destination, as the control plane does it.
 *
 * A turn is of BATCH packets, 32 unless told: of a single one it shows what a round trip waits for.
 *
 *	bench_turn [SIZE [TURNS [FLOWS [pairs|stages [BATCH]]]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/forward.h"
#include "lib/clock.h"

#define RING   256
#define STRIDE 2112
#define HEADER VIRTIO_NET_HDR_LEN

#define DESTINATION 0x22
#define SOURCE      0x44

struct guest {
	struct vring_split ring;
	uint8_t *buffers;
};

static uint8_t *memory;
static size_t memory_used;

static void *take(size_t size)
{
	void *block = memory + memory_used;

	memory_used += align_up(size, CACHE_LINE);
	return block;
}

static void make_guest(struct guest *guest, uint16_t flags, uint32_t length)
{
	guest->ring = (struct vring_split){
		.desc = take(vring_desc_bytes(RING)),
		.avail = take(vring_avail_bytes(RING)),
		.used = take(vring_used_bytes(RING)),
		.size = RING,
		.mask = RING - 1,
	};
	guest->buffers = take(RING * STRIDE);
	for (uint16_t i = 0; i < RING; i++) {
		guest->ring.desc[i] = (struct vring_desc){
			.addr = (uint64_t)(guest->buffers + i * STRIDE - memory), .len = length, .flags = flags};
		guest->ring.avail->ring[i] = i;
	}
	guest->ring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
}

/* Station n of a side; flow f is a pair of them. */
static void set_station(uint8_t mac[6], uint8_t side, uint32_t n)
{
	memset(mac, side, 6);
	mac[4] = (uint8_t)(n >> 8);
	mac[5] = (uint8_t)n;
}

static int add_flow(struct flow_table *table, const uint8_t *dst, const uint8_t *src, uint8_t stage,
		    const struct flow_action *action)
{
	struct flow_key key = {.in_port = 0, .stage = stage}, mask = {.in_port = UINT32_MAX, .stage = UINT8_MAX};
	uint64_t id;

	if (dst) {
		memcpy(key.eth_dst, dst, 6);
		memset(mask.eth_dst, 0xff, 6);
	}
	if (src) {
		memcpy(key.eth_src, src, 6);
		memset(mask.eth_src, 0xff, 6);
	}
	return flow_table_add(table, &key, &mask, action, 1, 0, &id);
}

static int add_flows(struct flow_table *table, uint32_t flows, uint32_t stations, bool stages)
{
	const struct flow_action output = {.type = FLOW_ACTION_OUTPUT, .value = 1};
	const struct flow_action on = {.type = FLOW_ACTION_STAGE, .value = FLOW_STAGE_SECOND};
	uint8_t dst[6], src[6];
	int error = 0;

	for (uint32_t i = 0; i < stations && stages && !error; i++) {
		set_station(src, SOURCE, i);
		set_station(dst, DESTINATION, i);
		error = add_flow(table, NULL, src, FLOW_STAGE_FIRST, &on);
		if (!error)
			error = add_flow(table, dst, NULL, FLOW_STAGE_SECOND, &output);
	}
	for (uint32_t i = 0; i < flows && !stages && !error; i++) {
		set_station(src, SOURCE, i % stations);
		set_station(dst, DESTINATION, i / stations);
		error = add_flow(table, dst, src, FLOW_STAGE_FIRST, &output);
	}
	return error;
}

int main(int argc, char **argv)
{
	uint32_t size = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 64;
	unsigned long turns = argc > 2 ? strtoul(argv[2], NULL, 10) : 200000;
	uint32_t flows = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1, stations = 1, flow = 0;
	const bool stages = argc > 4 && strcmp(argv[4], "stages") == 0;
	const uint32_t batch = argc > 5 ? (uint32_t)strtoul(argv[5], NULL, 10) : TXQ_BATCH;
	const uint64_t features = VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	const size_t memory_size = 64U << 20;
	static struct guest_memory guest_memory;
	struct datapath dp = {.event_fd = -1};
	uint64_t best = UINT64_MAX, sum = 0;
	struct stats_port *stats;
	struct stats_worker *worker;
	struct forwarder *fwd;
	struct guest tx, rx;

	memory = aligned_alloc(4096, memory_size);
	stats = aligned_alloc(CACHE_LINE, sizeof(*stats) * FLOW_PORTS_MAX);
	worker = aligned_alloc(CACHE_LINE, sizeof(*worker));
	while (stations * stations < flows)
		stations++;
	dp.flows = flow_table_create(1, flows + 2 * stations);
	dp.ports[0] = port_create(0, FORWARD_FULL_WAIT_NS);
	dp.ports[1] = port_create(1, FORWARD_FULL_WAIT_NS);
	if (!memory || !stats || !worker || !dp.flows || !dp.ports[0] || !dp.ports[1] || size < 60 || size > 2000 ||
	    batch == 0 || batch > TXQ_BATCH)
		return 1;
	memset(memory, 0, memory_size);
	memset(stats, 0, sizeof(*stats) * FLOW_PORTS_MAX);
	memset(worker, 0, sizeof(*worker));
	guest_memory.count = 1;
	guest_memory.regions[0] = (struct guest_region){.size = memory_size, .host = memory};
	fwd = forwarder_create(&dp, 0, stats, worker);
	rcu_register_thread();
	if (!fwd || add_flows(dp.flows, flows, stations, stages))
		return 1;
	flow_table_reclaim(dp.flows);
	make_guest(&tx, 0, size + HEADER);
	make_guest(&rx, VRING_DESC_F_WRITE, STRIDE - 64);
	for (unsigned int i = 0; i < RING; i++) {
		uint8_t *frame = tx.buffers + i * STRIDE + HEADER;

		set_station(frame, DESTINATION, 0);
		set_station(frame + 6, SOURCE, 0);
		frame[12] = 0x08;
	}
	for (uint32_t i = 0; i < 2; i++)
		dp.ports[i]->memory = &guest_memory;
	if (txq_start(&dp.ports[0]->txq[0], &tx.ring, &guest_memory, features, 0, -1))
		return 1;
	rxq_start(&dp.ports[1]->rxq[0], &rx.ring, &guest_memory, features, 0, -1);
	dp.ports[1]->pairs_running = 1;

	for (unsigned long turn = 0; turn < turns; turn++) {
		uint64_t start;

		for (unsigned int i = 0; i < batch && flows > 1; i++) {
			uint8_t *frame = tx.buffers + (tx.ring.avail->idx + i) % RING * STRIDE + HEADER;

			/* A full period, so that each comes as often as the others. */
			flow = (uint32_t)(((uint64_t)flow + 611953) % flows);
			set_station(frame, DESTINATION, flow / stations);
			set_station(frame + 6, SOURCE, flow % stations);
		}
		tx.ring.avail->idx = (uint16_t)(tx.ring.avail->idx + batch);
		rx.ring.avail->idx = (uint16_t)(tx.ring.avail->idx + batch);
		start = clock_now_ns();
		if (forward_turn(fwd, &dp.ports[0]->txq[0]) != batch) {
			fprintf(stderr, "turn %lu: not all packets went\n", turn);
			return 1;
		}
		notice_give_all(fwd);
		start = clock_now_ns() - start;
		sum += start;
		if (start < best)
			best = start;
		rcu_quiescent_state();
	}
	printf("%u bytes: %.2f ns a packet at best, %.2f on average\n", size, (double)best / batch,
	       (double)sum / (double)turns / batch);
	rcu_unregister_thread();
	return 0;
}
