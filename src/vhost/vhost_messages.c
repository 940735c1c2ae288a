/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of messages and their handlers. A handler sees a message of the right size with the
 * right number of descriptors, checks what is left to check, and only then changes the device; so
 * what a bad message finds is what it leaves.
 *
 * Front ends disagree with the protocol's text, and with each other, in ways that must be borne:
 *
 *	- Messages about rings come in any order; SET_VRING_ENABLE and SET_VRING_CALL even
 *	  before SET_FEATURES.
 *	- QEMU has one connection per device but speaks as one front end per queue pair.
 *	  SET_FEATURES and SET_PROTOCOL_FEATURES come again, unchanged, while the first pairs
 *	  run. QEMU 7.2 also adds each memory region once per pair, and takes it away as often:
 *	  what is there already, or gone already, is no fault.
 *	- QEMU keeps its memory slots over a reset of the device and then sends only what
 *	  changed: the memory table outlives RESET_DEVICE and SET_STATUS 0.
 *	- QEMU 7.2 resets the device by SET_STATUS 0 and then asks for GET_VRING_BASE: the base
 *	  outlives a reset as well.
 *	- User-mode Linux pads its memory table, takes a leaving driver's rings down by no more
 *	  than SET_VRING_ENABLE 0, and wants SET_PROTOCOL_FEATURES itself acknowledged if that
 *	  has REPLY_ACK.
 */
#include "vhost/vhost_messages.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "virtio/virtio_net.h"

#define BIT(n) (1ULL << (n))

#define MTU_MIN 68 /* what IPv4 asks of every link */

/*
 * The device as it is when a driver comes to it: no features, no rings. What the front end says
 * once a connection stays: memory, protocol features, and which rings it has enabled.
 */
static void vhost_device_reset(struct vhost_device *dev)
{
	for (unsigned int i = 0; i < vhost_ring_count(dev); i++) {
		struct vhost_ring *ring = &dev->rings[i];
		const struct vhost_ring old = *ring;

		vhost_ring_reset(ring);
		ring->base = old.base;
		ring->enabled = old.enabled;
		ring->enable_seen = old.enable_seen;
	}
	dev->features = 0;
	dev->features_set = false;
	dev->status = 0;
	memcpy(dev->mac, dev->config.mac, sizeof(dev->mac));
}

static enum vhost_fault answer_u64(struct vhost_device *dev, uint64_t value)
{
	dev->msg.payload.u64 = value;
	dev->msg.header.size = sizeof(value);
	return VHOST_FAULT_NONE;
}

static enum vhost_fault vhost_handle_set_owner(struct vhost_device *dev)
{
	dev->owned = true;
	return VHOST_FAULT_NONE;
}

/* Deprecated; the protocol's text wants it ignored. */
static enum vhost_fault vhost_handle_reset_owner(struct vhost_device *dev)
{
	(void)dev;
	return VHOST_FAULT_NONE;
}

