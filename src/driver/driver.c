/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Crash-only: every trouble with the device or the port ends the process with a status that says which, and whoever
 * started it does so again. Nothing is opened or connected a second time, so nothing that could do so has to be kept.
 *
 * The port hears of the device in three ways: carrier, by the rings' being enabled; MTU, by a message; all of it, and
 * that we live, by the heartbeat. A heartbeat is sent only if every pump has answered since the last one, and the core
 * has answered that: a driver that hangs falls silent.
 *
 * @syscalls driver: read
 */
#include "driver/driver.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"

#define BEAT_NS      NS_PER_S
#define FROM_SIZE    2048
#define TO_SIZE      2048
#define RING_DEFAULT 256
#define MTU_MIN      68

/* What every kind can have, because it is the pump's. */
#define FEATURES \
	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ))

/* What coalesced frames take, whatever the device can do by itself. */
#define COALESCED                                                                                                  \
	(VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | \
	 VIRTIO_BIT(VIRTIO_NET_F_HOST_USO))

static void end(struct driver *driver, int status)
{
	if (driver->status == EXIT_SUCCESS)
		driver->status = status;
	loop_stop(&driver->loop);
}

static int no_device(int error)
{
	return error == -ENOMEM || error == -EMFILE ? EXIT_FAILURE : DRIVER_EXIT_NO_DEVICE;
}

/* Link and MTU. */

static void enable_rings(struct driver *driver, bool enable)
{
	int err = 0;

	if (enable == driver->rings_enabled || !driver->nf)
		return;
	for (unsigned int i = 0; !err && i < 2 * driver->nf->pairs; i++)
		err = vhost_frontend_set_vring_enable(&driver->nf->fe, driver->nf->queues[i].index, enable);
	if (err) {
		log_error("port %s: %s while its rings were %s", driver->config.port, strerror(-err),
			  enable ? "enabled" : "disabled");
		end(driver, DRIVER_EXIT_NO_PORT);
		return;
	}
	driver->rings_enabled = enable;
	/* What was published meanwhile. */
	for (unsigned int pair = 0; enable && pair < driver->nf->pairs; pair++)
		netfront_kick(netfront_tx(driver->nf, pair));
}

static void tell_mtu(struct driver *driver)
{
	struct vhost_frontend *fe = &driver->nf->fe;
	uint32_t mtu = driver->dev.facts.mtu;

	if (mtu < MTU_MIN || mtu > UINT16_MAX || !vhost_frontend_has(fe, VHOST_USER_PROTOCOL_F_MTU))
		return;
	if (vhost_frontend_set_mtu(fe, (uint16_t)mtu))
		log_debug("port %s was not told of the MTU", driver->config.port);
}

static void send_status(struct driver *driver)
{
	int err = heartbeat_send(&driver->dev, driver->nf);

	driver->changed = err == -EBUSY;
	if (err && err != -EBUSY && err != -ENOTSUP) {
		log_error("port %s: control queue: %s", driver->config.port, strerror(-err));
		end(driver, EXIT_FAILURE);
	}
}

/* dev.facts are new: link was `link`, the MTU `mtu`. */
static void facts_changed(struct driver *driver, bool link, uint32_t mtu)
{
	const struct driver_facts *facts = &driver->dev.facts;
	/* Whoever has the device, a container's root perhaps, can change both as often as he likes. */
	static struct log_limit link_limit, mtu_limit;

	if (facts->link == link && facts->mtu == mtu)
		return;
	if (facts->link != link)
		log_limited(&link_limit, LOG_INFO, "%s: link is %s", driver->config.device,
			    facts->link ? "up" : "down");
	if (facts->mtu != mtu) {
		log_limited(&mtu_limit, LOG_INFO, "%s: MTU is %u", driver->config.device, facts->mtu);
		tell_mtu(driver);
	}
	enable_rings(driver, facts->link);
	send_status(driver);
}

/* Lets a kind that has events bring dev->facts up to date. False: the driver ends. */
static bool ask_kind(struct driver *driver)
{
	int err = driver->dev.kind->events(&driver->dev);

	if (!err)
		return true;
	if (err == -ENODEV)
		log_error("%s is no longer there", driver->config.device);
	end(driver, DRIVER_EXIT_NO_DEVICE);
	return false;
}

