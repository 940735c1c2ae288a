/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One pipe for each start, so that nobody keeps one who has ended, or leaves a successor a pipe that he changed.
 *
 * How much is read at once is bounded, and then there is a pause: a child that floods costs us little, and waits; one
 * that logs honestly has 64 KiB of room, and waits for a pause at most. What is over the limit is read all the same.
 */
#include "cli/run_output.h"

#include "lib/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE   4096
#define READS_ROUND 8                         /* and then the pause: 1.6 MB/s at most */
#define READS_LAST  (1024 * 1024 / READ_SIZE) /* as large as who has its end can make a pipe */
#define PAUSE_NS    (20 * NS_PER_MS)
#define REPORT_NS   (5 * NS_PER_S)

/* False: there is no room for it now. Other failures have nowhere to be reported. */
static bool write_out(const char *text, size_t size)
{
	struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
	ssize_t n;

	if (poll(&ready, 1, 0) == 0)
		return false;
	do {
		n = write(STDERR_FILENO, text, size);
	} while (n < 0 && errno == EINTR);
	return true;
}

static void say_left_out(struct run_output *output)
{
	char text[256];
	int n;

	if (output->limit.suppressed == 0)
		return;
	n = snprintf(text, sizeof(text), "lasthop: %.100s: %llu lines left out (it may write %d, then one a second)\n",
		     output->name, (unsigned long long)output->limit.suppressed, RUN_OUTPUT_BURST);
	if (write_out(text, (size_t)n))
		output->limit.suppressed = 0;
}

static void report_expired(struct loop_timer *timer)
{
	struct run_output *output = container_of(timer, struct run_output, report_timer);

	say_left_out(output);
	if (output->limit.suppressed > 0)
		loop_timer_start(output->loop, timer, clock_now_ns() + REPORT_NS);
}

static void leave_out(struct run_output *output)
{
	output->limit.suppressed++;
	if (!loop_timer_running(&output->report_timer))
		loop_timer_start(output->loop, &output->report_timer, clock_now_ns() + REPORT_NS);
}

static void end_line(struct run_output *output)
{
	static const char mark[] = " [cut]\n";
	char text[LOG_LINE_MAX];
	int n = snprintf(text, sizeof(text), "%.100s: ", output->name);
	size_t used = (size_t)n;

	used += log_escape(text + used, sizeof(text) - used - sizeof(mark), output->line, output->used);
	if (output->cut) {
		memcpy(text + used, mark, sizeof(mark) - 1);
		used += sizeof(mark) - 1;
	} else {
		text[used++] = '\n';
	}
	output->used = 0;
	output->cut = false;
	if (!log_limit_take(&output->limit, RUN_OUTPUT_BURST)) {
		leave_out(output);
		return;
	}
	say_left_out(output);
	if (!write_out(text, used))
		leave_out(output);
}

static void take_bytes(struct run_output *output, const char *bytes, size_t size)
{
	while (size > 0) {
		const char *end = memchr(bytes, '\n', size);
		size_t length = end != NULL ? (size_t)(end - bytes) : size;
		size_t kept = min(length, sizeof(output->line) - output->used);

		memcpy(output->line + output->used, bytes, kept);
		output->used += kept;
		output->cut |= kept < length;
		if (end == NULL)
			return;
		end_line(output);
		bytes += length + 1;
		size -= length + 1;
	}
}

/* False: there is nothing more, for now or for ever; `*hung_up` says which. */
static bool read_some(struct run_output *output, bool *hung_up)
{
	char bytes[READ_SIZE];
	ssize_t n = read(output->io.fd, bytes, sizeof(bytes));

	*hung_up = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
	if (n <= 0)
		return false;
	take_bytes(output, bytes, (size_t)n);
	return true;
}

static void hang_up(struct run_output *output)
{
	loop_timer_stop(&output->pause_timer);
	loop_remove(output->loop, &output->io);
	close(output->io.fd);
	output->io.fd = -1;
	if (output->used > 0)
		end_line(output);
}

static void output_ready(struct loop_io *io, uint32_t events)
{
	struct run_output *output = container_of(io, struct run_output, io);
	bool hung_up;

	(void)events;
	for (int i = 0; i < READS_ROUND; i++) {
		if (read_some(output, &hung_up))
			continue;
		if (hung_up)
			hang_up(output);
		return;
	}
	loop_remove(output->loop, io);
	loop_timer_start(output->loop, &output->pause_timer, clock_now_ns() + PAUSE_NS);
}

static void pause_expired(struct loop_timer *timer)
{
	struct run_output *output = container_of(timer, struct run_output, pause_timer);

	/* There is no memory just now: again. */
	if (loop_add(output->loop, &output->io, EPOLLIN) < 0)
		loop_timer_start(output->loop, timer, clock_now_ns() + PAUSE_NS);
}

void run_output_init(struct run_output *output, struct loop *loop, const char *name)
{
	*output = (struct run_output){
		.loop = loop,
		.name = name,
		.io = {.fd = -1, .ready = output_ready},
		.pause_timer.expired = pause_expired,
		.report_timer.expired = report_expired,
	};
}

int run_output_open(struct run_output *output)
{
	int ends[2], error;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	output->io.fd = ends[0];
	/* Ours alone: who writes may wait. */
	error = fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : loop_add(output->loop, &output->io, EPOLLIN);
	if (error < 0) {
		output->io.fd = -1;
		close(ends[0]);
		close(ends[1]);
		return error;
	}
	return ends[1];
}

void run_output_finish(struct run_output *output)
{
	bool hung_up;

	if (output->io.fd < 0)
		return;
	for (int i = 0; i < READS_LAST && read_some(output, &hung_up); i++)
		;
	hang_up(output);
}

void run_output_close(struct run_output *output)
{
	run_output_finish(output);
	say_left_out(output);
	loop_timer_stop(&output->report_timer);
}
