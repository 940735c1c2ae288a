/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What needs no device of the kind af_xdp: rules of what stays with the kernel, as text and as the program in the
 * kernel understands them; unfinished checksums; and the rings, with a kernel that lies.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>

#include "driver/partial_checksum.h"
#include "driver/xdp_prog.h"
#include "driver/xsk_pool.h"
#include "lib/log.h"

static const uint8_t own_mac[6] = {0x02, 0, 0, 0, 0, 0x01};

struct frame {
	uint8_t bytes[256];
	uint32_t size;
};

static struct frame ethernet(unsigned int type, const uint8_t *to, unsigned int tags)
{
	struct frame frame = {.size = 12};

	memcpy(frame.bytes, to, 6);
	for (unsigned int i = 0; i < tags; i++) {
		frame.bytes[frame.size] = i + 1 < tags ? 0x88 : 0x81;
		frame.bytes[frame.size + 1] = i + 1 < tags ? 0xa8 : 0;
		frame.bytes[frame.size + 3] = 7;
		frame.size += 4;
	}
	frame.bytes[frame.size++] = (uint8_t)(type >> 8);
	frame.bytes[frame.size++] = (uint8_t)type;
	return frame;
}

/* TCP or UDP to an address and port, 20 bytes of payload. */
static struct frame packet(const char *address, uint8_t protocol, uint16_t port, unsigned int tags)
{
	bool v6 = strchr(address, ':');
	struct frame frame = ethernet(v6 ? ETH_P_IPV6 : ETH_P_IP, own_mac, tags);
	uint32_t header = protocol == IPPROTO_TCP ? 20 : 8;
	uint8_t *ip = frame.bytes + frame.size;

	if (v6) {
		ip[0] = 0x60;
		ip[5] = (uint8_t)(header + 20);
		ip[6] = protocol;
		ip[8] = 0xfe;
		ip[9] = 0x80;
		assert_int_equal(inet_pton(AF_INET6, address, ip + 24), 1);
		frame.size += 40;
	} else {
		ip[0] = 0x45;
		ip[3] = (uint8_t)(20 + header + 20);
		ip[9] = protocol;
		ip[12] = 10;
		assert_int_equal(inet_pton(AF_INET, address, ip + 16), 1);
		frame.size += 20;
	}
	frame.bytes[frame.size] = 0x9c;
	frame.bytes[frame.size + 2] = (uint8_t)(port >> 8);
	frame.bytes[frame.size + 3] = (uint8_t)port;
	if (protocol == IPPROTO_TCP)
		frame.bytes[frame.size + 12] = 0x50;
	frame.size += header;
	memset(frame.bytes + frame.size, 0x5a, 20);
	frame.size += 20;
	return frame;
}

static struct frame arp_for(const char *address)
{
	static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};
	struct frame frame = ethernet(ETH_P_ARP, all, 0);
	uint8_t *arp = frame.bytes + frame.size;

	arp[1] = 1;
	arp[2] = 8;
	arp[4] = 6;
	arp[5] = 4;
	arp[7] = 1;
	assert_int_equal(inet_pton(AF_INET, address, arp + 24), 1);
	frame.size += 28;
	return frame;
}

static struct frame solicitation_for(const char *address)
{
	struct frame frame = packet("ff02::1:ff00:1", IPPROTO_UDP, 0, 0);
	uint8_t *ip = frame.bytes + 14;

	ip[6] = IPPROTO_ICMPV6;
	memset(ip + 40, 0, 28);
	ip[40] = 135;
	assert_int_equal(inet_pton(AF_INET6, address, ip + 48), 1);
	frame.size = 14 + 40 + 24;
	return frame;
}

/* Rules. */

static int add(struct xdp_keep *keep, const char *text)
{
	return xdp_keep_add(keep, text, own_mac);
}

