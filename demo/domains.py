# SPDX-License-Identifier: BSD-3-Clause
"""The demonstration's second half: a container, the host and an uplink on the VMs' switch, behind driver domains.

The uplink is a veth pair through AF_XDP; its far end, a network namespace, is the world outside. Its driver is killed
while the VMs exchange TCP, and while a connection over the uplink is open.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import statistics
import threading
import time

import traffic
from lab import Failure, expect, wait_for
from namespace import Namespace, command, veth

CONTAINER, WORLD = "10.0.0.100", "10.0.0.200"
HOST6 = "fd00::64"
SECONDS = 6        # of TCP between the VMs, around the kill
INTERVAL = 0.25    # seconds of one of its measurements
KILL_AFTER = 3.0


class Domains:
    """Attached to a running switch with two VMs; use as a context manager."""

    def __init__(self, lab, switch):
        self.lab = lab
        self.switch = switch
        self.host_tap = f"lh{os.getpid() % 100000}"

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.container, self.nic, self.world = [stack.enter_context(Namespace(name))
                                                    for name in ("container", "nic", "world")]
            veth(self.nic, "nic0", self.world, "wire0")
            # What no NIC would do: leave checksums and segmentation to a receiver that does not know of them.
            self.world.run("ethtool", "-K", "wire0", "tx", "off")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def commands(self):
        """The three ports, as an operator adds them."""
        return [
            ("container", ["port", "add", "--tap", "eth0", "--netns", self.container.name, "--name", "container"]),
            ("host", ["port", "add", "--tap", self.host_tap, "--name", "host"]),
            ("uplink", ["port", "add", "--af-xdp", "nic0", "--netns", self.nic.name, "--name", "uplink"]),
        ]

    def attach(self, say):
        for name, words in self.commands():
            say(f"$ lasthop {' '.join(words)}")
            self.switch.text(*words)
        for name, _ in self.commands():
            wait_for(lambda port=name: self.switch.port(port)["state"] == "up", f"port {name} is up")
            say(f"{name:10} {self.describe(name)}")
        self.container.address("eth0", CONTAINER)
        self.world.address("wire0", WORLD)
        # The host only talks to the VMs' own addresses here: it may have networks of its own.
        command("ip", "link", "set", self.host_tap, "up")
        command("ip", "-6", "addr", "add", f"{HOST6}/128", "dev", self.host_tap, "nodad")

    def driver(self, port="uplink"):
        return self.switch.port(port)["driver"]

    def describe(self, port):
        driver = self.driver(port)
        mode = f", {driver['mode']}" if driver.get("mode") else ""
        return f"{driver['kind']} {driver['device']}{mode}, process {driver['pid']}"

    def detach(self):
        for name, _ in self.commands():
            self.switch.text("port", "del", name)
        wait_for(lambda: not pathlib.Path(f"/sys/class/net/{self.host_tap}").exists(), "the host's TAP is gone")


def show_reach(domains, vm, say):
    """Pings between the four kinds of stations."""
    command("ip", "-6", "route", "add", f"{vm.address6}/128", "dev", domains.host_tap)

    def ping(where, words):
        output = wait_for(lambda: where(words), words)
        say(f"{words:34} {output}")

    def summary(run):
        def where(words):
            found = re.search(r"min/avg/max.* = [\d.]+/([\d.]+)/", run(words))
            return found and f"{found.group(1)} ms"
        return where

    from_vm = summary(lambda words: vm.attempt(f"ping -c 3 -i 0.2 -W 2 {words.split()[-1]}")[0].replace(
        "round-trip ", ""))
    from_namespace = lambda namespace: summary(
        lambda words: namespace.run("ping", "-c", "3", "-i", "0.2", "-W", "2", words.split()[-1], check=False))
    from_host = summary(lambda words: command("ping", "-6", "-c", "3", "-i", "0.2", "-W", "2", words.split()[-1],
                                              check=False))
    for where, words in ((from_vm, f"VM -> container {CONTAINER}"), (from_vm, f"VM -> world {WORLD}"),
                         (from_namespace(domains.container), f"container -> world {WORLD}"),
                         (from_namespace(domains.container), f"container -> VM {vm.address}"),
                         (from_host, f"host -> VM {vm.address6}")):
        ping(where, words)


class Connection:
    """One TCP connection from the container over the uplink that must live as long as this."""

    def __init__(self, domains):
        self.lab = domains.lab
        domains.lab.spawn("world", domains.world.inside("iperf3", "-s", "-1"))
        wait_for(lambda: ":5201" in domains.world.run("ss", "-ltn"), "iperf3 listens")
        self.process = domains.lab.spawn("uplink-tcp", domains.container.inside(
            "iperf3", "-c", WORLD, "-t", SECONDS, "-i", "0", "-b", "50M", "-J"))

    def end(self):
        self.process.wait(SECONDS + 30)
        report = json.loads((self.lab.path / "uplink-tcp.log").read_text())
        if "error" in report:
            raise Failure(f"the connection over the uplink ended: {report['error']}")
        return report["end"]["sum_received"]["bytes"]


class Outage:
    """Kills the uplink's driver after a while, and finds out how long the world is away."""

    def __init__(self, domains):
        self.domains = domains
        self.victim = domains.driver()["pid"]
        self.back_ms = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        time.sleep(KILL_AFTER)
        self.at = time.monotonic()
        os.kill(self.victim, signal.SIGKILL)
        while time.monotonic() < self.at + 20:
            if self.domains.driver().get("pid") not in (None, self.victim) and \
                    self.domains.switch.port("uplink")["state"] == "up":
                self.back_ms = (time.monotonic() - self.at) * 1000
                return
            time.sleep(0.01)

    def end(self):
        self._thread.join()
        expect(self.back_ms is not None, "the uplink did not come back")
        return self.back_ms


def show_kill(domains, one, two, say):
    """kill -9 of the uplink's driver while the VMs exchange TCP."""
    traffic.reach(one, two)
    traffic.serve(two)
    wait_for(lambda: one.attempt(f"nc -w 2 {two.address} 5201 </dev/null")[1] == 0, "iperf3 listens")
    before = {port: domains.switch.counters(port)["drops"] for port in ("a", "b")}
    connection = Connection(domains)
    outage = Outage(domains)
    report = json.loads(one.run(f"iperf3 -c {two.address} -t {SECONDS} -i {INTERVAL} -J", SECONDS + 60))
    back_ms = outage.end()
    carried = connection.end()
    rates = [part["sum"]["bits_per_second"] / 1e6 for part in report["intervals"]]
    # The first second is TCP's own beginning; where the kill lies in the guest's time is known to an interval or two.
    at = int(KILL_AFTER / INTERVAL)
    around, others = rates[at - 1:at + 4], rates[4:at - 1] + rates[at + 4:]
    say(f"VM to VM   {statistics.mean(others):.0f} Mbit/s ± {statistics.stdev(others):.0f}, "
        f"{statistics.mean(around):.0f} in the second around the kill")
    say(f"uplink     its TCP connection survived, and carried {carried / 1e6:.0f} MB")
    say(f"uplink driver {outage.victim} was killed, and back after {back_ms:.0f} ms")
    expect(min(around) > 0, "the VMs' TCP stood still")
    for port, drops in before.items():
        new = {reason for reason, count in domains.switch.counters(port)["drops"].items() if count > drops.get(reason, 0)}
        expect(new <= {"out-full"}, f"port {port} dropped: {new}")
