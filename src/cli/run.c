/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `lasthop run`: a whole switch in the foreground. Starts lasthop-core, lasthop-control and lasthop-observer, says
 * when all ports are there, starts again what died, and ends all of them with itself.
 *
 * Until the switch is ready the death of core or control means that it cannot be had as asked for, and ends
 * everything. After that the children are independent of each other: the control plane finds a new
 * data plane by itself, and reads back an old one when it is the new one itself.
 *
 * The observer is a help that may be missing. Both ends of the socket between it and the core are kept here, so that
 * each can be started again on its own: a new core asks for a reset, a new observer says hello, and that an observer is
 * gone is said by us in its place.
 */
#include "cli/cli.h"
#include "cli/run_child.h"
#include "cli/run_drivers.h"
#include "cli/run_files.h"
#include "control/settings.h"
#include "lib/clock.h"
#include "lib/loop.h"
#include "proto/observer_map.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_NS (5 * NS_PER_S) /* then they are killed */

struct supervisor {
	struct loop loop;
	struct loop_signals signals;
	struct loop_io ready_io;
	struct loop_timer stop_timer;
	struct run_child core;
	struct run_child control;
	struct run_child observer;
	struct run_drivers drivers;
	bool wants_observer;
	bool observed;            /* and there is one to start */
	char observer_fds[2][16]; /* the socket's ends, as arguments */
	char drivers_fd[16];
	char dir[PATH_MAX];                                               /* if it was given as a relative path */
	char notify_path[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* "": nobody asked */
	bool ready;
	bool stopping;
	int status;
};

static void supervisor_stop(struct supervisor *supervisor, int status);

static void child_ended(struct supervisor *supervisor, struct run_child *child, int wait_status)
{
	run_child_ended(child);
	if (supervisor->stopping)
		return;
	run_child_describe_end(child, wait_status);
	if (!supervisor->ready) {
		cli_fail(0, "the switch could not be started");
		/* Options that are only passed on are checked by whom they are for. */
		supervisor_stop(supervisor, WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == CLI_USAGE
						    ? CLI_USAGE
						    : CLI_FAILED);
		return;
	}
	run_child_restart(child);
}

/* In the observer's place. If there is no room, the core has not read for long, and the next hello tells it as well. */
static void tell_observer_gone(const struct supervisor *supervisor)
{
	static const struct observer_notice gone = {
		.type = OBSERVER_GONE,
		.version = OBSERVER_VERSION,
		.slots = OBSERVER_SLOTS,
		.cpus = OBSERVER_CPUS,
	};

	if (send(supervisor->observer.keep_fds[0], &gone, sizeof(gone), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		cli_fail(0, "the core cannot be told that its observer is gone: %s", strerror(errno));
}

static void observer_ended(struct supervisor *supervisor, int wait_status)
{
	run_child_ended(&supervisor->observer);
	if (supervisor->stopping)
		return;
	/* It has said why. */
	if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == OBSERVER_EXIT_NOT_PERMITTED)
		return;
	run_child_describe_end(&supervisor->observer, wait_status);
	tell_observer_gone(supervisor);
	run_child_restart(&supervisor->observer);
}

/*
 * Drivers first, so that none finds its port gone. The control plane before the data plane: else it would look for the
 * one that it lost.
 */
static void supervisor_stop_next(struct supervisor *supervisor)
{
	if (run_drivers_left(&supervisor->drivers))
		run_drivers_stop(&supervisor->drivers);
	if (run_drivers_left(&supervisor->drivers))
		return;
	if (supervisor->control.pid != 0)
		run_child_stop(&supervisor->control, SIGTERM);
	else if (supervisor->core.pid != 0)
		run_child_stop(&supervisor->core, SIGTERM);
	else if (supervisor->observer.pid != 0)
		run_child_stop(&supervisor->observer, SIGTERM);
	else
		loop_stop(&supervisor->loop);
}

static void reap_children(struct supervisor *supervisor)
{
	int wait_status;
	pid_t pid;

	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		if (pid == supervisor->core.pid)
			child_ended(supervisor, &supervisor->core, wait_status);
		else if (pid == supervisor->control.pid)
			child_ended(supervisor, &supervisor->control, wait_status);
		else if (pid == supervisor->observer.pid)
			observer_ended(supervisor, wait_status);
		else
			run_drivers_ended(&supervisor->drivers, pid, wait_status);
	}
	if (supervisor->stopping)
		supervisor_stop_next(supervisor);
}

static void stop_expired(struct loop_timer *timer)
{
	struct supervisor *supervisor = container_of(timer, struct supervisor, stop_timer);

	cli_fail(0, "still running %d seconds after they were asked to end: killed", (int)(STOP_NS / NS_PER_S));
	supervisor->status = CLI_FAILED;
	run_drivers_kill(&supervisor->drivers);
	run_child_stop(&supervisor->control, SIGKILL);
	run_child_stop(&supervisor->core, SIGKILL);
	run_child_stop(&supervisor->observer, SIGKILL);
}

static void supervisor_stop(struct supervisor *supervisor, int status)
{
	if (supervisor->stopping)
		return;
	supervisor->stopping = true;
	supervisor->status = status;
	loop_timer_stop(&supervisor->core.timer);
	loop_timer_stop(&supervisor->control.timer);
	loop_timer_stop(&supervisor->observer.timer);
	loop_timer_start(&supervisor->loop, &supervisor->stop_timer, clock_now_ns() + STOP_NS);
	supervisor_stop_next(supervisor);
}

static void signal_caught(struct loop_signals *signals, int signo)
{
	struct supervisor *supervisor = container_of(signals, struct supervisor, signals);

	if (signo == SIGCHLD)
		reap_children(supervisor);
	else
		supervisor_stop(supervisor, CLI_OK);
}

/* systemd's, if it wants to know. Our children's readiness is not ours. */
static void take_notify_socket(struct supervisor *supervisor)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (path != NULL)
		snprintf(supervisor->notify_path, sizeof(supervisor->notify_path), "%s", path);
	unsetenv("NOTIFY_SOCKET");
}

