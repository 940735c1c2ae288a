/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log: lines on standard error, `program: level: text`, each written by one system call.
 *
 * Owns the program's name and level, set once by log_init() before there are threads. All else may
 * be called from any thread. Bytes that are not printable ASCII or part of well-formed UTF-8 come
 * out as \xNN, so that what a peer sent can be logged as it is; a line longer than LOG_LINE_MAX
 * bytes is cut. Nothing here fails or blocks for long, and errno is left alone.
 *
 * Whatever a packet, a guest or another peer can trigger at will is logged by log_limited().
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include "lib/compiler.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_MAX 1024

enum log_level {
	LOG_ERROR, /* something that was asked for does not work */
	LOG_WARN,  /* it works, but somebody should look at it */
	LOG_INFO,  /* what an operator wants to find next morning */
	LOG_DEBUG, /* what a developer wants to see */
};

/* `program` must stay valid. Messages above `level` are not written. Before this call the level is
 * LOG_INFO. */
void log_init(const char *program, int level);

/* Also for the level that a configuration changes later; any thread. */
void log_set_level(int level);

bool log_enabled(int level);

void log_write(int level, const char *format, ...) printf_like(2, 3);

/*
 * How bytes that somebody sent are shown: copies `length` of them to `out`, at most `size` bytes of output, whose
 * number it returns. No zero is appended, and no sequence is cut.
 */
size_t log_escape(char *out, size_t size, const char *text, size_t length);

/* For a library that has its own idea of lines: the newlines at the end are not written. */
void log_write_va(int level, const char *format, va_list args) printf_like(2, 0);

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

/*
 * One per place or per peer; all zero to begin with. Lets a burst of LOG_LIMIT_BURST messages
 * through, then one a second; the next message that passes says how many did not. Threads may share
 * it.
 */
struct log_limit {
	uint64_t next_ns;    /* when the bucket would be full again, in time of clock_now_ns() */
	uint64_t suppressed; /* messages since the last one that passed */
};

#define LOG_LIMIT_BURST 5

/* For who writes by other ways, with a burst of its own: whether one may now. Counts nothing as suppressed. */
bool log_limit_take(struct log_limit *limit, unsigned int burst);

void log_limited(struct log_limit *limit, int level, const char *format, ...) printf_like(3, 4);

#endif
