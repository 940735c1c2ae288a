/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The connection to the data plane. After each connection it is brought to what was asked for:
 * ports that are as they should be are kept with their flows, so that a control plane that was
 * restarted costs no packet; others go; what is missing is added. A data plane that started anew
 * has nothing, and gets all of it.
 *
 * A lost connection may show in any request, also deep inside the forwarding logic. It is only
 * noted there; control_core_check() ends it once nobody is using it.
 */
#include "control/control.h"
#include "lib/clock.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define CORE_TRIES_REPORTED 20
#define CORE_RETRY_NS       (50 * NS_PER_MS)
#define EVENTS_AT_ONCE      256

/* The ports that the data plane has when we come: those we keep are noted in our own. */
struct port_reading {
	struct control *control;
	uint32_t stale[DP_PORTS_MAX];
	uint32_t stale_count;
};

static bool same_config(const struct dp_port_add *a, const struct dp_port_add *b)
{
	return strcmp(a->name, b->name) == 0 && strcmp(a->owner, b->owner) == 0 && strcmp(a->path, b->path) == 0 &&
	       a->mode == b->mode && a->pairs == b->pairs && a->wait_us == b->wait_us && a->notify_us == b->notify_us &&
	       a->notify_packets == b->notify_packets && a->mtu == b->mtu && a->features_off == b->features_off &&
	       ((a->flags ^ b->flags) & DP_PORT_DRIVER) == 0;
}

static void read_port(void *arg, const struct dp_port_info *info)
{
	struct port_reading *reading = arg;
	struct control_port *port = control_port_find(reading->control, info->config.name);

	if (port != NULL && !port->present && same_config(&port->settings.wire, &info->config)) {
		port->present = true;
		port->info = *info;
	} else if (reading->stale_count < DP_PORTS_MAX) {
		reading->stale[reading->stale_count++] = info->port;
	}
}

struct flow_reading {
	struct control *control;
	uint64_t now_ns;
};

static void read_flow(void *arg, const struct dp_flow_info *info)
{
	const struct flow_reading *reading = arg;

	forwarding_adopt(&reading->control->fwd, info, reading->now_ns);
}

/* Keeps what is right in the data plane, removes what is not. */
static int core_adopt(struct control *control)
{
	struct port_reading ports = {.control = control};
	struct flow_reading flows = {.control = control, .now_ns = clock_now_ns()};
	struct control_port *port;
	int error = datapath_client_port_dump(control->core, read_port, &ports);

	if (error < 0)
		return error;
	TAILQ_FOREACH(port, &control->ports, next) {
		if (port->present)
			control_port_join(control, port, flows.now_ns);
	}
	error = datapath_client_flow_dump(control->core, read_flow, &flows);
	if (error < 0)
		return error;
	forwarding_adopted(&control->fwd, flows.now_ns);
	for (uint32_t i = 0; i < ports.stale_count && error == 0; i++)
		error = datapath_client_port_del(control->core, ports.stale[i]);
	return error;
}

/* events */

static void handle_event(struct control *control, const struct datapath_event *event)
{
	switch (event->type) {
	case DP_EVENT_UPCALL:
		forwarding_upcall(&control->fwd, &event->upcall.key, clock_now_ns());
		break;
	case DP_EVENT_PORT:
		control_port_changed(control, &event->port);
		break;
	case DP_EVENT_ANNOUNCE:
		forwarding_announce(&control->fwd, event->announce.port, event->announce.mac, clock_now_ns());
		break;
	default:
		break;
	}
}

/* As many as are there, but others must have their turn: the rest is for the next round. */
static void handle_events(struct control *control)
{
	for (unsigned int i = 0; i < EVENTS_AT_ONCE && !control->core_failed; i++) {
		struct datapath_event event;
		int error = datapath_client_event(control->core, &event);

		if (error == -EAGAIN)
			return;
		if (error < 0) {
			control->core_failed = true;
			return;
		}
		handle_event(control, &event);
	}
	/* Some may be waiting inside the client, where the descriptor does not show them. */
	loop_timer_start(&control->loop, &control->core_timer, clock_now_ns());
}

/* sweeps */

static void sweep_port(void *arg, const struct dp_port_info *info)
{
	struct control_port *port = control_port_noted(arg, info);

	if (port != NULL)
		port->seen = true;
}

static void sweep_flow(void *arg, const struct dp_flow_info *info)
{
	struct control *control = arg;

	forwarding_sweep_flow(&control->fwd, info);
}

/* States whose events were lost. -EIO: the data plane lacks a port that it should have. */
static int sweep_ports(struct control *control)
{
	struct control_port *port;
	int error;

	TAILQ_FOREACH(port, &control->ports, next)
		port->seen = false;
	error = datapath_client_port_dump(control->core, sweep_port, control);
	if (error < 0)
		return error;
	TAILQ_FOREACH(port, &control->ports, next) {
		if (port->present && !port->seen)
			return -EIO;
		control_port_follow(control, port);
	}
	return 0;
}

