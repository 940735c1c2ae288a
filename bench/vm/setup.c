/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Before a VM of bench_vm sends: it connects; exchanges small frames until it has heard everybody
 * who sends to it or is sent to, which also teaches a learning switch where they are (flooded
 * first, then as learned); fills its transmit ring.
 */
#include <unistd.h>

#include "lib/clock.h"
#include "vm.h"

#define HELLO_EVERY_US 20000
#define HELLOS         2 /* of each other VM */
#define SETTLE_US      50000
#define STATION_ROUNDS 2

static void hear(struct vm *vm)
{
	uint8_t frames[BATCH_MAX][HELLO_SIZE];
	unsigned int n;

	while ((n = vm->io->hear(vm, frames)) > 0)
		for (unsigned int i = 0; i < n; i++)
			if (frame_is_for(vm, frames[i], false) && vm->heard[frame_sender(frames[i])] < HELLOS)
				vm->heard[frame_sender(frames[i])]++;
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
		vm->io->say(vm, frame, sizeof(frame));
	}
}

/* Says hello until all have heard all, which the main thread tells. */
static void get_acquainted(struct vm *vm)
{
	uint64_t deadline = clock_now_ns() + WAIT_S * NS_PER_S;
	bool done = false;

	while (load_acquire(&shared->phase) == PHASE_HELLO) {
		if (clock_now_ns() > deadline)
			fail("%s: %s", vm->path, done ? "another VM is not ready" : "hears no peer through the switch");
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
		vm->io->say(vm, frame, sizeof(frame));
		if (i % BATCH_MAX == 0) {
			usleep(2000);
			hear(vm);
		}
	}
}

void setup_run(struct vm *vm)
{
	vm->io->open(vm);
	__atomic_add_fetch(&shared->opened, 1, __ATOMIC_RELEASE);
	get_acquainted(vm);
	if (!vm->idle && opt.flows > 1 && opt.vary == VARY_MAC)
		announce_stations(vm);
	usleep(SETTLE_US);
	hear(vm);
	if (!vm->idle)
		vm->io->prepare(vm);
	hear(vm);
	__atomic_add_fetch(&shared->prepared, 1, __ATOMIC_RELEASE);
}
