/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver is an entry from when its port appears in the state file until its process has ended and its device is
 * removed. An entry is never changed: a port with other settings is another entry, which waits until the old one is
 * gone, as does one that wants the device of an old one.
 *
 * A driver lives by what the core saw of it last: its connection, or a heartbeat. Both are in the statistics, so
 * looking costs nobody anything, and we look when one could be missing for the first time.
 */
#include "cli/run_drivers.h"

#include "cli/cli.h"
#include "cli/run_links.h"
#include "control/settings.h"
#include "lib/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEARTBEAT_LATE_NS (3 * NS_PER_S)    /* they come once a second */
#define CONNECT_LATE_NS   (10 * NS_PER_S)   /* not connected for so long: it hangs before or behind */
#define SUSPECTED_NS      (1 * NS_PER_S)    /* seen to be silent for so long by us, who may have stood still as well */
#define LOOK_NS           (100 * NS_PER_MS) /* between two looks, at least */
#define PORT_RETRY_MIN_NS (50 * NS_PER_MS)  /* of a port that is not there: it will be in a moment */
#define PORT_RETRY_MAX_NS (500 * NS_PER_MS)
#define END_NS            (2 * NS_PER_S) /* for a driver that is asked to end; then it is killed */
#define REMOVE_NS         (5 * NS_PER_S)

/* lasthop-driver's */
#define EXIT_USAGE     2
#define EXIT_NO_DEVICE 3
#define EXIT_NO_PORT   4

#define ARGUMENTS_MAX (24 + 2 * DRIVER_OPTIONS_MAX)

enum driver_phase {
	PHASE_WANTED,   /* runs, or will */
	PHASE_ENDING,   /* was asked to end */
	PHASE_REMOVING, /* has ended; its device is being removed */
};

struct run_driver {
	TAILQ_ENTRY(run_driver) next;
	struct run_drivers *drivers;
	struct port_settings settings;
	enum driver_phase phase;
	bool listed;  /* in the state file, as of the reading under way */
	bool begun;   /* has been started once */
	bool killed;  /* by us, because it hung */
	bool missing; /* its device is, and that was said */
	struct run_child child;
	struct run_child remover;
	struct run_output output;     /* of both, which are never there at once */
	struct loop_timer late_timer; /* kills what does not end */
	uint64_t connected_ns;        /* when it was last seen connected */
	uint64_t silent_since_ns;     /* when it was last heard of, as of the look at suspected_ns; 0: not suspected */
	uint64_t suspected_ns;
	uint64_t port_wait_ns;
	uint64_t restarts;
	char last_end[96]; /* "": it has not ended yet */
	char queues[16], mtu[16];
	char label[DP_NAME_SIZE + 64];
	char output_name[DP_NAME_SIZE + 8];
};

static struct run_driver *from_child(struct run_child *child)
{
	return container_of(child, struct run_driver, child);
}

/* what we tell */

static const char *state_name(const struct run_driver *driver)
{
	if (driver->phase != PHASE_WANTED)
		return "ending";
	return driver->child.pid > 0 ? "running" : "waiting";
}

static json_t *driver_to_json(const struct run_driver *driver)
{
	json_t *object = json_pack("{s:s, s:s, s:I}", "port", driver->settings.wire.name, "state", state_name(driver),
				   "restarts", (json_int_t)driver->restarts);

	if (driver->child.pid > 0)
		json_object_set_new(object, "pid", json_integer(driver->child.pid));
	if (driver->last_end[0] != '\0')
		json_object_set_new(object, "last_end", json_string(driver->last_end));
	return object;
}

