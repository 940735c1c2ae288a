# SPDX-License-Identifier: BSD-3-Clause
"""lasthop itself: the whole switch from one command line; and its variants with mechanisms switched off."""

import os
from pathlib import Path
from functools import lru_cache

from harness import namespaces
from harness.process import Absent, Child, Unavailable, run
from .base import Contender

READY = "lasthop: ready"


@lru_cache
def _help(program):
    return run([program, "run", "--help"])


class Lasthop(Contender):
    name = "lasthop"
    polls = False
    options = ()  # of `lasthop run`, beyond those that each point needs

    def start(self):
        program = self.build / "lasthop"
        if not os.access(program, os.X_OK):
            raise Unavailable(f"{program} is not built")
        missing = [o for o in self.options if o.startswith("--") and o not in _help(program)]
        if missing:
            raise Absent(f'`lasthop run` has no {", ".join(missing)}')
        self.make_containers()
        state = self.dir / "switch"
        state.mkdir()
        self.child = Child(self.lab, "lasthop", [program, "run", "--dir", state, *self._settings()],
                           cores=self.placement.switch_cores)
        self.children.append(self.child)
        self.child.wait_for(lambda: READY in self.child.output(), f'line "{READY}"')
        self._await_devices()
        self.raise_containers()

    def _settings(self):
        # A station is refused beyond the limit, which is there to protect from floods.
        limit = ",mac-limit=65536" if self.point.stations > 1 else ""
        ports = [f"--port={self._port(i, name)}{limit}" for i, name in enumerate(self.port_names)]
        flows = ["--flows-max", 2 * self.point.flows] if self.point.flows > 100_000 else []
        return ["--workers", len(self.placement.switch_cores), *flows, *ports, *self.options]

    def _port(self, index, name):
        """A port with a vhost-user socket, or with the driver domain of its device."""
        end = self.ends[index]
        if end == "vm":
            return f"{name}={self.socket(index)}"
        kind, device, where = ("tap", namespaces.INTERFACE, self.containers[index]) if end == "tap" else \
            ("af_xdp", name, self.world)
        return f"{name},driver={kind},device={device},netns={namespaces.path(where)},mtu={self.mtu}"

    def _await_devices(self):
        for index, pid in self.containers.items():
            devices = Path(f"/proc/{pid}/net/dev")
            self.child.wait_for(lambda d=devices: f"{namespaces.INTERFACE}:" in d.read_text(), "device")

    def settings(self):
        return {"workers": len(self.placement.switch_cores), "options": list(self.options)}


def _variant(name, *options):
    return type(f"Lasthop_{name}", (Lasthop,), {"name": f"lasthop-{name}", "options": options})


BATCHING, COPY, OFFLOAD = "--no-state-batching", "--no-preemptive-copy", "--no-offload"
VARIANTS = (
    _variant("no-batching", BATCHING),
    _variant("no-preemptive-copy", COPY),
    _variant("no-offload", OFFLOAD),
    _variant("none", BATCHING, COPY, OFFLOAD),
    # Where the workers are: left to the kernel; one a CPU, and how eager.
    _variant("kernel-placed", "--no-pinning", "--class", "normal"),
    _variant("pinned-batch", "--class", "batch"),
    _variant("pinned-normal", "--class", "normal"),
    _variant("pinned-idle", "--class", "idle"),
)
