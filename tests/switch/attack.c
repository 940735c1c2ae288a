/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The healthy ports' thread sends a frame, receives it at the other side and compares it, over and over. It reports by
 * atomic variables, because a failed assertion would leave the wrong thread.
 */
#include "attack.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"

#define HEALTHY_FRAME 900u

static void nap(long us)
{
	nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

/* One frame from one healthy port to the other. Returns the line of what is wrong, or 0. */
static uint32_t exchange(struct netfront *from, struct netfront *to, uint32_t seed)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	uint8_t sent[HEALTHY_FRAME], received[HEALTHY_FRAME];
	struct netfront_frame frame;

	testbed_frame(sent, sizeof(sent), 2, 1, seed);
	if (netfront_send_frame(from, 0, sent, sizeof(sent)))
		return __LINE__;
	for (;;) {
		int n = netfront_receive(to, 0, &frame, 1);

		if (n == 1)
			break;
		if (n < 0 || clock_now_ns() > deadline || netfront_wait(to, 0, NETFRONT_WAIT_RX, 100) < 0)
			return __LINE__;
	}
	if (frame.size != sizeof(sent) || netfront_frame_copy(&frame, 0, received, sizeof(received)) != sizeof(sent) ||
	    memcmp(sent, received, sizeof(sent)) != 0)
		return __LINE__;
	return netfront_recycle(to, 0) < 0 ? __LINE__ : 0;
}

static void *healthy_main(void *arg)
{
	struct attack *attack = arg;

	for (uint32_t round = 1; !load_acquire(&attack->stop); round++) {
		uint32_t failed = exchange(attack->healthy[round % 2], attack->healthy[1 - round % 2], round);

		if (failed) {
			store_release(&attack->failed, failed);
			break;
		}
		store_release(&attack->rounds, round);
		/* The attacker shall have most of the processor. */
		nap(200);
	}
	return NULL;
}

void attack_start(struct attack *attack, unsigned int workers, const struct netfront_config *evil,
		  const struct netfront_config *peer, const struct dp_port_add *options)
{
	struct testbed *bed = &attack->bed;

	memset(attack, 0, sizeof(*attack));
	testbed_start(bed, workers);
	attack->healthy_ports[0] = testbed_port(bed, "healthy0", NULL);
	attack->healthy_ports[1] = testbed_port(bed, "healthy1", NULL);
	attack->evil_port = testbed_port(bed, "evil", options);
	attack->peer_port = testbed_port(bed, "peer", options);
	attack->healthy[0] = testbed_attach(bed, "healthy0", NULL);
	attack->healthy[1] = testbed_attach(bed, "healthy1", NULL);
	attack->evil = testbed_attach(bed, "evil", evil);
	attack->peer = testbed_attach(bed, "peer", peer);
	testbed_wire(bed, attack->healthy_ports[0], attack->healthy_ports[1]);
	testbed_wire(bed, attack->healthy_ports[1], attack->healthy_ports[0]);
	attack->flows[0] = testbed_wire(bed, attack->evil_port, attack->peer_port);
	attack->flows[1] = testbed_wire(bed, attack->peer_port, attack->evil_port);
	for (unsigned int i = 0; i < 2; i++)
		testbed_wait_state(bed, attack->healthy_ports[i], DP_PORT_UP);
	testbed_wait_state(bed, attack->evil_port, DP_PORT_UP);
	testbed_wait_state(bed, attack->peer_port, DP_PORT_UP);
	assert_int_equal(pthread_create(&attack->thread, NULL, healthy_main, attack), 0);
}

void attack_stop(struct attack *attack)
{
	attack_expect_others(attack);
	store_release(&attack->stop, true);
	assert_int_equal(pthread_join(attack->thread, NULL), 0);
	assert_int_equal(load_acquire(&attack->failed), 0);
	for (unsigned int i = 0; i < 2; i++) {
		struct dp_port_info info;
		struct stats_port stats;

		testbed_info(&attack->bed, attack->healthy_ports[i], &info);
		assert_int_equal(info.faults, 0);
		assert_int_equal(info.state, DP_PORT_UP);
		testbed_stats(&attack->bed, attack->healthy_ports[i], &stats);
		for (unsigned int reason = 0; reason < DROP_COUNT; reason++)
			assert_int_equal(stats.drops[reason], 0);
		netfront_close(attack->healthy[i]);
	}
	netfront_close(attack->evil);
	netfront_close(attack->peer);
	testbed_stop(&attack->bed);
}

