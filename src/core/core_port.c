/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a port's queues. The device calls quiesce before anything changes under the workers: all queues stop,
 * kicks are no longer watched, a grace period passes, and where each ring stopped is kept. Its update starts what
 * is ready from there. So every change, however small, takes the one way that is easy to get right.
 *
 * Quarantine is a state between those two: a port whose ring broke the rules stays quiet until its front end
 * stops all rings (a driver's reset does), resets the device or connects anew.
 */
#include "core/core_port_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/channel.h"
#include "datapath/hold.h"
#include "engine/vm_state.h"
#include "lib/clock.h"
#include "lib/fdpass.h"
#include "lib/log.h"

/* How long packets wait for a front end that was there before: VMMs try again once a second. */
#define AWAITED_NS (1500 * NS_PER_MS)

/* How long a front end whose call descriptor blocked may not come back. */
#define BARRED_NS NS_PER_S

/* The device's side of everything that the datapath can do, or undo for others. */
#define FEATURES_BASE                                                                                                 \
	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_F_ANY_LAYOUT) | VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
	 VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) | VIRTIO_BIT(VIRTIO_F_RING_PACKED) | VIRTIO_BIT(VIRTIO_F_IN_ORDER) |     \
	 VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE))
#define FEATURES_OFFLOAD                                                                                           \
	(VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | \
	 VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) | VIRTIO_BIT(VIRTIO_NET_F_HOST_USO) | FEATURES_GUEST_OFFLOAD)
#define FEATURES_CONTROL                                                       \
	(VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX) | \
	 VIRTIO_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))

static uint64_t offered_features(const struct dp_port_add *config)
{
	uint64_t features = FEATURES_BASE | FEATURES_OFFLOAD | FEATURES_CONTROL;

	if (config->pairs > 1)
		features |= VIRTIO_BIT(VIRTIO_NET_F_MQ);
	if (config->mtu)
		features |= VIRTIO_BIT(VIRTIO_NET_F_MTU);
	features &= ~config->features_off;
	/* What a legacy device does not have. */
	if (!(features & VIRTIO_BIT(VIRTIO_F_VERSION_1)))
		features &= ~(VIRTIO_BIT(VIRTIO_F_RING_PACKED) | VIRTIO_BIT(VIRTIO_F_IN_ORDER));
	return features;
}

static struct core_port *from_device(struct vhost_device *dev)
{
	return container_of(dev, struct core_port, device);
}

static void tell_state(struct core_port *cp)
{
	struct dp_port_info info;

	core_port_info(cp, &info);
	cp->untold = !channel_event(cp->core->channel, DP_EVENT_PORT, &info, sizeof(info));
	cp->core->ports_untold |= cp->untold;
}

static void set_state(struct core_port *cp, enum dp_port_state state)
{
	if (cp->state == state)
		return;
	cp->state = state;
	statistics_port(&cp->core->stats, cp->index, cp->config.name, state);
	tell_state(cp);
}

void core_port_tell(struct core *core)
{
	if (!core->ports_untold)
		return;
	core->ports_untold = false;
	for (uint32_t i = 0; i < FLOW_PORTS_MAX; i++) {
		if (core->ports[i] && core->ports[i]->untold)
			tell_state(core->ports[i]);
	}
}

static void remember_fault(struct core_port *cp, const char *name)
{
	memset(cp->fault, 0, sizeof(cp->fault));
	strncpy(cp->fault, name, sizeof(cp->fault) - 1);
	cp->faults++;
	statistics_fault(&cp->core->stats);
}

static void stop_ring(struct core_port *cp, unsigned int index)
{
	unsigned int pair = index / 2;

	if (!cp->ring_live[index])
		return;
	cp->ring_live[index] = false;
	if (index == RX_RING(pair))
		cp->base[index] = rxq_stop(&cp->port->rxq[pair]);
	else
		cp->base[index] = txq_stop(&cp->port->txq[pair]);
}

