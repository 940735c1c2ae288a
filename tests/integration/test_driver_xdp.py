#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: asan
"""A NIC behind a driver with AF_XDP: an uplink, which is one end of a veth here."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from drivers import Driver, driver_command, end, end_all
from running import Switch, expect, expect_equal, program, run_tests, wait_for
from namespace import Namespace, Stream, need_namespaces, veth

need_namespaces()
if "af_xdp" not in driver_command("--help")[1]:
    print("cannot exist here: lasthop-driver was built without af_xdp")
    sys.exit(77)
if not shutil.which("ethtool"):
    print("test_driver_xdp takes ethtool")
    sys.exit(77)

# UDP there and back.
ECHO = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[1] == "serve":
    sock.bind((sys.argv[2], 5202))
    print("ready", flush=True)
    while True:
        data, peer = sock.recvfrom(4096)
        sock.sendto(data, peer)
got = 0
sock.settimeout(2)
for i in range(int(sys.argv[3])):
    sock.sendto(bytes([i]) * (i * 14 + 1), (sys.argv[2], 5202))
    try:
        got += sock.recv(4096) == bytes([i]) * (i * 14 + 1)
    except TimeoutError:
        pass
print(got)
"""

# Takes queue 0 of an interface for itself, without a program.
SQUATTER = """
import ctypes, mmap, socket, struct, sys, time
memory = mmap.mmap(-1, 65536)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
sock = socket.socket(44, socket.SOCK_RAW)
sock.setsockopt(283, 4, struct.pack("QQIIII", address, 65536, 2048, 0, 0, 0))
for ring in (5, 6, 2):
    sock.setsockopt(283, ring, struct.pack("i", 16))
name = struct.pack("HHIII", 44, 2, socket.if_nametoindex(sys.argv[1]), 0, 0)
libc = ctypes.CDLL(None, use_errno=True)
print("ready" if libc.bind(sock.fileno(), name, len(name)) == 0 else ctypes.get_errno(), flush=True)
time.sleep(60)
"""

# Frames of an EtherType to everybody.
SHOUT = """
import socket, struct, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind((sys.argv[1], 0))
for _ in range(int(sys.argv[3])):
    sock.send(b"\\xff" * 6 + bytes.fromhex("02000000000a") + struct.pack("!H", int(sys.argv[2], 16)) + b"x" * 60)
"""


def cable(near, outside, queues=1):
    veth(near, "lhnear", outside, "lhfar", queues, up=False)
    near.run("sysctl", "-q", "-w", "net.ipv6.conf.lhnear.disable_ipv6=1")
    near.ip("link", "set", "lhnear", "up")
    outside.address("lhfar", "10.73.0.2")


@contextlib.contextmanager
def uplink(top, *options, queues=1):
    """A TAP in one namespace, and the other end of a veth in another; the veth's near end is in a third."""
    inside, near, outside = Namespace("a"), Namespace("b"), Namespace("c")
    cable(near, outside, queues)
    switch = Switch(top, "a", f"up,queues={queues}")
    drivers = [Driver(switch, "a", "tap", "lhtap", space=inside),
               Driver(switch, "up", "af_xdp", "lhnear", "--queues", queues, "--log-level", 3, *options, space=near)]
    inside.address("lhtap", "10.73.0.1")
    yield switch, inside, near, outside, drivers
    end_all(switch, drivers, inside, near, outside)


def segments_off(space):
    """What an operator is told to do where the device's kernel driver does not see to it."""
    space.run("ethtool", "-K", "lhfar", "tso", "off", "gso", "off")


def udp(sender, receiver, address, count=100):
    """How many of so many answers came."""
    server = receiver.start("python3", "-c", ECHO, "serve", address)
    expect_equal(server.stdout.readline(), "ready\n", "the UDP server")
    got = int(sender.run("python3", "-c", ECHO, "ask", address, count))
    end(server)
    return got


def expect_all_back(driver, queues):
    """Without traffic, every buffer for frames from the device waits in the kernel's ring, and none was forgotten."""
    time.sleep(2.5)  # a queue that sleeps looks once a second
    log = driver.stop()
    lines = re.findall(r"of (\d+) buffers for frames from it the kernel has (\d+), and (\d+) frames to it", log)
    expect_equal(len(lines), queues, f"queues that account for their buffers: {log}")
    for all_there, there, sending in lines:
        expect(all_there == there and sending == "0", f"{there} of {all_there} buffers came back, {sending} not sent")
    expect("kernel was given" not in log and "the kernel named" not in log, log)


