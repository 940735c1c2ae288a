# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces and what is in them, for tests that run as root. Not a test itself.

Names begin with a word of this process, and all of it goes away with it.
"""

import atexit
import contextlib
import os
import subprocess
import sys

PREFIX = f"lht{os.getpid() % 100000}"


def need_root():
    """Ends the test where there is no root: its devices cannot be made then."""
    if os.geteuid() != 0 or run("ip", "netns", "add", f"{PREFIX}probe", check=False).returncode != 0:
        print("cannot exist here: needs root and network namespaces")
        sys.exit(77)
    run("ip", "netns", "del", f"{PREFIX}probe")


def run(*words, check=True):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=60)
    if check and done.returncode != 0:
        raise RuntimeError(f"{words}: {done.returncode}: {done.stdout}{done.stderr}")
    return done


class Namespace:
    """One, with a name of ours."""

    def __init__(self, name, make=True):
        self.name = PREFIX + name
        atexit.register(self.remove)
        if make:
            self.make()

    def make(self):
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def remove(self):
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            run("ip", "netns", "del", self.name, check=False)

    def ip(self, *words, check=True):
        return run("ip", "-n", self.name, *words, check=check)

    def start(self, *words, **options):
        return subprocess.Popen(["ip", "netns", "exec", self.name, *map(str, words)], **options)

    def run(self, *words, check=True):
        return run("ip", "netns", "exec", self.name, *words, check=check)

    def address(self, device, address):
        """Gives a device an IPv4 address; no IPv6, whose own traffic would be in the counters."""
        self.run("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1", check=False)
        self.ip("addr", "add", f"{address}/24", "dev", device)
        self.ip("link", "set", device, "up")

    def has(self, device):
        return self.ip("link", "show", device, check=False).returncode == 0

    def ping(self, address, count=1, wait=1):
        """How many answers came."""
        done = self.run("ping", "-n", "-q", "-c", count, "-i", "0.1", "-W", wait, address, check=False)
        for line in done.stdout.splitlines():
            if "received" in line:
                return int(line.split(",")[1].split()[0])
        return 0
