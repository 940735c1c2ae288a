#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# test: asan
"""`lasthop run` and its drivers: started, restarted, killed when they hang, ended in order. The drivers are fake ones
(fake_driver.c), whose devices are files and which do as their files say."""

import os
import pathlib
import re
import shutil
import signal
import time

from running import Stations, Switch, clock, expect, expect_equal, program, run_tests, wait_for


class Fakes:
    """The programs, with the fake driver in lasthop-driver's place, and its devices."""

    def __init__(self, top):
        self.top = pathlib.Path(top)
        self.programs, self.devices = self.top / "programs", self.top / "devices"
        self.programs.mkdir()
        self.devices.mkdir()
        for name in ("lasthop", "lasthop-core", "lasthop-control"):
            shutil.copy(program(name), self.programs / name)
        shutil.copy(program("fake_driver"), self.programs / "lasthop-driver")

    def switch(self, *ports, options=()):
        return Switch(self.top, *ports, options=("--no-observer", *options), programs=self.programs,
                      env={"FAKE_DEVICES": str(self.devices)})

    def set(self, device, does="up"):
        # Replaced in one step: it may be read just now.
        new = self.devices / ".new"
        new.write_text(does, encoding="ascii")
        new.rename(self.devices / device)

    def there(self, device):
        return (self.devices / device).exists()

    def calls(self):
        """The command lines that drivers had so far, each a list."""
        log = self.devices / "log"
        return [line.split()[1:] for line in log.read_text().splitlines()] if log.exists() else []

    def cleanup(self):
        shutil.rmtree(self.programs)
        shutil.rmtree(self.devices)


def wait_up(switch, *names):
    for name in names:
        switch.wait_state(name, "up")
        wait_for(lambda name=name: "link" in switch.driver(name), f"a report of {name}'s driver")


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def within(seconds, since, what):
    """Bounds that a loaded machine keeps too: what is late in truth waits for ever, or for a back-off of 5 s."""
    took = clock() - since
    expect(took < seconds, f"{what} took {took:.2f} s")


def settings_and_reports(top):
    """what is asked for reaches the driver, what it reports is shown, and it goes with its port"""
    fakes = Fakes(top)
    fakes.set("dev0")
    switch = fakes.switch("a,driver=tap,device=dev0,netns=ns1,queues=2,mtu=1400,driver-option=x=1;y=2")
    wait_up(switch, "a")
    expect_equal(fakes.calls(), [["--port", f"{switch.dir}/ports/a.sock", "--kind", "tap", "--device", "dev0", "--netns",
                                  "ns1", "--queues", "2", "--mtu", "1400", "--option", "x=1", "--option", "y=2"]])
    row = switch.port("a")
    driver = row["driver"]
    expect(row["path"] == f"{switch.dir}/ports/a.sock" and row["peer_pid"] == driver["pid"], f"port: {row}")
    wanted = {"kind": "tap", "device": "dev0", "netns": "ns1", "options": ["x=1", "y=2"], "state": "running",
              "restarts": 0, "link": "up", "mtu": 1400, "speed_mbps": 10000, "mode": "fake", "queues": 2,
              "reported_kind": "tap", "reported_device": "dev0"}
    expect_equal({key: driver[key] for key in wanted}, wanted)
    expect(0 <= driver["heartbeat_age_ms"] < 3000 and "last_end" not in driver, f"driver: {driver}")
    expect_equal(driver["counters"], {"rx_packets": 1, "rx_bytes": 60, "tx_packets": 0, "tx_bytes": 0, "rx_coalesced": 0,
                                      "drops": {"too-long": 2}})
    stats = switch.json("stats", "a")["ports"][0]["driver"]
    expect(stats["device"] == "dev0" and stats["drops"] == {"too-long": 2}, f"statistics: {stats}")
    for words in (["port", "show"], ["port", "show", "a"]):
        expect("tap dev0" in switch.ok(*words), f"the driver in {words}")
    fakes.set("dev1")
    switch.ok("port", "add", "--tap", "dev1", "--name", "b", "--queues", "3")
    expect_equal(switch.driver("b")["link"], "up", "when `port add` has returned")
    expect_equal(switch.port("b")["queues"], 3)
    pid = switch.driver("b")["pid"]
    switch.ok("port", "del", "b")
    wait_for(lambda: not alive(pid) and not fakes.there("dev1"), "the end of the driver and its device")
    expect_equal(fakes.calls()[-1], ["--port", f"{switch.dir}/ports/b.sock", "--kind", "tap", "--device", "dev1",
                                     "--remove"])
    switch.stop()
    expect(not fakes.there("dev0"), "a device was left behind")
    fakes.cleanup()