static uint64_t vhost_device_features(const struct vhost_device *dev)
{
	return dev->config.features | BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

static enum vhost_fault vhost_handle_get_features(struct vhost_device *dev)
{
	return answer_u64(dev, vhost_device_features(dev));
}

static enum vhost_fault vhost_handle_set_features(struct vhost_device *dev)
{
	uint64_t features = dev->msg.payload.u64;

	if (features & ~vhost_device_features(dev))
		return VHOST_FAULT_FEATURES;
	if (dev->features_set && features == dev->features)
		return VHOST_FAULT_NONE;
	for (unsigned int i = 0; i < vhost_ring_count(dev); i++) {
		if (vhost_ring_running(dev, &dev->rings[i]))
			return VHOST_FAULT_FEATURES;
	}
	dev->features = features;
	dev->features_set = true;
	for (unsigned int i = 0; i < vhost_ring_count(dev); i++) {
		if (!dev->rings[i].enable_seen)
			dev->rings[i].enabled = !(features & BIT(VHOST_USER_F_PROTOCOL_FEATURES));
	}
	/* Who does not read our configuration space has the MTU from elsewhere, and says so. */
	if ((features & BIT(VIRTIO_NET_F_MTU)) && dev->config.mtu >= MTU_MIN &&
	    (dev->protocol_features & BIT(VHOST_USER_PROTOCOL_F_CONFIG)))
		dev->ops->mtu(dev, dev->config.mtu);
	return VHOST_FAULT_NONE;
}

/*
 * What is offered once stays for the connection, because QEMU asks again for each queue pair.
 *
 * User-mode Linux reads the configuration space, and 6.1 loses its rings' interrupts without
 * BACKEND_REQ. QEMU has a configuration space of its own and from 7.1 on prints a warning about a
 * back end that offers one; but only QEMU asks before it has set the owner.
 *
 * Not there yet: LOG_SHMFD, INFLIGHT_SHMFD, and what BACKEND_REQ brings for an IOMMU.
 */
static uint64_t vhost_message_protocol_features(const struct vhost_device *dev)
{
	uint64_t features = BIT(VHOST_USER_PROTOCOL_F_RARP) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
			    BIT(VHOST_USER_PROTOCOL_F_MTU) | BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |
			    BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT(VHOST_USER_PROTOCOL_F_STATUS);

	if (dev->protocol_offered != 0)
		return dev->protocol_offered;
	if (dev->config.pairs > 1)
		features |= BIT(VHOST_USER_PROTOCOL_F_MQ);
	if (dev->owned)
		features |= BIT(VHOST_USER_PROTOCOL_F_CONFIG) | BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ);
	return features;
}

static enum vhost_fault vhost_handle_get_protocol_features(struct vhost_device *dev)
{
	dev->protocol_offered = vhost_message_protocol_features(dev);
	return answer_u64(dev, dev->protocol_offered);
}

static enum vhost_fault vhost_handle_set_protocol_features(struct vhost_device *dev)
{
	if (dev->msg.payload.u64 & ~vhost_message_protocol_features(dev))
		return VHOST_FAULT_FEATURES;
	dev->protocol_features = dev->msg.payload.u64;
	return VHOST_FAULT_NONE;
}

static enum vhost_fault vhost_handle_get_queue_num(struct vhost_device *dev)
{
	return answer_u64(dev, dev->config.pairs);
}

static enum vhost_fault vhost_handle_reset_device(struct vhost_device *dev)
{
	vhost_device_reset(dev);
	for (unsigned int i = 0; i < vhost_ring_count(dev); i++) {
		dev->rings[i].enabled = false;
		dev->rings[i].enable_seen = false;
	}
	return VHOST_FAULT_NONE;
}

static enum vhost_fault vhost_handle_set_status(struct vhost_device *dev)
{
	if (dev->msg.payload.u64 > UINT8_MAX)
		return VHOST_FAULT_VALUE;
	if (dev->msg.payload.u64 == 0)
		vhost_device_reset(dev);
	dev->status = (uint8_t)dev->msg.payload.u64;
	return VHOST_FAULT_NONE;
}

static enum vhost_fault vhost_handle_get_status(struct vhost_device *dev)
{
	return answer_u64(dev, dev->status);
}

/* memory */

static enum vhost_fault memory_fault(int rc)
{
	switch (rc) {
	case 0:
		return VHOST_FAULT_NONE;
	case -EINVAL:
	case -EEXIST:
	case -EALREADY:
		return VHOST_FAULT_REGION;
	case -ENOSPC:
		return VHOST_FAULT_VALUE;
	default:
		return VHOST_FAULT_MEMORY_FILE;
	}
}

static enum vhost_fault vhost_handle_set_mem_table(struct vhost_device *dev)
{
	const struct vhost_user_mem_table *table = &dev->msg.payload.table;
	int rc = 0;

