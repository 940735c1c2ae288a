#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: asan
"""TAP devices in network namespaces, each behind a driver on an ordinary port: what goes through, and what goes wrong."""

import contextlib
import os
import signal
import socket
import time

from drivers import Driver, counters, driver_command, end_all
from running import Switch, expect, expect_equal, run_tests, wait_for
from namespace import Namespace, Stream, need_namespaces

need_namespaces()


@contextlib.contextmanager
def two(top, *options, ports=("a", "b")):
    """Two namespaces with a TAP each, on two ports of a switch, that have addresses."""
    spaces = [Namespace("a"), Namespace("b")]
    switch = Switch(top, *ports)
    drivers = [Driver(switch, "ab"[i], "tap", "lhtap", *options, space=spaces[i]) for i in (0, 1)]
    for i, space in enumerate(spaces):
        space.address("lhtap", f"10.73.0.{i + 1}")
    try:
        yield switch, spaces, drivers
    except Exception:
        print({name: counters(switch, name)["drops"] for name in ports}, spaces[0].ip("neigh"), spaces[1].ip("neigh"))
        raise
    end_all(switch, drivers, *spaces)


def average(before, after, direction):
    """Bytes of a packet."""
    packets = after[f"{direction}_packets"] - before[f"{direction}_packets"]
    return (after[f"{direction}_bytes"] - before[f"{direction}_bytes"]) / max(packets, 1)


def frames(top):
    """ping and TCP between two namespaces; segments stay large, and no driver loses any"""
    with two(top) as (switch, spaces, drivers):
        spaces[0].all_answered("10.73.0.2", 20)
        spaces[1].all_answered("10.73.0.1", 5, 1400)
        before = counters(switch, "b")
        spaces[0].stream(spaces[1], "10.73.0.2", 200 << 20)
        expect(average(before, counters(switch, "b"), "out") > 8000, "segments arrive in small pieces")
        spaces[1].stream(spaces[0], "10.73.0.1", 200 << 20)
        for name in "ab":
            # A driver that does not run for 10 ms, on a machine that others use too, makes its port full.
            drops = set(counters(switch, name)["drops"])
            expect(drops <= {"out-full", "out-down"}, f"drops of port {name}: {drops}")
        for driver in drivers:
            expect("frames lost" not in driver.stop(), "the driver lost frames")


def queues(top):
    """several queues, and fewer at the port than asked for"""
    spaces = [Namespace("a"), Namespace("b")]
    switch = Switch(top, "a,queues=2", "b")
    drivers = [Driver(switch, "a", "tap", "lhtap", "--queues", 2, space=spaces[0]),
               Driver(switch, "b", "tap", "lhtap", "--queues", 3, space=spaces[1])]
    expect_equal(spaces[0].link("lhtap")["linkinfo"]["info_data"].get("numqueues"), 2, "queues of the first TAP")
    expect_equal(spaces[1].link("lhtap")["linkinfo"]["info_data"].get("numqueues"), 1, "queues of the second TAP")
    for i, space in enumerate(spaces):
        space.address("lhtap", f"10.73.0.{i + 1}")
    stream = Stream(spaces[0], spaces[1], "10.73.0.2", 40 << 20)
    # Of which the stream, on a machine that others use too, may cost some their room (see frames()).
    expect(spaces[1].ping("10.73.0.1", 20) > 5, "hardly an answer beside a stream")
    stream.end()
    for driver in drivers:
        driver.stop()
    switch.stop()


def mtu(top):
    """a changed MTU comes to the port, and large frames go through"""
    with two(top, "--mtu", 1400) as (switch, spaces, _):
        expect_equal(spaces[0].link("lhtap")["mtu"], 1400, "the MTU asked for")
        wait_for(lambda: switch.port("a").get("guest_mtu") == 1400, "the port's MTU")
        for space in spaces:
            space.ip("link", "set", "lhtap", "mtu", 9000)
        wait_for(lambda: switch.port("a").get("guest_mtu") == 9000, "the port's new MTU")
        spaces[0].all_answered("10.73.0.2", 5, 8900)
        spaces[0].ip("link", "set", "lhtap", "mtu", 65535 - 14, check=False)
        spaces[0].all_answered("10.73.0.2", 2)