static void on_quiesce(struct vhost_device *dev)
{
	struct core_port *cp = from_device(dev);
	bool any = false;

	for (unsigned int i = 0; i < 2 * cp->config.pairs; i++) {
		if (cp->kick_fds[i] >= 0)
			worker_pool_detach(cp->core->pool, cp->index, i / 2, cp->kick_fds[i]);
		cp->kick_fds[i] = -1;
		any |= cp->ring_live[i];
	}
	if (any) {
		port_pause(cp->port, true);
		synchronize_rcu();
		hold_settle(&cp->core->dp, cp->port);
	}
	for (unsigned int i = 0; i < 2 * cp->config.pairs; i++)
		stop_ring(cp, i);
	core_port_control_stop(cp);
}

uint64_t core_port_features(const struct core_port *cp)
{
	return cp->device.features & ~cp->offloads_off;
}

bool core_port_call(struct core_port *cp, int fd)
{
	return forward_call(cp->core->forwarder, cp->port, fd);
}

/* Whatever was notified while the ring stood still may have been lost: each side looks once. */
void core_port_call_after_stop(struct core_port *cp, int fd)
{
	/* One call that blocks is enough. */
	if (!load_acquire(&cp->port->fault))
		core_port_call(cp, fd);
}

static bool start_rx(struct core_port *cp, unsigned int pair, const struct vring_any *ring)
{
	const struct vhost_ring *said = &cp->device.rings[RX_RING(pair)];
	const uint16_t base = vhost_device_ring_start(&cp->device, RX_RING(pair), ring);
	struct rxq *rxq = &cp->port->rxq[pair];

	if (!ring->is_packed)
		rxq_start(rxq, &ring->split, &cp->device.memory, core_port_features(cp), base, said->call_fd);
	else if (rxq_start_packed(rxq, &ring->packed, &cp->device.memory, core_port_features(cp), base, said->call_fd))
		return false;
	cp->ring_live[RX_RING(pair)] = true;
	if (said->kick_fd >= 0 && !worker_pool_attach_rx(cp->core->pool, cp->index, pair, said->kick_fd))
		cp->kick_fds[RX_RING(pair)] = said->kick_fd;
	core_port_call_after_stop(cp, said->call_fd);
	return true;
}

static int start_txq(struct core_port *cp, struct txq *txq, const struct vring_any *ring, uint16_t base, int call_fd)
{
	const struct guest_memory *memory = &cp->device.memory;

	return ring->is_packed ? txq_start_packed(txq, &ring->packed, memory, cp->device.features, base, call_fd)
			       : txq_start(txq, &ring->split, memory, cp->device.features, base, call_fd);
}

static bool start_tx(struct core_port *cp, unsigned int pair, const struct vring_any *ring)
{
	const struct vhost_ring *said = &cp->device.rings[TX_RING(pair)];
	const uint16_t base = vhost_device_ring_start(&cp->device, TX_RING(pair), ring);

	if (start_txq(cp, &cp->port->txq[pair], ring, base, said->call_fd))
		return false;
	cp->ring_live[TX_RING(pair)] = true;
	if (!worker_pool_attach(cp->core->pool, &cp->port->txq[pair], said->kick_fd))
		cp->kick_fds[TX_RING(pair)] = said->kick_fd;
	core_port_call_after_stop(cp, said->call_fd);
	return true;
}

static bool any_ring_started(const struct core_port *cp)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(cp->device.rings); i++) {
		if (cp->device.rings[i].started)
			return true;
	}
	return false;
}

static void lift_quarantine(struct core_port *cp)
{
	static struct log_limit limit;

	if (cp->quarantine)
		log_limited(&limit, LOG_INFO, "port %s: quarantine (%s) is over", cp->config.name,
			    port_fault_name(cp->quarantine));
	cp->quarantine = 0;
	store_release(&cp->port->fault, 0);
}

