#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the seeds of fuzz_packet into corpus/packet: a good packet of each kind, for the fuzzer to spoil.

The input's form is told in fuzz_packet.c. What libFuzzer found worth keeping lies beside the seeds, under
the names that it gave.
"""
import os
import struct

ALL = 0xFF
NEEDS_CSUM = 1
TCPV4, TCPV6, UDP_L4, ECN = 1, 4, 5, 0x80
TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
MACS = bytes.fromhex("020000000001020000000002")
CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "packet")


def transport(proto, payload):
    if proto == TCP:
        return struct.pack("!HHIIBBHHH", 4660, 80, 1, 2, 0x80, 0x99, 512, 0, 0) + bytes(12) + payload
    if proto == UDP:
        return struct.pack("!HHHH", 4660, 53, 8 + len(payload), 0) + payload
    return struct.pack("!HHII", 4660, 80, 1, 0) + payload


def ipv4(proto, payload, extra=0, options=b"", fragment=0):
    inner = transport(proto, payload)
    size = 20 + len(options) + len(inner) + extra
    return struct.pack("!BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, size, 1, fragment, 64, proto, 0,
                       bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])) + options + inner


def ipv6(proto, payload, extra=0, extensions=()):
    inner = transport(proto, payload)
    following = proto
    for kind, body in reversed(extensions):
        inner = bytes([following]) + body + inner
        following = kind
    return struct.pack("!IHBB", 0x60000000, len(inner) + extra, following, 64) + bytes(range(32)) + inner


def frame(ip, tags=0):
    kind = 0x0800 if ip[0] >> 4 == 4 else 0x86DD
    outer = bytes.fromhex("88a80064") if tags > 1 else b""
    inner = bytes.fromhex("81000065") if tags > 0 else b""
    return MACS + outer + inner + struct.pack("!H", kind) + ip


def seed(name, data, extra=0, flags=0, gso=0, size=0, start=0, offset=0, staged=0, takes=0):
    head = struct.pack("!BBBH", ALL, takes, staged, extra)
    net = struct.pack("<BBHHHHH", flags, gso, 0, size, start, offset, 0)
    with open(os.path.join(CORPUS, name), "wb") as file:
        file.write(head + net + data)


def main():
    os.makedirs(CORPUS, exist_ok=True)
    pay = bytes(range(40))
    option = bytes([0, 1, 4, 0, 0, 0, 0])
    routing = bytes([0, 4, 1, 0, 0, 0, 0])
    later = bytes([0, 0, 8, 0, 0, 0, 1])

    seed("arp", MACS + bytes.fromhex("08060001080006040001020000000002" "0a0000010000000000000a000002"))
    seed("llc", MACS + bytes.fromhex("0026424203") + bytes(35))
    seed("short", MACS + bytes.fromhex("8100"))
    seed("icmp", frame(ipv4(ICMP, pay)))
    seed("icmpv6", frame(ipv6(ICMPV6, pay)))
    seed("sctp", frame(ipv4(SCTP, pay), tags=1))
    seed("options", frame(ipv4(TCP, pay, options=bytes([1] * 12))))
    seed("fragment4", frame(ipv4(UDP, pay, fragment=0x2000)))
    seed("fragment4-later", frame(ipv4(UDP, pay, fragment=0x0005)))
    seed("fragment6-later", frame(ipv6(UDP, pay, extensions=[(44, later)])))
    seed("extensions", frame(ipv6(TCP, pay, extensions=[(0, option), (43, routing), (60, option)])))
    seed("staged", frame(ipv6(TCP, pay, extensions=[(0, option), (60, option)])), staged=70)
    for takes in (0, 1):
        tag = "-partial" if takes else ""
        seed("checksum4" + tag, frame(ipv4(UDP, pay)), flags=NEEDS_CSUM, start=34, offset=6, takes=takes)
        seed("checksum6" + tag, frame(ipv6(TCP, pay, extra=900)), extra=900, flags=NEEDS_CSUM, start=54,
             offset=16, takes=takes)
        seed("tso4" + tag, frame(ipv4(TCP, pay, extra=9000)), extra=9000, flags=NEEDS_CSUM,
             gso=TCPV4 | ECN, size=1448, start=34, offset=16, takes=takes)
        seed("tso6" + tag, frame(ipv6(TCP, pay, extra=9000, extensions=[(0, option)]), tags=2),
             extra=9000, flags=NEEDS_CSUM, gso=TCPV6, size=1428, start=70, offset=16, takes=takes)
        seed("uso4" + tag, frame(ipv4(UDP, pay, extra=9000), tags=1), extra=9000, flags=NEEDS_CSUM,
             gso=UDP_L4, size=1472, start=38, offset=6, takes=takes)
        seed("uso6-routed" + tag, frame(ipv6(UDP, pay, extra=9000, extensions=[(43, routing)])), extra=9000,
             flags=NEEDS_CSUM, gso=UDP_L4, size=1444, start=62, offset=6, takes=takes)


if __name__ == "__main__":
    main()
