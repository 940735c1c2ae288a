#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a driver has and may do: nothing but its device, its port and its own memory."""

import os
import pathlib
import pty
import re
import subprocess
import sys

from drivers import Driver
from running import Stations, Switch, expect, expect_equal, program, run_tests, wait_for
from namespace import Namespace, need_namespaces

need_namespaces()


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def files(pid):
    """What descriptors lead to, and memory files among them by inode."""
    targets, memory = [], set()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(entry)
        targets.append(target)
        if "memfd:" in target:
            memory.add(entry.stat().st_ino)
    return targets, memory


def shared_maps(pid):
    """Inodes of what is mapped and can be shared."""
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    return {int(line.split()[4]) for line in maps.splitlines() if line.split()[1].endswith("s")}


def confined(top):
    """a driver under traffic has neither privilege nor sight, nor anybody else's memory"""
    space = Namespace("a")
    switch = Switch(top, "a", "b")
    stations = Stations(switch.socket("b"))
    driver = Driver(switch, "a", "tap", "lhtap", space=space)
    stations.send(0, "02:00:00:00:00:0b", "ff:ff:ff:ff:ff:ff", 3)
    pid = driver.process.pid
    wait_for(lambda: int(status_of(pid).get("Seccomp", 0)) == 2, "the filter")

    # Every thread, not only the first.
    tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
    expect(len(tasks) >= 2, "threads of the driver")
    for task in tasks:
        status = status_of(f"{pid}/task/{task.name}")
        for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            expect_equal(int(status[key], 16), 0, key)
        expect_equal((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"), "privileges and filter")
        expect(all(int(uid) > 0 for uid in status["Uid"].split() + status["Gid"].split()), "it is root")
        expect_equal(status["Groups"], "", "groups")
    for kind in ("mnt", "net", "ipc", "uts"):
        ours = os.readlink(f"/proc/self/ns/{kind}")
        expect(os.readlink(f"/proc/{pid}/ns/{kind}") != ours, f"its {kind} namespace is the host's")
    inside = space.run("readlink", "/proc/self/ns/net").strip()
    expect(os.readlink(f"/proc/{pid}/ns/net") != inside, "it is in its device's network namespace")
    expect_equal(os.listdir(f"/proc/{pid}/root/"), [], "files it can see")
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
    expect(re.search(r"Max core file size +0 +0", limits), "core dumps")
    expect(re.search(r"Max processes +0 +0", limits), "processes")

    # Its own pool, and no memory that a station or the core has.
    targets, memory = files(pid)
    mapped = shared_maps(pid)
    expect_equal(len(memory), 1, f"memory files among {targets}")
    expect_equal(mapped, memory, "what is mapped")
    _, of_station = files(stations.process.pid)
    expect(of_station and not of_station & memory, "it has a station's memory")
    known = re.compile(r"/dev/net/tun|/memfd:netfront|socket:|anon_inode:\[?(eventfd|eventpoll|signalfd)|pipe:|"
                       r"/dev/(null|pts)|/.*\.log")
    expect(all(known.match(target) for target in targets), f"descriptors: {targets}")
    driver.stop()
    stations.close()
    switch.stop()

def terminal(top):
    """of the terminal that it was started from a driver can read nothing"""
    space = Space("a")
    switch = Switch(top, "a")
    master, slave = pty.openpty()
    argv = [program("lasthop-driver"), "--port", switch.socket("a"), "--kind", "tap", "--device", "lhtap",
            "--netns", space.name]
    driver = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave)
    try:
        switch.wait_state("a", "up")
        proc = pathlib.Path(f"/proc/{driver.pid}")
        expect_equal(os.readlink(proc / "fd/0"), "/dev/null", "its input")
        for fd in (1, 2):
            flags = int(re.search(r"flags:\s+(\d+)", (proc / f"fdinfo/{fd}").read_text()).group(1), 8)
            expect_equal(flags & os.O_ACCMODE, os.O_WRONLY, f"descriptor {fd}")
        expect(b"queue pairs" in os.read(master, 65536), "what it says comes through")
    finally:
        driver.terminate()
        driver.wait()
    os.close(slave)
    os.close(master)
    switch.stop()


# Takes the packet sockets of a process, and sends by each out of an interface that is not its device. Says how many
# sockets, and what arrived.
FORGE = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
PIDFD_OPEN, PIDFD_GETFD, SO_DOMAIN = 434, 438, 39
class Address(ctypes.Structure):
    _fields_ = [("family", ctypes.c_ushort), ("protocol", ctypes.c_ushort), ("index", ctypes.c_int),
                ("hardware", ctypes.c_ushort), ("type", ctypes.c_ubyte), ("size", ctypes.c_ubyte),
                ("mac", ctypes.c_ubyte * 8)]
pid = int(sys.argv[1])
watch = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
watch.bind((sys.argv[3], 0x88b5))
watch.settimeout(1)
process, count, domain = libc.syscall(PIDFD_OPEN, pid, 0), 0, ctypes.c_int(0)
to = Address(socket.AF_PACKET, socket.htons(0x88b5), socket.if_nametoindex(sys.argv[2]), 0, 0, 6)
frame = b"\\xff" * 6 + bytes.fromhex("02000000000188b5") + b"forged" * 10
for name in os.listdir(f"/proc/{pid}/fd"):
    fd = libc.syscall(PIDFD_GETFD, process, int(name), 0)
    if fd < 0 or not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
        continue
    # Not by a socket object: those of AF_XDP have no name to be asked for.
    libc.getsockopt(fd, socket.SOL_SOCKET, SO_DOMAIN, ctypes.byref(domain), ctypes.byref(ctypes.c_uint(4)))
    if domain.value == socket.AF_PACKET:
        count += 1
        # Without and with a net header in front, as PACKET_VNET_HDR wants one.
        for data in (frame, bytes(10) + frame):
            libc.sendto(fd, data, len(data), socket.MSG_DONTWAIT, ctypes.byref(to), ctypes.sizeof(to))
try:
    print(count, watch.recv(100)[14:20].decode())
except socket.timeout:
    print(count, "nothing")
"""


def forge(top, kind):
    """What FORGE says of a driver of that kind."""
    space = Space("a")
    for name in ("lhv", "lhw"):
        space.ip("link", "add", name, "type", "veth", "peer", "name", f"{name}1")
        for end in ("", "1"):
            space.ip("link", "set", name + end, "up")
    switch = Switch(top, "a")
    driver = Driver(switch, "a", kind, "lhv", space=space)
    said = space.run(sys.executable, "-c", FORGE, driver.process.pid, "lhw", "lhw1").split()
    driver.stop()
    switch.stop()
    return said


def other_interfaces(top):
    """an AF_XDP driver sends out of its device only; one with packet sockets does not, as the documentation says"""
    expect_equal(forge(top, "af_packet"), ["1", "forged"], "af_packet: the documentation could say better of it")
    expect_equal(forge(top, "af_xdp"), ["1", "nothing"], "af_xdp: packet sockets, and what they sent")


def unconfined(top):
    """without the sandbox it says so, and works"""
    space = Namespace("a")
    switch = Switch(top, "a")
    driver = Driver(switch, "a", "tap", "lhtap", "--no-sandbox", space=space)
    expect_equal(status_of(driver.process.pid)["Seccomp"], "0", "filter")
    expect("without a sandbox" in driver.stop(), driver.log())
    switch.stop()


def jail(_top):
    """from inside, every way out fails, with the filter and without"""
    done = subprocess.run([program("driver_jail")], capture_output=True, text=True, timeout=120)
    expect(done.returncode == 0, done.stdout + done.stderr)
    expect(done.stdout.count("fails: ") > 50, done.stdout)


run_tests(confined, terminal, other_interfaces, unconfined, jail)
