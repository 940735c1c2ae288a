#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: asan
"""The observer as part of a switch: with it, without it, and when it dies."""

import os
import pathlib
import shutil
import signal
import subprocess

from running import Stations, Switch, expect, expect_equal, program, run_tests, wait_for

NOT_KNOWN = "VM states are not known: "
OBSERVER = "lasthop-observer"
MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


def is_built():
    return os.path.exists(os.path.join(os.path.dirname(program("lasthop")), OBSERVER))


def log_of(switch):
    return pathlib.Path(switch.log.name).read_text()


def is_known(switch):
    return switch.json("stats")["vm_states"]


def has_observer(switch):
    """Waits until it is clear; the log says why there is none."""
    return wait_for(lambda: is_known(switch) and "yes" or NOT_KNOWN in log_of(switch) and "no", "known or not") == "yes"


def start(top, *options):
    switch = Switch(top, "a", "b", options=options)
    stations = Stations(switch.socket("a"), switch.socket("b"))
    for name in "ab":
        switch.wait_state(name, "up")
        expect_equal(switch.port(name)["peer_pid"], stations.process.pid, f"process behind port {name}")
    return switch, stations


def expect_traffic(stations):
    stations.send(0, MAC_A, MAC_B, 10)
    expect_equal(stations.take(1, 10), 10, "frames that arrived")


def wait_blocked(switch):
    """The stations wait for a command."""
    wait_for(lambda: switch.port("a")["vm_state"] == "blocked", "a state of port a's VM")
    line = next(line for line in switch.ok("port", "show").splitlines() if line.startswith("a "))
    expect("blocked" in line and str(switch.port("a")["peer_pid"]) in line, line)
    expect("VM: blocked" in switch.ok("port", "show", "a"), "the state in the details")
    expect("states are known" in switch.ok("stats"), "the observer in the statistics")


def observed(top):
    """with an observer that is killed, and a core that is killed"""
    switch, stations = start(top)
    if not has_observer(switch):
        print("  the kernel permits none here")
        expect_equal(switch.port("a")["vm_state"], "unknown")
        expect_equal(log_of(switch).count(NOT_KNOWN), 1, "how often it was said")
        expect_traffic(stations)
        stations.close()
        switch.stop()
        return
    wait_blocked(switch)
    expect_traffic(stations)

    # What dies is started again, and told of all VMs.
    switch.kill_child(OBSERVER)
    wait_for(lambda: log_of(switch).count("sees the states") == 2, "the second observer")
    wait_blocked(switch)
    os.kill(switch.child(OBSERVER), signal.SIGSEGV)
    wait_for(lambda: log_of(switch).count("sees the states") == 3, "the third observer")
    wait_blocked(switch)
    expect_traffic(stations)
    expect_equal(log_of(switch).count("does not see the states of VMs and CPUs any more"), 2, "losses of it")
    observer = switch.child(OBSERVER)
    stations.close()

    switch.kill_child("lasthop-core")
    wait_for(lambda: log_of(switch).count("sees the states") == 4, "the second core's view")
    stations = Stations(switch.socket("a"), switch.socket("b"))
    switch.wait_state("a", "up")
    wait_blocked(switch)
    expect_equal(switch.child(OBSERVER), observer, "the observer")
    stations.close()
    switch.wait_state("a", "down")
    port = switch.port("a")
    expect(port["vm_state"] == "unknown" and "peer_pid" not in port, f"a port without a VM: {port}")
    switch.stop()
    expect(not os.path.exists(f"/proc/{observer}"), "the observer outlived the switch")


def confined(top):
    """what the observer keeps"""
    switch, stations = start(top)
    if has_observer(switch):
        status = dict(line.split(":\t", 1) for line in
                      pathlib.Path(f"/proc/{switch.child(OBSERVER)}/status").read_text().splitlines())
        for capabilities in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            expect_equal(int(status[capabilities], 16), 0, capabilities)
        expect_equal(status["NoNewPrivs"], "1", "NoNewPrivs")
        expect_equal(status["Seccomp"], "2", "Seccomp")
        expect("0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split(),
               f"users: {status['Uid']} {status['Gid']} {status['Groups']}")
        links = pathlib.Path(f"/proc/{switch.child(OBSERVER)}/fd").iterdir()
        files = {os.readlink(link) for link in links if int(link.name) > 2}
        for name in files:
            expect(name.startswith(("anon_inode:", "socket:")) or name == "/dev/null", f"it has {name} open")
    stations.close()
    switch.stop()


def left_out(top):
    """without an observer"""
    switch, stations = start(top, "--no-observer")
    expect(switch.child(OBSERVER) is None, "there is one")
    expect(not is_known(switch), "its word")
    expect_equal(switch.port("a")["vm_state"], "unknown")
    expect("not known" in switch.ok("stats"), "the statistics")
    expect_traffic(stations)
    expect(NOT_KNOWN not in log_of(switch), "nobody needs to be told")
    stations.close()
    switch.stop()


def not_built(top):
    """an observer that was not built"""
    run_elsewhere(top, ["lasthop", "lasthop-core", "lasthop-control"], "is not there")


def not_permitted(top):
    """an unprivileged user"""
    if os.getuid() != 0:
        print("  we are no root: the first test was this one")
    elif is_built():
        run_elsewhere(top, ["lasthop", "lasthop-core", "lasthop-control", OBSERVER], "BPF", "nobody")


def run_elsewhere(top, programs, reason, user=None):
    """With these programs only: the message comes once, and everything works."""
    top = pathlib.Path(top)
    place = top / "place"
    place.mkdir()
    for name in programs:
        shutil.copy(program(name), place)
    top.chmod(0o755)
    if user is not None:
        shutil.chown(place, user)
    log = open(top / "switch.log", "ab")
    process = subprocess.Popen([place / "lasthop", "run", "--dir", place / "run", "--port", f"a={place}/a.sock",
                                "--port", f"b={place}/b.sock"], stdout=subprocess.PIPE, stderr=log, user=user,
                               extra_groups=None if user is None else [])
    try:
        expect_equal(process.stdout.readline(), b"lasthop: ready\n", "the switch's first line")

        def said():
            return pathlib.Path(log.name).read_text().count(NOT_KNOWN)

        wait_for(lambda: said() > 0, "the reason")
        stations = Stations(str(place / "a.sock"), str(place / "b.sock"))
        expect_traffic(stations)
        stations.close()
        text = pathlib.Path(log.name).read_text()
        expect(said() == 1 and reason in text and "workers go by what rings tell" in text, text)
    finally:
        process.terminate()
        process.stdout.close()
    expect_equal(process.wait(), 0, "exit status")
    shutil.rmtree(place)


run_tests(observed, confined, left_out, not_built, not_permitted)