/* Replaced in one step, so that nobody reads a half. */
static void write_report(const struct run_drivers *drivers)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	const struct run_driver *driver;
	json_t *list = json_array(), *report;

	if (snprintf(path, sizeof(path), "%s/" RUN_DRIVERS_FILE, drivers->dir) >= (int)sizeof(path) ||
	    snprintf(temporary, sizeof(temporary), "%s/." RUN_DRIVERS_FILE ".new", drivers->dir) >=
		    (int)sizeof(temporary)) {
		json_decref(list);
		return;
	}
	TAILQ_FOREACH(driver, &drivers->list, next)
		json_array_append_new(list, driver_to_json(driver));
	report = json_pack("{s:o}", "drivers", list);
	if (report == NULL || json_dump_file(report, temporary, JSON_INDENT(2)) < 0 || rename(temporary, path) < 0)
		cli_fail(0, "cannot write %s: %s", path, strerror(errno));
	json_decref(report);
}

/* the life of one */

static void look_soon(struct run_drivers *drivers, uint64_t at_ns)
{
	if (!loop_timer_running(&drivers->heartbeat_timer))
		loop_timer_start(drivers->loop, &drivers->heartbeat_timer, at_ns);
}

static void driver_started(struct run_child *child)
{
	struct run_driver *driver = from_child(child);

	driver->restarts += driver->begun;
	driver->begun = true;
	driver->killed = false;
	driver->connected_ns = 0;
	write_report(driver->drivers);
	look_soon(driver->drivers, child->started_ns + HEARTBEAT_LATE_NS - SUSPECTED_NS);
}

static bool in_conflict(const struct run_driver *driver)
{
	const struct run_driver *other;

	TAILQ_FOREACH(other, &driver->drivers->list, next) {
		if (other == driver || other->phase == PHASE_WANTED)
			continue;
		if (strcmp(other->settings.wire.name, driver->settings.wire.name) == 0 ||
		    driver_settings_same_device(&other->settings.driver, &driver->settings.driver))
			return true;
	}
	return false;
}

static void start_waiting(struct run_drivers *drivers)
{
	struct run_driver *driver;

	TAILQ_FOREACH(driver, &drivers->list, next) {
		if (!drivers->stopping && driver->phase == PHASE_WANTED && !driver->begun && driver->child.pid == 0 &&
		    !loop_timer_running(&driver->child.timer) && !in_conflict(driver))
			run_child_start(&driver->child);
	}
}

static void driver_free(struct run_driver *driver)
{
	struct run_drivers *drivers = driver->drivers;

	loop_timer_stop(&driver->late_timer);
	run_child_stop(&driver->child, 0);
	run_child_stop(&driver->remover, 0);
	run_child_free(&driver->child);
	run_child_free(&driver->remover);
	run_output_close(&driver->output);
	TAILQ_REMOVE(&drivers->list, driver, next);
	free(driver);
}

static void driver_is_gone(struct run_driver *driver)
{
	struct run_drivers *drivers = driver->drivers;

	driver_free(driver);
	start_waiting(drivers);
	write_report(drivers);
}

/* Its process has ended, or never was. */
static void driver_remove(struct run_driver *driver)
{
	const struct run_drivers *drivers = driver->drivers;
	bool keep = drivers->stopping && drivers->keep_devices;

	driver->phase = PHASE_REMOVING;
	loop_timer_stop(&driver->late_timer);
	/* Of the others nothing stays that is ours. */
	if (driver->begun && !keep && driver->settings.driver.kind == PORT_DRIVER_TAP)
		run_child_start(&driver->remover);
	if (driver->remover.pid > 0)
		loop_timer_start(drivers->loop, &driver->late_timer, clock_now_ns() + REMOVE_NS);
	else
		driver_is_gone(driver);
}

static void driver_end(struct run_driver *driver)
{
	driver->phase = PHASE_ENDING;
	run_child_stop(&driver->child, SIGTERM);
	if (driver->child.pid > 0)
		loop_timer_start(driver->drivers->loop, &driver->late_timer, clock_now_ns() + END_NS);
	else
		driver_remove(driver);
}

static void late_expired(struct loop_timer *timer)
{
	struct run_driver *driver = container_of(timer, struct run_driver, late_timer);

	cli_fail(0, "%s does not end: killed", driver->label);
	run_child_stop(driver->phase == PHASE_REMOVING ? &driver->remover : &driver->child, SIGKILL);
}

