/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Turns whose copies are shared with a helper, who is the test itself and does it at the worst moments: takes a part
 * and is gone for long, comes too late, comes when the queues stand still. What must hold: a receiver sees nothing that
 * is not there in full, and all in order; a sender gets nothing back before that; and nothing is forgotten.
 */
#include "guest_ring.h"

#include <pthread.h>
#include <sched.h>

#include "datapath/forward.h"
#include "lib/clock.h"

#define SIZE     256u
#define FRAME    60000u
#define ROOM     61440u /* of a frame, in either guest's second region */
#define FRAMES   4u     /* a group that is worth sharing */
#define FEATURES (VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF))
#define HEADER   ((uint32_t)VIRTIO_NET_HDR_LEN)

struct fixture {
	struct guest_ring sender, receiver;
	struct datapath dp;
	struct stats_port *stats;
	struct stats_worker worker, helper_worker;
	struct forwarder *fwd, *helper;
	struct copy_helpers *helpers;
	struct txq *txq;
	struct rxq *rxq;
	uint32_t buffer; /* bytes of a receive buffer */
	unsigned int sent, offered;
	/* the helper's */
	bool willing;
	unsigned int takes; /* parts that it takes when it is offered a job */
	struct copy_part parts[16];
	unsigned int part_count;
	struct copy_job *last; /* that was offered */
	unsigned int withdrawn;
};

static struct fixture *current;

static bool ask(struct copy_helpers *helpers)
{
	(void)helpers;
	return current->willing;
}

static void take(struct fixture *f, unsigned int count)
{
	while (count-- > 0 && copy_job_take(f->helper, f->last, &f->parts[f->part_count]))
		f->part_count++;
}

static void offer(struct copy_helpers *helpers, struct copy_job *job)
{
	(void)helpers;
	current->last = job;
	take(current, current->takes);
}

static void withdraw(struct copy_helpers *helpers, struct copy_job *job)
{
	(void)helpers;
	assert_ptr_equal(job, current->last);
	current->withdrawn++;
}

/* The oldest part that it has. */
static bool make(struct fixture *f)
{
	struct copy_part part = f->parts[0];

	assert_true(f->part_count > 0);
	memmove(&f->parts[0], &f->parts[1], --f->part_count * sizeof(f->parts[0]));
	return copy_job_make(f->helper, &part);
}

static int set_up(void **state, uint32_t buffer)
{
	const struct flow_key mask = {.in_port = UINT32_MAX};
	const struct flow_action action = {.type = FLOW_ACTION_OUTPUT, .value = 1};
	struct flow_key key = {.in_port = 0};
	struct fixture *f = calloc(1, sizeof(*f));
	uint64_t id;

	assert_non_null(f);
	current = f;
	guest_ring_init(&f->sender, SIZE);
	guest_ring_init(&f->receiver, SIZE);
	f->dp.event_fd = -1;
	f->dp.flows = flow_table_create(2, 16);
	f->stats = calloc(2 * FLOW_PORTS_MAX, sizeof(*f->stats));
	f->fwd = forwarder_create(&f->dp, 0, f->stats, &f->worker);
	f->helper = forwarder_create(&f->dp, 1, f->stats + FLOW_PORTS_MAX, &f->helper_worker);
	f->helpers = aligned_alloc(CACHE_LINE, sizeof(*f->helpers));
	assert_true(f->dp.flows && f->stats && f->fwd && f->helper && f->helpers);
	memset(f->helpers, 0, sizeof(*f->helpers));
	f->helpers->ask = ask;
	f->helpers->offer = offer;
	f->helpers->withdraw = withdraw;
	f->fwd->helpers = f->helpers;
	f->willing = true;
	assert_int_equal(flow_table_add(f->dp.flows, &key, &mask, &action, 1, 0, &id), 0);
	for (uint32_t i = 0; i < 2; i++)
		f->dp.ports[i] = port_create(i, NS_PER_S);
	f->dp.ports[0]->memory = &f->sender.memory;
	f->dp.ports[1]->memory = &f->receiver.memory;
	f->txq = &f->dp.ports[0]->txq[0];
	f->rxq = &f->dp.ports[1]->rxq[0];
	assert_int_equal(txq_start(f->txq, &f->sender.ring, &f->sender.memory, FEATURES, 0, -1), 0);
	rxq_start(f->rxq, &f->receiver.ring, &f->receiver.memory, FEATURES, 0, -1);
	f->dp.ports[1]->pairs_running = 1;
	f->buffer = buffer;
	rcu_register_thread();
	*state = f;
	return 0;
}

