# SPDX-License-Identifier: BSD-3-Clause
"""What lasthop has promised, in figures of one run: each a quotient of two medians of one regime, or a figure alone.

A target that is missed does not make the run fail: speed is told, not enforced.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    text: str
    point: str
    bound: float
    at_most: bool = False
    base: str = "ovs-dpdk"   # contender to divide by; "": the figure itself
    base_point: str = ""     # if another than the point itself

    def points(self):
        return [self.point] + [self.base_point] * bool(self.base_point)

    def values(self, medians):
        """[(regime, value)] for each regime in which both were measured."""
        found = []
        for (point, regime), figures in medians.items():
            if point != self.point or "lasthop" not in figures:
                continue
            value = figures["lasthop"]["figure"]
            if self.base:
                base = medians.get((self.base_point or point, regime), {}).get(self.base)
                if not base or not base["figure"]:
                    continue
                value /= base["figure"]
            found.append((regime, value))
        return found

    def met(self, value):
        return value <= self.bound if self.at_most else value >= self.bound


def _own(text, point, bound, base_point):
    return Target(text, point, bound, base="lasthop", base_point=base_point)


TARGETS = (
    Target("64 bytes one way, over OVS-DPDK", "polling/64", 3.5),
    Target("64 bytes both ways", "polling/64-both", 3.5),
    Target("512 bytes one way", "polling/512", 3.5),
    Target("512 bytes both ways", "polling/512-both", 3.5),
    Target("1518 bytes one way", "polling/1518", 3.0),
    Target("1518 bytes both ways", "polling/1518-both", 3.0),
    Target("1518 bytes written and read", "polling/1518-touch", 1.8),
    Target("1518 bytes written and read, both ways", "polling/1518-touch-both", 1.8),
    Target("64 KiB segments", "polling/64k", 5.0),
    Target("64 KiB segments, over its best with larger rings", "polling/64k", 5.0, base_point="polling/64k-rx1024"),
    Target("64 KiB segments, over the memcpy limit", "polling/64k", 0.7, base="memcpy"),
    Target("polled round trip", "polling/rtt", 0.6, at_most=True),
    Target("sleeping VMs and lasthop on one core", "shared/64", 1.5),
    Target("... round trip", "shared/rtt", 0.5, at_most=True),
    Target("sleeping VMs, lasthop free to choose", "free/64", 1.9),
    Target("consolidated: 4 pairs, 64 bytes", "consolidated/64", 10.0),
    Target("... round trip under that load", "consolidated/rtt-load", 0.2, at_most=True),
    Target("cores used with 64 ports and no traffic", "consolidated/cpu-idle", 0.001, at_most=True, base=""),
    Target("cores used at 10,000 frames a second", "consolidated/cpu-10k", 0.03, at_most=True, base=""),
    _own("1,000 flows by ports, over one flow", "polling/64-1k-port", 0.8, "polling/64"),
    _own("100,000 flows by ports", "polling/64-100k-port", 0.6, "polling/64"),
    _own("1,000,000 flows by ports", "polling/64-1M-port", 0.4, "polling/64"),
    _own("1,000 flows by addresses, over one flow", "polling/64-1k-mac", 0.8, "polling/64"),
    _own("100,000 flows by addresses", "polling/64-100k-mac", 0.6, "polling/64"),
    _own("1,000,000 flows by addresses", "polling/64-1M-mac", 0.4, "polling/64"),
    _own("a pair beside 64 idle ports, over it alone", "polling/64-64-idle", 0.9, "polling/64"),
    _own("a receiver beside a full one, over beside a good one", "polling/64-full-receiver", 0.9,
         "polling/64-two-receivers"),
)


# Measured by --set drivers, because their contenders are others.
DEVICE_TARGETS = (
    Target("VM to veth by AF_XDP, 64 bytes, over OVS-DPDK", "nic/vm-xdp-64", 1.5),
    Target("... 1518 bytes", "nic/vm-xdp-1518", 1.5),
    Target("... 64 bytes, polling VM", "nic-polling/vm-xdp-64", 1.5),
    Target("veth to VM by AF_XDP, 64 bytes", "nic/xdp-vm-64", 1.5),
    Target("... 1518 bytes", "nic/xdp-vm-1518", 1.5),
    Target("... 64 bytes, polling VM", "nic-polling/xdp-vm-64", 1.5),
    Target("TCP between containers by TAP, over the kernel's bridge", "nic/tap-tap-tcp-1", 0.8, base="kernel"),
    Target("... 4 streams", "nic/tap-tap-tcp-4", 0.8, base="kernel"),
)


def render(medians):
    """The targets of which something was measured, as text; "" if none."""
    lines = []
    for target in TARGETS + DEVICE_TARGETS:
        for regime, value in target.values(medians):
            word = "met" if target.met(value) else "MISSED"
            bound = f'{"≤" if target.at_most else "≥"} {target.bound:g}'
            lines.append(f"{target.text:56} {regime:6} {value:10.4g}  {bound:9} {word}")
    return "\n".join(["target" + " " * 51 + "cache       value  promised", "-" * 90, *lines]) if lines else ""
