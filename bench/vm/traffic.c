/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a VM of bench_vm does while it is measured: sends as fast as the switch takes it, or at a
 * given rate; or has one frame under way and waits for the answer; receives, at once or slowly.
 */
#include <time.h>

#include "lib/clock.h"
#include "vm.h"

#define WAIT_MS   20
#define IDLE_MS   500
#define ANSWER_MS 200 /* then a round trip is given up */

/* Frames that --rate allows now. */
static unsigned int due(struct vm *vm, unsigned int max)
{
	uint64_t interval, now, n;

	if (!opt.paced)
		return max;
	if (opt.rate == 0)
		return 0;
	interval = NS_PER_S / opt.rate;
	now = clock_now_ns();
	if (vm->due == 0)
		vm->due = now;
	if (now < vm->due)
		return 0;
	n = (now - vm->due) / interval + 1;
	/* Whoever was held up for long does not make up for it in one burst. */
	if (n > 4ULL * BATCH_MAX)
		vm->due = now;
	return (unsigned int)min(n, (uint64_t)max);
}

static int send_frames(struct vm *vm, unsigned int max)
{
	int n = vm->io->send(vm, min(max, opt.batch));

	if (n > 0 && opt.paced && !vm->pings)
		vm->due += (unsigned int)n * (NS_PER_S / opt.rate);
	return n;
}

/* All that is there, but not what comes meanwhile for ever: a mergeable frame is many buffers. */
static bool receive_round(struct vm *vm)
{
	unsigned int turns = opt.rx_ring / opt.batch + 1;
	bool busy = false;
	int n;

	do {
		n = vm->io->receive(vm);
		busy |= n > 0;
	} while (n == (int)opt.batch && --turns > 0);
	return busy;
}

/* The sender has one frame under way; its peer answers each with one of the same number. */
static bool vm_ping(struct vm *vm, bool sending)
{
	int n = vm->io->receive(vm);
	uint64_t now;

	if (!vm->sender) {
		vm->seq = vm->heard_seq;
		return n > 0 && send_frames(vm, 1) > 0;
	}
	if (n > 0 && vm->sent_at && vm->heard_seq == vm->seq) {
		report_round_trip(vm, clock_now_ns() - vm->sent_at);
		vm->sent_at = 0;
	}
	if (vm->sent_at || !sending) {
		if (vm->sent_at && clock_now_ns() - vm->sent_at > ANSWER_MS * NS_PER_MS) {
			add_relaxed(&vm->shared->counters.unanswered, 1);
			vm->sent_at = 0;
		}
		return n > 0;
	}
	vm->seq++;
	now = clock_now_ns();
	if (send_frames(vm, 1) > 0)
		vm->sent_at = now;
	return true;
}

/* Whether a slow receiver takes frames now. */
static bool awake(struct vm *vm)
{
	uint64_t now;

	if (opt.pause_us == 0)
		return false;
	now = clock_now_ns();
	if (now < vm->resume)
		return false;
	vm->resume = now + opt.pause_us * NS_PER_US;
	return true;
}

bool traffic_round(struct vm *vm)
{
	bool sending = load_relaxed(&shared->phase) == PHASE_RUN, busy = false;
	unsigned int allowed;

	if (vm->idle)
		return vm->io->discard(vm);
	if (!sending)
		vm->io->finish_send(vm);
	if (vm->pings)
		return vm_ping(vm, sending);
	if (!vm->slow || !sending)
		busy = receive_round(vm);
	else if (awake(vm))
		busy = receive_round(vm);
	if (vm->sender && sending) {
		allowed = due(vm, opt.batch);
		if (allowed > 0)
			busy |= send_frames(vm, allowed) > 0;
	}
	return busy;
}

static void sleep_ns(uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};

	nanosleep(&ts, NULL);
}

/* Sleeps until there is something to do; not for ever, because the phase may end. */
static void wait_for_work(struct vm *vm)
{
	bool running = load_relaxed(&shared->phase) == PHASE_RUN;
	bool sends = vm->sender && !vm->pings && running;
	uint64_t now;

	if (vm->slow && running) {
		sleep_ns(opt.pause_us ? opt.pause_us * NS_PER_US : WAIT_MS * NS_PER_MS);
	} else if (sends && opt.paced && opt.rate > 0) {
		now = clock_now_ns();
		if (vm->due > now)
			vm->io->wait(vm, false, vm->due - now);
		else /* the transmit ring is full */
			vm->io->wait(vm, true, NS_PER_MS);
	} else {
		vm->io->wait(vm, sends && !opt.paced, (vm->idle || opt.paced ? IDLE_MS : WAIT_MS) * NS_PER_MS);
	}
}

void traffic_run(struct vm *vm)
{
	while (load_relaxed(&shared->phase) != PHASE_END)
		if (!traffic_round(vm) && opt.irq)
			wait_for_work(vm);
}
