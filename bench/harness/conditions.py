# SPDX-License-Identifier: BSD-3-Clause
"""The conditions under which contenders meet: which cores, and whether the VMs poll or sleep.

Every contender gets the same VMs, the same traffic and the same two cores. They differ in what they are allowed by
their own nature: a switch that polls has the last core to itself in every condition, because that is how its
documentation says to run it, and because on two cores anything else makes it slower.
"""

from dataclasses import dataclass

from . import machine


@dataclass(frozen=True)
class Condition:
    name: str
    text: str
    mode: str          # the VMs: poll (all in one thread), or irq (a process each, sleeping until notified)
    vms: str           # their cores: first, or all
    ours: str          # lasthop's cores: first, last, or all
    vms_beside_poller: str = ""  # if that differs from vms

    def placement(self, polls):
        """polls: the contender keeps a core busy always."""
        cores = machine.cores()
        groups = {"first": cores[:1], "last": cores[-1:], "all": cores}
        return machine.Placement(
            vm_cores=groups[polls and self.vms_beside_poller or self.vms],
            switch_cores=groups["last" if polls else self.ours],
            other_cores=groups["first"])


CONDITIONS = {c.name: c for c in (
    Condition("polling", "polling VMs, all in one thread on the first core; every switch alone on the last",
              mode="poll", vms="first", ours="last"),
    Condition("shared", "sleeping VMs on the first core, and lasthop there too; a polling switch alone on the last",
              mode="irq", vms="first", ours="first"),
    Condition("free", "sleeping VMs on the first core; lasthop where it likes; a polling switch alone on the last",
              mode="irq", vms="first", ours="all"),
    Condition("consolidated", "sleeping VMs on all cores, lasthop too; a polling switch on the last, which VMs may use",
              mode="irq", vms="all", ours="all"),
    Condition("kept-off", "as consolidated, but VMs are kept off a polling switch's core",
              mode="irq", vms="all", ours="all", vms_beside_poller="first"),
    Condition("nic", "a VM that sleeps, programs in namespaces, lasthop and its drivers on all cores; a polling switch "
              "alone on the last", mode="irq", vms="all", ours="all", vms_beside_poller="first"),
    Condition("nic-polling", "a polling VM and a program in a namespace, one thread on the first core; every switch, with "
              "its drivers, alone on the last", mode="poll", vms="first", ours="last"),
)}
