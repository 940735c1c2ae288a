# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's testpmd with net_virtio_user ports: a front end that nobody here wrote, and that polls."""

import pathlib
import re
import subprocess
import time

from lab import Failure, need

PROMPT = "testpmd> "


class FrontEnd:
    """One testpmd with a port for each of `sockets`; port N has the address mac(N)."""

    def __init__(self, lab, name, sockets, mode="mac", device="", queues=1, server=False):
        self.lab = lab
        self.name = name
        self._log = lab.path / f"{name}.log"
        self._seen = 0
        count = len(sockets)
        # Line by line, so that a command's output comes before the next prompt.
        argv = [need("stdbuf"), "-oL", need("dpdk-testpmd"), "-l", "0,1", "--no-huge", "-m", "256", "--no-pci",
                # virtio-user's memory table has eight entries.
                "--single-file-segments", "--no-telemetry", f"--file-prefix={lab.path.name}-{name}"]
        for index, path in enumerate(sockets):
            if server:  # a killed one leaves its socket, and the next does not start over it
                pathlib.Path(path).unlink(missing_ok=True)
            words = [f"net_virtio_user{index}", f"path={path}", f"mac={self.mac(index)}", f"queues={queues}",
                     f"server={int(server)}", device]
            argv += ["--vdev", ",".join(filter(None, words))]
        argv += ["--", "-i", f"--forward-mode={mode}", "--port-topology=" + ("paired" if count > 1 else "loop"),
                 f"--rxq={queues}", f"--txq={queues}", "--total-num-mbufs=8192", "--no-lsc-interrupt"]
        for index in range(count):
            # Towards the neighbour that the port topology would not forward to.
            argv.append(f"--eth-peer={index},{self.mac(index ^ 1)}")
        self._process = lab.spawn(name, argv, stdin=subprocess.PIPE)
        self._wait(PROMPT, 60)

    def mac(self, index):
        return f"02:00:00:00:00:{index + 1:02x}"

    def command(self, text, seconds=30):
        """Give a command and return what it printed."""
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()
        return self._wait(PROMPT, seconds)

    def counted(self, index):
        """What a port has received and sent since the last `clear port stats all`: (packets, packets)."""
        text = self.command(f"show port stats {index}")
        return tuple(int(re.search(rf"{direction}-packets: (\d+)", text).group(1)) for direction in ("RX", "TX"))

    def kill(self):
        self.lab.kill(self._process)
        self._seen = self._log.stat().st_size

    def quit(self):
        """A clean end."""
        self._process.stdin.write(b"stop\nquit\n")
        self._process.stdin.close()
        if self._process.wait(30):
            raise Failure(f"{self.name} ended with {self._process.returncode}")

    def _wait(self, what, seconds):
        deadline = time.monotonic() + seconds
        while True:
            text = self._log.read_bytes()[self._seen:].decode(errors="replace")
            if what in text:
                self._seen += len(text.encode())
                return text
            if self._process.poll() is not None:
                raise Failure(f"{self.name} ended with {self._process.returncode}")
            if time.monotonic() > deadline:
                raise Failure(f"{self.name}: no `{what.strip()}` in {seconds} s")
            time.sleep(0.02)