void control_core_read_ports(struct control *control)
{
	if (control->core != NULL && sweep_ports(control) < 0)
		control->core_failed = true;
}

int control_core_sweep(struct control *control)
{
	int error;

	if (control->core == NULL)
		return -ENOTCONN;
	error = sweep_ports(control);
	if (error == 0) {
		forwarding_sweep_begin(&control->fwd, clock_now_ns());
		error = datapath_client_flow_dump(control->core, sweep_flow, control);
	}
	if (error == 0)
		forwarding_sweep_end(&control->fwd, clock_now_ns());
	else
		control->core_failed = true;
	return error;
}

static void sweep_expired(struct loop_timer *timer)
{
	struct control *control = container_of(timer, struct control, sweep_timer);

	if (control_core_sweep(control) == 0)
		loop_timer_start(&control->loop, timer, clock_now_ns() + forwarding_sweep_period_ns(&control->fwd));
	control_core_check(control);
}

/* the connection */

static int core_connect(struct control *control)
{
	char path[PATH_MAX];
	struct control_port *port;
	int error;

	if (snprintf(path, sizeof(path), "%s/%s", control->dir, DP_SOCKET_NAME) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	error = datapath_client_open(&control->core, path, &control->hello);
	if (error < 0)
		return error;
	control->core_failed = false;
	control->core_lost_events = 0;
	control->fwd.flows_max = control->hello.flows_max;
	TAILQ_FOREACH(port, &control->ports, next)
		port->present = false;
	error = core_adopt(control);
	if (error == 0) {
		control->core_io.fd = datapath_client_fd(control->core);
		error = loop_add(&control->loop, &control->core_io, EPOLLIN);
	}
	if (error < 0)
		control_core_close(control);
	return error;
}

static void core_try_connect(struct control *control)
{
	uint64_t now = clock_now_ns();
	int error = core_connect(control);

	if (error < 0) {
		/* Not for the moment that it takes to start. */
		if (++control->core_tries == CORE_TRIES_REPORTED)
			log_warn("no data plane at %s/%s: %s; trying again", control->dir, DP_SOCKET_NAME,
				 strerror(-error));
		loop_timer_start(&control->loop, &control->core_timer, now + CORE_RETRY_NS);
		return;
	}
	control->core_tries = 0;
	log_info("connected to the data plane, process %u, %u workers", control->hello.pid, control->hello.workers);
	loop_timer_start(&control->loop, &control->sweep_timer, now + forwarding_sweep_period_ns(&control->fwd));
	control_ports_watch(control);
	control_drivers_changed(control);
	/* What came in while the state was read. */
	handle_events(control);
	control_core_check(control);
}

static void core_ready(struct loop_io *io, uint32_t events)
{
	struct control *control = container_of(io, struct control, core_io);

	(void)events;
	handle_events(control);
	control_core_check(control);
}

static void core_expired(struct loop_timer *timer)
{
	struct control *control = container_of(timer, struct control, core_timer);

	if (control->core == NULL) {
		core_try_connect(control);
		return;
	}
	handle_events(control);
	control_core_check(control);
}

void control_core_init(struct control *control)
{
	control->core_io.fd = -1;
	control->core_io.ready = core_ready;
	control->core_timer.expired = core_expired;
	control->sweep_timer.expired = sweep_expired;
	control->port_timer.expired = control_ports_expired;
}

void control_core_start(struct control *control)
{
	loop_timer_start(&control->loop, &control->core_timer, clock_now_ns());
}

void control_core_close(struct control *control)
{
	struct control_port *port;

	if (control->core == NULL)
		return;
	loop_timer_stop(&control->core_timer);
	loop_timer_stop(&control->sweep_timer);
	loop_timer_stop(&control->port_timer);
	loop_remove(&control->loop, &control->core_io);
	control->core_io.fd = -1;
	datapath_client_close(control->core);
	control->core = NULL;
	control->core_failed = false;
	forwarding_reset(&control->fwd);
	TAILQ_FOREACH(port, &control->ports, next) {
		port->awaited = port->present && port->info.state == DP_PORT_UP;
		port->forget_at_ns = 0;
		port->present = false;
		port->info.state = DP_PORT_DOWN;
	}
}

void control_core_check(struct control *control)
{
	if (control->core == NULL)
		return;
	if (control->core_failed) {
		log_warn("the connection to the data plane is lost");
		control_core_close(control);
		/* Whoever starts it anew needs a moment. */
		loop_timer_start(&control->loop, &control->core_timer, clock_now_ns() + NS_PER_MS);
		return;
	}
	if (datapath_client_lost(control->core) != control->core_lost_events) {
		control->core_lost_events = datapath_client_lost(control->core);
		loop_timer_start(&control->loop, &control->sweep_timer, clock_now_ns());
	}
	/* A request that was just made may have read events. */
	if (!loop_timer_running(&control->core_timer) && datapath_client_waiting(control->core))
		loop_timer_start(&control->loop, &control->core_timer, clock_now_ns());
}
