/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The redirect program (af_xdp_prog.bpf.c) in the kernel and on a device, as long as this process holds it: it is
 * attached by a BPF link, which the kernel takes away with the process that has it open, however that ends.
 *
 * Set up by one thread that may use BPF and administer the device, in the device's network namespace; afterwards
 * nothing here needs a privilege, and counters may be read by any thread.
 */
#ifndef LASTHOP_DRIVER_XDP_PROG_H
#define LASTHOP_DRIVER_XDP_PROG_H

#include "driver/xdp_keep.h"

#include <net/if.h>

struct af_xdp_bpf;

enum xdp_mode {
	XDP_MODE_AUTO, /* native if the device's kernel driver can, else generic */
	XDP_MODE_NATIVE,
	XDP_MODE_GENERIC,
};

struct xdp_prog {
	struct af_xdp_bpf *bpf;
	int link_fd;
	enum xdp_mode mode; /* NATIVE or GENERIC once it is attached */
	char device[IFNAMSIZ];
	unsigned int ifindex;
};

/* Loads it. 0 or a negative errno, after a line that says what to do; nothing is left then. */
int xdp_prog_open(struct xdp_prog *prog, const char *device, unsigned int ifindex, const struct xdp_keep *keep)
	must_check;

/*
 * Attaches it. -EBUSY: somebody else's program is there, or our own one of another process; -EOPNOTSUPP: not in this
 * mode. A line in the log says what to do.
 */
int xdp_prog_attach(struct xdp_prog *prog, enum xdp_mode mode) must_check;

/* Frames of a queue go to this AF_XDP socket from now on. */
int xdp_prog_set_socket(struct xdp_prog *prog, unsigned int queue, int fd) must_check;

/* Of the program, to try it with. */
int xdp_prog_fd(const struct xdp_prog *prog);

/* Frames that stayed with the kernel by a rule, of all queues. */
uint64_t xdp_prog_kept(const struct xdp_prog *prog);

/* Detaches and unloads. Also of one that is all zero, or could not be opened. */
void xdp_prog_close(struct xdp_prog *prog);

#endif
