#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: asan
"""The command line: what it answers, with which exit status, and that an error changes nothing."""

import json
import os
import pathlib
import signal
import subprocess
import time

from running import Switch, cli, expect, expect_equal, listen, program, run_tests, wait_for


def refused(result, status, *words):
    expect_equal(result[0], status, f"exit status of {result}")
    for word in words:
        expect(word in result[2], f"{word!r} is not in {result[2]!r}")
    expect(result[2].startswith("lasthop: "), f"who says {result[2]!r}?")
    expect_equal(result[1], "", "output of an error")


def without_a_switch(top):
    """without a switch"""
    nowhere = os.path.join(top, "nowhere")
    for words in (["port", "show"], ["flow", "show"], ["mac", "show"], ["bridge", "show"], ["stats"],
                  ["port", "del", "a"], ["port", "add", "a=/tmp/a.sock"]):
        refused(cli("--dir", nowhere, *words), 3, nowhere, "lasthop run")
    status, output, _ = cli("version", "--dir", nowhere)
    expect(status == 0 and output.startswith("lasthop "), "version needs no switch")
    expect("version" in json.loads(cli("--dir", nowhere, "--json", "version")[1]), "version as JSON")


def help_and_usage(_top):
    """help and wrong usage"""
    for words in ([], ["port"], ["run"], ["bridge"], ["flow"], ["mac"], ["stats"], ["version"]):
        status, output, _ = cli("help", *words)
        expect(status == 0 and output.startswith("Usage: lasthop"), f"help of {words}")
        expect_equal(cli(*words, "--help"), (0, output, ""), f"--help of {words}")
    expect_equal(cli()[0], 2, "exit status without a command")
    refused(cli("prot"), 2, "prot", "help")
    refused(cli("help", "prot"), 2, "prot")
    refused(cli("--colour", "port"), 2, "--colour")
    refused(cli("port"), 2, "port add|del|show")
    refused(cli("port", "add"), 2, "NAME=PATH")
    refused(cli("port", "del"), 2, "port del NAME")
    refused(cli("port", "show", "--colour"), 2, "--colour")
    refused(cli("port", "show", "--dir"), 2, "--dir")
    refused(cli("port", "show", "--json=yes"), 2, "--json")
    refused(cli("stats", "a", "b"), 2, "stats")
    refused(cli("bridge", "show", "--mac-age", "30"), 2, "bridge add")
    for words in (["port", "show", "-j"], ["stats", "-j"], ["-j", "stats"]):
        refused(cli(*words), 2, "'-j'")
    for words in (["--dir"], ["port", "show", "--dir"], ["run", "--dir"]):
        refused(cli(*words), 2, "'--dir' needs an argument")
    for words in (["port", "show"], ["stats"], ["run"], ["version"]):
        refused(cli("--dir", "", *words), 2, "'--dir' needs a directory")


def options_anywhere(top):
    """options of every command stand anywhere"""
    nowhere = os.path.join(top, "nowhere")
    for command in ("port", "bridge", "flow", "mac"):
        for words in ((command, "--json", "--dir", nowhere, "show"), (command, "show", "--json", "--dir", nowhere),
                      ("--json", command, f"--dir={nowhere}", "show")):
            refused(cli(*words), 3, f"no switch runs in {nowhere}")
    # A value is no subcommand.
    refused(cli("port", "--dir", "show"), 2, "port add|del|show")
    refused(cli("run", "--json", "--dir", nowhere, "--colour"), 2, "--colour")
    general = cli("help")
    for words in (["help"], ["--help"], ["--json"], ["--dir", nowhere]):
        expect_equal(cli("help", *words), general, f"help with {words}")
    for words in (["--version", "--json"], ["--json", "--version"]):
        expect("version" in json.loads(cli("--dir", nowhere, *words)[1]), f"{words} is JSON")


