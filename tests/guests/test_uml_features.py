#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# test: timeout 900
"""What happens when the switch does not offer a feature to one port: a User-mode Linux guest on each such port in turn,
against a peer that was offered everything. test_qemu_features does the same from the device's side."""

import traffic
from guest import Uml
from lab import expect, run_test, step
from switch import make_switch

# Port options, whether large frames arrive there by IPv4 and by IPv6, whether they come from there.
PORTS = {
    "no-mrg": ("mrg=off", True, True, True),
    "no-tso": ("tso=off", False, False, False),
    "no-tso-no-mrg": ("tso=off,mrg=off", False, False, False),
    "no-guest-tso4": ("guest-tso4=off", False, True, True),
    "no-csum": ("csum=off", False, False, False),
    "no-indirect": ("indirect=off", True, True, True),
    "split-rings": ("packed=off", True, True, True),
    "split-rings-no-indirect": ("packed=off,indirect=off", True, True, True),
    "no-event-idx": ("event-idx=off", True, True, True),
    "no-ctrl": ("ctrl=off", True, True, True),
    "legacy": ("version-1=off", True, True, True),
    "legacy-no-mrg": ("version-1=off,mrg=off,indirect=off", True, True, True),
    "two-queues": ("queues=2", True, True, True),
}


def test(lab):
    switch = make_switch(lab, {"all": "", **{name: options for name, (options, *_) in PORTS.items()}})
    fixed = Uml(lab, "vm1", 1, switch.uml_socket("all")).ready()
    tagged_fixed = traffic.add_vlan(fixed, 7)
    for name, (_, receives4, receives6, sends) in PORTS.items():
        step(f"{name}")
        guest = Uml(lab, "vm2", 2, switch.uml_socket(name)).ready()
        fixed.run("ip neigh flush dev eth0")  # the new guest has a new MAC address
        traffic.reach(fixed, guest)
        traffic.ping(guest, fixed.address, size=1472)
        tagged = traffic.add_vlan(guest, 7)
        traffic.check_frames(fixed, guest, receives4)
        traffic.check_frames(fixed, guest, receives6, fixed.address6)
        traffic.check_frames(fixed, guest, receives4, tagged_fixed, traffic.MTU_FRAME + traffic.VLAN_TAG)
        traffic.check_frames(guest, fixed, sends)
        traffic.check_frames(guest, fixed, sends, tagged, traffic.MTU_FRAME + traffic.VLAN_TAG)
        guest.kill()
    expect(set(switch.drops()) <= {"out-down", "out-full"}, f"dropped: {switch.drops()}")
    switch.stop()


if __name__ == "__main__":
    run_test(test)