def refused(top):
    """what cannot be had says so, and changes nothing"""
    fakes = Fakes(top)
    fakes.set("dev0")
    switch = fakes.switch("a,driver=tap,device=dev0")
    for words in (["b,driver=tap"], ["b,driver=nothing,device=x"], ["b,device=x"], ["--tap", "a/b"], ["--tap", "x", "y=/z"],
                  ["--netns", "x"], ["--tap", "x", "--af-xdp", "y"], ["--tap", "x", "--queues", "many"],
                  ["b,driver=tap,device=x,mode=client"], ["b,driver=tap,device=x,ctrl-vq=off"]):
        status, _, errors = switch.cli("port", "add", *words)
        expect(status == 2 and errors.startswith("lasthop: "), f"{words}: {status} {errors}")
    status, _, errors = switch.cli("port", "add", "--tap", "dev0", "--name", "b")
    expect(status == 1 and "port 'a'" in errors, f"a device twice: {status} {errors}")
    expect_equal([row["name"] for row in switch.json("port", "show")["ports"]], ["a"])
    # A driver that somebody else starts.
    switch.ok("port", "add", "e,driver=external")
    expect_equal(switch.driver("e")["state"], "external")
    switch.stop()
    fakes.cleanup()


def killed(top):
    """a driver that is killed is back at once, and with back-off if it dies again and again"""
    fakes = Fakes(top)
    fakes.set("dev0")
    switch = fakes.switch("a,driver=tap,device=dev0")
    wait_up(switch, "a")
    pid, begin = switch.driver("a")["pid"], clock()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: switch.driver("a").get("pid", pid) != pid and switch.port("a")["state"] == "up", "another one")
    within(4, begin, "a restart")
    driver = switch.driver("a")
    expect(driver["restarts"] == 1 and "signal 9" in driver["last_end"], f"driver: {driver}")
    fakes.set("dev0", "fail")
    before, begin = len(fakes.calls()), time.monotonic()
    wait_for(lambda: len(fakes.calls()) - before >= 3, "other tries")
    time.sleep(1)
    again, took = len(fakes.calls()) - before, time.monotonic() - begin
    # Each waits twice as long as the one before, 100 ms at first.
    expect(0.1 * (2 ** (again - 2) - 1) < took, f"{again} starts in {took:.1f} s")
    fakes.set("dev0")
    wait_up(switch, "a")
    switch.stop()
    fakes.cleanup()


def hung(top):
    """a driver that hangs, or stops reporting, is killed and started again"""
    fakes = Fakes(top)
    fakes.set("dev0")
    fakes.set("dev1")
    switch = fakes.switch("a,driver=tap,device=dev0", "b,driver=af_packet,device=dev1")
    wait_up(switch, "a", "b")
    pid, other = switch.driver("a")["pid"], switch.driver("b")["pid"]
    begin, real = clock(), time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: switch.driver("a").get("pid", pid) != pid and switch.port("a")["state"] == "up", "another one")
    within(10, begin, "the return of a stopped driver")
    expect(time.monotonic() - real > 2, "a stopped driver was killed too soon")
    expect_equal(switch.driver("a")["last_end"], "hung, and was killed")
    expect(not alive(pid), "the one that hung")
    pid = switch.driver("a")["pid"]
    fakes.set("dev0", "silent")
    wait_for(lambda: switch.driver("a").get("pid", pid) != pid, "another one")
    expect("hangs: no heartbeat" in switch.said(), "the log")
    # One that is stopped before it comes to connect.
    fakes.set("dev0")
    expect_equal(switch.driver("b")["pid"], other, "the driver of the other port")
    switch.stop()
    fakes.cleanup()