static void test_rules(void **state)
{
	static const char *const wrong[] = {
		"",
		"x",
		"ip",
		"ip:",
		"ip:1.2.3",
		"ip:1.2.3.4/24",
		"port:0",
		"port:65536",
		"port:22/sctp",
		"port:-1",
		"port:22x",
		"ethertype:",
		"ethertype:0x10000",
		"ethertype:1g",
		"mac:1:2:3",
		"mac:00:11:22:33:44:5",
		"mac:00:11:22:33:44:5g",
		"mac:00-11:22:33:44:55",
		"mac:",
		"arp:1",
		"arp+",
		"arp+lldp",
		"mac:00:11:22:33:44:55:66",
		"+arp",
		"lldp ",
		"port:22+port:23",
	};
	struct xdp_keep keep = {0};

	(void)state;
	log_init("test", -1);
	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(add(&keep, wrong[i]), -EINVAL);
	assert_int_equal(keep.count, 0);
	assert_int_equal(add(&keep, "ip:192.0.2.1+port:22/tcp"), 0);
	assert_int_equal(keep.rules[0].conditions, XDP_KEEP_IP | XDP_KEEP_PORT);
	assert_int_equal(keep.rules[0].port, htons(22));
	assert_int_equal(keep.rules[0].protocol, IPPROTO_TCP);
	assert_int_equal(keep.rules[0].ip_version, 4);
	assert_int_equal(add(&keep, "mac"), 0);
	assert_memory_equal(keep.rules[1].mac, own_mac, 6);
	assert_int_equal(add(&keep, "mac:0A:bc:00:12:fF:01"), 0);
	assert_memory_equal(keep.rules[2].mac, ((uint8_t[]){0x0a, 0xbc, 0, 0x12, 0xff, 1}), 6);
	assert_int_equal(add(&keep, "ethertype:0x88cc"), 0);
	assert_int_equal(add(&keep, "lldp"), 0);
	assert_int_equal(keep.rules[3].ethertype, keep.rules[4].ethertype);
	while (keep.count < XDP_KEEP_RULES)
		assert_int_equal(add(&keep, "arp"), 0);
	assert_int_equal(add(&keep, "arp"), -E2BIG);
}

/* Whether the program in the kernel keeps a frame; without a socket the others are dropped. */
static bool keeps(const struct xdp_prog *prog, struct frame frame)
{
	uint8_t out[512];
	struct bpf_test_run_opts opts = {
		.sz = sizeof(opts),
		.data_in = frame.bytes,
		.data_size_in = frame.size,
		.data_out = out,
		.data_size_out = sizeof(out),
	};

	assert_int_equal(bpf_prog_test_run_opts(xdp_prog_fd(prog), &opts), 0);
	assert_true(opts.retval == XDP_PASS || opts.retval == XDP_DROP);
	return opts.retval == XDP_PASS;
}

static bool load(struct xdp_prog *prog, const char *const rules[])
{
	struct xdp_keep keep = {0};
	int err;

	for (unsigned int i = 0; rules[i]; i++)
		assert_int_equal(add(&keep, rules[i]), 0);
	err = xdp_prog_open(prog, "none", 0, &keep);
	assert_true(err == 0 || err == -EPERM);
	return err == 0;
}

