/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line of bench_vm.
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
};

static const char help[] =
	"usage: bench_vm --client|--server SOCKET SOCKET... [options]\n"
	"\n"
	"VMs that send to each other through a switch, two sockets a pair of VMs. They connect\n"
	"to the sockets (--client) or listen there (--server).\n"
	"\n"
	"  --size N              bytes of a frame, 64 (60 to 65549); from 9000 on as one TCP "
	"segment\n"
	"  --gso                 as a TCP segment also if it is smaller\n"
	"  --mode poll|irq       VMs poll (one thread for all), or sleep (a thread each)\n"
	"  --threads             polling VMs have a thread each\n"
	"  --direction one|both  who sends\n"
	"  --latency             one frame at a time, to and fro: round-trip times\n"
	"  --touch               write and read whole payloads\n"
	"  --seconds S           measured interval, 3; --warm-up S before it, 0.5\n"
	"  --ring N              descriptors of a ring, 256\n"
	"  --batch N             frames given or taken at once, 1 to 32\n"
	"  --rx-buffer N         bytes of a receive buffer\n"
	"  --piece N             bytes that a descriptor covers at most\n"
	"  --header-apart        the net header has a descriptor of its own\n"
	"  --no-mergeable        receive buffers hold whole frames\n"
	"  --cpu N[,N...]        where the threads run\n"
	"  --json                one JSON object on standard output\n";

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

static bool choice(const char *text, const char *what, const char *no, const char *yes)
{
	if (strcmp(text, no) && strcmp(text, yes))
		fail("--%s: %s or %s", what, no, yes);
	return !strcmp(text, yes);
}

static void parse_cpus(char *list)
{
	for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) {
		if (opt.cpu_count == VMS_MAX)
			fail("--cpu: too many");
		opt.cpus[opt.cpu_count++] = (int)number(word, "cpu", 0, CPU_SETSIZE - 1);
	}
}

void options_parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"client", no_argument, NULL, 'c'},
		{"server", no_argument, NULL, 's'},
		{"size", required_argument, NULL, 'n'},
		{"gso", no_argument, NULL, 'g'},
		{"mode", required_argument, NULL, 'm'},
		{"threads", no_argument, NULL, 't'},
		{"direction", required_argument, NULL, 'd'},
		{"latency", no_argument, NULL, 'l'},
		{"touch", no_argument, NULL, 'T'},
		{"seconds", required_argument, NULL, 'S'},
		{"warm-up", required_argument, NULL, 'w'},
		{"ring", required_argument, NULL, 'r'},
		{"batch", required_argument, NULL, 'b'},
		{"rx-buffer", required_argument, NULL, 'B'},
		{"piece", required_argument, NULL, 'p'},
		{"header-apart", no_argument, NULL, 'a'},
		{"no-mergeable", no_argument, NULL, 'M'},
		{"cpu", required_argument, NULL, 'C'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int which, role = 0, at = 0;

	while ((which = getopt_long(argc, argv, "h", longs, &at)) != -1) {
		const char *name = which == '?' ? "" : longs[at].name;

		switch (which) {
		case 'c':
		case 's':
			role = which;
			opt.server = which == 's';
			break;
		case 'n':
			opt.size = number(optarg, name, HELLO_SIZE, 65549);
			break;
		case 'g':
			opt.gso = true;
			break;
		case 'm':
			opt.irq = choice(optarg, name, "poll", "irq");
			break;
		case 't':
			opt.threads = true;
			break;
		case 'd':
			opt.both = choice(optarg, name, "one", "both");
			break;
		case 'l':
			opt.latency = true;
			break;
		case 'T':
			opt.touch = true;
			break;
		case 'S':
			opt.seconds = duration(optarg, name);
			break;
		case 'w':
			opt.warm_up = duration(optarg, name);
			break;
		case 'r':
			opt.ring = number(optarg, name, 1, VRING_SIZE_MAX);
			break;
		case 'b':
			opt.batch = number(optarg, name, 1, BATCH_MAX);
			break;
		case 'B':
			opt.rx_buffer = number(optarg, name, 64, 1 << 20);
			break;
		case 'p':
			opt.piece = number(optarg, name, 1, 1 << 20);
			break;
		case 'a':
			opt.header_apart = true;
			break;
		case 'M':
			opt.mergeable = false;
			break;
		case 'C':
			parse_cpus(optarg);
			break;
		case 'j':
			opt.json = true;
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		default:
			fputs(help, stderr);
			exit(2);
		}
	}
	vm_count = (unsigned int)(argc - optind);
	if (!role || vm_count < 2 || vm_count % 2 || vm_count > VMS_MAX) {
		fputs(help, stderr);
		exit(2);
	}
	for (unsigned int i = 0; i < vm_count; i++)
		vms[i].path = argv[optind + (int)i];
	opt.gso |= opt.size >= GSO_FROM;
	if (opt.rx_buffer == 0) {
		uint32_t whole = opt.size + VIRTIO_NET_HDR_LEN;

		/* Linux guests have mergeable buffers of up to a page. */
		opt.rx_buffer = opt.gso && opt.mergeable ? 4096 : max(whole, 2048u);
	}
}
