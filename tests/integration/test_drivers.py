#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Real drivers under `lasthop run`: TAPs in namespaces, as containers have them, and packet sockets on veths. What they
carry outlives their deaths."""

import os
import signal
import sys
import threading
import time

from running import Switch, clock, expect, expect_equal, run_tests, wait_for
from namespace import PREFIX, Namespace, command, need_namespaces

SERVER = """
import socket
listener = socket.create_server(('0.0.0.0', 5001))
print('ready', flush=True)
sock, _ = listener.accept()
while True:
    data = sock.recv(65536)
    if not data:
        break
    sock.sendall(data)
"""

# Sends a line, waits for its echo, again and again; says after how many, and how long the worst took.
CLIENT = """
import socket, sys, time
sock = socket.create_connection((sys.argv[1], 5001), timeout=30)
print('connected', flush=True)
end, count, worst = time.monotonic() + float(sys.argv[2]), 0, 0
while time.monotonic() < end:
    begin = time.monotonic()
    sock.sendall(b'x' * 1000)
    got = 0
    while got < 1000:
        got += len(sock.recv(1000 - got))
    worst = max(worst, time.monotonic() - begin)
    count += 1
    time.sleep(0.001)
print(count, worst, flush=True)
"""


class Conversation:
    """An established TCP connection with a line to and fro at every moment."""

    def __init__(self, client, server, address, seconds):
        self.server = server.start(sys.executable, "-c", SERVER)
        expect_equal(self.server.stdout.readline(), "ready\n", "the server")
        self.client = client.start(sys.executable, "-c", CLIENT, address, seconds, stderr=-1)
        expect_equal(self.client.stdout.readline(), "connected\n", "the client")

    def end(self):
        output, errors = self.client.communicate(timeout=60)
        self.server.wait(10)
        expect_equal(self.client.returncode, 0, f"the connection: {errors}")
        count, worst = output.split()
        return int(count), float(worst)


def two_containers(top, *ports):
    a, b = Namespace("a"), Namespace("b")
    switch = Switch(top, *ports)
    for space, name, address in ((a, "a", "10.98.0.1"), (b, "b", "10.98.0.2")):
        switch.ok("port", "add", "--tap", "eth0", "--netns", space.name, "--name", name)
        space.address("eth0", address)
        switch.wait_state(name, "up")
    expect(a.ping("10.98.0.2", 3) >= 2, "the two reach each other")
    return switch, a, b


def end(switch, *spaces):
    switch.stop()
    for space in spaces:
        space.remove()


def another(switch, name, pid):
    """Waits for another process of the port's driver, and its port; returns after how many seconds it was there."""
    begin = clock()
    wait_for(lambda: switch.driver(name).get("pid", pid) != pid and switch.port(name)["state"] == "up", "another driver")
    return clock() - begin


def containers(top):
    """TAPs come and go with their ports, and say what they are"""
    switch, a, b = two_containers(top)
    driver = switch.driver("a")
    expect(driver["kind"] == "tap" and driver["link"] == "up" and driver["mtu"] == 1500 and driver["netns"] == a.name,
           f"driver: {driver}")
    wait_for(lambda: switch.driver("a")["counters"]["rx_packets"] >= 3, "the driver's counters")
    expect_equal(switch.port("a").get("guest_mtu"), 1500)
    # An MTU that is changed at the device shows at the port.
    a.ip("link", "set", "eth0", "mtu", "1400")
    wait_for(lambda: switch.driver("a")["mtu"] == 1400 and switch.port("a").get("guest_mtu") == 1400, "the new MTU")
    a.ip("link", "set", "eth0", "down")
    wait_for(lambda: switch.port("a")["state"] == "connected" and switch.driver("a")["link"] == "down", "link down")
    a.ip("link", "set", "eth0", "up")
    switch.wait_state("a", "up")
    wait_for(lambda: a.ping("10.98.0.2"), "traffic again")
    switch.ok("port", "del", "a")
    wait_for(lambda: not a.link("eth0"), "the TAP's removal")
    expect(b.link("eth0"), "the other TAP")
    switch.ok("port", "add", "--tap", "eth0", "--netns", a.name, "--name", "a", "--queues", "2", "--mtu", "1300")
    a.address("eth0", "10.98.0.1")
    wait_for(lambda: a.ping("10.98.0.2"), "traffic through the new one")
    expect_equal(switch.driver("a")["mtu"], 1300)
    switch.stop()
    expect(not a.link("eth0") and not b.link("eth0"), "TAPs were left behind")
    a.remove()
    b.remove()


