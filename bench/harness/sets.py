# SPDX-License-Identifier: BSD-3-Clause
"""Named sets of points, with who takes part and how often: bench/run --set NAME."""

from dataclasses import dataclass

from .points import POINTS
from .targets import TARGETS

PLACEMENT = ("lasthop-kernel-placed", "lasthop-pinned-batch", "lasthop-pinned-normal", "lasthop-pinned-idle")
ABLATION = ("lasthop-no-batching", "lasthop-no-preemptive-copy", "lasthop-no-offload", "lasthop-none")


@dataclass(frozen=True)
class Set:
    name: str
    text: str
    points: tuple
    contenders: tuple = ("lasthop", "ovs-dpdk")
    once: tuple = ()        # these are measured in the first repetition only: references
    repetitions: int = 5
    seconds: float = 1.5    # measured time of a point


SETS = {s.name: s for s in (
    Set("quick", "the first look: the main points of each condition, in a few minutes",
        ("polling/64", "polling/1518", "polling/64k", "polling/rtt", "shared/64", "shared/rtt", "free/64",
         "consolidated/64", "consolidated/rtt-load", "consolidated/cpu-idle", "nic/vm-xdp-64", "nic/tap-tap-tcp"),
        once=("testpmd-io", "kernel", "memcpy"), repetitions=3, seconds=1.0),
    Set("issue2", "a pair of polling VMs, frames and segments, and TCP between Linux guests",
        ("polling/64", "polling/512", "polling/1518", "polling/64k", "polling/tcp"),
        contenders=("lasthop", "ovs-dpdk", "testpmd-io")),
    Set("targets", "what lasthop has promised (targets.py) between VMs, and nothing else",
        tuple(dict.fromkeys(point for target in TARGETS for point in target.points())),
        once=("memcpy",)),
    Set("ablation", "lasthop with each mechanism switched off, where each should matter",
        ("shared/64", "shared/rtt", "free/64", "free/64k", "free/1518-touch", "consolidated/64", "consolidated/64k",
         "consolidated/rtt-load", "consolidated/64k-1-pair", "polling/64k"),
        contenders=("lasthop", *ABLATION)),
    Set("placement", "lasthop with its workers placed in other ways",
        ("polling/64", "shared/64", "shared/rtt", "shared/rtt-busy", "free/64", "free/rtt", "consolidated/64",
         "consolidated/rtt-load"),
        contenders=("lasthop", *PLACEMENT), repetitions=3),
    Set("drivers", "a VM and a container, by TAP and by AF_XDP; TCP between containers",
        tuple(name for name, point in POINTS.items() if point.with_devices),
        contenders=("lasthop", "ovs-dpdk", "kernel"), once=("ovs-dpdk-net-tap",), repetitions=3, seconds=1.0),
    Set("full", "every point and every contender",
        tuple(POINTS), contenders=("lasthop", "ovs-dpdk", "testpmd-io", "kernel", "memcpy")),
)}
