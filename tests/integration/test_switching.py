#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: asan
"""Switching by MAC address, end to end: learning, flooding, moves, limits, bridges; with stations on real ports."""

from running import Stations, Switch, expect, expect_equal, run_tests, wait_for

A, B, C, ALL = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c", "ff:ff:ff:ff:ff:ff"


def start(top, *ports):
    switch = Switch(top, *ports)
    names = [port.partition(",")[0] for port in ports]
    stations = Stations(*map(switch.socket, names))
    for name in names:
        switch.wait_state(name, "up")
    return switch, stations


def stop(switch, stations):
    stations.close()
    switch.stop()


def drops(switch, name):
    return switch.port(name)["counters"]["drops"]


def learning(top):
    """unknown destinations are flooded, known ones are not"""
    switch, stations = start(top, "a", "b", "c")
    stations.send(0, A, B, 5)
    expect_equal([stations.take(1, 5), stations.take(2, 5)], [5, 5], "copies of an unknown destination")
    stations.send(1, B, A, 5)
    expect_equal(stations.take(0, 5), 5, "frames to a known destination")
    stations.send(0, A, B, 5)
    expect_equal(stations.take(1, 5), 5, "frames to a destination that is known now")
    stations.nothing(0, 2)
    for group in (ALL, "01:00:5e:00:00:fb", "33:33:00:00:00:01"):
        stations.send(2, C, group, 3)
        expect_equal([stations.take(0, 3), stations.take(1, 3)], [3, 3], f"copies to {group}")
    stations.nothing(2)
    expect_equal({(row["mac"], row["port"]) for row in switch.json("mac", "show")["macs"]},
                 {(A, "a"), (B, "b"), (C, "c")}, "stations")
    flows = {(row["in_port"], row["match"], row.get("src") or row.get("dst") or row.get("dst_prefix")): row for row in
             switch.json("flow", "show")["flows"]}
    expect_equal(set(flows), {("a", "source", A), ("b", "source", B), ("c", "source", C), ("a", "destination", B),
                              ("b", "destination", A), ("c", "group", "ff"), ("c", "group", "33"),
                              ("c", "group", "01:00:5e")}, "flows")
    expect_equal(flows["a", "source", A]["action"], "pass")
    expect_equal(flows["a", "destination", B]["outputs"], ["b"])
    wait_for(lambda: [row["packets"] for row in switch.json("flow", "show", "--port", "a")["flows"]] == [10, 10],
             "the flows' packets")
    stop(switch, stations)


def refused(top):
    """what no bridge forwards, with the reason it is dropped for"""
    switch, stations = start(top, "a", "b,mac-limit=2")
    stations.send(0, A, "01:80:c2:00:00:00", 2)
    stations.send(0, ALL, B, 3)
    stations.send(0, "00:00:00:00:00:00", B, 4)
    wait_for(lambda: drops(switch, "a") == {"flow-drop": 9}, "9 drops")
    stations.send(0, A, A, 2)
    wait_for(lambda: drops(switch, "a") == {"flow-drop": 9, "hairpin": 2}, "2 drops")
    stations.nothing(1)
    for i in range(4):
        stations.send(1, f"02:00:00:00:01:{i:02x}", A)
    expect_equal(stations.take(0, 2), 2, "frames within the limit")
    wait_for(lambda: drops(switch, "b") == {"mac-limit": 2}, "drops beyond the limit")
    stations.nothing(0)
    expect_equal(switch.port("b")["macs"], 2, "addresses of port b")
    stop(switch, stations)


def moves(top):
    """a station that moves is followed at once, and an announcement moves it too"""
    switch, stations = start(top, "a", "b", "c")
    stations.send(0, A, B)
    expect_equal([stations.take(i, 1) for i in (1, 2)], [1, 1], "copies of the first frame")
    stations.send(1, B, A)
    expect_equal(stations.take(0, 1), 1, "its answer")
    stations.send(2, B, A)
    expect_equal(stations.take(0, 1), 1, "from its new place")
    stations.send(0, A, B, 3)
    expect_equal(stations.take(2, 3), 3, "to its new place")
    stations.nothing(1)
    expect_equal(stations.ask(f"announce 1 {B}"), "ok")
    expect_equal([stations.take(0, 1), stations.take(2, 1)], [1, 1], "announcements")
    stations.send(0, A, B, 3)
    expect_equal(stations.take(1, 3), 3, "to its announced place")
    stop(switch, stations)


def membership(top):
    """ports that come and go, and bridges that do not see each other"""
    switch, stations = start(top, "a", "b")
    stations.send(0, A, ALL)
    expect_equal(stations.take(1, 1), 1, "before")
    switch.ok("bridge", "add", "lan")
    switch.ok("port", "add", switch.spec("c"))
    switch.ok("port", "add", switch.spec("d,bridge=lan"))
    late = Stations(switch.socket("c"), switch.socket("d"))
    switch.wait_state("c", "up")
    switch.wait_state("d", "up")
    stations.send(0, A, ALL, 2)
    expect_equal([stations.take(1, 2), late.take(0, 2)], [2, 2], "with a new member")
    late.nothing(1)
    late.send(0, C, A)
    expect_equal(stations.take(0, 1), 1, "from the new member")
    stations.send(0, A, C)
    expect_equal(late.take(0, 1), 1, "to the new member")
    # Gone with its stations: its address is unknown again.
    switch.ok("port", "del", "c")
    stations.send(0, A, C)
    expect_equal(stations.take(1, 1), 1, "to who is gone")
    expect_equal({row["mac"] for row in switch.json("mac", "show")["macs"]}, {A}, "stations left")
    late.kill()
    stop(switch, stations)


def flood_of_sources(top):
    """a port that floods random addresses harms nobody but itself"""
    switch, stations = start(top, "a", "b", "c")
    stations.send(0, A, B)
    expect_equal([stations.take(i, 1) for i in (1, 2)], [1, 1], "copies of the first frame")
    stations.send(1, B, A)
    expect_equal(stations.take(0, 1), 1, "its answer")
    for i in range(3000):
        stations.send(2, f"02:00:00:01:{i >> 8:02x}:{i & 255:02x}", A)
    expect(switch.port("c")["macs"] <= 1024, "addresses of port c")
    expect(switch.port("c")["flows"] <= 1024 + 256 + 1, "flows of port c")
    stations.take(0, 100000, 200)
    for sender, receiver, src, dst in ((0, 1, A, B), (1, 0, B, A)):
        stations.send(sender, src, dst, 10)
        expect_equal(stations.take(receiver, 10), 10, "frames of the others")
    stop(switch, stations)


run_tests(learning, refused, moves, membership, flood_of_sources)