def carrier(top):
    """the port is up while the device is, and the device has carrier while somebody serves it"""
    with two(top) as (switch, spaces, drivers):
        spaces[0].ip("link", "set", "lhtap", "down")
        switch.wait_state("a", "connected")
        expect_equal(spaces[1].ping("10.73.0.1", 1), 0, "answers of one that is down")
        spaces[0].ip("link", "set", "lhtap", "up")
        switch.wait_state("a", "up")
        spaces[1].all_answered("10.73.0.1", 5)
        expect("LOWER_UP" in spaces[1].link("lhtap")["flags"], "no carrier")
        drivers[1].kill()
        wait_for(lambda: "NO-CARRIER" in spaces[1].link("lhtap")["flags"], "carrier lost")
        switch.wait_state("b", "down")
        drivers[1].again()
        wait_for(lambda: "LOWER_UP" in spaces[1].link("lhtap")["flags"], "carrier again")


def killed(top):
    """kill -9 under TCP: the next driver finds the device as it was, and the connection goes on"""
    with two(top) as (switch, spaces, drivers):
        stream = Stream(spaces[0], spaces[1], "10.73.0.2", 40 << 20, 0.02)
        for i in range(8):
            stream.wait_progress()
            drivers[i % 2].kill()
            drivers[i % 2].again()
        stream.end()
        spaces[0].all_answered("10.73.0.2", 5)
        del switch


def stopped(top):
    """a driver that stands still harms nobody else, and goes on"""
    with two(top, ports=("a", "b", "c")) as (switch, spaces, drivers):
        third = Namespace("c")
        driver = Driver(switch, "c", "tap", "lhtap", space=third)
        third.address("lhtap", "10.73.0.3")
        drivers[1].process.send_signal(signal.SIGSTOP)
        expect_equal(spaces[0].ping("10.73.0.2", 2), 0, "answers through one that stands still")
        spaces[0].all_answered("10.73.0.3", 20)
        drivers[1].process.send_signal(signal.SIGCONT)
        wait_for(lambda: spaces[0].ping("10.73.0.2", 1) == 1, "an answer again")
        driver.stop()
        third.remove()


def gone(top):
    """the device is removed, the port is removed, the switch is killed: each has its exit status, and comes back"""
    with two(top) as (switch, spaces, drivers):
        spaces[0].ip("link", "del", "lhtap")
        drivers[0].wait_end(3)
        expect("lhtap is no longer there" in drivers[0].log(), drivers[0].log())
        switch.wait_state("a", "down")
        drivers[0].again()
        spaces[0].address("lhtap", "10.73.0.1")
        spaces[0].all_answered("10.73.0.2", 3)
        switch.kill_child("lasthop-core")
        for driver in drivers:
            driver.wait_end(4)
        for driver in drivers:
            driver.again()
        spaces[0].all_answered("10.73.0.2", 3)
        switch.ok("port", "del", "a")
        drivers[0].wait_end(4)
        expect("has hung up" in drivers[0].log(), drivers[0].log())


def too_long(top):
    """frames that are larger than the pool's buffers are lost by name"""
    with two(top, "--option", "buffer=1024") as (_, spaces, drivers):
        spaces[0].all_answered("10.73.0.2", 3, 900)
        expect_equal(spaces[0].ping("10.73.0.2", 3, 1200), 0, "answers to those that do not")
        expect("3 frames lost: too-long" in drivers[0].stop(), drivers[0].log())


def refused(top):
    """what cannot be had is said with what to do, and the exit status"""
    space = Namespace("a")
    switch = Switch(top, "a", "b")

    def fails(status, text, *words):
        got, _, errors = driver_command("--port", switch.socket("b"), *words)
        expect_equal(got, status, f"exit status of {words}: {errors}")
        expect(text in errors, f"{text!r} is not in {errors!r}")

    driver = Driver(switch, "a", "tap", "lhtap", space=space)
    fails(3, "another process has it open", "--kind", "tap", "--device", "lhtap", "--netns", space.name)
    space.ip("link", "add", "lhveth", "type", "veth", "peer", "name", "lhpeer")
    fails(3, "no TAP device", "--kind", "tap", "--device", "lhveth", "--netns", space.name)
    fails(3, "cannot be the name", "--kind", "tap", "--device", "a/b", "--netns", space.name)
    fails(3, "No such file", "--kind", "tap", "--device", "lhtap", "--netns", "lh-no-such-netns")
    fails(3, "must be one", "--kind", "tap", "--device", "lhtap", "--netns", "/etc/passwd")
    fails(3, "does not take", "--kind", "tap", "--device", "lhnew", "--netns", space.name, "--option", "buffer=1")
    fails(1, "no user", "--kind", "tap", "--device", "lhnew", "--netns", space.name, "--user", "lh-nobody-at-all")
    fails(1, "without privileges", "--kind", "tap", "--device", "lhnew", "--netns", space.name, "--user", "root")
    fails(2, "no kind", "--kind", "other", "--device", "lhtap")
    fails(2, "no option", "--kind", "tap", "--device", "lhtap", "--option", "x=1")
    # Somebody made it with one queue.
    space.ip("tuntap", "add", "lhone", "mode", "tap")
    other = Driver(switch, "b", "tap", "lhone", "--queues", 2, space=space)
    expect("one queue is used" in other.log(), other.log())
    other.stop()
    # A FIFO that nobody writes to holds nobody.
    os.mkfifo(f"{top}/fifo")
    fails(3, "must be one", "--kind", "tap", "--device", "lhtap", "--netns", f"{top}/fifo")
    os.unlink(f"{top}/fifo")
    expect("LOWER_UP" in space.link("lhtap")["flags"], "the first one's TAP")
    driver.stop()
    switch.stop()