static void test_program(void **state)
{
	static const char *const rules[] = {"ip:192.0.2.1+port:22/tcp",
					    "ip:192.0.2.2",
					    "ip:2001:db8::1",
					    "port:53",
					    "lldp",
					    "mac:02:00:00:00:00:99",
					    NULL};
	static const uint8_t other_mac[6] = {0x02, 0, 0, 0, 0, 0x99};
	struct frame frame;
	struct xdp_prog prog;

	(void)state;
	if (!load(&prog, rules))
		skip();
	for (unsigned int tags = 0; tags < 3; tags++) {
		assert_true(keeps(&prog, packet("192.0.2.1", IPPROTO_TCP, 22, tags)));
		assert_false(keeps(&prog, packet("192.0.2.1", IPPROTO_UDP, 22, tags)));
		assert_false(keeps(&prog, packet("192.0.2.1", IPPROTO_TCP, 23, tags)));
		assert_false(keeps(&prog, packet("192.0.2.3", IPPROTO_TCP, 22, tags)));
		assert_true(keeps(&prog, packet("192.0.2.2", IPPROTO_TCP, 80, tags)));
		assert_true(keeps(&prog, packet("2001:db8::1", IPPROTO_UDP, 80, tags)));
		assert_false(keeps(&prog, packet("2001:db8::2", IPPROTO_UDP, 80, tags)));
		assert_true(keeps(&prog, packet("2001:db8::2", IPPROTO_UDP, 53, tags)));
		assert_true(keeps(&prog, packet("192.0.2.3", IPPROTO_TCP, 53, tags)));
		assert_true(keeps(&prog, ethernet(0x88cc, own_mac, tags)));
		assert_false(keeps(&prog, ethernet(0x88cd, own_mac, tags)));
		assert_true(keeps(&prog, ethernet(0x1234, other_mac, tags)));
	}
	assert_false(keeps(&prog, packet("192.0.2.2", IPPROTO_TCP, 80, 3)));
	assert_true(keeps(&prog, arp_for("192.0.2.2")));
	assert_false(keeps(&prog, arp_for("192.0.2.9")));
	assert_true(keeps(&prog, solicitation_for("2001:db8::1")));
	assert_false(keeps(&prog, solicitation_for("2001:db8::2")));

	/* A later fragment has no port, whatever lies there. */
	frame = packet("192.0.2.9", IPPROTO_UDP, 53, 0);
	frame.bytes[14 + 7] = 1;
	assert_false(keeps(&prog, frame));
	/* Cut off anywhere, it is not kept for what is missing. */
	frame = packet("192.0.2.9", IPPROTO_UDP, 53, 0);
	for (frame.size = 14; frame.size < 14 + 20 + 4; frame.size++)
		assert_false(keeps(&prog, frame));
	assert_true(keeps(&prog, frame));
	/* Options move the port; a header shorter than a header has none. */
	frame = packet("192.0.2.9", IPPROTO_UDP, 53, 0);
	frame.bytes[14] = 0x46;
	assert_false(keeps(&prog, frame));
	frame.bytes[14] = 0x44;
	assert_false(keeps(&prog, frame));
	assert_true(xdp_prog_kept(&prog) > 0);
	xdp_prog_close(&prog);
	xdp_prog_close(&prog);
}

static void test_program_without_rules(void **state)
{
	static const char *const rules[] = {NULL};
	struct xdp_prog prog;

	(void)state;
	if (!load(&prog, rules))
		skip();
	assert_false(keeps(&prog, packet("192.0.2.1", IPPROTO_TCP, 22, 0)));
	assert_int_equal(xdp_prog_kept(&prog), 0);
	xdp_prog_close(&prog);
}

/* Checksums. */