def frames(top):
    """ping, UDP and TCP both ways, in each mode, with one queue and two; all buffers come back"""
    for mode, queues, said in (("auto", 1, "native, copy"), ("native", 2, "native, copy"), ("generic", 2, "generic, copy")):
        with uplink(top, "--option", f"xdp-mode={mode}", queues=queues) as (_, inside, near, outside, drivers):
            wait_for(lambda: f"af_xdp lhnear ({said}): {queues} queue pairs" in drivers[1].log(), f"mode {said}")
            if mode == "generic":
                segments_off(outside)
            inside.all_answered("10.73.0.2", 20)
            outside.all_answered("10.73.0.1", 20, 1472)
            expect_equal(udp(outside, inside, "10.73.0.1"), 100, "UDP answers to the outside")
            expect_equal(udp(inside, outside, "10.73.0.2"), 100, "UDP answers to the inside")
            inside.stream(outside, "10.73.0.2", 30 << 20)
            # Different flows, which the veth spreads over its queues.
            stream = Stream(outside, inside, "10.73.0.1", 20 << 20)
            outside.all_answered("10.73.0.1", 20)
            stream.end()
            for _ in range(4):
                outside.stream(inside, "10.73.0.1", 1 << 20)
            if queues > 1:
                text = near.run("ethtool", "-S", "lhnear") if mode == "native" else ""
                served = re.findall(r"rx_queue_(\d)_xdp_redirect: ([1-9]\d*)", text)
                expect(mode != "native" or len(served) == 2, f"one queue was not used: {text}")
            expect_all_back(drivers[1], queues)


def checksums(top):
    """frames of a veth with unfinished checksums: finished unless told to trust them, when the sender has to"""
    with uplink(top, "--option", "checksum=trust") as (_, inside, _, outside, _):
        inside.all_answered("10.73.0.2", 5)
        expect_equal(udp(outside, inside, "10.73.0.1", 3), 0, "UDP answers to unfinished checksums that were trusted")
        outside.run("ethtool", "-K", "lhfar", "tx", "off")
        expect_equal(udp(outside, inside, "10.73.0.1"), 100, "UDP answers to finished checksums")
        outside.stream(inside, "10.73.0.1", 1 << 20)


def too_large(top):
    """segments that the sender did not cut are lost by name, and the log says what to do, which helps"""
    with uplink(top, "--option", "xdp-mode=generic") as (_, inside, _, outside, drivers):
        stream = Stream(outside, inside, "10.73.0.1", 8 << 20)
        wait_for(lambda: "turn segmentation offload off where they are sent" in drivers[1].log(), "a warning")
        segments_off(outside)
        stream.end()
        expect(re.search(r"\d+ frames lost: too-long", drivers[1].stop()), drivers[1].log())


def keep(top):
    """what rules keep is the kernel's, all else the switch's, the device's own addresses included"""
    options = [word for rule in ("ip:10.73.0.9", "ethertype:0x88b6+mac:ff:ff:ff:ff:ff:ff", "port:22/tcp")
               for word in ("--option", f"keep={rule}")]
    with uplink(top, *options) as (switch, inside, near, outside, drivers):
        near.ip("addr", "add", "10.73.0.9/24", "dev", "lhnear")
        near.ip("addr", "add", "10.73.0.10/24", "dev", "lhnear")
        outside.all_answered("10.73.0.9", 5)
        outside.all_answered("10.73.0.1", 5)
        expect_equal(outside.ping("10.73.0.10", 1), 0, "answers of an address that is not kept")
        before = switch.port("up")["counters"]["in_packets"]
        outside.run("python3", "-c", SHOUT, "lhfar", "88b6", 50)
        outside.run("python3", "-c", SHOUT, "lhfar", "88b7", 50)
        wait_for(lambda: switch.port("up")["counters"]["in_packets"] >= before + 50, "frames that are not kept")
        time.sleep(0.3)
        expect(switch.port("up")["counters"]["in_packets"] < before + 90, "frames that are kept came to the switch")
        kept = re.search(r"(\d+) frames were left to the kernel", drivers[1].stop())
        expect(kept and int(kept.group(1)) >= 55, f"kept: {kept and kept.group(0)}")
        expect("xdp" not in near.link("lhnear"), "the program stayed")
        wait_for(lambda: outside.ping("10.73.0.10", 1) == 1, "an answer without the driver")


def killed(top):
    """kill -9 under TCP: nothing stays on the device, and the next driver has it at once"""
    with uplink(top, queues=2) as (_, inside, near, outside, drivers):
        stream = Stream(inside, outside, "10.73.0.2", 20 << 20, 0.02)
        for _ in range(5):
            stream.wait_progress()
            drivers[1].kill()
            begun = time.monotonic()
            drivers[1].again()
            print(f"  back after {time.monotonic() - begun:.2f} s", flush=True)
        stream.end()
        inside.all_answered("10.73.0.2", 5)
        drivers[1].kill()
        wait_for(lambda: "xdp" not in near.link("lhnear"), "the program's end")
        drivers[1].again()


