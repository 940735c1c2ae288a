#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: asan
"""Processes of the switch are killed: what was asked for stays, and while it is the control plane, no packet is lost."""

import os
import signal
import socket

from running import Stations, Switch, cli, expect, expect_equal, run_tests, wait_for

A, B, ALL = "02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff"


def settings(switch):
    """What was asked for, without what is."""
    keys = ("name", "path", "mode", "bridge", "queues", "mtu", "mac_limit", "features_off")
    return [{key: row[key] for key in keys} for row in switch.json("port", "show")["ports"]]


def control_is_killed(top):
    """the control plane is killed under traffic: no packet is lost"""
    switch = Switch(top, "a", "b")
    stations = Stations(switch.socket("a"), switch.socket("b"))
    switch.wait_state("b", "up")
    stations.send(0, A, B)
    stations.send(1, B, A)
    expect_equal([stations.take(1, 1), stations.take(0, 1)], [1, 1], "the first frames")
    core = switch.child("lasthop-core")
    flows = {row["id"] for row in switch.json("flow", "show")["flows"]}
    stations.begin("stream 3000")
    for _ in range(3):
        switch.kill_child("lasthop-control")
        wait_for(lambda: switch.cli("version")[0] == 0, "the API")
    sent, received = map(int, stations.end().split())
    expect_equal(received, sent, "frames received of those sent")
    expect(sent > 100, f"only {sent} frames were sent")
    expect_equal(switch.child("lasthop-core"), core, "the data plane")
    wait_for(lambda: switch.json("version").get("switch", {}).get("data_plane"), "the data plane found again")
    rows = {row["id"]: row for row in switch.json("flow", "show")["flows"]}
    expect(flows <= set(rows), "flows were installed anew")
    expect_equal({(row["mac"], row["port"]) for row in switch.json("mac", "show")["macs"]}, {(A, "a"), (B, "b")},
                 "stations known again")
    for name in "ab":
        expect_equal(switch.port(name)["counters"]["drops"], {}, f"drops of port {name}")
    # It also goes on without one, as long as nothing new happens; and what is counted can still be read.
    pid = switch.child("lasthop-control")
    os.kill(pid, signal.SIGSTOP)
    sent, received = map(int, stations.ask("stream 300").split())
    expect_equal(received, sent, "frames without a control plane")
    expect(switch.json("stats")["total"]["packets"] >= sent, "statistics without a control plane")
    os.kill(pid, signal.SIGCONT)
    stations.close()
    switch.stop()


def core_is_killed(top):
    """the data plane is killed: everything is there again"""
    switch = Switch(top, "a", "b,queues=2,mac-limit=9", "c,mode=client")
    switch.ok("bridge", "add", "lan")
    switch.ok("port", "add", switch.spec("d,bridge=lan,mrg=off"))
    asked_for = settings(switch)
    for victims in (["core"], ["control"], ["core"], ["control", "core"]):
        for victim in victims:
            switch.kill_child(f"lasthop-{victim}")
        wait_for(lambda: switch.cli("port", "show")[0] == 0, "the API")
        wait_for(lambda: all(row["state"] != "absent" for row in switch.json("port", "show")["ports"]), "the ports")
        expect_equal(settings(switch), asked_for, f"ports after {victims} was killed")
        stations = Stations(switch.socket("a"), switch.socket("b"))
        switch.wait_state("a", "up")
        switch.wait_state("b", "up")
        stations.send(0, A, ALL)
        expect_equal(stations.take(1, 1), 1, "frames after a restart")
        stations.close()
        switch.wait_state("a", "down")
    switch.ok("port", "del", "d")
    switch.kill_child("lasthop-control")
    wait_for(lambda: switch.cli("port", "show")[0] == 0, "the API")
    expect_equal(settings(switch), asked_for[:3], "ports after one was deleted")
    switch.stop()


def everything_is_killed(top):
    """`lasthop run` is killed: nothing of it stays, and the next one begins anew"""
    switch = Switch(top, "a", "b")
    children = [switch.child(name) for name in ("lasthop-core", "lasthop-control")]
    switch.kill()

    def gone(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_for(lambda: all(gone(pid) for pid in children), "the end of its children")
    expect_equal(cli("--dir", switch.dir, "port", "show")[0], 3, "exit status without a switch")
    # The ports that it had are not those of its successor, and their sockets go.
    switch.start("c")
    expect_equal([row["name"] for row in switch.json("port", "show")["ports"]], ["c"], "ports")
    expect_equal(sorted(name for name in os.listdir(top) if name.endswith(".sock")), ["c.sock"], "sockets")
    switch.process.send_signal(signal.SIGINT)
    expect_equal(switch.process.wait(30), 0, "exit status after SIGINT")
    os.rmdir(switch.dir)


def client_mode(top):
    """a port in client mode connects whenever somebody listens"""
    switch = Switch(top, "a,mode=client")
    expect_equal(switch.port("a")["state"], "down", "with nobody there")
    for _ in range(2):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(switch.socket("a"))
        listener.listen()
        listener.settimeout(30)
        front_end, _ = listener.accept()
        switch.wait_state("a", "connected")
        front_end.close()
        front_end, _ = listener.accept()
        switch.wait_state("a", "connected")
        # Deleting it hangs up.
        switch.ok("port", "del", "a")
        front_end.settimeout(30)
        while front_end.recv(4096):
            pass
        front_end.close()
        listener.close()
        expect(os.path.exists(switch.socket("a")), "a socket that is not ours was removed")
        os.unlink(switch.socket("a"))
        switch.ok("port", "add", switch.spec("a,mode=client"))
    switch.stop()


run_tests(control_is_killed, core_is_killed, everything_is_killed, client_mode)
