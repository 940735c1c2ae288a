/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A data plane without packets: keeps the flows that the control plane's forwarding logic installs,
 * looks packets up in them as lasthop-core would, and insists that no packet ever matches two.
 */
#ifndef TESTS_UNIT_FAKE_DATAPATH_H
#define TESTS_UNIT_FAKE_DATAPATH_H

#include "unit.h"

#include "control/flow_book.h"
#include "control/forwarding.h"
#include "datapath/drop.h"
#include "lib/clock.h"

#include <errno.h>
#include <string.h>

#define FAKE_FLOWS_MAX 20000
#define FAKE_OUTPUTS   64

struct fake_flow {
	uint64_t id;
	uint64_t cookie;
	uint64_t packets;
	struct flow_key key;
	struct flow_key mask;
	uint32_t action_count;
	struct flow_action actions[FAKE_OUTPUTS];
};

struct fake_datapath {
	struct forwarding fwd;
	struct bridge_port ports[FAKE_OUTPUTS];
	uint64_t now_ns;
	uint64_t last_id;
	uint32_t flow_count;
	uint32_t flows_max;
	unsigned int adds; /* FLOW_ADD requests */
	unsigned int sent; /* PACKET_OUT requests */
	uint32_t sent_ports[FAKE_OUTPUTS];
	uint32_t sent_count;
	uint8_t frame[DP_PACKET_MAX];
	struct fake_flow flows[FAKE_FLOWS_MAX];
};

static int fake_flow_add(void *arg, const struct dp_flow_add *flow, uint64_t *id)
{
	struct fake_datapath *fake = arg;
	struct fake_flow *slot = NULL;

	assert_true(flow->action_count <= FAKE_OUTPUTS);
	fake->adds++;
	for (uint32_t i = 0; i < fake->flow_count; i++) {
		if (memcmp(&fake->flows[i].key, &flow->key, sizeof(flow->key)) == 0 &&
		    memcmp(&fake->flows[i].mask, &flow->mask, sizeof(flow->mask)) == 0)
			slot = &fake->flows[i];
	}
	if (slot == NULL) {
		if (fake->flow_count == (fake->flows_max != 0 ? fake->flows_max : FAKE_FLOWS_MAX))
			return -ENOSPC;
		slot = &fake->flows[fake->flow_count++];
		slot->id = ++fake->last_id;
		slot->packets = 0;
	}
	slot->cookie = flow->cookie;
	slot->key = flow->key;
	slot->mask = flow->mask;
	slot->action_count = flow->action_count;
	memcpy(slot->actions, flow->actions, flow->action_count * sizeof(slot->actions[0]));
	*id = slot->id;
	return 0;
}

static int fake_flow_del(void *arg, uint64_t id)
{
	struct fake_datapath *fake = arg;

	for (uint32_t i = 0; i < fake->flow_count; i++) {
		if (fake->flows[i].id == id) {
			fake->flows[i] = fake->flows[--fake->flow_count];
			return 0;
		}
	}
	return -ENOENT;
}

static int fake_packet_out(void *arg, const uint32_t *ports, uint32_t port_count, const void *frame, uint32_t length)
{
	struct fake_datapath *fake = arg;

	fake->sent++;
	fake->sent_count = port_count;
	memcpy(fake->sent_ports, ports, port_count * sizeof(ports[0]));
	memcpy(fake->frame, frame, length);
	return 0;
}

static const struct forwarding_datapath fake_operations = {
	.flow_add = fake_flow_add,
	.flow_del = fake_flow_del,
	.packet_out = fake_packet_out,
};

static inline struct fake_datapath *fake_datapath_new(void)
{
	struct fake_datapath *fake = calloc(1, sizeof(*fake));

	assert_non_null(fake);
	assert_int_equal(forwarding_init(&fake->fwd, &fake_operations, fake), 0);
	fake->now_ns = 1000 * NS_PER_S;
	return fake;
}

static inline void fake_datapath_free(struct fake_datapath *fake)
{
	forwarding_cleanup(&fake->fwd);
	free(fake);
}

static inline void fake_join(struct fake_datapath *fake, const char *bridge, uint32_t port, uint32_t mac_limit)
{
	forwarding_join(&fake->fwd, forwarding_bridge_find(&fake->fwd, bridge), &fake->ports[port], port, mac_limit,
			fake->now_ns);
}

