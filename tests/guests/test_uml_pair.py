#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# test: timeout 600
"""Two User-mode Linux guests through the switch: the quick end-to-end test."""

import traffic
from guest import Uml
from lab import expect, run_test, step
from switch import make_switch


def check_views(switch, guests):
    """The guests' counters and the switch's must agree on what was exchanged."""
    for name, guest in zip(switch.ports, guests):
        counted = traffic.counters(guest)
        row = switch.counters(name)
        expect(row["in_packets"] >= counted["tx_packets"], f"port {name} saw less than {guest.name} sent: {row}")
        expect(row["out_packets"] >= counted["rx_packets"], f"port {name} sent less than {guest.name} got: {row}")
        expect(row["in_bytes"] > 2 ** 23 and row["out_bytes"] > 2 ** 23, f"port {name}: {row}")
    expect(len(switch.view("mac", "show")["macs"]) == 2, "one learned address for each guest")
    expect(switch.view("flow", "show")["flows"], "flows are installed")


def test(lab):
    switch = make_switch(lab, ["a", "b"])
    guests = [Uml(lab, "vm1", 1, switch.uml_socket("a")), Uml(lab, "vm2", 2, switch.uml_socket("b"))]
    one, two = [guest.ready() for guest in guests]
    traffic.reach(one, two)

    step("ping, small and fragmented, IPv4 and IPv6")
    for size in (18, 1472, 20000):
        traffic.ping(one, two.address, size=size)
    traffic.ping(two, one.address6)

    step("TCP each way, with segmentation offload, bytes unharmed")
    for sender, receiver in ((one, two), (two, one)):
        traffic.check_frames(sender, receiver, large=True)
        traffic.check_frames(sender, receiver, large=True, address=sender.address6)

    step("VLAN-tagged TCP")
    tagged = [traffic.add_vlan(guest, 7) for guest in guests]
    traffic.check_frames(one, two, large=True, address=tagged[0])
    traffic.check_frames(two, one, large=True, address=tagged[1])

    step("TCP in one and in four streams, each way")
    for streams in (1, 4):
        for reverse in (False, True):
            traffic.tcp(one, two, 64, streams, reverse)

    step("UDP")
    sent, lost = traffic.udp(one, two)
    expect(sent > 0 and lost == 0, f"{lost} of {sent} datagrams lost")

    if switch.has_views:
        step("the switch counted the same")
        check_views(switch, guests)
    step("the switch ends cleanly under its guests")
    switch.stop()


if __name__ == "__main__":
    run_test(test)
