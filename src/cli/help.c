/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The long help. lasthop(1) says the same and more.
 */
#include "cli/cli.h"

#include <string.h>

#define OPTIONS                                                                         \
	"Options of every command:\n"                                                   \
	"  --dir DIR   directory of the switch (default: /run/lasthop for root, else\n" \
	"              $XDG_RUNTIME_DIR/lasthop, else /tmp/lasthop-UID)\n"              \
	"  --json      print JSON for programs, in the shapes of docs/api.md\n"         \
	"  --help      this help\n"

#define STATUSES                                                                            \
	"Exit status: 0 done, 1 failed (nothing was changed), 2 wrong usage, 3 no switch\n" \
	"answers.\n"

#define PORT_SYNTAX                                                                                 \
	"A port is NAME=PATH[,option=value...]. PATH is the vhost-user socket. A port with a\n"     \
	"driver needs none: NAME,driver=KIND,device=NAME[,option=value...].\n"                      \
	"  mode=server     lasthop listens at PATH (the default)\n"                                 \
	"  mode=client     lasthop connects to PATH, and again whenever it is lost\n"               \
	"  bridge=NAME     the bridge it belongs to (default br0)\n"                                \
	"  queues=N        queue pairs offered, 1 to 16 (default 1)\n"                              \
	"  mtu=N           MTU offered to the guest, 68 to 65535 (default: not offered)\n"          \
	"  wait-us=N       how long packets to it wait in their senders' rings while it has\n"      \
	"                  no buffers, 1 to 1000000 microseconds (default 10000)\n"                 \
	"  notify-us=N     how long a notification of its guest may be held back to be merged\n"    \
	"                  with others, 0 to 10000 microseconds (default 10)\n"                     \
	"  notify-packets=N  and for how many packets at most, 1 to 4096 (default 128)\n"           \
	"  mac-limit=N     source addresses learned at most, 1 to 65536 (default 1024)\n"           \
	"  driver=KIND     a driver domain connects a device to the port: tap (made if it is not\n" \
	"                  there), af_xdp, af_packet (interfaces of the kernel), dpdk; external:\n" \
	"                  somebody else starts the driver\n"                                       \
	"  device=NAME     the device; DPDK's arguments with \\, for a comma\n"                     \
	"  netns=NAME      the network namespace it is in: a name as of `ip netns`, or a path\n"    \
	"  driver-option=KEY=VALUE[;KEY=VALUE...]  of the driver: see lasthop-driver --help\n"      \
	"  FEATURE=off     do not offer a feature: csum, tso, ufo, uso, gso, mrg, mq,\n"            \
	"                  ctrl-vq, indirect-desc, event-idx, packed, version-1, ...\n"

