/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control queue, device side: commands in chains of every shape, answers where they belong, and nothing carried
 * out of what is not a command in full.
 */
#include "guest_ring.h"

#include "core/control_queue.h"

#define NEXT      VRING_DESC_F_NEXT
#define WRITE     VRING_DESC_F_WRITE
#define INDIRECT  VRING_DESC_F_INDIRECT
#define SIZE      16u
#define MOST      1000   /* commands at once */
#define BASE      0xfffa /* indexes wrap early */
#define ACK_AT    (GUEST_DATA + 0x8000u)
#define EVENT_IDX VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX)

struct fixture {
	struct guest_ring guest;
	struct control_queue queue;
	bool refuse;
	unsigned int calls;
	uint16_t pairs;
	uint64_t offloads;
	uint8_t mac[6];
	struct driver_status status;
	bool stop_after;
};

static bool set_pairs(struct control_queue *queue, uint16_t pairs)
{
	struct fixture *f = container_of(queue, struct fixture, queue);

	f->calls++;
	f->pairs = pairs;
	if (f->stop_after)
		queue->live = false;
	return !f->refuse;
}

static bool set_offloads(struct control_queue *queue, uint64_t features)
{
	struct fixture *f = container_of(queue, struct fixture, queue);

	f->calls++;
	f->offloads = features;
	return !f->refuse;
}

static void set_mac(struct control_queue *queue, const uint8_t mac[6])
{
	struct fixture *f = container_of(queue, struct fixture, queue);

	f->calls++;
	memcpy(f->mac, mac, 6);
}

static bool driver_status(struct control_queue *queue, const struct driver_status *status)
{
	struct fixture *f = container_of(queue, struct fixture, queue);

	f->calls++;
	f->status = *status;
	return !f->refuse;
}

static const struct control_queue_ops ops = {
	.set_pairs = set_pairs,
	.set_offloads = set_offloads,
	.set_mac = set_mac,
};

static const struct control_queue_ops driver_ops = {
	.set_pairs = set_pairs,
	.set_offloads = set_offloads,
	.set_mac = set_mac,
	.driver_status = driver_status,
};

static int set_up_features(void **state, uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	guest_ring_init(&f->guest, SIZE);
	f->guest.ring.avail->idx = BASE;
	f->guest.ring.used->idx = BASE;
	f->queue.ops = &ops;
	control_queue_start(&f->queue, &(struct vring_any){.split = f->guest.ring}, &f->guest.memory, features, BASE);
	*state = f;
	return 0;
}

static int set_up(void **state)
{
	return set_up_features(state, VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC));
}

static int set_up_events(void **state)
{
	return set_up_features(state, EVENT_IDX);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	guest_ring_fini(&f->guest);
	free(f);
	return 0;
}

static uint8_t *data_at(struct fixture *f, uint32_t offset)
{
	return f->guest.bytes[0] + offset;
}

static uint16_t used_count(const struct fixture *f)
{
	return (uint16_t)(f->guest.ring.used->idx - BASE);
}

static void expect_used(struct fixture *f, uint16_t at, uint32_t id, uint32_t length)
{
	const struct vring_used_elem *elem = &f->guest.ring.used->ring[(uint16_t)(BASE + at) & f->guest.ring.mask];

	assert_int_equal(elem->id, id);
	assert_int_equal(elem->len, length);
}

static void serve(struct fixture *f)
{
	bool call;

	assert_int_equal(control_queue_serve(&f->queue, MOST, &call), CHAIN_OK);
}

/* Lays a command out in pieces of `piece` bytes and offers it at `head`. */
static void offer_command(struct fixture *f, uint16_t head, const void *bytes, uint32_t size, uint32_t piece)
{
	uint16_t at = head;

	memcpy(data_at(f, GUEST_DATA), bytes, size);
	*data_at(f, ACK_AT) = 0xee;
	for (uint32_t offset = 0; offset < size; offset += piece, at++)
		guest_desc(&f->guest, at, guest_addr(GUEST_DATA + offset), min(piece, size - offset), NEXT,
			   (uint16_t)(at + 1));
	guest_desc(&f->guest, at, guest_addr(ACK_AT), 1, WRITE, 0);
	guest_offer(&f->guest, head);
}