static void kind_events(struct driver *driver)
{
	const struct driver_facts *facts = &driver->dev.facts;
	bool link = facts->link;
	uint32_t mtu = facts->mtu;

	if (ask_kind(driver))
		facts_changed(driver, link, mtu);
}

static void netif_changed(struct netif_watch *watch, const struct netif *netif)
{
	struct driver *driver = container_of(watch, struct driver, watch);
	struct driver_facts *facts = &driver->dev.facts;
	bool link = facts->link;
	uint32_t mtu = facts->mtu;

	if (!netif) {
		log_error("%s is no longer there", driver->config.device);
		end(driver, DRIVER_EXIT_NO_DEVICE);
		return;
	}
	facts->link = netif->up && netif->carrier;
	facts->mtu = netif->mtu;
	if (!driver->dev.kind->events || ask_kind(driver))
		facts_changed(driver, link, mtu);
}

static void events_ready(struct loop_io *io, uint32_t events)
{
	(void)events;
	kind_events(container_of(io, struct driver, events_io));
}

/* The port. */

static void port_ready(struct loop_io *io, uint32_t events)
{
	struct driver *driver = container_of(io, struct driver, port_io);

	(void)events;
	/* It has nothing to say unasked; whatever this is, it is not the protocol any more. */
	log_info("port %s has hung up", driver->config.port);
	end(driver, DRIVER_EXIT_NO_PORT);
}

static void control_answer(struct driver *driver)
{
	int err = driver->nf->commanding ? netfront_control_end(driver->nf) : -EAGAIN;

	if (err == -EAGAIN)
		return;
	err = heartbeat_answered(&driver->beat, err);
	if (err) {
		log_error("port %s: control queue: %s", driver->config.port, strerror(-err));
		end(driver, EXIT_FAILURE);
	} else if (driver->changed) {
		send_status(driver);
	}
}

static void control_ready(struct loop_io *io, uint32_t events)
{
	struct driver *driver = container_of(io, struct driver, control_io);
	uint64_t count;

	(void)events;
	if (read(io->fd, &count, sizeof(count)) < 0)
		return;
	control_answer(driver);
}

static void tick_expired(struct loop_timer *tick)
{
	struct driver *driver = container_of(tick, struct driver, tick);
	bool alive = true;

	loop_timer_start(&driver->loop, tick, clock_now_ns() + BEAT_NS);
	control_answer(driver);
	if (driver->dev.kind->events && driver->events_io.fd < 0)
		kind_events(driver);
	for (unsigned int i = 0; i < driver->pumps_ready; i++)
		alive &= pump_answered(&driver->pumps[i]);
	if (!alive)
		return;
	send_status(driver);
	for (unsigned int i = 0; i < driver->pumps_ready; i++)
		pump_ask(&driver->pumps[i]);
}

static void report_ready(struct loop_io *io, uint32_t events)
{
	struct driver *driver = container_of(io, struct driver, report_io);

	(void)events;
	for (unsigned int i = 0; i < driver->pumps_ready; i++) {
		const struct pump *pump = &driver->pumps[i];

		if (!load_acquire(&pump->ended))
			continue;
		if (pump->result == -ENODEV)
			log_error("%s is no longer there", driver->config.device);
		else
			log_error("port %s: queue pair %u: %s", driver->config.port, i, strerror(-pump->result));
		end(driver, pump->result == -ENODEV ? DRIVER_EXIT_NO_DEVICE : EXIT_FAILURE);
		return;
	}
}

/* Stages. */

/*
 * Who sends to us on our CPU shall go on, and we find a batch when our turn comes, instead of taking the CPU from it
 * for every few frames. An idle CPU runs us at once.
 */
static void be_patient(void)
{
	const struct sched_param none = {0};

	if (sched_setscheduler(0, SCHED_BATCH, &none) < 0)
		log_debug("the scheduler's batch class: %s", strerror(errno));
}

