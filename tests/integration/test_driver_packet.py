#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: asan
"""An interface of the kernel's behind a driver with packet sockets: an uplink, which is one end of a veth here."""

import contextlib

from drivers import Driver, counters, driver_command, end_all
from running import Switch, expect, expect_equal, run_tests, wait_for
from namespace import Namespace, need_namespaces, veth

need_namespaces()

# Sends frames with a VLAN tag out of an interface; takes one that comes, and says what tag the kernel found in it.
TAGGED = """
import socket, struct, sys
ETH_P_ALL, SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 3, 263, 8, 23
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
sock.bind((sys.argv[1], ETH_P_ALL))
if sys.argv[2] == "send":
    for _ in range(3):
        sock.send(b"\\xff" * 6 + bytes.fromhex(sys.argv[3]) + struct.pack("!HHH", 0x8100, 7, 0x88b5) + b"lasthop" * 9)
    sys.exit()
sock.settimeout(20)
print("ready", flush=True)
while True:
    frame, ancillary, _, _ = sock.recvmsg(2048, 256)
    if frame[6:12] == bytes.fromhex(sys.argv[3]):
        _, size, _, _, _, tci, _ = struct.unpack("IIIHHHH", ancillary[0][2])
        print(tci, frame[12:14].hex(), frame[14:].rstrip(b"\\0") == b"lasthop" * 9)
        break
"""


@contextlib.contextmanager
def uplink(top, *options):
    """A TAP in one namespace, and the other end of a veth in another; the veth's near end is in a third."""
    inside, near, outside = Namespace("a"), Namespace("b"), Namespace("c")
    veth(near, "lhnear", outside, "lhfar", up=False)
    near.run("sysctl", "-q", "-w", "net.ipv6.conf.lhnear.disable_ipv6=1")
    near.ip("link", "set", "lhnear", "up")
    outside.address("lhfar", "10.73.0.2")
    switch = Switch(top, "a", "up,queues=2")
    drivers = [Driver(switch, "a", "tap", "lhtap", space=inside),
               Driver(switch, "up", "af_packet", "lhnear", *options, space=near)]
    inside.address("lhtap", "10.73.0.1")
    yield switch, inside, near, outside, drivers
    end_all(switch, drivers, inside, near, outside)


def frames(top):
    """ping and TCP both ways over an uplink; segments stay large"""
    for options in ((), ("--queues", 2)):
        with uplink(top, *options) as (switch, inside, _, outside, drivers):
            inside.all_answered("10.73.0.2", 10)
            before = counters(switch, "up")
            inside.stream(outside, "10.73.0.2", 50 << 20)
            after = counters(switch, "up")
            size = (after["out_bytes"] - before["out_bytes"]) / (after["out_packets"] - before["out_packets"])
            expect(size > 8000, f"segments go out in pieces of {size} bytes")
            outside.stream(inside, "10.73.0.1", 50 << 20)
            later = counters(switch, "up")
            size = (later["in_bytes"] - after["in_bytes"]) / (later["in_packets"] - after["in_packets"])
            expect(size > 8000, f"segments come in in pieces of {size} bytes")
            for driver in drivers:
                expect("frames lost" not in driver.stop(), "the driver lost frames")


def tags(top):
    """VLAN tags, which the kernel takes out of frames, are in them again"""
    with uplink(top) as (_, inside, _, outside, _):
        for sender, out, receiver, into, mac in ((inside, "lhtap", outside, "lhfar", "02000000000a"),
                                                 (outside, "lhfar", inside, "lhtap", "02000000000b")):
            listener = receiver.start("python3", "-c", TAGGED, into, "take", mac)
            expect_equal(listener.stdout.readline(), "ready\n", "the receiver")
            sender.run("python3", "-c", TAGGED, out, "send", mac)
            expect_equal(listener.communicate(timeout=30)[0], "7 88b5 True\n", "tag, type and payload")


def down(top):
    """an interface that is down, loses its carrier, or goes away"""
    with uplink(top) as (switch, inside, near, outside, drivers):
        near.ip("link", "set", "lhnear", "down")
        switch.wait_state("up", "connected")
        expect_equal(inside.ping("10.73.0.2", 1), 0, "answers through one that is down")
        near.ip("link", "set", "lhnear", "up")
        switch.wait_state("up", "up")
        wait_for(lambda: inside.ping("10.73.0.2", 1) == 1, "an answer again")
        outside.ip("link", "set", "lhfar", "down")
        switch.wait_state("up", "connected")
        outside.ip("link", "set", "lhfar", "up")
        switch.wait_state("up", "up")
        wait_for(lambda: inside.ping("10.73.0.2", 1) == 1, "an answer with carrier")
        near.ip("link", "set", "lhnear", "mtu", 1300)
        wait_for(lambda: switch.port("up").get("guest_mtu") == 1300, "the port's MTU")
        outside.ip("link", "del", "lhfar")
        drivers[1].wait_end(3)
        expect("is no longer there" in drivers[1].log(), drivers[1].log())
        status, _, errors = driver_command("--port", switch.socket("up"), "--kind", "af_packet", "--device", "lhnear",
                                           "--netns", near.name)
        expect_equal(status, 3, errors)
        expect("`ip link` shows" in errors, errors)


def starts_down(top):
    """an interface that is down when the driver comes is served as soon as it is up"""
    near, outside = Namespace("b"), Namespace("c")
    veth(near, "lhnear", outside, "lhfar", up=False)
    outside.address("lhfar", "10.73.0.2")
    switch = Switch(top, "up")
    driver = Driver(switch, "up", "af_packet", "lhnear", space=near, wait=False)
    switch.wait_state("up", "connected")
    expect("is down" in driver.log(), driver.log())
    near.ip("link", "set", "lhnear", "up")
    switch.wait_state("up", "up")
    driver.stop()
    switch.stop()


run_tests(frames, tags, down, starts_down)