static uint8_t command(struct fixture *f, const void *bytes, uint32_t size)
{
	uint16_t before = used_count(f);

	offer_command(f, 0, bytes, size, (size + 7) / 8);
	serve(f);
	assert_int_equal(used_count(f), (uint16_t)(before + 1));
	expect_used(f, before, 0, 1);
	return *data_at(f, ACK_AT);
}

static void commands_of_every_shape(void **state)
{
	struct fixture *f = *state;
	const uint8_t pairs[] = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 3, 1};
	const uint8_t mac[] = {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 1, 2, 3, 4, 5};

	for (uint32_t piece = 1; piece <= sizeof(mac); piece++) {
		uint16_t before = used_count(f);

		memset(f->mac, 0, sizeof(f->mac));
		offer_command(f, 2, mac, sizeof(mac), piece);
		serve(f);
		assert_int_equal(used_count(f), (uint16_t)(before + 1));
		expect_used(f, before, 2, 1);
		assert_int_equal(*data_at(f, ACK_AT), VIRTIO_NET_OK);
		assert_memory_equal(f->mac, mac + 2, 6);
	}
	assert_int_equal(command(f, pairs, sizeof(pairs)), VIRTIO_NET_OK);
	assert_int_equal(f->pairs, 0x103);
	f->refuse = true;
	assert_int_equal(command(f, pairs, sizeof(pairs)), VIRTIO_NET_ERR);
	assert_int_equal(f->queue.refused, 1);
	assert_int_equal(f->queue.commands, 2 + sizeof(mac));
}

static void through_a_table(void **state)
{
	struct fixture *f = *state;
	const uint8_t offloads[] = {
		VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 0x82, 0, 0, 0, 0, 0, 0xc0, 0};

	memcpy(data_at(f, GUEST_DATA), offloads, sizeof(offloads));
	guest_indirect(&f->guest, GUEST_TABLES, 0, guest_addr(GUEST_DATA), 2, NEXT, 1);
	guest_indirect(&f->guest, GUEST_TABLES, 1, guest_addr(GUEST_DATA + 2), 8, NEXT, 2);
	guest_indirect(&f->guest, GUEST_TABLES, 2, guest_addr(ACK_AT), 1, WRITE, 0);
	guest_desc(&f->guest, 9, guest_addr(GUEST_TABLES), 48, INDIRECT, 0);
	guest_offer(&f->guest, 9);
	serve(f);
	expect_used(f, 0, 9, 1);
	assert_int_equal(*data_at(f, ACK_AT), VIRTIO_NET_OK);
	assert_int_equal(f->offloads, 0xc0000000000082ULL);
}

