/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The messages of a vhost-user front end, one function each, over the transport of
 * vhost_frontend.c.
 */
#include "vhost/vhost_frontend.h"

#include <errno.h>
#include <string.h>

#include "lib/compiler.h"
#include "virtio/virtio_net.h"

int vhost_frontend_get_features(struct vhost_frontend *fe, uint64_t *features)
{
	return vhost_frontend_get_u64(fe, VHOST_USER_GET_FEATURES, features);
}

int vhost_frontend_set_features(struct vhost_frontend *fe, uint64_t features)
{
	int err = vhost_frontend_set_u64(fe, VHOST_USER_SET_FEATURES, features);

	if (!err)
		fe->features = features;
	return err;
}

int vhost_frontend_get_protocol_features(struct vhost_frontend *fe, uint64_t *features)
{
	return vhost_frontend_get_u64(fe, VHOST_USER_GET_PROTOCOL_FEATURES, features);
}

int vhost_frontend_set_protocol_features(struct vhost_frontend *fe, uint64_t features)
{
	int err = vhost_frontend_set_u64(fe, VHOST_USER_SET_PROTOCOL_FEATURES, features);

	if (!err)
		fe->protocol_features = features;
	return err;
}

static int get_count(struct vhost_frontend *fe, uint32_t request, unsigned int *count)
{
	uint64_t value;
	int err = vhost_frontend_get_u64(fe, request, &value);

	if (!err)
		*count = (unsigned int)min(value, (uint64_t)UINT16_MAX);
	return err;
}

int vhost_frontend_get_queue_num(struct vhost_frontend *fe, unsigned int *pairs)
{
	return get_count(fe, VHOST_USER_GET_QUEUE_NUM, pairs);
}

int vhost_frontend_get_max_mem_slots(struct vhost_frontend *fe, unsigned int *slots)
{
	return get_count(fe, VHOST_USER_GET_MAX_MEM_SLOTS, slots);
}

int vhost_frontend_set_owner(struct vhost_frontend *fe)
{
	return vhost_frontend_tell(fe, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
}

int vhost_frontend_reset_device(struct vhost_frontend *fe)
{
	return vhost_frontend_tell(fe, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0);
}

int vhost_frontend_set_mem_table(struct vhost_frontend *fe, const struct vhost_user_region *regions, const int *fds,
				 unsigned int count)
{
	struct vhost_user_mem_table table = {.count = count};

	if (count > VHOST_USER_TABLE_REGIONS)
		return -EINVAL;
	memcpy(table.regions, regions, count * sizeof(*regions));
	return vhost_frontend_tell(
		fe, VHOST_USER_SET_MEM_TABLE, &table,
		(uint32_t)(offsetof(struct vhost_user_mem_table, regions) + count * sizeof(*regions)), fds, count);
}

int vhost_frontend_add_mem_region(struct vhost_frontend *fe, const struct vhost_user_region *region, int fd)
{
	struct vhost_user_mem_region payload = {.region = *region};

	return vhost_frontend_tell(fe, VHOST_USER_ADD_MEM_REG, &payload, sizeof(payload), &fd, 1);
}

int vhost_frontend_rem_mem_region(struct vhost_frontend *fe, const struct vhost_user_region *region)
{
	struct vhost_user_mem_region payload = {.region = *region};

	return vhost_frontend_tell(fe, VHOST_USER_REM_MEM_REG, &payload, sizeof(payload), NULL, 0);
}

static int set_state(struct vhost_frontend *fe, uint32_t request, unsigned int index, uint32_t num)
{
	struct vhost_user_vring_state state = {.index = index, .num = num};

	return vhost_frontend_tell(fe, request, &state, sizeof(state), NULL, 0);
}

int vhost_frontend_set_vring_num(struct vhost_frontend *fe, unsigned int index, uint32_t size)
{
	return set_state(fe, VHOST_USER_SET_VRING_NUM, index, size);
}

int vhost_frontend_set_vring_base(struct vhost_frontend *fe, unsigned int index, uint32_t base)
{
	return set_state(fe, VHOST_USER_SET_VRING_BASE, index, base);
}

int vhost_frontend_get_vring_base(struct vhost_frontend *fe, unsigned int index, uint32_t *base)
{
	struct vhost_user_vring_state state = {.index = index};
	struct vhost_user_msg answer;
	int err;

	err = vhost_frontend_ask(fe, VHOST_USER_GET_VRING_BASE, &state, sizeof(state), &answer);
	if (err)
		return err;
	if (answer.header.size != sizeof(state) || answer.payload.state.index != index ||
	    (answer.payload.state.num > UINT16_MAX && !(fe->features & 1ULL << VIRTIO_F_RING_PACKED))) {
		fe->broken = true;
		return -EPROTO;
	}
	*base = answer.payload.state.num;
	return 0;
}

int vhost_frontend_set_vring_addr(struct vhost_frontend *fe, const struct vhost_user_vring_addr *addr)
{
	return vhost_frontend_tell(fe, VHOST_USER_SET_VRING_ADDR, addr, sizeof(*addr), NULL, 0);
}

int vhost_frontend_set_vring_enable(struct vhost_frontend *fe, unsigned int index, bool enable)
{
	return set_state(fe, VHOST_USER_SET_VRING_ENABLE, index, enable);
}

int vhost_frontend_set_vring_fd(struct vhost_frontend *fe, uint32_t request, unsigned int index, int fd)
{
	uint64_t value = index | (fd < 0 ? VHOST_USER_VRING_NOFD : 0);

	return vhost_frontend_tell(fe, request, &value, sizeof(value), &fd, fd < 0 ? 0 : 1);
}

int vhost_frontend_set_status(struct vhost_frontend *fe, uint8_t status)
{
	return vhost_frontend_set_u64(fe, VHOST_USER_SET_STATUS, status);
}

int vhost_frontend_get_status(struct vhost_frontend *fe, uint8_t *status)
{
	uint64_t value;
	int err = vhost_frontend_get_u64(fe, VHOST_USER_GET_STATUS, &value);

	if (!err)
		*status = (uint8_t)value;
	return err;
}

int vhost_frontend_set_mtu(struct vhost_frontend *fe, uint16_t mtu)
{
	return vhost_frontend_set_u64(fe, VHOST_USER_NET_SET_MTU, mtu);
}

int vhost_frontend_send_rarp(struct vhost_frontend *fe, const uint8_t mac[6])
{
	uint64_t value = 0;

	memcpy(&value, mac, 6);
	return vhost_frontend_set_u64(fe, VHOST_USER_SEND_RARP, value);
}

int vhost_frontend_get_config(struct vhost_frontend *fe, uint32_t offset, void *config, uint32_t size)
{
	struct vhost_user_config request = {.offset = offset, .size = size};
	uint32_t bytes = (uint32_t)offsetof(struct vhost_user_config, region) + size;
	struct vhost_user_msg answer;
	int err;

	if (size > VHOST_USER_CONFIG_MAX)
		return -EINVAL;
	err = vhost_frontend_ask(fe, VHOST_USER_GET_CONFIG, &request, bytes, &answer);
	if (err)
		return err;
	if (answer.header.size != bytes || answer.payload.config.size != size)
		return -EREMOTEIO; /* the protocol's way to say no is an empty answer */
	memcpy(config, answer.payload.config.region, size);
	return 0;
}
