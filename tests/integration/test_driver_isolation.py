#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a driver has and may do: nothing but its device, its port and its own memory."""

import os
import pathlib
import re
import subprocess

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


run_tests(confined, unconfined, jail)
