# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's testpmd between two net_vhost ports: what DPDK's vhost library does without a switch.

io mode passes each packet to the other port and looks at nothing, so this is not a switch but the bound of every
switch that is built on that library. Its sockets listen; the VMs connect.
"""

import subprocess

from harness.process import Child
from .base import Contender

PROGRAM = "dpdk-testpmd"
MEMORY_MIB = 512
MBUFS = 65536


class Testpmd(Contender):
    name = "testpmd-io"
    hugepages_mib = MEMORY_MIB

    @classmethod
    def skips(cls, point):
        if point.with_devices:
            return "it is measured between VMs only"
        if point.topology != "pairs" or point.idle or point.ports > 8:
            return "it is no switch: it joins ports in pairs, up to four"
        return "packed rings are not offered to our front end by DPDK 22.11" if point.packed else ""

    def start(self):
        tso = ",tso=1" if self.offloads else ""
        devices = [f"--vdev=net_vhost{i},iface={path},queues=1{tso}" for i, path in enumerate(self.sockets())]
        self.child = Child(
            self.lab, PROGRAM,
            [PROGRAM, "--lcores", self._lcores(), "--in-memory", "--no-pci", "--no-telemetry",
             "-m", MEMORY_MIB, *devices, "--",
             "--forward-mode=io", "--auto-start", f"--nb-cores={len(self.placement.switch_cores)}",
             # No VM is there yet, so the links are down: waiting for them would take nine seconds.
             "--disable-link-check", f"--total-num-mbufs={MBUFS}"],
            env={"RUNTIME_DIRECTORY": self.dir},
            stdin=subprocess.PIPE)  # it ends when its standard input does
        self.children.append(self.child)
        self.child.wait_for(lambda: "Press enter to exit" in self.child.output(), "start of forwarding")

    def _lcores(self):
        """The main lcore, which only sleeps, on the VMs' core; one forwarding lcore on each of the switch's."""
        cores = [self.placement.other_cores[0], *self.placement.switch_cores]
        return ",".join(f"{lcore}@{core}" for lcore, core in enumerate(cores))

    def uml_socket(self, index):
        return self.masked_socket(index)

    def settings(self):
        return {"mode": "io", "tso": self.offloads}
