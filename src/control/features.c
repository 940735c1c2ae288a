/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One row a bit. Groups are there because switching off one feature takes those along that may not
 * be offered without it (virtio 1.2, section 5.1.3.1).
 */
#include "control/features.h"

#include "virtio/virtio_net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	unsigned int bit;
	const char *name;
} names[] = {
	{VIRTIO_NET_F_CSUM, "csum"},
	{VIRTIO_NET_F_GUEST_CSUM, "guest-csum"},
	{VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, "ctrl-guest-offloads"},
	{VIRTIO_NET_F_MTU, "mtu"},
	{VIRTIO_NET_F_MAC, "mac"},
	{VIRTIO_NET_F_GUEST_TSO4, "guest-tso4"},
	{VIRTIO_NET_F_GUEST_TSO6, "guest-tso6"},
	{VIRTIO_NET_F_GUEST_ECN, "guest-ecn"},
	{VIRTIO_NET_F_GUEST_UFO, "guest-ufo"},
	{VIRTIO_NET_F_HOST_TSO4, "host-tso4"},
	{VIRTIO_NET_F_HOST_TSO6, "host-tso6"},
	{VIRTIO_NET_F_HOST_ECN, "host-ecn"},
	{VIRTIO_NET_F_HOST_UFO, "host-ufo"},
	{VIRTIO_NET_F_MRG_RXBUF, "mrg-rxbuf"},
	{VIRTIO_NET_F_STATUS, "status"},
	{VIRTIO_NET_F_CTRL_VQ, "ctrl-vq"},
	{VIRTIO_NET_F_CTRL_RX, "ctrl-rx"},
	{VIRTIO_NET_F_CTRL_VLAN, "ctrl-vlan"},
	{20, "ctrl-rx-extra"},
	{VIRTIO_NET_F_GUEST_ANNOUNCE, "guest-announce"},
	{VIRTIO_NET_F_MQ, "mq"},
	{VIRTIO_NET_F_CTRL_MAC_ADDR, "ctrl-mac-addr"},
	{24, "notify-on-empty"},
	{26, "log-all"},
	{27, "any-layout"},
	{28, "indirect-desc"},
	{29, "event-idx"},
	{30, "protocol-features"},
	{32, "version-1"},
	{33, "access-platform"},
	{34, "ring-packed"},
	{35, "in-order"},
	{36, "order-platform"},
	{38, "notification-data"},
	{40, "ring-reset"},
	{VIRTIO_NET_F_GUEST_USO4, "guest-uso4"},
	{VIRTIO_NET_F_GUEST_USO6, "guest-uso6"},
	{VIRTIO_NET_F_HOST_USO, "host-uso"},
	{57, "hash-report"},
	{59, "guest-hdrlen"},
	{60, "rss"},
	{61, "rsc-ext"},
	{62, "standby"},
	{63, "speed-duplex"},
};

#define TSO                                                                                                            \
	(VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) | \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) |                                   \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN))
#define UFO (VIRTIO_BIT(VIRTIO_NET_F_HOST_UFO) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_UFO))
#define USO \
	(VIRTIO_BIT(VIRTIO_NET_F_HOST_USO) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6))
#define CTRL                                                                                                        \
	(VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VLAN) | \
	 VIRTIO_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) |                    \
	 VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | VIRTIO_BIT(VIRTIO_NET_F_MQ))

/* Before the names of single bits: "csum" off means all that a checksum offload is needed for. */
static const struct {
	const char *name;
	uint64_t bits;
} groups[] = {
	{"csum", VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | TSO | UFO | USO},
	{"tso", TSO},
	{"ufo", UFO},
	{"uso", USO},
	{"gso", TSO | UFO | USO},
	{"mrg", VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)},
	{"ctrl-vq", CTRL},
	{"ctrl", CTRL},
	{"indirect", VIRTIO_BIT(28)},
	{"packed", VIRTIO_BIT(34)},
};

const char *feature_name(unsigned int bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (names[i].bit == bit)
			return names[i].name;
	}
	return NULL;
}

static uint64_t single_bit(const char *name)
{
	char *end;
	unsigned long bit;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(names[i].name, name) == 0)
			return VIRTIO_BIT(names[i].bit);
	}
	if (strncmp(name, "bit", 3) != 0 || name[3] < '0' || name[3] > '9')
		return 0;
	bit = strtoul(name + 3, &end, 10);
	return *end == '\0' && bit < 64 ? VIRTIO_BIT(bit) : 0;
}

uint64_t feature_bits(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		if (strcmp(groups[i].name, name) == 0)
			return groups[i].bits;
	}
	return single_bit(name);
}

void feature_list(char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(groups) + ARRAY_SIZE(names); i++) {
		const char *name = i < ARRAY_SIZE(groups) ? groups[i].name : names[i - ARRAY_SIZE(groups)].name;
		int n = snprintf(text + used, size - used, "%s%s", used > 0 ? " " : "", name);

		if (n < 0 || (size_t)n >= size - used)
			return;
		used += (size_t)n;
	}
}

static json_t *bits_to_json(uint64_t bits, const char *(*name_of)(unsigned int bit))
{
	json_t *array = json_array();

	for (unsigned int bit = 0; bit < 64 && array != NULL; bit++) {
		const char *name = name_of(bit);
		json_t *item;

		if (!(bits & VIRTIO_BIT(bit)))
			continue;
		item = name != NULL ? json_string(name) : json_sprintf("bit%u", bit);
		if (json_array_append_new(array, item) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

json_t *features_to_json(uint64_t features)
{
	return bits_to_json(features, feature_name);
}

static const char *protocol_feature_name(unsigned int bit)
{
	static const char *const protocol_names[] = {
		"mq",
		"log-shmfd",
		"rarp",
		"reply-ack",
		"mtu",
		"backend-req",
		"cross-endian",
		"crypto-session",
		"pagefault",
		"config",
		"backend-send-fd",
		"host-notifier",
		"inflight-shmfd",
		"reset-device",
		"inband-notifications",
		"configure-mem-slots",
		"status",
	};

	return bit < ARRAY_SIZE(protocol_names) ? protocol_names[bit] : NULL;
}

json_t *protocol_features_to_json(uint64_t features)
{
	return bits_to_json(features, protocol_feature_name);
}

int features_from_json(const json_t *array, uint64_t *features, const char **name)
{
	uint64_t bits = 0;

	*name = "";
	if (!json_is_array(array))
		return -EINVAL;
	for (size_t i = 0; i < json_array_size(array); i++) {
		const char *item = json_string_value(json_array_get(array, i));
		uint64_t one;

		if (item == NULL)
			return -EINVAL;
		/* A list that names a single bit means just that: it may come from
		 * features_to_json(). */
		one = single_bit(item);
		if (one == 0)
			one = feature_bits(item);
		if (one == 0) {
			*name = item;
			return -EINVAL;
		}
		bits |= one;
	}
	*features = bits;
	return 0;
}