	/* The old regions go first: most of the new ones are the same and would overlap them. */
	guest_memory_clear(&dev->memory);
	for (unsigned int i = 0; i < table->count && rc == 0; i++)
		rc = guest_memory_add(&dev->memory, &table->regions[i], dev->fds[i]);
	/* Half a table is worse than none, in which no ring can be ready. */
	if (rc < 0)
		guest_memory_clear(&dev->memory);
	return memory_fault(rc);
}

static enum vhost_fault vhost_handle_get_max_mem_slots(struct vhost_device *dev)
{
	return answer_u64(dev, VHOST_USER_MEM_SLOTS);
}

static enum vhost_fault vhost_handle_add_mem_reg(struct vhost_device *dev)
{
	int rc = guest_memory_add(&dev->memory, &dev->msg.payload.region.region, dev->fds[0]);

	return rc == -EALREADY ? VHOST_FAULT_NONE : memory_fault(rc);
}

static enum vhost_fault vhost_handle_rem_mem_reg(struct vhost_device *dev)
{
	(void)guest_memory_remove(&dev->memory, &dev->msg.payload.region.region);
	return VHOST_FAULT_NONE;
}

/* Nothing is asked of the front end yet: it is for IOTLB misses. */
static enum vhost_fault vhost_handle_set_backend_req_fd(struct vhost_device *dev)
{
	if (!vhost_is_event_fd(dev->fds[0]))
		return VHOST_FAULT_EVENT_FD;
	if (dev->backend_fd >= 0)
		close(dev->backend_fd);
	dev->backend_fd = dev->fds[0];
	dev->fds[0] = -1;
	return VHOST_FAULT_NONE;
}

/* the network device */

static enum vhost_fault vhost_handle_send_rarp(struct vhost_device *dev)
{
	uint8_t mac[6];

	memcpy(mac, &dev->msg.payload.u64, sizeof(mac));
	/* A group address can be nobody's own. */
	if (mac[0] & 1)
		return VHOST_FAULT_VALUE;
	dev->ops->announce(dev, mac);
	return VHOST_FAULT_NONE;
}

static enum vhost_fault vhost_handle_net_set_mtu(struct vhost_device *dev)
{
	uint64_t mtu = dev->msg.payload.u64;

	if (mtu < MTU_MIN || mtu > UINT16_MAX)
		return VHOST_FAULT_VALUE;
	dev->ops->mtu(dev, (uint16_t)mtu);
	return VHOST_FAULT_NONE;
}

/* True if offset and size stay in the space, and the message carries what it says. */
static bool config_fits(const struct vhost_device *dev)
{
	const struct vhost_user_config *config = &dev->msg.payload.config;

	return config->size <= VHOST_USER_CONFIG_MAX && config->offset <= VHOST_USER_CONFIG_MAX - config->size &&
	       dev->msg.header.size == offsetof(struct vhost_user_config, region) + config->size;
}

static enum vhost_fault vhost_handle_get_config(struct vhost_device *dev)
{
	struct vhost_user_config *config = &dev->msg.payload.config;
	uint8_t space[VHOST_USER_CONFIG_MAX] = {0};
	struct virtio_net_config net = {
		.status = VIRTIO_NET_S_LINK_UP,
		.max_virtqueue_pairs = (uint16_t)dev->config.pairs,
		.mtu = dev->config.mtu,
		.speed = UINT32_MAX, /* unknown */
		.duplex = UINT8_MAX,
	};

	if (!config_fits(dev))
		return VHOST_FAULT_VALUE;
	memcpy(net.mac, dev->mac, sizeof(net.mac));
	memcpy(space, &net, sizeof(net));
	memcpy(config->region, space + config->offset, config->size);
	return VHOST_FAULT_NONE;
}

/* A driver writes nothing but the MAC, and that only without VERSION_1. */
static enum vhost_fault vhost_handle_set_config(struct vhost_device *dev)
{
	const struct vhost_user_config *config = &dev->msg.payload.config;

