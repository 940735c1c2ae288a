/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Before a VM of bench_vm sends: it connects; exchanges small frames until it has heard everybody
 * who sends to it or is sent to, which also teaches a learning switch where they are (flooded
 * first, then as learned); fills its transmit ring.
 */
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "vm.h"

#define WAIT_S         30 /* for the others */
#define HELLO_EVERY_US 20000
#define HELLOS         2 /* of each other VM */
#define SETTLE_US      50000
#define STATION_ROUNDS 2

static void open_device(struct vm *vm)
{
	uint32_t whole = VIRTIO_NET_HDR_LEN + opt.size;
	struct netfront_config config = {
		.path = vm->path,
		.listen = opt.server,
		.polling = !opt.irq && !vm->pings,
		.timeout_ms = WAIT_S * 1000,
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
	if (opt.packed) {
		config.features |= NETFRONT_FEATURES_PACKED;
		config.required |= NETFRONT_FEATURES_PACKED;
	}
	if (opt.gso) {
		config.features |= NETFRONT_FEATURES_TSO;
		config.required |= VIRTIO_BIT(VIRTIO_NET_F_CSUM) |
				   VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) |
				   VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4);
	}
	err = netfront_open(&vm->nf, &config, &step);
	if (err)
		fail("%s: %s: %s", vm->path, step, strerror(-err));
	vm->shared->features = vm->nf->features;
}

static void hear(struct vm *vm)
{
	struct netfront_frame frames[BATCH_MAX];
	uint8_t copy[HELLO_SIZE];
	int n;

	while ((n = netfront_receive(vm->nf, 0, frames, BATCH_MAX)) > 0)
		for (int i = 0; i < n; i++)
			if (netfront_frame_copy(&frames[i], 0, copy, sizeof(copy)) ==
				    sizeof(copy) &&
			    frame_is_for(vm, copy, false) && vm->heard[frame_sender(copy)] < HELLOS)
				vm->heard[frame_sender(copy)]++;
	netfront_recycle(vm->nf, 0);
}

static bool acquainted(const struct vm *vm)
{
	for (unsigned int i = 0; i < vm->peer_count; i++)
		if (vm->heard[vm->first_peer + i] < HELLOS)
			return false;
	return true;
}

static void say_hello(struct vm *vm)
{
	uint8_t frame[HELLO_SIZE];

	for (unsigned int i = 0; i < vm->peer_count; i++) {
		frame_make(vm, vm->first_peer + i, frame, sizeof(frame), false);
		netfront_send_frame(vm->nf, 0, frame, sizeof(frame));
	}
}

/* Says hello until all have heard all, which the main thread tells. */
static void get_acquainted(struct vm *vm)
{
	uint64_t deadline = clock_now_ns() + WAIT_S * NS_PER_S;
	bool done = false;

	while (load_acquire(&shared->phase) == PHASE_HELLO) {
		if (clock_now_ns() > deadline)
			fail("%s: %s", vm->path,
			     done ? "another VM is not ready" : "hears no peer through the switch");
		if (!vm->idle)
			say_hello(vm);
		usleep(HELLO_EVERY_US);
		hear(vm);
		if (!done && acquainted(vm)) {
			done = true;
			__atomic_add_fetch(&shared->acquainted, 1, __ATOMIC_RELEASE);
		}
	}
}

/* A frame from each station behind this VM, so that a switch that learns has learned. */
static void announce_stations(struct vm *vm)
{
	unsigned int stations = frame_stations();
	uint8_t frame[HELLO_SIZE];

	frame_make(vm, vm->first_peer, frame, sizeof(frame), false);
	for (unsigned int i = 0; i < stations * STATION_ROUNDS; i++) {
		frame_set_station(frame, i % stations, 0);
		netfront_send_frame(vm->nf, 0, frame, sizeof(frame));
		if (i % BATCH_MAX == 0) {
			usleep(2000);
			hear(vm);
		}
	}
}

static void fill_transmit_ring(struct vm *vm)
{
	uint64_t deadline = clock_now_ns() + WAIT_S * NS_PER_S;
	struct virtio_net_hdr header;
	uint8_t *frame = malloc(opt.size);

	if (!frame)
		fail("out of memory");
	/* Only buffers that are not on their way can be prepared. */
	while (netfront_reclaim(vm->nf, 0) >= 0 &&
	       netfront_tx(vm->nf, 0)->idle_count < netfront_tx(vm->nf, 0)->buffer_count) {
		if (clock_now_ns() > deadline)
			fail("%s: the switch keeps the first frames", vm->path);
		hear(vm);
		usleep(1000);
	}
	frame_make(vm, vm->first_peer, frame, opt.size, opt.gso);
	frame_gso_header(&header);
	if (netfront_tx_prepare(vm->nf, 0, opt.gso ? &header : NULL, frame, opt.size))
		fail("%s: frames do not fit", vm->path);
	vm->prepared = netfront_tx(vm->nf, 0)->held_count;
	free(frame);
}

void setup_run(struct vm *vm)
{
	open_device(vm);
	__atomic_add_fetch(&shared->opened, 1, __ATOMIC_RELEASE);
	get_acquainted(vm);
	if (!vm->idle && opt.flows > 1 && opt.vary == VARY_MAC)
		announce_stations(vm);
	usleep(SETTLE_US);
	hear(vm);
	if (!vm->idle)
		fill_transmit_ring(vm);
	hear(vm);
	__atomic_add_fetch(&shared->prepared, 1, __ATOMIC_RELEASE);
}
