/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loads the redirect program and puts it on a device.
 *
 * What a driver that was killed leaves goes by itself, but the kernel may take a moment for it, and the next driver is
 * there at once: a program of our name is waited for a little before it counts as another driver's.
 *
 * @syscalls driver: close munmap
 */
#include "driver/xdp_prog.h"

#include "driver/af_xdp_prog.skel.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM_NAME "lasthop_xdp"
#define LEAVES_MS    1000 /* what a dead driver's program may take to go */
#define LOOK_MS      10

static int printf_like(2, 0) prog_print(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level;
	log_write_va(LOG_DEBUG, format, arguments);
	return 0;
}

int xdp_prog_open(struct xdp_prog *prog, const char *device, unsigned int ifindex, const struct xdp_keep *keep)
{
	int error;

	*prog = (struct xdp_prog){.link_fd = -1, .ifindex = ifindex};
	snprintf(prog->device, sizeof(prog->device), "%s", device);
	libbpf_set_print(prog_print);
	prog->bpf = af_xdp_bpf__open();
	if (prog->bpf == NULL) {
		error = -errno;
		log_error("%s: the XDP program cannot be read: %s", device, strerror(-error));
		return error;
	}
	memcpy(prog->bpf->rodata->keep_rules, keep->rules, sizeof(keep->rules));
	prog->bpf->rodata->keep_count = keep->count;
	error = af_xdp_bpf__load(prog->bpf);
	if (error == 0)
		return 0;
	if (error == -EPERM || error == -EACCES)
		log_error("%s: the kernel does not permit to load an XDP program: start the driver as root, or with "
			  "CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW",
			  device);
	else
		log_error("%s: the kernel does not take the XDP program: %s (--log-level 3 shows what it said)", device,
			  strerror(-error));
	xdp_prog_close(prog);
	return error;
}

/* Who is attached already. *ours: it has our name. Returns its id, 0: nobody. */
static uint32_t prog_attached(const struct xdp_prog *prog, char name[BPF_OBJ_NAME_LEN], bool *ours)
{
	struct bpf_prog_info info = {0};
	uint32_t id = 0, size = sizeof(info);
	int fd;

	*ours = false;
	snprintf(name, BPF_OBJ_NAME_LEN, "unknown");
	if (bpf_xdp_query_id((int)prog->ifindex, 0, &id) != 0 || id == 0)
		return 0;
	fd = bpf_prog_get_fd_by_id(id);
	if (fd < 0)
		return id;
	if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0)
		snprintf(name, BPF_OBJ_NAME_LEN, "%s", info.name);
	close(fd);
	*ours = strcmp(name, PROGRAM_NAME) == 0;
	return id;
}

static int prog_link(struct xdp_prog *prog, uint32_t flags)
{
	struct bpf_link_create_opts opts = {.sz = sizeof(opts), .flags = flags};

	prog->link_fd = bpf_link_create(xdp_prog_fd(prog), (int)prog->ifindex, BPF_XDP, &opts);
	return prog->link_fd < 0 ? -errno : 0;
}

/* As prog_link, but lets a dead driver's program go. -EBUSY was logged. */
static int prog_link_patiently(struct xdp_prog *prog, uint32_t flags)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * NS_PER_MS};
	uint64_t deadline = clock_now_ns() + LEAVES_MS * NS_PER_MS;
	char name[BPF_OBJ_NAME_LEN];
	uint32_t id;
	bool ours;

	for (;;) {
		int error = prog_link(prog, flags);

		if (error != -EBUSY && error != -EEXIST)
			return error;
		id = prog_attached(prog, name, &ours);
		if (id == 0) {
			/* It went between the two calls. */
			if (clock_now_ns() > deadline)
				return error;
			continue;
		}
		if (!ours) {
			log_error("%s: another XDP program is attached (%s, id %u) and stays: detach it (ip link set "
				  "dev %s "
				  "xdp off, or end who attached it), or use another device",
				  prog->device, name, id, prog->device);
			return -EBUSY;
		}
		if (clock_now_ns() > deadline) {
			log_error("%s: another lasthop-driver has this device (XDP program id %u): end that one first",
				  prog->device, id);
			return -EBUSY;
		}
		nanosleep(&pause, NULL);
	}
}

int xdp_prog_attach(struct xdp_prog *prog, enum xdp_mode mode)
{
	int error = 0;

	if (mode != XDP_MODE_GENERIC) {
		prog->mode = XDP_MODE_NATIVE;
		error = prog_link_patiently(prog, XDP_FLAGS_DRV_MODE);
		if (error == 0 || error == -EBUSY)
			return error;
		log_write(mode == XDP_MODE_AUTO ? LOG_INFO : LOG_ERROR, "%s: no native XDP: %s%s", prog->device,
			  strerror(-error),
			  mode == XDP_MODE_AUTO ? "; generic XDP is tried"
						: " (its driver cannot, or not with this MTU or so few queues); leave "
						  "out xdp-mode=native to have generic XDP");
		if (mode == XDP_MODE_NATIVE)
			return error;
	}
	prog->mode = XDP_MODE_GENERIC;
	error = prog_link_patiently(prog, XDP_FLAGS_SKB_MODE);
	if (error != 0 && error != -EBUSY)
		log_error("%s: no XDP: %s", prog->device, strerror(-error));
	return error;
}

int xdp_prog_set_socket(struct xdp_prog *prog, unsigned int queue, int fd)
{
	return bpf_map_update_elem(bpf_map__fd(prog->bpf->maps.sockets), &queue, &fd, BPF_ANY) == 0 ? 0 : -errno;
}

int xdp_prog_fd(const struct xdp_prog *prog)
{
	return bpf_program__fd(prog->bpf->progs.lasthop_xdp);
}

uint64_t xdp_prog_kept(const struct xdp_prog *prog)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(prog->bpf->bss->kept); i++)
		sum += load_relaxed(&prog->bpf->bss->kept[i]);
	return sum;
}

void xdp_prog_close(struct xdp_prog *prog)
{
	if (prog->bpf == NULL)
		return;
	if (prog->link_fd >= 0)
		close(prog->link_fd);
	af_xdp_bpf__destroy(prog->bpf);
	*prog = (struct xdp_prog){.link_fd = -1};
}
