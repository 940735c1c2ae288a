/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A line is composed in a buffer on the stack and leaves by one write(2), which keeps lines of
 * different threads (and of the processes that share our standard error) apart without a lock.
 *
 * The rate limit is a token bucket kept as one number, the moment at which the bucket is full
 * again: a message moves it one period ahead and passes unless it is then more than a burst away.
 * One number can be moved by compare-and-swap.
 *
 * @syscalls driver: write
 */
#include "lib/log.h"

#include "lib/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *log_program = "lasthop";
static int log_max_level = LOG_INFO;

static const char *const log_level_names[] = {
	[LOG_ERROR] = "error",
	[LOG_WARN] = "warning",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

void log_init(const char *program, int level)
{
	log_program = program;
	log_set_level(level);
}

void log_set_level(int level)
{
	store_relaxed(&log_max_level, level);
}

bool log_enabled(int level)
{
	return level <= load_relaxed(&log_max_level);
}

/* Length of the well-formed UTF-8 sequence at `s`, of which `left` bytes are there; 0 if there is none or it is a
 * control character. */
static size_t log_printable(const unsigned char *s, size_t left)
{
	size_t size;

	if (s[0] >= 0x20 && s[0] < 0x7f)
		return 1;
	if (left < 2)
		return 0;
	/* 0xc2 0x80..0x9f are the C1 controls, which terminals obey. */
	if (s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0)
		return 0;
	if (s[0] >= 0xc2 && s[0] < 0xe0)
		size = 2;
	else if ((s[0] & 0xf0) == 0xe0)
		size = 3;
	else if (s[0] >= 0xf0 && s[0] < 0xf5)
		size = 4;
	else
		return 0;
	/* Overlong forms and surrogates. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] >= 0x90))
		return 0;
	if (left < size)
		return 0;
	for (size_t i = 1; i < size; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return size;
}

size_t log_escape(char *out, size_t size, const char *text, size_t length)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *s = (const unsigned char *)text, *end = s + length;
	size_t used = 0;

	while (s < end) {
		size_t n = log_printable(s, (size_t)(end - s));

		if (n > 0) {
			if (used + n > size)
				break;
			memcpy(out + used, s, n);
			used += n;
			s += n;
		} else {
			if (used + 4 > size)
				break;
			out[used++] = '\\';
			out[used++] = 'x';
			out[used++] = hex[*s >> 4];
			out[used++] = hex[*s & 15];
			s++;
		}
	}
	return used;
}

static void printf_like(3, 0) log_line(int level, uint64_t suppressed, const char *format, va_list args)
{
	char text[LOG_LINE_MAX];
	char line[LOG_LINE_MAX];
	char suffix[64] = "";
	size_t suffix_size = 0, used;
	int saved_errno = errno;
	ssize_t written;
	int n;

	if (suppressed > 0)
		suffix_size = (size_t)snprintf(suffix, sizeof(suffix), " (%llu like this not shown)",
					       (unsigned long long)suppressed);
	/* %m in the format means the errno of the caller. */
	errno = saved_errno;
	if (vsnprintf(text, sizeof(text), format, args) < 0)
		text[0] = '\0';
	n = snprintf(line, sizeof(line) / 4, "%s: %s: ", log_program,
		     log_level_names[min(max(level, (int)LOG_ERROR), (int)LOG_DEBUG)]);
	used = n < 0 ? 0 : min((size_t)n, sizeof(line) / 4 - 1);
	used += log_escape(line + used, sizeof(line) - used - suffix_size - 1, text, strlen(text));
	memcpy(line + used, suffix, suffix_size);
	used += suffix_size;
	line[used++] = '\n';
	/* There is nowhere to report a log that cannot be written. */
	do {
		written = write(STDERR_FILENO, line, used);
	} while (written < 0 && errno == EINTR);
	errno = saved_errno;
}

void log_write(int level, const char *format, ...)
{
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, format);
	log_line(level, 0, format, args);
	va_end(args);
}

void log_write_va(int level, const char *format, va_list args)
{
	char text[LOG_LINE_MAX];
	int length;

	if (!log_enabled(level))
		return;
	length = vsnprintf(text, sizeof(text), format, args);
	if (length < 0)
		return;
	length = min(length, (int)sizeof(text) - 1);
	while (length > 0 && text[length - 1] == '\n')
		text[--length] = '\0';
	log_write(level, "%s", text);
}

bool log_limit_take(struct log_limit *limit, unsigned int burst)
{
	uint64_t now = clock_now_ns();
	uint64_t old = load_relaxed(&limit->next_ns);
	uint64_t next;

	do {
		next = max(old, now) + NS_PER_S;
		if (next > now + burst * NS_PER_S)
			return false;
	} while (!__atomic_compare_exchange_n(&limit->next_ns, &old, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

void log_limited(struct log_limit *limit, int level, const char *format, ...)
{
	uint64_t suppressed;
	va_list args;

	if (!log_enabled(level))
		return;
	if (!log_limit_take(limit, LOG_LIMIT_BURST)) {
		__atomic_fetch_add(&limit->suppressed, 1, __ATOMIC_RELAXED);
		return;
	}
	suppressed = __atomic_exchange_n(&limit->suppressed, 0, __ATOMIC_RELAXED);
	va_start(args, format);
	log_line(level, suppressed, format, args);
	va_end(args);
}
