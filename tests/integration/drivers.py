# SPDX-License-Identifier: BSD-3-Clause
"""Drivers that a test starts by itself, each on a port of a switch. Not a test itself."""

import atexit
import signal
import subprocess

from running import PATIENCE, expect_equal, program, wait_for


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


def end_all(switch, drivers, *spaces):
    """Ends the drivers that still run, and then the switch, both of which must end well; removes the namespaces."""
    for driver in drivers:
        if driver.process.poll() is None:
            driver.stop()
    switch.stop()
    for space in spaces:
        space.remove()


def driver_command(*words):
    done = subprocess.run([program("lasthop-driver"), *map(str, words)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def counters(switch, port):
    return switch.port(port)["counters"]
