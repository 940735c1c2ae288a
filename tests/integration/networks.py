# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces, interfaces in them and drivers on them, for the tests of this directory.

Not a test itself. Names begin with "lh" and the process's number, so that tests may run beside each other; everything
goes away at the end, however that comes.
"""

import atexit
import itertools
import json
import os
import re
import signal
import subprocess
import sys

from running import PATIENCE, expect, expect_equal, program, wait_for

PREFIX = f"lh{os.getpid()}"
NUMBERS = itertools.count()
SPACES = []

# A stream of so many bytes to a server that checks them, and says how fast they came; and the server.
SERVER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], 5201), family=family)
block = bytes(i % 251 for i in range(251 + (1 << 20)))
print("ready", flush=True)
peer, _ = listener.accept()
got, mark = 0, 0
while data := peer.recv(1 << 20):
    assert data == block[got % 251:got % 251 + len(data)], got
    got += len(data)
    if got - mark > 1 << 20:
        mark = got
        print(got, flush=True)
print("end", got, flush=True)
"""
CLIENT = """
import socket, sys, time
peer = socket.create_connection((sys.argv[1], 5201))
size, pause = int(sys.argv[2]), float(sys.argv[3])
block = bytes(i % 251 for i in range(251 * 1024))
sent = 0
while sent < size:
    peer.sendall(block)
    sent += len(block)
    time.sleep(pause)
peer.close()
print(sent)
"""

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


def cannot():
    """Ends the test where there can be no namespaces."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        print("cannot exist here: network namespaces and TAP devices take root and /dev/net/tun")
        sys.exit(77)


def ip(*words, check=True):
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, timeout=60)
    expect(done.returncode == 0 or not check, f"ip {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


def remove_all():
    for space in SPACES[:]:
        space.remove()


class Space:
    """A network namespace."""

    def __init__(self, name):
        self.name = f"{PREFIX}{name}{next(NUMBERS)}"
        ip("netns", "add", self.name)
        if not SPACES:
            atexit.register(remove_all)
        SPACES.append(self)
        self.ip("link", "set", "lo", "up")

    def remove(self):
        if self in SPACES:
            SPACES.remove(self)
            ip("netns", "del", self.name, check=False)

    def ip(self, *words, check=True):
        return ip("-n", self.name, *words, check=check)

    def run(self, *words, check=True):
        done = subprocess.run(["ip", "netns", "exec", self.name, *map(str, words)], capture_output=True, text=True,
                              timeout=120)
        expect(done.returncode == 0 or not check, f"{words}: {done.stdout} {done.stderr}")
        return done.stdout

    def begin(self, *words):
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *map(str, words)], stdout=subprocess.PIPE,
                                   text=True)
        atexit.register(end, process)
        return process

    def link(self, device):
        """What `ip` says about it, None if it is not there."""
        text = self.ip("-j", "-d", "link", "show", device, check=False)
        rows = json.loads(text) if text.strip() else []
        return rows[0] if rows else None

    def address(self, device, address):
        """Without IPv6 and its chatter."""
        self.run("sysctl", "-q", "-w", f"net.ipv6.conf.{device}.disable_ipv6=1")
        self.ip("addr", "add", f"{address}/24", "dev", device)
        self.ip("link", "set", device, "up")

    def no_offloads(self, device):
        self.run("ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off")

    def statistic(self, device, name):
        """Of the interface: rx_packets and the like."""
        return int(self.run("cat", f"/sys/class/net/{device}/statistics/{name}"))

    def ping(self, address, count=3, size=56):
        """How many answers came."""
        text = self.run("ping", "-q", "-c", count, "-i", "0.05", "-W", "2", "-s", size, address, check=False)
        return int(re.search(r"(\d+) received", text).group(1))

    def all_answered(self, address, count=3, size=56):
        """
        Every ping of a series is answered, in the end: what waits for the switch or for a neighbour's address has
        bounds in time, which a machine with many others on it does not keep. A series that loses some is told.
        """
        def attempt():
            got = self.ping(address, count, size)
            if got != count:
                print(f"  {got} answers to {count} pings of {address}", flush=True)
            return got == count

        wait_for(attempt, f"answers from {address}")

    def stream(self, other, address, size, pause=0):
        """TCP from here to `other`, which has that address, every byte looked at."""
        server, client = self.begin_stream(other, address, size, pause)
        return self.end_stream(server, client)

    def begin_stream(self, other, address, size, pause=0):
        server = other.begin("python3", "-c", SERVER, address)
        expect_equal(server.stdout.readline(), "ready\n", "the server")
        return server, self.begin("python3", "-c", CLIENT, address, size, pause)

    def end_stream(self, server, client):
        sent = int(client.communicate(timeout=PATIENCE)[0])
        last = server.communicate(timeout=PATIENCE)[0].split()[-1]
        expect_equal(int(last), sent, "bytes that came through")
        return sent


def end(process):
    if process.poll() is None:
        process.kill()
    process.wait()


class Driver:
    """lasthop-driver on a port of a switch."""

    def __init__(self, switch, port, kind, device, *options, space=None, wait=True):
        self.argv = [program("lasthop-driver"), "--port", switch.socket(port), "--kind", kind, "--device", device,
                     *map(str, options)]
        if space:
            self.argv += ["--netns", space.name]
        self.switch, self.port = switch, port
        self.log_path = switch.top / "switch.log"
        self.begin()
        if wait:
            self.wait_up()

    def begin(self):
        self.start = self.log_path.stat().st_size
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.argv, stderr=log)
        atexit.register(end, self.process)

    def wait_up(self):
        """That the port is up may still be of the one before."""
        def is_ours():
            row = self.switch.port(self.port)
            return row["state"] == "up" and row.get("peer_pid") == self.process.pid

        wait_for(is_ours, f"port {self.port} up")

    def log(self):
        """What was logged since it was started, by whomever."""
        with open(self.log_path, "rb") as log:
            log.seek(self.start)
            return log.read().decode()

    def wait_end(self, status):
        expect_equal(self.process.wait(PATIENCE), status, f"exit status; {self.log()}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.wait_end(0)
        return self.log()

    def again(self):
        self.begin()
        self.wait_up()


def driver_command(*words):
    done = subprocess.run([program("lasthop-driver"), *map(str, words)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def counters(switch, port):
    return switch.port(port)["counters"]


