# SPDX-License-Identifier: BSD-3-Clause
"""The switch under the guests: lasthop, or DPDK's testpmd as a plain two-port forwarder in its place.

$LASTHOP_SWITCH=testpmd selects the latter. It learns nothing and knows no views, but nobody here wrote it: it tells a
fault of the guests or of this harness from one of lasthop. $LASTHOP_BUILD names lasthop's build directory.
"""

import json
import os
import pathlib
import signal
import subprocess

from lab import Failure, expect, need, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]


def find_binary(name):
    """A program of this project in the build directory."""
    build = pathlib.Path(os.environ.get("LASTHOP_BUILD") or ROOT / "build").resolve()
    for path in sorted(build.rglob(name)):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise Failure(f"no {name} in {build}; build it, or set LASTHOP_BUILD")


class Switch:
    """What both kinds share: named ports, each with a socket in the lab. `ports` maps a name to options of the port."""

    has_views = False

    def __init__(self, lab, ports):
        self.lab = lab
        self.ports = ports if isinstance(ports, dict) else dict.fromkeys(ports, "")
        self.process = None
        self.start()

    def socket(self, name):
        return str(self.lab.path / f"{name}.sock")

    def listening(self):
        """The ports whose sockets are the switch's."""
        return [name for name, options in self.ports.items() if "mode=client" not in options]

    def uml_socket(self, name):
        """The socket for a front end that takes whatever it is offered."""
        return self.socket(name)

    def start(self):
        """Start, and return when the ports that are servers listen."""
        self.process = self.lab.spawn("switch", self._argv())
        def listening():
            if self.process.poll() is not None:
                raise Failure(f"the switch ended with {self.process.returncode}")
            return all(os.path.exists(self.socket(name)) for name in self.listening())

        wait_for(listening, "the switch's sockets")

    def stop(self):
        """Ask it to end and check that it does so cleanly."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(20)
        except subprocess.TimeoutExpired:
            raise Failure("the switch does not end on SIGTERM") from None
        expect(status == 0, f"the switch ended with {status}")

    def _argv(self):
        raise NotImplementedError


class Lasthop(Switch):
    has_views = True

    def _directory(self):
        return self.lab.path / "switch"

    def _argv(self):
        argv = [find_binary("lasthop"), "run", "--dir", self._directory()]
        self._directory().mkdir(exist_ok=True)
        for name, options in self.ports.items():
            argv += ["--port", ",".join(filter(None, [f"{name}={self.socket(name)}", options]))]
        return argv

    def start(self):
        log = self.lab.path / "switch.log"
        earlier = log.stat().st_size if log.exists() else 0
        super().start()
        wait_for(lambda: b"lasthop: ready" in log.read_bytes()[earlier:], "`lasthop: ready`")

    def stop(self):
        super().stop()
        left = [name for name in self.listening() if os.path.exists(self.socket(name))]
        expect(not left, f"the switch left the sockets of {left} behind")

    def text(self, *words):
        """The CLI's output for people."""
        argv = [find_binary("lasthop"), "--dir", self._directory(), *words]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
        expect(done.returncode == 0, f"`lasthop {' '.join(words)}` ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def view(self, *words):
        """The CLI's output for programs."""
        return json.loads(self.text(*words, "--json"))

    def port(self, name):
        """One port's state and settings."""
        return next(row for row in self.view("port", "show")["ports"] if row["name"] == name)

    def counters(self, name):
        """One port's counters: in_packets is from the guest, out_packets to it."""
        return self.port(name)["counters"]

    def drops(self):
        """Dropped packets by reason, over all ports; only reasons that happened."""
        total = {}
        for row in self.view("port", "show")["ports"]:
            for reason, count in row["counters"]["drops"].items():
                total[reason] = total.get(reason, 0) + count
        return total

    def pid(self, program):
        """The process of this switch that runs `program`, or None."""
        for path in pathlib.Path("/proc").glob("[0-9]*/comm"):
            try:
                if path.read_text().strip() == program[:15] and self._is_ours(path.parent):
                    return int(path.parent.name)
            except OSError:
                continue
        return None

    def _is_ours(self, process):
        while process.name not in ("0", "1"):
            if int(process.name) == self.process.pid:
                return True
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            process = process.parent / parent
        return False


class Testpmd(Switch):
    """Two ports; each packet of one goes to the other."""

    def uml_socket(self, name):
        path = str(self.lab.path / f"{name}.masked")
        self.lab.spawn(f"mask-{name}", [ROOT / "tests/guests/mask.py", path, self.socket(name)])
        wait_for(lambda: os.path.exists(path), path)
        return path

    def _argv(self):
        argv = [need("dpdk-testpmd"), "-l", "0,1", "--no-huge", "-m", "512", "--no-pci", "--no-telemetry",
                "--no-shconf", f"--file-prefix={self.lab.path.name}"]
        for index, (name, options) in enumerate(self.ports.items()):
            words = options.split(",")
            device = f"net_vhost{index},iface={self.socket(name)},tso=1"
            queues = next((int(word[7:]) for word in words if word.startswith("queues=")), 1)
            device += f",queues={queues}"
            argv += ["--vdev", device + (",client=1" if "mode=client" in words else "")]
        return argv + ["--", "--forward-mode=io", f"--rxq={queues}", f"--txq={queues}", "--total-num-mbufs=16384",
                       "--stats-period=3600", "--auto-start"]


def make_switch(lab, ports):
    kinds = {"lasthop": Lasthop, "testpmd": Testpmd}
    return kinds[os.environ.get("LASTHOP_SWITCH") or "lasthop"](lab, ports)
