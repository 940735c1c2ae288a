/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One port between what was asked for and the data plane: its socket, its place in the data plane
 * and among its bridge's members, and what the data plane says of it.
 *
 * In server mode the listening socket is opened here, as the data plane opens nothing, and kept for
 * a data plane that starts anew: front ends that come meanwhile wait in its backlog. In client mode
 * whoever listens is tried until the data plane says that the port has a connection.
 */
#include "control/control.h"
#include "lib/clock.h"
#include "lib/fdpass.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PORT_RETRY_NS       (200 * NS_PER_MS)
#define PORT_NEVER_NS       UINT64_MAX
#define CONNECT_WAIT_MIN_NS (200 * NS_PER_MS)
#define CONNECT_WAIT_MAX_NS NS_PER_S
#define PORT_SOCKET_MODE    0660
#define PORT_SOCKET_BACKLOG 16
#define SILENT_AFTER_NS     (2 * NS_PER_S)  /* not up for so long: floods leave it out */
#define DRIVER_AWAY_NS      (10 * NS_PER_S) /* then what was learned at its port is forgotten */

void control_port_join(struct control *control, struct control_port *port, uint64_t now_ns)
{
	forwarding_join(&control->fwd, control_bridge_find(control, port->settings.wire.owner), &port->member,
			port->info.port, port->settings.mac_limit, now_ns);
	port->silent_at_ns = port->info.state == DP_PORT_UP ? 0 : now_ns + SILENT_AFTER_NS;
}

static int port_listen(struct control_port *port)
{
	if (port->settings.wire.mode != DP_PORT_SERVER || port->listener >= 0)
		return 0;
	port->listener = fdpass_listen(port->settings.wire.path, SOCK_STREAM, PORT_SOCKET_BACKLOG, PORT_SOCKET_MODE);
	return port->listener < 0 ? port->listener : 0;
}

int control_port_attach(struct control *control, struct control_port *port)
{
	struct dp_port_add wire = port->settings.wire;
	uint32_t index;
	int error;

	if (control->core == NULL)
		return -ENOTCONN;
	error = control_driver_socket_dir(control, port);
	if (error == 0)
		error = port_listen(port);
	if (error < 0)
		return error;
	if (port->awaited)
		wire.flags |= DP_PORT_AWAITED;
	error = datapath_client_port_add(control->core, &wire, port->listener, &index);
	control->core_failed |= error == -ENOTCONN;
	if (error < 0)
		return error;
	port->present = true;
	port->awaited = false;
	memset(&port->info, 0, sizeof(port->info));
	port->info.port = index;
	port->info.config = port->settings.wire;
	port->connect_at_ns = 0;
	port->connect_wait_ns = CONNECT_WAIT_MIN_NS;
	control_port_join(control, port, clock_now_ns());
	return 0;
}

void control_port_detach(struct control *control, struct control_port *port)
{
	bool has_socket = port->listener >= 0 || port->present;

	if (port->present) {
		forwarding_leave(&control->fwd, &port->member, clock_now_ns());
		if (control->core != NULL && datapath_client_port_del(control->core, port->info.port) == -ENOTCONN)
			control->core_failed = true;
		port->present = false;
	}
	if (port->settings.wire.mode == DP_PORT_SERVER && has_socket)
		unlink(port->settings.wire.path);
}

/* A port in client mode that nobody serves: tries to connect, now and then. */
static void port_connect(struct control *control, struct control_port *port, uint64_t now_ns)
{
	int sock, error;

	if (now_ns < port->connect_at_ns)
		return;
	port->connect_at_ns = now_ns + port->connect_wait_ns;
	port->connect_wait_ns = min(port->connect_wait_ns * 2, (uint64_t)CONNECT_WAIT_MAX_NS);
	sock = fdpass_connect(port->settings.wire.path, SOCK_STREAM);
	if (sock < 0)
		return;
	error = datapath_client_port_connect(control->core, port->info.port, sock);
	close(sock);
	if (error == 0)
		port->connect_wait_ns = CONNECT_WAIT_MIN_NS;
	else if (error == -ENOTCONN)
		control->core_failed = true;
	else
		log_limited(&port->log_limit, LOG_WARN, "port %s: connected, but not taken: %s",
			    port->settings.wire.name, strerror(-error));
}

