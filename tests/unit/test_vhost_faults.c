/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What bad vhost-user messages get: each ends its connection with the fault that names it, leaves
 * no descriptor and no mapping behind, and the next front end finds the port as new. The table's
 * cases come to a device whose first pair runs.
 */
#include "vhost_fixture.h"

/* Descriptors that a case sends along. */
enum {
	NONE,
	EVENT,
	FIFO,
	SOCKET,
	MEMORY, /* a memory file of FIXTURE_MEMORY bytes */
	DIRECTORY,
	DEVICE_NULL,
	PROC_FILE, /* regular, but on no file system that could be trusted */
	FD_KINDS
};

static int make_fd(int kind)
{
	int pair[2];

	switch (kind) {
	case EVENT:
		return eventfd(0, EFD_CLOEXEC);
	case FIFO:
		assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
		close(pair[0]);
		return pair[1];
	case SOCKET:
		return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	case MEMORY:
		return fixture_file(FIXTURE_MEMORY);
	case DIRECTORY:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case DEVICE_NULL:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	default:
		return open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	}
}

struct fault_case {
	const char *what;
	uint32_t request;
	uint32_t flags; /* in place of VHOST_USER_VERSION, if not 0 */
	uint32_t size;  /* of the payload */
	union vhost_user_payload payload;
	int fds[12]; /* kinds, up to the first NONE */
	enum vhost_fault fault;
};

#define U64(value)          .size = 8, .payload.u64 = (value)
#define STATE(index_, num_) .size = 8, .payload.state = {.index = (index_), .num = (num_)}
#define ADDR(...)           .size = sizeof(struct vhost_user_vring_addr), .payload.addr = {__VA_ARGS__}
#define REGION(...)         .size = 40, .payload.region.region = {__VA_ARGS__}
#define REQUEST(name)       .what = #name, .request = VHOST_USER_##name

#define AT(page) (FIXTURE_USER + (page)*FIXTURE_PAGE)

