#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# test: timeout 600
"""Two real VMs of two kernel versions: ping, TCP, UDP, large frames and jumbo frames, and the switch's view of it."""

import traffic
from guest import Nic, Qemu
from lab import expect, run_test, step
from switch import make_switch

JUMBO = 9000


def test(lab):
    switch = make_switch(lab, ["a", "b"])
    guests = [Qemu(lab, "vm1", 1, [Nic(switch.socket("a"))], kernel="linux-6.1"),
              Qemu(lab, "vm2", 2, [Nic(switch.socket("b"))], kernel="linux-6.12")]
    one, two = [guest.ready() for guest in guests]
    step(f"up: {one.run('uname -r').strip()} and {two.run('uname -r').strip()}")
    traffic.reach(one, two)
    drops = switch.drops() if switch.has_views else {}

    step("ping, small and fragmented, IPv4 and IPv6")
    for size in (18, 1472, 20000):
        traffic.ping(one, two.address, size=size)
    traffic.ping(two, one.address6)

    step("TCP each way, with segmentation offload, bytes unharmed")
    for sender, receiver in ((one, two), (two, one)):
        traffic.check_frames(sender, receiver, large=True)
        traffic.check_frames(sender, receiver, large=True, address=sender.address6)

    step("iperf3 each way, one and four streams")
    for streams in (1, 4):
        for reverse in (False, True):
            traffic.tcp(one, two, 32, streams, reverse)

    step("UDP")
    sent, lost = traffic.udp(one, two)
    expect(sent > 0 and lost <= sent // 20, f"{lost} of {sent} datagrams lost")

    step("without the senders' segmentation offload")
    for guest in guests:
        guest.run("ethtool -K eth0 tso off gso off")
    traffic.check_frames(one, two, large=False)
    traffic.check_frames(two, one, large=False)

    step(f"frames of {JUMBO} bytes")
    for guest in guests:
        guest.run(f"ip link set eth0 mtu {JUMBO}")
    with traffic.Observed(two) as seen:
        traffic.ping(one, two.address, size=JUMBO - 28)
    expect(seen["rx_bytes"] >= 5 * JUMBO and seen["rx_packets"] < 15, "a ping of the MTU's size came in pieces")
    for sender, receiver in ((one, two), (two, one)):
        mean = traffic.check_frames(sender, receiver, large=False, full_frame=JUMBO + traffic.ETHERNET_HEADER)
        expect(mean > traffic.MTU_FRAME, f"no jumbo frames arrived ({mean:.0f} bytes on average)")

    if switch.has_views:
        step("the switch's view")
        for name in switch.ports:
            row = switch.counters(name)
            expect(row["in_bytes"] > 2 ** 25 and row["out_bytes"] > 2 ** 25, f"port {name}: {row}")
        addresses = {row["mac"] for row in switch.view("mac", "show")["macs"]}
        expect({one.mac(), two.mac()} <= addresses, f"learned addresses: {addresses}")
        # A full receiver under load may cost packets; nothing else may.
        new = {reason for reason, count in switch.drops().items() if count > drops.get(reason, 0)}
        expect(new <= {"out-full"}, f"dropped: {switch.drops()}")
    switch.stop()


if __name__ == "__main__":
    run_test(test)
