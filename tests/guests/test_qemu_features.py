#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every combination of offloads, buffers and ring layouts that a QEMU device can be given, against a peer with all.

One VM stays; the other is started anew with each set of options, and so also shows that a port can be used again.
The one that stays sends large segments without checksums: where the other's device cannot take them, the switch has to
cut them and fill in the checksums, which the transfer's digest and the size of the frames that arrive prove.
"""

import traffic
from guest import Nic, Qemu
from lab import expect, run_test, step
from switch import make_switch

NO_GUEST_TSO = "guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"
NO_HOST_TSO = "host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,gso=off"
HOST_MTU = 4000

# What it is: device options, whether large frames arrive at this guest, whether they leave it.
CASES = {
    "everything": ("", True, True),
    "no mergeable buffers": ("mrg_rxbuf=off", True, True),
    "no receive segmentation": (NO_GUEST_TSO, False, True),
    "no mergeable buffers, no receive segmentation": (f"mrg_rxbuf=off,{NO_GUEST_TSO}", False, True),
    "no receive checksums": (f"guest_csum=off,{NO_GUEST_TSO}", False, True),
    "no transmit segmentation": (NO_HOST_TSO, True, False),
    "no transmit checksums": (f"csum=off,{NO_HOST_TSO}", True, False),
    "no offload at all": (f"csum=off,guest_csum=off,{NO_HOST_TSO},{NO_GUEST_TSO}", False, False),
    "receive segmentation for IPv4 only": ("guest_tso6=off", True, True),
    "no event index": ("event_idx=off", True, True),
    "no indirect descriptors": ("indirect_desc=off", True, True),
    "neither of the two, not mergeable": ("event_idx=off,indirect_desc=off,mrg_rxbuf=off", True, True),
    "legacy device": ("disable-modern=on,disable-legacy=off", True, True),
    "legacy device, not mergeable, no offload":
        (f"disable-modern=on,disable-legacy=off,mrg_rxbuf=off,csum=off,guest_csum=off,{NO_HOST_TSO},{NO_GUEST_TSO}",
         False, False),
    "modern device only, rings of 1024": ("disable-legacy=on,rx_queue_size=1024,tx_queue_size=1024", True, True),
    "host_mtu": (f"host_mtu={HOST_MTU}", True, True),
}


def check(fixed, guest, receives_large, sends_large, only_ipv4):
    traffic.reach(fixed, guest)
    traffic.ping(guest, fixed.address, size=1472)
    mtu = int(guest.run("cat /sys/class/net/eth0/mtu"))
    full = mtu + 14
    traffic.check_frames(fixed, guest, receives_large, full_frame=full, mebibytes=2)
    traffic.check_frames(fixed, guest, receives_large and not only_ipv4, guest.address6, full, mebibytes=2)
    traffic.check_frames(guest, fixed, sends_large, full_frame=full, mebibytes=2)
    traffic.check_frames(guest, fixed, sends_large, fixed.address6, full, mebibytes=2)



def test(lab):
    switch = make_switch(lab, ["a", "b"])
    fixed = Qemu(lab, "vm1", 1, [Nic(switch.socket("a"))], kernel="linux-6.12")
    fixed.ready()
    tagged_fixed = traffic.add_vlan(fixed, 7)
    for name, (options, receives_large, sends_large) in CASES.items():
        step(name)
        guest = Qemu(lab, "vm2", 2, [Nic(switch.socket("b"), device=options)], kernel="linux-6.1")
        guest.ready()
        check(fixed, guest, receives_large, sends_large, "guest_tso6=off" in options and receives_large)
        # The VLAN tag moves the headers that the switch rewrites when it cuts segments.
        tagged = traffic.add_vlan(guest, 7)
        full = int(guest.run("cat /sys/class/net/eth0/mtu")) + 14 + traffic.VLAN_TAG
        traffic.check_frames(fixed, guest, receives_large, tagged, full, mebibytes=2)
        traffic.check_frames(guest, fixed, sends_large, tagged_fixed, full, mebibytes=2)
        if "host_mtu" in options:
            expect(guest.run("cat /sys/class/net/eth0/mtu").strip() == str(HOST_MTU), "the MTU reached the guest")
        guest.kill()
    if switch.has_views:
        step("the switch cut and summed for the guests that could not")
        row = switch.port("b")
        expect(row["out_segmented"] and row["out_checksummed"], f"port b: {row}")
    switch.stop()


if __name__ == "__main__":
    run_test(test)