def wrong_run(top):
    """a switch that cannot be had as asked for"""
    directory = os.path.join(top, "run")

    def run(*words):
        return cli("run", "--dir", directory, *words)

    refused(run("--port", "a"), 2, "NAME=PATH")
    refused(run("--port", "a b=/tmp/x"), 2, "letters")
    refused(run("--port", "a=/tmp/x,queues=99"), 2, "1 to 16")
    refused(run("--port", "a=" + "/x" * 60), 2, "bytes")
    refused(run("--bridge", "x,mac-age=1"), 2, "mac_age: 1 is", "10 to 86400")
    # Which of them is wrong.
    many = "mtu=1500,mac-limit=5,"
    refused(run("--port", f"a=/tmp/x,{many}queues=two"), 2, "queues: 'two'")
    refused(run("--port", f"a=/tmp/x,{many}wait-us=5ms"), 2, "wait_us: '5ms'")
    refused(run("--port", f"a=/tmp/x,{many}bridge="), 2, "bridge: a name")
    refused(run("--port", "a,device=eth0"), 2, "kind is missing", "af_packet")
    refused(run("--port", "a,driver=tun,device=eth0"), 2, "'tun'", "af_packet")
    refused(cli("port", "add", "--tap", "a", "--queues", "two"), 2, "queues: a number from 1 to 16")
    refused(cli("port", "add", "--tap", "a", "--af-xdp", "b"), 2, "exactly one of --tap")
    refused(run("--colour"), 2, "--colour")
    refused(run("--no-offload=yes"), 2, "--no-offload", "no argument")
    refused(run("--port"), 2, "needs an argument")
    refused(run("a"), 2, "not an option")
    # Those that are only passed on.
    for option, value in (("--workers", "0"), ("--workers", "two"), ("--linger-us", "5ms"), ("--flows-max", "1"),
                          ("--class", "realtime"), ("--log-level", "debug")):
        status, output, errors = run(option, value)
        expect(status == 2 and output == "", f"{option} {value}: status {status}")
        expect(option in errors and f"not '{value}'" in errors, errors)
        expect(not os.path.exists(directory), f"{option}: {directory} was left behind")
    refused(cli("run", "--dir", os.path.join(top, "x" * 100)), 2, "too long")
    refused(cli("run", "--dir", os.path.join(top, "missing/run")), 1, "missing")
    status, output, errors = run("--port", f"a={top}/missing/a.sock")
    expect(status == 1 and output == "" and "No such file" in errors, f"a socket's directory is missing: {errors}")
    status, _, errors = run("--port", f"a={top}/a.sock", "--port", f"b={top}/a.sock")
    expect(status == 1 and f"port a, at {top}/a.sock, has the same path" in errors, errors)
    taken = listen(os.path.join(top, "taken.sock"))
    status, _, errors = run("--port", f"a={top}/taken.sock")
    expect(status == 1 and "in use" in errors, errors)
    taken.close()
    expect(os.path.exists(os.path.join(top, "taken.sock")), "somebody else's socket was removed")
    # Nobody answers there any more: it is replaced.
    switch = Switch(top, "taken")
    switch.stop()
    plain = pathlib.Path(top, "plain.sock")
    plain.write_text("precious")
    status, _, errors = run("--port", f"a={plain}")
    expect(status == 1 and plain.read_text() == "precious", errors)
    plain.unlink()


