/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a port does with the commands that come through its control queue, and how many it listens to: whoever asks for
 * more than its share of the main thread's time is not heard for a moment, however often it kicks.
 */
#include "core/core_port_internal.h"

#include <string.h>

#include "lib/clock.h"

/* What a front end may make the main thread do through its control queue: a burst, and so much a second. */
#define CONTROL_COST_NS  (500 * NS_PER_US) /* of a command, or of a kick */
#define CONTROL_BURST    64
#define CONTROL_PAUSE_NS (16 * NS_PER_MS)

static bool control_set_pairs(struct control_queue *queue, uint16_t pairs)
{
	struct core_port *cp = container_of(queue, struct core_port, control);

	if (pairs < 1 || pairs > core_port_pairs_usable(cp))
		return false;
	cp->pairs_wanted = pairs;
	core_port_run_pairs(cp);
	return true;
}

static bool control_set_offloads(struct control_queue *queue, uint64_t features)
{
	struct core_port *cp = container_of(queue, struct core_port, control);
	uint64_t guest = cp->device.features & FEATURES_GUEST_OFFLOAD;

	if (features & ~guest)
		return false;
	cp->offloads_off = guest & ~features;
	/* The receive queues' features are what deliveries look at: they change while nobody does. */
	port_pause(cp->port, true);
	synchronize_rcu();
	cp->port->features = core_port_features(cp);
	for (unsigned int i = 0; i < 2 * cp->config.pairs; i++) {
		if (!cp->ring_live[i])
			continue;
		cp->port->rxq[i / 2].features = core_port_features(cp);
		if (i == RX_RING(i / 2))
			store_release(&cp->port->rxq[i / 2].live, true);
		else
			store_release(&cp->port->txq[i / 2].live, true);
		core_port_call_after_stop(cp, cp->device.rings[i].call_fd);
	}
	core_port_run_pairs(cp);
	for (unsigned int pair = 0; pair < cp->config.pairs; pair++) {
		if (cp->ring_live[TX_RING(pair)])
			worker_pool_attend(cp->core->pool, &cp->port->txq[pair]);
	}
	return true;
}

static void control_set_mac(struct control_queue *queue, const uint8_t mac[6])
{
	struct core_port *cp = container_of(queue, struct core_port, control);

	memcpy(cp->mac, mac, sizeof(cp->mac));
}

/* What is known of the driver, for everybody who maps the statistics. */
void core_port_publish_driver(struct core_port *cp)
{
	const struct driver_status *status = &cp->driver;
	struct stats_driver entry = {
		.connected_ns = cp->connected_ns,
		.seen_ns = cp->driver_seen_ns,
		.reports = cp->driver_reports,
		.refused = cp->control.refused,
		.link = status->link,
		.queues = status->queues,
		.mtu = status->mtu,
		.speed_mbps = status->speed_mbps,
		.rx_packets = status->rx_packets,
		.rx_bytes = status->rx_bytes,
		.tx_packets = status->tx_packets,
		.tx_bytes = status->tx_bytes,
		.rx_coalesced = status->rx_coalesced,
	};

	if (!(cp->config.flags & DP_PORT_DRIVER))
		return;
	memcpy(entry.kind, status->kind, sizeof(entry.kind));
	memcpy(entry.device, status->device, sizeof(entry.device));
	memcpy(entry.mode, status->mode, sizeof(entry.mode));
	memcpy(entry.drops, status->drops, sizeof(status->drops));
	statistics_driver(&cp->core->stats, cp->index, &entry);
}

static bool control_driver_status(struct control_queue *queue, const struct driver_status *status)
{
	struct core_port *cp = container_of(queue, struct core_port, control);

	cp->driver = *status;
	cp->driver_seen_ns = clock_now_ns();
	cp->driver_reports++;
	core_port_publish_driver(cp);
	return true;
}

static const struct control_queue_ops control_ops = {
	.set_pairs = control_set_pairs,
	.set_offloads = control_set_offloads,
	.set_mac = control_set_mac,
};

static const struct control_queue_ops control_ops_driver = {
	.set_pairs = control_set_pairs,
	.set_offloads = control_set_offloads,
	.set_mac = control_set_mac,
	.driver_status = control_driver_status,
};

/* How many commands may be carried out now. */
static unsigned int control_credit(struct core_port *cp, uint64_t now)
{
	uint64_t limit = now + CONTROL_BURST * CONTROL_COST_NS;

	cp->control_due_ns = max(cp->control_due_ns, now);
	return cp->control_due_ns < limit ? (unsigned int)((limit - cp->control_due_ns) / CONTROL_COST_NS) : 0;
}

/* Who asks for more than its share is not listened to for a moment, however often it kicks. */
static void pause_control(struct core_port *cp, uint64_t now)
{
	loop_remove(&cp->core->loop, &cp->control_io);
	loop_timer_start(&cp->core->loop, &cp->control_timer, now + CONTROL_PAUSE_NS);
}

/* It was kicked meanwhile, or it was not: the descriptor still says that it was at some time, which is enough. */
static void on_control_resumed(struct loop_timer *timer)
{
	struct core_port *cp = container_of(timer, struct core_port, control_timer);

	if (cp->control.live && loop_add(&cp->core->loop, &cp->control_io, EPOLLIN | EPOLLET))
		pause_control(cp, clock_now_ns());
}

static void on_control_kick(struct loop_io *io, uint32_t events)
{
	struct core_port *cp = container_of(io, struct core_port, control_io);
	int index = vhost_device_control_index(&cp->device);
	uint64_t before = cp->control.commands, now = clock_now_ns();
	unsigned int credit = control_credit(cp, now);
	enum chain_verdict verdict;
	bool call;

	(void)events;
	if (!cp->control.live || index < 0)
		return;
	if (credit == 0) {
		pause_control(cp, now);
		return;
	}
	verdict = control_queue_serve(&cp->control, credit, &call);
	cp->control_due_ns += (1 + cp->control.commands - before) * CONTROL_COST_NS;
	if (cp->control.live && cp->control.commands - before >= credit)
		pause_control(cp, now);
	if (call)
		core_port_call(cp, cp->device.rings[index].call_fd);
	if (guest_memory_faulted(&cp->device.memory))
		core_port_quarantine(cp, PORT_FAULT_MEMORY_SHRUNK);
	else if (verdict != CHAIN_OK)
		core_port_quarantine(cp, verdict);
}

void core_port_control_init(struct core_port *cp)
{
	cp->control_io = (struct loop_io){.fd = -1, .ready = on_control_kick};
	cp->control_timer.expired = on_control_resumed;
	cp->control.ops = cp->config.flags & DP_PORT_DRIVER ? &control_ops_driver : &control_ops;
}

void core_port_control_start(struct core_port *cp)
{
	int index = vhost_device_control_index(&cp->device);
	struct vring_any ring;

	if (index < 0 || !vhost_device_ring_ready(&cp->device, (unsigned int)index, &ring))
		return;
	cp->control_io.fd = cp->device.rings[index].kick_fd;
	if (cp->control_io.fd < 0 || loop_add(&cp->core->loop, &cp->control_io, EPOLLIN | EPOLLET))
		return;
	control_queue_start(&cp->control, &ring, &cp->device.memory, cp->device.features,
			    vhost_device_ring_start(&cp->device, (unsigned int)index, &ring));
}

void core_port_control_stop(struct core_port *cp)
{
	if (!cp->control.live)
		return;
	cp->control.live = false;
	loop_remove(&cp->core->loop, &cp->control_io);
	loop_timer_stop(&cp->control_timer);
}