static void notify_ready(const struct supervisor *supervisor)
{
	static const char message[] = "READY=1";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(supervisor->notify_path);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	int sock;

	if (length == 0 || length >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, supervisor->notify_path, length);
	/* An abstract one. */
	if (address.sun_path[0] == '@')
		address.sun_path[0] = '\0';
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0 ||
	    sendto(sock, message, sizeof(message) - 1, MSG_NOSIGNAL, (const struct sockaddr *)&address, size) < 0)
		cli_fail(0, "NOTIFY_SOCKET %s: %s", supervisor->notify_path, strerror(errno));
	if (sock >= 0)
		close(sock);
}

/* The control plane says that all ports are there, or has ended. */
static void ready_came(struct loop_io *io, uint32_t events)
{
	struct supervisor *supervisor = container_of(io, struct supervisor, ready_io);
	char line;

	(void)events;
	if (read(io->fd, &line, 1) == 1) {
		supervisor->ready = true;
		if (puts("lasthop: ready") < 0 || fflush(stdout) != 0)
			cli_fail(0, "nobody can be told that the switch is ready: %s", strerror(errno));
		clearerr(stdout);
		notify_ready(supervisor);
	}
	loop_remove(&supervisor->loop, io);
	close(io->fd);
	io->fd = -1;
}

/* the children's command lines */

static int find_child(struct supervisor *supervisor, struct run_child *child, const char *name, int room)
{
	int error = run_child_init(child, &supervisor->loop, name, room);

	if (error == -ENOENT)
		return cli_fail(CLI_FAILED, "cannot find %s beside lasthop or in %s", name, LASTHOP_LIBEXECDIR);
	return error != 0 ? cli_fail(CLI_FAILED, "%s: %s", name, strerror(-error)) : CLI_OK;
}

static int find_observer(struct supervisor *supervisor, int room)
{
	int error = run_child_init(&supervisor->observer, &supervisor->loop, "lasthop-observer", room);

	supervisor->observed = error == 0;
	return error != 0 && error != -ENOENT ? cli_fail(CLI_FAILED, "lasthop-observer: %s", strerror(-error)) : CLI_OK;
}

static int check_port(const char *text)
{
	struct port_settings port;
	struct settings_error error;

	if (port_settings_parse(&port, text, &error) < 0)
		return cli_fail(CLI_USAGE, "--port %s: %s", text, error.text);
	return CLI_OK;
}

static int check_bridge(const char *text)
{
	struct bridge_settings bridge;
	struct settings_error error;

	if (bridge_settings_parse(&bridge, text, &error) < 0)
		return cli_fail(CLI_USAGE, "--bridge %s: %s", text, error.text);
	return CLI_OK;
}

#define FOR_US       0u
#define FOR_CORE     1u
#define FOR_CONTROL  2u
#define FOR_OBSERVER 4u
#define FOR_DRIVERS  8u

