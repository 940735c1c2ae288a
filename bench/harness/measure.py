# SPDX-License-Identifier: BSD-3-Clause
"""How a point is measured on a started contender: generator, CPU and cache watched; what a sample holds."""

import contextlib
import sys
from dataclasses import dataclass

from . import machine
from .machine import CpuWatch
from .process import BenchError, Child

OTHERS_LIMIT = 0.05  # of one core: what other processes may take before a sample is repeated
ATTEMPTS = 4
CPU_SECONDS = 4      # a kind cpu point is measured at least so long


@dataclass
class Sample:
    """One repetition. cpu counts cores, by who used them; regime as machine.regime() tells.

    figure is what the point is judged by (points.py). None: does not apply; TCP counts no packets.
    """
    contender: str
    point: str
    kind: str
    figure: float
    regime: str
    handover_ns: tuple
    packets_per_s: float
    bits_per_s: float
    rtt_ns: dict
    cpu: dict
    settings: dict
    detail: dict
    accepted: bool = True  # counts in the medians

    @property
    def cpu_ns_per_packet(self):
        return self.cpu["switch"] * 1e9 / self.packets_per_s if self.packets_per_s else None

    @property
    def machine_ns_per_packet(self):
        """With the time of those who send and receive, and of the kernel on nobody's behalf."""
        return self.cpu["machine"] * 1e9 / self.packets_per_s if self.packets_per_s and "machine" in self.cpu else None

    @property
    def machine_ns_per_gigabyte(self):
        return self.cpu["machine"] * 1e9 / (self.bits_per_s / 8e9) if self.bits_per_s and "machine" in self.cpu else None

    @property
    def cpu_ns_per_gigabyte(self):
        return self.cpu["switch"] * 1e9 / (self.bits_per_s / 8e9) if self.bits_per_s else None

    @property
    def loss(self):
        return self.detail.get("loss") or 0.0

    def __str__(self):
        words = []
        if self.kind == "rtt":
            words.append("round trip " + ", ".join(f"{name} {ns / 1e3:.2f}" for name, ns in self.rtt_ns.items()) + " µs")
        if self.packets_per_s:
            words.append(f"{self.packets_per_s / 1e6:.3f} Mpps")
            if self.kind != "rtt":
                words.append(f"{self.cpu_ns_per_packet:.1f} ns/packet")
        if self.bits_per_s and self.kind == "rate":
            words.append(f"{self.bits_per_s / 1e9:.2f} Gb/s")
        words.append(f'{self.cpu["switch"]:.4f} cores' if self.kind == "cpu" else f'{self.cpu["switch"]:.2f} cores')
        if self.loss >= 0.0005:
            words.append(f"{self.loss:.1%} lost")
        return (f'{", ".join(words)}; {self.regime} ({self.handover_ns[0]:.0f}, {self.handover_ns[1]:.0f} ns), '
                f'others {self.cpu["others"]:.2f}')

    def usable(self):
        return self.regime != "mixed" and self.cpu["others"] <= OTHERS_LIMIT


@contextlib.contextmanager
def neighbours(lab, wanted):
    """A process on each core that only computes. Yields their ids."""
    hogs = [Child(lab, f"hog{core}", [sys.executable, "-c", "while True: pass"], cores=(core,))
            for core in machine.cores()] if wanted else []
    try:
        yield [hog.pid for hog in hogs]
    finally:
        for hog in hogs:
            hog.stop()


def _figure(point, answer, cpu):
    if point.kind == "cpu":
        return cpu["switch"]
    if point.kind == "rtt":
        return answer["rtt_ns"]["median"]
    packets = answer["vm_delivered"][1] if point.good_only else answer["packets"]
    return packets / answer["seconds"]


def _check(point, answer):
    if not answer["packets"] and point.rate != 0:
        raise BenchError("nothing was delivered")
    if answer.get("wrong"):
        raise BenchError(f"{answer['wrong']} frames arrived that were not as sent")
    if point.kind == "rtt" and not answer["rtt_ns"]["median"]:
        raise BenchError("no round trip was completed")


def measure(contender, generator, point, seconds, helper):
    """One sample of a started contender."""
    seconds = max(seconds, CPU_SECONDS) if point.kind == "cpu" else seconds
    before = machine.handover_ns(helper)
    with neighbours(contender.lab, point.busy) as hogs:
        vm = generator.start(contender, point, seconds, contender.placement.vm_cores)
        watch = CpuWatch(contender.pids(), [vm.pid, *hogs], point.with_devices)
        watch.start()
        try:
            answer = generator.result()
        finally:
            watch.finish()
    after = machine.handover_ns(helper)
    _check(point, answer)
    cpu = watch.shares(answer["start_ns"], answer["end_ns"])
    if contender.works_in_vms:
        cpu["switch"] = cpu["vms"]
    figure = _figure(point, answer, cpu)
    return Sample(
        contender=contender.name, point=point.name, kind=point.kind, figure=figure,
        regime="any" if point.kind == "cpu" else machine.regime(before, after), handover_ns=(before, after),
        packets_per_s=figure if point.good_only else answer["packets"] / answer["seconds"],
        bits_per_s=answer["bytes"] * 8 / answer["seconds"],
        rtt_ns=answer.get("rtt_ns"), cpu=cpu, settings=contender.settings(), detail=answer)


def undisturbed(take, say, gate=True):
    """Calls take() until its sample is usable, a few times; the last one stands, but does not count."""
    for attempt in range(ATTEMPTS):
        sample = take()
        sample.accepted = not gate or sample.usable()
        if sample.accepted:
            break
        if attempt + 1 < ATTEMPTS:
            say(f'repeated: {sample.regime}, others used {sample.cpu["others"]:.2f} cores')
    return sample
