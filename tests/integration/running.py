# SPDX-License-Identifier: BSD-3-Clause
"""A running switch and stations on its ports, for the tests of this directory.

Not a test itself. Makes the modules of tests/guests known besides: namespace. $LASTHOP_BUILD names the build directory; everything else is in a temporary directory that goes away.
"""

import atexit
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/guests"))
BUILD = pathlib.Path(os.environ.get("LASTHOP_BUILD") or ROOT / "build").resolve()
PATIENCE = 60  # seconds, for what must come but has no set time


class Failure(Exception):
    pass


class _Clock(threading.Thread):
    """Ticks ten times a second; what is much longer between two looks was a pause of the whole machine."""

    def __init__(self):
        super().__init__(daemon=True)
        self.lock = threading.Lock()
        self.seen = time.monotonic()
        self.seconds = 0.0

    def look(self):
        with self.lock:
            now = time.monotonic()
            self.seconds += min(now - self.seen, 1)
            self.seen = now
            return self.seconds

    def run(self):
        while True:
            time.sleep(0.1)
            self.look()


_clock = _Clock()
_clock.start()


def clock():
    """Seconds for which the machine ran, for what may not take long: a virtual one may be paused for 20 at times."""
    return _clock.look()


def expect(condition, what):
    if not condition:
        raise Failure(what)


def expect_equal(got, wanted, what=""):
    expect(got == wanted, f"{what}: got {got!r}, wanted {wanted!r}")


def wait_for(condition, what):
    """Waits until condition() is true and returns what it returned."""
    end = clock() + PATIENCE
    while True:
        result = condition()
        if result:
            return result
        expect(clock() < end, f"waited {PATIENCE} s in vain: {what}")
        time.sleep(0.02)


def program(name):
    for path in (BUILD / name, BUILD / "tests/integration" / name):
        if path.is_file():
            return str(path)
    raise Failure(f"no {name} in {BUILD}")


def cli(*words):
    """Runs `lasthop`; returns its exit status, output and errors."""
    done = subprocess.run([program("lasthop"), *map(str, words)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


class Switch:
    """`lasthop run` in a directory of its own. Ports are named with their options; sockets are beside the directory."""

    def __init__(self, top, *ports, options=(), dir_name="run", programs=None, env=None):
        """programs: where they are, if not in the build directory; env: for them, besides ours."""
        self.top = pathlib.Path(top)
        self.dir = self.top / dir_name
        self.process = None
        self.programs = pathlib.Path(programs or BUILD)
        self.env = {**os.environ, **(env or {})}
        self.start(*ports, options=options)

    def socket(self, name):
        return str(self.top / f"{name}.sock")

    def spec(self, port):
        name, _, options = port.partition(",")
        if "driver=" in options:
            return port
        return f"{name}={self.socket(name)}" + ("," + options if options else "")

    def start(self, *ports, options=()):
        argv = [str(self.programs / "lasthop"), "run", "--dir", str(self.dir), *options]
        for port in ports:
            argv += ["--port", self.spec(port)]
        self.log = open(self.top / "switch.log", "ab")
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=self.log, env=self.env)
        atexit.register(self.kill)
        line = self.process.stdout.readline()
        expect_equal(line, b"lasthop: ready\n", "the switch's first line")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self):
        """Ends it, and checks that it does so cleanly."""
        self.process.send_signal(signal.SIGTERM)
        expect_equal(self.process.wait(PATIENCE), 0, "exit status of the switch")
        expect(not self.dir.exists(), f"{self.dir} was left behind")

    def cli(self, *words):
        return cli("--dir", self.dir, *words)

    def ok(self, *words):
        """A command that must succeed; returns its output."""
        status, output, errors = self.cli(*words)
        expect(status == 0, f"lasthop {words}: status {status}, {errors}")
        return output

    def json(self, *words):
        return json.loads(self.ok(*words, "--json"))

    def port(self, name):
        return self.json("port", "show", name)["ports"][0]

    def driver(self, name):
        """What is known of the port's driver."""
        return self.port(name)["driver"]

    def said(self):
        """All that it and its children have logged so far."""
        return (self.top / "switch.log").read_text(errors="replace")

    def wait_state(self, name, state):
        wait_for(lambda: self.port(name)["state"] == state, f"port {name} {state}")

    def child(self, name):
        """The process of lasthop-core or lasthop-control, None if there is none now."""
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                head, _, rest = path.read_text().rpartition(")")
                fields = rest.split()
                if int(fields[1]) == self.process.pid and fields[0] != "Z" and head.endswith("(" + name[:15]):
                    return int(path.parent.name)
        return None

    def kill_child(self, name):
        """kill -9, and waits for its successor."""
        old = self.child(name)
        os.kill(old, signal.SIGKILL)
        return wait_for(lambda: self.child(name) not in (None, old) and self.child(name), f"another {name}")


class Stations:
    """Front ends on sockets, by the program of that name: see stations.c."""

    def __init__(self, *paths):
        self.process = subprocess.Popen([program("stations"), *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        atexit.register(self.kill)
        expect_equal(self._line(), "ok", "stations")

    def _line(self):
        line = self.process.stdout.readline().strip()
        expect(line, "the stations ended")
        return line

    def ask(self, command):
        self.begin(command)
        return self.end()

    def begin(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def end(self):
        return self._line()

    def send(self, station, src, dst, count=1):
        expect_equal(self.ask(f"send {station} {src} {dst} {count}"), "ok")

    def take(self, station, wanted, ms=5000):
        return int(self.ask(f"take {station} {wanted} {ms}"))

    def nothing(self, *stations):
        for station in stations:
            expect_equal(self.take(station, 1, 100), 0, f"frames at station {station}")

    def close(self):
        self.process.stdin.close()
        expect_equal(self.process.wait(PATIENCE), 0, "exit status of the stations")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def listen(path):
    """A socket of somebody else."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    return sock


def run_tests(*tests):
    """Each gets a directory of its own."""
    for test in tests:
        print(f"- {test.__doc__ or test.__name__}", flush=True)
        top = tempfile.mkdtemp(prefix="lasthop-")
        begin = time.monotonic()
        try:
            test(top)
            print(f"  passed in {time.monotonic() - begin:.1f} s", flush=True)
            left = [name for name in os.listdir(top) if name != "switch.log"]
            expect(not left, f"left behind: {left}")
        except BaseException:
            with contextlib.suppress(OSError):
                sys.stderr.write(pathlib.Path(top, "switch.log").read_text())
            raise
        finally:
            shutil.rmtree(top, ignore_errors=True)
