/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line of bench_vm, and what follows from it: who sends to whom.
 */
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm.h"

#define GSO_FROM 9000

struct options opt = {
	.size = 64,
	.ring = 256,
	.batch = BATCH_MAX,
	.seconds = 3,
	.warm_up = 0.5,
	.mergeable = true,
	.flows = 1,
};

static const char help[] = "usage: bench_vm --client|--server SOCKET SOCKET... [options]\n"
			   "\n"
			   "VMs that send to each other through a switch. They connect to the sockets (--client) or\n"
			   "listen there (--server). Instead of a socket:\n"
			   "  netns:PID             no VM, but a program that sends and receives by AF_PACKET on the\n"
			   "                        interface eth0 of that process's network namespace\n"
			   "  tap:PID:NAME          a VM without vhost: it reads and writes the TAP device NAME there\n"
			   "\n"
			   "What they send:\n"
			   "  --size N              bytes of a frame, 64 (60 to 65549); from 9000 on as one TCP "
			   "segment\n"
			   "  --gso                 as a TCP segment also if it is smaller\n"
			   "  --touch               write and read whole payloads\n"
			   "  --rate N              frames a second and sender, evenly; 0: nothing is sent\n"
			   "  --latency[=PAIRS]     so many pairs (default: all) exchange one frame at a time:\n"
			   "                        round-trip times; the other pairs send as they do without\n"
			   "  --flows N             each sender's frames belong to N flows in turn, 1\n"
			   "  --vary port|mac       ... that differ by UDP ports, or by both MAC addresses\n"
			   "Who sends to whom:\n"
			   "  --topology pairs|all-to-one|one-to-all\n"
			   "  --direction one|both  ... and back\n"
			   "  --idle N              the last N VMs are only there\n"
			   "  --slow N              the last N of the others do not take what they get\n"
			   "  --pause US            ... but every US microseconds\n"
			   "How they run:\n"
			   "  --mode poll|irq       VMs poll (one thread for all), or sleep (a thread each)\n"
			   "  --threads             polling VMs have a thread each\n"
			   "  --processes           each VM is a process\n"
			   "  --cpu N[,N...]        where the threads run\n"
			   "  --seconds S           measured interval, 3; --warm-up S before it, 0.5\n"
			   "  --json                one JSON object on standard output\n"
			   "Their rings:\n"
			   "  --ring N              descriptors of a ring, 256; --rx-ring N of the receive ring\n"
			   "  --batch N             frames given or taken at once, 1 to 32\n"
			   "  --rx-buffer N         bytes of a receive buffer\n"
			   "  --piece N             bytes that a descriptor covers at most\n"
			   "  --header-apart        the net header has a descriptor of its own\n"
			   "  --no-mergeable        receive buffers hold whole frames\n";
static const char help_packed[] = "  --packed              packed rings\n";

static void usage(FILE *to, int status)
{
	fputs(help, to);
	if (HAVE_PACKED)
		fputs(help_packed, to);
	exit(status);
}

static uint32_t number(const char *text, const char *what, unsigned long low, unsigned long high)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value < low || value > high)
		fail("--%s: %s is not a number from %lu to %lu", what, text, low, high);
	return (uint32_t)value;
}

static double duration(const char *text, const char *what)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= 0 && value <= 86400))
		fail("--%s: %s is no number of seconds", what, text);
	return value;
}

/* Which word of a NULL-terminated list. */
static int choice(const char *text, const char *what, const char *const *words)
{
	for (int i = 0; words[i]; i++)
		if (!strcmp(text, words[i]))
			return i;
	fail("--%s: %s is no choice; see --help", what, text);
}

static void parse_cpus(char *list)
{
	for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) {
		if (opt.cpu_count == VMS_MAX)
			fail("--cpu: too many");
		opt.cpus[opt.cpu_count++] = (int)number(word, "cpu", 0, CPU_SETSIZE - 1);
	}
}