/* Of every command every size but its own, and every number that is none: refused, and nothing done. */
static void what_is_no_command(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[64] = {0};

	for (unsigned int class = 0; class < 256; class += class < 8 ? 1 : 31) {
		for (unsigned int number = 0; number < 256; number += number < 8 ? 1 : 31) {
			for (uint32_t data = 0; data < 12; data++) {
				bool right = (class == VIRTIO_NET_CTRL_RX && number <= 5 && data == 1) ||
					     (class == VIRTIO_NET_CTRL_MAC && number == 0 && data == 8) ||
					     (class == VIRTIO_NET_CTRL_MAC && number == 1 && data == 6) ||
					     (class == VIRTIO_NET_CTRL_ANNOUNCE && number == 0 && data == 0) ||
					     (class == VIRTIO_NET_CTRL_MQ && number == 0 && data == 2) ||
					     (class == VIRTIO_NET_CTRL_GUEST_OFFLOADS && number == 0 && data == 8);
				unsigned int calls = f->calls;

				bytes[0] = (uint8_t) class;
				bytes[1] = (uint8_t)number;
				assert_int_equal(command(f, bytes, 2 + data), right ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
				if (!right)
					assert_int_equal(f->calls, calls);
			}
		}
	}
	assert_int_equal(command(f, bytes, 1), VIRTIO_NET_ERR);
}

static void longer_than_any_command(void **state)
{
	struct fixture *f = *state;
	static uint8_t bytes[4096] = {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET};

	/* Two tables of 150 addresses each fit; what is larger than what we look at does not. */
	bytes[2] = 150;
	bytes[2 + 4 + 900] = 150;
	assert_int_equal(command(f, bytes, 2 + 2 * (4 + 900)), VIRTIO_NET_OK);
	bytes[2] = 151;
	assert_int_equal(command(f, bytes, 2 + 2 * (4 + 900)), VIRTIO_NET_ERR);
	assert_int_equal(command(f, bytes, sizeof(bytes)), VIRTIO_NET_ERR);
}

/* Without a place for the answer the chain goes back as it is; what is wrong with the ring ends it. */
static void chains_that_cannot_be_answered(void **state)
{
	struct fixture *f = *state;
	bool call;

	guest_desc(&f->guest, 0, guest_addr(GUEST_DATA), 8, 0, 0);
	guest_offer(&f->guest, 0);
	guest_desc(&f->guest, 1, 0xdead0000, 8, NEXT, 2);
	guest_desc(&f->guest, 2, guest_addr(ACK_AT), 1, WRITE, 0);
	guest_offer(&f->guest, 1);
	/* Writable first. */
	guest_desc(&f->guest, 3, guest_addr(ACK_AT), 1, WRITE | NEXT, 4);
	guest_desc(&f->guest, 4, guest_addr(GUEST_DATA), 8, 0, 0);
	guest_offer(&f->guest, 3);
	guest_desc(&f->guest, 5, guest_addr(ACK_AT), 0, WRITE, 0);
	guest_offer(&f->guest, 5);
	serve(f);
	assert_int_equal(used_count(f), 4);
	expect_used(f, 0, 0, 0);
	expect_used(f, 1, 1, 0);
	expect_used(f, 2, 3, 0);
	expect_used(f, 3, 5, 0);
	assert_int_equal(f->queue.refused, 4);
	assert_int_equal(f->calls, 0);

	guest_desc(&f->guest, 6, guest_addr(GUEST_DATA), 8, NEXT, 6);
	guest_offer(&f->guest, 6);
	assert_int_equal(control_queue_serve(&f->queue, MOST, &call), CHAIN_LOOP);
	assert_int_equal(used_count(f), 4);
}

static void an_index_that_jumps(void **state)
{
	struct fixture *f = *state;
	bool call;

	f->guest.ring.avail->idx = (uint16_t)(BASE + SIZE + 1);
	assert_int_equal(control_queue_serve(&f->queue, MOST, &call), CHAIN_AVAIL);
	f->guest.ring.avail->idx = (uint16_t)(BASE - 1);
	assert_int_equal(control_queue_serve(&f->queue, MOST, &call), CHAIN_AVAIL);
	f->guest.ring.avail->idx = (uint16_t)(BASE + 1);
	f->guest.ring.avail->ring[BASE & (SIZE - 1)] = SIZE;
	assert_int_equal(control_queue_serve(&f->queue, MOST, &call), CHAIN_HEAD);
}

/* A command may stop the queue; the next one is for the next start. */
static void stopped_by_a_command(void **state)
{
	struct fixture *f = *state;
	const uint8_t pairs[] = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 1, 0};

	f->stop_after = true;
	offer_command(f, 0, pairs, sizeof(pairs), 4);
	guest_offer(&f->guest, 0);
	serve(f);
	assert_int_equal(f->calls, 1);
	assert_int_equal(used_count(f), 1);
	assert_int_equal(f->queue.last_avail, (uint16_t)(BASE + 1));
}

static void calls_who_wants_to_be_called(void **state)
{
	struct fixture *f = *state;
	const uint8_t rx[] = {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1};
	bool call;

	for (unsigned int i = 0; i < 8; i++) {
		bool wanted = i % 2;

		/* Called when its event is passed: the answer just expected, or one far away. */
		*vring_split_used_event(&f->guest.ring) = (uint16_t)(BASE + i + (wanted ? 0 : 100));
		offer_command(f, 0, rx, sizeof(rx), 3);
		assert_int_equal(control_queue_serve(&f->queue, MOST, &call), CHAIN_OK);
		assert_int_equal(call, wanted);
		/* And it must kick for the next one. */
		assert_int_equal(*vring_split_avail_event(&f->guest.ring), (uint16_t)(BASE + i + 1));
		assert_int_equal(control_queue_serve(&f->queue, MOST, &call), CHAIN_OK);
		assert_false(call);
	}
}

static void calls_by_flag(void **state)
{
	struct fixture *f = *state;
	const uint8_t rx[] = {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1};
	bool call;

	assert_int_equal(f->guest.ring.used->flags, 0);
	for (uint16_t flag = 0; flag < 2; flag++) {
		f->guest.ring.avail->flags = flag;
		offer_command(f, 0, rx, sizeof(rx), 3);
		assert_int_equal(control_queue_serve(&f->queue, MOST, &call), CHAIN_OK);
		assert_int_equal(call, !flag);
	}
}

