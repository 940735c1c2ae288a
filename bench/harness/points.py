# SPDX-License-Identifier: BSD-3-Clause
"""The points of the benchmark: what is sent, by whom, under which condition. Sets of them are in sets.py.

A point's name is its condition and what it does there: polling/64, shared/rtt. What it is judged by is its kind:

  rate  frames delivered a second (with `good_only`: at the first receiver alone)
  rtt   median round trip
  cpu   cores that the switch keeps busy
"""

from dataclasses import dataclass, replace

from .conditions import CONDITIONS

# The largest that Linux sends: 45 segments of 1448 bytes and the headers. DPDK's vhost library takes little more.
SEGMENT = 45 * 1448 + 66
IDLE_PORTS = 64
FLOWS = {"1k": 1_000, "100k": 100_000, "1M": 1_000_000}


@dataclass(frozen=True)
class Point:
    name: str
    condition: str
    size: int = 64           # bytes of a frame, without the check sum
    kind: str = "rate"
    pairs: int = 1           # of VMs, in topology pairs
    vms: int = 0             # ... their number in the other topologies
    topology: str = "pairs"
    direction: str = "one"
    touch: bool = False      # VMs write and read whole payloads
    pings: int = 0           # so many of the pairs exchange one frame at a time
    rate: int = -1           # frames a second and sender; -1: as fast as it goes
    flows: int = 1
    vary: str = "port"
    idle: int = 0            # ports that only are there
    slow: int = 0            # receivers that do not take what they get
    pause_us: int = 0        # ... or only every so many microseconds
    good_only: bool = False
    packed: bool = False
    rx_ring: int = 256       # descriptors; a 64 KiB segment takes 17 buffers
    busy: bool = False       # a process that only computes on each core: an unwilling neighbour
    streams: tuple = ()      # TCP between Linux guests, with so many streams each time
    ends: tuple = ()         # what is behind each port: a vm, or a container by its tap, or by a veth and xdp; (): VMs

    @property
    def offloads(self):
        """Needs segmentation offload passed through."""
        return "xdp" not in self.ends and (self.size >= 9000 or bool(self.streams))

    @property
    def with_devices(self):
        return any(end != "vm" for end in self.ends)

    @property
    def mode(self):
        return CONDITIONS[self.condition].mode

    @property
    def ports(self):
        return (self.vms or 2 * self.pairs) + self.idle

    @property
    def stations(self):
        """MAC addresses on each side."""
        return int(self.flows ** 0.5) + 1 if self.vary == "mac" else 1

    def arguments(self):
        """Of bench_vm, but for sockets and durations."""
        words = ["--size", self.size, "--mode", self.mode, "--direction", self.direction, "--topology", self.topology]
        if self.mode == "irq":
            words.append("--processes")
        if self.touch:
            words.append("--touch")
        if self.pings:
            words.append(f"--latency={self.pings}")
        if self.rate >= 0:
            words += ["--rate", self.rate]
        if self.flows > 1:
            words += ["--flows", self.flows, "--vary", self.vary]
        for option in ("idle", "slow"):
            if getattr(self, option):
                words += [f"--{option}", getattr(self, option)]
        if self.pause_us:
            words += ["--pause", self.pause_us]
        if self.rx_ring != Point.rx_ring:
            words += ["--rx-ring", self.rx_ring]
        if self.packed:
            words.append("--packed")
        return words


def _sizes(condition, **more):
    for name, size in (("64", 64), ("256", 256), ("512", 512), ("1024", 1024), ("1518", 1518), ("64k", SEGMENT)):
        yield Point(f"{condition}/{name}", condition, size, **more)