/* its command line */

static void add_arguments(struct run_driver *driver, struct run_child *child, bool remove)
{
	const struct port_settings *settings = &driver->settings;
	const struct run_drivers *drivers = driver->drivers;

	run_child_argument(child, "--port", settings->wire.path);
	run_child_argument(child, "--kind", port_driver_name(settings->driver.kind));
	run_child_argument(child, "--device", settings->driver.device);
	if (settings->driver.netns[0] != '\0')
		run_child_argument(child, "--netns", settings->driver.netns);
	for (unsigned int i = 0; i < drivers->argument_count; i++)
		run_child_argument(child, drivers->arguments[i], NULL);
	if (remove) {
		run_child_argument(child, "--remove", NULL);
		return;
	}
	run_child_argument(child, "--queues", driver->queues);
	if (settings->wire.mtu != 0)
		run_child_argument(child, "--mtu", driver->mtu);
	for (unsigned int i = 0; i < settings->driver.option_count; i++)
		run_child_argument(child, "--option", settings->driver.options[i]);
}

static void driver_new(struct run_drivers *drivers, const struct port_settings *settings)
{
	struct run_driver *driver = calloc(1, sizeof(*driver));
	int error = -ENOMEM;

	if (driver != NULL) {
		driver->drivers = drivers;
		driver->settings = *settings;
		driver->listed = true;
		driver->late_timer.expired = late_expired;
		snprintf(driver->output_name, sizeof(driver->output_name), "port %s", settings->wire.name);
		run_output_init(&driver->output, drivers->loop, driver->output_name);
		TAILQ_INSERT_TAIL(&drivers->list, driver, next);
		error = run_child_init(&driver->child, drivers->loop, "lasthop-driver", ARGUMENTS_MAX);
		if (error == 0)
			error = run_child_init(&driver->remover, drivers->loop, "lasthop-driver", ARGUMENTS_MAX);
	}
	if (error < 0) {
		if (error != -ENOENT)
			cli_fail(0, "port %s: its driver cannot be started: %s", settings->wire.name, strerror(-error));
		else if (!drivers->program_missing)
			cli_fail(0, "cannot find lasthop-driver beside lasthop or in %s: ports stay without drivers",
				 LASTHOP_LIBEXECDIR);
		drivers->program_missing |= error == -ENOENT;
		if (driver != NULL)
			driver_free(driver);
		return;
	}
	snprintf(driver->queues, sizeof(driver->queues), "%u", settings->wire.pairs);
	snprintf(driver->mtu, sizeof(driver->mtu), "%u", settings->wire.mtu);
	snprintf(driver->label, sizeof(driver->label), "the driver of port %s (%s %.20s)", settings->wire.name,
		 port_driver_name(settings->driver.kind), settings->driver.device);
	driver->child.name = driver->label;
	driver->child.started = driver_started;
	driver->remover.name = driver->label;
	driver->child.output = &driver->output;
	driver->remover.output = &driver->output;
	add_arguments(driver, &driver->child, false);
	add_arguments(driver, &driver->remover, true);
}

/* which there are to be */

static bool same_settings(const struct port_settings *a, const struct port_settings *b)
{
	return strcmp(a->wire.name, b->wire.name) == 0 && strcmp(a->wire.path, b->wire.path) == 0 &&
	       a->wire.pairs == b->wire.pairs && a->wire.mtu == b->wire.mtu &&
	       driver_settings_equal(&a->driver, &b->driver);
}

static void take_port(struct run_drivers *drivers, const json_t *object)
{
	struct port_settings settings;
	struct settings_error error;
	struct run_driver *driver;

	if (port_settings_from_json(&settings, object, &error) < 0 ||
	    port_settings_complete(&settings, drivers->dir, &error) < 0) {
		cli_fail(0, "a port in state.json: %s", error.text);
		return;
	}
	if (!driver_is_supervised(&settings.driver))
		return;
	TAILQ_FOREACH(driver, &drivers->list, next) {
		if (driver->phase == PHASE_WANTED && same_settings(&driver->settings, &settings)) {
			driver->listed = true;
			return;
		}
	}
	driver_new(drivers, &settings);
}

