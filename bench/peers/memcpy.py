# SPDX-License-Identifier: BSD-3-Clause
"""No switch at all: what the switch's core can copy of the same frames (memcpy.c)."""

from harness import generator
from .base import Contender


class Memcpy(Contender):
    name = "memcpy"

    @classmethod
    def skips(cls, point):
        plain = point.condition == "polling" and not point.ends and point.kind == "rate" and point.ports == 2 and not point.packed
        return "" if plain and point.flows == 1 and point.direction == "one" and not point.streams else \
            "it only copies, for one pair of polling VMs, one way"

    def start(self):
        pass

    def pids(self):
        return []

    works_in_vms = True

    def generator(self, default):
        made = generator.Memcpy(self.build / "bench" / "bench_memcpy")
        made.check()
        return made