static const struct fault_case cases[] = {
	/* the header */
	{REQUEST(GET_FEATURES), .flags = 2, .fault = VHOST_FAULT_VERSION},
	{REQUEST(GET_FEATURES), .flags = VHOST_USER_VERSION | VHOST_USER_REPLY, .fault = VHOST_FAULT_VERSION},
	{REQUEST(NONE), .fault = VHOST_FAULT_UNKNOWN},
	{.what = "beyond the last", .request = VHOST_USER_REQUEST_MAX, .fault = VHOST_FAULT_UNKNOWN},
	{.what = "far beyond", .request = UINT32_MAX, .fault = VHOST_FAULT_UNKNOWN},
	{.what = "unknown, to be acknowledged",
	 .request = 1000,
	 .flags = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY,
	 .fault = VHOST_FAULT_UNKNOWN},
	{REQUEST(SET_LOG_BASE), .size = 16, .fds = {MEMORY}, .fault = VHOST_FAULT_UNKNOWN},
	{REQUEST(SET_LOG_FD), .fds = {EVENT}, .fault = VHOST_FAULT_UNKNOWN},
	{REQUEST(SET_VRING_ENDIAN), STATE(0, 1), .fault = VHOST_FAULT_UNKNOWN},
	{REQUEST(IOTLB_MSG), .size = 32, .fault = VHOST_FAULT_UNKNOWN},
	{REQUEST(POSTCOPY_ADVISE), .fault = VHOST_FAULT_UNKNOWN},
	{REQUEST(GET_INFLIGHT_FD), .size = 24, .fault = VHOST_FAULT_UNKNOWN},
	{REQUEST(VRING_KICK), STATE(0, 0), .fault = VHOST_FAULT_UNKNOWN},
	{REQUEST(GET_FEATURES), U64(0), .fault = VHOST_FAULT_SIZE},
	{REQUEST(SET_FEATURES), .size = 0, .fault = VHOST_FAULT_SIZE},
	{REQUEST(SET_FEATURES), .size = 7, .fault = VHOST_FAULT_SIZE},
	{REQUEST(SET_FEATURES), .size = 9, .fault = VHOST_FAULT_SIZE},
	{REQUEST(SET_VRING_ADDR), .size = 39, .fault = VHOST_FAULT_SIZE},
	{REQUEST(SET_MEM_TABLE), .size = 7, .fault = VHOST_FAULT_SIZE},
	{REQUEST(SET_MEM_TABLE), .size = sizeof(struct vhost_user_mem_table) + 1, .fault = VHOST_FAULT_SIZE},
	{REQUEST(ADD_MEM_REG), .size = 32, .fds = {MEMORY}, .fault = VHOST_FAULT_SIZE},
	{REQUEST(GET_CONFIG), .size = 11, .fault = VHOST_FAULT_SIZE},
	{REQUEST(SET_STATUS), .size = 1, .fault = VHOST_FAULT_SIZE},

	/* descriptors */
	{REQUEST(GET_FEATURES), .fds = {EVENT}, .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(SET_FEATURES), U64(0), .fds = {MEMORY}, .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(SET_VRING_KICK), U64(0), .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(SET_VRING_CALL), U64(0), .fds = {EVENT, EVENT}, .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(SET_VRING_ERR), U64(VHOST_USER_VRING_NOFD), .fds = {EVENT}, .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(ADD_MEM_REG), REGION(.size = FIXTURE_PAGE), .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(ADD_MEM_REG), REGION(.size = FIXTURE_PAGE), .fds = {MEMORY, MEMORY}, .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(REM_MEM_REG), REGION(.size = FIXTURE_PAGE), .fds = {MEMORY, MEMORY}, .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(SET_MEM_TABLE), .size = 40, .payload.table = {.count = 1}, .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(SET_MEM_TABLE), .size = 40, .payload.table = {.count = 1}, .fds = {MEMORY, MEMORY},
	 .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(SET_VRING_KICK), U64(0), .fds = {EVENT, EVENT, EVENT, EVENT, EVENT, EVENT, EVENT, EVENT, EVENT},
	 .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(SET_VRING_KICK), U64(0), .fds = {MEMORY}, .fault = VHOST_FAULT_EVENT_FD},
	{REQUEST(SET_VRING_CALL), U64(0), .fds = {DIRECTORY}, .fault = VHOST_FAULT_EVENT_FD},
	{REQUEST(SET_VRING_ERR), U64(0), .fds = {DEVICE_NULL}, .fault = VHOST_FAULT_EVENT_FD},
	{REQUEST(SET_VRING_KICK), U64(0), .fds = {PROC_FILE}, .fault = VHOST_FAULT_EVENT_FD},
	{REQUEST(SET_BACKEND_REQ_FD), .fds = {MEMORY}, .fault = VHOST_FAULT_EVENT_FD},

	/* rings */
	{REQUEST(SET_VRING_NUM), STATE(5, 128), .fault = VHOST_FAULT_QUEUE_INDEX},
	{REQUEST(SET_VRING_BASE), STATE(5, 0), .fault = VHOST_FAULT_QUEUE_INDEX},
	{REQUEST(GET_VRING_BASE), STATE(UINT32_MAX, 0), .fault = VHOST_FAULT_QUEUE_INDEX},
	{REQUEST(SET_VRING_ENABLE), STATE(0x80000000, 1), .fault = VHOST_FAULT_QUEUE_INDEX},
	{REQUEST(SET_VRING_ADDR), ADDR(.index = 255), .fault = VHOST_FAULT_QUEUE_INDEX},
	{REQUEST(SET_VRING_KICK), U64(5), .fds = {EVENT}, .fault = VHOST_FAULT_QUEUE_INDEX},
	{REQUEST(SET_VRING_CALL), U64(255), .fds = {EVENT}, .fault = VHOST_FAULT_QUEUE_INDEX},
	{REQUEST(SET_VRING_ERR), U64(0xff00), .fds = {EVENT}, .fault = VHOST_FAULT_DESCRIPTORS},
	{REQUEST(SET_VRING_ERR), U64(1ULL << 32), .fds = {EVENT}, .fault = VHOST_FAULT_QUEUE_INDEX},
	{REQUEST(SET_VRING_KICK), U64(VHOST_USER_VRING_NOFD | 254), .fault = VHOST_FAULT_QUEUE_INDEX},
	{REQUEST(SET_VRING_NUM), STATE(2, 0), .fault = VHOST_FAULT_QUEUE_SIZE},
	{REQUEST(SET_VRING_NUM), STATE(2, 100), .fault = VHOST_FAULT_QUEUE_SIZE},
	{REQUEST(SET_VRING_NUM), STATE(2, 65536), .fault = VHOST_FAULT_QUEUE_SIZE},
	{REQUEST(SET_VRING_NUM), STATE(2, 0x80000000), .fault = VHOST_FAULT_QUEUE_SIZE},
	{REQUEST(SET_VRING_NUM), STATE(0, 64), .fault = VHOST_FAULT_STATE},
	{REQUEST(SET_VRING_BASE), STATE(0, 0), .fault = VHOST_FAULT_STATE},
	{REQUEST(SET_VRING_BASE), STATE(2, 65536), .fault = VHOST_FAULT_VALUE},
	{REQUEST(SET_VRING_ENABLE), STATE(0, 2), .fault = VHOST_FAULT_VALUE},
	{REQUEST(SET_VRING_ADDR), ADDR(.index = 2, .flags = 1), .fault = VHOST_FAULT_VALUE},
	{REQUEST(SET_VRING_ADDR), ADDR(.index = 2, .desc = 8), .fault = VHOST_FAULT_RING_ADDRESS},
	{REQUEST(SET_VRING_ADDR), ADDR(.index = 2, .avail = 1), .fault = VHOST_FAULT_RING_ADDRESS},
	{REQUEST(SET_VRING_ADDR), ADDR(.index = 2, .used = 2), .fault = VHOST_FAULT_RING_ADDRESS},
	/* of a ring that runs: outside, across the end, wrapping */
	{REQUEST(SET_VRING_ADDR), ADDR(.index = 0, .desc = 0, .avail = AT(1), .used = AT(2)),
	 .fault = VHOST_FAULT_RING_ADDRESS},
	{REQUEST(SET_VRING_ADDR), ADDR(.index = 0, .desc = AT(64) - 16, .avail = AT(1), .used = AT(2)),
	 .fault = VHOST_FAULT_RING_ADDRESS},
	{REQUEST(SET_VRING_ADDR), ADDR(.index = 0, .desc = AT(0), .avail = AT(64) - 256, .used = AT(2)),
	 .fault = VHOST_FAULT_RING_ADDRESS},
	{REQUEST(SET_VRING_ADDR), ADDR(.index = 0, .desc = AT(0), .avail = AT(1), .used = UINT64_MAX - 3),
	 .fault = VHOST_FAULT_RING_ADDRESS},

	/* memory; what a region must not be in itself is test_guest_memory.c's */
	{REQUEST(SET_MEM_TABLE), .size = 8, .payload.table = {.count = 9}, .fault = VHOST_FAULT_REGION},
	{REQUEST(SET_MEM_TABLE), .size = 8, .payload.table = {.count = UINT32_MAX}, .fault = VHOST_FAULT_REGION},
	{REQUEST(SET_MEM_TABLE), .size = 40, .payload.table = {.count = 2}, .fds = {MEMORY, MEMORY},
	 .fault = VHOST_FAULT_SIZE},
	{REQUEST(SET_MEM_TABLE), .size = 72,
	 .payload.table = {.count = 2,
			   .regions = {{.guest_addr = 0x1000, .size = 0x1000, .user_addr = 0x1000},
				       {.guest_addr = 0x1000, .size = 0x1000, .user_addr = 0x1000}}},
	 .fds = {MEMORY, MEMORY}, .fault = VHOST_FAULT_REGION},
	{REQUEST(SET_MEM_TABLE), .size = 40, .payload.table = {.count = 1}, .fds = {MEMORY},
	 .fault = VHOST_FAULT_REGION},
	{REQUEST(SET_MEM_TABLE), .size = 40, .payload.table = {.count = 1, .regions = {{.size = FIXTURE_PAGE}}},
	 .fds = {PROC_FILE}, .fault = VHOST_FAULT_MEMORY_FILE},
	{REQUEST(ADD_MEM_REG), REGION(.guest_addr = FIXTURE_GUEST + FIXTURE_PAGE, .size = FIXTURE_PAGE),
	 .fds = {MEMORY}, .fault = VHOST_FAULT_REGION},
	{REQUEST(ADD_MEM_REG), REGION(.size = FIXTURE_MEMORY + 1), .fds = {MEMORY}, .fault = VHOST_FAULT_REGION},
	{REQUEST(ADD_MEM_REG), REGION(.guest_addr = UINT64_MAX - 15, .size = FIXTURE_PAGE), .fds = {MEMORY},
	 .fault = VHOST_FAULT_REGION},
	{REQUEST(ADD_MEM_REG), REGION(.size = FIXTURE_PAGE), .fds = {EVENT}, .fault = VHOST_FAULT_MEMORY_FILE},
	{REQUEST(ADD_MEM_REG), REGION(.size = FIXTURE_PAGE), .fds = {DIRECTORY}, .fault = VHOST_FAULT_MEMORY_FILE},

	/* values */
	{REQUEST(SET_FEATURES), U64(1ULL << 62), .fault = VHOST_FAULT_FEATURES},
	{REQUEST(SET_FEATURES), U64(VIRTIO_BIT(VIRTIO_F_RING_PACKED)), .fault = VHOST_FAULT_FEATURES},
	{REQUEST(SET_FEATURES), U64(FIXTURE_PROTOCOL), .fault = VHOST_FAULT_FEATURES},
	{REQUEST(SET_PROTOCOL_FEATURES), U64(VIRTIO_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD)),
	 .fault = VHOST_FAULT_FEATURES},
	{REQUEST(SET_PROTOCOL_FEATURES), U64(UINT64_MAX), .fault = VHOST_FAULT_FEATURES},
	{REQUEST(SET_STATUS), U64(256), .fault = VHOST_FAULT_VALUE},
	{REQUEST(NET_SET_MTU), U64(67), .fault = VHOST_FAULT_VALUE},
	{REQUEST(NET_SET_MTU), U64(65536), .fault = VHOST_FAULT_VALUE},
	{REQUEST(SEND_RARP), U64(1), .fault = VHOST_FAULT_VALUE},
	{REQUEST(GET_CONFIG), .size = 12, .payload.config = {.size = 1}, .fault = VHOST_FAULT_VALUE},
	{REQUEST(GET_CONFIG), .size = 16, .payload.config = {.offset = 253, .size = 4}, .fault = VHOST_FAULT_VALUE},
	{REQUEST(GET_CONFIG), .size = 12, .payload.config = {.offset = UINT32_MAX}, .fault = VHOST_FAULT_VALUE},
	{REQUEST(GET_CONFIG), .size = 16, .payload.config = {.size = UINT32_MAX}, .fault = VHOST_FAULT_VALUE},
	{REQUEST(SET_CONFIG), .size = 13, .payload.config = {.offset = 6, .size = 1}, .fault = VHOST_FAULT_VALUE},
	{REQUEST(SET_CONFIG), .size = 13, .payload.config = {.offset = 0, .size = 1},
	 .fault = VHOST_FAULT_VALUE}, /* under VERSION_1 */
};