/* Without F_MQ there is one pair, and ring 2 may be the control queue. */
unsigned int core_port_pairs_usable(const struct core_port *cp)
{
	return cp->device.features & VIRTIO_BIT(VIRTIO_NET_F_MQ) ? cp->config.pairs : 1;
}

/* As many receive queues as the guest wants and are there. */
void core_port_run_pairs(struct core_port *cp)
{
	uint32_t running = 0;

	while (running < min((unsigned int)cp->pairs_wanted, core_port_pairs_usable(cp)) &&
	       cp->ring_live[RX_RING(running)])
		running++;
	store_release(&cp->port->pairs_running, running);
}

static void on_update(struct vhost_device *dev)
{
	struct core_port *cp = from_device(dev);
	bool up = false;

	if (!any_ring_started(cp)) {
		lift_quarantine(cp);
		cp->pairs_wanted = PORT_PAIRS_MAX;
		cp->offloads_off = 0;
	}
	if (cp->quarantine || load_acquire(&cp->port->fault)) {
		store_release(&cp->port->pairs_running, 0);
		set_state(cp, dev->sock < 0 ? DP_PORT_DOWN : DP_PORT_QUARANTINED);
		return;
	}
	cp->port->features = core_port_features(cp);
	cp->port->memory = &dev->memory;
	for (unsigned int pair = 0; pair < core_port_pairs_usable(cp); pair++) {
		struct vring_any ring;
		bool rx = false;

		if (vhost_device_ring_ready(dev, RX_RING(pair), &ring))
			rx = start_rx(cp, pair, &ring);
		if (vhost_device_ring_ready(dev, TX_RING(pair), &ring))
			up |= start_tx(cp, pair, &ring) && rx;
	}
	core_port_control_start(cp);
	core_port_run_pairs(cp);
	set_state(cp, dev->sock < 0 ? DP_PORT_DOWN : up ? DP_PORT_UP : DP_PORT_CONNECTED);
	worker_pool_wake(cp->core->pool);
}

static uint16_t on_ring_base(struct vhost_device *dev, unsigned int index)
{
	struct core_port *cp = from_device(dev);

	if ((int)index == vhost_device_control_index(dev))
		return cp->control.last_avail;
	return index < 2 * cp->config.pairs ? cp->base[index] : dev->rings[index].base;
}

static void on_announce(struct vhost_device *dev, const uint8_t mac[6])
{
	struct core_port *cp = from_device(dev);
	struct dp_announce announce = {.port = cp->index};

	memcpy(announce.mac, mac, sizeof(announce.mac));
	channel_event(cp->core->channel, DP_EVENT_ANNOUNCE, &announce, sizeof(announce));
}

static void on_mtu(struct vhost_device *dev, uint16_t mtu)
{
	from_device(dev)->mtu = mtu;
}

static const struct vhost_device_ops device_ops = {
	.quiesce = on_quiesce,
	.update = on_update,
	.ring_base = on_ring_base,
	.announce = on_announce,
	.mtu = on_mtu,
};

/* 0 comes for processes that our pid namespace does not see: nothing is known of them. */
static void watch_peer(struct core_port *cp, int sock)
{
	struct ucred peer;

	cp->peer_pid = fdpass_peer(sock, &peer) ? 0 : (uint32_t)peer.pid;
	store_relaxed(&cp->port->vm_slot, max(vm_state_watch((pid_t)cp->peer_pid), -1));
}

static void unwatch_peer(struct core_port *cp)
{
	int slot = load_relaxed(&cp->port->vm_slot);

	/* A worker that has read the slot just now may see it as another VM's, which costs it a notification. */
	store_relaxed(&cp->port->vm_slot, -1);
	vm_state_forget(slot);
	cp->peer_pid = 0;
}

