/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What bench_vm has found out: counters summed up, round-trip times sorted into buckets, one line
 * or one JSON object.
 */
#include <stdio.h>

#include "lib/clock.h"
#include "vm.h"

typedef unsigned long long ull;

void report_snapshot(struct snapshot *at)
{
	*at = (struct snapshot){.time = clock_now_ns()};
	for (unsigned int i = 0; i < vm_count; i++) {
		const struct counters *counters = &shared->vms[i].counters;

		at->vm_sent[i] = load_relaxed(&counters->sent);
		at->vm_delivered[i] = load_relaxed(&counters->delivered);
		at->sent += at->vm_sent[i];
		*(vms[i].slow ? &at->delivered_slow : &at->delivered) += at->vm_delivered[i];
		at->wrong += load_relaxed(&counters->wrong);
		at->disordered += load_relaxed(&counters->disordered);
		at->unanswered += load_relaxed(&counters->unanswered);
	}
}

void report_round_trip(struct vm *vm, uint64_t ns)
{
	unsigned int high = 63 - (unsigned int)__builtin_clzll(ns | 1 << BUCKET_BITS);
	unsigned int shift = high - BUCKET_BITS;

	if (!load_relaxed(&shared->measuring))
		return;
	vm->shared->histogram[(shift << BUCKET_BITS) + (ns >> shift)]++;
}

static double percentile(double part)
{
	uint64_t count = 0, seen = 0;

	for (unsigned int v = 0; v < vm_count; v++)
		for (unsigned int i = 0; i < BUCKETS; i++)
			count += shared->vms[v].histogram[i];
	for (unsigned int i = 0; i < BUCKETS; i++) {
		unsigned int shift = i >> BUCKET_BITS > 0 ? (i >> BUCKET_BITS) - 1 : 0;

		for (unsigned int v = 0; v < vm_count; v++)
			seen += shared->vms[v].histogram[i];
		if (count > 0 && (double)seen >= part * (double)count)
			return (double)((uint64_t)(i - (shift << BUCKET_BITS)) << shift);
	}
	return 0;
}

static void print_text(const struct snapshot *from, const struct snapshot *to, const struct snapshot *end,
		       uint64_t lost)
{
	double seconds = (double)(to->time - from->time) / 1e9;
	double packets = (double)(to->delivered - from->delivered);

	printf("%.3f Mpps, %.2f Gb/s delivered; lost %.2f %%; wrong %llu\n", packets / seconds / 1e6,
	       packets * opt.size * 8 / seconds / 1e9, end->sent ? 100.0 * (double)lost / (double)end->sent : 0,
	       (ull)end->wrong);
	if (opt.slow)
		printf("slow receivers: %.3f Mpps\n",
		       (double)(to->delivered_slow - from->delivered_slow) / seconds / 1e6);
	if (opt.pings)
		printf("round trip: median %.0f ns, p99 %.0f ns, p99.9 %.0f ns; unanswered %llu\n", percentile(0.5),
		       percentile(0.99), percentile(0.999), (ull)end->unanswered);
}

static void print_list(const char *name, const uint64_t *from, const uint64_t *to)
{
	printf("\"%s\": [", name);
	for (unsigned int i = 0; i < vm_count; i++)
		printf("%s%llu", i ? ", " : "", (ull)(to[i] - from[i]));
	printf("], ");
}

static void print_json(const struct snapshot *from, const struct snapshot *to, const struct snapshot *end,
		       uint64_t lost)
{
	uint64_t packets = to->delivered - from->delivered, kicks = 0;

	for (unsigned int i = 0; i < vm_count; i++)
		kicks += load_relaxed(&shared->vms[i].kicks);
	printf("{\"packets\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"start_ns\": %llu, "
	       "\"end_ns\": %llu, \"sent\": %llu, \"total_sent\": %llu, \"total_delivered\": %llu, "
	       "\"lost\": %llu, \"loss\": %.6f, \"wrong\": %llu, \"kicks\": %llu, ",
	       (ull)packets, (ull)packets * opt.size, (double)(to->time - from->time) / 1e9, (ull)from->time,
	       (ull)to->time, (ull)(to->sent - from->sent), (ull)end->sent, (ull)(end->delivered + end->delivered_slow),
	       (ull)lost, end->sent ? (double)lost / (double)end->sent : 0, (ull)end->wrong, (ull)kicks);
	print_list("vm_sent", from->vm_sent, to->vm_sent);
	print_list("vm_delivered", from->vm_delivered, to->vm_delivered);
	if (opt.slow)
		printf("\"slow_packets\": %llu, ", (ull)(to->delivered_slow - from->delivered_slow));
	if (opt.touch)
		printf("\"disordered\": %llu, ", (ull)end->disordered);
	if (opt.pings)
		printf("\"rtt_ns\": {\"median\": %.0f, \"p99\": %.0f, \"p99.9\": %.0f}, "
		       "\"unanswered\": %llu, ",
		       percentile(0.5), percentile(0.99), percentile(0.999), (ull)end->unanswered);
	printf("\"size\": %u, \"mode\": \"%s\", \"direction\": \"%s\", \"gso\": %s, \"vms\": %u, "
	       "\"ring\": %u, \"features\": \"0x%llx\"}\n",
	       opt.size, opt.irq ? "irq" : "poll", opt.both ? "both" : "one", opt.gso ? "true" : "false", vm_count,
	       opt.ring, (ull)shared->vms[0].features);
}

void report_print(const struct snapshot *from, const struct snapshot *to, const struct snapshot *end)
{
	uint64_t delivered = end->delivered + end->delivered_slow;
	uint64_t lost = end->sent > delivered ? end->sent - delivered : 0;

	(opt.json ? print_json : print_text)(from, to, end, lost);
}