struct report {
	uint8_t class;
	uint8_t number;
	struct driver_status status;
} __attribute__((packed));

static struct report good_report(void)
{
	return (struct report){
		.class = DRIVER_CTRL_CLASS,
		.number = DRIVER_CTRL_STATUS,
		.status = {.version = DRIVER_STATUS_VERSION,
			   .link = 1,
			   .queues = 2,
			   .mtu = 1500,
			   .kind = "tap",
			   .device = "tap0",
			   .mode = "native, zero copy",
			   .rx_packets = 7,
			   .drops = {[DRIVER_DROP_BAD_FRAME] = UINT64_MAX}},
	};
}

/* Only behind a port that has a driver. */
static void reports_of_drivers(void **state)
{
	struct fixture *f = *state;
	struct report report = good_report();

	assert_int_equal(command(f, &report, sizeof(report)), VIRTIO_NET_ERR);
	assert_int_equal(f->calls, 0);
	f->queue.ops = &driver_ops;
	assert_int_equal(command(f, &report, sizeof(report)), VIRTIO_NET_OK);
	assert_memory_equal(&f->status, &report.status, sizeof(f->status));
	f->refuse = true;
	assert_int_equal(command(f, &report, sizeof(report)), VIRTIO_NET_ERR);
	assert_int_equal(f->calls, 2);
}

static void reports_that_are_none(void **state)
{
	struct fixture *f = *state;
	struct report report = good_report();

	f->queue.ops = &driver_ops;
	for (uint32_t size = 2; size < sizeof(report); size++)
		assert_int_equal(command(f, &report, size), VIRTIO_NET_ERR);
	report.number = 1;
	assert_int_equal(command(f, &report, sizeof(report)), VIRTIO_NET_ERR);
#define WRONG(change)                                                                  \
	do {                                                                           \
		report = good_report();                                                \
		change;                                                                \
		assert_int_equal(command(f, &report, sizeof(report)), VIRTIO_NET_ERR); \
	} while (0)
	WRONG(report.status.version = 0);
	WRONG(report.status.version = DRIVER_STATUS_VERSION + 1);
	WRONG(report.status.link = 2);
	WRONG(report.status.reserved = 1);
	WRONG(memset(report.status.kind, 'x', sizeof(report.status.kind)));
	WRONG(memset(report.status.device, 'x', sizeof(report.status.device)));
	WRONG(memset(report.status.mode, 'x', sizeof(report.status.mode)));
	WRONG(report.status.device[1] = '\n');
	WRONG(report.status.device[1] = '\x7f');
	WRONG(report.status.mode[0] = '\xc3');
	WRONG(report.status.mode[3] = '\x1b');
	WRONG(report.status.kind[15] = 'x'); /* behind the end */
#undef WRONG
	assert_int_equal(f->calls, 0);
}

/* Who puts many commands into its ring does not get them all done at once. */
static void no_more_than_asked_for(void **state)
{
	struct fixture *f = *state;
	const uint8_t rx[] = {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1};
	bool call;

	offer_command(f, 0, rx, sizeof(rx), 3);
	for (unsigned int i = 1; i < 10; i++)
		guest_offer(&f->guest, 0);
	assert_int_equal(control_queue_serve(&f->queue, 4, &call), CHAIN_OK);
	assert_true(call);
	assert_int_equal(used_count(f), 4);
	assert_int_equal(control_queue_serve(&f->queue, 4, &call), CHAIN_OK);
	assert_int_equal(used_count(f), 8);
	assert_int_equal(control_queue_serve(&f->queue, 4, &call), CHAIN_OK);
	assert_int_equal(used_count(f), 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(commands_of_every_shape),
		TEST(through_a_table),
		TEST(what_is_no_command),
		TEST(longer_than_any_command),
		TEST(chains_that_cannot_be_answered),
		TEST(an_index_that_jumps),
		TEST(stopped_by_a_command),
		cmocka_unit_test_setup_teardown(calls_who_wants_to_be_called, set_up_events, tear_down),
		TEST(calls_by_flag),
		TEST(reports_of_drivers),
		TEST(reports_that_are_none),
		TEST(no_more_than_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
