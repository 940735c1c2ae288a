# SPDX-License-Identifier: BSD-3-Clause
"""The machine a point is measured on: cores, hugepages, the cache's regime, who else used the CPU.

Two things outside a switch change its rate by a factor. The first is how long a cache line takes from core to core
(docs: near, about 40 ns; far, about 210 ns; it flips as the host moves virtual CPUs): it is measured around each point
and only points of one regime are compared. The second is other processes: a point during which they took a noticeable
part of the CPU is repeated.
"""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .process import BenchError, Unavailable, cpu_ns, run, with_descendants

NEAR_BELOW_NS = 100.0
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
HUGE_PAGE_MIB = 2


@dataclass(frozen=True)
class Placement:
    """Who runs where, for one contender under one condition (conditions.py). Cores are tuples of numbers."""
    vm_cores: tuple      # the VMs may run on any of them
    switch_cores: tuple  # so may the switch; a polling one has a thread on each
    other_cores: tuple   # what a polling switch needs besides


def cores():
    found = tuple(sorted(os.sched_getaffinity(0)))
    if len(found) < 2:
        raise BenchError("the benchmark needs two cores")
    return found


def core_mask(cores):
    return hex(sum(1 << c for c in cores))


class Hugepages:
    """Reserves 2 MiB pages for the peers that need them, and gives exactly those back."""

    def __init__(self, mebibytes):
        self.pages = mebibytes // HUGE_PAGE_MIB
        self.reserved = 0

    def reserve(self):
        before = int(HUGE_PAGES.read_text())
        try:
            HUGE_PAGES.write_text(str(before + self.pages))
        except OSError as e:
            raise Unavailable("reserving hugepages needs root") from e
        self.reserved = int(HUGE_PAGES.read_text()) - before
        if self.reserved < self.pages:
            self.give_back()
            raise Unavailable(f"the kernel has no {self.pages} free 2 MiB pages")

    def give_back(self):
        if self.reserved:
            HUGE_PAGES.write_text(str(max(0, int(HUGE_PAGES.read_text()) - self.reserved)))
            self.reserved = 0


def handover_ns(helper):
    """Nanoseconds for a cache line from the first core to the last."""
    return float(run([helper, cores()[0], cores()[-1]], what="handover"))


def regime(before_ns, after_ns):
    """near or far; mixed if it flipped meanwhile."""
    names = {"near" if ns < NEAR_BELOW_NS else "far" for ns in (before_ns, after_ns)}
    return names.pop() if len(names) == 1 else "mixed"


def _busy_ns():
    """CPU time used since boot by everything, and what the host took (steal), in nanoseconds."""
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    with open("/proc/stat", encoding="ascii") as f:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + softirq) * tick_ns, steal * tick_ns


def _softirq_threads():
    """The kernel's threads that handle network packets when nobody's time is left for it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text(encoding="ascii", errors="replace").startswith("ksoftirqd/"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


class CpuWatch(threading.Thread):
    """Samples CPU times four times a second, so that they can be cut to the interval the generator measured.

    `switch` and `vms` are roots: their descendants count with them. What neither of them nor this process used
    belongs to others; with `devices` but for the kernel's softirq threads, which then work for what is measured. `machine` is
    all that anything used, this process aside: interrupts that hit an idle core are in it and in nobody's time.
    """

    PERIOD = 0.25

    def __init__(self, switch, vms, devices=False):
        super().__init__(daemon=True)
        self.switch, self.vms = list(switch), list(vms)
        self.kernel = _softirq_threads() if devices else []
        self.samples = []
        self.over = threading.Event()

    def sample(self):
        switch = cpu_ns(with_descendants(self.switch))
        vms = cpu_ns(with_descendants(self.vms))
        kernel = cpu_ns(self.kernel)
        busy, steal = _busy_ns()
        machine = busy - time.process_time_ns()
        self.samples.append((time.monotonic_ns(), switch, vms, machine - switch - vms - kernel, steal, machine))

    def run(self):
        while not self.over.wait(self.PERIOD):
            self.sample()

    def finish(self):
        self.over.set()
        self.join()

    def shares(self, start_ns, end_ns):
        """Cores used in the interval by switch, vms, others, host, all: 1.0 is one core all the time."""
        within = [s for s in self.samples if start_ns <= s[0] <= end_ns]
        if len(within) < 2:
            raise BenchError("the measured interval is too short to read CPU times in it")
        first, last = within[0], within[-1]
        wall = last[0] - first[0]
        switch, vms, others, host, machine = ((b - a) / wall for a, b in zip(first[1:], last[1:]))
        return {"switch": switch, "vms": vms, "others": max(0.0, others), "host": host, "machine": machine}