static int set_up_large(void **state)
{
	return set_up(state, ROOM);
}

static int set_up_merged(void **state)
{
	return set_up(state, 4096);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	rcu_unregister_thread();
	for (unsigned int i = 0; i < 2; i++)
		port_destroy(f->dp.ports[i]);
	forwarder_destroy(f->fwd);
	forwarder_destroy(f->helper);
	free(f->helpers);
	flow_table_destroy(f->dp.flows);
	guest_ring_fini(&f->sender);
	guest_ring_fini(&f->receiver);
	free(f->stats);
	free(f);
	return 0;
}

/* Place i of the second regions, which both guests use for frames in turn. */
static uint8_t *sender_at(struct fixture *f, unsigned int frame)
{
	return f->sender.bytes[1] + frame % FRAMES * ROOM;
}

/* The receiver gives buffers for so many more frames. */
static void give(struct fixture *f, unsigned int frames)
{
	const unsigned int each = ROOM / f->buffer;

	for (unsigned int i = 0; i < frames * each; i++, f->offered++) {
		unsigned int slot = f->offered % (FRAMES * each);

		guest_desc(&f->receiver, slot, guest_addr(GUEST_BYTES + slot * f->buffer), f->buffer,
			   VRING_DESC_F_WRITE, 0);
		guest_offer(&f->receiver, (uint16_t)slot);
	}
}

static uint8_t pattern(unsigned int frame, uint32_t offset)
{
	return (uint8_t)(offset * 7 + offset / 251 + frame * 31);
}

static void send_bytes(struct fixture *f, uint32_t bytes)
{
	uint8_t *at = sender_at(f, f->sent);
	const uint16_t slot = (uint16_t)(f->sent % FRAMES);

	memset(at, 0, HEADER);
	for (uint32_t i = 0; i < bytes; i++)
		at[HEADER + i] = pattern(f->sent, i);
	guest_desc(&f->sender, slot, guest_addr(GUEST_BYTES + slot * ROOM), HEADER + bytes, 0, 0);
	guest_offer(&f->sender, slot);
	f->sent++;
}

static void send_group(struct fixture *f)
{
	for (unsigned int i = 0; i < FRAMES; i++)
		send_bytes(f, FRAME);
}

/* The frame of this number has arrived, in its buffers: those of its number. */
static void expect_frame(const struct fixture *f, unsigned int frame, uint32_t bytes)
{
	const uint8_t *at = f->receiver.bytes[1] + frame % FRAMES * ROOM;
	const struct virtio_net_hdr_mrg_rxbuf *net = (const void *)at;

	assert_int_equal(net->num_buffers, (HEADER + bytes + f->buffer - 1) / f->buffer);
	for (uint32_t i = 0; i < bytes; i++) {
		if (at[HEADER + i] != pattern(frame, i))
			fail_msg("frame %u: byte %u", frame, i);
	}
}

static unsigned int turn(struct fixture *f)
{
	unsigned int progress = forward_turn(f->fwd, f->txq);

	notice_give_all(f->fwd);
	notice_give_all(f->helper);
	return progress;
}

static unsigned int elements(const struct fixture *f, unsigned int frames)
{
	return frames * (ROOM / f->buffer);
}

