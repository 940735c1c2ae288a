#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The manual and the API's description know what the programs know."""

import os
import pathlib
import re
import shutil
import subprocess

from running import ROOT, cli, expect, expect_equal, run_tests


def text(path):
    return pathlib.Path(ROOT, path).read_text(encoding="utf-8")


def manual_names(_top):
    """every drop and every fault is in the manual"""
    manual = text("docs/man/lasthop.1")
    drops = re.findall(r'X\([A-Z_]+, "([a-z-]+)"', text("src/datapath/drop.h"))
    expect(len(drops) > 10, f"drops in drop.h: {drops}")
    drops += re.findall(r'X\([A-Z_]+, "([a-z-]+)"', text("src/proto/driver_status.h"))
    for name in drops:
        expect(f".It Em {name}\n" in manual, f"drop {name} is not in the manual")
    faults = re.findall(r'\[VHOST_FAULT_[A-Z_]+\] = "([a-z-]+)"', text("src/vhost/vhost_device.c"))
    faults += re.findall(r'return "([a-z-]+)"', text("src/datapath/port.c"))
    faults += re.findall(r'\[CHAIN_[A-Z]+\] = "(ring-[a-z-]+)"', text("src/vhost/chain.c"))
    section = re.search(r"\.Sh FAULTS\n(.*?)\n\.Sh", manual, re.S).group(1).split()
    for name in set(faults) - {"none", "hangup"}:
        expect(name in section, f"fault {name} is not in the manual")


def manual_options(_top):
    """every option of the help is in the manual"""
    manual = re.sub(r"Fl Fl ", "--", text("docs/man/lasthop.1"))
    for command in ("run", "port", "bridge", "flow", "mac", "stats", "version"):
        status, output, _ = cli("help", command)
        expect_equal(status, 0)
        for option in set(re.findall(r"--[a-z-]+", output)):
            expect(option in manual, f"{option} of {command} is not in the manual")
        for option in re.findall(r"^  ([a-z-]+)=", output, re.M):
            expect(f".It Cm {option} Ns" in manual, f"{option} of ports is not in the manual")


def manual_form(_top):
    """the manual is well-formed"""
    if shutil.which("man") is None:
        return
    done = subprocess.run(["man", "--warnings", "-l", ROOT / "docs/man/lasthop.1"], capture_output=True, text=True,
                          env={**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}, timeout=60)
    # A container may have man, but no groff behind it.
    if done.returncode == 0:
        expect_equal(done.stderr, "", "warnings of man")


def api_description(_top):
    """the API's page names every method and error"""
    page, interface = text("docs/api.md"), text("src/control/io.lasthop.Control.varlink")
    for kind in ("method", "error"):
        names = re.findall(rf"^{kind} (\w+)", interface, re.M)
        expect(names, f"no {kind} in the interface")
        for name in names:
            expect(f"`{name}`" in page, f"{kind} {name} is not in docs/api.md")
    called = set(re.findall(r'API_INTERFACE "\.(\w+)"', text("src/control/api_methods.c"))) - {"Failed"}
    expect_equal(called, set(re.findall(r"^method (\w+)", interface, re.M)), "methods")


run_tests(manual_names, manual_options, manual_form, api_description)
