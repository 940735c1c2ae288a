/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loads observer.bpf.c, closes its tables to user space, and begins and ends watches in them.
 *
 * A watch begins in four steps: if the slot's last one may still be known to a program on some CPU, wait for that to
 * end; open the slot under a new number; give the number to the process's leader; let enrol() give it to the rest.
 * A process is named by a pidfd throughout, so neither pid namespaces nor ids that come round can confuse it.
 *
 * @syscalls observer: bpf read close munmap
 */
#include "observer/sched_tables.h"

#include "lib/log.h"
#include "observer/observer.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Different numbers of watches that a slot can have, one after the other. */
#define WATCHES_MAX (UINT32_MAX / OBSERVER_SLOTS)

/* As in observer.bpf.c. */
struct tables_control {
	uint32_t slot;
	uint32_t watch;
};

struct tables_member {
	uint32_t watch;
	uint32_t counted;
};

static int printf_like(2, 0) tables_print(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level;
	log_write_va(LOG_DEBUG, format, arguments);
	return 0;
}

static int tables_refused(const char *what, int error)
{
	const char *advice = "--log-level 3 shows what the kernel said";

	if (error == -EPERM || error == -EACCES)
		advice = "it takes root, or CAP_BPF and CAP_PERFMON";
	else if (error == -ENOSYS || error == -ESRCH || error == -ENOENT)
		advice = "it takes Linux 6.1 with CONFIG_BPF_SYSCALL and CONFIG_DEBUG_INFO_BTF";
	log_warn("VM states are not known: BPF: %s: %s (%s); workers go by what rings tell", what, strerror(-error),
		 advice);
	return error;
}

/*
 * A CPU is unknown until it switches for the first time, which an idle one may not do for long: we go and make it.
 * Those that we may not use keep their secret until then.
 */
static void tables_visit_cpus(void)
{
	cpu_set_t ours, one;

	if (sched_getaffinity(0, sizeof(ours), &ours) < 0)
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &ours))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
	}
	sched_setaffinity(0, sizeof(ours), &ours);
}

int sched_tables_open(struct sched_tables *tables)
{
	int error;

	memset(tables, 0, sizeof(*tables));
	libbpf_set_print(tables_print);
	tables->bpf = observer_bpf__open();
	if (tables->bpf == NULL)
		return tables_refused("object file", -errno);
	error = observer_bpf__load(tables->bpf);
	if (error != 0) {
		tables_refused("loading", error);
	} else if ((error = observer_bpf__attach(tables->bpf)) != 0) {
		tables_refused("attaching", error);
	} else if (bpf_map_freeze(sched_tables_slots_fd(tables)) < 0 ||
		   bpf_map_freeze(sched_tables_cpus_fd(tables)) < 0) {
		error = tables_refused("closing the tables", -errno);
	}
	if (error != 0) {
		sched_tables_close(tables);
		return error;
	}
	tables_visit_cpus();
	return 0;
}

void sched_tables_close(struct sched_tables *tables)
{
	observer_bpf__destroy(tables->bpf);
	tables->bpf = NULL;
}

int sched_tables_slots_fd(const struct sched_tables *tables)
{
	return bpf_map__fd(tables->bpf->maps.slots);
}

int sched_tables_cpus_fd(const struct sched_tables *tables)
{
	return bpf_map__fd(tables->bpf->maps.cpus);
}

/* Returns when no program that has begun before still runs. */
static int tables_wait_for_programs(struct sched_tables *tables)
{
	uint32_t key = 0;
	int inner = bpf_map__fd(tables->bpf->maps.grace_member);

	if (bpf_map_update_elem(bpf_map__fd(tables->bpf->maps.grace), &key, &inner, BPF_ANY) < 0)
		return -errno;
	memset(tables->lingers, 0, sizeof(tables->lingers));
	return 0;
}

static int tables_control(struct sched_tables *tables, uint32_t slot, uint32_t watch)
{
	struct tables_control control = {.slot = slot, .watch = watch};
	struct bpf_test_run_opts run = {.sz = sizeof(run), .ctx_in = &control, .ctx_size_in = sizeof(control)};

	if (bpf_prog_test_run_opts(bpf_program__fd(tables->bpf->progs.control_slot), &run) < 0)
		return -errno;
	return run.retval == 0 ? 0 : -EINVAL;
}

/* Runs enrol() over all tasks. */
static int tables_enrol(struct sched_tables *tables, uint32_t watch)
{
	char nothing[64];
	ssize_t n;
	int fd;

	tables->bpf->bss->enrol_watch = watch;
	tables->bpf->bss->enrol_taken_from = 0;
	fd = bpf_iter_create(bpf_link__fd(tables->bpf->links.enrol));
	if (fd < 0)
		return -errno;
	do {
		n = read(fd, nothing, sizeof(nothing));
	} while (n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN)));
	n = n < 0 ? -errno : 0;
	close(fd);
	return (int)n;
}

/* Makes the process's leader the first member. Returns the watch that it was a member of until now, 0: of none. */
static int tables_lead(struct sched_tables *tables, uint32_t watch, int pidfd, uint32_t *taken_from)
{
	int members = bpf_map__fd(tables->bpf->maps.members);
	struct tables_member leader;

	*taken_from = bpf_map_lookup_elem(members, &pidfd, &leader) < 0 ? 0 : leader.watch;
	leader = (struct tables_member){.watch = watch, .counted = 0};
	if (bpf_map_update_elem(members, &pidfd, &leader, BPF_ANY) < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	return 0;
}

/* Of a watch that is going on; otherwise -1. */
static int tables_slot_of(const struct sched_tables *tables, uint32_t watch)
{
	uint32_t slot = watch % OBSERVER_SLOTS;

	return watch != 0 && tables->watch[slot] == watch ? (int)slot : -1;
}

int sched_tables_begin(struct sched_tables *tables, uint32_t slot, int pidfd, int *robbed)
{
	/* What is left of it after division by the number of slots is the slot; 0 is nobody's. */
	uint32_t watch = (tables->begun[slot]++ % WATCHES_MAX + 1) * OBSERVER_SLOTS + slot;
	uint32_t taken_from = 0;
	int error = 0;

	*robbed = -1;
	if (tables->lingers[slot])
		error = tables_wait_for_programs(tables);
	if (error == 0)
		error = tables_control(tables, slot, watch);
	if (error != 0)
		return error;
	error = tables_lead(tables, watch, pidfd, &taken_from);
	if (error == 0)
		error = tables_enrol(tables, watch);
	if (error != 0) {
		sched_tables_end(tables, slot);
		return error;
	}
	tables->watch[slot] = watch;
	*robbed = tables_slot_of(tables, taken_from);
	if (*robbed < 0)
		*robbed = tables_slot_of(tables, tables->bpf->bss->enrol_taken_from);
	return 0;
}

void sched_tables_end(struct sched_tables *tables, uint32_t slot)
{
	int error = tables_control(tables, slot, 0);

	if (error != 0)
		log_warn("slot %u could not be cleared: %s", slot, strerror(-error));
	tables->watch[slot] = 0;
	tables->lingers[slot] = true;
}