static void reload(struct run_drivers *drivers)
{
	struct run_driver *driver, *next;
	char path[PATH_MAX];
	const json_t *ports;
	json_t *state;

	if (snprintf(path, sizeof(path), "%s/state.json", drivers->dir) >= (int)sizeof(path))
		return;
	state = json_load_file(path, 0, NULL);
	ports = json_object_get(state, "ports");
	if (!json_is_array(ports)) {
		json_decref(state);
		return;
	}
	TAILQ_FOREACH(driver, &drivers->list, next)
		driver->listed = false;
	for (size_t i = 0; i < json_array_size(ports); i++)
		take_port(drivers, json_array_get(ports, i));
	json_decref(state);
	for (driver = TAILQ_FIRST(&drivers->list); driver != NULL; driver = next) {
		next = TAILQ_NEXT(driver, next);
		if (driver->phase == PHASE_WANTED && !driver->listed)
			driver_end(driver);
	}
	start_waiting(drivers);
	write_report(drivers);
}

static void changed(struct loop_io *io, uint32_t events)
{
	struct run_drivers *drivers = container_of(io, struct run_drivers, changed_io);
	char bytes[64];

	(void)events;
	while (read(io->fd, bytes, sizeof(bytes)) > 0)
		;
	if (!drivers->stopping)
		reload(drivers);
}

/* An interface has come, or changed: who waits for it need not wait any longer. */
static void link_came(void *arg, const char *name)
{
	struct run_drivers *drivers = arg;
	struct run_driver *driver;

	TAILQ_FOREACH(driver, &drivers->list, next) {
		if (driver->phase == PHASE_WANTED && driver->missing && driver->child.pid == 0 &&
		    driver->settings.driver.netns[0] == '\0' && strcmp(driver->settings.driver.device, name) == 0)
			run_child_restart_after(&driver->child, 0);
	}
}

static void links_ready(struct loop_io *io, uint32_t events)
{
	(void)events;
	run_links_read(io->fd, link_came, container_of(io, struct run_drivers, links_io));
}

/* heartbeats */

static bool find_status(struct run_drivers *drivers, const char *port, struct stats_driver *status)
{
	int index;

	if (drivers->stats_open && stats_reader_is_stale(&drivers->stats)) {
		stats_reader_close(&drivers->stats);
		drivers->stats_open = false;
	}
	if (!drivers->stats_open)
		drivers->stats_open = stats_reader_open(&drivers->stats, drivers->dir) == 0;
	if (!drivers->stats_open)
		return false;
	index = stats_reader_find(&drivers->stats, port);
	return index >= 0 && stats_reader_driver(&drivers->stats, (uint32_t)index, status) == 0;
}

/* A core that was stopped, by a debugger perhaps, takes nobody's heartbeat. */
static bool is_standing_still(pid_t pid)
{
	char path[64], text[512];
	const char *state;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[max(n, (ssize_t)0)] = '\0';
	state = strrchr(text, ')');
	return state != NULL && state[1] == ' ' && (state[2] == 'T' || state[2] == 't');
}

static void kill_hung(struct run_driver *driver, uint64_t silent_ns, bool connected)
{
	cli_fail(0, "%s %s for %.1f s: killed", driver->label,
		 connected ? "hangs: no heartbeat" : "hangs: not connected to its port",
		 (double)silent_ns / (double)NS_PER_S);
	driver->killed = true;
	run_child_stop(&driver->child, SIGKILL);
}

/*
 * What is to be done with a driver that was last heard of at `sign`: returns when to look again, or 0 if it hangs. All
 * of us may have stood still together (a host that is a VM was paused): who was silent is looked at twice.
 */