static void expect_published(const struct fixture *f, unsigned int receiver, unsigned int sender)
{
	assert_int_equal(f->receiver.ring.used->idx, elements(f, receiver));
	assert_int_equal(f->sender.ring.used->idx, sender);
}

static void expect_group(const struct fixture *f, unsigned int first)
{
	for (unsigned int i = 0; i < FRAMES; i++)
		expect_frame(f, first + i, FRAME);
}

static void nobody_comes(void **state)
{
	struct fixture *f = *state;

	give(f, FRAMES);
	send_group(f);
	assert_int_equal(turn(f), FRAMES);
	assert_non_null(f->last);
	assert_int_equal(f->withdrawn, 1);
	expect_published(f, FRAMES, FRAMES);
	expect_group(f, 0);
	assert_int_equal(f->worker.copied_bytes, FRAMES * FRAME);
	assert_int_equal(f->worker.delivered_bytes, FRAMES * FRAME);
	assert_int_equal(turn(f), 0);
}

static void nobody_is_asked(void **state)
{
	struct fixture *f = *state;

	give(f, FRAMES);
	/* Too little. */
	send_bytes(f, FRAME);
	send_bytes(f, FRAME);
	assert_int_equal(turn(f), 2);
	f->willing = false;
	send_bytes(f, FRAME);
	send_bytes(f, FRAME);
	assert_int_equal(turn(f), 2);
	expect_published(f, 4, 4);
	assert_null(f->last);
	expect_group(f, 0);
}

static void helper_takes_all(void **state)
{
	struct fixture *f = *state;

	give(f, FRAMES);
	send_group(f);
	f->takes = 16;
	assert_int_equal(turn(f), FRAMES);
	expect_published(f, 0, 0);
	/* In any order. */
	for (unsigned int i = f->part_count; i > 0; i--) {
		assert_false(txq_copy_ended(f->txq, txq_copies(f->txq)));
		assert_int_equal(turn(f), 0);
		expect_published(f, 0, 0);
		assert_int_equal(make(f), i == 1);
	}
	assert_int_equal(f->helper->notices.count, 1);
	expect_published(f, FRAMES, 0);
	expect_group(f, 0);
	assert_true(txq_copy_ended(f->txq, txq_copies(f->txq)));
	assert_true(forward_arm(f->fwd, f->txq));
	assert_int_equal(turn(f), 1);
	expect_published(f, FRAMES, FRAMES);
	assert_int_equal(turn(f), 0);
	assert_int_equal(f->worker.copied_bytes + f->helper_worker.copied_bytes, FRAMES * FRAME);
	assert_true(f->helper_worker.copied_bytes > f->worker.copied_bytes);
}

/* It has a part, and its CPU is taken: all goes on meanwhile but what is behind it. */
static void helper_is_away(void **state)
{
	struct fixture *f = *state;

	give(f, FRAMES);
	send_group(f);
	f->takes = 1;
	assert_int_equal(turn(f), FRAMES);
	assert_int_equal(f->part_count, 1);
	expect_published(f, 0, 0);
	/* The worker may sleep, but not for long, and not without the queue. */
	assert_false(forward_arm(f->fwd, f->txq));
	assert_int_not_equal(forward_deadline(f->fwd, f->txq), 0);
	f->takes = 0;
	assert_true(make(f));
	expect_published(f, FRAMES, 0);
	expect_group(f, 0);
	assert_int_equal(turn(f), 1);
	expect_published(f, FRAMES, FRAMES);
	assert_int_equal(forward_deadline(f->fwd, f->txq), 0);
}