	if (!config_fits(dev) || (dev->features & BIT(VIRTIO_F_VERSION_1)) ||
	    config->offset + config->size > sizeof(dev->mac))
		return VHOST_FAULT_VALUE;
	memcpy(dev->mac + config->offset, config->region, config->size);
	return VHOST_FAULT_NONE;
}

/* the table */

/* Payload: bytes, at least and at most. */
#define EXACTLY(bytes)      (bytes), (bytes)
#define UP_TO(type, member) offsetof(type, member), sizeof(type)
#define NOTHING             EXACTLY(0)
#define U64                 EXACTLY(sizeof(uint64_t))
#define STATE               EXACTLY(sizeof(struct vhost_user_vring_state))
#define ADDR                EXACTLY(sizeof(struct vhost_user_vring_addr))
#define REGION              EXACTLY(sizeof(struct vhost_user_mem_region))
/* With as many regions as its count says, or more; with as many bytes as its size says. */
#define TABLE               UP_TO(struct vhost_user_mem_table, regions)
#define CONFIG              UP_TO(struct vhost_user_config, region)

/* The protocol feature that it comes with. */
#define ALWAYS   VHOST_ALWAYS
#define F_MQ     VHOST_USER_PROTOCOL_F_MQ
#define F_RARP   VHOST_USER_PROTOCOL_F_RARP
#define F_MTU    VHOST_USER_PROTOCOL_F_MTU
#define F_BACK   VHOST_USER_PROTOCOL_F_BACKEND_REQ
#define F_CONFIG VHOST_USER_PROTOCOL_F_CONFIG
#define F_RESET  VHOST_USER_PROTOCOL_F_RESET_DEVICE
#define F_SLOTS  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS
#define F_STATUS VHOST_USER_PROTOCOL_F_STATUS

/* Answered by itself, or acknowledged if the front end wants that. */
#define ANSWER true
#define ACK    false

/* May workers use the device meanwhile? */
#define QUIET true
#define BUSY  false