def missing(top):
    """a device that is missing is waited for, and said once"""
    fakes = Fakes(top)
    switch = fakes.switch()
    status, _, errors = switch.cli("port", "add", "--af-xdp", "dev0", "--name", "a")
    expect(status == 0 and "could not have its device" in errors, f"port add: {status} {errors}")
    # Between two tries; one may be under way just now.
    wait_for(lambda: switch.driver("a")["state"] == "waiting" and "pid" not in switch.driver("a"), "the driver waits")
    expect("link" not in switch.driver("a"), f"driver: {switch.driver('a')}")
    expect_equal(switch.port("a")["state"], "down")
    wait_for(lambda: len(fakes.calls()) >= 4, "several tries")
    fakes.set("dev0")
    wait_up(switch, "a")
    expect_equal(switch.said().count("cannot have its device"), 1, "messages")
    # It disappears, and comes back.
    (fakes.devices / "dev0").unlink()
    switch.wait_state("a", "down")
    fakes.set("dev0")
    wait_up(switch, "a")
    # One that never came is no trouble when its port goes.
    switch.cli("port", "add", "--tap", "dev1", "--name", "b")
    switch.ok("port", "del", "b")
    switch.stop()
    expect("could not be removed" not in switch.said(), "the log")
    fakes.cleanup()


def control_is_killed(top):
    """the control plane is killed: drivers are not disturbed, and its successor knows them"""
    fakes = Fakes(top)
    fakes.set("dev0")
    fakes.set("dev1")
    switch = fakes.switch("a,driver=tap,device=dev0")
    wait_up(switch, "a")
    pid = switch.driver("a")["pid"]
    for _ in range(3):
        switch.kill_child("lasthop-control")
        wait_for(lambda: switch.cli("port", "show")[0] == 0, "the API")
    wait_up(switch, "a")
    driver = switch.driver("a")
    expect(driver["pid"] == pid and driver["restarts"] == 0 and driver["state"] == "running", f"driver: {driver}")
    expect_equal(len(fakes.calls()), 1, "drivers started")
    switch.ok("port", "add", "--tap", "dev1", "--name", "b")
    wait_up(switch, "b")
    switch.ok("port", "del", "a")
    wait_for(lambda: not alive(pid), "the end of the driver")
    switch.stop()
    fakes.cleanup()


def core_is_killed(top):
    """the data plane is killed: every driver is back; while it is stopped, none is taken for hung"""
    fakes = Fakes(top)
    names = [f"p{i}" for i in range(4)]
    for name in names:
        fakes.set(name)
    switch = fakes.switch(*(f"{name},driver=af_packet,device={name}" for name in names))
    wait_up(switch, *names)
    pids = {name: switch.driver(name)["pid"] for name in names}
    begin = clock()
    switch.kill_child("lasthop-core")
    wait_for(lambda: switch.cli("port", "show")[0] == 0 and
             all(row["state"] == "up" and row["driver"].get("pid", pids[row["name"]]) != pids[row["name"]]
                 for row in switch.json("port", "show")["ports"]), "all ports up")
    within(10, begin, "the drivers' return")
    wait_up(switch, *names)
    pids = {name: switch.driver(name)["pid"] for name in names}
    core = switch.child("lasthop-core")
    os.kill(core, signal.SIGSTOP)
    time.sleep(4.5)
    os.kill(core, signal.SIGCONT)
    time.sleep(0.5)
    wait_up(switch, *names)
    expect("hangs" not in switch.said(), "a driver was taken for hung")
    # Nor when all of them stood still, as on a host that was paused, and whoever watches runs again before the drivers.
    everybody = (core, switch.process.pid, *pids.values())
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4.5)
    for pid in everybody[:2]:
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.3)
    for pid in everybody[2:]:
        os.kill(pid, signal.SIGCONT)
    time.sleep(1.5)
    wait_up(switch, *names)
    expect("hangs" not in switch.said(), "a driver was taken for hung")
    expect_equal({name: switch.driver(name)["pid"] for name in names}, pids)
    switch.stop()
    fakes.cleanup()