/* Where each option goes, and how it is checked before anything is started. */
static const struct {
	const char *name;
	bool has_argument;
	unsigned int whom;
	int (*check)(const char *text);
} run_options[] = {
	{"--port", true, FOR_CONTROL, check_port},
	{"--bridge", true, FOR_CONTROL, check_bridge},
	{"--workers", true, FOR_CORE, NULL},
	{"--linger-us", true, FOR_CORE, NULL},
	{"--flows-max", true, FOR_CORE, NULL},
	{"--no-state-batching", false, FOR_CORE, NULL},
	{"--no-preemptive-copy", false, FOR_CORE, NULL},
	{"--no-offload", false, FOR_CORE, NULL},
	{"--no-pinning", false, FOR_CORE, NULL},
	{"--class", true, FOR_CORE, NULL},
	{"--no-observer", false, FOR_US, NULL},
	{"--keep-devices", false, FOR_US, NULL},
	{"--user", true, FOR_CORE | FOR_OBSERVER | FOR_DRIVERS, NULL},
	{"--no-sandbox", false, FOR_CORE | FOR_OBSERVER | FOR_DRIVERS, NULL},
	{"--log-level", true, FOR_CORE | FOR_CONTROL | FOR_OBSERVER | FOR_DRIVERS, NULL},
	{"--dir", true, FOR_US, NULL},
	{"--json", false, FOR_US, NULL},
};

static void take_our_option(struct supervisor *supervisor, struct cli *cli, const char *name, const char *value)
{
	if (strcmp(name, "--dir") == 0)
		cli->dir = value;
	else if (strcmp(name, "--json") == 0)
		cli->json = true;
	else if (strcmp(name, "--no-observer") == 0)
		supervisor->wants_observer = false;
	else
		supervisor->drivers.keep_devices = true;
}

static int take_run_option(struct supervisor *supervisor, struct cli *cli, int argc, char **argv, int *at)
{
	const char *word = argv[*at], *value = NULL;
	size_t i = 0;

	while (i < ARRAY_SIZE(run_options) && !(strncmp(word, run_options[i].name, strlen(run_options[i].name)) == 0 &&
						strchr("=", word[strlen(run_options[i].name)]) != NULL))
		i++;
	if (i == ARRAY_SIZE(run_options))
		return cli_fail(CLI_USAGE, "'%s': not an option of run; see `lasthop help run`", word);
	if (!run_options[i].has_argument && strchr(word, '=') != NULL)
		return cli_fail(CLI_USAGE, "the option '%s' takes no argument", run_options[i].name);
	if (run_options[i].has_argument) {
		const char *equals = strchr(word, '=');

		if (equals == NULL && *at + 1 >= argc)
			return cli_fail(CLI_USAGE, "the option '%s' needs an argument", word);
		value = equals != NULL ? equals + 1 : argv[++*at];
	}
	if (run_options[i].check != NULL && run_options[i].check(value) != CLI_OK)
		return CLI_USAGE;
	if (run_options[i].whom & FOR_CORE)
		run_child_argument(&supervisor->core, run_options[i].name, value);
	if (run_options[i].whom & FOR_CONTROL)
		run_child_argument(&supervisor->control, run_options[i].name, value);
	if (run_options[i].whom & FOR_OBSERVER)
		run_child_argument(&supervisor->observer, run_options[i].name, value);
	if (run_options[i].whom & FOR_DRIVERS)
		run_drivers_argument(&supervisor->drivers, run_options[i].name, value);
	if (run_options[i].whom == FOR_US)
		take_our_option(supervisor, cli, run_options[i].name, value);
	return CLI_OK;
}

/* The children name files in it to each other, and each would take a relative path in its own way. */
static int settle_dir(struct supervisor *supervisor, struct cli *cli)
{
	char here[PATH_MAX];

	if (cli->dir[0] == '/')
		return CLI_OK;
	if (getcwd(here, sizeof(here)) == NULL)
		return cli_fail(CLI_FAILED, "the current directory: %s", strerror(errno));
	if (snprintf(supervisor->dir, sizeof(supervisor->dir), "%s/%s", here, cli->dir) >= (int)sizeof(supervisor->dir))
		return cli_fail(CLI_FAILED, "%s: %s", cli->dir, strerror(ENAMETOOLONG));
	cli->dir = supervisor->dir;
	return CLI_OK;
}

static int take_run_options(struct supervisor *supervisor, struct cli *cli, int argc, char **argv)
{
	int room = 2 * argc + 10;
	int status = find_child(supervisor, &supervisor->core, "lasthop-core", room);

	supervisor->wants_observer = true;
	if (status == CLI_OK)
		status = find_child(supervisor, &supervisor->control, "lasthop-control", room);
	if (status == CLI_OK)
		status = find_observer(supervisor, room);
	for (int i = 0; i < argc && status == CLI_OK; i++)
		status = take_run_option(supervisor, cli, argc, argv, &i);
	if (status == CLI_OK)
		status = cli_settle_dir(cli);
	if (status == CLI_OK)
		status = settle_dir(supervisor, cli);
	if (status != CLI_OK)
		return status;
	run_child_argument(&supervisor->core, "--dir", cli->dir);
	run_child_argument(&supervisor->control, "--dir", cli->dir);
	if (supervisor->wants_observer && !supervisor->observed)
		cli_fail(0,
			 "VM states are not known: lasthop-observer is not there (to build it takes libbpf, clang and "
			 "bpftool); workers go by what rings tell");
	supervisor->observed &= supervisor->wants_observer;
	return CLI_OK;
}

