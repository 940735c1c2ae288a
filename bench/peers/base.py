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
        return [self.socket(i) for i in range(len(self.port_names))]

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