static void disconnect(struct core_port *cp, enum vhost_fault fault)
{
	loop_remove(&cp->core->loop, &cp->conn_io);
	cp->conn_io.fd = -1;
	if (fault != VHOST_FAULT_HANGUP && fault != VHOST_FAULT_NONE)
		remember_fault(cp, vhost_fault_name(fault));
	vhost_device_disconnect(&cp->device, fault);
	unwatch_peer(cp);
	store_relaxed(&cp->port->awaited_until_ns, 0);
	memset(cp->mac, 0, sizeof(cp->mac));
	cp->mtu = 0;
	cp->connected_ns = 0;
	core_port_publish_driver(cp);
}

/* Tells the front end which rings came to a stop. */
static void report_stop(struct core_port *cp)
{
	for (unsigned int i = 0; i < 2 * cp->config.pairs; i++) {
		if (!core_port_call(cp, cp->device.rings[i].err_fd))
			return;
	}
}

void core_port_quarantine(struct core_port *cp, unsigned int fault)
{
	static struct log_limit limit;
	bool stopped[VHOST_DEVICE_RINGS_MAX] = {false};

	if (fault == PORT_FAULT_MEMORY_SHRUNK) {
		disconnect(cp, VHOST_FAULT_MEMORY_SHRUNK);
		return;
	}
	remember_fault(cp, port_fault_name(fault));
	log_limited(&limit, LOG_WARN, "port %s: quarantined: %s", cp->config.name, port_fault_name(fault));
	cp->quarantine = fault;
	if (fault == PORT_FAULT_CALL_BLOCKED) {
		cp->barred_until_ns = clock_now_ns() + BARRED_NS;
		disconnect(cp, VHOST_FAULT_HANGUP);
		return;
	}
	for (unsigned int i = 0; i < 2 * cp->config.pairs; i++)
		stopped[i] = cp->ring_live[i];
	on_quiesce(&cp->device);
	store_release(&cp->port->pairs_running, 0);
	for (unsigned int i = 0; i < 2 * cp->config.pairs; i++) {
		/* What the rings' state is, in case the front end asks. */
		if (stopped[i])
			cp->device.rings[i].base = cp->base[i];
	}
	report_stop(cp);
	set_state(cp, DP_PORT_QUARANTINED);
}

void core_port_check_faults(struct core *core)
{
	for (uint32_t i = 0; i < FLOW_PORTS_MAX; i++) {
		struct core_port *cp = core->ports[i];
		uint32_t fault = cp ? load_acquire(&cp->port->fault) : 0;

		if (fault && !cp->quarantine && cp->device.sock >= 0)
			core_port_quarantine(cp, fault);
	}
}

static void on_message(struct loop_io *io, uint32_t events)
{
	struct core_port *cp = container_of(io, struct core_port, conn_io);
	enum vhost_fault fault;

	(void)events;
	fault = vhost_device_receive(&cp->device);
	if (fault == VHOST_FAULT_NONE && guest_memory_faulted(&cp->device.memory))
		fault = VHOST_FAULT_MEMORY_SHRUNK;
	if (fault != VHOST_FAULT_NONE)
		disconnect(cp, fault);
}

static int connect_port(struct core_port *cp, int sock)
{
	int error;

	cp->conn_io.fd = sock;
	error = loop_add(&cp->core->loop, &cp->conn_io, EPOLLIN);
	if (error) {
		cp->conn_io.fd = -1;
		return error;
	}
	cp->connections++;
	cp->connected_ns = clock_now_ns();
	cp->driver_reports = 0;
	watch_peer(cp, sock);
	lift_quarantine(cp);
	vhost_device_connect(&cp->device, sock);
	set_state(cp, DP_PORT_CONNECTED);
	core_port_publish_driver(cp);
	return 0;
}

/* Who can hold us up for a moment shall not do it at every moment. */
static bool is_barred(const struct core_port *cp)
{
	return clock_now_ns() < cp->barred_until_ns;
}

