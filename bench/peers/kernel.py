# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's own way between two containers: a bridge and a veth pair for each, in network namespaces.

No VM and no vhost: the "VMs" are programs with AF_PACKET sockets, 32 frames a system call, so a frame is copied
from the program into a socket buffer and out of one, and passes the bridge without a copy; TCP is iperf3 in two
namespaces. Where a point has both a VM and a container, the VM is what a VMM does on a kernel without vhost-net: a TAP
device on the bridge, a system call a frame. All of it runs on the senders' and receivers' own time and on the cores of VMs
and switch together; its CPU time is that of the programs, which cannot be told from the bridge's.
"""

from harness import machine, namespaces
from harness.generator import BenchVm
from .base import Contender


class Kernel(Contender):
    name = "kernel"
    polls = False
    works_in_vms = True

    @classmethod
    def skips(cls, point):
        if point.streams and not point.ends:
            return "TCP between containers is not TCP between VMs"
        if point.packed:
            return "it has no rings"
        return "not measured with so many ports" if point.ports > 16 or point.slow else ""

    def start(self):
        cores = machine.cores()
        self.placement = machine.Placement(cores, cores, cores)
        self.world = bridge = namespaces.namespace(self.lab, "bridge")
        namespaces.ip(bridge, "link", "add", "br0", "type", "bridge")
        namespaces.ip(bridge, "link", "set", "br0", "up")
        for index, name in enumerate(self.port_names):
            if self.point.ends and self.ends[index] == "vm":
                namespaces.ip(bridge, "tuntap", "add", name, "mode", "tap", "vnet_hdr")
                namespaces.ip(bridge, "link", "set", name, "mtu", self.mtu, "up")
            else:
                self.containers[index] = namespaces.namespace(self.lab, name)
                namespaces.veth(bridge, name, self.containers[index], self.mtu)
            namespaces.ip(bridge, "link", "set", name, "master", "br0", "up")
        for index, pid in self.containers.items():
            namespaces.raise_interface(pid, index if self.point.streams else None)

    def sockets(self):
        return [f"netns:{self.containers[i]}" if i in self.containers else f"tap:{self.world}:{name}"
                for i, name in enumerate(self.port_names)]

    def pids(self):
        return []

    def generator(self, default):
        # One thread for all would have only one core.
        extra = ["--threads"] if self.point.mode == "poll" else []
        made = BenchVm(self.build / "bench" / "bench_vm", extra)
        made.check()
        return made
