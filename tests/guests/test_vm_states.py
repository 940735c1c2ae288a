#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# test: timeout 600
"""What lasthop-observer says of real VMs: a guest without work is blocked, one that computes is not.

User-mode Linux computes in other processes than the one that holds the socket; QEMU has vCPU threads, with names or
without. Other tests may take the CPU meanwhile, which makes a guest runnable instead of running, but never blocked.
"""

import mmap
import os
import socket
import struct
import sys
import time

from guest import Nic, Qemu, Uml
from lab import Failure, expect, run_test, step, wait_for
from switch import find_binary, make_switch

# As in proto/observer_map.h.
SLOTS = 1024
ENTRY = 64
HELLO, WATCH = 1, 1
UNKNOWN, BLOCKED, RUNNABLE, RUNNING = "unknown", "blocked", "runnable", "running"


class QemuWithNames(Qemu):
    def _argv(self, console):
        argv = super()._argv(console)
        argv[argv.index("-name") + 1] += ",debug-threads=on"
        return argv


class Observer:
    """The reader's side of the protocol."""

    def __init__(self, lab):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = lab.spawn("observer", [find_binary("lasthop-observer"), "--socket-fd", theirs.fileno()],
                                      pass_fds=[theirs.fileno()])
        notice, descriptors, _, _ = socket.recv_fds(self._socket, 64, 2)
        if not notice and self._process.wait() == 3:
            print("cannot exist here: the kernel does not permit BPF to us")
            sys.exit(77)
        expect(struct.unpack("4I", notice)[0] == HELLO, "the observer says hello")
        self._slots = mmap.mmap(descriptors[0], SLOTS * ENTRY, mmap.MAP_SHARED, mmap.PROT_READ)
        for descriptor in descriptors:
            os.close(descriptor)

    def watch(self, slot, pid):
        self._socket.send(struct.pack("IIiI", WATCH, slot, pid, 0))

    def has_vcpus(self, slot):
        return struct.unpack_from("QII", self._slots, slot * ENTRY)[2] != 0

    def state(self, slot):
        counts, watch, vcpus = struct.unpack_from("QII", self._slots, slot * ENTRY)
        if not watch:
            return UNKNOWN
        if vcpus:
            counts >>= 32
        return RUNNING if counts & 0xffff else RUNNABLE if counts >> 16 & 0xffff else BLOCKED

    def share_of_blocked(self, slot, seconds=2):
        """Of samples that are spread over that time."""
        samples = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            samples.append(self.state(slot))
            time.sleep(0.0007)
        expect(UNKNOWN not in samples, "the guest is watched")
        return samples.count(BLOCKED) / len(samples)


def check(observer, slot, guest):
    """Idle, busy and idle again."""

    def is_idle():
        return observer.share_of_blocked(slot) > 0.5

    wait_for(is_idle, f"{guest.name} without work is blocked", 120)
    for work in ("while :; do :; done", "dd if=/dev/zero of=/dev/null bs=64k"):
        guest.run(f"({work}) >/dev/null 2>&1 & echo $! >/tmp/work")
        busy = observer.share_of_blocked(slot)
        guest.run("kill $(cat /tmp/work)", 60)
        step(f"{guest.name}: `{work}`: blocked in {busy:.1%} of the samples")
        expect(busy < 0.2, f"{guest.name} works and is blocked in {busy:.1%} of the samples")
        wait_for(is_idle, f"{guest.name} without work is blocked", 120)


def test(lab):
    try:
        find_binary("lasthop-observer")
    except Failure:
        print("cannot exist here: lasthop-observer was not built, libbpf, clang or bpftool is missing")
        sys.exit(77)
    observer = Observer(lab)
    kinds = {"uml": lambda name, number, path: Uml(lab, name, number, path),
             "plain": lambda name, number, path: Qemu(lab, name, number, [Nic(path)]),
             "named": lambda name, number, path: QemuWithNames(lab, name, number, [Nic(path)], cpus=2)}
    switch = make_switch(lab, list(kinds))
    # One after the other: they take each other's CPU.
    for slot, (name, make) in enumerate(kinds.items()):
        path = switch.uml_socket(name) if name == "uml" else switch.socket(name)
        guest = make(name, slot + 1, path)
        observer.watch(slot, guest.process.pid)
        guest.ready()
        check(observer, slot, guest)
        expect(observer.has_vcpus(slot) == (name == "named"), f"{name}: threads that look like vCPUs")
        guest.kill()
        wait_for(lambda: observer.state(slot) == UNKNOWN, f"{name} is gone")
    switch.stop()


if __name__ == "__main__":
    run_test(test)
