# SPDX-License-Identifier: BSD-3-Clause
"""What every contender has in common.

A contender is a context manager that lives in a Lab of its own: one temporary directory for sockets, databases and
logs, and processes that end with it. Entered, the switch can take connections. A contender is started afresh for
every point, because a polling switch that waits for its turn would take the other's core.

Which side listens on the ports' sockets differs: `vm_is_server` says whether the VM must (OVS in its recommended
dpdkvhostuserclient mode connects to the VMM) or must not.
"""

from pathlib import Path

import lab
from harness import namespaces
from harness.conditions import CONDITIONS
from harness.machine import Hugepages
from harness.process import Child

MASK = Path(lab.__file__).parent / "mask.py"


class Contender:
    name = ""
    vm_is_server = False
    polls = True          # keeps a core busy always (conditions.py)
    works_in_vms = False  # its CPU time is part of that of the programs that send and receive
    hugepages_mib = 0     # to be reserved while it runs

    def __init__(self, point, build):
        self.point = point
        self.placement = CONDITIONS[point.condition].placement(self.polls)
        self.build = Path(build)
        self.offloads = point.offloads  # VMs may send 64 KiB segments to be passed on whole
        self.lab = None
        self.dir = None
        self.children = []
        self.hugepages = Hugepages(self.hugepages_mib)
        self.port_names = [f"p{i}" for i in range(point.ports)]
        self.ends = point.ends or ("vm",) * point.ports
        self.mtu = namespaces.MTU_TCP if point.streams else namespaces.MTU
        self.containers = {}  # port's index: process id of who holds the namespace
        self.world = None     # ... where the switch is, and the devices that are not in a container

    @classmethod
    def skips(cls, point):
        """Why it has no part in a point; "" if it has."""
        return ""

    def generator(self, default):
        """What sends and receives: the run's choice for everything that has vhost-user ports."""
        return default

    def __enter__(self):
        self.hugepages.reserve()
        self.lab = lab.Lab().__enter__()
        self.dir = self.lab.path
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        self.children = []
        self.lab.close()
        self.hugepages.give_back()

    def start(self):
        raise NotImplementedError

    def socket(self, index):
        return self.dir / f"{self.port_names[index]}.sock"

    def sockets(self):
        """What is behind each port, in the words of bench_vm."""
        return [self.socket(i) if end == "vm" else f"netns:{self.containers[i]}" for i, end in enumerate(self.ends)]

    def make_containers(self):
        """Namespaces for the ends that want one, and for the switch: the machine's own is left as it is."""
        if not self.point.with_devices:
            return
        self.world = namespaces.namespace(self.lab, "world")
        for index, end in enumerate(self.ends):
            if end != "vm":
                self.containers[index] = namespaces.namespace(self.lab, self.port_names[index])
            if end == "xdp":
                namespaces.veth(self.world, self.port_names[index], self.containers[index], self.mtu)

    def raise_containers(self):
        """When their interfaces are there. What passes AF_XDP is sent as it is, so its checksums must be there."""
        for index, pid in self.containers.items():
            namespaces.raise_interface(pid, index if self.point.streams else None,
                                       checksums=self.ends[index] != "xdp")

    def uml_socket(self, index):
        """A socket that listens, for a front end that accepts all it is offered and waits for ever on what is not served."""
        return self.socket(index)

    def masked_socket(self, index, program=MASK):
        """A way to socket(index) on which the control queue, offered but not served, is hidden. Packets bypass it."""
        path = self.dir / f"{self.port_names[index]}.masked"
        mask = Child(self.lab, f"mask-{self.port_names[index]}", [program, path, self.socket(index)])
        mask.wait_for(path.exists, "socket")
        return path

    def pids(self):
        """The processes whose CPU time is the switch's."""
        return [c.pid for c in self.children]

    def settings(self):
        """What makes the result repeatable, for the JSON."""
        return {}
