#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The example demo/containers, with a real VM in it: two containers, a VM and the world reach each other."""

import os
import pathlib
import subprocess
import sys

import traffic
from guest import Uml
from lab import expect, run_test, step

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "demo/containers"


def in_the_middle(lab):
    """What the example runs as its command."""
    vm = Uml(lab, "vm", 1, os.environ["VM_SOCKET"]).ready()
    step("the VM pings the containers and the world")
    for name in ("WEB", "DB", "WORLD"):
        traffic.ping(vm, os.environ[name])
        traffic.ping(vm, os.environ[name], size=10000)
    vm.kill()


def test(lab):
    step("the example, alone")
    done = subprocess.run([EXAMPLE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    expect(done.returncode == 0, f"{EXAMPLE} ended with {done.returncode}: {done.stdout}")
    expect(done.stdout.count(" 0% packet loss") == 3, done.stdout)

    step("the example, with a VM")
    done = subprocess.run([EXAMPLE, sys.executable, __file__, "--inside"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    expect(done.returncode == 0, f"{EXAMPLE} ended with {done.returncode}: {done.stdout}")


if __name__ == "__main__":
    run_test(in_the_middle if "--inside" in sys.argv else test)