static inline struct flow_key fake_key(uint32_t in_port, const char *src, const char *dst)
{
	struct flow_key key = {.in_port = in_port};
	uint8_t *s = key.eth_src, *d = key.eth_dst;

	assert_int_equal(sscanf(src, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", s, s + 1, s + 2, s + 3, s + 4, s + 5), 6);
	assert_int_equal(sscanf(dst, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", d, d + 1, d + 2, d + 3, d + 4, d + 5), 6);
	/* What switching by MAC address must not look at. */
	key.eth_type = 8;
	key.ip_proto = 6;
	key.l4_src = (uint16_t)rand();
	return key;
}

static inline bool fake_matches(const struct fake_flow *flow, const struct flow_key *key)
{
	const uint8_t *k = (const uint8_t *)key, *m = (const uint8_t *)&flow->mask;
	const uint8_t *want = (const uint8_t *)&flow->key;

	for (size_t i = 0; i < sizeof(*key); i++) {
		if ((k[i] & m[i]) != want[i])
			return false;
	}
	return true;
}

static inline struct fake_flow *fake_lookup(struct fake_datapath *fake, const struct flow_key *key)
{
	struct fake_flow *found = NULL;

	for (uint32_t i = 0; i < fake->flow_count; i++) {
		if (!fake_matches(&fake->flows[i], key))
			continue;
		if (found != NULL)
			fail_msg("a packet matches two flows");
		found = &fake->flows[i];
	}
	return found;
}

/* A packet: its last flow; any may come by an upcall. NULL: it is left unanswered. */
static inline struct fake_flow *fake_send_key(struct fake_datapath *fake, const struct flow_key *packet)
{
	struct flow_key key = *packet;

	for (;;) {
		struct fake_flow *flow = fake_lookup(fake, &key);

		if (flow == NULL) {
			forwarding_upcall(&fake->fwd, &key, fake->now_ns);
			flow = fake_lookup(fake, &key);
		}
		if (flow == NULL)
			return NULL;
		flow->packets++;
		if (flow->action_count != 1 || flow->actions[0].type != FLOW_ACTION_STAGE)
			return flow;
		assert_true(flow->actions[0].value > key.stage);
		key.stage = (uint8_t)flow->actions[0].value;
	}
}

/*
 * The same as text: the outputs' indexes as "0 2 5", "drop REASON", or "unanswered". In static
 * memory.
 */
static inline const char *fake_send(struct fake_datapath *fake, uint32_t in_port, const char *src, const char *dst)
{
	static char text[256];
	struct flow_key key = fake_key(in_port, src, dst);
	const struct fake_flow *flow = fake_send_key(fake, &key);
	size_t used = 0;

	if (flow == NULL)
		return "unanswered";
	if (flow->action_count == 1 && flow->actions[0].type == FLOW_ACTION_DROP) {
		snprintf(text, sizeof(text), "drop %s", drop_name(flow->actions[0].value));
		return text;
	}
	text[0] = '\0';
	for (uint32_t i = 0; i < flow->action_count; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u", i > 0 ? " " : "",
					 flow->actions[i].value);
	return text;
}

static inline void fake_dump(struct fake_datapath *fake,
			     void (*each)(struct fake_datapath *fake, const struct dp_flow_info *info))
{
	static union {
		struct dp_flow_info info;
		uint8_t bytes[sizeof(struct dp_flow_info) + FAKE_OUTPUTS * sizeof(struct flow_action)];
	} message;

	for (uint32_t i = 0; i < fake->flow_count; i++) {
		const struct fake_flow *flow = &fake->flows[i];

		message.info = (struct dp_flow_info){
			.id = flow->id,
			.packets = flow->packets,
			.bytes = flow->packets * 100,
			.flow = {.cookie = flow->cookie,
				 .key = flow->key,
				 .mask = flow->mask,
				 .action_count = flow->action_count},
		};
		memcpy(message.info.flow.actions, flow->actions, flow->action_count * sizeof(flow->actions[0]));
		each(fake, &message.info);
	}
}

static inline void fake_sweep_flow(struct fake_datapath *fake, const struct dp_flow_info *info)
{
	forwarding_sweep_flow(&fake->fwd, info);
}

static inline void fake_sweep(struct fake_datapath *fake)
{
	forwarding_sweep_begin(&fake->fwd, fake->now_ns);
	fake_dump(fake, fake_sweep_flow);
	forwarding_sweep_end(&fake->fwd, fake->now_ns);
}

/* Lets time pass, with sweeps as often as they are due. */
static inline void fake_wait(struct fake_datapath *fake, unsigned int seconds)
{
	uint64_t end = fake->now_ns + seconds * NS_PER_S;
	uint64_t period = forwarding_sweep_period_ns(&fake->fwd);

	while (fake->now_ns < end) {
		fake->now_ns = fake->now_ns + period < end ? fake->now_ns + period : end;
		fake_sweep(fake);
	}
}

static inline void fake_adopt_flow(struct fake_datapath *fake, const struct dp_flow_info *info)
{
	forwarding_adopt(&fake->fwd, info, fake->now_ns);
}

#endif