def same_device_again(top):
    """a port that is deleted and added again at once: the old driver is gone before the new one begins"""
    fakes = Fakes(top)
    fakes.set("dev0")
    switch = fakes.switch("a,driver=tap,device=dev0")
    wait_up(switch, "a")
    for name in ("a", "b", "a"):
        old = switch.json("port", "show")["ports"][0]["name"]
        switch.ok("port", "del", old)
        status, _, errors = switch.cli("port", "add", f"{name},driver=tap,device=dev0")
        expect(status == 0, errors)
        # The old port's TAP was removed: the fake one does not make a new one by itself.
        wait_for(lambda: not fakes.there("dev0"), "the removal")
        fakes.set("dev0")
        wait_up(switch, name)
    kinds = ["remove" if "--remove" in call else "start" for call in fakes.calls()]
    expect_equal(kinds.count("remove"), 3)
    expect("--remove" not in fakes.calls()[-1], "the last one runs")
    switch.stop()
    fakes.cleanup()


def link_goes(top):
    """a device without link: its port is not up, and is not flooded to"""
    fakes = Fakes(top)
    fakes.set("dev0")
    switch = fakes.switch("a,driver=af_packet,device=dev0", "v", "w")
    wait_up(switch, "a")
    fakes.set("dev0", "down")
    switch.wait_state("a", "connected")
    wait_for(lambda: switch.driver("a")["link"] == "down", "the link down")
    expect_equal(switch.driver("a")["restarts"], 0)
    stations = Stations(switch.socket("v"), switch.socket("w"))
    switch.wait_state("v", "up")
    switch.wait_state("w", "up")

    def flooded_to():
        stations.send(0, "02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff")
        expect_equal(stations.take(1, 1), 1, "the frame at the port that is up")
        return switch.json("flow", "show", "--port", "v")["flows"][0]["outputs"] or \
            switch.json("flow", "show", "--port", "v")["flows"][1]["outputs"]

    wait_for(lambda: flooded_to() == ["w"], "floods without the port that is down")
    drops = switch.port("a")["counters"]["drops"]
    flooded_to()
    expect_equal(switch.port("a")["counters"]["drops"], drops, "drops at the port that is down")
    fakes.set("dev0")
    switch.wait_state("a", "up")
    wait_for(lambda: switch.driver("a")["link"] == "up", "the link up")
    expect_equal(sorted(flooded_to()), ["a", "w"], "floods with it, as soon as it is said to be up")
    stations.close()
    switch.stop()
    fakes.cleanup()


def ends(top):
    """at the end drivers go first, and their devices unless they are to stay; and none is left by a kill"""
    fakes = Fakes(top)
    fakes.set("dev0")
    switch = fakes.switch("a,driver=tap,device=dev0", options=("--keep-devices",))
    wait_up(switch, "a")
    switch.stop()
    expect(fakes.there("dev0"), "a device that was to stay has gone")
    switch.start("a,driver=tap,device=dev0", options=("--no-observer",))
    wait_up(switch, "a")
    # It does not end when asked to: killed in the end.
    pid = switch.driver("a")["pid"]
    os.kill(pid, signal.SIGSTOP)
    begin = clock()
    switch.stop()
    within(10, begin, "an end with a driver that hangs")
    expect(not alive(pid) and not fakes.there("dev0"), "the driver and its device")
    fakes.set("dev0")
    switch.start("a,driver=tap,device=dev0", options=("--no-observer",))
    wait_up(switch, "a")
    pid = switch.driver("a")["pid"]
    switch.kill()
    wait_for(lambda: not alive(pid), "the end of the driver")
    switch.start(options=("--no-observer",))
    switch.process.send_signal(signal.SIGTERM)
    expect_equal(switch.process.wait(30), 0, "exit status of its successor")
    # Which it found, and so leaves.
    switch.dir.rmdir()
    fakes.cleanup()


