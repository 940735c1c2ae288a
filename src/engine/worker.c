/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A worker's loop: a round of turns over the queues that it holds; when a round made no progress, look on for a while
 * if that has paid lately and nobody else wants the CPU; then ask the guests for kicks, look once more, sleep. While a
 * queue is held, its kicks are off.
 *
 * Kicks arrive through the worker's epoll, edge-triggered, so that nothing has to be read from descriptors that
 * belong to somebody else. An event names port and queue by number: by the time it is handled the port may be
 * gone, which the lookup under RCU tells. Asleep, a worker is offline for RCU.
 *
 * A queue is held by one worker at a time (claim.h). Letting go has an order: the wish for kicks, the claim, a
 * barrier, a last look at the ring. Whoever is kicked while the claim is not given up yet leaves the queue to the last
 * look; whoever comes later gets it. A worker that sleeps with packets that wait keeps their queue; a kick's
 * handler may take it over then, as may a worker to whom it was offered.
 *
 * Workers are of the scheduler's batch class: a kick does not take the CPU from the VM that kicks, which goes on
 * filling its ring, and whoever is notified takes it from the worker, whose long time slice makes that sure. With
 * guests that poll they are of the normal one.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/engine_internal.h"
#include "lib/clock.h"
#include "lib/log.h"

#define EVENTS_MAX 64
/* Queues without kicks are looked at this often at least. */
#define POLLED_NS  200000ULL
#define RETRY_NS   1000000ULL

/* Looks for new kicks of other queues this often while some queues keep the worker busy: turns. */
#define EVENTS_EVERY 16
/* ... and while it looks for more work: looks at the queues. */
#define LOOKS_EVERY  64
/* ... and at the clock. */
#define CLOCK_EVERY  8
/* ... while at the rings alone more often. */
#define PEEKS        32

/*
 * What a packet is worth of time to look for more, so that many packets in long bursts are worth as much as few in
 * short order; and how much longer than usual that may be.
 */
#define CREDIT_NS        400ULL
#define LINGER_TIMES_MAX 10

/* Guests poll if fewer than one in so many, of so many asked, want to be called. */
#define POLLERS_RATIO 64
#define GUESTS_ASKED  256

/* A turn of someone else is waited for this long, in looks, when a queue is taken over. */
#define TAKE_OVER_TRIES 4096

/* A kick that comes so soon after the worker slept is an answer to its last calls. */
#define ANSWER_NS 20000ULL

/*
 * The time slice asked for in the batch class. The kernel protects a thread's slice from those that wake, unless theirs
 * is shorter; VMs have the default one of at most 2.8 ms. Kernels before 6.12 do not take it.
 */
#define SLICE_NS 10000000ULL

/* A worker is loaded that moves this much in this time; a packet costs as much as LOAD_BYTES to copy. */
#define LOAD_FULL  2048
#define LOAD_NS    2000000ULL
#define LOAD_BYTES 2048

static struct txq *find_queue(struct worker *worker, uint32_t id)
{
	struct port *port = datapath_port(worker->pool->config.dp, id / PORT_PAIRS_MAX);

	return port ? &port->txq[id % PORT_PAIRS_MAX] : NULL;
}

static uint32_t *claim_of(struct worker *worker, uint32_t id)
{
	return &worker->pool->seats[id].claim;
}

/* False without a way to know: then nobody else is taken to want it. */
static bool cpu_is_wanted(const struct worker *worker)
{
	return vm_state_cpu_is_wanted(worker->cpu != CPU_NONE ? worker->cpu : (uint32_t)sched_getcpu());
}

static bool sees_cpus(const struct worker *worker)
{
	return worker->cpu != CPU_NONE && vm_state_cpu(worker->cpu) != OBSERVER_CPU_UNKNOWN;
}