static uint64_t suspect(struct run_driver *driver, uint64_t sign, uint64_t limit, uint64_t now)
{
	uint64_t due = sign + limit;

	if (now < due - SUSPECTED_NS)
		return due - SUSPECTED_NS;
	if (driver->silent_since_ns != sign) {
		driver->silent_since_ns = sign;
		driver->suspected_ns = now;
	}
	due = max(due, driver->suspected_ns + SUSPECTED_NS);
	return now < due ? due : 0;
}

/* Returns when to look at it again. */
static uint64_t check_driver(struct run_driver *driver, uint64_t now)
{
	uint64_t limit = CONNECT_LATE_NS, sign, again;
	struct stats_driver status;

	sign = max(driver->child.started_ns, driver->connected_ns);
	/* A connection of before is its predecessor's, which the core has yet to see end. */
	if (find_status(driver->drivers, driver->settings.wire.name, &status) &&
	    status.connected_ns >= driver->child.started_ns) {
		driver->connected_ns = now;
		driver->missing = false;
		limit = HEARTBEAT_LATE_NS;
		sign = max(status.connected_ns, status.seen_ns);
	}
	again = suspect(driver, sign, limit, now);
	if (again != 0)
		return again;
	if (is_standing_still(driver->drivers->core->pid))
		driver->silent_since_ns = 0;
	else
		kill_hung(driver, now - sign, limit == HEARTBEAT_LATE_NS);
	return now + HEARTBEAT_LATE_NS;
}

static void heartbeat_expired(struct loop_timer *timer)
{
	struct run_drivers *drivers = container_of(timer, struct run_drivers, heartbeat_timer);
	uint64_t now = clock_now_ns(), next = UINT64_MAX;
	struct run_driver *driver;

	TAILQ_FOREACH(driver, &drivers->list, next) {
		if (driver->phase == PHASE_WANTED && driver->child.pid > 0 && !driver->killed)
			next = min(next, check_driver(driver, now));
	}
	if (next != UINT64_MAX)
		loop_timer_start(drivers->loop, timer, max(next, now + LOOK_NS));
}

/* ends */

static void say_missing(struct run_driver *driver)
{
	if (driver->missing)
		return;
	driver->missing = true;
	cli_fail(0, "%s cannot have its device; it is tried again until it can", driver->label);
	if (geteuid() != 0)
		cli_fail(0, "this switch does not run as root, which a driver of kind %s usually needs%s",
			 port_driver_name(driver->settings.driver.kind),
			 driver->settings.driver.kind == PORT_DRIVER_TAP
				 ? ", unless the TAP was made for this user (ip tuntap add ... user ...)"
				 : "");
}

static void driver_restart(struct run_driver *driver, int wait_status)
{
	int status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;

	if (status == EXIT_NO_PORT) {
		driver->port_wait_ns = driver->port_wait_ns == 0
					       ? PORT_RETRY_MIN_NS
					       : min(2 * driver->port_wait_ns, (uint64_t)PORT_RETRY_MAX_NS);
		run_child_restart_after(&driver->child, driver->port_wait_ns);
		return;
	}
	driver->port_wait_ns = 0;
	if (status == EXIT_NO_DEVICE)
		say_missing(driver);
	else if (!driver->killed)
		run_child_describe_end(&driver->child, wait_status);
	run_child_restart(&driver->child);
}

static void note_end(struct run_driver *driver, int wait_status)
{
	int status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;

	if (driver->killed)
		snprintf(driver->last_end, sizeof(driver->last_end), "hung, and was killed");
	else if (status == EXIT_USAGE)
		snprintf(driver->last_end, sizeof(driver->last_end), "refused its options");
	else if (status == EXIT_NO_DEVICE)
		snprintf(driver->last_end, sizeof(driver->last_end), "could not have its device");
	else if (status == EXIT_NO_PORT)
		snprintf(driver->last_end, sizeof(driver->last_end), "found its port closed");
	else
		run_child_end_text(wait_status, driver->last_end, sizeof(driver->last_end));
}

static void driver_ended(struct run_driver *driver, int wait_status)
{
	run_child_ended(&driver->child);
	if (driver->phase == PHASE_ENDING) {
		driver_remove(driver);
		return;
	}
	note_end(driver, wait_status);
	driver_restart(driver, wait_status);
	write_report(driver->drivers);
}

