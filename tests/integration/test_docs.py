#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The manual and the API's description know what the programs know."""

import os
import pathlib
import re
import shutil
import subprocess

from running import ROOT, cli, expect, expect_equal, program, run_tests


def text(path):
    return pathlib.Path(ROOT, path).read_text(encoding="utf-8")


def manual_names(_top):
    """every drop and every fault is in the manual"""
    manual = text("docs/man/lasthop.1")
    drops = re.findall(r'X\([A-Z_]+, "([a-z-]+)"', text("src/datapath/drop.h"))
    expect(len(drops) > 10, f"drops in drop.h: {drops}")
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


def driver_manual(_top):
    """every option, kind and drop of drivers is in their manual"""
    manual = re.sub(r"Fl Fl ", "--", text("docs/man/lasthop-driver.8"))
    done = subprocess.run([program("lasthop-driver"), "--help"], capture_output=True, text=True, timeout=60)
    expect_equal((done.returncode, done.stderr), (0, ""))
    for option in set(re.findall(r"--[a-z-]+", done.stdout)):
        expect(option in manual, f"{option} is not in the manual")
    kinds = done.stdout.partition("Kinds and their options:\n")[2].partition("Exit status:")[0]
    expect(re.findall(r"^  ([a-z_]+) ", kinds, re.M), "kinds of the help")
    for kind in re.findall(r"^  ([a-z_]+) ", kinds, re.M):
        expect(f".Ss {kind}\n" in manual, f"kind {kind} is not in the manual")
    for key in re.findall(r"^    ([a-z-]+) ", kinds, re.M):
        expect(f".It Cm {key} Ns" in manual, f"{key} of a kind is not in the manual")
    drops = re.findall(r'X\([A-Z_]+, "([a-z-]+)"', text("src/proto/driver_status.h"))
    expect(len(drops) >= 7, f"drops in driver_status.h: {drops}")
    for name in drops:
        expect(f".It Em {name}\n" in manual, f"drop {name} is not in the manual")


def manual_form(_top):
    """the manuals are well-formed"""
    if shutil.which("man") is None:
        return
    for page in pathlib.Path(ROOT, "docs/man").iterdir():
        done = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}, timeout=60)
        # A container may have man, but no groff behind it.
        if done.returncode == 0:
            expect_equal(done.stderr, "", f"warnings of man about {page}")


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


run_tests(manual_names, manual_options, driver_manual, manual_form, api_description)