static void list(struct worker *worker, uint32_t id)
{
	if (worker->is_active[id])
		return;
	worker->is_active[id] = true;
	store_relaxed(&worker->active[worker->active_count], id);
	store_relaxed(&worker->active_count, worker->active_count + 1);
}

static void unlist(struct worker *worker, uint32_t position)
{
	uint32_t last = worker->active_count - 1;

	worker->is_active[worker->active[position]] = false;
	store_relaxed(&worker->active[position], worker->active[last]);
	store_relaxed(&worker->active_count, last);
}

/* From a worker who sleeps, or who offered it. */
static bool take_over(struct worker *worker, uint32_t id)
{
	struct worker_pool *pool = worker->pool;
	struct seat *seat = &pool->seats[id];
	bool offered = load_acquire(&seat->offered_to) == worker->index + 1;

	for (unsigned int tries = 0; tries < TAKE_OVER_TRIES; tries++) {
		uint32_t claim = load_acquire(&seat->claim);
		int holder = claim_holder(claim);

		if (claim == CLAIM_NONE)
			return claim_take(&seat->claim, worker->index);
		if (holder < 0 && !offered)
			return false;
		if (holder < 0) {
			cpu_relax();
			continue;
		}
		if ((unsigned int)holder != worker->index && !offered && !load_acquire(&pool->workers[holder]->asleep))
			return false;
		if (!claim_take_over(&seat->claim, (unsigned int)holder, worker->index))
			return false;
		stats_add(&worker->fwd->worker_stats->taken_over, (unsigned int)holder != worker->index);
		return true;
	}
	return false;
}

/* After the claim is won. */
static void begin_serving(struct worker *worker, struct txq *txq, uint32_t id)
{
	txq_kicks_off(txq);
	claim_end(claim_of(worker, id), worker->index);
	list(worker, id);
}

void worker_take_over(struct worker *worker, uint32_t id, unsigned int holder)
{
	struct txq *txq = find_queue(worker, id);

	if (!txq || !load_acquire(&txq->live) || !claim_take_over(claim_of(worker, id), holder, worker->index))
		return;
	begin_serving(worker, txq, id);
	stats_add(&worker->fwd->worker_stats->taken_over, 1);
}

void worker_activate(struct worker *worker, uint32_t id)
{
	struct txq *txq = find_queue(worker, id);

	if (!txq || !load_acquire(&txq->live)) {
		/* It may have been handed over to us before it stood still: the next round lets go of it. */
		if (claim_holder(load_relaxed(claim_of(worker, id))) == (int)worker->index)
			list(worker, id);
		return;
	}
	if (!take_over(worker, id))
		return;
	begin_serving(worker, txq, id);
}

static void activate_attended(struct worker *worker)
{
	for (uint32_t word = 0; word < ARRAY_SIZE(worker->attention); word++) {
		uint64_t bits = load_relaxed(&worker->attention[word]);

		if (!bits)
			continue;
		bits = __atomic_exchange_n(&worker->attention[word], 0, __ATOMIC_ACQUIRE);
		for (; bits; bits &= bits - 1) {
			uint32_t id = word * 64 + (uint32_t)__builtin_ctzll(bits);

			worker_activate(worker, id);
			store_relaxed(&worker->pool->seats[id].offered_to, 0);
		}
	}
}

/*
 * Nobody uses a queue that stands still. It may have started again while this worker still had it, and whoever was
 * told then has left it to us.
 */
static void let_go_of_still(struct worker *worker, uint32_t position)
{
	uint32_t id = worker->active[position];
	struct txq *txq;

	claim_let_go(claim_of(worker, id));
	full_barrier();
	unlist(worker, position);
	txq = find_queue(worker, id);
	if (txq && load_acquire(&txq->live))
		worker_activate(worker, id);
}

