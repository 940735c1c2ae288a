#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The units for systemd: their form, the programs and options they name, and what they are told."""

import configparser
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

from running import BUILD, Switch, expect, expect_equal, program, run_tests

UNITS = ("lasthop.service", "lasthop-driver@.service")


def commands(text):
    return re.findall(r"^ExecStart=(\S+) (.*)$", text, re.M)


def form(top):
    """systemd takes them"""
    for name in UNITS:
        text = (BUILD / "systemd" / name).read_text()
        expect("@" not in re.sub(r"(@\.service|driver@PORT)", "", text), f"{name}: something was not filled in")
        # With the programs where they are now, and under a name that is an instance's.
        for path, _ in commands(text):
            text = text.replace(path, program(pathlib.Path(path).name))
        unit = pathlib.Path(top) / name.replace("@.", "@test.")
        unit.write_text(text)
        parsed = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
        parsed.optionxform = str
        parsed.read_string(text)
        expect_equal(parsed["Service"]["Type"], "notify", f"{name}: type")
        if shutil.which("systemd-analyze"):
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True,
                                  env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}, timeout=60)
            lines = [line for line in done.stderr.splitlines() if unit.name in line]
            expect(done.returncode == 0 and not lines, f"{name}: {done.returncode} {done.stderr}")
        unit.unlink()


def options(_top):
    """every option they use is one of the program's"""
    for name in UNITS:
        found = commands((BUILD / "systemd" / name).read_text())
        expect_equal(len(found), 1, f"{name}: commands")
        for path, words in found:
            tool = pathlib.Path(path).name
            usage = subprocess.run([program(tool), *(["run"] if " run " in f" {words} " else []), "--help"],
                                   capture_output=True, text=True, check=True).stdout
            for option in re.findall(r"--[a-z-]+", words):
                expect(option in usage, f"{name}: {tool} has no {option}")


def readiness(top):
    """`lasthop run` says when it is ready, once, and its children say nothing"""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "notify")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(path)
        sock.settimeout(0.5)
        switch = Switch(top, "a", env={"NOTIFY_SOCKET": path})
        expect_equal(sock.recv(100), b"READY=1")
        for child in ("lasthop-core", "lasthop-control"):
            environment = pathlib.Path(f"/proc/{switch.child(child)}/environ").read_bytes()
            expect(b"NOTIFY_SOCKET" not in environment, f"{child} has it too")
        switch.stop()
        try:
            expect(False, f"more was said: {sock.recv(100)}")
        except TimeoutError:
            pass
        sock.close()


run_tests(form, options, readiness)
