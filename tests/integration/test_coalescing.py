#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: asan
"""Small frames from a device go on as large ones, if the other side takes them, and TCP sees no difference.

A veth without any offload is an uplink; the TAP device at the other port takes segments, as a VM does.
"""

import os

from streams import Driver, Namespace, run, stream
from running import Switch, expect, program, run_tests

SIZE = 20_000_000
MTU = 1500


def start(top, *options):
    """A sender behind a veth and a driver domain, a receiver behind a TAP. Returns all of it."""
    sender, receiver = Namespace("s"), Namespace("r")
    near, far = f"lh{os.getpid()}n", f"lh{os.getpid()}f"
    run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", sender.name)
    run("ip", "link", "set", near, "up")
    sender.ip("link", "set", far, "up")
    sender.no_offloads(far)
    sender.ip("address", "add", "10.9.0.1/24", "dev", far)
    sender.ip("address", "add", "fd09::1/64", "dev", far, "nodad")

    switch = Switch(top, "uplink", "vm")
    tap = Driver(program("lasthop-driver"), switch.socket("vm"), "tap", "tap0", "--netns", receiver.name,
                 log=f"{top}/switch.log")
    uplink = Driver(program("lasthop-driver"), switch.socket("uplink"), "af_packet", near, *options,
                    log=f"{top}/switch.log")
    for name in ("uplink", "vm"):
        switch.wait_state(name, "up")
    receiver.ip("link", "set", "tap0", "up")
    receiver.ip("address", "add", "10.9.0.2/24", "dev", "tap0")
    receiver.ip("address", "add", "fd09::2/64", "dev", "tap0", "nodad")
    return sender, receiver, switch, (tap, uplink), near


def stop(sender, receiver, switch, drivers, near):
    for driver in drivers:
        driver.stop()
    switch.stop()
    run("ip", "link", "delete", near)
    sender.delete()
    receiver.delete()


def mean_size(sender, receiver, address):
    """Bytes of a frame on average, of a TCP stream to the receiver."""
    before = [receiver.counter("tap0", name) for name in ("rx_packets", "rx_bytes")]
    stream(sender, receiver, address, SIZE)
    packets, octets = [receiver.counter("tap0", name) - old for name, old in
                       zip(("rx_packets", "rx_bytes"), before)]
    return octets / packets


def merged(top):
    """frames of a stream arrive as fewer and larger ones"""
    parts = start(top)
    sender, receiver = parts[:2]
    for address in ("10.9.0.2", "fd09::2"):
        size = mean_size(sender, receiver, address)
        print(f"  {address}: {size:.0f} bytes a frame")
        expect(size > 2 * MTU, f"{size} bytes a frame: nothing was merged")
    # And the other way, where there is nothing to merge.
    stream(receiver, sender, "10.9.0.1", SIZE)
    stop(*parts)


def switched_off(top):
    """--option gro=off leaves them as they are"""
    parts = start(top, "--option", "gro=off")
    sender, receiver = parts[:2]
    for address in ("10.9.0.2", "fd09::2"):
        size = mean_size(sender, receiver, address)
        expect(size <= MTU + 18, f"{size} bytes a frame: something was merged")
    stop(*parts)


if __name__ == "__main__":
    run_tests(merged, switched_off)
