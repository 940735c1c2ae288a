/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that rewrites its rings, headers and packets at full speed while the switch works on them. What becomes of
 * its own traffic does not matter; that the core survives, and that its neighbours see nothing, does.
 */
#include "attack.h"

#include <string.h>

#include "lib/clock.h"

#define DURATION_NS (1500 * NS_PER_MS)

struct scribbler {
	pthread_t thread;
	bool stop; /* atomic */
	uint32_t seed;
	struct netfront *nf;
	struct vring_split tx, rx;
	bool indexes; /* also available rings, so that the rings break */
};

static uint32_t random_next(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

static uint64_t random_address(const struct netfront *nf, uint32_t *state)
{
	uint32_t choice = random_next(state);
	uint64_t offset = random_next(state) % nf->memory_size;

	/* Mostly valid ones: invalid ones end the matter too soon. */
	return choice % 64 ? netfront_guest_addr(nf, offset) : (uint64_t)choice << (choice % 40);
}

static void scribble_desc(struct scribbler *s, struct vring_split *ring, uint16_t wanted)
{
	struct vring_desc *desc = &ring->desc[random_next(&s->seed) & ring->mask];
	uint32_t choice = random_next(&s->seed);

	switch (choice % 5) {
	case 0:
		WRITE_ONCE(desc->addr, random_address(s->nf, &s->seed));
		break;
	case 1:
		WRITE_ONCE(desc->len, choice % 7 ? random_next(&s->seed) % 4096 : random_next(&s->seed));
		break;
	case 2:
		WRITE_ONCE(desc->flags, (uint16_t)(choice % 11 ? wanted : random_next(&s->seed) % 8));
		break;
	case 3:
		WRITE_ONCE(desc->next, (uint16_t)(random_next(&s->seed) % (ring->size + (choice % 97 == 0))));
		break;
	default:
		WRITE_ONCE(desc->flags, (uint16_t)(wanted | (choice & 256 ? VRING_DESC_F_NEXT : 0)));
	}
}

static void scribble_avail(struct scribbler *s, struct vring_split *ring)
{
	uint32_t choice = random_next(&s->seed);

	if (choice % 1000 == 0)
		WRITE_ONCE(ring->avail->idx, (uint16_t)(READ_ONCE(ring->avail->idx) + choice % 512));
	else
		WRITE_ONCE(ring->avail->ring[choice & ring->mask],
			   (uint16_t)(random_next(&s->seed) % (ring->size + (choice % 300 == 0))));
}

static void scribble_buffer(struct scribbler *s)
{
	struct netfront *nf = s->nf;
	uint64_t offset = nf->buffers_offset + random_next(&s->seed) % (nf->memory_size - nf->buffers_offset - 64);

	/* Net headers and frames' headers are at the beginning of buffers. */
	if (random_next(&s->seed) % 2)
		offset = nf->buffers_offset +
			 random_next(&s->seed) % (nf->queues[0].buffer_count * 2) * nf->buffer_stride +
			 random_next(&s->seed) % 80;
	WRITE_ONCE(nf->memory[offset], (uint8_t)random_next(&s->seed));
}

static void *scribbler_main(void *arg)
{
	struct scribbler *s = arg;

	while (!load_acquire(&s->stop)) {
		for (unsigned int i = 0; i < 64; i++) {
			scribble_desc(s, &s->tx, 0);
			scribble_desc(s, &s->rx, VRING_DESC_F_WRITE);
			scribble_buffer(s);
			if (s->indexes) {
				scribble_avail(s, &s->tx);
				scribble_avail(s, &s->rx);
			}
		}
		netfront_kick(netfront_tx(s->nf, 0));
	}
	return NULL;
}

static void scribble(bool indexes, const struct netfront_config *config)
{
	struct scribbler s = {.seed = 7, .indexes = indexes};
	struct netfront_frame frames[32];
	struct attack attack;
	uint8_t frame[1000];
	uint64_t end;

	attack_start(&attack, 2, config, NULL, NULL);
	attack_expect_traffic(&attack);
	s.nf = attack.evil;
	s.tx = *attack_tx_ring(&attack);
	s.rx = *attack_rx_ring(&attack);
	assert_int_equal(pthread_create(&s.thread, NULL, scribbler_main, &s), 0);
	end = clock_now_ns() + DURATION_NS;
	testbed_frame(frame, sizeof(frame), 2, 1, 1);
	while (clock_now_ns() < end) {
		struct dp_port_info info;

		/* Their driver may have given up on the rings: the answers do not matter. */
		for (unsigned int i = 0; i < 64; i++) {
			netfront_send_frame(attack.evil, 0, frame, sizeof(frame));
			netfront_send_frame(attack.peer, 0, frame, sizeof(frame));
		}
		netfront_receive(attack.evil, 0, frames, 32);
		assert_true(netfront_receive(attack.peer, 0, frames, 32) >= 0);
		testbed_info(&attack.bed, attack.evil_port, &info);
		if (info.state != DP_PORT_UP || info.faults > attack.faults) {
			/* Its rings may be broken again before it is up. */
			attack.faults = info.faults;
			vhost_frontend_close(&attack.evil->fe);
			netfront_reconnect(attack.evil, true);
		}
	}
	store_release(&s.stop, true);
	assert_int_equal(pthread_join(s.thread, NULL), 0);
	attack_reconnect(&attack);
	attack_drain(&attack);
	attack_stop(&attack);
}

static void descriptors_and_packets(void **state)
{
	const struct netfront_config config = {
		.features = NETFRONT_FEATURES | NETFRONT_FEATURES_TSO | VIRTIO_BIT(VIRTIO_NET_F_HOST_USO),
	};

	(void)state;
	scribble(false, &config);
}

static void everything(void **state)
{
	const struct netfront_config config = {.rx_size = 64, .tx_size = 64};

	(void)state;
	scribble(true, &config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptors_and_packets),
		cmocka_unit_test(everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
