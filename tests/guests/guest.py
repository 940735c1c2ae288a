# SPDX-License-Identifier: BSD-3-Clause
"""Linux guests under QEMU and as User-mode Linux, driven through a console.

The guest's init (see the file of that name) runs each line it gets on its control console, and marks the end of the
output with the exit status. That console is a socket pair made here; the kernel's own messages go to `<name>.log`.
Guests are started without waiting, so that several boot at the same time: call ready() before the first run().
"""

import json
import os
import platform
import re
import socket
import time
from dataclasses import dataclass

import image
from lab import Failure, need

MARK = b"\036"
BOOT_SECONDS = 90
# Under software emulation each character on the console costs, and so do the kernel's tests of itself.
QUICK_BOOT = "loglevel=5 cryptomgr.notests mitigations=off"
QBOOT = "/usr/share/qemu/qboot.rom"


def cpu_has_virtualization():
    """A /dev/kvm that opens is not enough: some hosts offer one on which a guest kernel dies."""
    if platform.machine() != "x86_64" or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with open("/proc/cpuinfo") as file:
        return re.search(r"^flags\s*:.*\b(vmx|svm)\b", file.read(), re.M) is not None


@dataclass
class TapNic:
    """A virtio-net device on a TAP of the host: for a guest, the "physical" NIC of a driver domain."""

    tap: str

    def chardev(self, index):
        return []

    def netdev_option(self, index):
        return f"tap,id=net{index},ifname={self.tap},script=no,downscript=no,vhost=off"

    queues = 1
    device = ""


@dataclass
class Nic:
    """One virtio-net device on a vhost-user socket. `device` and `netdev` are more QEMU options, as "a=b,c=d"."""

    socket: str
    queues: int = 1
    device: str = ""
    netdev: str = ""
    server: bool = False  # QEMU listens and the switch connects

    def chardev(self, index):
        role = "server=on,wait=off" if self.server else "reconnect=1"
        return ["-chardev", f"socket,id=chr{index},path={self.socket},{role}"]

    def netdev_option(self, index):
        return ",".join(filter(None, [f"vhost-user,id=net{index},chardev=chr{index},queues={self.queues}", self.netdev]))