void attack_expect_others(struct attack *attack)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	uint32_t before = load_acquire(&attack->rounds);

	/* One that begins from now on, and both ways. */
	while (load_acquire(&attack->rounds) - before < 3) {
		assert_int_equal(load_acquire(&attack->failed), 0);
		assert_true(clock_now_ns() < deadline);
		nap(200);
	}
}

/*
 * There must be room for what is sent then: a port's queue that was full for longer than packets wait for it loses the
 * next one, too.
 */
static void take_all(struct netfront *nf)
{
	struct netfront_frame frame;
	int n;

	while ((n = netfront_receive(nf, 0, &frame, 1)) > 0)
		assert_true(netfront_recycle(nf, 0) >= 0);
	assert_int_equal(n, 0);
}

/*
 * A frame has arrived before its sender has its buffer back. `taker`, who may be NULL, takes what comes meanwhile: what
 * was sent may still wait for its buffers.
 */
static void reclaim_all(struct netfront *nf, struct netfront *taker)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;

	while (vq_driver_in_flight(&netfront_tx(nf, 0)->vq) > 0) {
		if (taker != NULL)
			take_all(taker);
		assert_true(netfront_reclaim(nf, 0) >= 0);
		assert_true(clock_now_ns() < deadline);
	}
	if (taker != NULL)
		take_all(taker);
}

void attack_expect_traffic(struct attack *attack)
{
	testbed_expect_traffic(attack->evil, attack->peer, ATTACK_FRAME);
	reclaim_all(attack->evil, NULL);
	reclaim_all(attack->peer, NULL);
}

static void drain(struct netfront *from, struct netfront *to)
{
	static uint32_t seed = 1000000;
	uint8_t marker[ATTACK_FRAME], received[65536 + 64];
	uint32_t size;

	testbed_frame(marker, sizeof(marker), 2, 1, 0);
	memset(marker + 14, 0xdd, sizeof(marker) - 14);
	seed++;
	memcpy(marker + 14, &seed, sizeof(seed));
	/* All of the sender's buffers may be out. */
	reclaim_all(from, to);
	assert_int_equal(netfront_send_frame(from, 0, marker, sizeof(marker)), 0);
	do {
		size = testbed_receive(to, 0, NULL, received, sizeof(received));
		assert_true(size > 0);
	} while (size != sizeof(marker) || memcmp(received, marker, size) != 0);
	reclaim_all(from, NULL);
}

void attack_drain(struct attack *attack)
{
	drain(attack->evil, attack->peer);
	drain(attack->peer, attack->evil);
}

void attack_expect_quarantine(struct attack *attack, const char *name)
{
	testbed_wait_fault(&attack->bed, attack->evil_port, ++attack->faults, name);
	testbed_wait_state(&attack->bed, attack->evil_port, DP_PORT_QUARANTINED);
	attack_expect_others(attack);
}

void attack_expect_disconnect(struct attack *attack, const char *name)
{
	testbed_wait_fault(&attack->bed, attack->evil_port, ++attack->faults, name);
	testbed_wait_state(&attack->bed, attack->evil_port, DP_PORT_DOWN);
	attack_expect_others(attack);
}

void attack_expect_drops(struct attack *attack, uint32_t port, const struct stats_port *before, enum drop_reason reason,
			 uint64_t count)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;
	struct stats_port now;
	struct dp_port_info info;

	do {
		testbed_stats(&attack->bed, port, &now);
		nap(200);
	} while (now.drops[reason] - before->drops[reason] < count && clock_now_ns() < deadline);
	for (unsigned int i = 0; i < DROP_COUNT; i++) {
		if (now.drops[i] - before->drops[i] != (i == reason ? count : 0))
			print_error("%s: %llu\n", drop_name((enum drop_reason)i),
				    (unsigned long long)(now.drops[i] - before->drops[i]));
		assert_int_equal(now.drops[i] - before->drops[i], i == reason ? count : 0);
	}
	testbed_info(&attack->bed, attack->evil_port, &info);
	assert_int_equal(info.state, DP_PORT_UP);
	assert_int_equal(info.faults, attack->faults);
	attack_expect_others(attack);
}

static uint64_t buffer_offset(const struct netfront *nf, uint64_t number)
{
	return nf->buffers_offset + number / nf->region_buffers * nf->region_stride +
	       number % nf->region_buffers * nf->buffer_stride;
}

