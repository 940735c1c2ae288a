#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: timeout 900
"""Driver domains die, hang and lie, a hundred times under traffic; nobody else notices.

Two stations (as VMs are) exchange frames all the time and may not lose one. Containers on TAP drivers, two and two, talk
TCP. Each round one of three things happens: a TAP's driver is killed, or stopped, or a driver domain that was taken over
writes garbage into its rings and its pool. Nobody waits until the driver is back: the next is another one's. In the end
the core is the same process, with the memory and the descriptors that it had, everything is up again and the containers
reach each other.
"""

import os
import pathlib
import signal
import subprocess
import time

from running import Failure, Stations, Switch, expect, expect_equal, program, run_tests, wait_for
from namespace import Namespace, need_namespaces

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "100"))
WARM_UP = 10  # rounds after which memory and descriptors are compared
HANG_EVERY = 6
CONTAINERS = 6  # a driver that dies too often is away for up to 5 s
GROWTH_KB = 1024
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"


class Container(Namespace):
    """With a TAP in it that a driver domain serves."""

    def __init__(self, number):
        super().__init__("c")
        self.port = f"tap{number}"
        self.ipv4 = f"10.77.0.{number}"

    def configure(self):
        self.address("eth0", self.ipv4)

    def reaches(self, other):
        return self.ping(other.ipv4, wait=1) == 1


def holdings(pid):
    """What a process has: resident memory in kB, and descriptors."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(resident.split()[1]), len(os.listdir(f"/proc/{pid}/fd"))


class Chaos:
    def __init__(self, top, containers):
        self.switch = Switch(top, "a", "b", "evil,driver=external")
        for container in containers:
            self.switch.ok("port", "add", "--tap", "eth0", "--netns", container.name, "--name", container.port)
        for container in containers:
            self.switch.wait_state(container.port, "up")
            container.configure()
        self.stations = Stations(self.switch.socket("a"), self.switch.socket("b"))
        self.stations.send(0, A, B)
        self.stations.send(1, B, A)
        expect_equal([self.stations.take(1, 1), self.stations.take(0, 1)], [1, 1], "the first frames")
        self.pairs = list(zip(containers[::2], containers[1::2]))
        self.traffic = []
        for one, two in self.pairs:
            wait_for(lambda one=one, two=two: one.reaches(two), "the containers reach each other")
            self.traffic += [two.start("iperf3", "-s", **QUIET), one.start(
                "sh", "-c", f"while :; do iperf3 -c {two.ipv4} -t 5 -b 80M; sleep 0.2; done", **QUIET)]
        self.core = self.switch.child("lasthop-core")
        self.frames = 0
        self.ends = dict.fromkeys((container.port for container in containers), 0)
        self.ended = {}  # the port's driver that was ended last
        self.attached = 0
        self.slow = 0

    def driver(self, port):
        """What the switch says of the port's driver."""
        return self.switch.port(port)["driver"]

    def settled(self):
        """Ports whose driver is up, with its process: of one that was ended, a successor."""
        rows = {row["name"]: row for row in self.switch.json("port", "show")["ports"]}
        pids = {port: rows[port]["driver"].get("pid") for port in self.ends if rows[port]["state"] == "up"}
        return {port: pid for port, pid in pids.items() if pid not in (None, self.ended.get(port))}

    def wait_settled(self):
        wait_for(lambda: len(self.settled()) == len(self.ends), "all drivers are up")

    def settled_holdings(self):
        """When all drivers are there. On a slow machine one may be taken for hung just then."""
        for _ in range(20):
            self.wait_settled()
            one = holdings(self.core)
            time.sleep(0.5)
            two = holdings(self.core)
            if one[1] == two[1]:
                return two
        raise Failure("the core's descriptors do not settle")

    def end_driver(self, signo):
        """Of those that are up, the one that was ended least often."""
        pids = wait_for(self.settled, "a driver that is up")
        port = min(pids, key=self.ends.get)
        pid = pids[port]
        os.kill(pid, signo)
        self.ended[port] = pid
        self.ends[port] += 1

    def lie(self, number):
        done = subprocess.run([program("hostile_driver"), self.switch.port("evil")["path"], "300", str(number)],
                              stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        self.attached += int(done.stdout)

    def round(self, number):
        """One misdeed under traffic, of which none is lost."""
        self.stations.begin("stream 400")
        if number % HANG_EVERY == 0:
            self.end_driver(signal.SIGSTOP)
        elif number % 2:
            self.end_driver(signal.SIGKILL)
        else:
            self.lie(number)
        sent, received = map(int, self.stations.end().split())
        expect_equal(received, sent, f"round {number}: frames received of those sent")
        # A window each way and no more: the switch stood still for the whole time, or the machine left it no CPU.
        self.slow += sent <= 32
        expect(self.slow <= ROUNDS // 20, f"round {number}: the {self.slow}th in which only {sent} frames were sent")
        expect_equal(self.switch.child("lasthop-core"), self.core, f"round {number}: the core")
        self.frames += sent

    def end(self):
        for process in self.traffic:
            process.kill()
            process.wait()
        self.wait_settled()
        for one, two in self.pairs:
            wait_for(lambda one=one, two=two: one.reaches(two) and two.reaches(one), "they reach each other again")
        # What the hostile driver and the containers send to all may ask for what nobody can do, or find a station that
        # had no CPU to take it. Of the stations' own frames each one was counted.
        for port in "ab":
            drops = set(self.switch.port(port)["counters"]["drops"])
            expect(drops <= {"out-offload", "out-full"}, f"drops of port {port}: {drops}")
        for port, ends in self.ends.items():
            expect(self.driver(port)["restarts"] >= ends, f"{port}: {self.driver(port)}, {ends} ends")


def chaos(top):
    """drivers are killed, stopped and taken over under traffic"""
    containers = [Container(number) for number in range(1, CONTAINERS + 1)]
    try:
        test = Chaos(top, containers)
        before = None
        for number in range(1, ROUNDS + 1):
            test.round(number)
            if number == min(WARM_UP, ROUNDS // 2):
                test.wait_settled()
                before = test.settled_holdings()
        test.end()

        def as_before():
            memory, descriptors = holdings(test.core)
            return memory <= before[0] + GROWTH_KB and descriptors == before[1]

        wait_for(as_before, f"the core has what it had: {before} kB and descriptors, now {holdings(test.core)}")
        memory, descriptors = holdings(test.core)
        print(f"  {ROUNDS} rounds: {sum(test.ends.values())} drivers ended, {test.attached} attachments of a hostile one, "
              f"{test.frames} frames between two VMs and none lost, {test.slow} rounds without a CPU; the core had "
              f"{before[0]} kB and {before[1]} descriptors, and has {memory} kB and {descriptors}")
        for container in containers:
            test.switch.ok("port", "del", container.port)
        test.stations.close()
        test.switch.stop()
    finally:
        for container in containers:
            container.remove()


need_namespaces()
run_tests(chaos)
