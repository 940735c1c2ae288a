/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a front end says of a device's rings, and when a ring may be used. The messages come in any
 * order: each is kept by itself, and after each the ring is looked at as a whole. Addresses are
 * kept as the front end named them and translated anew each time somebody asks for the ring,
 * because the memory below may be exchanged while the ring runs.
 *
 * Descriptors of kicks and calls share their state with the front end's: it may take O_NONBLOCK off
 * again. Who reads or writes them must ask poll() first.
 *
 * @syscalls core: statx fcntl close
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vhost/chain_packed.h"
#include "vhost/vhost_messages.h"
#include "virtio/virtio_net.h"

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Until its next kick descriptor; base and addresses stay. */
static void vhost_ring_stop(struct vhost_ring *ring)
{
	close_fd(&ring->kick_fd);
	close_fd(&ring->call_fd);
	ring->kick_polled = false;
	ring->started = false;
}

void vhost_ring_reset(struct vhost_ring *ring)
{
	vhost_ring_stop(ring);
	close_fd(&ring->err_fd);
	*ring = (struct vhost_ring){.kick_fd = -1, .call_fd = -1, .err_fd = -1};
}

unsigned int vhost_ring_count(const struct vhost_device *dev)
{
	return 2 * dev->config.pairs + (dev->config.control_queue ? 1 : 0);
}

static struct vhost_ring *vhost_ring_at(struct vhost_device *dev, uint64_t index)
{
	return index < vhost_ring_count(dev) ? &dev->rings[index] : NULL;
}

int vhost_device_control_index(const struct vhost_device *dev)
{
	if (!dev->config.control_queue || !(dev->features & (1ULL << VIRTIO_NET_F_CTRL_VQ)))
		return -1;
	return dev->features & (1ULL << VIRTIO_NET_F_MQ) ? 2 * (int)dev->config.pairs : 2;
}

static bool is_packed(const struct vhost_device *dev)
{
	return dev->features & (1ULL << VIRTIO_F_RING_PACKED);
}

/* A ring's size, and where it starts, as they must be for the kind that was negotiated. */
static enum vhost_fault vhost_ring_shape(const struct vhost_device *dev, const struct vhost_ring *ring)
{
	if (!is_packed(dev))
		return is_power_of_two(ring->size) ? VHOST_FAULT_NONE : VHOST_FAULT_QUEUE_SIZE;
	if (!is_aligned(ring->avail_addr, VRING_PACKED_EVENT_ALIGN))
		return VHOST_FAULT_RING_ADDRESS;
	return vring_packed_index(ring->base) < ring->size ? VHOST_FAULT_NONE : VHOST_FAULT_VALUE;
}

/* Anew each time: the memory may be another one since the front end named the addresses. */
static bool find_split(const struct vhost_device *dev, const struct vhost_ring *state, struct vring_split *ring)
{
	ring->desc = guest_memory_at_user_addr(&dev->memory, state->desc_addr, vring_desc_bytes(state->size));
	ring->avail = guest_memory_at_user_addr(&dev->memory, state->avail_addr, vring_avail_bytes(state->size));
	ring->used = guest_memory_at_user_addr(&dev->memory, state->used_addr, vring_used_bytes(state->size));
	ring->size = state->size;
	ring->mask = (uint16_t)(state->size - 1);
	return ring->desc && ring->avail && ring->used;
}

static bool find_packed(const struct vhost_device *dev, const struct vhost_ring *state, struct vring_packed *ring)
{
	const size_t event = sizeof(struct vring_packed_desc_event);

	ring->desc = guest_memory_at_user_addr(&dev->memory, state->desc_addr, vring_packed_desc_bytes(state->size));
	ring->driver = guest_memory_at_user_addr(&dev->memory, state->avail_addr, event);
	ring->device = guest_memory_at_user_addr(&dev->memory, state->used_addr, event);
	ring->size = state->size;
	return ring->desc && ring->driver && ring->device;
}