def cpu_ticks(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def idle(top):
    """without traffic, no CPU time"""
    with uplink(top, queues=2) as (_, inside, _, _, drivers):
        inside.all_answered("10.73.0.2", 5)
        time.sleep(1)
        before = cpu_ticks(drivers[1].process)
        time.sleep(3)
        ticks = cpu_ticks(drivers[1].process) - before
        expect(ticks <= 3, f"{ticks * 10} ms of CPU time in 3 s without traffic")


def down(top):
    """a device that is down, loses its carrier, is given another MTU, or goes away"""
    with uplink(top) as (switch, inside, near, outside, drivers):
        inside.all_answered("10.73.0.2", 2)
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
        for space, name in ((near, "lhnear"), (outside, "lhfar"), (inside, "lhtap")):
            space.ip("link", "set", name, "mtu", 1700)
        wait_for(lambda: switch.port("up").get("guest_mtu") == 1700, "the port's MTU")
        inside.all_answered("10.73.0.2", 3, 1650)
        # More than its buffers hold: it has to begin again, and then has larger ones.
        for space, name in ((near, "lhnear"), (outside, "lhfar"), (inside, "lhtap")):
            space.ip("link", "set", name, "mtu", 3000)
        drivers[1].wait_end(3)
        expect("has to start again" in drivers[1].log(), drivers[1].log())
        drivers[1].again()
        inside.all_answered("10.73.0.2", 3, 2950)
        outside.all_answered("10.73.0.1", 3, 2950)
        outside.ip("link", "del", "lhfar")
        drivers[1].wait_end(3)
        expect("is no longer there" in drivers[1].log(), drivers[1].log())


def refused(top):
    """what cannot be had is said with what to do, and the exit status"""
    near, outside = Namespace("b"), Namespace("c")
    cable(near, outside, 2)
    switch = Switch(top, "up,queues=2", "spare,queues=2", "one")

    def fails(status, text, *words, port="spare", around=()):
        argv = ["ip", "netns", "exec", near.name, *around, program("lasthop-driver"), "--port", switch.socket(port),
                "--kind", "af_xdp", *map(str, words)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        expect_equal(done.returncode, status, f"exit status of {argv}: {done.stderr}")
        expect(text in done.stderr, f"{text!r} is not in {done.stderr!r}")

    device = ("--device", "lhnear", "--queues", 2)
    fails(3, "`ip link` shows", "--device", "lhnone")
    fails(3, "takes auto, native, generic", *device, "--option", "xdp-mode=fast")
    fails(3, "is not understood", *device, "--option", "keep=everything")
    fails(2, "no option", *device, "--option", "kep=arp")
    fails(3, "2 receive queues, and 1 would be served", "--device", "lhnear")
    fails(3, "2 receive queues, and 1 would be served", *device, port="one")
    fails(3, "start the driver as root", *device, around=("setpriv", "--bounding-set=-bpf,-sys_admin"))
    fails(3, "may not lock so much memory", *device,
          around=("prlimit", "--memlock=65536", "setpriv", "--bounding-set=-ipc_lock"))
    near.ip("link", "set", "lhnear", "mtu", 9000)
    fails(3, "too large for AF_XDP", *device)
    near.ip("link", "set", "lhnear", "mtu", 1500)
    # veth takes no native program while its peer sends frames larger than a page.
    outside.ip("link", "set", "lhfar", "mtu", 9000)
    fails(3, "no native XDP", *device, "--option", "xdp-mode=native")
    driver = Driver(switch, "up", "af_xdp", *device[1:], space=near)
    wait_for(lambda: "generic, copy" in driver.log(), "how the driver goes")
    driver.stop()
    outside.ip("link", "set", "lhfar", "mtu", 1500)
    # Fewer queues than asked for.
    driver = Driver(switch, "up", "af_xdp", "lhnear", "--queues", 4, space=near)
    expect("has 2 receive queues, not 4" in driver.log(), driver.log())
    # Taken: by another driver of ours, which does not mind; by a socket; by a program.
    fails(3, "another lasthop-driver has this device", *device)
    switch.wait_state("up", "up")
    driver.stop()
    squatter = near.start("python3", "-c", SQUATTER, "lhnear")
    expect_equal(squatter.stdout.readline(), "ready\n", "a socket of somebody else")
    fails(3, "another process has an AF_XDP socket", *device)
    squatter.kill()
    squatter.wait()
    other = pathlib.Path(top, "other.o")
    source = '__attribute__((section("xdp"), used)) int other(void *ctx) { return 2; }'
    subprocess.run(["clang", "-target", "bpf", "-O2", "-g", "-x", "c", "-c", "-", "-o", other], input=source, text=True,
                   check=True)
    near.ip("link", "set", "dev", "lhnear", "xdp", "obj", other, "sec", "xdp")
    other.unlink()
    fails(3, "another XDP program is attached (other", *device)
    expect("xdp" in near.link("lhnear"), "somebody else's program was removed")
    near.ip("link", "set", "dev", "lhnear", "xdp", "off")
    driver = Driver(switch, "up", "af_xdp", *device[1:], space=near)
    driver.stop()
    switch.stop()


run_tests(frames, checksums, too_large, keep, killed, idle, down, refused)
