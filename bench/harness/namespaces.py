# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces for a point: each belongs to a process that only waits, and vanishes with it.

A container is a namespace whose interface is called eth0. Its address on the wire is nobody's destination: what a program
sends by AF_PACKET to the other one's socket is not to be looked at by the kernel's own IP as well. For TCP it has an
address and the kernel's own stack.
"""

from .process import Child, run

INTERFACE = "eth0"
MTU = 1504      # 1518 bytes are the largest frame with its check sum; here they are a frame without
MTU_TCP = 1500


def namespace(lab, name):
    """Process id of one that holds a network namespace. Without IPv6, whose own frames would be counted."""
    script = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; " \
        "echo there; exec sleep 3600"
    child = Child(lab, f"ns-{name}", ["unshare", "--net", "sh", "-c", script])
    child.wait_for(lambda: "there" in child.output(), "namespace")
    return child.pid


def path(pid):
    return f"/proc/{pid}/ns/net"


def inside(pid, *words):
    """The command line that runs in the namespace."""
    return ["nsenter", "-t", pid, "--net", *words]


def ip(pid, *words):
    run(inside(pid, "ip", *words))


def veth(pid, name, container, mtu):
    """A pair of interfaces: `name` here, eth0 in the container. The outer one is up."""
    ip(pid, "link", "add", name, "mtu", mtu, "type", "veth", "peer", "name", INTERFACE, "mtu", mtu, "netns", container)
    ip(pid, "link", "set", name, "up")


def address(number):
    return f"10.0.0.{number + 1}"


def raise_interface(container, number=None, checksums=True):
    """Brings eth0 up. number: with an IP address, for TCP. checksums: the device, or who is behind it, fills them in."""
    if number is not None:
        ip(container, "addr", "add", f"{address(number)}/24", "dev", INTERFACE)
    if not checksums:
        run(inside(container, "ethtool", "-K", INTERFACE, "tx", "off"))
    ip(container, "link", "set", INTERFACE, "up")
