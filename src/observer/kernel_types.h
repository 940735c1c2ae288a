/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The few members of kernel structures that the BPF program reads. Only names and types count: libbpf puts in
 * the offsets of the kernel that it loads the program into, which therefore needs not be the one it was built
 * on. What has two names is called so by different kernels; who reads it asks which of them is there.
 */
#ifndef LASTHOP_OBSERVER_KERNEL_TYPES_H
#define LASTHOP_OBSERVER_KERNEL_TYPES_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct thread_info {
	unsigned int cpu;
};

struct sched_entity {
	struct cfs_rq *cfs_rq;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int __state;
	int on_cpu;
	unsigned int policy;
	struct sched_entity se;
	int pid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	char comm[16];
	void *bpf_storage; /* NULL: no map has anything for this task */
};

struct cfs_rq {
	unsigned int h_nr_queued;   /* 6.14 and later: tasks on the queue, those going to sleep included */
	unsigned int h_nr_runnable; /* 6.14 and later: without them */
	unsigned int h_nr_idle;     /* 6.14 and later: SCHED_IDLE tasks */
	struct rq *rq;
};

/* What follows the three underscores is not part of the name. */
struct cfs_rq___before_6_14 {
	unsigned int idle_h_nr_running;
};

struct rq {
	unsigned int nr_running;
	struct cfs_rq cfs;
};

struct bpf_iter__task {
	struct task_struct *task;
};

#pragma clang attribute pop

#endif