def ports_and_bridges(top):
    """ports and bridges come and go"""
    switch = Switch(top, "a", options=("--no-state-batching", "--no-preemptive-copy", "--no-offload"))
    state = switch.dir / "state.json"
    expect_equal(os.stat(switch.socket("a")).st_mode & 0o777, 0o660, "mode of a port's socket")
    expect_equal(os.stat(switch.dir / "api.sock").st_mode & 0o777, 0o600, "mode of the API's socket")
    switch.ok("port", "add", switch.spec("b,queues=2,mtu=1400,notify-us=0,notify-packets=7,mac-limit=5,tso=off"))
    switch.ok("bridge", "add", "lan", "--mac-age", "30")
    switch.ok("port", "add", switch.spec("c,bridge=lan,mode=client"))
    before = state.read_text()
    for result, status, *words in (
            (switch.cli("port", "add", switch.spec("a")), 1, "already"),
            (switch.cli("port", "add", f"x={switch.socket('a')}"), 1, "port 'a' is at"),
            (switch.cli("port", "add", f"x={top}/missing/x.sock"), 1, "does not exist"),
            (switch.cli("port", "add", switch.spec("x,bridge=wan")), 1, "no bridge 'wan'", "br0", "lan"),
            (switch.cli("port", "add", switch.spec("x,mode=both")), 2, "server", "client"),
            (switch.cli("port", "add", switch.spec("x,notify-us=10001")), 2, "0 to 10000"),
            (switch.cli("port", "add", switch.spec("x,notify-packets=0")), 2, "1 to 4096"),
            (switch.cli("port", "del", "x"), 1, "no port 'x'", "a b c"),
            (switch.cli("port", "show", "x"), 1, "no port 'x'", "a b c"),
            (switch.cli("stats", "x"), 1, "no port 'x'"),
            (switch.cli("flow", "show", "--port", "x"), 1, "no port 'x'"),
            (switch.cli("mac", "show", "--bridge", "x"), 1, "no bridge 'x'", "lan"),
            (switch.cli("bridge", "add", "lan"), 1, "already"),
            (switch.cli("bridge", "add", "a/b"), 2, "letters"),
            (switch.cli("bridge", "del", "lan"), 1, "still has ports", "'c'"),
            (switch.cli("bridge", "del", "wan"), 1, "no bridge 'wan'")):
        refused(result, status, *words)
    expect_equal(state.read_text(), before, "the state after errors")
    expect(not os.path.exists(switch.socket("x")), "a socket of a port that was refused")

    b = switch.port("b")
    expect_equal([b[key] for key in ("name", "bridge", "mode", "queues", "mtu", "notify_us", "notify_packets", "mac_limit",
                                     "state")],
                 ["b", "br0", "server", 2, 1400, 0, 7, 5, "down"], "port b")
    expect("host-tso4" in b["features_off"] and "csum" not in b["features_off"], f"features off: {b}")
    expect_equal({row["name"]: row["ports"] for row in switch.json("bridge", "show")["bridges"]},
                 {"br0": ["a", "b"], "lan": ["c"]}, "bridges")
    expect_equal(switch.json("mac", "show"), {"macs": []})
    expect_equal(switch.json("flow", "show"), {"flows": []})
    expect_equal([row["name"] for row in switch.json("stats")["ports"]], ["a", "b", "c"], "ports in the statistics")
    for words, word in ((["port", "show"], "PORT"), (["port", "show", "a", "b"], "features"), (["stats"], "PORT"),
                        (["port", "show", "--detail"], "memory"), (["bridge", "show"], "lan"),
                        (["flow", "show"], "BRIDGE"), (["mac", "show"], "MAC"), (["version"], "data plane")):
        expect(word in switch.ok(*words), f"{word} in the output of {words}")

    switch.ok("port", "del", "c")
    switch.ok("bridge", "del", "lan")
    switch.ok("port", "del", "a")
    expect(not os.path.exists(switch.socket("a")), "the socket of a port that was deleted")
    expect_equal([row["name"] for row in switch.json("port", "show")["ports"]], ["b"], "ports left")
    expect_equal([row["name"] for row in switch.json("stats")["ports"]], ["b"], "ports left in the statistics")
    switch.ok("port", "add", switch.spec("a"))
    switch.stop()


def one_per_directory(top):
    """one switch per directory"""
    switch = Switch(top, "a")
    refused(cli("run", "--dir", switch.dir), 1, f"process {switch.process.pid}", "--dir")
    expect_equal(switch.port("a")["state"], "down", "the first one")
    other = Switch(top, "b", dir_name="other")
    other.stop()
    switch.stop()
    open_to_all = pathlib.Path(top, "open")
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    refused(cli("run", "--dir", open_to_all), 1, "other users")
    open_to_all.rmdir()


def sixty_four_ports(top):
    """64 ports"""
    names = [f"p{i}" for i in range(64)]
    switch = Switch(top, *names)
    expect_equal([row["name"] for row in switch.json("port", "show")["ports"]], names, "ports")
    switch.stop()