static const struct option longs[] = {
	{"client", no_argument, NULL, 'c'},
	{"server", no_argument, NULL, 's'},
	{"size", required_argument, NULL, 'n'},
	{"gso", no_argument, NULL, 'g'},
	{"touch", no_argument, NULL, 'T'},
	{"rate", required_argument, NULL, 'R'},
	{"latency", optional_argument, NULL, 'l'},
	{"flows", required_argument, NULL, 'f'},
	{"vary", required_argument, NULL, 'v'},
	{"topology", required_argument, NULL, 'o'},
	{"direction", required_argument, NULL, 'd'},
	{"idle", required_argument, NULL, 'i'},
	{"slow", required_argument, NULL, 'L'},
	{"pause", required_argument, NULL, 'P'},
	{"mode", required_argument, NULL, 'm'},
	{"threads", no_argument, NULL, 't'},
	{"processes", no_argument, NULL, 'x'},
	{"cpu", required_argument, NULL, 'C'},
	{"seconds", required_argument, NULL, 'S'},
	{"warm-up", required_argument, NULL, 'w'},
	{"json", no_argument, NULL, 'j'},
	{"ring", required_argument, NULL, 'r'},
	{"rx-ring", required_argument, NULL, 'X'},
	{"batch", required_argument, NULL, 'b'},
	{"rx-buffer", required_argument, NULL, 'B'},
	{"piece", required_argument, NULL, 'p'},
	{"header-apart", no_argument, NULL, 'a'},
	{"no-mergeable", no_argument, NULL, 'M'},
	{"packed", no_argument, NULL, 'k'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

/* Options that say what is sent and by whom. Returns whether it was one. */
static bool parse_traffic(int which, const char *name, const char *arg)
{
	static const char *const topologies[] = {"pairs", "all-to-one", "one-to-all", NULL};
	static const char *const directions[] = {"one", "both", NULL};
	static const char *const varied[] = {"port", "mac", NULL};

	switch (which) {
	case 'n':
		opt.size = number(arg, name, HELLO_SIZE, 65549);
		return true;
	case 'g':
		opt.gso = true;
		return true;
	case 'T':
		opt.touch = true;
		return true;
	case 'R':
		opt.rate = number(arg, name, 0, 100000000);
		opt.paced = true;
		return true;
	case 'l':
		opt.pings = arg ? number(arg, name, 1, VMS_MAX / 2) : VMS_MAX / 2;
		return true;
	case 'f':
		opt.flows = number(arg, name, 1, 1 << 25);
		return true;
	case 'v':
		opt.vary = (enum vary)choice(arg, name, varied);
		return true;
	case 'o':
		opt.topology = (enum topology)choice(arg, name, topologies);
		return true;
	case 'd':
		opt.both = choice(arg, name, directions);
		return true;
	case 'i':
		opt.idle = number(arg, name, 0, VMS_MAX);
		return true;
	case 'L':
		opt.slow = number(arg, name, 0, VMS_MAX);
		return true;
	case 'P':
		opt.pause_us = number(arg, name, 0, 1000000);
		return true;
	default:
		return false;
	}
}

/* Options that say how a VM and its rings are made. Returns whether it was one. */
static bool parse_vm(int which, const char *name, char *arg)
{
	static const char *const modes[] = {"poll", "irq", NULL};

	switch (which) {
	case 'm':
		opt.irq = choice(arg, name, modes);
		return true;
	case 't':
		opt.threads = true;
		return true;
	case 'x':
		opt.processes = true;
		return true;
	case 'C':
		parse_cpus(arg);
		return true;
	case 'r':
		opt.ring = number(arg, name, 1, VRING_SIZE_MAX);
		return true;
	case 'X':
		opt.rx_ring = number(arg, name, 1, VRING_SIZE_MAX);
		return true;
	case 'b':
		opt.batch = number(arg, name, 1, BATCH_MAX);
		return true;
	case 'B':
		opt.rx_buffer = number(arg, name, 64, 1 << 20);
		return true;
	case 'p':
		opt.piece = number(arg, name, 1, 1 << 20);
		return true;
	case 'a':
		opt.header_apart = true;
		return true;
	case 'M':
		opt.mergeable = false;
		return true;
	case 'k':
		if (!HAVE_PACKED)
			fail("--packed: this front end has split rings only");
		opt.packed = true;
		return true;
	default:
		return false;
	}
}

/* Whom a VM sends to: VMs first to first + count. */
static void connect_vm(struct vm *vm, unsigned int active)
{
	bool hub = vm->number == 0;

	vm->idle = vm->number >= active;
	if (vm->idle)
		return;
	vm->slow = vm->number >= active - opt.slow;
	vm->peer_count = 1;
	if (opt.topology == TOPOLOGY_PAIRS) {
		vm->first_peer = vm->number ^ 1;
		vm->pings = vm->number / 2 < opt.pings;
		vm->sender = vm->number % 2 == 0 || (opt.both && !vm->pings);
		return;
	}
	vm->first_peer = hub;
	if (hub)
		vm->peer_count = active - 1;
	vm->sender = opt.both || hub == (opt.topology == TOPOLOGY_ONE_TO_ALL);
}

static void check(void)
{
	unsigned int active = vm_count - opt.idle;
	bool pairs = opt.topology == TOPOLOGY_PAIRS;

	if (opt.idle > vm_count || (active > 0 && (active < 2 || (pairs && active % 2))))
		fail("%u sockets are too few, or not in pairs, for %u idle VMs", vm_count, opt.idle);
	if (opt.slow > active || (opt.pings && !pairs))
		fail("--slow counts VMs that receive, --latency needs pairs");
	if (opt.flows > 1 && active > 2)
		fail("--flows needs two VMs");
	if (opt.rx_ring == 0)
		opt.rx_ring = opt.ring;
	opt.gso |= opt.size >= GSO_FROM;
	if (opt.rx_buffer == 0) {
		uint32_t whole = opt.size + VIRTIO_NET_HDR_LEN;

		/* Linux guests have mergeable buffers of up to a page. */
		opt.rx_buffer = opt.gso && opt.mergeable ? 4096 : max(whole, 2048u);
	}
	for (unsigned int i = 0; i < vm_count; i++) {
		vms[i].number = i;
		connect_vm(&vms[i], active);
	}
}

static void set_path(struct vm *vm, const char *path)
{
	vm->path = path;
	vm->io = &io_vhost;
	if (!strncmp(path, "netns:", 6))
		vm->io = &io_socket;
	else if (!strncmp(path, "tap:", 4))
		vm->io = &io_tap;
}

void options_parse(int argc, char **argv)
{
	int which, role = 0, at = 0;

	while ((which = getopt_long(argc, argv, "h", longs, &at)) != -1) {
		const char *name = which == '?' ? "" : longs[at].name;

		if (parse_traffic(which, name, optarg) || parse_vm(which, name, optarg))
			continue;
		switch (which) {
		case 'c':
		case 's':
			role = which;
			opt.server = which == 's';
			break;
		case 'S':
			opt.seconds = duration(optarg, name);
			break;
		case 'w':
			opt.warm_up = duration(optarg, name);
			break;
		case 'j':
			opt.json = true;
			break;
		case 'h':
			usage(stdout, 0);
			break;
		default:
			usage(stderr, 2);
		}
	}
	vm_count = (unsigned int)(argc - optind);
	if (!role || vm_count < 1 || vm_count > VMS_MAX)
		usage(stderr, 2);
	for (unsigned int i = 0; i < vm_count; i++)
		set_path(&vms[i], argv[optind + (int)i]);
	check();
}