static void test_cases(void **state)
{
	static struct fixture f;

	(void)state;
	fixture_open(&f, 2);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct fault_case *c = &cases[i];
		uint32_t flags = c->flags != 0 ? c->flags : VHOST_USER_VERSION;
		uint8_t payload[512] = {0};
		int fds[ARRAY_SIZE(c->fds)];
		unsigned int n;

		fixture_start(&f);
		assert_true(fixture_ready(&f, 0));
		for (n = 0; n < ARRAY_SIZE(fds) && c->fds[n] != NONE; n++)
			fds[n] = make_fd(c->fds[n]);
		memcpy(payload, &c->payload, sizeof(c->payload));
		assert_int_equal(vhost_frontend_send(&f.fe, c->request, flags, payload, c->size, fds, n), 0);
		while (n > 0)
			close(fds[--n]);
		fixture_pump(&f);
		if (f.fault != c->fault)
			fail_msg("case %zu, %s: %s instead of %s", i, c->what, vhost_fault_name(f.fault),
				 vhost_fault_name(c->fault));
		assert_int_equal(f.dev.last_fault, c->fault);
		assert_false(fixture_ready(&f, 0));
		assert_int_equal(f.dev.memory.count, 0);
		vhost_frontend_close(&f.fe);
		if (unit_next_fd() != f.next_fd)
			fail_msg("case %zu, %s: a descriptor leaked", i, c->what);
		fixture_connect(&f);
	}
	fixture_close(&f);
}

