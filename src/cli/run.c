/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `lasthop run`: a whole switch in the foreground. Starts lasthop-core and lasthop-control, says
 * when all ports are there, starts again what died, and ends both with itself.
 *
 * Until the switch is ready the death of a child means that it cannot be had as asked for, and ends
 * everything. After that the children are independent of each other: the control plane finds a new
 * data plane by itself, and reads back an old one when it is the new one itself.
 */
#include "cli/cli.h"
#include "cli/run_files.h"
#include "control/settings.h"
#include "lib/clock.h"
#include "lib/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESTART_FIRST_NS                                                         \
	(100 * NS_PER_MS) /* doubled each time, but the first restart is at once \
			   */
#define RESTART_MAX_NS (5 * NS_PER_S)
#define STABLE_NS      (10 * NS_PER_S) /* who lived so long begins anew */
#define STOP_NS        (5 * NS_PER_S)  /* then it is killed */

struct supervisor;

struct child {
	struct supervisor *supervisor;
	const char *name;
	char path[PATH_MAX];
	char **argv; /* NULL-terminated */
	int argc;
	pid_t pid; /* 0: does not run */
	uint64_t started_ns;
	uint64_t wait_ns; /* before the next restart */
	struct loop_timer timer;
};

struct supervisor {
	struct loop loop;
	struct loop_signals signals;
	struct loop_io ready_io;
	struct loop_timer stop_timer;
	struct child core;
	struct child control;
	bool ready;
	bool stopping;
	int status;
};

static void supervisor_stop(struct supervisor *supervisor, int status);

static void child_run(const struct child *child, pid_t parent)
{
	sigset_t none;

	/* If we are killed they must not be left behind; and we may be dead already. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(CLI_FAILED);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(child->path, child->argv);
	dprintf(STDERR_FILENO, "lasthop: cannot run %s: %s\n", child->path, strerror(errno));
	_exit(CLI_FAILED);
}

static void child_start(struct child *child)
{
	pid_t parent = getpid();

	child->started_ns = clock_now_ns();
	child->pid = fork();
	if (child->pid == 0)
		child_run(child, parent);
	if (child->pid < 0) {
		cli_fail(CLI_FAILED, "cannot start %s: %s", child->name, strerror(errno));
		child->pid = 0;
		loop_timer_start(&child->supervisor->loop, &child->timer, child->started_ns + RESTART_MAX_NS);
	}
}

static void child_restart(struct loop_timer *timer)
{
	struct child *child = container_of(timer, struct child, timer);

	if (!child->supervisor->stopping)
		child_start(child);
}

static void describe_end(const struct child *child, int wait_status)
{
	if (WIFSIGNALED(wait_status))
		cli_fail(0, "%s was killed by signal %d (%s)", child->name, WTERMSIG(wait_status),
			 strsignal(WTERMSIG(wait_status)));
	else
		cli_fail(0, "%s ended with exit status %d", child->name, WEXITSTATUS(wait_status));
}

static void child_ended(struct child *child, int wait_status)
{
	struct supervisor *supervisor = child->supervisor;
	uint64_t now = clock_now_ns();

	child->pid = 0;
	if (supervisor->stopping)
		return;
	describe_end(child, wait_status);
	if (!supervisor->ready) {
		cli_fail(0, "the switch could not be started");
		supervisor_stop(supervisor, CLI_FAILED);
		return;
	}
	if (now - child->started_ns >= STABLE_NS)
		child->wait_ns = 0;
	loop_timer_start(&supervisor->loop, &child->timer, now + child->wait_ns);
	child->wait_ns = child->wait_ns == 0 ? RESTART_FIRST_NS : min(child->wait_ns * 2, (uint64_t)RESTART_MAX_NS);
}

static void child_signal(const struct child *child, int signo)
{
	if (child->pid > 0)
		kill(child->pid, signo);
}

/* The control plane first: else it would look for the data plane that it lost. */
static void supervisor_stop_next(struct supervisor *supervisor)
{
	if (supervisor->control.pid != 0)
		child_signal(&supervisor->control, SIGTERM);
	else if (supervisor->core.pid != 0)
		child_signal(&supervisor->core, SIGTERM);
	else
		loop_stop(&supervisor->loop);
}

static void reap_children(struct supervisor *supervisor)
{
	int wait_status;
	pid_t pid;

	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		if (pid == supervisor->core.pid)
			child_ended(&supervisor->core, wait_status);
		else if (pid == supervisor->control.pid)
			child_ended(&supervisor->control, wait_status);
	}
	if (supervisor->stopping)
		supervisor_stop_next(supervisor);
}

static void stop_expired(struct loop_timer *timer)
{
	struct supervisor *supervisor = container_of(timer, struct supervisor, stop_timer);

	cli_fail(0, "still running %d seconds after they were asked to end: killed", (int)(STOP_NS / NS_PER_S));
	supervisor->status = CLI_FAILED;
	child_signal(&supervisor->control, SIGKILL);
	child_signal(&supervisor->core, SIGKILL);
}