bool vhost_device_ring_ready(const struct vhost_device *dev, unsigned int index, struct vring_any *ring)
{
	const struct vhost_ring *state;

	if (index >= vhost_ring_count(dev))
		return false;
	state = &dev->rings[index];
	if (!dev->features_set || state->size == 0 || !state->addressed || !state->started)
		return false;
	if (!state->enabled && (int)index != vhost_device_control_index(dev))
		return false;
	if (vhost_ring_shape(dev, state) != VHOST_FAULT_NONE)
		return false;
	ring->is_packed = is_packed(dev);
	return ring->is_packed ? find_packed(dev, state, &ring->packed) : find_split(dev, state, &ring->split);
}

uint16_t vhost_device_ring_start(struct vhost_device *dev, unsigned int index, const struct vring_any *ring)
{
	struct vhost_ring *state = &dev->rings[index];

	if (ring->is_packed && !state->base_own) {
		uint16_t said = state->base;

		state->base = chain_packed_recover(&ring->packed, said);
		state->base_own = true;
		if (state->base != said)
			log_limited(&dev->log_limit, LOG_INFO, "%s: ring %u goes on at 0x%04x, where 0x%04x was said",
				    dev->config.name, index, state->base, said);
	}
	return state->base;
}

bool vhost_ring_running(const struct vhost_device *dev, const struct vhost_ring *ring)
{
	struct vring_any unused;

	return vhost_device_ring_ready(dev, (unsigned int)(ring - dev->rings), &unused);
}

/*
 * After a message about the ring: a ring that lacks nothing any more must lie in memory. Without
 * any memory it is the memory that is still to come.
 */
static enum vhost_fault vhost_ring_check(const struct vhost_device *dev, const struct vhost_ring *ring)
{
	bool complete = ring->size > 0 && ring->addressed && ring->started && ring->enabled;

	if (!complete || !dev->features_set)
		return VHOST_FAULT_NONE;
	if (vhost_ring_shape(dev, ring) != VHOST_FAULT_NONE)
		return vhost_ring_shape(dev, ring);
	return dev->memory.count > 0 && !vhost_ring_running(dev, ring) ? VHOST_FAULT_RING_ADDRESS : VHOST_FAULT_NONE;
}

enum vhost_fault vhost_handle_set_vring_num(struct vhost_device *dev)
{
	const struct vhost_user_vring_state *state = &dev->msg.payload.state;
	struct vhost_ring *ring = vhost_ring_at(dev, state->index);

	if (ring == NULL)
		return VHOST_FAULT_QUEUE_INDEX;
	if (state->num == 0 || state->num > VRING_SIZE_MAX || (!is_packed(dev) && !is_power_of_two(state->num)))
		return VHOST_FAULT_QUEUE_SIZE;
	if (vhost_ring_running(dev, ring) && state->num != ring->size)
		return VHOST_FAULT_STATE;
	ring->size = (uint16_t)state->num;
	return vhost_ring_check(dev, ring);
}

enum vhost_fault vhost_handle_set_vring_addr(struct vhost_device *dev)
{
	const struct vhost_user_vring_addr *addr = &dev->msg.payload.addr;
	struct vhost_ring *ring = vhost_ring_at(dev, addr->index);

	if (ring == NULL)
		return VHOST_FAULT_QUEUE_INDEX;
	/* The only flag asks for dirty logging, which was not offered. */
	if (addr->flags != 0)
		return VHOST_FAULT_VALUE;
	if (!is_aligned(addr->desc, VRING_DESC_ALIGN_SIZE) || !is_aligned(addr->avail, VRING_AVAIL_ALIGN_SIZE) ||
	    !is_aligned(addr->used, VRING_USED_ALIGN_SIZE))
		return VHOST_FAULT_RING_ADDRESS;
	ring->desc_addr = addr->desc;
	ring->avail_addr = addr->avail;
	ring->used_addr = addr->used;
	ring->addressed = true;
	return vhost_ring_check(dev, ring);
}

enum vhost_fault vhost_handle_set_vring_base(struct vhost_device *dev)
{
	const struct vhost_user_vring_state *state = &dev->msg.payload.state;
	struct vhost_ring *ring = vhost_ring_at(dev, state->index);