class Guest:
    """What both kinds share: the control console."""

    def __init__(self, lab, name, address):
        self.lab = lab
        self.name = name
        self.address = f"10.0.0.{address}"
        self.address6 = f"fd00::{address}"
        self._number = address
        self._buffer = b""
        self._jobs = 0
        self._console = None
        self.process = None
        self.start()

    def start(self):
        """Start (again, after kill) without waiting for the boot."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = self.lab.spawn(self.name, self._argv(theirs.fileno()), pass_fds=[theirs.fileno()])
        self._console = ours
        self._buffer = b""

    def ready(self):
        """Wait until the guest takes commands."""
        self._answer(time.monotonic() + BOOT_SECONDS, "boot")
        return self

    def run(self, command, seconds=30, check=True):
        """Run a line of shell in the guest; returns its output (both streams). With check, failing raises Failure."""
        output, status = self.attempt(command, seconds)
        if check and status:
            raise Failure(f"{self.name}: `{command}` ended with {status}: {output.strip()}")
        return output

    def attempt(self, command, seconds=30):
        """As run, but returns (output, exit status)."""
        if "\n" in command:
            raise ValueError("a command is one line")
        self._console.sendall(command.encode() + b"\n")
        output, status = self._answer(time.monotonic() + seconds, command)
        return output, int(status)

    def background(self, command):
        """Start a line of shell in the guest; returns a function that waits for its end and returns its output."""
        self._jobs += 1
        job = f"/tmp/job{self._jobs}"
        self.run(f"({command}; echo $? >{job}.status) >{job} 2>&1 &")

        def wait(seconds=60):
            poll = f"n=0; while [ ! -s {job}.status ] && [ $n -lt {seconds * 10} ]; do n=$((n+1)); usleep 100000; done"
            output = self.run(f"{poll}; cat {job}; exit $(cat {job}.status || echo 99)", seconds + 10)
            return output

        return wait

    def kill(self):
        """As a crash: SIGKILL."""
        self.lab.kill(self.process)
        self._console.close()

    def _answer(self, deadline, what):
        while True:
            body, mark, rest = self._buffer.partition(MARK)
            if mark and b"\n" in rest:
                status, _, self._buffer = rest.partition(b"\n")
                return body.decode(errors="replace").replace("\r\n", "\n"), status.decode().strip()
            self._console.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._console.recv(65536)
            except TimeoutError:
                raise Failure(f"{self.name}: no answer in time to `{what}`; got {self._buffer[-300:]!r}") from None
            except ConnectionResetError:
                data = b""
            if not data:
                raise Failure(f"{self.name}: ended during `{what}`")
            self._buffer += data

    def _argv(self, console):
        raise NotImplementedError


class Qemu(Guest):
    def __init__(self, lab, name, address, nics, kernel="linux-6.1", memory="192M", cpus=1, namespace=None):
        """`namespace`: the network namespace that QEMU runs in, for the sake of its TAPs."""
        self._nics = nics
        self._namespace = namespace
        self._kernel = kernel
        self._memory = memory
        self._cpus = cpus
        super().__init__(lab, name, address)

    def mac(self, index=0):
        return f"52:54:00:00:{index:02x}:{self._number:02x}"

    def _argv(self, console):
        image_dir = image.build()
        accelerator = "kvm" if cpu_has_virtualization() else "tcg"
        argv = ["ip", "netns", "exec", self._namespace] if self._namespace else []
        argv += [
            need("qemu-system-x86_64"), "-nodefaults", "-display", "none", "-name", self.name,
            "-machine", f"q35,accel={accelerator},memory-backend=mem", "-smp", self._cpus, "-m", self._memory,
            "-object", f"memory-backend-memfd,id=mem,size={self._memory},share=on",
            "-kernel", image_dir / f"{self._kernel}.kernel", "-initrd", image_dir / f"{self._kernel}.initrd",
            "-append", f"{QUICK_BOOT} console=ttyS0 panic=-1 guest_tty=ttyS1 guest_addr={self._number}",
            "-serial", "stdio", "-chardev", f"socket,id=console,fd={console}", "-serial", "chardev:console",
            "-qmp", f"unix:{self._qmp_path()},server=on,wait=off",
        ]
        if accelerator == "kvm":
            argv += ["-cpu", "host"]
        if os.path.exists(QBOOT):
            argv += ["-bios", QBOOT]
        for index, nic in enumerate(self._nics):
            # QEMU's software emulation crashes when vhost-user meets MSI-X; vectors=0 leaves the legacy interrupt.
            device = f"virtio-net-pci,netdev=net{index},mac={self.mac(index)},romfile="
            if accelerator == "tcg":
                device += ",vectors=0"
            if nic.queues > 1:
                device += ",mq=on"
            argv += nic.chardev(index)
            argv += ["-netdev", nic.netdev_option(index), "-device", ",".join(filter(None, [device, nic.device]))]
        return argv

    def qmp(self, command, **arguments):
        """Give a command to QEMU itself."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(self._qmp_path())
            replies = connection.makefile("rw")
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                replies.write(json.dumps(request) + "\n")
                replies.flush()
                reply = {}
                while not reply.keys() & {"return", "error"}:  # the greeting and events come in between
                    reply = json.loads(replies.readline())
                if "error" in reply:
                    raise Failure(f"{self.name}: QMP {command}: {reply['error']}")
            return reply["return"]

    def _qmp_path(self):
        return str(self.lab.path / f"{self.name}.qmp")


class Uml(Guest):
    """A User-mode Linux guest: starts in a second, and is itself the vhost-user front end."""

    def __init__(self, lab, name, address, socket_path, memory="192M"):
        self._socket = socket_path
        self._memory = memory
        super().__init__(lab, name, address)

    def _argv(self, console):
        image_dir = image.build()
        return [
            image_dir / "uml.kernel", f"mem={self._memory}", f"initrd={image_dir / 'uml.initrd'}",
            f"uml_dir={self.lab.path}/", f"umid={self.name}", "noreboot", "con=null", "con0=null,fd:1",
            f"con1=fd:{console}", "ssl=null", f"virtio_uml.device={self._socket}:1",
            "guest_tty=tty1", f"guest_addr={self._number}",
        ]
