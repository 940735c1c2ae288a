# SPDX-License-Identifier: BSD-3-Clause
"""The points of the packet benchmark, and how one is measured: fresh contender, generator, CPU and cache watched."""

from dataclasses import dataclass

from . import machine
from .machine import CpuWatch
from .process import BenchError

OTHERS_LIMIT = 0.05  # of one core: what other processes may take before a sample is repeated
ATTEMPTS = 4


# The largest that Linux sends: 45 segments of 1448 bytes and the headers. DPDK's vhost library takes little more.
SEGMENT = 45 * 1448 + 66


@dataclass(frozen=True)
class Point:
    name: str
    size: int                # bytes of a frame, without the check sum
    offloads: bool = False   # needs segmentation offload passed through
    mode: str = "poll"       # the VMs: poll, or irq (they sleep)
    direction: str = "one"   # one, or both


POINTS = (
    Point("64 B", 64),
    Point("512 B", 512),
    Point("1518 B", 1518),
    Point("64 KiB", SEGMENT, offloads=True),
)


@dataclass
class Sample:
    """One repetition. cpu counts cores, by who used them; regime as machine.regime() tells. TCP counts no packets."""
    contender: str
    point: str
    regime: str
    handover_ns: tuple
    packets_per_s: float
    bits_per_s: float
    cpu: dict
    cpu_ns_per_packet: float
    settings: dict
    detail: dict

    def __str__(self):
        packets = "" if self.packets_per_s is None else \
            f"{self.packets_per_s / 1e6:.3f} Mpps, {self.cpu_ns_per_packet:.1f} ns/packet, "
        loss = f", {self.detail['loss']:.1%} lost" if self.detail.get("loss") else ""
        return (f'{packets}{self.bits_per_s / 1e9:.2f} Gb/s, {self.cpu["switch"]:.2f} cores; '
                f"{self.regime} ({self.handover_ns[0]:.0f}, {self.handover_ns[1]:.0f} ns), "
                f'others {self.cpu["others"]:.2f}{loss}')

    def usable(self):
        return self.regime != "mixed" and self.cpu["others"] <= OTHERS_LIMIT


def measure(contender, generator, point, seconds, helper):
    """One sample of a started contender."""
    placement = contender.placement
    before = machine.handover_ns(helper, placement)
    vm = generator.start(contender, point, seconds, placement.vm_cores)
    watch = CpuWatch(contender.pids(), [vm.pid])
    watch.start()
    try:
        answer = generator.result()
    finally:
        watch.finish()
    after = machine.handover_ns(helper, placement)
    if not answer["packets"]:
        raise BenchError("nothing was delivered")
    if answer.get("wrong"):
        raise BenchError(f"{answer['wrong']} frames arrived that were not as sent")
    cpu = watch.shares(answer["start_ns"], answer["end_ns"])
    rate = answer["packets"] / answer["seconds"]
    return Sample(
        contender=contender.name, point=point.name, regime=machine.regime(before, after),
        handover_ns=(before, after), packets_per_s=rate, bits_per_s=answer["bytes"] * 8 / answer["seconds"],
        cpu=cpu, cpu_ns_per_packet=cpu["switch"] * 1e9 / rate, settings=contender.settings(), detail=answer)


def undisturbed(take, say):
    """Calls take() until its sample is usable, a few times; the last one stands as it is."""
    for attempt in range(ATTEMPTS):
        sample = take()
        if sample.usable():
            break
        if attempt + 1 < ATTEMPTS:
            say(f'repeated: {sample.regime}, others used {sample.cpu["others"]:.2f} cores')
    return sample
