# SPDX-License-Identifier: BSD-3-Clause
"""Open vSwitch with DPDK, from Debian's package, as its documentation recommends.

ovsdb-server and ovs-vswitchd run as plain children in a database and run directory of their own, so that an Open
vSwitch of the machine is neither used nor disturbed. One bridge of the user-space datapath with its default action,
NORMAL (MAC learning). One PMD thread for each of the switch's cores, alone there; everything else of OVS runs on the
VMs' core, where it does next to nothing.

DPDK runs with --in-memory: hugepages come anonymously, without a hugetlbfs mount or files that could stay behind.

Ports are of the recommended type, dpdkvhostuserclient: the VMM owns the socket, OVS connects and reconnects. The
deprecated dpdkvhostuser would listen, but offers no segmentation (DPDK then misses external buffers); so a front end that
can only connect, as User-mode Linux, is joined to it by meet.py.

Devices: a veth is a port of type afxdp, its other end in the container. A TAP device is made by OVS and then moved into the
container's namespace.
"""

import os
from pathlib import Path

from harness import namespaces
from harness.machine import core_mask
from harness.process import BenchError, Child, Unavailable, run
from .base import Contender

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
VSWITCHD = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
MEET = Path(__file__).with_name("meet.py")
FLOWS_MAX = 1_000_000  # the datapath's own limit is 200,000
MACS_MAX = 65536       # ... and the bridge's 8192
SOCKET_MEM_MIB = 1024  # OVS's own default for a NUMA node


class OvsDpdk(Contender):
    name = "ovs-dpdk"
    vm_is_server = True
    hugepages_mib = SOCKET_MEM_MIB
    tap = "type=tap"  # what makes a TAP device; its name there is the port's

    def start(self):
        for path in (SCHEMA, VSWITCHD):
            if not os.path.exists(path):
                raise Unavailable(f"{path} is missing: install openvswitch-switch-dpdk")
        # RUNTIME_DIRECTORY: where DPDK puts what would else stay in /var/run/dpdk.
        self.env = dict.fromkeys(("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "RUNTIME_DIRECTORY"),
                                 self.dir)
        self.make_containers()
        self._start_database()
        self._start_vswitchd()
        self._vsctl("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev",
                    f"other_config:mac-table-size={MACS_MAX}")
        self._add_ports()
        self._place_devices()

    def _start_database(self):
        db = self.dir / "conf.db"
        run(["ovsdb-tool", "create", db, SCHEMA], env=self.env)
        self.db_socket = self.dir / "db.sock"
        server = Child(self.lab, "ovsdb-server",
                       ["ovsdb-server", db, f"--remote=punix:{self.db_socket}", "--no-chdir",
                        f"--unixctl={self.dir}/ovsdb.ctl"],
                       cores=self.placement.other_cores, env=self.env)
        self.children.append(server)
        server.wait_for(self.db_socket.exists, "database socket")
        self._vsctl("--no-wait", "init")
        self._vsctl("--no-wait", "set", "Open_vSwitch", ".", *self._configuration())

    def _configuration(self):
        options = {
            "dpdk-init": "true",
            "dpdk-socket-mem": str(SOCKET_MEM_MIB),
            "dpdk-lcore-mask": core_mask(self.placement.other_cores),
            "pmd-cpu-mask": core_mask(self.placement.switch_cores),
            "dpdk-extra": '"--in-memory --no-pci --no-telemetry"',
        }
        if self.offloads:
            options["userspace-tso-enable"] = "true"
        if self.point.flows > 1:
            options["flow-limit"] = str(2 * FLOWS_MAX)
        return [f"other_config:{key}={value}" for key, value in options.items()]

    def _start_vswitchd(self):
        # Not pinned by us: OVS places its threads by the two masks, and must be allowed to.
        self.vswitchd = Child(self.lab, "vswitchd",
                              self._where() + [VSWITCHD, f"unix:{self.db_socket}", "--no-chdir",
                                               f"--unixctl={self.dir}/vswitchd.ctl"],
                              env=self.env)
        self.children.append(self.vswitchd)

    def _where(self):
        return namespaces.inside(self.world) if self.world else []

    def _add_ports(self):
        words = []
        for index, port in enumerate(self.port_names):
            kind = {"vm": ["type=dpdkvhostuserclient", f"options:vhost-server-path={self.socket(index)}"],
                    "xdp": ["type=afxdp"],
                    "tap": self._tap(port)}[self.ends[index]]
            words += ["--", "add-port", "br0", port, "--", "set", "Interface", port, *kind, f"mtu_request={self.mtu}"]
        self._vsctl(*words)
        for port in self.port_names:
            error = self._vsctl("get", "Interface", port, "error").strip()
            if error not in ("[]", '""'):
                raise BenchError(f"{self.name}: port {port}: {error}")

    def _tap(self, port):
        # DPDK's TAP driver wants as many receive queues as transmit queues, of which OVS has one a PMD and one for the rest.
        queues = len(self.placement.switch_cores) + 1
        return [word.format(port=port, queues=queues) for word in self.tap.split()]

    def _place_devices(self):
        for index, port in enumerate(self.port_names):
            if self.ends[index] == "tap":
                namespaces.ip(self.world, "link", "set", port, "netns", self.containers[index],
                              "name", namespaces.INTERFACE)
        self.raise_containers()

    def uml_socket(self, index):
        return self.masked_socket(index, MEET)

    def _vsctl(self, *args):
        # Without --no-wait it returns when vswitchd has applied the change: that is the readiness test.
        return run(["ovs-vsctl", f"--db=unix:{self.db_socket}", "--timeout=20", *args], env=self.env)

    def appctl(self, *args):
        return run(["ovs-appctl", "-t", self.dir / "vswitchd.ctl", *args], env=self.env)

    def clear_statistics(self):
        self.appctl("dpif-netdev/pmd-stats-clear")

    def statistics(self):
        """OVS's own view: cycles a packet and where lookups hit."""
        return self.appctl("dpif-netdev/pmd-perf-show", "-nh")

    def settings(self):
        return {"configuration": self._configuration()}


class OvsNetTap(OvsDpdk):
    """... with DPDK's own driver for TAP devices."""
    name = "ovs-dpdk-net-tap"
    tap = "type=dpdk options:dpdk-devargs=net_tap_{port},iface={port} options:n_rxq={queues}"

    @classmethod
    def skips(cls, point):
        return "" if "tap" in point.ends else "it has no TAP device"
