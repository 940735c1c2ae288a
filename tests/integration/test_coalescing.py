#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: asan
"""Small frames from a device go on as large ones, if the other side takes them, and TCP sees no difference.

A veth without any offload is an uplink; the TAP device at the other port takes segments, as a VM does.
"""

from drivers import Driver, driver_command
from running import Switch, expect, expect_equal, run_tests
from namespace import Namespace, need_namespaces, veth

SIZE = 20_000_000
MTU = 1500


def start(top, kind, *options):
    """A sender behind a veth and a driver domain, a receiver behind a TAP."""
    sender, middle, receiver = Namespace("s"), Namespace("m"), Namespace("r")
    veth(middle, "near", sender, "far")
    sender.no_offloads("far")
    switch = Switch(top, "uplink", "vm")
    drivers = [Driver(switch, "vm", "tap", "tap0", space=receiver),
               Driver(switch, "uplink", kind, "near", *options, space=middle)]
    for space, device, number in ((sender, "far", 1), (receiver, "tap0", 2)):
        space.ip("link", "set", device, "up")
        space.ip("address", "add", f"10.9.0.{number}/24", "dev", device)
        space.ip("address", "add", f"fd09::{number}/64", "dev", device, "nodad")
    return sender, receiver, switch, drivers


def stop(switch, drivers):
    for driver in drivers:
        driver.stop()
    switch.stop()


def mean_size(sender, receiver, address):
    """Bytes of a frame on average, of a TCP stream to the receiver."""
    names = ("rx_packets", "rx_bytes")
    before = [receiver.statistic("tap0", name) for name in names]
    sender.stream(receiver, address, SIZE)
    packets, octets = [receiver.statistic("tap0", name) - old for name, old in zip(names, before)]
    print(f"  {address}: {octets / packets:.0f} bytes a frame")
    return octets / packets


def merged(top, kind="af_packet"):
    """frames of a stream arrive as fewer and larger ones"""
    sender, receiver, switch, drivers = start(top, kind)
    for address in ("10.9.0.2", "fd09::2"):
        size = mean_size(sender, receiver, address)
        expect(size > 2 * MTU, f"{size} bytes a frame: nothing was merged")
    # And the other way, where there is nothing to merge.
    receiver.stream(sender, "10.9.0.1", SIZE)
    stop(switch, drivers)


def merged_af_xdp(top):
    """the same from AF_XDP"""
    merged(top, "af_xdp")


def switched_off(top):
    """--option gro=off leaves them as they are"""
    sender, receiver, switch, drivers = start(top, "af_packet", "--option", "gro=off")
    for address in ("10.9.0.2", "fd09::2"):
        size = mean_size(sender, receiver, address)
        expect(size <= MTU + 18, f"{size} bytes a frame: something was merged")
    stop(switch, drivers)


def misspelt(_):
    """an option that is none"""
    for option in ("gro=maybe", "gr=on"):
        status, _, errors = driver_command("--port", "x", "--kind", "af_packet", "--device", "x", "--option", option)
        expect_equal(status, 2, f"exit status, {option}: {errors}")
    # Frames from a TAP device are large already.
    status, _, _ = driver_command("--port", "x", "--kind", "tap", "--device", "x", "--option", "gro=on")
    expect_equal(status, 2, "exit status")


if __name__ == "__main__":
    need_namespaces()
    run_tests(misspelt, merged, merged_af_xdp, switched_off)
