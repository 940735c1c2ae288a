/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fork(), a death signal, exec(). What a child inherits beyond the standard descriptors is named: its arguments
 * have the number.
 */
#include "cli/run_child.h"

#include "cli/cli.h"
#include "cli/run_files.h"
#include "lib/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESTART_FIRST_NS (100 * NS_PER_MS) /* doubled each time, but the first restart is at once */
#define RESTART_MAX_NS   (5 * NS_PER_S)
#define STABLE_NS        (10 * NS_PER_S) /* who lived so long begins anew */

/* output_fd: in the place of standard output and error, -1: they stay. */
static void child_run(const struct run_child *child, pid_t parent, int output_fd)
{
	sigset_t none;

	/* If we are killed they must not be left behind; and we may be dead already. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(CLI_FAILED);
	for (size_t i = 0; i < ARRAY_SIZE(child->keep_fds); i++) {
		if (child->keep_fds[i] >= 0)
			fcntl(child->keep_fds[i], F_SETFD, 0);
	}
	if (output_fd >= 0 && (dup2(output_fd, STDOUT_FILENO) < 0 || dup2(output_fd, STDERR_FILENO) < 0))
		_exit(CLI_FAILED);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(child->path, child->argv);
	dprintf(STDERR_FILENO, "lasthop: cannot run %s: %s\n", child->path, strerror(errno));
	_exit(CLI_FAILED);
}

void run_child_start(struct run_child *child)
{
	pid_t parent = getpid();
	int output_fd = -1, error = 0;

	child->started_ns = clock_now_ns();
	if (child->output != NULL)
		output_fd = run_output_open(child->output);
	if (child->output != NULL && output_fd < 0) {
		error = output_fd;
	} else {
		child->pid = fork();
		if (child->pid == 0)
			child_run(child, parent, output_fd);
		error = child->pid < 0 ? -errno : 0;
		if (output_fd >= 0)
			close(output_fd);
	}
	if (error < 0) {
		cli_fail(CLI_FAILED, "cannot start %s: %s", child->name, strerror(-error));
		run_child_ended(child);
		loop_timer_start(child->loop, &child->timer, child->started_ns + RESTART_MAX_NS);
		return;
	}
	if (child->started != NULL)
		child->started(child);
}

static void child_timer_expired(struct loop_timer *timer)
{
	run_child_start(container_of(timer, struct run_child, timer));
}

int run_child_init(struct run_child *child, struct loop *loop, const char *name, int room)
{
	child->loop = loop;
	child->name = name;
	for (size_t i = 0; i < ARRAY_SIZE(child->keep_fds); i++)
		child->keep_fds[i] = -1;
	child->timer.expired = child_timer_expired;
	/* Name, arguments, and the end. */
	child->argv = calloc((size_t)room + 2, sizeof(char *));
	if (child->argv == NULL)
		return -ENOMEM;
	child->argv[child->argc++] = child->path;
	return run_files_find_program(name, child->path, sizeof(child->path));
}

void run_child_free(struct run_child *child)
{
	free(child->argv);
	child->argv = NULL;
}

void run_child_argument(struct run_child *child, const char *option, const char *value)
{
	child->argv[child->argc++] = (char *)(uintptr_t)option;
	if (value != NULL)
		child->argv[child->argc++] = (char *)(uintptr_t)value;
}

void run_child_forget_arguments(struct run_child *child, int count)
{
	child->argc -= count;
	child->argv[child->argc] = NULL;
}

void run_child_describe_end(const struct run_child *child, int wait_status)
{
	char text[96];

	run_child_end_text(wait_status, text, sizeof(text));
	cli_fail(0, "%s %s", child->name, text);
}

void run_child_end_text(int wait_status, char *text, size_t size)
{
	if (WIFSIGNALED(wait_status))
		snprintf(text, size, "was killed by signal %d (%s)", WTERMSIG(wait_status),
			 strsignal(WTERMSIG(wait_status)));
	else
		snprintf(text, size, "ended with exit status %d", WEXITSTATUS(wait_status));
}

void run_child_ended(struct run_child *child)
{
	child->pid = 0;
	if (child->output != NULL)
		run_output_finish(child->output);
}

void run_child_restart(struct run_child *child)
{
	uint64_t now = clock_now_ns();

	if (now - child->started_ns >= STABLE_NS)
		child->wait_ns = 0;
	loop_timer_start(child->loop, &child->timer, now + child->wait_ns);
	child->wait_ns = child->wait_ns == 0 ? RESTART_FIRST_NS : min(child->wait_ns * 2, (uint64_t)RESTART_MAX_NS);
}

void run_child_restart_after(struct run_child *child, uint64_t wait_ns)
{
	loop_timer_start(child->loop, &child->timer, clock_now_ns() + wait_ns);
}

void run_child_stop(struct run_child *child, int signo)
{
	loop_timer_stop(&child->timer);
	if (child->pid > 0 && signo != 0)
		kill(child->pid, signo);
}
