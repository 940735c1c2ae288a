# SPDX-License-Identifier: BSD-3-Clause
"""The VMs of a packet benchmark: what drives two ports of a contender and counts what arrives.

BenchVm is our own generator on the project's front-end library, or on sockets for the kernel. VirtioUser is DPDK's testpmd with net_virtio_user,
which nobody here wrote: slower, and a closed loop, but an independent witness that a contender is set up rightly.
Both answer with the same dictionary:

  packets, bytes     delivered in the measured interval, over all directions
  seconds            its length
  start_ns, end_ns   where it lies on CLOCK_MONOTONIC, for the CPU times
"""

import json
import re
import subprocess
import time

from .points import Point
from .process import BenchError, Child, Skip, Unavailable, run

START_SECONDS = 40  # for a generator to connect, and for its end
FLOWS_SECONDS = 60


class Program:
    """A generator that is told everything by its command line and answers with one JSON object."""

    def __init__(self, program):
        self.program = program
        self.seconds = 0
        self.child = None

    def check(self):
        if not self.program.exists():
            raise Unavailable(f"{self.program} is not built")

    def arguments(self, contender, point):
        raise NotImplementedError

    def start(self, contender, point, seconds, cores):
        self.seconds = seconds
        # With many flows the warm-up lasts until all have been seen.
        self.patience = START_SECONDS + (FLOWS_SECONDS if point.flows > 1 else 0)
        argv = [self.program, *self.arguments(contender, point), "--seconds", seconds]
        self.child = Child(contender.lab, self.program.name, argv, cores=cores)
        return self.child

    def result(self):
        try:
            status = self.child.popen.wait(self.seconds + self.patience)
        except subprocess.TimeoutExpired:
            status = "no end"
        finally:
            self.child.stop()
        lines = [line for line in self.child.output().splitlines() if line.startswith("{")]
        if status or not lines:
            raise BenchError(f"{self.program.name}: {status}\n{self.child.tail()}")
        answer = json.loads(lines[-1])
        missing = {"packets", "bytes", "seconds", "start_ns", "end_ns"} - answer.keys()
        if missing:
            raise BenchError(f'{self.program.name}: its answer lacks {", ".join(sorted(missing))}')
        return answer


class BenchVm(Program):
    def __init__(self, program, extra=()):
        super().__init__(program)
        self.extra = extra

    def check(self):
        super().check()
        self.options = run([self.program, "--help"])

    def arguments(self, contender, point):
        words = [*point.arguments(), *self.extra]
        unknown = [w for w in words if str(w).startswith("--") and str(w).partition("=")[0] not in self.options]
        if unknown:
            raise Skip(f'{self.program.name} has no {", ".join(unknown)}')
        role = "--server" if contender.vm_is_server else "--client"
        return [role, *contender.sockets(), *words, "--json"]


class Memcpy(Program):
    """No VMs: copies between buffers that lie as theirs do."""

    def arguments(self, contender, point):
        placement = contender.placement
        words = ["--size", point.size, "--vm-cpu", placement.vm_cores[0], "--switch-cpu", placement.switch_cores[-1]]
        return words + ["--touch"] * point.touch


class VirtioUser:
    """Each port sends bursts to the other's MAC address and answers what it gets: a closed loop in both directions."""

    PROGRAM = "dpdk-testpmd"
    MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
    BURSTS = 16  # of 32 packets each in flight a port
    RING = 1024
    WARM_UP_SECONDS = 0.5

    def check(self):
        pass

    def start(self, contender, point, seconds, cores):
        plain = Point(point.name, point.condition, point.size)
        if point.offloads or point != plain:
            raise Skip("testpmd as generator only knows frames between two polling VMs")
        server = int(contender.vm_is_server)
        devices = [f"--vdev=net_virtio_user{i},path={path},server={server},queues=1,queue_size={self.RING},mac={mac}"
                   for i, (path, mac) in enumerate(zip(contender.sockets(), self.MACS))]
        core = cores[0]
        self.seconds, self.frame = seconds, point.size
        # One file for all memory: virtio_user's table holds eight regions. No hugepages: VMs have none either.
        self.child = Child(
            contender.lab, "virtio-user",
            [self.PROGRAM, "--lcores", f"0@{core},1@{core}", "--no-huge", "-m", 512, "--single-file-segments",
             "--no-pci", "--no-telemetry", "--no-shconf", *devices, "--", "-i",
             "--forward-mode=mac", "--port-topology=loop", f"--eth-peer=0,{self.MACS[1]}",
             f"--eth-peer=1,{self.MACS[0]}", f"--txpkts={self.frame}", "--nb-cores=1", "--no-lsc-interrupt",
             "--total-num-mbufs=16384"],
            env={"RUNTIME_DIRECTORY": contender.dir}, stdin=subprocess.PIPE)
        return self.child

    def result(self):
        try:
            return self._measure()
        finally:
            self.child.stop()

    def _measure(self):
        self.child.wait_for(lambda: "testpmd>" in self.child.output(), "prompt", START_SECONDS)
        self.child.say(f"start tx_first {self.BURSTS}")
        time.sleep(self.WARM_UP_SECONDS)
        start, before = self._received()
        time.sleep(self.seconds)
        end, after = self._received()
        packets = after - before
        return {"packets": packets, "bytes": packets * self.frame, "seconds": (end - start) / 1e9,
                "start_ns": start, "end_ns": end}

    def _received(self):
        pattern = re.compile(r"RX-packets: (\d+)")
        seen = len(pattern.findall(self.child.output()))
        now = time.monotonic_ns()
        self.child.say("show port stats all")
        self.child.wait_for(lambda: len(pattern.findall(self.child.output())) >= seen + 2, "statistics")
        return now, sum(int(n) for n in pattern.findall(self.child.output())[-2:])
