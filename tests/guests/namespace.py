# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces as containers, as the host's other half and as the world outside, and what is done in them.

For the tests and programs of this directory, of tests/integration, demo/ and bench/. Names begin with "lh" and the
process's number, so that tests may run beside each other. A namespace goes away with everything that runs in it: by
remove(), at the end of its `with`, else at the end of the program, be that by an exception, Ctrl-C or SIGTERM. What a
program that was killed has left, the next one that makes a namespace removes.
"""

import atexit
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

PREFIX = f"lh{os.getpid()}-"
PATIENCE = 120  # seconds that a command may take
_numbers = itertools.count()
_live = []      # namespaces that are there, or about to be
_started = []   # processes in them

# A stream of bytes to a server that compares each one, says each MiB how many came, and at the end how many those were.
_SERVER = """
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
_CLIENT = """
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


class CommandError(Exception):
    """A command failed, or a stream did."""


def command(*words, check=True):
    """Runs a program and returns its output. check: it must succeed."""
    words = [str(word) for word in words]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    if check and done.returncode:
        raise CommandError(f"`{' '.join(words)}` ended with {done.returncode}: {done.stdout}{done.stderr}".strip())
    return done.stdout


def need_namespaces():
    """Ends a test, as one that cannot be made, where there can be no namespaces and devices."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        print("cannot exist here: network namespaces and TAP devices take root and /dev/net/tun")
        sys.exit(77)


def _kill_inside(name):
    for pid in command("ip", "netns", "pids", name, check=False).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _delete(name):
    _kill_inside(name)
    command("ip", "netns", "del", name, check=False)


def _remove_all():
    for process in _started:
        if process.poll() is None:
            process.kill()
        process.wait()
    for namespace in _live[:]:
        namespace.remove()


def _prepare():
    """Once, before there is the first one."""
    atexit.register(_remove_all)
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/run/netns"):
            owner = re.fullmatch(r"lh(\d+)-.*", name)
            if owner and not os.path.exists(f"/proc/{owner[1]}"):
                _delete(name)


class Namespace:
    """One, from now on, or from make() on. May be used as a context manager."""

    _prepared = False

    def __init__(self, name, make=True):
        self.name = f"{PREFIX}{name}{next(_numbers)}"
        if make:
            self.make()

    def make(self):
        if not Namespace._prepared:
            Namespace._prepared = True
            _prepare()
        _live.append(self)
        command("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def remove(self):
        if self in _live:
            _delete(self.name)
            _live.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    def inside(self, *words):
        """The command line that runs in it."""
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    def run(self, *words, check=True):
        return command(*self.inside(*words), check=check)

    def ip(self, *words, check=True):
        return command("ip", "-n", self.name, *words, check=check)

    def start(self, *words, **options):
        """A subprocess.Popen of it, which does not outlive us; its output is read by us unless options say otherwise."""
        process = subprocess.Popen(self.inside(*words), text=True, **{"stdout": subprocess.PIPE, **options})
        _started.append(process)
        return process

    def link(self, device):
        """What `ip` says about it, None if it is not there."""
        text = self.ip("-j", "-d", "link", "show", device, check=False)
        rows = json.loads(text) if text.strip() else []
        return rows[0] if rows else None

    def address(self, device, address):
        """Gives it an IPv4 address, of a network of 24 bits, and starts it. No IPv6: its own frames would be counted."""
        self.run("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1", check=False)
        self.ip("addr", "add", f"{address}/24", "dev", device)
        self.ip("link", "set", device, "up")

    def no_offloads(self, device):
        self.run("ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off")

    def statistic(self, device, name):
        """Of the interface: rx_packets and the like."""
        return int(self.run("cat", f"/sys/class/net/{device}/statistics/{name}"))

    def ping(self, address, count=1, size=56, wait=2, interval=0.05):
        """How many answers came; the last is waited for so many seconds."""
        text = self.run("ping", "-n", "-q", "-c", count, "-i", interval, "-W", wait, "-s", size, address, check=False)
        received = re.search(r"(\d+) received", text)
        return int(received[1]) if received else 0

    def all_answered(self, address, count=3, size=56, seconds=30):
        """
        Every ping of a series is answered, in the end: what waits for the switch or for a neighbour's address has
        bounds in time, which a machine with many others on it does not keep. A series that loses some is told.
        """
        deadline = time.monotonic() + seconds
        while (got := self.ping(address, count, size)) != count:
            print(f"  {got} answers to {count} pings of {address}", flush=True)
            if time.monotonic() > deadline:
                raise CommandError(f"{address} does not answer all of {count} pings")

    def stream(self, other, address, size, pause=0):
        """TCP from here to `other`, which has that address; every byte is looked at. Returns how many there were."""
        return Stream(self, other, address, size, pause).end()


class Stream:
    """`size` bytes of TCP, or a little more, from one namespace to another, `pause` seconds between its writes."""

    def __init__(self, sender, receiver, address, size, pause=0):
        self.server = receiver.start(sys.executable, "-c", _SERVER, address)
        if self.server.stdout.readline() != "ready\n":
            raise CommandError(f"nobody listens at {address}")
        self.client = sender.start(sys.executable, "-c", _CLIENT, address, size, pause)

    def wait_progress(self):
        """Until another MiB has come."""
        self.server.stdout.readline()

    def end(self):
        """Waits for the end; everything must have come."""
        sent = self.client.communicate(timeout=PATIENCE)[0]
        words = self.server.communicate(timeout=PATIENCE)[0].split()
        if not sent or words[-2:] != ["end", sent.strip()]:
            raise CommandError(f"of a stream of {sent.strip() or 'no'} bytes came: {' '.join(words[-2:])}")
        return int(sent)


def veth(one, one_name, two, two_name, queues=1, up=True):
    """A cable between two namespaces. up: also of its ends."""
    command("ip", "link", "add", one_name, "netns", one.name, "numrxqueues", queues, "numtxqueues", queues, "type",
            "veth", "peer", "name", two_name, "netns", two.name, "numrxqueues", queues, "numtxqueues", queues)
    if up:
        one.ip("link", "set", one_name, "up")
        two.ip("link", "set", two_name, "up")