/* Its ring has room for three groups: two are under way, the third is not shared. */
static void two_are_under_way(void **state)
{
	struct fixture *f = *state;
	struct txq *txq = f->txq;

	f->takes = 1;
	for (unsigned int group = 0; group < 3; group++) {
		give(f, FRAMES);
		send_group(f);
		assert_int_equal(turn(f), FRAMES);
		/* What is read of the sender's memory later is the last group's: the sender broke the rule here. */
		expect_published(f, 0, 0);
	}
	assert_int_equal(f->withdrawn, 2);
	assert_int_equal(f->part_count, 2);
	assert_int_equal(txq_copies(txq), 3);
	/* The second one first: it waits for the other. */
	assert_true(copy_job_make(f->helper, &f->parts[1]));
	expect_published(f, 0, 0);
	assert_int_equal(turn(f), 1);
	expect_published(f, 0, 0);
	assert_true(copy_job_make(f->helper, &f->parts[0]));
	assert_int_equal(f->receiver.ring.used->idx, (uint16_t)elements(f, 3 * FRAMES));
	assert_int_equal(turn(f), 1);
	expect_published(f, 3 * FRAMES, 3 * FRAMES);
	assert_int_equal(txq_copies(txq), 0);
}

/* The main thread stops the queues when the grace period is over: the helper has ended. */
static void queue_stops(void **state)
{
	struct fixture *f = *state;

	give(f, FRAMES);
	send_group(f);
	f->takes = 1;
	assert_int_equal(turn(f), FRAMES);
	port_pause(f->dp.ports[0], true);
	assert_int_equal(turn(f), 0);
	assert_true(make(f));
	/* Delivered is delivered: it does not come again. */
	assert_int_equal(txq_stop(f->txq), FRAMES);
	expect_published(f, FRAMES, FRAMES);
	assert_int_equal(rxq_stop(f->rxq), elements(f, FRAMES));
}

/* It was quiescent since then, so nobody waits for it. */
static void helper_sees_them_stand(void **state)
{
	struct fixture *f = *state;

	for (unsigned int port = 0; port < 2; port++) {
		give(f, FRAMES);
		send_group(f);
		f->takes = 1;
		assert_int_equal(turn(f), FRAMES);
		/* There is another part, as far as it knows. */
		__atomic_store_n(&f->last->claims, f->last->claims - 1, __ATOMIC_RELAXED);
		port ? (f->rxq->live = false) : (f->txq->live = false);
		take(f, 1);
		assert_int_equal(f->part_count, 1);
		f->rxq->live = f->txq->live = true;
		f->dp.ports[port] = NULL;
		take(f, 1);
		assert_int_equal(f->part_count, 1);
		f->dp.ports[port] = port ? container_of(f->rxq, struct port, rxq[0])
					 : container_of(f->txq, struct port, txq[0]);
		__atomic_store_n(&f->last->claims, f->last->claims + 1, __ATOMIC_RELAXED);
		assert_true(make(f));
		assert_int_equal(turn(f), 1);
	}
	expect_published(f, 2 * FRAMES, 2 * FRAMES);
}

static void helper_is_late(void **state)
{
	struct fixture *f = *state;
	struct copy_part part;
	struct copy_job *old;

	give(f, FRAMES);
	send_group(f);
	assert_int_equal(turn(f), FRAMES);
	old = f->last;
	assert_false(copy_job_take(f->helper, old, &part));
	/* The same one, but in its next life. */
	give(f, FRAMES);
	send_group(f);
	f->takes = 1;
	assert_int_equal(turn(f), FRAMES);
	assert_ptr_equal(f->last, old);
	assert_false(copy_job_take(f->helper, old, &part));
	assert_true(make(f));
	assert_int_equal(turn(f), 1);
	expect_published(f, 2 * FRAMES, 2 * FRAMES);
	expect_group(f, FRAMES);
}

