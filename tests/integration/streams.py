# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces, and TCP streams between them, for the tests of driver domains.

Not a test itself. Names begin with `lh` and this process's number, so that runs do not meet; all go away at the end.
"""

import atexit
import os
import pathlib
import subprocess
import sys

from running import PATIENCE, Failure, expect, wait_for

# Each byte follows from its place, so the receiver knows them all; one stream each way.
STREAM = r"""
import hashlib, socket, sys
role, address, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
block = bytes(i * 7 % 251 for i in range(251 * 1024))
if role == "take":
    with socket.create_server((address, 5001), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
        print("ready", flush=True)
        peer, _ = server.accept()
    got, right = 0, True
    while True:
        data = peer.recv(1 << 16)
        if not data:
            break
        at = got % 251
        right &= data == block[at:at + len(data)]
        got += len(data)
    peer.sendall(b"%d %d" % (got, right))
    peer.close()
else:
    with socket.create_connection((address, 5001), timeout=60) as peer:
        left = size
        while left > 0:
            n = min(left, len(block))
            peer.sendall(block[:n])
            left -= n
        peer.shutdown(socket.SHUT_WR)
        answer = b""
        while True:
            data = peer.recv(100)
            if not data:
                break
            answer += data
    print(answer.decode())
"""


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Failure(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


class Namespace:
    def __init__(self, suffix):
        self.name = f"lh{os.getpid()}{suffix}"
        run("ip", "netns", "add", self.name)
        atexit.register(self.delete)
        self.ip("link", "set", "lo", "up")
        # No router solicitations and the like: what is counted is what a test sends.
        self.run("sysctl", "-q", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.router_solicitations=0")

    def delete(self):
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)

    def ip(self, *words):
        return run("ip", "-n", self.name, *words)

    def run(self, *words):
        return run(*self.argv(*words))

    def argv(self, *words):
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    def popen(self, *words, **options):
        return subprocess.Popen(self.argv(*words), **options)

    def counter(self, interface, name):
        """Of the interface's statistics: rx_packets and the like."""
        return int(self.run("cat", f"/sys/class/net/{interface}/statistics/{name}"))

    def no_offloads(self, interface):
        self.run("ethtool", "-K", interface, "tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off")


def stream(sender, taker, address, size):
    """One TCP connection's worth of bytes, checked at the end."""
    listener = taker.popen(sys.executable, "-c", STREAM, "take", address, 0, stdout=subprocess.PIPE)
    try:
        expect(listener.stdout.readline() == b"ready\n", "the receiver did not start")
        answer = sender.run(sys.executable, "-c", STREAM, "give", address, size).split()
        expect(answer == [str(size), "1"], f"TCP from {sender.name} to {taker.name}: {answer}, not {size} right bytes")
        listener.wait(PATIENCE)
    finally:
        listener.kill()
        listener.wait()
        listener.stdout.close()


class Driver:
    """lasthop-driver at a port's socket."""

    def __init__(self, program, socket, kind, device, *options, log):
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as file:
            self.process = subprocess.Popen([program, "--port", socket, "--kind", kind, "--device", device, *options],
                                            stdin=subprocess.DEVNULL, stderr=file)
        atexit.register(self.kill)

    def wait_running(self):
        wait_for(lambda: " queue pairs" in self.log.read_text() or self.process.poll() is not None, "the driver runs")
        expect(self.process.poll() is None, f"the driver ended: {self.log.read_text()}")

    def stop(self):
        self.process.terminate()
        status = self.process.wait(PATIENCE)
        expect(status == 0, f"exit status of the driver: {status}: {self.log.read_text()}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