/* As a driver that was reset: all rings empty, all buffers its own. */
static void forget(struct netfront *nf)
{
	for (unsigned int i = 0; i < 2 * nf->pairs; i++) {
		struct netfront_queue *queue = &nf->queues[i];

		vq_driver_reset(&queue->vq);
		queue->base = vq_driver_base_first(&queue->vq);
		queue->faulty = false;
		queue->held_count = 0;
		queue->delivered = 0;
		for (uint32_t j = 0; j < queue->buffer_count; j++)
			queue->idle[j] = (uint32_t)(buffer_offset(nf, queue->first + j) / NETFRONT_LINE);
		queue->idle_count = queue->buffer_count;
	}
	nf->resume = false;
}

void attack_restart(struct attack *attack)
{
	struct netfront *nf = attack->evil;

	for (unsigned int i = 0; i < 2 * nf->pairs; i++) {
		int error = netfront_stop_queue(nf, &nf->queues[i]);

		/* The driver knows nothing of what was done behind its back. */
		assert_true(error == 0 || error == -EPROTO);
	}
	forget(nf);
	assert_int_equal(netfront_start(nf), 0);
	testbed_wait_state(&attack->bed, attack->evil_port, DP_PORT_UP);
}

void attack_reconnect(struct attack *attack)
{
	uint64_t deadline = clock_now_ns() + PATIENCE_NS;

	/* The queues may be in any state: there is nothing to stop. */
	vhost_frontend_close(&attack->evil->fe);
	while (netfront_reconnect(attack->evil, true) && clock_now_ns() < deadline)
		nap(20000);
	testbed_wait_state(&attack->bed, attack->evil_port, DP_PORT_UP);
}

struct vring_split *attack_tx_ring(struct attack *attack)
{
	return &netfront_tx(attack->evil, 0)->vq.split.ring;
}

struct vring_split *attack_rx_ring(struct attack *attack)
{
	return &netfront_rx(attack->evil, 0)->vq.split.ring;
}

uint8_t *attack_buffer(struct attack *attack, unsigned int number)
{
	return attack->evil->memory + buffer_offset(attack->evil, netfront_tx(attack->evil, 0)->first + number);
}

uint64_t attack_buffer_addr(struct attack *attack, unsigned int number)
{
	return netfront_guest_addr(attack->evil, (uint64_t)(attack_buffer(attack, number) - attack->evil->memory));
}

void attack_desc(struct vring_split *ring, unsigned int index, uint64_t addr, uint32_t length, uint16_t flags,
		 uint16_t next)
{
	ring->desc[index] = (struct vring_desc){.addr = addr, .len = length, .flags = flags, .next = next};
}

uint32_t attack_write_frame(struct attack *attack, unsigned int number, const struct virtio_net_hdr *header)
{
	uint8_t *buffer = attack_buffer(attack, number);

	memset(buffer, 0, attack->evil->hdr_len);
	if (header)
		memcpy(buffer, header, sizeof(*header));
	testbed_frame(buffer + attack->evil->hdr_len, ATTACK_FRAME, 2, 1, number);
	return attack->evil->hdr_len + ATTACK_FRAME;
}

void attack_offer(struct attack *attack, uint16_t head)
{
	struct vring_split *ring = attack_tx_ring(attack);
	uint16_t index = READ_ONCE(ring->avail->idx);

	WRITE_ONCE(ring->avail->ring[index & ring->mask], head);
	store_release(&ring->avail->idx, (uint16_t)(index + 1));
	netfront_kick(netfront_tx(attack->evil, 0));
}

void attack_packed_desc(struct netfront_queue *queue, unsigned int ahead, uint64_t addr, uint32_t length,
			uint16_t flags)
{
	const struct vq_driver_packed *vq = &queue->vq.packed;
	uint16_t position = vq_driver_packed_position(vq, vq->avail_next + ahead);
	unsigned int index = vring_packed_index(position);

	vq->ring.desc[index].addr = addr;
	store_release(vring_packed_word_at(&vq->ring, index),
		      vring_packed_word_of(length, (uint16_t)ahead, flags ^ vring_packed_avail_flags(position)));
}

void attack_offer_buffer(struct attack *attack, unsigned int number, uint32_t size)
{
	struct netfront_queue *queue = netfront_tx(attack->evil, 0);

	if (queue->vq.is_packed) {
		attack_packed_desc(queue, 0, attack_buffer_addr(attack, number), size, 0);
		netfront_kick(queue);
		return;
	}
	attack_desc(attack_tx_ring(attack), number, attack_buffer_addr(attack, number), size, 0, 0);
	attack_offer(attack, (uint16_t)number);
}