/* A size that lies is judged by the header alone: nothing is waited for, nothing is read into
 * nowhere. */
static void test_lying_size(void **state)
{
	static const uint32_t sizes[] = {sizeof(union vhost_user_payload) + 1, 4096, INT32_MAX, UINT32_MAX};
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		const struct vhost_user_header header = {
			.request = VHOST_USER_GET_CONFIG,
			.flags = VHOST_USER_VERSION,
			.size = sizes[i],
		};

		fixture_tell(&f, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
		assert_int_equal(vhost_frontend_send_bytes(&f.fe, &header, sizeof(header), NULL, 0), 0);
		assert_int_equal(fixture_pump(&f), VHOST_FAULT_SIZE);
		vhost_frontend_close(&f.fe);
		fixture_connect(&f);
	}
	fixture_close(&f);
}

/* Descriptors with each piece of one message: together no more than a message may have. */
static void test_descriptors_in_every_piece(void **state)
{
	const struct vhost_user_header header = {
		.request = VHOST_USER_SET_MEM_TABLE,
		.flags = VHOST_USER_VERSION,
		.size = 40,
	};
	struct fixture f;
	int fds[5];

	(void)state;
	fixture_open(&f, 1);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(vhost_frontend_send_bytes(&f.fe, &header, 6, fds, 5), 0);
	assert_int_equal(fixture_pump(&f), VHOST_FAULT_NONE);
	assert_int_equal(f.dev.fd_count, 5);
	assert_int_equal(vhost_frontend_send_bytes(&f.fe, (const uint8_t *)&header + 6, 6, fds, 5), 0);
	assert_int_equal(fixture_pump(&f), VHOST_FAULT_DESCRIPTORS);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	fixture_close(&f);
}

