/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of lasthop-observer that runs in the kernel, at every context switch and wake-up.
 *
 * Who is watched is known by a small piece of storage on each task that belongs to a watched process, a member:
 * looking for it costs the tasks of others one load and a comparison. Members are made when a watch begins, for the
 * tasks that are there (enrol), and when a member starts a thread or a process (on_fork); never under a lock
 * of the scheduler, where memory must not be allocated. They go with their task.
 *
 * A member remembers as what its task is counted in its slot, so that the counts are always the sum over members,
 * and an event that was missed is made good by the next: there are kernels (6.18 for one) that leave out a switch in a
 * thousand, to their own tracing as well. The scheduler serializes the events of one task;
 * enrol() alone is concurrent with them, and only ever replaces "not counted".
 *
 * A watch ends by taking its number from the slot: members that carry it count nowhere from then on. The helper
 * waits until no program that may have seen the number still runs before it gives the slot to another watch.
 */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <stdbool.h>

#include "observer/kernel_types.h"
#include "proto/observer_map.h"

#define SCHED_IDLE 5

/* Which slot a watch number is for: struct observer_slot.watch. */
#define WATCH_SLOT(watch) ((watch) % OBSERVER_SLOTS)

/* As what a member is counted: nothing, or a state and perhaps MEMBER_VCPU. */
#define MEMBER_NOT_COUNTED 0u
#define MEMBER_BLOCKED     1u
#define MEMBER_RUNNABLE    2u
#define MEMBER_RUNNING     3u
#define MEMBER_STATE       3u
#define MEMBER_VCPU        4u

struct member {
	__u32 watch;
	__u32 counted;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct member);
} members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, OBSERVER_SLOTS);
	__type(key, __u32);
	__type(value, struct observer_slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, OBSERVER_CPUS);
	__type(key, __u32);
	__type(value, struct observer_cpu);
} cpus SEC(".maps");

/*
 * Never looked at. When user space changes a map of maps, the kernel waits until all programs that may have seen the
 * old one have ended, which is the one way to wait for that on every kernel, isolated CPUs or not.
 */
struct grace_member {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} grace_member SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct grace_member);
} grace SEC(".maps");

/* Between the helper and enrol(), which the helper runs one at a time. */
__u32 enrol_watch;
__u32 enrol_taken_from; /* the number of another watch that lost members to this one; 0: none did */

/* The slot that the watch is going on in, or NULL if it is over. */
static __always_inline struct observer_slot *watch_slot(__u32 watch)
{
	__u32 index = WATCH_SLOT(watch);
	struct observer_slot *slot = bpf_map_lookup_elem(&slots, &index);

	return slot && watch != 0 && *(volatile __u32 *)&slot->watch == watch ? slot : NULL;
}

/* One character at a time: the verifier lets no load reach over more than one element of an array. */
static __always_inline bool comm_is(const struct task_struct *task, int at, char a, char b, char c, char d)
{
	return task->comm[at] == a && task->comm[at + 1] == b && task->comm[at + 2] == c && task->comm[at + 3] == d;
}

/*
 * QEMU says "CPU 0/KVM" or "CPU 0/TCG" (with -name debug-threads=on, which libvirt gives it), cloud-hypervisor
 * "vcpu0", crosvm "crosvm_vcpu0". A VMM that lies about it only confuses the notifications of its own guest.
 */
static __always_inline bool is_vcpu(const struct task_struct *task)
{
	return comm_is(task, 0, 'C', 'P', 'U', ' ') || comm_is(task, 0, 'v', 'c', 'p', 'u') ||
	       comm_is(task, 7, 'v', 'c', 'p', 'u');
}

static __always_inline __u64 count_of(__u32 counted)
{
	__u64 one;

	if ((counted & MEMBER_STATE) == MEMBER_RUNNING)
		one = 1;
	else if ((counted & MEMBER_STATE) == MEMBER_RUNNABLE)
		one = 1ull << OBSERVER_RUNNABLE_SHIFT;
	else
		return 0;
	return counted & MEMBER_VCPU ? one << OBSERVER_VCPU_SHIFT : one;
}

static __always_inline __u32 as_counted(const struct task_struct *task, struct observer_slot *slot, __u32 state)
{
	if (!is_vcpu(task))
		return state;
	if (!slot->vcpus)
		slot->vcpus = 1;
	return state | MEMBER_VCPU;
}

static __always_inline void count(struct observer_slot *slot, __u32 before, __u32 after, __u32 cpu)
{
	__u64 change = count_of(after) - count_of(before);

	if (change)
		__sync_fetch_and_add(&slot->counts, change);
	if ((after & MEMBER_STATE) != MEMBER_BLOCKED && (after & MEMBER_VCPU || !slot->vcpus) && slot->cpu != cpu)
		slot->cpu = cpu;
}

/* Most tasks are nobody's: a look at them saves the call. */
static __always_inline struct member *find_member(struct task_struct *task)
{
	return task->bpf_storage ? bpf_task_storage_get(&members, task, NULL, 0) : NULL;
}

static __always_inline void member_is(struct task_struct *task, __u32 state, __u32 cpu)
{
	struct member *member = find_member(task);
	struct observer_slot *slot;
	__u32 before, after;

	if (!member)
		return;
	slot = watch_slot(member->watch);
	if (!slot)
		return;
	after = as_counted(task, slot, state);
	before = __sync_lock_test_and_set(&member->counted, after);
	count(slot, before, after, cpu);
}