static int open_loop(struct driver *driver)
{
	int err = loop_init(&driver->loop);

	driver->report_io = (struct loop_io){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = report_ready};
	if (!err && driver->report_io.fd < 0)
		err = -errno;
	if (!err)
		err = loop_add(&driver->loop, &driver->report_io, EPOLLIN);
	if (!err)
		err = program_end_by_signals(&driver->end, &driver->loop);
	return err;
}

/* The front end with memory for the device's frames, not connected yet. */
static int create_front(struct driver *driver)
{
	const struct driver_facts *facts = &driver->dev.facts;
	const struct netfront_config config = {
		.path = driver->config.port,
		.features = FEATURES | facts->features | (driver->dev.coalesces ? COALESCED : 0),
		.required = VIRTIO_BIT(VIRTIO_F_VERSION_1),
		.pairs = driver->dev.queue_count,
		.rx_size = facts->ring_size ? facts->ring_size : RING_DEFAULT,
		.tx_size = facts->ring_size ? facts->ring_size : RING_DEFAULT,
		.rx_buffer = facts->to_size ? facts->to_size : TO_SIZE,
		.tx_buffer = facts->from_size ? facts->from_size : FROM_SIZE,
		.align = facts->alignment,
	};

	return netfront_create(&driver->nf, &config);
}

/* Connects, and shares memory; the rings stand still yet. */
static int connect_front(struct driver *driver)
{
	int err = netfront_connect(driver->nf);

	if (!err)
		err = netfront_negotiate(driver->nf);
	if (!err)
		err = netfront_share_memory(driver->nf);
	if (err)
		log_error("port %s: %s: %s%s", driver->config.port, driver->nf->step, strerror(-err),
			  err == -ENOENT || err == -ECONNREFUSED ? "; is the switch running, and has that port?" : "");
	return err;
}

static int bind_device(struct driver *driver)
{
	struct driver_device *dev = &driver->dev;
	const struct netfront *nf = driver->nf;
	int err;

	dev->pool = pump_pool(nf);
	if (nf->pairs < dev->queue_count)
		log_warn("port %s has %u queue pairs, %s %u: the rest is not used", driver->config.port, nf->pairs,
			 driver->config.device, dev->queue_count);
	dev->queue_count = min(dev->queue_count, nf->pairs);
	err = dev->kind->bind(dev);
	if (err)
		log_error("%s: %s while the port's memory was bound to it", driver->config.device, strerror(-err));
	return err;
}

static int init_pumps(struct driver *driver)
{
	int err = 0;

	driver->pumps = calloc(driver->dev.queue_count, sizeof(*driver->pumps));
	if (!driver->pumps)
		return -ENOMEM;
	while (!err && driver->pumps_ready < driver->dev.queue_count) {
		unsigned int i = driver->pumps_ready;

		err = pump_init(&driver->pumps[i], &driver->dev.queues[i], driver->nf, i, driver->report_io.fd);
		driver->pumps_ready += !err;
		if (!err)
			pump_prime(&driver->pumps[i]);
	}
	return err;
}

static int watch_all(struct driver *driver)
{
	struct driver_device *dev = &driver->dev;
	int err = 0;

	driver->watch.changed = netif_changed;
	driver->port_io = (struct loop_io){.fd = driver->nf->fe.sock, .ready = port_ready};
	driver->events_io = (struct loop_io){.fd = -1, .ready = events_ready};
	if (dev->facts.ifindex)
		err = netif_watch_open(&driver->watch, dev->facts.ifindex, &driver->loop);
	if (!err && dev->kind->events_fd) {
		driver->events_io.fd = dev->kind->events_fd(dev);
		if (driver->events_io.fd >= 0)
			err = loop_add(&driver->loop, &driver->events_io, EPOLLIN);
	}
	if (!err)
		err = loop_add(&driver->loop, &driver->port_io, EPOLLIN | EPOLLRDHUP);
	if (!err && driver->nf->control) {
		driver->control_io = (struct loop_io){.fd = driver->nf->control->call_fd, .ready = control_ready};
		err = loop_add(&driver->loop, &driver->control_io, EPOLLIN);
	}
	return err;
}