static void remover_ended(struct run_driver *driver, int wait_status)
{
	run_child_ended(&driver->remover);
	/* No such device is what was wanted. */
	if (!WIFEXITED(wait_status) ||
	    (WEXITSTATUS(wait_status) != EXIT_SUCCESS && WEXITSTATUS(wait_status) != EXIT_NO_DEVICE))
		cli_fail(0, "%s: its device could not be removed", driver->label);
	driver_is_gone(driver);
}

bool run_drivers_ended(struct run_drivers *drivers, pid_t pid, int wait_status)
{
	struct run_driver *driver;

	TAILQ_FOREACH(driver, &drivers->list, next) {
		if (driver->child.pid == pid) {
			driver_ended(driver, wait_status);
			return true;
		}
		if (driver->remover.pid == pid) {
			remover_ended(driver, wait_status);
			return true;
		}
	}
	return false;
}

/* all of them */

int run_drivers_open(struct run_drivers *drivers, struct loop *loop, const char *dir)
{
	drivers->loop = loop;
	drivers->dir = dir;
	drivers->changed_io.ready = changed;
	drivers->links_io = (struct loop_io){.fd = -1, .ready = links_ready};
	drivers->heartbeat_timer.expired = heartbeat_expired;
	TAILQ_INIT(&drivers->list);
	if (pipe2(drivers->changed_fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		drivers->changed_fds[0] = drivers->changed_fds[1] = -1;
		return -errno;
	}
	drivers->changed_io.fd = drivers->changed_fds[0];
	return 0;
}

void run_drivers_close(struct run_drivers *drivers)
{
	struct run_driver *driver, *next;

	if (drivers->loop == NULL)
		return;
	for (driver = TAILQ_FIRST(&drivers->list); driver != NULL; driver = next) {
		next = TAILQ_NEXT(driver, next);
		driver_free(driver);
	}
	if (drivers->stats_open)
		stats_reader_close(&drivers->stats);
	if (drivers->links_io.fd >= 0)
		close(drivers->links_io.fd);
	for (int i = 0; i < 2 && drivers->changed_fds[i] >= 0; i++)
		close(drivers->changed_fds[i]);
}

void run_drivers_argument(struct run_drivers *drivers, const char *option, const char *value)
{
	const char *words[] = {option, value};

	for (unsigned int i = 0; i < 2 && words[i] != NULL; i++) {
		if (drivers->argument_count < ARRAY_SIZE(drivers->arguments))
			drivers->arguments[drivers->argument_count++] = words[i];
	}
}

int run_drivers_start(struct run_drivers *drivers)
{
	int error = loop_add(drivers->loop, &drivers->changed_io, EPOLLIN);

	/* Without it who waits for an interface waits a little longer. */
	drivers->links_io.fd = run_links_open();
	if (drivers->links_io.fd >= 0 && loop_add(drivers->loop, &drivers->links_io, EPOLLIN) < 0) {
		close(drivers->links_io.fd);
		drivers->links_io.fd = -1;
	}
	return error;
}

void run_drivers_stop(struct run_drivers *drivers)
{
	struct run_driver *driver, *next;

	if (drivers->stopping)
		return;
	drivers->stopping = true;
	loop_timer_stop(&drivers->heartbeat_timer);
	for (driver = TAILQ_FIRST(&drivers->list); driver != NULL; driver = next) {
		next = TAILQ_NEXT(driver, next);
		if (driver->phase == PHASE_WANTED)
			driver_end(driver);
	}
}

void run_drivers_kill(struct run_drivers *drivers)
{
	struct run_driver *driver;

	TAILQ_FOREACH(driver, &drivers->list, next) {
		run_child_stop(&driver->child, SIGKILL);
		run_child_stop(&driver->remover, SIGKILL);
	}
}

bool run_drivers_left(const struct run_drivers *drivers)
{
	return !TAILQ_EMPTY(&drivers->list);
}
