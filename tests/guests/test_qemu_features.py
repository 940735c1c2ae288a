#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# test: timeout 900
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
    "no event index, no indirect descriptors, not mergeable":
        ("event_idx=off,indirect_desc=off,mrg_rxbuf=off", True, True),
    "legacy device": ("disable-modern=on,disable-legacy=off", True, True),
    "legacy device, not mergeable, no offload":
        (f"disable-modern=on,disable-legacy=off,mrg_rxbuf=off,csum=off,guest_csum=off,{NO_HOST_TSO},{NO_GUEST_TSO}",
         False, False),
    "packed rings": ("packed=on", True, True),
    "packed rings of 1024, no event index, no indirect descriptors, not mergeable":
        ("packed=on,event_idx=off,indirect_desc=off,mrg_rxbuf=off,rx_queue_size=1024,tx_queue_size=1024", True, True),
    "packed rings, no offload at all":
        (f"packed=on,csum=off,guest_csum=off,{NO_HOST_TSO},{NO_GUEST_TSO}", False, False),
    "modern device only, rings of 1024, host_mtu":
        (f"disable-legacy=on,rx_queue_size=1024,tx_queue_size=1024,host_mtu={HOST_MTU}", True, True),
}


def check(fixed, guest, addresses, receives_large, sends_large, tag=0):
    # The larger MTU of one side changes nothing: TCP keeps to the smaller one.
    full_frame = traffic.MTU_FRAME + tag
    traffic.check_frames(fixed, guest, receives_large, addresses[0], full_frame, mebibytes=1)
    traffic.check_frames(guest, fixed, sends_large, addresses[1], full_frame, mebibytes=1)


def test(lab):
    switch = make_switch(lab, ["a", "b"])
    fixed = Qemu(lab, "vm1", 1, [Nic(switch.socket("a"))], kernel="linux-6.12")
    fixed.ready()
    tagged_fixed = traffic.add_vlan(fixed, 7)
    for name, (options, receives_large, sends_large) in CASES.items():
        step(name)
        guest = Qemu(lab, "vm2", 2, [Nic(switch.socket("b"), device=options)], kernel="linux-6.1")
        guest.ready()
        traffic.reach(fixed, guest)
        mtu = int(guest.run("cat /sys/class/net/eth0/mtu"))
        if switch.has_views:
            features = switch.port("b")["features"]
            expect(("ring-packed" in features) == ("packed=on" in options), f"negotiated: {features}")
        expect(mtu == (HOST_MTU if "host_mtu" in options else 1500), f"the guest's MTU is {mtu}")

        check(fixed, guest, (fixed.address, guest.address), receives_large, sends_large)
        large6 = receives_large and "guest_tso6=off" not in options
        check(fixed, guest, (fixed.address6, guest.address6), large6, sends_large)
        # A VLAN tag moves the headers that the switch rewrites when it cuts segments.
        tagged = (tagged_fixed, traffic.add_vlan(guest, 7))
        check(fixed, guest, tagged, receives_large, sends_large, traffic.VLAN_TAG)
        guest.kill()
    if switch.has_views:
        step("the switch cut and summed for the guests that could not")
        row = switch.counters("b")
        expect(row["out_segmented"] and row["out_checksummed"], f"port b: {row}")
    switch.stop()


if __name__ == "__main__":
    run_test(test)