def output_that_nobody_takes(top):
    """output that nobody takes"""
    lasthop = program("lasthop")
    switch = Switch(top, "a")

    def status(words, redirection):
        line = " ".join([lasthop, "--dir", str(switch.dir), *words]) + " " + redirection
        done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    for words in (["port", "show"], ["port", "show", "--detail"], ["stats"], ["stats", "--json"], ["flow", "show"],
                  ["version"], ["help"], ["--help"]):
        for redirection in (">/dev/full", ">&-"):
            got, errors = status(words, redirection)
            expect(got == 1 and "cannot write the result" in errors, f"{words} {redirection}: {got}, {errors!r}")
    # Nothing to print, nothing to fail.
    expect_equal(status(["port", "add", switch.spec("b")], ">&-"), (0, ""), "port add without an output")
    switch.stop()


def run_without_a_reader(top):
    """a switch whose output and log nobody reads"""
    directory = pathlib.Path(top, "run")
    lasthop = program("lasthop")
    words = [lasthop, "run", "--dir", directory, "--port", f"a={top}/a.sock"]
    reader, writer = os.pipe()
    os.close(reader)
    for output, errors in ((writer, writer), (None, subprocess.DEVNULL)):
        # Without a standard output, what is opened first would be in its place.
        command = words if output is not None else ["sh", "-c", 'exec "$@" >&-', "sh", *words]
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        try:
            # It is ready, and has not said so, when its socket is there.
            wait_for(lambda: os.path.exists(f"{top}/a.sock"), "a switch")
            wait_for(lambda: cli("--dir", directory, "port", "add", f"b={top}/b.sock")[0] == 0, "port add")
            expect_equal((directory / "lock").read_text(), f"{process.pid}\n", "the lock")
            time.sleep(0.2)
            expect_equal(cli("--dir", directory, "port", "del", "b")[0], 0, "port del")
            process.terminate()
            expect_equal(process.wait(30), 0, "exit status of the switch")
        finally:
            process.kill()
            process.wait()
        expect(not directory.exists(), f"{directory} was left behind")
    os.close(writer)


def relative_directory(top):
    """a directory that is named from where we stand"""
    here = os.getcwd()
    os.chdir(top)
    try:
        switch = Switch(".", "web,driver=external")
        # Its socket's path is in what a successor of the control plane reads.
        expect_equal(switch.port("web")["path"], os.path.realpath(f"{top}/run/ports/web.sock"), "the socket")
        switch.kill_child("lasthop-control")
        wait_for(lambda: switch.cli("port", "show", "web")[0] == 0, "the control plane again")
        switch.stop()
    finally:
        os.chdir(here)


def what_was_left_behind(top):
    """a control plane that cannot start, and what a killed switch leaves behind"""
    switch = Switch(top, "a")
    state = switch.dir / "state.json"
    good = state.read_text()
    state.write_text("{garbage")
    os.kill(switch.child("lasthop-control"), signal.SIGKILL)
    wait_for(lambda: "start the switch anew" in switch.said(), "a word about the state file")
    refused(switch.cli("port", "show"), 3, "control plane", "does not answer", "log")
    switch.ok("stats")
    state.write_text(good)
    wait_for(lambda: switch.cli("port", "show", "a")[0] == 0, "the control plane again")
    switch.kill()
    # Its children hold the lock until they have ended, too.
    wait_for(lambda: switch.cli("stats")[0] == 3, "statistics that nobody writes are refused")
    for words in (["stats"], ["stats", "--json"], ["port", "show"]):
        refused(switch.cli(*words), 3, "no switch runs in")
    # The next one takes all of it away, at its end.
    switch.start("a")
    switch.process.terminate()
    expect_equal(switch.process.wait(30), 0, "exit status of the switch")
    expect_equal([name for name in os.listdir(top) if name != "switch.log"], ["run"], "files left")
    expect_equal(os.listdir(switch.dir), [], "files left in the directory, which was there before")
    switch.dir.rmdir()


run_tests(without_a_switch, help_and_usage, options_anywhere, wrong_run, ports_and_bridges, one_per_directory,
          sixty_four_ports, output_that_nobody_takes, run_without_a_reader, relative_directory,
          what_was_left_behind)
