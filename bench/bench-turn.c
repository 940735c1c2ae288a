/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_turn: what one turn of the forwarding loop costs, without guests, sockets or a second core.
 *
 * Two ports over one block of memory; this program plays both guests between turns, outside of what is measured.
 * The minimum over many turns is the cost in a warm cache, the part of a packet's cost that is ours to shorten.
 * Under callgrind (--toggle-collect=forward_turn --toggle-collect=notice_give_all) the instructions a packet are exact and repeatable.
 *
 *	bench_turn [SIZE [TURNS [SENDER_BUFFERS_TOUCHED]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/forward.h"
#include "lib/clock.h"

#define RING   256
#define STRIDE 2112
#define HEADER VIRTIO_NET_HDR_LEN

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

int main(int argc, char **argv)
{
	uint32_t size = argc > 1 ? (uint32_t)atoi(argv[1]) : 64;
	unsigned long turns = argc > 2 ? strtoul(argv[2], NULL, 10) : 200000;
	const uint64_t features = VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	const size_t memory_size = 64U << 20;
	struct flow_key key = {.in_port = 0}, mask = {.in_port = UINT32_MAX};
	struct flow_action action = {.type = FLOW_ACTION_OUTPUT, .value = 1};
	static struct guest_memory guest_memory;
	struct datapath dp = {.event_fd = -1};
	uint64_t best = UINT64_MAX, sum = 0, id;
	struct stats_port *stats;
	struct stats_worker *worker;
	struct forwarder *fwd;
	struct guest tx, rx;

	memory = aligned_alloc(4096, memory_size);
	stats = aligned_alloc(CACHE_LINE, sizeof(*stats) * FLOW_PORTS_MAX);
	worker = aligned_alloc(CACHE_LINE, sizeof(*worker));
	dp.flows = flow_table_create(1, 1024);
	dp.ports[0] = port_create(0, FORWARD_FULL_WAIT_NS);
	dp.ports[1] = port_create(1, FORWARD_FULL_WAIT_NS);
	if (!memory || !stats || !worker || !dp.flows || !dp.ports[0] || !dp.ports[1] || size < 60 || size > 2000)
		return 1;
	memset(memory, 0, memory_size);
	memset(stats, 0, sizeof(*stats) * FLOW_PORTS_MAX);
	memset(worker, 0, sizeof(*worker));
	guest_memory.count = 1;
	guest_memory.regions[0] = (struct guest_region){.size = memory_size, .host = memory};
	fwd = forwarder_create(&dp, 0, stats, worker);
	memset(mask.eth_dst, 0xff, sizeof(mask.eth_dst));
	memset(mask.eth_src, 0xff, sizeof(mask.eth_src));
	memset(key.eth_dst, 0x22, sizeof(key.eth_dst));
	memset(key.eth_src, 0x44, sizeof(key.eth_src));
	if (!fwd || flow_table_add(dp.flows, &key, &mask, &action, 1, 0, &id))
		return 1;
	rcu_register_thread();
	make_guest(&tx, 0, size + HEADER);
	make_guest(&rx, VRING_DESC_F_WRITE, STRIDE - 64);
	for (unsigned int i = 0; i < RING; i++) {
		uint8_t *frame = tx.buffers + i * STRIDE + HEADER;

		memset(frame, 0x22, 6);
		memset(frame + 6, 0x44, 6);
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

		tx.ring.avail->idx = (uint16_t)(tx.ring.avail->idx + TXQ_BATCH);
		rx.ring.avail->idx = (uint16_t)(tx.ring.avail->idx + TXQ_BATCH);
		start = clock_now_ns();
		if (forward_turn(fwd, &dp.ports[0]->txq[0]) != TXQ_BATCH) {
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
	printf("%u bytes: %.2f ns a packet at best, %.2f on average\n", size, (double)best / TXQ_BATCH,
	       (double)sum / (double)turns / TXQ_BATCH);
	rcu_unregister_thread();
	return 0;
}