/* One end each for core and observer; their numbers are the same in both and here. */
static int connect_observer(struct supervisor *supervisor)
{
	int ends[2];

	if (!supervisor->observed)
		return CLI_OK;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return cli_fail(CLI_FAILED, "socketpair: %s", strerror(errno));
	supervisor->core.keep_fds[0] = ends[0];
	supervisor->observer.keep_fds[0] = ends[1];
	for (int i = 0; i < 2; i++)
		snprintf(supervisor->observer_fds[i], sizeof(supervisor->observer_fds[i]), "%d", ends[i]);
	run_child_argument(&supervisor->core, "--observer-fd", supervisor->observer_fds[0]);
	run_child_argument(&supervisor->observer, "--socket-fd", supervisor->observer_fds[1]);
	return CLI_OK;
}

/* What the control plane, and each of its successors, tells us by when ports with drivers come and go. */
static int connect_drivers(struct supervisor *supervisor, const char *dir)
{
	int error = run_drivers_open(&supervisor->drivers, &supervisor->loop, dir);

	if (error < 0)
		return cli_fail(CLI_FAILED, "pipe: %s", strerror(-error));
	supervisor->control.keep_fds[0] = run_drivers_changed_fd(&supervisor->drivers);
	snprintf(supervisor->drivers_fd, sizeof(supervisor->drivers_fd), "%d", supervisor->control.keep_fds[0]);
	run_child_argument(&supervisor->control, "--drivers-fd", supervisor->drivers_fd);
	return CLI_OK;
}

/* Runs until the end. A successor of the control plane has no --ready-fd: nobody would listen. */
static int supervise(struct supervisor *supervisor)
{
	static const int signos[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, 0};
	char ready_fd[16];
	int ready[2], error;

	take_notify_socket(supervisor);
	supervisor->drivers.core = &supervisor->core;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return cli_fail(CLI_FAILED, "pipe: %s", strerror(errno));
	snprintf(ready_fd, sizeof(ready_fd), "%d", ready[1]);
	run_child_argument(&supervisor->control, "--ready-fd", ready_fd);
	supervisor->signals.caught = signal_caught;
	supervisor->stop_timer.expired = stop_expired;
	supervisor->ready_io.fd = ready[0];
	supervisor->ready_io.ready = ready_came;
	error = loop_init(&supervisor->loop);
	if (error == 0)
		error = loop_signals_add(&supervisor->loop, &supervisor->signals, signos);
	if (error == 0)
		error = loop_add(&supervisor->loop, &supervisor->ready_io, EPOLLIN);
	if (error == 0)
		error = run_drivers_start(&supervisor->drivers);
	if (error < 0)
		return cli_fail(CLI_FAILED, "event loop: %s", strerror(-error));
	run_child_start(&supervisor->core);
	supervisor->control.keep_fds[1] = ready[1];
	run_child_start(&supervisor->control);
	supervisor->control.keep_fds[1] = -1;
	close(ready[1]);
	run_child_forget_arguments(&supervisor->control, 2);
	if (supervisor->observed)
		run_child_start(&supervisor->observer);
	error = loop_run(&supervisor->loop);
	loop_cleanup(&supervisor->loop);
	if (error < 0)
		return cli_fail(CLI_FAILED, "event loop: %s", strerror(-error));
	return supervisor->status;
}

int cli_run(struct cli *cli, int argc, char **argv)
{
	struct supervisor *supervisor = calloc(1, sizeof(*supervisor));
	struct run_files files;
	int status;

	if (supervisor == NULL)
		return cli_fail(CLI_FAILED, "no memory");
	/* Who reads our output or log may go away, which is no reason to end. The children have this from us. */
	signal(SIGPIPE, SIG_IGN);
	status = take_run_options(supervisor, cli, argc, argv);
	if (status == CLI_OK) {
		status = run_files_open(&files, cli->dir);
		if (status == CLI_OK) {
			status = connect_observer(supervisor);
			if (status == CLI_OK)
				status = connect_drivers(supervisor, cli->dir);
			if (status == CLI_OK)
				status = supervise(supervisor);
			run_drivers_close(&supervisor->drivers);
			run_files_close(&files);
		}
	}
	run_child_free(&supervisor->core);
	run_child_free(&supervisor->control);
	run_child_free(&supervisor->observer);
	free(supervisor);
	return status;
}
