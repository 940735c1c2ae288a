/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a VM of bench_vm does while it is measured: sends as fast as the switch takes it, or at a
 * given rate; or has one frame under way and waits for the answer; receives, at once or slowly.
 *
 * Transmit buffers are filled once and only offered again. Received frames are counted if they have
 * the right length; a sample of them is read and must have the right addresses and signature.
 */
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "vm.h"

#define SAMPLE    8 /* one frame in so many is read */
#define WAIT_MS   20
#define IDLE_MS   500
#define ANSWER_MS 200 /* then a round trip is given up */

static void count_sent(struct vm *vm)
{
	store_relaxed(&vm->shared->counters.sent, vm->taken + vm->reclaimed - vm->fresh);
	store_relaxed(&vm->shared->kicks,
		      netfront_tx(vm->nf, 0)->kicks + netfront_rx(vm->nf, 0)->kicks);
}

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

static int vm_send(struct vm *vm, unsigned int max)
{
	bool varies = vm->peer_count > 1 || opt.flows > 1;
	struct vq_used slots[BATCH_MAX];
	struct netfront *nf = vm->nf;
	int n = netfront_tx_take(nf, 0, slots, min(max, opt.batch));

	if (n < 0)
		fail("%s: the transmit ring broke", vm->path);
	if (n > 0) {
		for (int i = 0; i < n && (varies || opt.touch || vm->pings); i++) {
			uint8_t *frame = netfront_buffer(nf, slots[i].tag) + nf->hdr_len;

			if (varies)
				frame_vary(vm, frame);
			if (opt.touch)
				frame_touch_write(vm, frame);
			if (vm->pings)
				frame_set_seq(frame, vm->seq);
		}
		vm->taken += (unsigned int)n;
		/* Those that were never sent are handed out first. */
		vm->fresh = vm->prepared - netfront_tx(nf, 0).held_count;
		if (opt.paced && !vm->pings)
			vm->due += (unsigned int)n * (NS_PER_S / opt.rate);
		netfront_tx_give(nf, 0, slots, (unsigned int)n);
	}
	count_sent(vm);
	return n;
}

/* Takes back what is under way when no more is sent. */
static void finish_send(struct vm *vm)
{
	int n = netfront_reclaim(vm->nf, 0);

	if (n > 0)
		vm->reclaimed += (unsigned int)n;
	count_sent(vm);
}

static uint32_t pieces_of(const struct vm *vm, const uint8_t *buffer)
{
	struct virtio_net_hdr_mrg_rxbuf header;

	if (!(vm->nf->features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)))
		return 1;
	memcpy(&header, buffer, sizeof(header));
	return header.num_buffers;
}

/* One receive buffer. Returns 1 if it ends a frame of the right kind. */
static unsigned int take_piece(struct vm *vm, const struct vq_used *slot, bool sample)
{
	struct netfront *nf = vm->nf;
	const uint8_t *buffer = netfront_buffer(nf, slot->tag);
	bool first = vm->frame_left == 0, small = opt.size + nf->hdr_len <= opt.rx_buffer;
	uint32_t skip = first ? nf->hdr_len : 0;

	if (first) {
		/* The header of a frame that fits is not looked at: its length tells enough. */
		vm->frame_left = small && slot->len == opt.size + nf->hdr_len
					 ? 1
					 : pieces_of(vm, buffer);
		vm->frame_size = 0;
		/* Said before the run, and late. */
		if (slot->len == HELLO_SIZE + nf->hdr_len && opt.size != HELLO_SIZE) {
			vm->frame_left = 0;
			return 0;
		}
	}
	if (slot->len < skip || vm->frame_left == 0)
		fail("%s: broken frame received", vm->path);
	vm->frame_size += slot->len - skip;
	vm->frame_left--;
	if (opt.touch)
		frame_touch_read(vm, buffer + skip, slot->len - skip, first);
	if (first && vm->pings)
		vm->heard_seq = frame_seq(buffer + skip);
	if (first && sample && !frame_is_for(vm, buffer + skip, opt.gso)) {
		add_relaxed(&vm->shared->counters.wrong, 1);
		return 0;
	}
	if (vm->frame_left > 0)
		return 0;
	if (vm->frame_size != opt.size) {
		add_relaxed(&vm->shared->counters.wrong, 1);
		return 0;
	}
	return 1;
}