static void note_peek(struct worker *worker, uint32_t at, const struct txq *txq)
{
	const uint32_t id = worker->active[at];

	if (worker->peek_count < PEEKS_MAX && txq_is_quiet(txq))
		worker->peeks[worker->peek_count++] = (struct peek){
			.id = id,
			.at = at,
			.position = txq_position(txq),
			.sparse = worker->pool->seats[id].sent <= SPARSE_PACKETS,
		};
}

static void note_sent(struct worker *worker, uint32_t id, unsigned int packets)
{
	struct seat *seat = &worker->pool->seats[id];

	seat->sent = average_packets(seat->sent, packets);
}

/* The queue may be another worker's by now, and may have stopped. */
static unsigned int serve_peeked(struct worker *worker, struct peek *peek)
{
	uint32_t *claim = claim_of(worker, peek->id);
	struct txq *txq = find_queue(worker, peek->id);
	unsigned int moved = 0;

	if (!txq || !load_acquire(&txq->live) || !txq_has_at(txq, peek->position) || !claim_begin(claim, worker->index))
		return 0;
	if (load_acquire(&txq->live)) {
		moved = forward_turn(worker->fwd, txq);
		if (moved > 0)
			note_sent(worker, peek->id, moved);
		peek->sparse = moved <= SPARSE_PACKETS;
		peek->position = txq_position(txq);
	}
	claim_end(claim, worker->index);
	return moved;
}

void worker_serve_sparse(struct worker *worker)
{
	unsigned int moved = 0;

	for (unsigned int i = 0; i < worker->peek_count; i++) {
		if (worker->peeks[i].sparse)
			moved += serve_peeked(worker, &worker->peeks[i]);
	}
	if (likely(moved == 0))
		return;
	worker->now_ns = clock_now_ns();
	merge_give_sparse(worker);
}

/*
 * One turn for every queue. Returns the packets it made progress with. The next round begins with the queue that has
 * waited longest for a receiver's buffers: whoever is first gets what there is of them.
 */
static unsigned int round_of_turns(struct worker *worker)
{
	uint32_t position = worker->first, first = 0;
	uint64_t oldest = UINT64_MAX;
	unsigned int progress = 0;

	worker->peek_count = 0;
	for (uint32_t left = worker->active_count; left > 0 && worker->active_count > 0; left--) {
		uint32_t i = position < worker->active_count ? position : 0;
		uint32_t id = worker->active[i];
		struct txq *txq = find_queue(worker, id);
		unsigned int moved;
		uint64_t since;

		position = i;
		if (unlikely(!claim_begin(claim_of(worker, id), worker->index))) {
			unlist(worker, i);
			continue;
		}
		if (unlikely(!txq || !load_acquire(&txq->live))) {
			let_go_of_still(worker, i);
			continue;
		}
		moved = forward_turn(worker->fwd, txq);
		progress += moved;
		if (moved == 0)
			note_peek(worker, i, txq);
		else
			note_sent(worker, id, moved);
		since = forward_waits_since(txq);
		claim_end(claim_of(worker, id), worker->index);
		if (unlikely(since < oldest)) {
			oldest = since;
			first = i;
		}
		position++;
	}
	worker->first = first;
	return progress;
}

/* What became of a queue that was to be let go. */
enum parting {
	PARTING_GONE,  /* it is off the list */
	PARTING_READY, /* it has something new, and stays */
	PARTING_WAITS, /* it stays because of what waits in it */
};

/* Asks the guest for kicks; the queue is let go if there is nothing in it. *deadline: when to look at it again. */
static enum parting part(struct worker *worker, uint32_t position, uint64_t *deadline)
{
	uint32_t id = worker->active[position];
	uint32_t *claim = claim_of(worker, id);
	struct txq *txq = find_queue(worker, id);
	unsigned int copies;
	uint16_t seen;
	bool room;

