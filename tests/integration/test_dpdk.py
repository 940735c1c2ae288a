#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A NIC of DPDK's behind a port: its AF_PACKET, TAP and ring devices; asleep without traffic, confined, gone cleanly."""

import os
import pathlib
import time

from drivers import Driver, counters, driver_command
from running import Switch, expect, expect_equal, run_tests, wait_for
from namespace import Namespace, need_namespaces, veth

SIZE = 5_000_000


class Bench:
    """A switch; a TAP device at its port `vm`, in a namespace; a device of DPDK's at port `nic`, in another."""

    def __init__(self, top):
        self.switch = Switch(top, "nic", "vm")
        self.vm, self.host = Namespace("v"), Namespace("h")
        self.drivers = [Driver(self.switch, "vm", "tap", "tap0", space=self.vm)]
        self.vm.address("tap0", "10.8.0.2")

    def nic(self, device, *options):
        self.drivers.append(Driver(self.switch, "nic", "dpdk", device, *options, space=self.host))
        return self.drivers[-1].process.pid

    def stop(self):
        for driver in self.drivers:
            driver.stop()
        self.switch.stop()


def cpu_seconds(pid):
    """Of all threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def expect_asleep(pid, most):
    """Spends less than this part of a CPU over two seconds."""
    before = cpu_seconds(pid)
    time.sleep(2)
    used = (cpu_seconds(pid) - before) / 2
    print(f"  asleep it takes {100 * used:.1f} % of a CPU")
    expect(used < most, f"{100 * used} % of a CPU without traffic")


def expect_confined(pid):
    """Every thread of it."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        name = status["Name"]
        expect(status["Uid"].split()[0] != "0", f"thread {name} is root's")
        for kind in ("CapPrm", "CapEff", "CapAmb"):
            expect_equal(int(status[kind], 16), 0, f"{kind} of thread {name}")
        expect_equal(status["NoNewPrivs"], "1", f"no_new_privs of thread {name}")
        expect_equal(status["Seccomp"], "2", f"seccomp of thread {name}")
        expect_equal(os.listdir(task / "root"), [], f"files that thread {name} sees")


def af_packet(top):
    """TCP both ways through a veth that DPDK drives with packet sockets"""
    bench, other = Bench(top), Namespace("o")
    veth(bench.host, "near", other, "far")
    # DPDK's packet sockets know no unfinished checksums.
    other.no_offloads("far")
    other.address("far", "10.8.0.1")
    pid = bench.nic("net_af_packet0,iface=near")
    other.stream(bench.vm, "10.8.0.2", SIZE)
    bench.vm.stream(other, "10.8.0.1", SIZE)
    expect_confined(pid)
    expect_asleep(pid, 0.05)
    # Larger than it takes: lost, and nothing stands still for it.
    bench.vm.ip("link", "set", "tap0", "mtu", 9000)
    expect_equal(bench.vm.ping("10.8.0.1", 3, size=4000), 0, "answers to what is too long")
    bench.vm.ip("link", "set", "tap0", "mtu", 1500)
    bench.vm.stream(other, "10.8.0.1", SIZE)
    expect("too-long" in bench.drivers[-1].stop(), "nothing said of frames that were too long")
    bench.drivers.pop()
    bench.stop()


def tap(top):
    """TCP both ways through a TAP device of DPDK's, which has interrupts"""
    bench = Bench(top)
    pid = bench.nic("net_tap0,iface=dtap0")
    bench.host.address("dtap0", "10.8.0.1")
    bench.host.stream(bench.vm, "10.8.0.2", SIZE)
    bench.vm.stream(bench.host, "10.8.0.1", SIZE)
    expect_confined(pid)
    expect_asleep(pid, 0.01)
    bench.host.ip("link", "set", "dtap0", "down")
    wait_for(lambda: bench.switch.port("nic")["state"] != "up", "the port goes down with its device")
    bench.host.ip("link", "set", "dtap0", "up")
    bench.switch.wait_state("nic", "up")
    bench.host.stream(bench.vm, "10.8.0.2", SIZE)
    bench.stop()


def ring(top):
    """frames come back from a ring in the buffers that they were sent in"""
    bench = Bench(top)
    bench.nic("net_ring0")
    # An address that nobody has: asked for again and again, and each question comes back.
    expect_equal(bench.vm.ping("10.8.0.77", count=3), 0, "answers")
    wait_for(lambda: counters(bench.switch, "nic")["in_packets"] > 1, "frames come back")
    bench.stop()


def refused(top):
    """devices that are none"""
    switch = Switch(top, "nic")
    for device, text in (("eth0", "a PCI address, or net_"), ("net_af_packet0,iface=lh_none", "DPDK"),
                         ("0000:ff:1f.7", "DPDK")):
        status, _, errors = driver_command("--port", switch.socket("nic"), "--kind", "dpdk", "--device", device)
        expect_equal(status, 3, f"exit status for {device}")
        expect(text in errors, f"no word of {device}: {errors}")
    status, _, errors = driver_command("--port", f"{top}/none.sock", "--kind", "dpdk", "--device", "net_null0")
    expect_equal(status, 4, f"exit status without a port: {errors}")
    switch.stop()


if __name__ == "__main__":
    need_namespaces()
    run_tests(af_packet, tap, ring, refused)