static bool has_hung_up(int sock)
{
	struct pollfd poll_fd = {.fd = sock, .events = POLLIN | POLLRDHUP};

	return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void on_connection(struct loop_io *io, uint32_t events)
{
	struct core_port *cp = container_of(io, struct core_port, listen_io);
	static struct log_limit limit;
	int sock = fdpass_accept(io->fd);

	(void)events;
	if (sock < 0)
		return;
	/* The old front end may have died just now, and its end wait for us behind this event. */
	if (cp->device.sock >= 0 && has_hung_up(cp->device.sock))
		disconnect(cp, VHOST_FAULT_HANGUP);
	if (cp->device.sock >= 0 || is_barred(cp)) {
		log_limited(&limit, LOG_WARN, "port %s: a front end was turned away: %s", cp->config.name,
			    cp->device.sock >= 0 ? "there is one" : "the last one blocked us just now");
		close(sock);
		return;
	}
	if (connect_port(cp, sock))
		close(sock);
}

static bool name_valid(const char name[DP_NAME_SIZE])
{
	size_t length = strnlen(name, DP_NAME_SIZE);

	return length > 0 && length < DP_NAME_SIZE;
}

static bool config_valid(const struct dp_port_add *config, int listener)
{
	return name_valid(config->name) && strnlen(config->owner, DP_NAME_SIZE) < DP_NAME_SIZE &&
	       strnlen(config->path, DP_PATH_SIZE) < DP_PATH_SIZE && config->pairs >= 1 &&
	       config->pairs <= PORT_PAIRS_MAX && config->mode <= DP_PORT_CLIENT &&
	       (config->mode == DP_PORT_SERVER) == (listener >= 0) && (config->mtu == 0 || config->mtu >= 68) &&
	       config->wait_us <= 10000000 && config->notify_us <= DP_NOTIFY_US_MAX &&
	       config->notify_packets <= DP_NOTIFY_PACKETS_MAX &&
	       !(config->flags & ~(DP_PORT_DRIVER | DP_PORT_AWAITED)) && config->zero == 0 &&
	       !((config->flags & DP_PORT_DRIVER) && (config->features_off & VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ)));
}

static void set_notify_bounds(struct port *port, const struct dp_port_add *config)
{
	bool given = config->notify_packets != 0;

	port->notify_ns = (given ? config->notify_us : DP_NOTIFY_US_DEFAULT) * 1000ULL;
	port->notify_packets = given ? config->notify_packets : DP_NOTIFY_PACKETS_DEFAULT;
}

static int free_index(const struct core *core, const char *name, uint32_t *index)
{
	int error = -ENOSPC;

	for (uint32_t i = FLOW_PORTS_MAX; i-- > 0;) {
		if (!core->ports[i]) {
			*index = i;
			error = 0;
		} else if (!strcmp(core->ports[i]->config.name, name)) {
			return -EEXIST;
		}
	}
	return error;
}