/* Returns the number of frames if it exchanges single ones, else of receive buffers. */
static int vm_receive(struct vm *vm)
{
	struct vq_used slots[BATCH_MAX];
	int n = netfront_rx_take(vm->nf, 0, slots, opt.batch);
	unsigned int frames = 0;

	if (n < 0)
		fail("%s: the receive ring broke", vm->path);
	if (n == 0)
		return 0;
	for (int i = 0; i < n; i++)
		frames += take_piece(vm, &slots[i], i % SAMPLE == 0);
	netfront_rx_give(vm->nf, 0, slots, (unsigned int)n);
	add_relaxed(&vm->shared->counters.delivered, frames);
	return vm->pings ? (int)frames : n;
}

/* The sender has one frame under way; its peer answers each with one of the same number. */
static bool vm_ping(struct vm *vm, bool sending)
{
	int n = vm_receive(vm);
	uint64_t now;

	if (!vm->sender) {
		vm->seq = vm->heard_seq;
		return n > 0 && vm_send(vm, 1) > 0;
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
	if (vm_send(vm, 1) > 0)
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

/* What was flooded goes back uncounted. */
static bool idle_round(struct vm *vm)
{
	struct vq_used slots[BATCH_MAX];
	int n = netfront_rx_take(vm->nf, 0, slots, BATCH_MAX);

	if (n > 0)
		netfront_rx_give(vm->nf, 0, slots, (unsigned int)n);
	return n > 0;
}

bool traffic_round(struct vm *vm)
{
	bool sending = load_relaxed(&shared->phase) == PHASE_RUN, busy = false;
	unsigned int allowed;

	if (vm->idle)
		return idle_round(vm);
	if (!sending)
		finish_send(vm);
	if (vm->pings)
		return vm_ping(vm, sending);
	if (!vm->slow || !sending)
		busy = vm_receive(vm) > 0;
	else if (awake(vm))
		while (vm_receive(vm) > 0)
			;
	if (vm->sender && sending) {
		allowed = due(vm, opt.batch);
		if (allowed > 0)
			busy |= vm_send(vm, allowed) > 0;
	}
	return busy;
}

static void sleep_ns(uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};

	nanosleep(&ts, NULL);
}

/* Until the next frame is due or something comes: finer than netfront_wait() could. */
static void wait_paced(struct vm *vm)
{
	struct netfront_queue *rx = netfront_rx(vm->nf, 0);
	struct pollfd pfd = {.fd = rx->call_fd, .events = POLLIN};
	uint64_t now = clock_now_ns(), left = vm->due > now ? vm->due - now : 0;
	struct timespec ts = {(time_t)(left / NS_PER_S), (long)(left % NS_PER_S)};

	if (left == 0) { /* the transmit ring is full */
		netfront_wait(vm->nf, 0, NETFRONT_WAIT_RX | NETFRONT_WAIT_TX, 1);
		return;
	}
	if (netfront_arm(rx, 1))
		ppoll(&pfd, 1, &ts, NULL);
	netfront_disarm(rx);
}

/* Sleeps until there is something to do; not for ever, because the phase may end. */
static void wait_for_work(struct vm *vm)
{
	bool sends = vm->sender && !vm->pings && load_relaxed(&shared->phase) == PHASE_RUN;
	unsigned int what = NETFRONT_WAIT_RX;

	if (vm->slow && load_relaxed(&shared->phase) == PHASE_RUN) {
		sleep_ns(opt.pause_us ? opt.pause_us * NS_PER_US : WAIT_MS * NS_PER_MS);
		return;
	}
	if (sends && opt.paced && opt.rate > 0) {
		wait_paced(vm);
		return;
	}
	if (sends && !opt.paced)
		what |= NETFRONT_WAIT_TX;
	if (netfront_wait(vm->nf, 0, what, vm->idle || opt.paced ? IDLE_MS : WAIT_MS) < 0)
		fail("%s: the switch hung up", vm->path);
}

void traffic_run(struct vm *vm)
{
	while (load_relaxed(&shared->phase) != PHASE_END)
		if (!traffic_round(vm) && opt.irq)
			wait_for_work(vm);
}