def removed(top):
    """what a driver made is removed, which takes no port; nothing of anybody else's is"""
    space = Namespace("a")
    switch = Switch(top, "a", "b")

    def remove(device):
        return driver_command("--remove", "--kind", "tap", "--device", device, "--netns", space.name)

    driver = Driver(switch, "a", "tap", "lhtap", space=space)
    # Such as a second driver that was to have it would leave behind.
    status, _, errors = remove("lhtap")
    expect_equal((status, "another process" in errors), (3, True), f"a TAP that is in use: {errors}")
    expect("LOWER_UP" in space.link("lhtap")["flags"], "a TAP that is in use was removed")
    driver.stop()
    expect_equal(remove("lhtap")[0], 0, "removed")
    expect_equal(space.link("lhtap"), None, "a removed TAP")
    expect_equal(remove("lhtap")[0], 0, "removed once more")

    # Lent to us, and a VPN's, and no TUN device at all; in use by a single queue, whatever is noted there.
    space.ip("tuntap", "add", "lhlent", "mode", "tap", "multi_queue")
    space.ip("tuntap", "add", "lhvpn", "mode", "tun")
    space.ip("tuntap", "add", "lhone", "mode", "tap")
    space.ip("link", "add", "lhveth", "type", "veth", "peer", "name", "lhveth1")
    lent = Driver(switch, "a", "tap", "lhlent", space=space)
    one = Driver(switch, "b", "tap", "lhone", space=space)
    space.ip("link", "set", "lhone", "alias", "lasthop")
    expect_equal(remove("lhone")[0], 3, "in use")
    lent.stop()
    one.stop()
    expect_equal(remove("lhlent")[0], 0, "of somebody who made it")
    expect_equal(remove("lhvpn")[0], 0, "no TAP, but a TUN device")
    expect_equal(remove("lhveth")[0], 3, "no TUN device")
    for device in ("lhlent", "lhvpn", "lhone", "lhveth"):
        expect(space.link(device), f"{device} was removed")
    switch.stop()


def restless(top):
    """who has the device and changes it all the time does not fill the log"""
    with two(top) as (_, spaces, drivers):
        for mtu in range(1200, 1400):
            spaces[0].ip("link", "set", "lhtap", "mtu", mtu)
        spaces[0].ip("link", "set", "lhtap", "mtu", 1500)
        spaces[0].all_answered("10.73.0.2", 3)
        lines = drivers[0].log().count("MTU is")
        expect(1 <= lines < 40, f"{lines} lines about 201 changes")


def no_port(top):
    """there is no port, or not lasthop behind it"""
    space = Namespace("a")
    path = f"{top}/nobody.sock"
    words = ("--port", path, "--kind", "tap", "--device", "lhtap", "--netns", space.name)
    status, _, errors = driver_command(*words)
    expect_equal(status, 4, errors)
    expect("is the switch running" in errors, errors)
    # Somebody accepts, and hangs up or says nothing that makes sense.
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    if os.fork() == 0:
        listener.accept()[0].sendall(b"\0" * 64)
        time.sleep(1)
        os._exit(0)
    status, _, errors = driver_command(*words)
    expect_equal(status, 4, errors)
    os.wait()
    listener.close()
    os.unlink(path)
    expect("NO-CARRIER" in space.link("lhtap")["flags"], "a TAP that nobody serves has carrier")


run_tests(frames, queues, mtu, carrier, killed, stopped, gone, too_long, refused, removed, restless, no_port)
