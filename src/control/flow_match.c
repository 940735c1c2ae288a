/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A match is kept in its own small form and translated at the edge. Translation back accepts
 * exactly what the translation forth makes: a flow of any other form is not ours.
 */
#include "control/flow_match.h"

#include <errno.h>
#include <string.h>

static const uint8_t reserved_block[3] = {0x01, 0x80, 0xc2};

bool mac_is_zero(const uint8_t mac[MAC_SIZE])
{
	static const uint8_t zero[MAC_SIZE];

	return memcmp(mac, zero, MAC_SIZE) == 0;
}

bool mac_is_station(const uint8_t mac[MAC_SIZE])
{
	return !mac_is_group(mac) && !mac_is_zero(mac);
}

bool mac_is_reserved(const uint8_t mac[MAC_SIZE])
{
	return memcmp(mac, reserved_block, sizeof(reserved_block)) == 0 && mac[3] == 0 && mac[4] == 0 && mac[5] <= 0x0f;
}

/* How many bytes of the destination a shape matches. */
static size_t shape_dst_size(enum flow_shape shape)
{
	switch (shape) {
	case FLOW_SHAPE_DESTINATION:
		return MAC_SIZE;
	case FLOW_SHAPE_GROUP_BLOCK:
		return 3;
	case FLOW_SHAPE_GROUP:
		return 1;
	case FLOW_SHAPE_SOURCE:
	case FLOW_SHAPE_FOREIGN:
		break;
	}
	return 0;
}

static bool shape_is_first(enum flow_shape shape)
{
	return shape_dst_size(shape) == 0;
}

static enum flow_shape shape_of(const uint8_t dst[MAC_SIZE])
{
	if (!mac_is_group(dst) || memcmp(dst, reserved_block, sizeof(reserved_block)) == 0)
		return FLOW_SHAPE_DESTINATION;
	return dst[0] == reserved_block[0] ? FLOW_SHAPE_GROUP_BLOCK : FLOW_SHAPE_GROUP;
}

struct flow_match flow_match_source(uint32_t in_port, const uint8_t src[MAC_SIZE])
{
	struct flow_match match = {.in_port = in_port, .shape = FLOW_SHAPE_SOURCE};

	if (mac_is_group(src)) {
		match.shape = FLOW_SHAPE_FOREIGN;
		match.src[0] = 1;
	} else {
		memcpy(match.src, src, MAC_SIZE);
	}
	return match;
}

struct flow_match flow_match_destination(uint32_t in_port, const uint8_t dst[MAC_SIZE])
{
	struct flow_match match = {.in_port = in_port, .shape = shape_of(dst)};

	memcpy(match.dst, dst, shape_dst_size(match.shape));
	return match;
}

static void shape_mask(enum flow_shape shape, struct flow_key *mask)
{
	memset(mask, 0, sizeof(*mask));
	mask->in_port = UINT32_MAX;
	mask->stage = UINT8_MAX;
	if (shape == FLOW_SHAPE_FOREIGN)
		mask->eth_src[0] = 1;
	else if (shape == FLOW_SHAPE_SOURCE)
		memset(mask->eth_src, 0xff, MAC_SIZE);
	memset(mask->eth_dst, 0xff, shape_dst_size(shape));
}

void flow_match_to_wire(const struct flow_match *match, struct flow_key *key, struct flow_key *mask)
{
	memset(key, 0, sizeof(*key));
	key->in_port = match->in_port;
	key->stage = shape_is_first(match->shape) ? FLOW_STAGE_FIRST : FLOW_STAGE_SECOND;
	memcpy(key->eth_src, match->src, MAC_SIZE);
	memcpy(key->eth_dst, match->dst, MAC_SIZE);
	shape_mask(match->shape, mask);
}

int flow_match_from_wire(struct flow_match *match, const struct flow_key *key, const struct flow_key *mask)
{
	for (enum flow_shape shape = FLOW_SHAPE_SOURCE; shape <= FLOW_SHAPE_GROUP; shape++) {
		struct flow_key our_key, our_mask;

		shape_mask(shape, &our_mask);
		if (memcmp(mask, &our_mask, sizeof(our_mask)) != 0)
			continue;
		*match = shape_is_first(shape) ? flow_match_source(key->in_port, key->eth_src)
					       : flow_match_destination(key->in_port, key->eth_dst);
		flow_match_to_wire(match, &our_key, &our_mask);
		if (match->shape != shape || memcmp(key, &our_key, sizeof(our_key)) != 0)
			return -EINVAL;
		return 0;
	}
	return -EINVAL;
}
