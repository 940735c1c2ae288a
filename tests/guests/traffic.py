# SPDX-License-Identifier: BSD-3-Clause
"""Traffic between two guests, and what they counted of it.

Guests verify no checksum that an offload promised them, so only transfer() shows that bytes arrive as they were sent;
tcp() is for many packets. A guest counts a segmentation-offload frame once, with all its bytes: the mean size of the
frames it received tells whether such frames came through whole.
"""

import json
import re

from lab import Failure, expect, wait_for

ETHERNET_HEADER = 14
MTU_FRAME = 1500 + ETHERNET_HEADER
VLAN_TAG = 4
INTERFACE = "/sys/class/net/eth0"

# Feature bits of virtio-net that people ask about, by the names of the virtio specification.
FEATURES = {
    0: "CSUM", 1: "GUEST_CSUM", 3: "MTU", 7: "GUEST_TSO4", 8: "GUEST_TSO6", 11: "HOST_TSO4", 12: "HOST_TSO6",
    15: "MRG_RXBUF", 17: "CTRL_VQ", 22: "MQ", 28: "INDIRECT_DESC", 29: "EVENT_IDX", 32: "VERSION_1",
    54: "GUEST_USO4", 55: "GUEST_USO6", 56: "HOST_USO",
}
OFFLOADS = [name for number, name in FEATURES.items() if "CSUM" in name or "TSO" in name or "USO" in name]


def reach(guest, peer, seconds=30):
    """Wait for the first answered ping: after a start or a reconnect it takes a moment."""
    wait_for(lambda: guest.attempt(f"ping -c 1 -W 1 {peer.address}")[1] == 0,
             f"{guest.name} pings {peer.name}", seconds)


def ping(guest, address, count=5, size=56, interval=0.1):
    """Every echo request must be answered. Returns what ping printed."""
    output = guest.run(f"ping -c {count} -i {interval} -W 3 -s {size} {address}", 30 + count * interval, check=False)
    expect(f"{count} packets received" in output, f"{guest.name} pings {address} with {size} bytes: {output}")
    return output


def _make_blob(guest, mebibytes):
    name = f"blob{mebibytes}"
    digest = guest.run(f"cd /tmp; [ -e {name} ] || dd if=/dev/urandom of={name} bs=1M count={mebibytes} 2>/dev/null; "
                       f"[ -e {name}.md5 ] || md5sum <{name} >{name}.md5; cat {name}.md5", 60)
    return name, digest.split()[0]


def transfer(sender, receiver, address=None, mebibytes=4):
    """Send random bytes over TCP from sender, at its address; their digest must be the same at the other end."""
    address = address or sender.address
    name, digest = _make_blob(sender, mebibytes)
    # The server writes much at a time: there is always enough for large frames.
    sender.run("pidof httpd >/dev/null || httpd -p 5100 -h /tmp")
    host = f"[{address}]" if ":" in address else address
    output = receiver.run(f"wget -q -O - http://{host}:5100/{name} | md5sum", 60 + 10 * mebibytes)
    expect(digest in output, f"{sender.name} sent {digest} to {receiver.name} from {address}, which got {output}")


def serve(guest):
    """Start the iperf3 server in a guest that has none yet."""
    guest.run("pidof iperf3 >/dev/null || iperf3 -s -D")


def _iperf(client, server, options, seconds):
    """One iperf3 run; returns its report's last part."""
    serve(server)
    command = f"iperf3 -c {server.address} -i 0 -J {options}"
    # The server needs a moment to listen, and one between two tests.
    wait_for(lambda: client.attempt(f"nc -w 2 {server.address} 5201 </dev/null")[1] == 0, "iperf3 listens")
    for _ in range(3):
        output, status = client.attempt(command, seconds)
        if status == 0:
            return json.loads(output)["end"]
        if "busy" not in output:
            break
    raise Failure(f"{client.name}: `{command}`: {output}")


def tcp(client, server, mebibytes=16, streams=1, reverse=False):
    """Move that much over TCP from client to server, or back. Returns the bits per second that the receiver saw."""
    end = _iperf(client, server, f"-n {mebibytes}M -P {streams}" + (" -R" if reverse else ""), 120)
    expect(end["sum_received"]["bytes"] > 0, f"{server.name} received nothing")
    return end["sum_received"]["bits_per_second"]


def udp(client, server, megabits=5, length=1400, seconds=1):
    """Datagrams at a rate that any guest can take. Returns (sent, lost)."""
    end = _iperf(client, server, f"-u -b {megabits}M -l {length} -t {seconds}", 60)
    return end["sum"]["packets"], end["sum"]["lost_packets"]


def counters(guest):
    """What eth0 counted: a dict of rx_packets, rx_bytes, rx_errors, tx_packets and so on."""
    text = guest.run(f"cd {INTERFACE}/statistics && grep . *")
    return {name: int(value) for name, value in re.findall(r"^(\w+):(\d+)$", text, re.M)}


class Observed:
    """`with Observed(guest) as seen: ...`, and then what eth0 counted meanwhile: seen["rx_bytes"], seen.mean("rx")."""

    def __init__(self, guest):
        self._guest = guest

    def __enter__(self):
        self._before = counters(self._guest)
        return self

    def __exit__(self, *_):
        after = counters(self._guest)
        self._difference = {name: after[name] - self._before[name] for name in after}

    def __getitem__(self, name):
        return self._difference[name]

    def mean(self, direction):
        return self[f"{direction}_bytes"] / max(self[f"{direction}_packets"], 1)


def check_frames(sender, receiver, large, address=None, full_frame=MTU_FRAME, mebibytes=4):
    """Transfer with both sides' counters: frames larger than the MTU must arrive if `large`, and must not if not."""
    with Observed(receiver) as seen:
        transfer(sender, receiver, address, mebibytes)
    mean = seen.mean("rx")
    what = f"{sender.name} to {receiver.name}: frames of {mean:.0f} bytes on average arrived"
    expect(mean > full_frame if large else mean <= full_frame, what)
    expect(not seen["rx_errors"] and not seen["rx_frame_errors"], f"{receiver.name} counts receive errors")
    return mean


def features(guest):
    """The names of the virtio features that guest and device agreed on."""
    bits = guest.run(f"cat {INTERFACE}/device/features").strip()
    return [name for number, name in FEATURES.items() if bits[number] == "1"]


def add_vlan(guest, tag):
    """A VLAN interface eth0.TAG; returns its address."""
    number = guest.address.rpartition(".")[2]
    address = f"10.{tag}.0.{number}"
    guest.run("modprobe 8021q")
    guest.run(f"[ -e /sys/class/net/eth0.{tag} ] || ip link add link eth0 name eth0.{tag} type vlan id {tag}")
    guest.run(f"ip addr flush dev eth0.{tag}; ip addr add {address}/24 dev eth0.{tag} && ip link set eth0.{tag} up")
    return address