int core_port_add(struct core *core, const struct dp_port_add *config, int listener, uint32_t *index)
{
	uint64_t wait_ns = config->wait_us ? config->wait_us * 1000ULL : FORWARD_FULL_WAIT_NS;
	struct vhost_device_config device = {.pairs = config->pairs, .control_queue = true, .mtu = config->mtu};
	struct core_port *cp;
	int error;

	if (!config_valid(config, listener))
		return -EINVAL;
	error = free_index(core, config->name, index);
	if (error)
		return error;
	cp = calloc(1, sizeof(*cp));
	if (!cp)
		return -ENOMEM;
	cp->port = port_create(*index, wait_ns);
	if (!cp->port) {
		free(cp);
		return -ENOMEM;
	}
	set_notify_bounds(cp->port, config);
	if (config->flags & DP_PORT_AWAITED)
		cp->port->awaited_until_ns = clock_now_ns() + AWAITED_NS;
	cp->core = core;
	cp->config = *config;
	cp->index = *index;
	cp->pairs_wanted = PORT_PAIRS_MAX;
	cp->listen_io = (struct loop_io){.fd = listener, .ready = on_connection};
	cp->conn_io = (struct loop_io){.fd = -1, .ready = on_message};
	core_port_control_init(cp);
	for (unsigned int i = 0; i < ARRAY_SIZE(cp->kick_fds); i++)
		cp->kick_fds[i] = -1;
	device.name = cp->config.name;
	device.features = offered_features(config);
	vhost_device_init(&cp->device, &device_ops, &device);
	cp->port->memory = &cp->device.memory;
	if (listener >= 0) {
		error = loop_add(&core->loop, &cp->listen_io, EPOLLIN);
		if (error) {
			port_destroy(cp->port);
			free(cp);
			return error;
		}
	}
	core->ports[*index] = cp;
	rcu_assign_pointer(core->dp.ports[*index], cp->port);
	statistics_port(&core->stats, *index, config->name, DP_PORT_DOWN);
	statistics_driver(&core->stats, *index, NULL);
	return 0;
}

int core_port_del(struct core *core, uint32_t index)
{
	struct core_port *cp = index < FLOW_PORTS_MAX ? core->ports[index] : NULL;

	if (!cp)
		return -ENOENT;
	if (cp->device.sock >= 0)
		disconnect(cp, VHOST_FAULT_HANGUP);
	if (cp->listen_io.fd >= 0) {
		loop_remove(&core->loop, &cp->listen_io);
		close(cp->listen_io.fd);
	}
	core->ports[index] = NULL;
	rcu_assign_pointer(core->dp.ports[index], NULL);
	synchronize_rcu();
	statistics_port(&core->stats, index, NULL, DP_PORT_DOWN);
	statistics_driver(&core->stats, index, NULL);
	port_destroy(cp->port);
	free(cp);
	return 0;
}

int core_port_connect(struct core *core, uint32_t index, int sock)
{
	struct core_port *cp = index < FLOW_PORTS_MAX ? core->ports[index] : NULL;

	if (!cp)
		return -ENOENT;
	if (cp->config.mode != DP_PORT_CLIENT)
		return -EINVAL;
	if (cp->device.sock >= 0)
		return -EISCONN;
	if (is_barred(cp))
		return -EAGAIN;
	return connect_port(cp, sock);
}

static uint32_t vm_state_of(const struct core_port *cp)
{
	switch (vm_state_get(load_relaxed(&cp->port->vm_slot))) {
	case VM_STATE_BLOCKED:
		return DP_VM_BLOCKED;
	case VM_STATE_RUNNABLE:
		return DP_VM_RUNNABLE;
	case VM_STATE_RUNNING:
		return DP_VM_RUNNING;
	default:
		return DP_VM_UNKNOWN;
	}
}

void core_port_info(const struct core_port *cp, struct dp_port_info *info)
{
	const struct vhost_device *dev = &cp->device;

	*info = (struct dp_port_info){
		.port = cp->index,
		.state = cp->state,
		.config = cp->config,
		.faults = cp->faults,
		.connections = cp->connections,
		.features = dev->features,
		.protocol_features = dev->protocol_features,
		.pairs_enabled = port_pairs(cp->port),
		.regions = dev->memory.count,
		.ring_sizes = dev->rings[0].size | (uint32_t)dev->rings[1].size << 16,
		.mtu = cp->mtu,
		.peer_pid = cp->peer_pid,
		.vm_state = vm_state_of(cp),
		.driver_seen_ns = cp->driver_seen_ns,
		.driver = cp->driver,
	};
	memcpy(info->fault, cp->fault, sizeof(info->fault));
	memcpy(info->mac, cp->mac, sizeof(info->mac));
	for (unsigned int i = 0; i < dev->memory.count; i++)
		info->memory += dev->memory.regions[i].size;
}