static uint16_t one_sum(const uint8_t *data, uint32_t size, uint32_t sum)
{
	for (uint32_t i = 0; i + 1 < size; i += 2)
		sum += (uint32_t)(data[i] << 8 | data[i + 1]);
	if (size % 2)
		sum += (uint32_t)data[size - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void check_partial(const char *address, uint8_t protocol, unsigned int tags)
{
	struct frame frame = packet(address, protocol, 80, tags);
	uint32_t ip = 14 + 4 * tags, transport = ip + (strchr(address, ':') ? 40 : 20);
	uint32_t place = transport + (protocol == IPPROTO_TCP ? 16 : 6), length = frame.size - transport;
	uint32_t addresses = transport - ip == 40 ? 32 : 8;
	uint16_t pseudo = one_sum(frame.bytes + transport - addresses, addresses, protocol + length), whole;
	struct virtio_net_hdr header = {0};

	/* None at all, which is not unfinished. */
	assert_false(partial_checksum(frame.bytes, frame.size, &header));
	frame.bytes[place] = (uint8_t)(pseudo >> 8);
	frame.bytes[place + 1] = (uint8_t)pseudo;
	/* As the kernel leaves it; padding behind the packet changes nothing. */
	assert_true(partial_checksum(frame.bytes, frame.size, &header));
	assert_true(partial_checksum(frame.bytes, frame.size + 6, &header));
	assert_int_equal(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(header.csum_start, transport);
	assert_int_equal(header.csum_start + header.csum_offset, place);
	/* Cut off. */
	for (uint32_t size = 0; size < frame.size; size++)
		assert_false(partial_checksum(frame.bytes, size, &header));
	/* Finished. */
	whole = (uint16_t)~one_sum(frame.bytes + transport, length, 0);
	frame.bytes[place] = (uint8_t)(whole >> 8);
	frame.bytes[place + 1] = (uint8_t)whole;
	assert_int_equal(one_sum(frame.bytes + transport, length, pseudo), 0xffff);
	assert_false(partial_checksum(frame.bytes, frame.size, &header));
}

static void test_partial(void **state)
{
	struct virtio_net_hdr header = {0};
	struct frame frame;

	(void)state;
	for (unsigned int tags = 0; tags < 3; tags++) {
		check_partial("192.0.2.1", IPPROTO_TCP, tags);
		check_partial("192.0.2.1", IPPROTO_UDP, tags);
		check_partial("2001:db8::1", IPPROTO_TCP, tags);
		check_partial("2001:db8::1", IPPROTO_UDP, tags);
	}
	assert_int_equal(header.flags, 0);
	/* Lengths that lie, and what is no TCP or UDP. */
	frame = packet("192.0.2.1", IPPROTO_TCP, 80, 0);
	frame.bytes[16] = 0xff;
	assert_false(partial_checksum(frame.bytes, frame.size, &header));
	frame = packet("192.0.2.1", IPPROTO_TCP, 80, 0);
	frame.bytes[17] = 19;
	assert_false(partial_checksum(frame.bytes, frame.size, &header));
	frame.bytes[17] = 21;
	assert_false(partial_checksum(frame.bytes, frame.size, &header));
	frame = packet("192.0.2.1", IPPROTO_ICMP, 80, 0);
	assert_false(partial_checksum(frame.bytes, frame.size, &header));
	frame = arp_for("192.0.2.1");
	assert_false(partial_checksum(frame.bytes, frame.size, &header));
}

/* Rings. */

#define CHUNK  2048u
#define CHUNKS 16u
#define RING   8u

/* What a kernel maps for us. */
struct fake {
	struct xsk_pool pool;
	struct xsk_queue queue;
	uint32_t producer[4], consumer[4], flags[4];
	uint64_t fill[RING], completion[RING];
	struct xdp_desc rx[RING], tx[RING];
	uint8_t where[CHUNKS];
};

static void fake_init(struct fake *fake)
{
	*fake = (struct fake){0};
	fake->pool =
		(struct xsk_pool){.size = CHUNK * CHUNKS, .chunk_size = CHUNK, .chunk_shift = 11, .where = fake->where};
	fake->queue = (struct xsk_queue){.pool = &fake->pool, .here = 2};
#define FAKE_RING(member, area, i, free)                          \
	do {                                                      \
		fake->queue.member.mask = RING - 1;               \
		fake->queue.member.size = RING;                   \
		fake->queue.member.producer = &fake->producer[i]; \
		fake->queue.member.consumer = &fake->consumer[i]; \
		fake->queue.member.flags = &fake->flags[i];       \
		fake->queue.member.ring = (area);                 \
		fake->queue.member.cached_cons = (free);          \
	} while (0)
	FAKE_RING(fill, fake->fill, 0, RING);
	FAKE_RING(tx, fake->tx, 1, RING);
	FAKE_RING(rx, fake->rx, 2, 0);
	FAKE_RING(completion, fake->completion, 3, 0);
}

/* The kernel says that a frame came. */
static void fake_receive(struct fake *fake, uint64_t addr, uint32_t size)
{
	fake->rx[fake->producer[2]++ % RING] = (struct xdp_desc){.addr = addr, .len = size};
}

static void test_rings(void **state)
{
	static const uint64_t chunks[] = {0,         CHUNK,     2 * CHUNK, 3 * CHUNK, 4 * CHUNK,
					  5 * CHUNK, 6 * CHUNK, 7 * CHUNK, 8 * CHUNK};
	struct xsk_frame frames[RING],
		sent[2] = {{.addr = 9 * CHUNK + 12, .size = 60}, {.addr = 10 * CHUNK, .size = 60}};
	uint64_t back[RING];
	struct fake fake;

	(void)state;
	fake_init(&fake);
	/* As many as the ring has; none twice; none that is not of the pool. */
	assert_int_equal(xsk_queue_give(&fake.queue, chunks, ARRAY_SIZE(chunks)), RING);
	assert_int_equal(xsk_queue_give(&fake.queue, chunks + RING, 1), 0);
	assert_int_equal(xsk_queue_unfilled(&fake.queue), RING);
	assert_int_equal(fake.queue.receiving, RING);
	fake.consumer[0] = RING;
	assert_int_equal(xsk_queue_give(&fake.queue, chunks, 1), 0);
	assert_int_equal(xsk_queue_give(&fake.queue, (const uint64_t[]){CHUNK * CHUNKS}, 1), 0);
	assert_int_equal(xsk_queue_give(&fake.queue, (const uint64_t[]){UINT64_MAX}, 1), 0);

	/* What came is ours again, and can be given again. */
	fake_receive(&fake, CHUNK + XSK_HEADROOM, CHUNK - XSK_HEADROOM);
	fake_receive(&fake, XSK_HEADROOM, 60);
	assert_int_equal(xsk_queue_unread(&fake.queue), 2);
	assert_int_equal(xsk_queue_receive(&fake.queue, frames, RING), 2);
	assert_int_equal(frames[0].addr, CHUNK + XSK_HEADROOM);
	assert_int_equal(frames[1].size, 60);
	assert_int_equal(fake.queue.receiving, RING - 2);
	assert_int_equal(xsk_queue_give(&fake.queue, chunks, 2), 2);

	assert_int_equal(xsk_queue_send(&fake.queue, sent, 2), 2);
	assert_int_equal(xsk_queue_send(&fake.queue, sent, 1), 0);
	assert_int_equal(xsk_queue_unsent(&fake.queue), 2);
	assert_int_equal(fake.tx[0].addr, sent[0].addr);
	fake.completion[fake.producer[3]++] = sent[1].addr;
	assert_int_equal(xsk_queue_completed(&fake.queue, back, RING), 1);
	assert_int_equal(back[0], sent[1].addr);
	assert_int_equal(fake.queue.sending, 1);
	assert_int_equal(fake.queue.lies, 0);
}

static void test_lies(void **state)
{
	struct xsk_frame frames[RING];
	uint64_t back[RING];
	struct fake fake;

	(void)state;
	fake_init(&fake);
	assert_int_equal(xsk_queue_give(&fake.queue, (const uint64_t[]){0, CHUNK}, 2), 2);
	assert_int_equal(xsk_queue_send(&fake.queue, &(struct xsk_frame){.addr = 3 * CHUNK, .size = 60}, 1), 1);
	fake.where[5] = 1;                                     /* with another queue */
	fake_receive(&fake, CHUNK * CHUNKS, 60);               /* behind the pool */
	fake_receive(&fake, UINT64_MAX, 60);                   /* far behind it */
	fake_receive(&fake, 2 * CHUNK + XSK_HEADROOM, 60);     /* it does not have that */
	fake_receive(&fake, 3 * CHUNK, 60);                    /* that was to be sent */
	fake_receive(&fake, 5 * CHUNK, 60);                    /* that is another's */
	fake_receive(&fake, XSK_HEADROOM, CHUNK);              /* more than fits */
	fake_receive(&fake, CHUNK + XSK_HEADROOM, UINT32_MAX); /* much more */
	fake_receive(&fake, CHUNK + XSK_HEADROOM, 60);         /* the truth */
	assert_int_equal(xsk_queue_receive(&fake.queue, frames, RING), 1);
	assert_int_equal(frames[0].addr, CHUNK + XSK_HEADROOM);
	assert_int_equal(fake.queue.lies, 7);
	fake_receive(&fake, CHUNK + XSK_HEADROOM, 60); /* once more */
	assert_int_equal(xsk_queue_receive(&fake.queue, frames, RING), 0);

	fake.completion[fake.producer[3]++] = CHUNK * CHUNKS;
	fake.completion[fake.producer[3]++] = 0; /* that is to be filled */
	fake.completion[fake.producer[3]++] = 3 * CHUNK;
	fake.completion[fake.producer[3]++] = 3 * CHUNK;
	assert_int_equal(xsk_queue_completed(&fake.queue, back, RING), 1);
	assert_int_equal(fake.queue.lies, 11);
	assert_int_equal(fake.queue.receiving, 1);
	assert_int_equal(fake.queue.sending, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_program_without_rules),
		cmocka_unit_test(test_partial),
		cmocka_unit_test(test_rings),
		cmocka_unit_test(test_lies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
