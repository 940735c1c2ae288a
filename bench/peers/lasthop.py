# SPDX-License-Identifier: BSD-3-Clause
"""lasthop itself: the whole switch from one command line, on the switch's cores only."""

import os

from harness.process import Child, Unavailable
from .base import Contender

READY = "lasthop: ready"


class Lasthop(Contender):
    name = "lasthop"

    def start(self):
        program = self.build / "lasthop"
        if not os.access(program, os.X_OK):
            raise Unavailable(f"{program} is not built")
        ports = [f"--port={name}={self.socket(i)}" for i, name in enumerate(self.port_names)]
        state = self.dir / "switch"
        state.mkdir()
        self.child = Child(
            self.lab, "lasthop",
            [program, "run", "--dir", state, "--workers", len(self.placement.switch_cores), *ports],
            cores=self.placement.switch_cores)
        self.children.append(self.child)
        self.child.wait_for(lambda: READY in self.child.output(), f'line "{READY}"')

    def settings(self):
        return {"workers": len(self.placement.switch_cores)}
