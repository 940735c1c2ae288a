# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's own way between two containers: a bridge and a veth pair for each, in network namespaces.

No VM and no vhost: bench_kernel's "VMs" are programs with AF_PACKET sockets, 32 frames a system call, so a frame is copied
from the program into a socket buffer and out of one, and passes the bridge without a copy; TCP is iperf3 in two
namespaces. All of it runs on the senders' and receivers' own time and on the cores of VMs and switch together; its CPU
time is that of the programs, which cannot be told from the bridge's. The namespaces belong to processes that only wait,
and vanish with them.
"""

from harness import machine
from harness.generator import BenchVm
from harness.process import Child, run
from .base import Contender

MTU = 1504  # 1518 bytes are the largest frame with its check sum; here they are a frame without


class Kernel(Contender):
    name = "kernel"
    polls = False
    works_in_vms = True

    @classmethod
    def skips(cls, point):
        if point.streams:
            return "TCP between containers is not TCP between VMs"
        if point.packed:
            return "it has no rings"
        return "not measured with so many ports" if point.ports > 16 or point.slow else ""

    def start(self):
        cores = machine.cores()
        self.placement = machine.Placement(cores, cores, cores)
        bridge = self._namespace("bridge")
        self._ip(bridge, "link", "add", "br0", "type", "bridge")
        self._ip(bridge, "link", "set", "br0", "up")
        self.holders = []
        for index, name in enumerate(self.port_names):
            pid = self._namespace(name)
            self._ip(bridge, "link", "add", name, "mtu", MTU, "type", "veth",
                     "peer", "name", "eth0", "mtu", MTU, "netns", pid)
            self._ip(bridge, "link", "set", name, "master", "br0", "up")
            self._ip(pid, "link", "set", "eth0", "address", f"52:54:00:00:00:{index:02x}", "up")
            self.holders.append(pid)

    def _namespace(self, name):
        """Process id of one that holds a network namespace. Without IPv6, whose own frames would be counted."""
        script = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; " \
            "echo there; exec sleep 3600"
        child = Child(self.lab, f"ns-{name}", ["unshare", "--net", "sh", "-c", script])
        child.wait_for(lambda: "there" in child.output(), "namespace")
        return child.pid

    @staticmethod
    def _ip(pid, *words):
        run(["nsenter", "-t", pid, "--net", "ip", *words])

    def sockets(self):
        return self.holders

    def pids(self):
        return []

    def generator(self, default):
        # One thread for all would have only one core.
        extra = ["--threads"] if self.point.mode == "poll" else []
        made = BenchVm(self.build / "bench" / "bench_kernel", extra)
        made.check()
        return made