/* Who asks and never reads gets no answer that would have to be waited for. */
static void test_front_end_that_does_not_read(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	for (int i = 0; i < 100000 && f.fault == VHOST_FAULT_NONE; i++) {
		if (vhost_frontend_send(&f.fe, VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, NULL, 0, NULL, 0) < 0)
			break;
		fixture_pump(&f);
	}
	assert_int_equal(f.fault, VHOST_FAULT_IO);
	fixture_close(&f);
}

/* Kicks and calls through anything that only notifies. */
static void test_event_descriptors(void **state)
{
	static const int kinds[] = {EVENT, FIFO, SOCKET};
	struct fixture f;

	(void)state;
	fixture_open(&f, 1);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const uint64_t index = 0;
		int fd = make_fd(kinds[i]);

		fixture_tell(&f, VHOST_USER_SET_VRING_KICK, &index, 8, &fd, 1);
		fixture_tell(&f, VHOST_USER_SET_VRING_CALL, &index, 8, &fd, 1);
		fixture_tell(&f, VHOST_USER_SET_VRING_ERR, &index, 8, &fd, 1);
		assert_true(fcntl(f.dev.rings[0].call_fd, F_GETFL) & O_NONBLOCK);
		close(fd);
	}
	fixture_close(&f);
}

static void test_names(void **state)
{
	(void)state;
	for (int i = 0; i < VHOST_FAULT_COUNT; i++) {
		assert_non_null(vhost_fault_name((enum vhost_fault)i));
		for (int j = 0; j < i; j++)
			assert_string_not_equal(vhost_fault_name((enum vhost_fault)i),
						vhost_fault_name((enum vhost_fault)j));
	}
	assert_non_null(vhost_fault_name(VHOST_FAULT_COUNT));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_lying_size),
		cmocka_unit_test(test_descriptors_in_every_piece),
		cmocka_unit_test(test_front_end_that_does_not_read),
		cmocka_unit_test(test_event_descriptors),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