	if (!claim_begin(claim, worker->index)) {
		unlist(worker, position);
		return PARTING_GONE;
	}
	if (!txq || !load_acquire(&txq->live)) {
		let_go_of_still(worker, position);
		return worker->is_active[id] ? PARTING_READY : PARTING_GONE;
	}
	if (forward_arm(worker->fwd, txq)) {
		txq_kicks_off(txq);
		claim_end(claim, worker->index);
		return PARTING_READY;
	}
	*deadline = forward_deadline(worker->fwd, txq);
	if (load_relaxed(&worker->pool->seats[id].polled))
		*deadline = clock_now_ns() + POLLED_NS;
	copies = txq_copies(txq);
	seen = txq_position(txq);
	if (*deadline) {
		room = txq_has_room(txq);
		claim_end(claim, worker->index);
		full_barrier();
		/* As long as we were busy with it, whoever was kicked, or ended a copy, has left it to us. */
		return (room && txq_has_at(txq, seen)) || txq_copy_ended(txq, copies) ? PARTING_READY : PARTING_WAITS;
	}
	claim_let_go(claim);
	full_barrier();
	unlist(worker, position);
	if (likely(!txq_has_at(txq, seen)))
		return PARTING_GONE;
	worker_activate(worker, id);
	return worker->is_active[id] ? PARTING_READY : PARTING_GONE;
}

/* Lets go of all that can be. True: do not sleep. */
static bool arm(struct worker *worker, uint64_t *deadline)
{
	bool ready = false, waiting = false;

	*deadline = 0;
	/* Before the receivers are asked for kicks: they may come at once. */
	store_release(&worker->has_waiting, worker->active_count > 0);
	for (uint32_t i = worker->active_count; i-- > 0;) {
		uint64_t until = 0;

		switch (part(worker, i, &until)) {
		case PARTING_READY:
			ready = true;
			break;
		case PARTING_WAITS:
			waiting = true;
			if (*deadline == 0 || until < *deadline)
				*deadline = until;
			break;
		case PARTING_GONE:
			break;
		}
	}
	store_release(&worker->has_waiting, waiting);
	full_barrier();
	return ready;
}

static void handle_kick(struct worker *worker, uint64_t data)
{
	const uint32_t id = (uint32_t)data;
	const struct port *port = datapath_port(worker->pool->config.dp, id / PORT_PAIRS_MAX);

	if (data & RX_EVENT) {
		worker_pool_wake(worker->pool);
	} else {
		worker_activate(worker, id);
		stats_add(&worker->fwd->stats[id / PORT_PAIRS_MAX].kicks, 1);
	}
	/* A VM that only receives kicks as well, for packets that wait for its buffers. */
	if (port)
		homes_follow(worker, id, port);
}

static void handle_events(struct worker *worker, const struct epoll_event *events, int count)
{
	for (int i = 0; i < count; i++) {
		uint64_t value;

		if (events[i].data.u64 != WAKE_EVENT)
			handle_kick(worker, events[i].data.u64);
		else if (read(worker->wake_fd, &value, sizeof(value)) == sizeof(value))
			activate_attended(worker);
	}
}

/* @syscalls core: epoll_wait epoll_pwait epoll_pwait2 sched_yield write read futex */
static int wait_for_events(struct worker *worker, struct epoll_event *events, uint64_t deadline)
{
	struct timespec timeout = {0};
	int count;

	if (deadline) {
		uint64_t now = clock_now_ns();
		uint64_t left = deadline > now ? deadline - now : 0;

		/* What changes without telling us (a lost wake-up of a broken guest) is found soon enough. */
		left = min(left, (uint64_t)RETRY_NS);
		timeout.tv_nsec = (long)left;
	}
	rcu_thread_offline();
	count = epoll_pwait2(worker->epoll_fd, events, EVENTS_MAX, deadline ? &timeout : NULL, NULL);
	rcu_thread_online();
	return count;
}

/* Whether there were any. */
static bool poll_events(struct worker *worker)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(worker->epoll_fd, events, EVENTS_MAX, 0);

	handle_events(worker, events, count);
	return count > 0;
}

