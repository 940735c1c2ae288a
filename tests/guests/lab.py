# SPDX-License-Identifier: BSD-3-Clause
"""A place for one test: a temporary directory, the processes in it, and the certainty that both go away.

A forked janitor waits for the end of the process that made the lab, however it comes: it reads a pipe of which that
process holds the only other end. Each child gets a session of its own, told to the janitor before the child can start
anything; at the end the janitor kills whatever lives in those sessions and removes the directory. So a normal end, an
exception, Ctrl-C and `kill -9` all take the same way out.

Lab.spawn must be called from the main thread: a child is killed when the *thread* that made it ends.
"""

import collections
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_started = time.monotonic()
_libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """What was expected did not happen."""


def expect(condition, text):
    if not condition:
        raise Failure(text)


def wait_for(condition, what, seconds=90):
    """Poll until condition() is true and return its value; an exception that it raises counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        error = ""
        try:
            value = condition()
            if value:
                return value
        except (OSError, ValueError, LookupError, subprocess.CalledProcessError) as caught:
            error = f" ({caught})"
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} s{error}")
        time.sleep(0.05)


def need(program):
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Failure(f"no {program} on this machine; scripts/install-deps installs it")
    return path


def session_members(session):
    """The live processes of a session."""
    members = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = pathlib.Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[3] == str(session) and fields[0] not in "ZX":
                members.append(int(entry))
    return members


def _kill_session(session):
    members = session_members(session)
    while members:
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)
        members = session_members(session)


def _janitor(pipe, directory):
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions = set()
    with os.fdopen(pipe) as orders:
        for line in orders:
            sessions.add(int(line))
    for session in sessions:
        _kill_session(session)
    shutil.rmtree(directory, ignore_errors=True)


class Lab:
    """Use as a context manager. `path` is the directory; logs are the files in it that end in .log."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="lasthop-"))
        self._sessions = []
        read_end, self._orders = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._janitor = os.fork()
        if not self._janitor:
            status = 1
            try:
                os.close(self._orders)
                _janitor(read_end, self.path)
                status = 0
            finally:
                os._exit(status)
        os.close(read_end)
        # Orphans of what runs here (User-mode Linux leaves some) are ours to reap.
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        os.close(self._orders)
        os.waitpid(self._janitor, 0)
        # All of them are killed; one whose threads are still ending is waited for.
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass

    def left_behind(self):
        """After close(): what is still there and should not be."""
        left = [f"process {pid}" for session in self._sessions for pid in session_members(session)]
        return left + [str(self.path)] * self.path.exists()

    def spawn(self, name, argv, log=None, **kwargs):
        """Start a program whose output goes to `<name>.log`. Returns the subprocess.Popen."""
        output = open(self.path / (log or f"{name}.log"), "ab")

        def before_exec():
            os.setsid()
            os.write(self._orders, b"%d\n" % os.getpid())
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("stdout", output)
        # Where programs leave files: DPDK in the last two.
        places = dict.fromkeys(("HOME", "TMPDIR", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"), str(self.path))
        with output:
            process = subprocess.Popen([str(arg) for arg in argv], stderr=output, cwd=self.path,
                                       env={**os.environ, **places}, preexec_fn=before_exec, **kwargs)
        self._sessions.append(process.pid)
        return process

    def kill(self, process):
        """End a program of spawn at once, with everything that it started."""
        _kill_session(process.pid)
        process.wait()

    def show_logs(self, lines=25):
        for path in sorted(self.path.glob("*.log")):
            with open(path, errors="replace") as file:
                tail = collections.deque(file, lines)
            print(f"--- {path.name}")
            sys.stdout.writelines("    " + line.rstrip("\r\n") + "\n" for line in tail)


def run_test(test):
    """Run test(lab) as a program: exit 0 if it returns, else show why and exit 1."""
    with Lab() as lab:
        try:
            test(lab)
        except Exception as error:
            # A failed check explains itself; anything else is a fault whose place is wanted.
            print(f"FAILED: {error}" if isinstance(error, Failure) else traceback.format_exc())
            lab.show_logs()
            status = 1
        else:
            print(f"passed in {time.monotonic() - _started:.1f} s")
            status = 0
    sys.exit(status)


def step(text):
    """Tell what comes next; a test's output reads as the list of what it showed."""
    print(f"{time.monotonic() - _started:6.1f} s  {text}", flush=True)