/*
 * Whether a task other than `running` wants the CPU that we are on, SCHED_IDLE ones left out. The way to the run
 * queue through the task is one that every kernel with fair group scheduling has, without symbols of variables.
 */
static __always_inline bool is_wanted(const struct task_struct *running, bool yields)
{
	const struct rq *rq;
	__u32 others;

	if (!bpf_core_field_exists(running->se.cfs_rq))
		return false;
	rq = running->se.cfs_rq->rq;
	others = rq->nr_running - 1;
	if (bpf_core_field_exists(rq->cfs.h_nr_runnable)) {
		others -= rq->cfs.h_nr_queued - rq->cfs.h_nr_runnable;
		others -= rq->cfs.h_nr_idle - yields;
	} else {
		const struct cfs_rq___before_6_14 *cfs = (const void *)&rq->cfs;

		others -= cfs->idle_h_nr_running - yields;
	}
	return (__s32)others > 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempted, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	__u32 index = bpf_get_smp_processor_id();
	struct observer_cpu *cpu = bpf_map_lookup_elem(&cpus, &index);
	bool yields = next->policy == SCHED_IDLE;
	__u64 state = next->pid == 0 ? OBSERVER_CPU_IDLE : yields ? OBSERVER_CPU_YIELDING : OBSERVER_CPU_BUSY;

	if (cpu) {
		*(volatile __u64 *)&cpu->running = state << OBSERVER_CPU_STATE_SHIFT | (__u32)next->pid;
		cpu->wanted = state != OBSERVER_CPU_IDLE && is_wanted(next, yields);
		cpu->switches++;
		if (state == OBSERVER_CPU_IDLE)
			cpu->idles++;
	}
	member_is(prev, preempted || prev_state == 0 ? MEMBER_RUNNABLE : MEMBER_BLOCKED, index);
	member_is(next, MEMBER_RUNNING, index);
	return 0;
}

/* Also comes for a task that was about to block and still runs: it stays what it is. */
SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	struct member *member = find_member(task);
	struct observer_slot *slot;
	struct observer_cpu *cpu;
	__u32 index, before, after;

	if (!member)
		return 0;
	before = member->counted;
	slot = watch_slot(member->watch);
	if (!slot || (before & MEMBER_STATE) > MEMBER_BLOCKED)
		return 0;
	index = task->thread_info.cpu;
	after = as_counted(task, slot, MEMBER_RUNNABLE);
	before = __sync_lock_test_and_set(&member->counted, after);
	count(slot, before, after, index);
	cpu = bpf_map_lookup_elem(&cpus, &index);
	if (cpu)
		cpu->wanted = 1;
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct member *member = find_member(parent);
	struct member inherited = {.counted = MEMBER_NOT_COUNTED};

	if (!member || !watch_slot(member->watch))
		return 0;
	inherited.watch = member->watch;
	bpf_task_storage_get(&members, child, &inherited, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return 0;
}

/* What the helper asks of control_slot(). */
struct control {
	__u32 slot;
	__u32 watch; /* 0: end the one that is going on */
};

/* The tables are closed to user space, so that no holder of a descriptor can write them. */
SEC("syscall")
int control_slot(struct control *control)
{
	__u32 index = control->slot;
	struct observer_slot *slot = bpf_map_lookup_elem(&slots, &index);

	if (!slot)
		return -1;
	slot->vcpus = 0;
	slot->cpu = 0;
	*(volatile __u64 *)&slot->counts = 0;
	*(volatile __u32 *)&slot->watch = control->watch;
	return 0;
}

/*
 * Whether the task belongs to the process whose leader the helper has given the number of the watch, or to one that
 * was started by it and is not watched for itself.
 */
static __always_inline bool is_wanted_member(struct task_struct *task, __u32 watch)
{
	struct task_struct *leader = task->group_leader;
	struct member *member;

	if (!leader)
		return false;
	member = bpf_task_storage_get(&members, leader, NULL, 0);
	if (member && member->watch == watch)
		return true;
	if (member && watch_slot(member->watch))
		return false;
	leader = leader->real_parent;
	if (leader)
		leader = leader->group_leader;
	if (!leader)
		return false;
	member = bpf_task_storage_get(&members, leader, NULL, 0);
	return member && member->watch == watch;
}

/* For every task of the host, one after the other. */
SEC("iter/task")
int enrol(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u32 watch = enrol_watch;
	struct observer_slot *slot = watch_slot(watch);
	struct member *member;
	__u32 state;

	if (!task || !slot || !is_wanted_member(task, watch))
		return 0;
	member = bpf_task_storage_get(&members, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!member)
		return 0;
	if (member->watch != watch) {
		if (watch_slot(member->watch))
			enrol_taken_from = member->watch;
		*(volatile __u32 *)&member->counted = MEMBER_NOT_COUNTED;
		*(volatile __u32 *)&member->watch = watch;
	}
	if (task->on_cpu)
		state = MEMBER_RUNNING;
	else
		state = task->__state == 0 ? MEMBER_RUNNABLE : MEMBER_BLOCKED;
	state = as_counted(task, slot, state);
	if (__sync_val_compare_and_swap(&member->counted, MEMBER_NOT_COUNTED, state) == MEMBER_NOT_COUNTED)
		count(slot, MEMBER_NOT_COUNTED, state, task->thread_info.cpu);
	return 0;
}

/* Ours is the BSD licence. The kernel asks whether it is compatible with its own and knows it by this name only. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