/* Returns when the port wants to be looked after again. */
static uint64_t port_look_after(struct control *control, struct control_port *port, uint64_t now_ns)
{
	uint64_t next_ns = PORT_NEVER_NS;
	int error;

	if (!port->present) {
		error = control_port_attach(control, port);
		if (error < 0 && !port->reported) {
			log_error("port %s: %s: %s", port->settings.wire.name, port->settings.wire.path,
				  strerror(-error));
			port->reported = true;
		}
		if (error < 0 && !control->tolerant && error != -ENOTCONN) {
			control->exit_status = 1;
			loop_stop(&control->loop);
		}
		if (error < 0)
			return now_ns + PORT_RETRY_NS;
		port->reported = false;
		if (driver_is_supervised(&port->settings.driver))
			control_drivers_changed(control);
	}
	if (port->forget_at_ns != 0 && now_ns >= port->forget_at_ns) {
		port->forget_at_ns = 0;
		forwarding_port_down(&control->fwd, &port->member, now_ns);
	}
	if (port->forget_at_ns != 0)
		next_ns = port->forget_at_ns;
	if (port->silent_at_ns != 0 && now_ns >= port->silent_at_ns) {
		port->silent_at_ns = 0;
		forwarding_port_silent(&control->fwd, &port->member, port->info.state != DP_PORT_UP, now_ns);
	}
	if (port->silent_at_ns != 0)
		next_ns = min(next_ns, port->silent_at_ns);
	/* When its connection is lost we are told. */
	if (port->settings.wire.mode != DP_PORT_CLIENT || port->info.state != DP_PORT_DOWN)
		return next_ns;
	port_connect(control, port, now_ns);
	return min(next_ns, port->connect_at_ns);
}

static void control_tell_ready(struct control *control)
{
	const struct control_port *port;

	if (control->core == NULL || control->core_failed)
		return;
	TAILQ_FOREACH(port, &control->ports, next) {
		if (!port->present)
			return;
	}
	control->tolerant = true;
	if (control->ready_fd < 0)
		return;
	if (write(control->ready_fd, "\n", 1) != 1)
		log_warn("nobody waits for us to be ready");
	close(control->ready_fd);
	control->ready_fd = -1;
}

void control_ports_expired(struct loop_timer *timer)
{
	struct control *control = container_of(timer, struct control, port_timer);
	uint64_t now = clock_now_ns();
	struct control_port *port;
	uint64_t next = PORT_NEVER_NS;

	if (control->core == NULL)
		return;
	TAILQ_FOREACH(port, &control->ports, next) {
		if (!control->core_failed)
			next = min(next, port_look_after(control, port, now));
	}
	control_tell_ready(control);
	if (next != PORT_NEVER_NS)
		loop_timer_start(&control->loop, timer, next);
	control_core_check(control);
}

void control_ports_watch(struct control *control)
{
	loop_timer_start(&control->loop, &control->port_timer, clock_now_ns());
}

static const char *port_state_text(uint32_t state)
{
	static const char *const texts[] = {"nobody connected", "connected", "up", "quarantined"};

	return state < ARRAY_SIZE(texts) ? texts[state] : "in an unknown state";
}

struct control_port *control_port_noted(struct control *control, const struct dp_port_info *info)
{
	struct control_port *port = control_port_at(control, info->port);
	uint32_t before;

	if (port == NULL || strcmp(port->settings.wire.name, info->config.name) != 0)
		return NULL;
	before = port->info.state;
	port->info = *info;
	if (before == info->state)
		return port;
	port->went_down |= info->state == DP_PORT_DOWN;
	if (info->state != DP_PORT_DOWN)
		port->forget_at_ns = 0;
	if (info->state == DP_PORT_DOWN && port->settings.wire.mode == DP_PORT_CLIENT)
		control_ports_watch(control);
	log_limited(&port->log_limit, LOG_INFO, "port %s: %s%s%s", port->settings.wire.name,
		    port_state_text(info->state), info->state == DP_PORT_QUARANTINED ? ": " : "",
		    info->state == DP_PORT_QUARANTINED ? info->fault : "");
	return port;
}

/*
 * A port that is not up for a while is left out of floods. It is let in again at once: so one that goes up and down
 * costs the data plane new flows twice in that while at most.
 */
static void follow_silence(struct control *control, struct control_port *port, uint64_t now_ns)
{
	if (port->info.state == DP_PORT_UP) {
		port->silent_at_ns = 0;
		forwarding_port_silent(&control->fwd, &port->member, false, now_ns);
	} else if (!port->member.silent && port->silent_at_ns == 0) {
		port->silent_at_ns = now_ns + SILENT_AFTER_NS;
		control_ports_watch(control);
	}
}

void control_port_follow(struct control *control, struct control_port *port)
{
	if (port->present)
		follow_silence(control, port, clock_now_ns());
	if (!port->went_down)
		return;
	port->went_down = false;
	if (!port->present)
		return;
	/* A driver comes back in a moment, and what is behind its device has not gone anywhere. */
	if (port->settings.driver.kind == PORT_DRIVER_NONE) {
		forwarding_port_down(&control->fwd, &port->member, clock_now_ns());
	} else if (port->info.state == DP_PORT_DOWN) {
		port->forget_at_ns = clock_now_ns() + DRIVER_AWAY_NS;
		control_ports_watch(control);
	}
}

void control_port_changed(struct control *control, const struct dp_port_info *info)
{
	struct control_port *port = control_port_noted(control, info);

	if (port != NULL)
		control_port_follow(control, port);
}