#define ROW(request, handler, payload, descriptors, feature, answers, quiesces) \
	[VHOST_USER_##request] = {                                              \
		#request, vhost_handle_##handler, payload, VHOST_FDS_##descriptors, feature, answers, quiesces}

/* clang-format off */
static const struct vhost_message vhost_messages[] = {
	ROW(GET_FEATURES,          get_features,          NOTHING, NONE, ALWAYS,   ANSWER, BUSY),
	ROW(SET_FEATURES,          set_features,          U64,     NONE, ALWAYS,   ACK,    QUIET),
	ROW(SET_OWNER,             set_owner,             NOTHING, NONE, ALWAYS,   ACK,    BUSY),
	ROW(RESET_OWNER,           reset_owner,           NOTHING, NONE, ALWAYS,   ACK,    BUSY),
	ROW(SET_MEM_TABLE,         set_mem_table,         TABLE,   MANY, ALWAYS,   ACK,    QUIET),
	ROW(SET_VRING_NUM,         set_vring_num,         STATE,   NONE, ALWAYS,   ACK,    QUIET),
	ROW(SET_VRING_ADDR,        set_vring_addr,        ADDR,    NONE, ALWAYS,   ACK,    QUIET),
	ROW(SET_VRING_BASE,        set_vring_base,        STATE,   NONE, ALWAYS,   ACK,    QUIET),
	ROW(GET_VRING_BASE,        get_vring_base,        STATE,   NONE, ALWAYS,   ANSWER, QUIET),
	ROW(SET_VRING_KICK,        set_vring_kick,        U64,     RING, ALWAYS,   ACK,    QUIET),
	ROW(SET_VRING_CALL,        set_vring_call,        U64,     RING, ALWAYS,   ACK,    QUIET),
	ROW(SET_VRING_ERR,         set_vring_err,         U64,     RING, ALWAYS,   ACK,    QUIET),
	ROW(GET_PROTOCOL_FEATURES, get_protocol_features, NOTHING, NONE, ALWAYS,   ANSWER, BUSY),
	ROW(SET_PROTOCOL_FEATURES, set_protocol_features, U64,     NONE, ALWAYS,   ACK,    BUSY),
	ROW(GET_QUEUE_NUM,         get_queue_num,         NOTHING, NONE, F_MQ,     ANSWER, BUSY),
	ROW(SET_VRING_ENABLE,      set_vring_enable,      STATE,   NONE, ALWAYS,   ACK,    QUIET),
	ROW(SEND_RARP,             send_rarp,             U64,     NONE, F_RARP,   ACK,    BUSY),
	ROW(NET_SET_MTU,           net_set_mtu,           U64,     NONE, F_MTU,    ACK,    BUSY),
	ROW(SET_BACKEND_REQ_FD,    set_backend_req_fd,    NOTHING, ONE,  F_BACK,   ACK,    BUSY),
	ROW(GET_CONFIG,            get_config,            CONFIG,  NONE, F_CONFIG, ANSWER, BUSY),
	ROW(SET_CONFIG,            set_config,            CONFIG,  NONE, F_CONFIG, ACK,    BUSY),
	ROW(RESET_DEVICE,          reset_device,          NOTHING, NONE, F_RESET,  ACK,    QUIET),
	ROW(GET_MAX_MEM_SLOTS,     get_max_mem_slots,     NOTHING, NONE, F_SLOTS,  ANSWER, BUSY),
	ROW(ADD_MEM_REG,           add_mem_reg,           REGION,  ONE,  F_SLOTS,  ACK,    QUIET),
	ROW(REM_MEM_REG,           rem_mem_reg,           REGION,  OPT,  F_SLOTS,  ACK,    QUIET),
	ROW(SET_STATUS,            set_status,            U64,     NONE, F_STATUS, ACK,    QUIET),
	ROW(GET_STATUS,            get_status,            NOTHING, NONE, F_STATUS, ANSWER, BUSY),
	/*
	 * To come, each with its protocol feature: SET_LOG_BASE, SET_LOG_FD (LOG_SHMFD, for live
	 * migration); IOTLB_MSG (with BACKEND_REQ, for a vIOMMU); GET_INFLIGHT_FD,
	 * SET_INFLIGHT_FD (INFLIGHT_SHMFD, for restarts with packed rings).
	 */
};
/* clang-format on */

const struct vhost_message *vhost_message_find(const struct vhost_device *dev, uint32_t request)
{
	const struct vhost_message *message;

	if (request >= ARRAY_SIZE(vhost_messages) || vhost_messages[request].handle == NULL)
		return NULL;
	message = &vhost_messages[request];
	if (message->feature != VHOST_ALWAYS && !(vhost_message_protocol_features(dev) & BIT(message->feature)))
		return NULL;
	return message;
}

enum vhost_fault vhost_message_check(const struct vhost_message *message, const struct vhost_device *dev)
{
	const struct vhost_user_mem_table *table = &dev->msg.payload.table;
	unsigned int wanted = 0;

	switch ((enum vhost_message_fds)message->fds) {
	case VHOST_FDS_NONE:
		break;
	case VHOST_FDS_ONE:
		wanted = 1;
		break;
	case VHOST_FDS_OPT:
		wanted = min(dev->fd_count, 1U);
		break;
	case VHOST_FDS_RING:
		wanted = dev->msg.payload.u64 & VHOST_USER_VRING_NOFD ? 0 : 1;
		break;
	case VHOST_FDS_MANY:
		if (table->count > VHOST_USER_TABLE_REGIONS)
			return VHOST_FAULT_REGION;
		if (dev->msg.header.size < message->size_min + table->count * sizeof(table->regions[0]))
			return VHOST_FAULT_SIZE;
		wanted = table->count;
		break;
	}
	return dev->fd_count == wanted ? VHOST_FAULT_NONE : VHOST_FAULT_DESCRIPTORS;
}