/* What was kept while asleep is looked at again: no kicks meanwhile. */
static void resume(struct worker *worker)
{
	for (uint32_t i = 0; i < worker->active_count;) {
		uint32_t id = worker->active[i];
		struct txq *txq = find_queue(worker, id);

		if (!claim_begin(claim_of(worker, id), worker->index)) {
			unlist(worker, i);
			continue;
		}
		if (txq && load_acquire(&txq->live))
			txq_kicks_off(txq);
		claim_end(claim_of(worker, id), worker->index);
		i++;
	}
}

/*
 * Where work comes in short order or long bursts, before it lets go of its queues: calls whoever is to be called. Those
 * who sleep on this CPU run before the worker comes back from the call, and what they send is found by the next look,
 * without a kick and without having slept. Where answers came at once lately, those that were kicked for are there by
 * then as well. True: look again.
 */
static bool call_and_look(struct worker *worker)
{
	const uint64_t most = worker->pool->config.linger_ns;

	/* Whoever trickles is called last of all. */
	if (worker->gap_ns > most && worker->credit_ns < most)
		return false;
	merge_give_all(worker);
	if (worker->calls_seen != worker->fwd->calls) {
		worker->calls_seen = worker->fwd->calls;
		worker->has_called = true;
		return true;
	}
	if (!worker->has_called || !worker->is_answered)
		return false;
	worker->has_called = false;
	worker->is_answered = poll_events(worker);
	return worker->is_answered;
}

static void sleep_until_kicked(struct worker *worker)
{
	struct epoll_event events[EVENTS_MAX];
	uint64_t deadline, since;
	int count;

	copy_at_hand(worker, false);
	store_release(&worker->asleep, true);
	if (arm(worker, &deadline)) {
		merge_notices(worker, true);
		store_release(&worker->asleep, false);
		return;
	}
	/* Last of all: whoever is called may take the CPU from us, and nothing is held any more. */
	merge_give_all(worker);
	call_take_posts(worker);
	call_chase(worker, true);
	stats_add(&worker->fwd->worker_stats->sleeps, 1);
	since = clock_now_ns();
	count = wait_for_events(worker, events, deadline);
	worker->now_ns = clock_now_ns();
	if (worker->has_called)
		worker->is_answered = worker->now_ns - since < ANSWER_NS;
	worker->has_called = false;
	store_release(&worker->asleep, false);
	store_release(&worker->has_waiting, false);
	resume(worker);
	handle_events(worker, events, count);
}

/* Work came so long after there was none: is it worth while to look on the next time? */
static void learn_gap(struct worker *worker, uint64_t now)
{
	uint64_t most = worker->pool->config.linger_ns;
	uint64_t gap;

	if (worker->idle_since_ns == 0)
		return;
	gap = now - worker->idle_since_ns;
	worker->credit_ns -= min(worker->credit_ns, gap);
	gap = min(gap, 4 * most);
	worker->gap_ns = (3 * worker->gap_ns + gap) / 4;
	worker->idle_since_ns = 0;
}

/*
 * Looks at the rings alone for a while, if that is all that turns would do: what comes is found sooner. The queues may
 * be another worker's by now, and may have stopped.
 */
static void peek(struct worker *worker)
{
	const unsigned int count = worker->peek_count;
	const unsigned int looks = count == worker->active_count ? PEEKS : 1;

	for (unsigned int look = 0; look < looks; look++) {
		for (unsigned int i = 0; i < count; i++) {
			const struct peek *peek = &worker->peeks[i];
			const struct txq *txq = find_queue(worker, peek->id);

			if (unlikely(!txq || !load_acquire(&txq->live)))
				return;
			if (txq_has_at(txq, peek->position)) {
				worker->first = peek->at;
				return;
			}
		}
	}
	cpu_relax();
}

