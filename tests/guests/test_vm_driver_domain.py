#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# test: timeout 600
"""A whole VM as a driver domain: a Linux guest bridges the NIC that it was given to its port of the switch.

There is no code of ours in it. Its NIC is a TAP, whose other end is the world outside: a network namespace. A second VM
reaches the world through it; the driver domain dies under traffic between two other VMs and comes back.
"""

import traffic
from guest import Nic, Qemu, TapNic, Uml
from lab import expect, run_test, step, wait_for
from namespace import Namespace
from switch import make_switch

WORLD = "10.0.0.200"


def bridge(domain):
    """What a driver domain's distribution would have in its network configuration."""
    domain.ready()
    domain.run("modprobe bridge; ip addr flush dev eth0; brctl addbr br0 && brctl addif br0 eth0 && brctl addif br0 eth1")
    domain.run("ip link set eth0 up && ip link set eth1 up && ip link set br0 up")


def test(lab):
    with Namespace("world") as world:
        world.run("ip", "tuntap", "add", "dev", "nic0", "mode", "tap", "vnet_hdr")
        world.address("nic0", WORLD)
        single = "mq=off"
        switch = make_switch(lab, {"up": "", "a": "", "u1": single, "u2": single})
        domain = Qemu(lab, "domain", 9, [Nic(switch.socket("up")), TapNic("nic0")], namespace=world.name)
        vm = Qemu(lab, "vm", 1, [Nic(switch.socket("a"))], kernel="linux-6.12")
        one = Uml(lab, "one", 11, switch.uml_socket("u1"))
        two = Uml(lab, "two", 12, switch.uml_socket("u2"))
        bridge(domain)
        for guest in (vm, one, two):
            guest.ready()

        step("a VM reaches the world through the driver domain, and the world the VM")
        world_answers = lambda: vm.attempt(f"ping -c 1 -W 1 {WORLD}")[1] == 0
        wait_for(world_answers, "the world answers")
        traffic.ping(vm, WORLD)
        traffic.ping(vm, WORLD, size=20000)
        world.run("ping", "-c", "3", "-i", "0.2", "-W", "3", vm.address)

        step("TCP both ways")
        lab.spawn("iperf3", world.inside("iperf3", "-s"))
        for direction in ("", "-R"):
            wait_for(lambda: vm.attempt(f"iperf3 -c {WORLD} -n 8M -i 0 {direction}", 60)[1] == 0, "iperf3 ends well")

        step("the driver domain is killed while two other VMs talk: they notice nothing")
        traffic.reach(one, two)
        before = switch.counters("u2")["drops"] if switch.has_views else {}
        pings = one.background(f"ping -c 100 -i 0.05 -W 5 {two.address}")
        domain.kill()
        expect(vm.attempt(f"ping -c 1 -W 1 {WORLD}")[1] != 0, "the world answers although its driver domain is dead")
        expect("100 packets received" in pings(), "a ping between two VMs was lost")
        if switch.has_views:
            expect(switch.counters("u2")["drops"] == before, f"drops: {switch.counters('u2')['drops']}")

        step("it is started again, and the world is back")
        domain.start()
        bridge(domain)
        wait_for(world_answers, "the world answers again", 60)
        traffic.ping(vm, WORLD)
        for guest in (domain, vm):
            guest.kill()
        switch.stop()


if __name__ == "__main__":
    run_test(test)
