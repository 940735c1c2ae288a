/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What ThreadSanitizer has to be told because it does not see it: order that comes from assembly, or through another
 * process, and what is no access although it looks like one. Without the sanitizer nothing of it is there.
 *
 * All that a thread did before tsan_release(tag) happens before what another one does behind a later tsan_acquire(tag).
 * Only what holds without may be said so; any address that is nothing else's will do for a tag.
 *
 * Between tsan_remap_begin() and tsan_remap_end() a thread replaces mappings under readers that bear it. The sanitizer
 * takes mmap() for writes to all of the range, which race; the kernel does it in one step.
 */
#ifndef LASTHOP_LIB_TSAN_H
#define LASTHOP_LIB_TSAN_H

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN
#endif
#elif defined(__SANITIZE_THREAD__)
#define TSAN
#endif

#ifdef TSAN
#include <sanitizer/tsan_interface.h>
#include <stdint.h>

#define tsan_release(tag) __tsan_release((void *)(uintptr_t)(tag))
#define tsan_acquire(tag) __tsan_acquire((void *)(uintptr_t)(tag))

/* Of the sanitizer's runtime, which has no header for them. */
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);

#define tsan_remap_begin() AnnotateIgnoreWritesBegin(__FILE__, __LINE__)
#define tsan_remap_end()   AnnotateIgnoreWritesEnd(__FILE__, __LINE__)
#else
#define tsan_release(tag)  ((void)(tag))
#define tsan_acquire(tag)  ((void)(tag))
#define tsan_remap_begin() ((void)0)
#define tsan_remap_end()   ((void)0)
#endif

#endif