static void supervisor_stop(struct supervisor *supervisor, int status)
{
	if (supervisor->stopping)
		return;
	supervisor->stopping = true;
	supervisor->status = status;
	loop_timer_stop(&supervisor->core.timer);
	loop_timer_stop(&supervisor->control.timer);
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

/* The control plane says that all ports are there, or has ended. */
static void ready_came(struct loop_io *io, uint32_t events)
{
	struct supervisor *supervisor = container_of(io, struct supervisor, ready_io);
	char line;

	(void)events;
	if (read(io->fd, &line, 1) == 1) {
		supervisor->ready = true;
		puts("lasthop: ready");
		fflush(stdout);
	}
	loop_remove(&supervisor->loop, io);
	close(io->fd);
	io->fd = -1;
}

/* the children's command lines */

static int child_init(struct child *child, struct supervisor *supervisor, const char *name, int room)
{
	child->supervisor = supervisor;
	child->name = name;
	child->timer.expired = child_restart;
	/* Name, each option with its argument, and the end. */
	child->argv = calloc((size_t)room + 2, sizeof(char *));
	if (child->argv == NULL)
		return cli_fail(CLI_FAILED, "no memory");
	if (run_files_find_program(name, child->path, sizeof(child->path)) < 0)
		return cli_fail(CLI_FAILED, "cannot find %s beside lasthop or in %s", name, LASTHOP_LIBEXECDIR);
	child->argv[child->argc++] = child->path;
	return CLI_OK;
}

static void child_argument(struct child *child, const char *option, const char *value)
{
	child->argv[child->argc++] = (char *)(uintptr_t)option;
	if (value != NULL)
		child->argv[child->argc++] = (char *)(uintptr_t)value;
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

/* Where each option goes, and how it is checked before anything is started. */
static const struct {
	const char *name;
	bool has_argument;
	bool for_core;
	bool for_control;
	int (*check)(const char *text);
} run_options[] = {
	{"--port", true, false, true, check_port},
	{"--bridge", true, false, true, check_bridge},
	{"--workers", true, true, false, NULL},
	{"--linger-us", true, true, false, NULL},
	{"--flows-max", true, true, false, NULL},
	{"--user", true, true, false, NULL},
	{"--no-sandbox", false, true, false, NULL},
	{"--log-level", true, true, true, NULL},
	{"--no-state-batching", false, true, false, NULL},
	{"--no-preemptive-copy", false, true, false, NULL},
	{"--no-offload", false, true, false, NULL},
};

static int take_run_option(struct supervisor *supervisor, struct cli *cli, int argc, char **argv, int *at)
{
	const char *word = argv[*at], *value = NULL;
	size_t i = 0;

	while (i < ARRAY_SIZE(run_options) && !(strncmp(word, run_options[i].name, strlen(run_options[i].name)) == 0 &&
						strchr("=", word[strlen(run_options[i].name)]) != NULL))
		i++;
	if (strcmp(word, "--dir") == 0 && *at + 1 < argc) {
		cli->dir = argv[++*at];
		return CLI_OK;
	}
	if (strncmp(word, "--dir=", 6) == 0) {
		cli->dir = word + 6;
		return CLI_OK;
	}
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
	if (run_options[i].for_core)
		child_argument(&supervisor->core, run_options[i].name, value);
	if (run_options[i].for_control)
		child_argument(&supervisor->control, run_options[i].name, value);
	return CLI_OK;
}

static int take_run_options(struct supervisor *supervisor, struct cli *cli, int argc, char **argv)
{
	int room = 2 * argc + 8;
	int status = child_init(&supervisor->core, supervisor, "lasthop-core", room);

	if (status == CLI_OK)
		status = child_init(&supervisor->control, supervisor, "lasthop-control", room);
	for (int i = 0; i < argc && status == CLI_OK; i++)
		status = take_run_option(supervisor, cli, argc, argv, &i);
	if (cli->dir == NULL)
		cli->dir = cli_default_dir();
	child_argument(&supervisor->core, "--dir", cli->dir);
	child_argument(&supervisor->control, "--dir", cli->dir);
	return status;
}

/* Runs until the end. A successor of the control plane has no --ready-fd: nobody would listen. */
static int supervise(struct supervisor *supervisor)
{
	static const int signos[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, 0};
	char ready_fd[16];
	int ready[2], error;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return cli_fail(CLI_FAILED, "pipe: %s", strerror(errno));
	snprintf(ready_fd, sizeof(ready_fd), "%d", ready[1]);
	child_argument(&supervisor->control, "--ready-fd", ready_fd);
	supervisor->signals.caught = signal_caught;
	supervisor->stop_timer.expired = stop_expired;
	supervisor->ready_io.fd = ready[0];
	supervisor->ready_io.ready = ready_came;
	error = loop_init(&supervisor->loop);
	if (error == 0)
		error = loop_signals_add(&supervisor->loop, &supervisor->signals, signos);
	if (error == 0)
		error = loop_add(&supervisor->loop, &supervisor->ready_io, EPOLLIN);
	if (error < 0)
		return cli_fail(CLI_FAILED, "event loop: %s", strerror(-error));
	child_start(&supervisor->core);
	fcntl(ready[1], F_SETFD, 0);
	child_start(&supervisor->control);
	close(ready[1]);
	supervisor->control.argc -= 2;
	supervisor->control.argv[supervisor->control.argc] = NULL;
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
	status = take_run_options(supervisor, cli, argc, argv);
	if (status == CLI_OK) {
		status = run_files_open(&files, cli->dir);
		if (status == CLI_OK) {
			status = supervise(supervisor);
			run_files_close(&files);
		}
	}
	free(supervisor->core.argv);
	free(supervisor->control.argv);
	free(supervisor);
	return status;
}
