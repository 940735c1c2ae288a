/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the language lacks: hints, layout and the few forms of access to memory that others write at
 * the same time. Owns nothing; usable from any thread.
 *
 * Memory shared with a guest or another process is read by READ_ONCE() or load_acquire() into a
 * private variable and used from there: the compiler may otherwise read it twice, and the second
 * value was never checked.
 */
#ifndef LIB_COMPILER_H
#define LIB_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Bytes; of every machine we run on. Adjacent lines are fetched in pairs by some, which we do not
 * pad for. */
#define CACHE_LINE 64

#define cache_aligned     __attribute__((aligned(CACHE_LINE)))
#define must_check        __attribute__((warn_unused_result))
#define force_inline      inline __attribute__((always_inline))
#define no_inline         __attribute__((noinline))
#define printf_like(f, a) __attribute__((format(printf, f, a)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The structure whose member `ptr` points to. */
#define container_of(ptr, type, member)                                                  \
	__extension__({                                                                  \
		const __typeof__(((type *)0)->member) *member_ptr_ = (ptr);              \
		(type *)(uintptr_t)((const char *)member_ptr_ - offsetof(type, member)); \
	})

/* Exactly one access of the variable's own width (up to 8 bytes), neither torn nor repeated; no
 * ordering. */
#define READ_ONCE(x)     (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

#define load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define load_relaxed(p)     __atomic_load_n((p), __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)

/* Orders an earlier store before a later load, which neither acquire nor release does. */
#define full_barrier() __atomic_thread_fence(__ATOMIC_SEQ_CST)

/* Each argument is evaluated once; both must have one type. */
#define min(a, b)                                  \
	__extension__({                            \
		__typeof__(a) min_a_ = (a);        \
		__typeof__(b) min_b_ = (b);        \
		(void)(&min_a_ == &min_b_);        \
		min_a_ < min_b_ ? min_a_ : min_b_; \
	})
#define max(a, b)                                  \
	__extension__({                            \
		__typeof__(a) max_a_ = (a);        \
		__typeof__(b) max_b_ = (b);        \
		(void)(&max_a_ == &max_b_);        \
		max_a_ > max_b_ ? max_a_ : max_b_; \
	})

/* `alignment` is a power of two. align_up() wraps to 0 within `alignment` of the end of the range.
 */
static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & ~(alignment - 1);
}

static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
	return value & ~(alignment - 1);
}

static inline bool is_aligned(uint64_t value, uint64_t alignment)
{
	return (value & (alignment - 1)) == 0;
}

static inline bool is_power_of_two(uint64_t value)
{
	return value != 0 && (value & (value - 1)) == 0;
}

/*
 * Fetches a line that is to be written: without a copy of it left in any other cache, so that the store need not ask
 * again. Only a hint, of any address. (Compilers make an ordinary prefetch of __builtin_prefetch(p, 1) where the oldest
 * x86-64 processors shall do, which take this one as a no-op.)
 */
static inline void prefetch_write(const void *at)
{
#if defined(__x86_64__)
	__asm__ __volatile__("prefetchw (%0)" ::"r"(at));
#else
	__builtin_prefetch(at, 1);
#endif
}

/* For the inside of a loop that waits for another core: leaves the execution units to the sibling
 * thread. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield" ::: "memory");
#endif
}

#endif
