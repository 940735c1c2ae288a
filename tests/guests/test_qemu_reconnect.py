#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# test: timeout 600
"""VMs, drivers and the switch's own processes end in every way, under traffic; afterwards traffic flows again.

Port b is in client mode: there QEMU listens and the switch connects.
"""

import os
import signal

import traffic
from guest import Nic, Qemu
from lab import expect, run_test, step, wait_for
from switch import make_switch


def load(one, two):
    """TCP both ways for long enough that what follows happens under it."""
    traffic.serve(two)
    one.run("nc -w 2 %s 5201 </dev/null" % two.address, check=False)
    one.run(f"iperf3 -c {two.address} -t 60 >/dev/null 2>&1 &")
    one.run("sleep 0.3")


def unload(guest):
    guest.run("killall -9 iperf3 2>/dev/null; kill -9 $(pidof iperf3) 2>/dev/null; true")


def check(one, two):
    traffic.reach(one, two, 60)
    traffic.ping(two, one.address)
    traffic.transfer(one, two, mebibytes=2)
    traffic.transfer(two, one, mebibytes=2)


def kill_part(switch, program):
    """SIGKILL for one of the switch's processes; returns when its successor is there."""
    old = switch.pid(program)
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: switch.pid(program) not in (old, None), f"a new {program}")


def die_in_every_way(lab, device):
    switch = make_switch(lab, {"a": "", "b": "mode=client"})
    one = Qemu(lab, "vm1", 1, [Nic(switch.socket("a"), device=device)], kernel="linux-6.1")
    two = Qemu(lab, "vm2", 2, [Nic(switch.socket("b"), device=device, server=True)], kernel="linux-6.12")
    for guest in (one, two):
        guest.ready()
    check(one, two)

    for victim, other in ((one, two), (two, one)):
        step(f"{victim.name} is killed under traffic and started again")
        load(one, two)
        victim.kill()
        victim.start()
        victim.ready()
        unload(other)
        check(one, two)

    step("a guest's driver lets the device go and takes it again, under traffic")
    load(two, one)
    one.run("cd /sys/bus/virtio/drivers/virtio_net && echo virtio0 >unbind && echo virtio0 >bind")
    one.run(f"ip link set eth0 up; ip addr add {one.address}/24 dev eth0; ip addr add {one.address6}/64 dev eth0")
    unload(two)
    check(one, two)

    step("a guest reboots under traffic")
    load(one, two)
    one.qmp("system_reset")
    one.ready()
    unload(two)
    check(one, two)

    if switch.has_views:
        step("the control plane is killed under traffic: no packet is lost")
        load(one, two)
        pings = one.background(f"ping -c 60 -i 0.05 -W 5 {two.address}")
        kill_part(switch, "lasthop-control")
        expect("60 packets received" in pings(), "a ping was lost")
        unload(one)
        check(one, two)
        wait_for(lambda: len(switch.view("mac", "show")["macs"]) >= 2, "the new control plane knows both guests")

        step("the core is killed under traffic: a running connection survives")
        traffic.serve(two)
        connection = one.background(f"iperf3 -c {two.address} -t 8 -i 0")
        one.run("sleep 1")
        kill_part(switch, "lasthop-core")
        expect("receiver" in connection(), "the connection ended")
        check(one, two)
    for guest in (one, two):
        guest.kill()
    switch.stop()


def test(lab):
    step("split rings")
    die_in_every_way(lab, "")
    # QEMU does not know where in a packed ring the core was when it died.
    step("packed rings")
    die_in_every_way(lab, "packed=on")


if __name__ == "__main__":
    run_test(test)
