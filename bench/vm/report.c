/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What bench_vm has found out: counters summed up, round-trip times sorted into buckets, one line
 * or one JSON object.
 */
#include <stdio.h>

#include "vm.h"

struct counters report_total(void)
{
	struct counters sum = {0};

	for (unsigned int i = 0; i < vm_count; i++) {
		sum.sent += load_relaxed(&vms[i].counters.sent);
		sum.delivered += load_relaxed(&vms[i].counters.delivered);
		sum.wrong += load_relaxed(&vms[i].counters.wrong);
	}
	return sum;
}

void report_round_trip(struct vm *vm, uint64_t ns)
{
	unsigned int high = 63 - (unsigned int)__builtin_clzll(ns | 1 << BUCKET_BITS);
	unsigned int shift = high - BUCKET_BITS;

	vm->histogram[(shift << BUCKET_BITS) + (ns >> shift)]++;
}

static double percentile(double part)
{
	uint64_t count = 0, seen = 0;

	for (unsigned int v = 0; v < vm_count; v++)
		for (unsigned int i = 0; i < BUCKETS; i++)
			count += vms[v].histogram[i];
	for (unsigned int i = 0; i < BUCKETS; i++) {
		unsigned int shift = i >> BUCKET_BITS > 0 ? (i >> BUCKET_BITS) - 1 : 0;

		for (unsigned int v = 0; v < vm_count; v++)
			seen += vms[v].histogram[i];
		if (count > 0 && (double)seen >= part * (double)count)
			return (double)((uint64_t)(i - (shift << BUCKET_BITS)) << shift);
	}
	return 0;
}

void report_print(const struct counters *in, const struct counters *all, uint64_t start,
		  uint64_t end)
{
	double seconds = (double)(end - start) / 1e9;
	uint64_t lost = all->sent > all->delivered ? all->sent - all->delivered : 0;
	uint64_t disordered = 0, kicks = 0;

	for (unsigned int i = 0; i < vm_count; i++) {
		disordered += vms[i].disordered;
		kicks += netfront_tx(vms[i].nf, 0)->kicks + netfront_rx(vms[i].nf, 0)->kicks;
	}
	if (!opt.json) {
		printf("%.3f Mpps, %.2f Gb/s delivered; lost %.2f %%; wrong %llu; kicks %llu\n",
		       (double)in->delivered / seconds / 1e6,
		       (double)in->delivered * opt.size * 8 / seconds / 1e9,
		       all->sent ? 100.0 * (double)lost / (double)all->sent : 0,
		       (unsigned long long)all->wrong, (unsigned long long)kicks);
		if (opt.latency)
			printf("round trip: median %.0f ns, p99 %.0f ns, p99.9 %.0f ns\n",
			       percentile(0.5), percentile(0.99), percentile(0.999));
		return;
	}
	printf("{\"packets\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"start_ns\": %llu, "
	       "\"end_ns\": %llu, \"sent\": %llu, \"total_sent\": %llu, \"total_delivered\": %llu, "
	       "\"lost\": %llu, \"loss\": %.6f, \"wrong\": %llu, \"kicks\": %llu, ",
	       (unsigned long long)in->delivered, (unsigned long long)in->delivered * opt.size,
	       seconds, (unsigned long long)start, (unsigned long long)end,
	       (unsigned long long)in->sent, (unsigned long long)all->sent,
	       (unsigned long long)all->delivered, (unsigned long long)lost,
	       all->sent ? (double)lost / (double)all->sent : 0, (unsigned long long)all->wrong,
	       (unsigned long long)kicks);
	if (opt.touch)
		printf("\"disordered\": %llu, ", (unsigned long long)disordered);
	if (opt.latency)
		printf("\"rtt_ns\": {\"median\": %.0f, \"p99\": %.0f, \"p99.9\": %.0f}, ",
		       percentile(0.5), percentile(0.99), percentile(0.999));
	printf("\"size\": %u, \"mode\": \"%s\", \"direction\": \"%s\", \"gso\": %s, \"vms\": %u, "
	       "\"ring\": %u, \"features\": \"0x%llx\"}\n",
	       opt.size, opt.irq ? "irq" : "poll", opt.both ? "both" : "one",
	       opt.gso ? "true" : "false", vm_count, opt.ring,
	       (unsigned long long)vms[0].nf->features);
}