static void memory_shrinks(void **state)
{
	struct fixture *f = *state;

	give(f, FRAMES);
	send_group(f);
	f->takes = 1;
	assert_int_equal(turn(f), FRAMES);
	/* As the handler of SIGBUS does, in whatever thread. */
	f->sender.memory.faulted = true;
	f->receiver.memory.faulted = true;
	assert_true(make(f));
	assert_int_equal(f->dp.ports[0]->fault, PORT_FAULT_MEMORY_SHRUNK);
	assert_int_equal(f->dp.ports[1]->fault, PORT_FAULT_MEMORY_SHRUNK);
	assert_int_equal(txq_stop(f->txq), FRAMES);
}

/* A packet that was held back for its receiver's buffers is like any other afterwards. */
static void some_wait(void **state)
{
	struct fixture *f = *state;

	give(f, FRAMES - 1);
	send_group(f);
	f->takes = 1;
	assert_int_equal(turn(f), FRAMES);
	assert_int_equal(f->txq->waiting_count, 1);
	give(f, 1);
	f->willing = false;
	assert_int_equal(turn(f), 1);
	expect_published(f, 0, 0);
	assert_true(make(f));
	expect_published(f, FRAMES, 0);
	assert_int_equal(turn(f), 1);
	expect_published(f, FRAMES, FRAMES);
	expect_group(f, 0);
	assert_int_equal(f->stats[0].in_packets, FRAMES);
	assert_int_equal(f->stats[1].out_packets, FRAMES);
}

/* With a thread that helps whenever there is something. */
struct volunteer {
	struct fixture *f;
	pthread_t thread;
	bool stop; /* atomic */
};

static void *volunteer_main(void *arg)
{
	struct volunteer *volunteer = arg;
	struct fixture *f = volunteer->f;

	rcu_register_thread();
	while (!load_acquire(&volunteer->stop)) {
		for (unsigned int i = 0; i < COPY_JOBS; i++) {
			struct copy_part part;

			while (copy_job_take(f->helper, &f->helpers->jobs[i], &part))
				copy_job_make(f->helper, &part);
		}
		notice_give_all(f->helper);
		rcu_quiescent_state();
		sched_yield(); /* the other one may have no CPU of its own */
	}
	rcu_unregister_thread();
	return NULL;
}

static void with_threads(void **state)
{
	struct fixture *f = *state;
	struct volunteer volunteer = {.f = f};
	const unsigned int rounds = 400;

	assert_int_equal(pthread_create(&volunteer.thread, NULL, volunteer_main, &volunteer), 0);
	for (unsigned int round = 0; round < rounds; round++) {
		const uint16_t before = f->sender.ring.used->idx;

		give(f, FRAMES);
		send_group(f);
		while (load_acquire(&f->sender.ring.used->idx) != (uint16_t)(before + FRAMES)) {
			forward_turn(f->fwd, f->txq);
			notice_give_all(f->fwd);
			rcu_quiescent_state();
			sched_yield();
		}
		assert_int_equal(f->receiver.ring.used->idx, (uint16_t)elements(f, (round + 1) * FRAMES));
		assert_int_equal(f->sender.ring.used->idx, (round + 1) * FRAMES);
		expect_group(f, round * FRAMES);
	}
	store_release(&volunteer.stop, true);
	assert_int_equal(pthread_join(volunteer.thread, NULL), 0);
	assert_int_equal(f->worker.copied_bytes + f->helper_worker.copied_bytes, (uint64_t)rounds * FRAMES * FRAME);
	print_message("helped with %u of 100\n",
		      (unsigned int)(100 * f->helper_worker.copied_bytes / ((uint64_t)rounds * FRAMES * FRAME)));
}

#define TEST(name)                                                      \
	cmocka_unit_test_setup_teardown(name, set_up_large, tear_down), \
		cmocka_unit_test_setup_teardown(name, set_up_merged, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nobody_comes),           TEST(nobody_is_asked), TEST(helper_takes_all), TEST(helper_is_away),
		TEST(two_are_under_way),      TEST(queue_stops),     TEST(helper_is_late),   TEST(memory_shrinks),
		TEST(helper_sees_them_stand), TEST(some_wait),       TEST(with_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
