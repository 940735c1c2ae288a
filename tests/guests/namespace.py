# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces as containers, as the host's other half, and as the world outside."""

import os
import subprocess

from lab import Failure, need


def command(*words, check=True):
    """Run a program; returns its output (both streams)."""
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120)
    if check and done.returncode:
        raise Failure(f"`{' '.join(map(str, words))}` ended with {done.returncode}: {done.stdout.strip()}")
    return done.stdout


class Namespace:
    """Use as a context manager: it and what is in it is gone afterwards. Its name has the process's number in it."""

    def __init__(self, name):
        self.name = f"lh{os.getpid()}-{name}"

    def __enter__(self):
        command(need("ip"), "netns", "add", self.name)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        for pid in command("ip", "netns", "pids", self.name, check=False).split():
            command("kill", "-9", pid, check=False)
        command("ip", "netns", "del", self.name, check=False)

    def run(self, *words, check=True):
        return command("ip", "netns", "exec", self.name, *words, check=check)

    def spawn(self, lab, name, *words):
        return lab.spawn(name, ["ip", "netns", "exec", self.name, *words])

    def address(self, interface, address):
        """Give the interface an address, as "10.0.0.9/24", and start it."""
        self.run("ip", "addr", "add", address, "dev", interface)
        self.run("ip", "link", "set", interface, "up")

    def tap(self, name):
        self.run("ip", "tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr")
        self.run("ip", "link", "set", name, "up")

    def statistics(self, interface):
        base = f"/sys/class/net/{interface}/statistics"
        lines = self.run("sh", "-c", f"cd {base} && grep . *").split()
        return {name: int(value) for name, _, value in (line.partition(":") for line in lines)}


def veth(one, one_name, two, two_name, queues=1):
    """A cable between two namespaces."""
    command("ip", "link", "add", one_name, "netns", one.name, "numrxqueues", queues, "numtxqueues", queues, "type",
            "veth", "peer", "name", two_name, "netns", two.name, "numrxqueues", queues, "numtxqueues", queues)
    one.run("ip", "link", "set", one_name, "up")
    two.run("ip", "link", "set", two_name, "up")
