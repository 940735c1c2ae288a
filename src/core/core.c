/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The main thread's loop. Workers reach it through one eventfd: they have upcalls, or found a port at fault. What
 * flows and tables it replaced is freed at the end of a round, after a grace period.
 */
#include "core/core.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/channel.h"
#include "core/core_port.h"
#include "engine/vm_state.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "vhost/guest_memory.h"

/* Messages of upcalls sent in one go, before other descriptors have their turn. */
#define UPCALL_MESSAGES_A_ROUND 4

void core_wake(struct core *core)
{
	const uint64_t one = 1;

	/* A full counter means that it has been woken already. */
	if (write(core->dp.event_fd, &one, sizeof(one)) < 0)
		return;
}

static void fetch_upcalls(struct core *core)
{
	struct upcall upcall;

	while (core->upcall_count < DP_UPCALLS_MAX && worker_pool_upcall(core->pool, &upcall)) {
		core->upcalls[core->upcall_count++] = (struct dp_upcall){.key = upcall.key, .length = upcall.length};
	}
}

/*
 * What the controller does not read in time waits in the workers' rings, where each queue has a bounded part of it,
 * and so does not keep others' upcalls out of the socket.
 */
static void send_upcalls(struct core *core)
{
	for (unsigned int i = 0; i < UPCALL_MESSAGES_A_ROUND; i++) {
		fetch_upcalls(core);
		if (!core->upcall_count)
			return;
		if (channel_upcalls(core->channel, core->upcalls, core->upcall_count) == -EAGAIN)
			return;
		core->upcall_count = 0;
	}
	/* Perhaps there are more: come back. */
	core_wake(core);
}

static void on_event(struct loop_io *io, uint32_t events)
{
	struct core *core = container_of(io, struct core, event_io);
	uint64_t value;

	(void)events;
	if (read(io->fd, &value, sizeof(value)) < 0)
		return;
	core_port_check_faults(core);
	core_port_tell(core);
	send_upcalls(core);
}

int core_open(struct core *core, const struct core_config *config)
{
	uint32_t threads = config->workers + 1;
	int error;

	memset(core, 0, sizeof(*core));
	core->config = *config;
	core->dp.event_fd = -1;
	core->event_io = (struct loop_io){.fd = -1, .ready = on_event};
	/* Calls go to pipes and sockets as well, whose other end may be closed. */
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	error = loop_init(&core->loop);
	if (error)
		return error;
	error = guest_memory_init();
	if (error)
		return error;
	if (getrandom(&core->instance, sizeof(core->instance), 0) != sizeof(core->instance))
		core->instance = clock_now_ns();
	if (config->observer_fd >= 0) {
		error = vm_state_open(&core->loop, config->observer_fd);
		if (error) {
			log_error("descriptor %d is no socket to an observer: %s", config->observer_fd,
				  strerror(-error));
			return error;
		}
	}
	core->dp.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (core->dp.event_fd < 0)
		return -errno;
	core->event_io.fd = core->dp.event_fd;
	core->dp.flows = flow_table_create(threads, config->flows_max);
	if (!core->dp.flows)
		return -ENOMEM;
	/* The socket first: who finds it taken must not replace the statistics of its owner. */
	error = channel_open(&core->channel, core, getuid());
	if (error) {
		log_error("%s/%s: %s", config->dir, DP_SOCKET_NAME,
			  error == -EADDRINUSE ? "another core runs in this directory" : strerror(-error));
		return error;
	}
	error = statistics_create(&core->stats, config->dir, threads, core->instance);
	if (error)
		log_error("%s/%s: %s", config->dir, STATS_FILE_NAME, strerror(-error));
	return error;
}

int core_start(struct core *core)
{
	struct worker_pool_config pool = {
		.dp = &core->dp,
		.workers = core->config.workers,
		.ports = core->stats.ports,
		.stats = core->stats.workers,
		.linger_ns = core->config.linger_ns,
		.state_batching = core->config.state_batching,
		.preemptive_copy = core->config.preemptive_copy,
		.offload = core->config.offload,
		.pinned = core->config.pinned,
		.class = core->config.class,
	};
	uint32_t own = core->config.workers;
	int error;

	core->forwarder = forwarder_create(&core->dp, own, core->stats.ports + own * FLOW_PORTS_MAX,
					   core->stats.workers + own);
	if (!core->forwarder)
		return -ENOMEM;
	pool.caller = core->forwarder;
	error = worker_pool_start(&core->pool, &pool);
	if (error) {
		log_error("the workers cannot be started: %s", strerror(-error));
		return error;
	}
	return loop_add(&core->loop, &core->event_io, EPOLLIN);
}

int core_run(struct core *core)
{
	while (!core->loop.stopped) {
		int error = loop_run_once(&core->loop, -1);

		if (error)
			return error;
		statistics_vm_states(&core->stats, vm_state_available());
		if (core->flows_added) {
			core->flows_added = false;
			worker_pool_wake(core->pool);
		}
		flow_table_reclaim(core->dp.flows);
	}
	return 0;
}

void core_close(struct core *core)
{
	for (uint32_t i = 0; i < FLOW_PORTS_MAX; i++)
		core_port_del(core, i);
	channel_close(core->channel);
	if (core->pool)
		worker_pool_stop(core->pool);
	forwarder_destroy(core->forwarder);
	flow_table_destroy(core->dp.flows);
	statistics_close(&core->stats);
	vm_state_close();
	loop_cleanup(&core->loop);
	if (core->dp.event_fd >= 0)
		close(core->dp.event_fd);
}
