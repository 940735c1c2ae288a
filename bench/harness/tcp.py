# SPDX-License-Identifier: BSD-3-Clause
"""TCP through a contender: real drivers, real stacks, iperf3. Between two User-mode Linux guests, or between containers.

Every contender passes segmentation offload through here (OVS: userspace-tso-enable, testpmd: tso=1). User-mode Linux
is a vhost-user client, so contenders listen. One pair is booted a contender and repetition, on the VMs' cores, and
serves all stream counts.
"""

import json
import subprocess
import time

from guest import Uml

from . import machine, namespaces
from .machine import CpuWatch
from .measure import Sample
from .process import BenchError, Child, on_cores

CONGESTION = "cubic"  # Linux's default; a pacing one would measure its own timers
OMITTED = 1  # seconds at the start that iperf3 leaves out: TCP finding its window


def point_name(point, streams):
    return f"{point.name}-{streams}"


def _end(text):
    report = json.loads(text)
    if "error" in report:
        raise BenchError(f'iperf3: {report["error"]}')
    return report["end"]


def pair(contender):
    return Containers(contender) if contender.point.with_devices else Guests(contender)


class Guests:
    """Two booted guests on a contender that listens; the iperf3 server runs in the second."""

    def __init__(self, contender):
        with on_cores(contender.placement.vm_cores):
            self.guests = [Uml(contender.lab, f"uml{i}", i + 1, str(contender.uml_socket(i))) for i in range(2)]
        for guest in self.guests:
            guest.ready()
        client, server = self.guests
        server.run("iperf3 -s -D")
        # The first packets: ARP, and the switch learning where both are.
        client.run(f"n=0; until ping -c1 -W1 {server.address} || [ $n -ge 10 ]; do n=$((n+1)); done >/dev/null; "
                   f"ping -c1 -W1 {server.address}")

    def transfer(self, streams, seconds):
        """iperf3's report of what the server received."""
        client, server = self.guests
        command = f"iperf3 -c {server.address} -t {seconds} -O {OMITTED} -P {streams} -J"
        return _end(client.run(command, seconds=seconds + OMITTED + 30))

    def pids(self):
        return [guest.process.pid for guest in self.guests]


class Containers:
    """Two namespaces with an address each; a server of iperf3 waits in the second, a shell for clients in the first."""

    CLIENTS = "while read -r words; do iperf3 $words >answer.json 2>&1; echo answered; done"

    def __init__(self, contender):
        self.dir = contender.dir
        cores = contender.placement.vm_cores
        client, server = contender.containers.values()
        self.address = namespaces.address(list(contender.containers)[1])
        self.server = Child(contender.lab, "iperf3", namespaces.inside(server, "iperf3", "-s"), cores=cores)
        self.server.wait_for(lambda: "listening" in self.server.output(), "server")
        self.client = Child(contender.lab, "iperf3-clients", namespaces.inside(client, "sh", "-c", self.CLIENTS),
                            cores=cores, stdin=subprocess.PIPE)
        # The first packets: ARP, and the switch learning where both are.
        self._iperf3("-n", "64K")

    def _iperf3(self, *words, patience=30):
        answers = self.client.output().count("answered")
        self.client.say(" ".join(map(str, ("-c", self.address, "-J", "--connect-timeout", 3000, "-C", CONGESTION,
                                      *words))))
        self.client.wait_for(lambda: self.client.output().count("answered") > answers, "answer", patience)
        return _end((self.dir / "answer.json").read_text())

    def transfer(self, streams, seconds):
        return self._iperf3("-t", seconds, "-O", OMITTED, "-P", streams, patience=seconds + OMITTED + 30)

    def pids(self):
        return [self.client.pid, self.server.pid]


def measure(contender, pair, point, streams, seconds, helper):
    """One sample on a booted pair. It counts bytes; packets are the guests' own affair."""
    before = machine.handover_ns(helper)
    watch = CpuWatch(contender.pids(), pair.pids(), point.with_devices)
    start = time.monotonic_ns()
    watch.start()
    try:
        end = pair.transfer(streams, seconds)
    finally:
        watch.finish()
    after = machine.handover_ns(helper)
    received = end["sum_received"]
    begun = start + OMITTED * 1_000_000_000
    cpu = watch.shares(begun, begun + int(received["seconds"] * 1e9))
    if contender.works_in_vms:
        cpu["switch"] = cpu["vms"]
    return Sample(
        contender=contender.name, point=point_name(point, streams), kind="rate", figure=received["bits_per_second"],
        regime=machine.regime(before, after), handover_ns=(before, after), packets_per_s=None,
        bits_per_s=received["bits_per_second"], rtt_ns=None, cpu=cpu, settings=contender.settings(),
        detail={"bytes": received["bytes"], "retransmits": end["sum_sent"].get("retransmits")})