static const struct {
	const char *command;
	const char *text;
} texts[] = {
	{"", "Usage: lasthop [--dir DIR] [--json] COMMAND ...\n"
	     "\n"
	     "A virtual switch for the VMs of one host.\n"
	     "\n"
	     "  run       run a switch in the foreground\n"
	     "  port      add, delete and show ports\n"
	     "  bridge    add, delete and show bridges\n"
	     "  flow      show what becomes of which packets\n"
	     "  mac       show which addresses are behind which ports\n"
	     "  stats     show the counters, drops by name among them\n"
	     "  version   show versions\n"
	     "  help      help for a command: lasthop help COMMAND\n"
	     "\n" OPTIONS "\n" STATUSES "\n"
	     "Example: two VMs that can talk to each other\n"
	     "  lasthop run --port a=/tmp/a.sock --port b=/tmp/b.sock\n"},
	{"run", "Usage: lasthop run [--port PORT]... [--bridge BRIDGE]... [option...]\n"
		"\n"
		"Runs a switch in the foreground until SIGINT or SIGTERM: the data plane\n"
		"(lasthop-core), the control plane (lasthop-control) and, where the kernel permits\n"
		"it, the observer of VM states (lasthop-observer), and a driver (lasthop-driver) for\n"
		"each port that names one. Each is started again if it dies, drivers also if they hang.\n"
		"Prints `lasthop: ready` on standard output once all ports' sockets are there.\n"
		"Needs no root if the directory and those of the sockets are yours; most drivers do.\n"
		"\n"
		"  --port PORT       a port to begin with; see below\n"
		"  --bridge BRIDGE   a bridge to begin with: NAME[,mac-age=SECONDS]; br0 is always\n"
		"                    there, and so are those that ports name\n"
		"  --workers N       forwarding threads, 1 to 63 (default: one for each CPU it may use)\n"
		"  --linger-us N     how long an idle worker looks for more work, 0 to 1000000\n"
		"                    microseconds (default 20)\n"
		"  --flows-max N     size of the flow table in flows, 16 to 16777216 (default 1048576)\n"
		"  --no-state-batching, --no-preemptive-copy, --no-offload\n"
		"                    work without one of the engine's mechanisms: to notify receivers\n"
		"                    by what state they are in, to copy before they are woken, to use\n"
		"                    idle CPUs; to see what each is good for\n"
		"  --no-pinning      leave it to the kernel where workers run\n"
		"  --class NAME      of the scheduler for workers: batch, normal, idle; else it follows\n"
		"                    from what the VMs do\n"
		"  --no-observer     do not find out which VMs run, wait or sleep\n"
		"  --keep-devices    leave TAPs of drivers where they are at the end, for the next run\n"
		"  --user NAME       whom data plane, observer and drivers become if started as root\n"
		"  --no-sandbox      do not confine them; for debugging only\n"
		"  --log-level N     0 errors, 1 warnings, 2 information (default), 3 debugging\n"
		"\n" PORT_SYNTAX "\n" OPTIONS "\n"
		"Exit status: 0 ended by a signal, 1 failed, 2 wrong usage.\n"},
	{"port", "Usage: lasthop port add PORT\n"
		 "       lasthop port add --tap NAME | --af-xdp NAME | --af-packet NAME | --dpdk ARGUMENTS\n"
		 "                        [--netns NAME] [--name PORT] [--queues N] [--bridge NAME]\n"
		 "                        [--mtu N] [--driver-option KEY=VALUE[;...]]\n"
		 "       lasthop port del NAME\n"
		 "       lasthop port show [--detail] [NAME...]\n"
		 "\n"
		 "Adds, deletes and shows ports of a running switch. The second form adds a port with a\n"
		 "driver: a TAP for a container or the host, an interface of the kernel, or what DPDK\n"
		 "drives. Its name is the device's unless --name gives another. It waits up to 5 seconds\n"
		 "for the driver and says if it could not have its device; the port is there all the same,\n"
		 "and the driver is tried again until it can. `del` removes a TAP.\n"
		 "\n"
		 "`show` prints one line a port; with names or --detail, all that is known: state, last\n"
		 "fault, driver, negotiated features, queues, counters, drops by name.\n"
		 "\n"
		 "States: down (nobody is connected), connected (a front end, but no running queue),\n"
		 "up, quarantined (the front end or its guest broke the rules), absent (the data\n"
		 "plane does not have the port yet).\n"
		 "\n"
		 "VM states are those of the process at the other end of the socket: blocked (it\n"
		 "sleeps), runnable (it waits for a CPU), running, unknown.\n"
		 "\n" PORT_SYNTAX "\n" OPTIONS "\n" STATUSES},
	{"bridge", "Usage: lasthop bridge add NAME [--mac-age SECONDS]\n"
		   "       lasthop bridge del NAME\n"
		   "       lasthop bridge show\n"
		   "\n"
		   "Adds, deletes and shows bridges. Ports of one bridge can reach each other and no\n"
		   "others. An address that was not heard of for --mac-age seconds (10 to 86400,\n"
		   "default 300) is forgotten. A bridge that has ports cannot be deleted.\n"
		   "\n" OPTIONS "\n" STATUSES},
	{"flow", "Usage: lasthop flow show [--bridge NAME] [--port NAME]\n"
		 "\n"
		 "Shows the flows of the data plane: the port they come from, the source and\n"
		 "destination they match (ff:* is all destinations that begin so), how much they\n"
		 "carried, for how long they have been idle, and what becomes of their packets: to a\n"
		 "port (->), to every other port of the bridge (flood), or dropped, with the reason.\n"
		 "\n"
		 "  --bridge NAME   only those of that bridge\n"
		 "  --port NAME     only those that come from that port\n"
		 "\n" OPTIONS "\n" STATUSES},
	{"mac", "Usage: lasthop mac show [--bridge NAME] [--port NAME]\n"
		"\n"
		"Shows which MAC addresses were learned behind which ports, how long ago they were\n"
		"last heard of, and how often they moved lately. An address that moves to and fro is\n"
		"held where it is for ten seconds.\n"
		"\n"
		"  --bridge NAME   only those of that bridge\n"
		"  --port NAME     only those behind that port\n"
		"\n" OPTIONS "\n" STATUSES},
	{"stats", "Usage: lasthop stats [PORT]\n"
		  "\n"
		  "Shows the counters of all ports, or one; which packets were dropped and why; and\n"
		  "what the workers did, with how often each delivered byte was copied. `in` is from\n"
		  "the port into the switch. Reads the statistics that the data plane shares: works\n"
		  "without the control plane, and costs the switch nothing.\n"
		  "\n" OPTIONS "\n" STATUSES},
	{"version", "Usage: lasthop version\n"
		    "\n"
		    "Shows the version of this program, and of the switch if one runs.\n"
		    "\n" OPTIONS "\n" STATUSES},
};

const char *cli_help(const char *command)
{
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (strcmp(texts[i].command, command == NULL ? "" : command) == 0)
			return texts[i].text;
	}
	return NULL;
}
