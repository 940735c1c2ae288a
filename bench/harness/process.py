# SPDX-License-Identifier: BSD-3-Clause
"""Processes of a benchmark: where they run, what they say, how much CPU time they use.

They belong to a Lab (tests/guests/lab.py), which makes sure that none survives, however bench/run ends. CPU time comes
from the scheduler's own nanosecond counters (/proc/PID/task/TID/schedstat), not from timer ticks: an idle switch's share
is far below a tick.
"""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from lab import Failure, need


class BenchError(Failure):
    """Something a measurement needs did not work; the message says what."""


class Unavailable(Failure):
    """A contender cannot run on this machine as it is; the table shows a dash for it."""


class Skip(Failure):
    """A contender lacks what a point needs: said once, and no failure of the run."""


class Absent(Skip):
    """A contender lacks what every point needs."""


@contextlib.contextmanager
def on_cores(cores):
    """What is started inside runs on these cores only, with all that it starts. None: on all."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Child:
    """A program of the lab, its output in `<name>.log` there."""

    def __init__(self, lab, name, argv, cores=None, env=None, stdin=subprocess.DEVNULL):
        self.name = name
        self.lab = lab
        # Line-buffered, as on a terminal: what it prints is waited for.
        words = ["env", *(f"{k}={v}" for k, v in (env or {}).items()), "stdbuf", "-oL", need(argv[0]), *argv[1:]]
        with on_cores(cores):
            self.popen = lab.spawn(name, words, stdin=stdin)
        self.log = lab.path / f"{name}.log"

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def output(self):
        return self.log.read_text(errors="replace")

    def tail(self, lines=15):
        return "\n".join(self.output().splitlines()[-lines:])

    def wait_for(self, predicate, what, seconds=20):
        """Waits until predicate() holds; a child that ends before is an error that shows its last lines."""
        deadline = time.monotonic() + seconds
        while not predicate():
            if not self.alive():
                raise BenchError(f"{self.name} ended before {what}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name}: no {what} in {seconds} s:\n{self.tail()}")
            time.sleep(0.02)

    def say(self, line):
        """A line to its standard input, which must be a pipe."""
        self.popen.stdin.write(line.encode() + b"\n")
        self.popen.stdin.flush()

    def stop(self, seconds=5):
        """Asks first, so that it leaves in order; then kills."""
        if self.alive():
            self.popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(seconds)
        self.lab.kill(self.popen)
        if self.popen.stdin:
            self.popen.stdin.close()


def with_descendants(pids):
    """The processes themselves and all that they started."""
    seen, todo = [], list(pids)
    while todo:
        pid = todo.pop()
        if pid in seen:
            continue
        seen.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                todo += [int(c) for c in children.read_text().split()]
            except OSError:
                continue
    return seen


def cpu_ns(pids):
    """CPU time of the processes' present threads, in nanoseconds. Threads that end meanwhile lose theirs."""
    total = 0
    for pid in pids:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for tid in threads:
            try:
                with open(f"/proc/{pid}/task/{tid}/schedstat", encoding="ascii") as f:
                    total += int(f.read().split()[0])
            except (OSError, IndexError):
                continue
    return total


def run(argv, seconds=30, env=None, what=None):
    """A short command that must succeed; returns its output. env: variables to add."""
    argv = [need(argv[0]), *map(str, argv[1:])]
    env = dict(os.environ, **(env or {}))
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, env=env, check=False)
    except subprocess.TimeoutExpired as e:
        raise BenchError(f"{what or argv}: no end in {seconds} s") from e
    if done.returncode:
        raise BenchError(f"{what or argv}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
