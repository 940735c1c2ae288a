/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Notices: several publications become one call, the guest's wish counts when the notice is given, and what cannot be
 * given any more is dropped.
 */
#include "guest_ring.h"

#include <sys/eventfd.h>

#include "datapath/forward.h"

#define SIZE     64u
#define PORTS    40u /* more than a list has notices */
#define FEATURES (VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX))

struct fixture {
	struct guest_ring guest;
	struct datapath dp;
	struct stats_port *stats;
	struct stats_worker worker;
	struct forwarder *fwd;
	int call_fd;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	guest_ring_init(&f->guest, SIZE);
	f->call_fd = eventfd(0, EFD_NONBLOCK);
	f->stats = calloc(FLOW_PORTS_MAX, sizeof(*f->stats));
	f->dp.flows = flow_table_create(1, 16);
	assert_non_null(f->dp.flows);
	f->fwd = forwarder_create(&f->dp, 0, f->stats, &f->worker);
	assert_non_null(f->fwd);
	/* All over one ring: it is their numbers that matter. */
	for (unsigned int i = 0; i < PORTS; i++) {
		f->dp.ports[i] = port_create(i, 0);
		assert_non_null(f->dp.ports[i]);
		rxq_start(&f->dp.ports[i]->rxq[0], &f->guest.ring, &f->guest.memory, FEATURES, 0, f->call_fd);
		assert_int_equal(
			txq_start(&f->dp.ports[i]->txq[0], &f->guest.ring, &f->guest.memory, FEATURES, 0, f->call_fd),
			0);
	}
	rcu_register_thread();
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	rcu_unregister_thread();
	for (unsigned int i = 0; i < PORTS; i++)
		port_destroy(f->dp.ports[i]);
	forwarder_destroy(f->fwd);
	flow_table_destroy(f->dp.flows);
	guest_ring_fini(&f->guest);
	close(f->call_fd);
	free(f->stats);
	free(f);
	return 0;
}

static void want_call_at(struct fixture *f, uint16_t event)
{
	*vring_split_used_event(&f->guest.ring) = event;
}

static void add(struct fixture *f, unsigned int port, bool transmit, uint16_t from, uint16_t to)
{
	notice_add(f->fwd, f->dp.ports[port], 0, transmit, (struct publication){from, to, (uint16_t)(to - from)});
}

static uint64_t calls(const struct fixture *f)
{
	uint64_t count = 0;

	return read(f->call_fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void publications_are_merged(void **state)
{
	struct fixture *f = *state;

	add(f, 0, false, 4, 6);
	add(f, 1, false, 0, 1);
	add(f, 0, true, 9, 10);
	add(f, 0, false, 6, 6); /* nothing */
	add(f, 0, false, 7, 9);
	assert_int_equal(f->fwd->notices.count, 3);
	assert_int_equal(f->fwd->notices.entries[0].from, 4);
	assert_int_equal(f->fwd->notices.entries[0].to, 9);
	assert_int_equal(f->fwd->notices.entries[0].packets, 4);
	assert_true(f->fwd->notices.entries[2].transmit);
	/* Asked for within the first one, which both are now. */
	want_call_at(f, 5);
	assert_true(notice_give(f->fwd, 0));
	assert_int_equal(calls(f), 1);
	assert_int_equal(f->fwd->notices.count, 2);
	/* The last one has taken its place. */
	assert_true(f->fwd->notices.entries[0].transmit);
	notice_give_all(f->fwd);
	assert_int_equal(f->fwd->notices.count, 0);
	assert_int_equal(calls(f), 0);
	assert_int_equal(f->stats[0].calls, 1);
}

static void the_wish_counts_when_it_is_given(void **state)
{
	struct fixture *f = *state;

	want_call_at(f, 0);
	add(f, 0, true, 0, 2);
	want_call_at(f, 2);
	assert_false(notice_give(f->fwd, 0));
	add(f, 0, true, 2, 3);
	assert_true(notice_give(f->fwd, 0));
	assert_int_equal(calls(f), 1);
}

static void what_is_gone_is_not_called(void **state)
{
	struct fixture *f = *state;
	struct port *gone = f->dp.ports[1];

	want_call_at(f, 0);
	add(f, 0, false, 0, 1);
	add(f, 0, true, 0, 1);
	add(f, 1, false, 0, 1);
	port_pause(f->dp.ports[0], true);
	f->dp.ports[1] = NULL;
	notice_give_all(f->fwd);
	assert_int_equal(f->fwd->notices.count, 0);
	assert_int_equal(calls(f), 0);
	f->dp.ports[1] = gone;
}

/* A range that would go round hides the event that it passes. */
static void ranges_do_not_go_round(void **state)
{
	struct fixture *f = *state;

	want_call_at(f, 10);
	add(f, 0, false, 0, 0x4000);
	add(f, 0, false, 0x4000, 0x9000);
	assert_int_equal(calls(f), 1);
	assert_int_equal(f->fwd->notices.count, 1);
	assert_int_equal(f->fwd->notices.entries[0].from, 0x4000);
}

/* Another thread has published all the rest of a round: the ends are close, and what lies before the first counts. */
static void a_round_in_between_is_no_range(void **state)
{
	struct fixture *f = *state;

	add(f, 0, false, 10, 12);
	add(f, 0, false, 2, 13);
	want_call_at(f, 5);
	notice_give_all(f->fwd);
	assert_int_equal(calls(f), 1);
	/* Nor does a notice become shorter. */
	add(f, 0, false, 20, 60);
	want_call_at(f, 50);
	add(f, 0, false, 30, 40);
	notice_give_all(f->fwd);
	assert_int_equal(calls(f), 1);
}

static void no_notice_is_lost_when_there_are_many(void **state)
{
	struct fixture *f = *state;

	want_call_at(f, 0);
	for (unsigned int i = 0; i < PORTS; i++)
		add(f, i, false, 0, 1);
	assert_in_range(f->fwd->notices.count, 1, NOTICES_MAX);
	notice_give_all(f->fwd);
	assert_int_equal(calls(f), PORTS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(publications_are_merged),        TEST(the_wish_counts_when_it_is_given),
		TEST(what_is_gone_is_not_called),     TEST(ranges_do_not_go_round),
		TEST(a_round_in_between_is_no_range), TEST(no_notice_is_lost_when_there_are_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