def killed(top):
    """kill -9 of a driver: back at once, the connection, flows and addresses outlive it"""
    switch, a, b = two_containers(top)
    talk = Conversation(a, b, "10.98.0.2", 6)
    time.sleep(0.5)
    flows = {row["id"] for row in switch.json("flow", "show")["flows"]}
    macs = {(row["mac"], row["port"]) for row in switch.json("mac", "show")["macs"]}
    for name in "bab":
        pid = switch.driver(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        took = another(switch, name, pid)
        print(f"  driver of {name}: back after {1000 * took:.0f} ms", flush=True)
        expect(took < 4, f"back after {took:.2f} s")  # a back-off, or a hang, would be 5 s
        time.sleep(0.7)
    expect(flows <= {row["id"] for row in switch.json("flow", "show")["flows"]}, "flows were lost")
    expect(macs <= {(row["mac"], row["port"]) for row in switch.json("mac", "show")["macs"]}, "addresses were lost")
    count, worst = talk.end()
    print(f"  {count} round trips, the worst {1000 * worst:.0f} ms", flush=True)
    expect(count > 100, f"{count} round trips, the worst {worst:.2f} s")
    expect_equal(switch.driver("b")["restarts"], 2)
    end(switch, a, b)


def hung(top):
    """a stopped driver is killed and replaced"""
    switch, a, b = two_containers(top)
    pid = switch.driver("b")["pid"]
    os.kill(pid, signal.SIGSTOP)
    took = another(switch, "b", pid)
    print(f"  back after {took:.1f} s", flush=True)
    expect(took < 10, f"back after {took:.1f} s")
    wait_for(lambda: a.ping("10.98.0.2"), "traffic again")
    end(switch, a, b)


def missing(top):
    """a device, or its namespace, that comes later"""
    space, late = Namespace("m"), Namespace("late", make=False)
    name = f"{PREFIX}v"
    switch = Switch(top)
    status, _, errors = switch.cli("port", "add", "--af-packet", name, "--name", "v")
    expect(status == 0 and "could not have its device" in errors, f"port add: {status} {errors}")
    status, _, errors = switch.cli("port", "add", "--tap", "eth0", "--netns", late.name, "--name", "t")
    expect(status == 0 and "could not have its device" in errors, f"port add: {status} {errors}")
    wait_for(lambda: switch.driver("v")["restarts"] >= 6, "retries that are 3.2 s apart")
    command("ip", "link", "add", name, "type", "veth", "peer", "name", "eth1", "netns", space.name)
    command("ip", "link", "set", name, "up")
    space.address("eth1", "10.98.0.1")
    begin = clock()
    switch.wait_state("v", "up")
    took = clock() - begin
    expect(took < 3, f"an interface of our own namespace is seen at once, not after {took:.1f} s")
    late.make()
    switch.wait_state("t", "up")
    late.address("eth0", "10.98.0.2")
    wait_for(lambda: late.ping("10.98.0.1"), "traffic between the two")
    expect_equal(switch.said().count("cannot have its device"), 2, "messages")
    # The link follows the peer's, and so does the port.
    space.ip("link", "set", "eth1", "down")
    switch.wait_state("v", "connected")
    # The rings stand still first, and then it says why.
    wait_for(lambda: switch.driver("v")["link"] == "down", "the link is known to be down")
    space.ip("link", "set", "eth1", "up")
    switch.wait_state("v", "up")
    # It disappears under the driver, and comes back.
    command("ip", "link", "del", name)
    switch.wait_state("v", "down")
    command("ip", "link", "add", name, "type", "veth", "peer", "name", "eth1", "netns", space.name)
    command("ip", "link", "set", name, "up")
    space.address("eth1", "10.98.0.1")
    switch.wait_state("v", "up")
    # The peer has another address now.
    late.ip("neigh", "flush", "all")
    wait_for(lambda: late.ping("10.98.0.1"), "traffic again")
    switch.stop()
    command("ip", "link", "show", name)  # It is not ours: it stays.
    command("ip", "link", "del", name)
    space.remove()
    late.remove()


def refused(top):
    """an option that the driver does not know is told to whoever adds the port"""
    switch = Switch(top)
    status, _, errors = switch.cli("port", "add", "--tap", f"{PREFIX}r", "--driver-option", "nosuch=1", "--name", "r")
    expect(status == 0 and "it refused its options" in errors, f"port add: {status} {errors}")
    expect("nosuch" in switch.said(), f"the option is not in the log: {switch.said()}")
    switch.stop()


def control_is_killed(top):
    """the control plane is killed under traffic: drivers go on, no answer is lost"""
    switch, a, b = two_containers(top)
    pids = [switch.driver(name)["pid"] for name in "ab"]
    answers = []
    pinger = threading.Thread(target=lambda: answers.append(a.ping("10.98.0.2", 20, interval=0.1)))
    pinger.start()
    for _ in range(2):
        time.sleep(0.4)
        switch.kill_child("lasthop-control")
        wait_for(lambda: switch.cli("port", "show")[0] == 0, "the API")
    pinger.join()
    expect_equal(answers, [20], "answers")
    expect_equal([switch.driver(name)["pid"] for name in "ab"], pids, "drivers")
    end(switch, a, b)


def core_is_killed(top):
    """the data plane is killed: drivers are back with it, and the connection lives"""
    switch, a, b = two_containers(top)
    talk = Conversation(a, b, "10.98.0.2", 5)
    time.sleep(0.5)
    pids = {name: switch.driver(name)["pid"] for name in "ab"}
    switch.kill_child("lasthop-core")
    wait_for(lambda: switch.cli("port", "show")[0] == 0, "the API")
    took = max(another(switch, name, pids[name]) for name in "ab")
    expect(took < 10, f"back after {took:.1f} s")
    count, worst = talk.end()
    print(f"  {count} round trips, the worst {1000 * worst:.0f} ms", flush=True)
    expect(count > 100, f"{count} round trips")
    end(switch, a, b)


need_namespaces()
run_tests(containers, killed, hung, missing, refused, control_is_killed, core_is_killed)