static void look_around(struct worker *worker)
{
	copy_at_hand(worker, sees_cpus(worker));
	merge_notices(worker, true);
	if (++worker->looks % LOOKS_EVERY == 0) {
		rescue_look(worker);
		poll_events(worker);
	} else if (sees_cpus(worker))
		peek(worker);
	else
		sched_yield();
}

/* On duty for others' calls: it is in nobody's way. */
static bool stay(struct worker *worker)
{
	look_around(worker);
	if (cpu_is_wanted(worker))
		sched_yield();
	return true;
}

/* Nothing is there. True: look again; false: sleep. */
static bool linger(struct worker *worker)
{
	uint64_t most = worker->pool->config.linger_ns;
	uint64_t now, on_duty;

	on_duty = load_relaxed(&worker->duty_until_ns);
	if (worker->active_count == 0 && !on_duty)
		return false;
	/* It costs as much as a look. */
	if (worker->looks % CLOCK_EVERY == 0)
		worker->now_ns = clock_now_ns();
	now = worker->now_ns;
	if (on_duty && now < on_duty)
		return stay(worker);
	if (worker->active_count == 0)
		return false;
	if (worker->idle_since_ns == 0)
		worker->idle_since_ns = now;
	if (worker->gap_ns > most)
		most = 0;
	most = max(most, worker->credit_ns);
	if (now - worker->idle_since_ns >= most || cpu_is_wanted(worker))
		return false;
	look_around(worker);
	return true;
}

/* Gives what belongs elsewhere back to where it is at home. */
static void leave(struct worker *worker)
{
	for (uint32_t i = worker->active_count; i-- > 0;) {
		uint32_t id = worker->active[i];
		struct worker *home = homes_get(worker->pool, id);
		uint64_t deadline;

		if (home == worker || part(worker, i, &deadline) == PARTING_GONE)
			continue;
		/* It may have left its place in the list and come back at the end: the next round takes it off. */
		if (claim_hand_over(claim_of(worker, id), worker->index, home->index))
			worker_attend(home, id);
	}
}

/*
 * Its own CPU is short: offers the queues to a worker on an idle one, who takes them when it is there. Only if that CPU
 * has been idle since the last time: between two bursts of its own VMs every CPU is.
 */
static void offer(struct worker *worker, bool full)
{
	struct worker *other = homes_find_idle(worker);
	uint32_t cpu = other ? other->cpu : CPU_NONE;
	uint32_t switches = vm_state_cpu_history(cpu).switches;
	bool stayed = cpu == worker->idle.cpu && switches == worker->idle.switches;

	worker->idle.cpu = cpu;
	worker->idle.switches = switches;
	if (!other || !stayed)
		return;
	/* Where there is some time left half of them is enough. */
	for (uint32_t i = 0; i < worker->active_count; i += full ? 1 : 2) {
		uint32_t id = worker->active[i];

		store_release(&worker->pool->seats[id].offered_to, other->index + 1);
		worker_note(other, id);
	}
	worker_wake(other);
}

static void weigh(struct worker *worker, unsigned int packets, bool wanted)
{
	uint64_t copied = worker->fwd->worker_stats->copied_bytes;
	struct cpu_history history;
	uint64_t now;
	bool full;

	worker->load += packets + (copied - worker->copied_before) / LOAD_BYTES;
	worker->copied_before = copied;
	if (likely(worker->load < LOAD_FULL))
		return;
	now = clock_now_ns();
	history = vm_state_cpu_history(worker->cpu);
	/* Others want it, or have had it, and none of its time was left. */
	full = wanted || (history.idles == worker->history.idles && history.switches - worker->history.switches > 1);
	if (now - worker->load_since_ns < LOAD_NS && (worker->active_count > 1 || full))
		offer(worker, full);
	worker->load_since_ns = now;
	worker->history = history;
	worker->load = 0;
}

/* The kernel's struct sched_attr, first version. C libraries differ in whether they have it. */
struct thread_class {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t slice; /* ns; 0: the default */
	uint64_t deadline;
	uint64_t period;
};