int driver_open(struct driver *driver)
{
	struct driver_device *dev = &driver->dev;
	int err = open_loop(driver);

	be_patient();
	driver->watch.io.fd = -1;
	heartbeat_open(&driver->beat);
	if (err)
		goto failed;
	if (driver->config.netns && netif_enter_namespace(driver->config.netns))
		return DRIVER_EXIT_NO_DEVICE;
	err = driver_device_init(dev, driver->kind, &driver->config);
	if (err)
		goto failed;
	err = dev->kind->open(dev);
	if (err)
		return no_device(err);
	err = create_front(driver);
	if (err)
		goto failed;
	if (connect_front(driver))
		return DRIVER_EXIT_NO_PORT;
	err = bind_device(driver);
	if (err)
		return no_device(err);
	err = init_pumps(driver);
	if (err)
		goto failed;
	if (netfront_start(driver->nf)) {
		log_error("port %s: its rings could not be started", driver->config.port);
		return DRIVER_EXIT_NO_PORT;
	}
	driver->rings_enabled = true;
	tell_mtu(driver);
	if (dev->kind->link)
		err = dev->kind->link(dev, true);
	if (err)
		return no_device(err);
	err = watch_all(driver);
	if (err)
		goto failed;
	return EXIT_SUCCESS;

failed:
	log_error("cannot start: %s", strerror(-err));
	return EXIT_FAILURE;
}

int driver_start(struct driver *driver)
{
	int err = 0;

	for (unsigned int i = 0; !err && i < driver->pumps_ready; i++)
		err = pump_start(&driver->pumps[i]);
	if (err)
		log_error("cannot start a thread: %s", strerror(-err));
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* For the log that an operator reads next morning. */
static void report_losses(const struct driver *driver)
{
	struct driver_status status;

	heartbeat_fill(&driver->dev, &status);
	log_info("%s: %llu frames from it, %llu to it", driver->config.device, (unsigned long long)status.rx_packets,
		 (unsigned long long)status.tx_packets);
	for (unsigned int i = 0; i < DRIVER_DROP_COUNT; i++) {
		if (status.drops[i])
			log_info("%s: %llu frames lost: %s", driver->config.device, (unsigned long long)status.drops[i],
				 driver_drop_name(i));
	}
}

int driver_run(struct driver *driver)
{
	const struct driver_facts *facts = &driver->dev.facts;
	int err;

	log_info("%s %s%s%s%s: %u queue pairs, MTU %u, link %s", driver->kind->name, driver->config.device,
		 facts->mode[0] ? " (" : "", facts->mode, facts->mode[0] ? ")" : "", driver->dev.queue_count,
		 facts->mtu, facts->link ? "up" : "down");
	enable_rings(driver, facts->link);
	driver->tick.expired = tick_expired;
	loop_timer_start(&driver->loop, &driver->tick, clock_now_ns());
	err = loop_run(&driver->loop);
	for (unsigned int i = 0; i < driver->pumps_ready; i++)
		pump_stop(&driver->pumps[i]);
	report_losses(driver);
	return err ? EXIT_FAILURE : driver->status;
}

void driver_close(struct driver *driver)
{
	for (unsigned int i = 0; i < driver->pumps_ready; i++) {
		pump_stop(&driver->pumps[i]);
		pump_cleanup(&driver->pumps[i]);
	}
	free(driver->pumps);
	driver_device_close(&driver->dev);
	netfront_close(driver->nf);
	heartbeat_close(&driver->beat);
	if (driver->watch.io.fd >= 0)
		netif_watch_close(&driver->watch, &driver->loop);
	if (driver->report_io.fd > 0)
		close(driver->report_io.fd);
	if (driver->loop.epoll_fd > 0)
		loop_cleanup(&driver->loop);
}

int driver_remove(const struct driver_kind *kind, const struct driver_config *config)
{
	int err;

	if (!kind->remove)
		return EXIT_SUCCESS;
	if (config->netns && netif_enter_namespace(config->netns))
		return DRIVER_EXIT_NO_DEVICE;
	err = kind->remove(config);
	/* What is not there any more needs no removing. */
	return err && err != -ENODEV ? DRIVER_EXIT_NO_DEVICE : EXIT_SUCCESS;
}
