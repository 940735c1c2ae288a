# SPDX-License-Identifier: BSD-3-Clause
"""The VMs of a packet benchmark: what drives two ports of a contender and counts what arrives.

BenchVm is our own generator on the project's front-end library. VirtioUser is DPDK's testpmd with net_virtio_user,
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

from .process import BenchError, Child, Unavailable

START_SECONDS = 20  # for a generator to connect, and for its end


class BenchVm:
    def __init__(self, program):
        self.program = program

    def check(self):
        if not self.program.exists():
            raise Unavailable(f"{self.program} is not built")

    def start(self, contender, point, seconds, cores):
        role = "--server" if contender.vm_is_server else "--client"
        argv = [self.program, role, *contender.sockets(), "--size", point.size, "--mode", point.mode,
                "--direction", point.direction, "--seconds", seconds, "--json"]
        self.seconds = seconds
        self.child = Child(contender.lab, "bench-vm", argv, cores=cores)
        return self.child

    def result(self):
        try:
            status = self.child.popen.wait(self.seconds + START_SECONDS)
        except subprocess.TimeoutExpired:
            status = "no end"
        finally:
            self.child.stop()
        lines = [line for line in self.child.output().splitlines() if line.startswith("{")]
        if status or not lines:
            raise BenchError(f"bench-vm: {status}\n{self.child.tail()}")
        answer = json.loads(lines[-1])
        missing = {"packets", "bytes", "seconds", "start_ns", "end_ns"} - answer.keys()
        if missing:
            raise BenchError(f'bench-vm: its answer lacks {", ".join(sorted(missing))}')
        return answer


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
        if point.offloads:
            raise BenchError("testpmd sends no segments to be passed on whole")
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