static void set_class(struct worker *worker, bool polite)
{
	static const int fixed[] = {
		[WORKER_BATCH] = SCHED_BATCH,
		[WORKER_NORMAL] = SCHED_OTHER,
		[WORKER_IDLE] = SCHED_IDLE,
	};
	const enum worker_class class = worker->pool->config.class;
	int policy = polite ? SCHED_BATCH : SCHED_OTHER;
	struct thread_class attr = {.size = sizeof(attr), .nice = getpriority(PRIO_PROCESS, 0)};

	worker->polite = polite;
	if (class != WORKER_ADAPTIVE)
		policy = fixed[class];
	attr.policy = (uint32_t)policy;
	attr.slice = policy == SCHED_BATCH ? SLICE_NS : 0;
	if (syscall(SYS_sched_setattr, 0, &attr, 0))
		log_warn("worker %u cannot change its class: %s", worker->index, strerror(errno));
}

/*
 * Guests that sleep are best served by a worker that lets them finish what they do. Guests that poll never finish: a
 * worker that shares a CPU with them and is as polite gets it only when their time slices end.
 */
static void choose_class(struct worker *worker)
{
	bool polite = worker->guests_called * POLLERS_RATIO >= worker->guests_asked;

	if (likely(worker->guests_asked < GUESTS_ASKED))
		return;
	worker->guests_asked = 0;
	worker->guests_called = 0;
	if (polite != worker->polite)
		set_class(worker, polite);
}

static void work_on(struct worker *worker, unsigned int progress)
{
	bool wanted = cpu_is_wanted(worker);

	/* Few packets after many looks: the time is known well enough. */
	if (progress >= CLOCK_EVERY || ++worker->looks % CLOCK_EVERY == 0)
		worker->now_ns = clock_now_ns();
	if (worker->idle_since_ns)
		learn_gap(worker, worker->now_ns);
	worker->credit_ns += progress * CREDIT_NS;
	worker->credit_ns = min(worker->credit_ns, LINGER_TIMES_MAX * worker->pool->config.linger_ns);
	merge_notices(worker, false);
	choose_class(worker);
	if (!worker->pool->config.offload || !sees_cpus(worker))
		return;
	if (wanted)
		leave(worker);
	weigh(worker, progress, wanted);
}

/* @syscalls core: sched_setaffinity sched_setattr getpriority */
static void take_place(struct worker *worker)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	if (worker->cpu != CPU_NONE)
		CPU_SET(worker->cpu, &cpus);
	if (worker->cpu != CPU_NONE && sched_setaffinity(0, sizeof(cpus), &cpus))
		log_warn("worker %u cannot be pinned to CPU %u: %s", worker->index, worker->cpu, strerror(errno));
	store_relaxed(&worker->tid, gettid());
	set_class(worker, true);
}

void *worker_main(void *arg)
{
	struct worker *worker = arg;
	unsigned int turns = 0;

	take_place(worker);
	rcu_register_thread();
	while (!load_acquire(&worker->stop)) {
		unsigned int progress = round_of_turns(worker);

		rcu_quiescent_state();
		store_relaxed(&worker->rounds, worker->rounds + 1);
		if (unlikely(load_relaxed(&worker->moved)))
			rescue_return(worker);
		call_take_posts(worker);
		call_chase(worker, false);
		copy_take(worker);
		if (progress > 0) {
			copy_at_hand(worker, false);
			work_on(worker, progress);
			turns += worker->active_count;
			if (turns < EVENTS_EVERY)
				continue;
			turns = 0;
			poll_events(worker);
		} else if (!linger(worker) && !call_and_look(worker)) {
			sleep_until_kicked(worker);
		}
	}
	merge_give_all(worker);
	call_chase(worker, true);
	rcu_unregister_thread();
	watchdog_end(&worker->pool->watchdog, worker->fwd);
	return NULL;
}
