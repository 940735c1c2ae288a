#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# test: timeout 600
"""DPDK's testpmd as the front end of both ports: packets go round through the switch, each port sends and receives.

testpmd is started with its device's variants, with two queue pairs, as the listening side of the socket, and anew on
the same ports after it was killed.
"""

from lab import expect, run_test, step, wait_for
from switch import make_switch
from testpmd import FrontEnd

ROUNDS = 20000  # packets that a port must have seen: many times what is put in, so they did go round

DEVICES = {
    "as it comes": "",
    "without mergeable buffers": "mrg_rxbuf=0",
    "without mergeable buffers, out of order": "mrg_rxbuf=0,in_order=0",
    "packed rings": "packed_vq=1",
    "packed rings, without mergeable buffers": "packed_vq=1,mrg_rxbuf=0",
    "packed rings, out of order": "packed_vq=1,in_order=0",
    "vectorized": "vectorized=1,mrg_rxbuf=0",
    "rings of 1024": "queue_size=1024",
}


def go_round(switch, front):
    """Put some packets in, let them go round, stop, and compare the counters of both sides."""
    before = {name: switch.counters(name) for name in switch.ports} if switch.has_views else {}
    front.command("clear port stats all")
    front.command("start tx_first 2")
    wait_for(lambda: all(front.counted(index)[0] > ROUNDS for index in (0, 1)), "packets go round", 60)
    front.command("stop")
    for index, name in enumerate(before):
        received, sent = front.counted(index)

        def agree():
            now = switch.counters(name)
            came = now["in_packets"] - before[name]["in_packets"]
            went = now["out_packets"] - before[name]["out_packets"]
            # What went out and testpmd did not take any more lies in its ring.
            return came == sent and went >= received

        wait_for(agree, f"port {name} counts {sent} packets in and at least {received} out", 10)


def variants(lab):
    step("one queue pair")
    switch = make_switch(lab, ["a", "b"])
    sockets = [switch.socket(name) for name in switch.ports]
    for number, (text, device) in enumerate(DEVICES.items()):
        step(text)
        front = FrontEnd(lab, f"front{number}", sockets, device=device)
        go_round(switch, front)
        front.quit()
    step("killed, and started again")
    front = FrontEnd(lab, "killed", sockets)
    front.command("start tx_first 2")
    front.kill()
    front = FrontEnd(lab, "again", sockets)
    go_round(switch, front)
    front.quit()
    switch.stop()


def queues(lab):
    step("two queue pairs")
    switch = make_switch(lab, {"e": "queues=2", "f": "queues=2"})
    front = FrontEnd(lab, "queues", [switch.socket(name) for name in switch.ports], queues=2)
    go_round(switch, front)
    front.quit()
    switch.stop()


def listening(lab):
    step("testpmd listens, the switch connects")
    switch = make_switch(lab, {"c": "mode=client", "d": "mode=client"})
    sockets = [switch.socket(name) for name in switch.ports]
    for name in ("server1", "server2"):
        front = FrontEnd(lab, name, sockets, server=True)
        go_round(switch, front)
        front.kill()
    switch.stop()


def test(lab):
    variants(lab)
    queues(lab)
    listening(lab)


if __name__ == "__main__":
    run_test(test)
