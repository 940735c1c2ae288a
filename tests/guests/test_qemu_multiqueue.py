#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# test: timeout 600
"""A VM with two queue pairs, and what a guest asks for through its control queue.

QEMU itself answers the control queue; the switch sees the effect: queues enabled and disabled, frames from and to
addresses that the device was not made with, announcements.
"""

import re

import traffic
from guest import Nic, Qemu
from lab import expect, run_test, step, wait_for
from switch import make_switch

PAIRS = (1, 2, 1, 2)  # what the guest asks for, in this order
ANNOUNCEMENTS = 5  # QEMU's announce-self sends that many
NEW_MAC = "52:54:00:aa:bb:cc"


def sent_by_queue(guest):
    return [int(count) for count in re.findall(r"tx_queue_\d+_packets: (\d+)", guest.run("ethtool -S eth0"))]


def check_traffic(one, two):
    traffic.reach(one, two)
    traffic.ping(two, one.address)
    traffic.transfer(one, two, mebibytes=2)
    traffic.transfer(two, one, two.address6, mebibytes=2)



def test(lab):
    switch = make_switch(lab, {"a": "queues=2", "b": "queues=2"})
    # Only the older kernel counts packets by queue for ethtool.
    guests = [Qemu(lab, "vm1", 1, [Nic(switch.socket("a"), queues=2)], kernel="linux-6.1", cpus=2),
              Qemu(lab, "vm2", 2, [Nic(switch.socket("b"), queues=2)], kernel="linux-6.12", cpus=2)]
    one, two = [guest.ready() for guest in guests]

    for pairs in PAIRS:
        step(f"{pairs} queue pair{'s' * (pairs > 1)} in use")
        one.run(f"ethtool -L eth0 combined {pairs}")
        expect(re.search(rf"Combined:\s*{pairs}\s*$", one.run("ethtool -l eth0").strip()), "ethtool -L had no effect")
        check_traffic(one, two)

    step("packets leave by both queues")
    before = sent_by_queue(one)
    for cpu in (1, 2):  # a guest's queue belongs to a processor
        one.run(f"taskset {cpu} ping -c 10 -i 0.05 {two.address}")
    after = sent_by_queue(one)
    grown = [now - then for then, now in zip(before, after)]
    expect(len(grown) == 2 and min(grown) >= 10, f"packets sent by queue: {grown}")
    traffic.tcp(one, two, 32, streams=4)
    traffic.tcp(one, two, 32, streams=4, reverse=True)

    step("promiscuous mode on and off")
    for mode in ("on", "off"):
        two.run(f"ip link set eth0 promisc {mode}")
        check_traffic(one, two)

    step("a multicast group is joined: neighbour discovery of a new address")
    two.run("ip addr add fd00::abc:2/64 dev eth0")
    traffic.ping(one, "fd00::abc:2")

    step("another unicast address: a macvlan interface")
    two.run("modprobe macvlan; ip link add link eth0 name mv0 type macvlan")
    two.run("ip addr add 10.9.0.2/24 dev mv0; ip link set mv0 up")
    one.run("ip addr add 10.9.0.1/24 dev eth0")
    traffic.ping(one, "10.9.0.2")

    step("the device's address is changed")
    two.run(f"ip link set eth0 down; ip link set eth0 address {NEW_MAC}; ip link set eth0 up")
    two.run(f"ip addr replace {two.address6}/64 dev eth0")
    one.run("ip neigh flush dev eth0")
    check_traffic(one, two)
    if switch.has_views:
        addresses = [row["mac"] for row in switch.view("mac", "show")["macs"]]
        expect(NEW_MAC in addresses, f"the switch learned {NEW_MAC}: {addresses}")

    step("announcements of one VM reach the other")
    with traffic.Observed(two) as seen:
        one.qmp("announce-self", initial=50, max=100, rounds=ANNOUNCEMENTS, step=10)
        two.run("sleep 1")
    expect(seen["rx_packets"] >= ANNOUNCEMENTS, f"only {seen['rx_packets']} packets arrived")
    check_traffic(one, two)

    step("paused and continued by QEMU")
    one.qmp("stop")
    one.qmp("cont")
    check_traffic(one, two)
    if switch.has_views:
        wait_for(lambda: all(switch.port(name)["state"] == "up" for name in switch.ports), "both ports are up")
    switch.stop()


if __name__ == "__main__":
    run_test(test)