def spoken_by(switch, port):
    """What the log has of the driver of a port: its own lines, and how many are said to have been left out."""
    lines = switch.said().splitlines()
    left_out = re.findall(rf"^lasthop: port {port}: (\d+) lines left out", switch.said(), re.MULTILINE)
    return [line for line in lines if line.startswith(f"port {port}: ")], sum(map(int, left_out))


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def floods_the_log(top):
    """a driver that writes without end: the log stays small and says whose each line is, others are heard"""
    fakes = Fakes(top)
    fakes.set("dev0", "flood")
    fakes.set("dev1")
    begin = time.monotonic()
    switch = fakes.switch("a,driver=af_packet,device=dev0", "b,driver=af_packet,device=dev1")
    wait_up(switch, "a", "b")
    pid, since, used = switch.driver("a")["pid"], time.monotonic(), cpu_seconds(switch.process.pid)
    wait_for(lambda: spoken_by(switch, "a")[1] > 1000, "lines left out, and that said")
    fakes.set("dev1", "speak")
    wait_for(lambda: "port b: fake: info: a word" in spoken_by(switch, "b")[0], "the word of another driver")
    expect("port b: and half a line" not in switch.said(), "half a line is no line")
    # It is not kept from writing for so long that it would be taken for hung.
    time.sleep(max(0, since + 5 - time.monotonic()))
    expect_equal(switch.driver("a")["pid"], pid, "the driver that floods")
    used, took = cpu_seconds(switch.process.pid) - used, time.monotonic() - since
    expect(used < took / 2, f"{used:.1f} s of the supervisor's in {took:.1f} s")
    # What has ended has said what it had to say; and its successors get no other burst.
    for _ in range(3):
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: switch.driver("a").get("pid", pid) != pid, "another one")
        wait_up(switch, "a")
        pid = switch.driver("a")["pid"]
    os.kill(switch.driver("b")["pid"], signal.SIGKILL)
    wait_for(lambda: "port b: and half a line" in spoken_by(switch, "b")[0], "the other one's last words")
    switch.stop()
    lines, left_out = spoken_by(switch, "a")
    expect(100 <= len(lines) <= 101 + time.monotonic() - begin, f"{len(lines)} lines in {time.monotonic() - begin:.1f} s")
    expect(left_out > 1000, f"{left_out} lines left out")
    expect(r"port a: \x1b]0;title\x07\x1b[2Jgone\x0d\xc2\x9b\x00lasthop: ready" in lines, "its lines as they were")
    expect(any(line.startswith("port a: xxx") and line.endswith("x [cut]") for line in lines), "a line without end")
    log = (switch.top / "switch.log").read_bytes()
    expect(not any(byte < 32 and byte != 10 or byte >= 127 for byte in log), "control characters in the log")
    for line in log.decode().splitlines():
        expect(line.startswith(("lasthop: ", "lasthop-core: ", "lasthop-control: ", "port a: ", "port b: ")) and
               "forged" not in line.partition(" a: ")[0] and len(line) < 1024, line)
    fakes.cleanup()


def stations_stay(top):
    """while a driver is away, what was learned at its port and its flows stay"""
    fakes = Fakes(top)
    switch = fakes.switch("u,driver=external", "v")
    path, mac, other = f"{switch.dir}/ports/u.sock", "02:00:00:00:00:01", "02:00:00:00:00:02"
    uplink, vm = Stations(path), Stations(switch.socket("v"))
    switch.wait_state("u", "up")
    switch.wait_state("v", "up")
    vm.send(0, other, mac)
    expect_equal(uplink.take(0, 1), 1)
    uplink.send(0, mac, other)
    expect_equal(vm.take(0, 1), 1)
    vm.send(0, other, mac)
    expect_equal(uplink.take(0, 1), 1)

    def known():
        return ({(row["mac"], row["port"]) for row in switch.json("mac", "show")["macs"]},
                {row["id"] for row in switch.json("flow", "show")["flows"]})

    macs, flows = known()
    expect_equal(macs, {(mac, "u"), (other, "v")})
    uplink.kill()
    switch.wait_state("u", "down")
    time.sleep(1)
    macs_now, flows_now = known()
    expect(macs_now == macs and flows <= flows_now, f"after the driver has gone: {macs_now}")
    uplink = Stations(path)
    switch.wait_state("u", "up")
    vm.send(0, other, mac)
    expect_equal(uplink.take(0, 1), 1, "frames to the station behind it")
    # A VM that has gone is forgotten at once.
    vm.kill()
    switch.wait_state("v", "down")
    expect_equal({row["mac"] for row in switch.json("mac", "show")["macs"]}, {mac})
    # And so is what a driver that does not come back had behind it.
    uplink.kill()
    switch.wait_state("u", "down")
    wait_for(lambda: not switch.json("mac", "show")["macs"], "stations forgotten")
    switch.stop()
    fakes.cleanup()


run_tests(settings_and_reports, refused, killed, hung, missing, control_is_killed, core_is_killed, same_device_again,
          link_goes, ends, floods_the_log, stations_stay)