	if (ring == NULL)
		return VHOST_FAULT_QUEUE_INDEX;
	/*
	 * For a packed ring the upper half is where the device goes on to write used descriptors, but DPDK's
	 * virtio-user leaves it 0; and one that works in order has not begun what it did not complete.
	 */
	if (state->num > UINT16_MAX && !is_packed(dev))
		return VHOST_FAULT_VALUE;
	if (vhost_ring_running(dev, ring))
		return VHOST_FAULT_STATE;
	ring->base = (uint16_t)state->num;
	ring->base_own = false;
	return VHOST_FAULT_NONE;
}

enum vhost_fault vhost_handle_get_vring_base(struct vhost_device *dev)
{
	struct vhost_user_vring_state *state = &dev->msg.payload.state;
	struct vhost_ring *ring = vhost_ring_at(dev, state->index);

	if (ring == NULL)
		return VHOST_FAULT_QUEUE_INDEX;
	vhost_ring_stop(ring);
	state->num = is_packed(dev) ? ring->base | (uint32_t)ring->base << 16 : ring->base;
	return VHOST_FAULT_NONE;
}

enum vhost_fault vhost_handle_set_vring_enable(struct vhost_device *dev)
{
	const struct vhost_user_vring_state *state = &dev->msg.payload.state;
	struct vhost_ring *ring = vhost_ring_at(dev, state->index);

	if (ring == NULL)
		return VHOST_FAULT_QUEUE_INDEX;
	if (state->num > 1)
		return VHOST_FAULT_VALUE;
	ring->enabled = state->num == 1;
	ring->enable_seen = true;
	return vhost_ring_check(dev, ring);
}

bool vhost_is_event_fd(int fd)
{
	struct statx st;
	int flags;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return false;
	switch (st.stx_mode & S_IFMT) {
	case 0: /* what has no file system, eventfd among it */
	case S_IFIFO:
	case S_IFSOCK:
		break;
	default:
		return false;
	}
	flags = fcntl(fd, F_GETFL);
	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

/* The ring that a KICK, CALL or ERR message is about; *fd takes over the descriptor, or is -1. */
static enum vhost_fault ring_fd(struct vhost_device *dev, struct vhost_ring **ring, int *fd)
{
	uint64_t value = dev->msg.payload.u64;

	*ring = vhost_ring_at(dev, value & ~(uint64_t)VHOST_USER_VRING_NOFD);
	*fd = -1;
	if (*ring == NULL)
		return VHOST_FAULT_QUEUE_INDEX;
	if (value & VHOST_USER_VRING_NOFD)
		return VHOST_FAULT_NONE;
	if (!vhost_is_event_fd(dev->fds[0]))
		return VHOST_FAULT_EVENT_FD;
	*fd = dev->fds[0];
	dev->fds[0] = -1;
	return VHOST_FAULT_NONE;
}

enum vhost_fault vhost_handle_set_vring_kick(struct vhost_device *dev)
{
	struct vhost_ring *ring;
	int fd;
	enum vhost_fault fault = ring_fd(dev, &ring, &fd);

	if (fault != VHOST_FAULT_NONE)
		return fault;
	close_fd(&ring->kick_fd);
	ring->kick_fd = fd;
	ring->kick_polled = fd < 0;
	ring->started = true;
	return vhost_ring_check(dev, ring);
}

enum vhost_fault vhost_handle_set_vring_call(struct vhost_device *dev)
{
	struct vhost_ring *ring;
	int fd;
	enum vhost_fault fault = ring_fd(dev, &ring, &fd);

	if (fault != VHOST_FAULT_NONE)
		return fault;
	close_fd(&ring->call_fd);
	ring->call_fd = fd;
	return VHOST_FAULT_NONE;
}

enum vhost_fault vhost_handle_set_vring_err(struct vhost_device *dev)
{
	struct vhost_ring *ring;
	int fd;
	enum vhost_fault fault = ring_fd(dev, &ring, &fd);

	if (fault != VHOST_FAULT_NONE)
		return fault;
	close_fd(&ring->err_fd);
	ring->err_fd = fd;
	return VHOST_FAULT_NONE;
}