def _polling():
    for point in _sizes("polling"):
        yield point
        yield replace(point, name=f"{point.name}-both", direction="both")
    yield Point("polling/64k-rx1024", "polling", SEGMENT, rx_ring=1024)
    for name, size in (("1518", 1518), ("64k", SEGMENT)):
        yield Point(f"polling/{name}-touch", "polling", size, touch=True)
        yield Point(f"polling/{name}-touch-both", "polling", size, touch=True, direction="both")
    for pairs in (2, 4, 8):
        yield Point(f"polling/64-{pairs}-pairs", "polling", pairs=pairs)
    yield Point("polling/64-all-to-one", "polling", topology="all-to-one", vms=9)
    yield Point("polling/64-one-to-all", "polling", topology="one-to-all", vms=9)
    for name, size in (("64", 64), ("1518", 1518), ("64k", SEGMENT)):
        yield Point(f"polling/{name}-packed", "polling", size, packed=True)
    yield Point("polling/rtt", "polling", kind="rtt", pings=1)
    yield Point("polling/rtt-load", "polling", kind="rtt", pings=1, pairs=2)
    for vary in ("port", "mac"):
        for name, flows in FLOWS.items():
            yield Point(f"polling/64-{name}-{vary}", "polling", flows=flows, vary=vary)
    yield Point("polling/64-64-idle", "polling", idle=IDLE_PORTS)
    both = Point("polling/64-two-receivers", "polling", topology="one-to-all", vms=3, good_only=True)
    yield both
    yield replace(both, name="polling/64-full-receiver", slow=1)
    yield replace(both, name="polling/64-slow-receiver", slow=1, pause_us=200)


def _sleeping(condition):
    yield from _sizes(condition)
    yield Point(f"{condition}/1518-touch", condition, 1518, touch=True)
    yield Point(f"{condition}/64-both", condition, direction="both")
    yield Point(f"{condition}/64-packed", condition, packed=True)
    yield Point(f"{condition}/rtt", condition, kind="rtt", pings=1)
    yield Point(f"{condition}/rtt-busy", condition, kind="rtt", pings=1, busy=True)


def _consolidated(condition):
    for name, size in (("64", 64), ("1518", 1518), ("64k", SEGMENT)):
        yield Point(f"{condition}/{name}", condition, size, pairs=4)
    yield Point(f"{condition}/1518-touch", condition, 1518, pairs=4, touch=True)
    yield Point(f"{condition}/64-1-pair", condition)
    yield Point(f"{condition}/64k-1-pair", condition, SEGMENT)
    yield Point(f"{condition}/rtt", condition, kind="rtt", pings=1)
    yield Point(f"{condition}/rtt-load", condition, kind="rtt", pings=1, pairs=5)
    yield Point(f"{condition}/all-to-one", condition, topology="all-to-one", vms=5)


def _cpu():
    yield Point("consolidated/cpu-idle", "consolidated", kind="cpu", vms=0, pairs=0, idle=IDLE_PORTS, rate=0)
    yield Point("consolidated/cpu-10k", "consolidated", kind="cpu", rate=10_000)
    yield Point("consolidated/cpu-1M", "consolidated", kind="cpu", rate=1_000_000)


def _nic():
    """A VM and a container, one sends and the other receives; and two containers."""
    for device in ("tap", "xdp"):
        # AF_XDP has no segments longer than its frames.
        sizes = (("64", 64), ("1518", 1518)) + (("64k", SEGMENT),) * (device == "tap")
        for ends in (("vm", device), (device, "vm")):
            for name, size in sizes:
                yield Point(f'nic/{"-".join(ends)}-{name}', "nic", size, ends=ends)
            yield Point(f'nic-polling/{"-".join(ends)}-64', "nic-polling", ends=ends)
        yield Point(f"nic/vm-{device}-rtt", "nic", kind="rtt", pings=1, ends=("vm", device))
        yield Point(f"nic/{device}-{device}-tcp", "nic", SEGMENT, streams=(1, 4), ends=(device, device))


POINTS = {p.name: p for p in (
    *_polling(), *_sleeping("shared"), *_sleeping("free"), *_consolidated("consolidated"), *_consolidated("kept-off"),
    *_cpu(), *_nic(), Point("polling/tcp", "polling", SEGMENT, streams=(1, 4)),
)}
