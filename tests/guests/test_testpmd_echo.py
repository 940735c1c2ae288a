#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# test: timeout 600
"""A Linux guest and DPDK's testpmd on one switch: testpmd answers ARP and ping, and floods the guest with packets."""

import traffic
from guest import Uml
from lab import expect, run_test, step, wait_for
from switch import make_switch
from testpmd import FrontEnd

ECHO_ADDRESS = "10.0.0.99"  # testpmd answers for any


def test(lab):
    switch = make_switch(lab, ["a", "b"])
    guest = Uml(lab, "vm1", 1, switch.uml_socket("a"))
    front = FrontEnd(lab, "front", [switch.socket("b")], mode="icmpecho")
    guest.ready()
    front.command("start")

    step("the guest pings testpmd")
    wait_for(lambda: guest.attempt(f"ping -c 1 -W 1 {ECHO_ADDRESS}")[1] == 0, "an answer")
    for size in (18, 1000, 1472):
        traffic.ping(guest, ECHO_ADDRESS, size=size)
    neighbour = guest.run(f"ip neigh show {ECHO_ADDRESS}")
    expect(front.mac(0) in neighbour, f"the guest knows testpmd's address: {neighbour}")
    front.command("stop")

    step("testpmd sends to the guest as fast as it can, and the guest stays alive")
    front.command(f"set eth-peer 0 {guest.run('cat /sys/class/net/eth0/address').strip()}")
    front.command("set fwd txonly")
    with traffic.Observed(guest) as seen:
        front.command("start")
        guest.run("sleep 2")
        front.command("stop")
        guest.run("sleep 1")
    expect(seen["rx_packets"] > 1000 and not seen["rx_errors"], f"{seen['rx_packets']} packets arrived")
    if switch.has_views:
        expect(set(switch.drops()) <= {"out-full", "out-down"}, f"dropped: {switch.drops()}")

    step("and pings again")
    front.command("set fwd icmpecho")
    front.command("start")
    traffic.ping(guest, ECHO_ADDRESS)
    front.command("stop")
    front.quit()
    switch.stop()


if __name__ == "__main__":
    run_test(test)
