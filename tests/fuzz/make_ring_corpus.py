#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the seeds of fuzz_ring into corpus/ring: rings that work, each in another way, for the fuzzer to spoil.

The input's form is told in fuzz_ring.c. What libFuzzer found worth keeping lies beside the seeds, under
the names that it gave.
"""
import os
import struct

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "ring")
BASE = 0x1000
AT_TX_DESC, AT_TX_AVAIL, AT_RX_DESC, AT_RX_AVAIL, AT_DATA = 0x000, 0x100, 0x140, 0x240, 0x280
REGION_0 = 0x2000
NEXT, WRITE, INDIRECT = 1, 2, 4
ALL, PLAIN, MERGED = 0xFF, 0x07, 0x0F
MACS = bytes.fromhex("020000000001020000000002")
UDP = MACS + bytes.fromhex("08004500003c00010000401100000a0000010a000002" "1234003500280000") + bytes(32)


def tcp(payload):
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 1, 0, 64, 6, 0, bytes([10, 0, 0, 1]),
                         bytes([10, 0, 0, 2]))
    return MACS + b"\x08\x00" + header + struct.pack("!HHIIBBHHH", 4660, 80, 1, 2, 0x50, 0x18, 512, 0, 0) + payload


def desc(addr, length, flags=0, following=0):
    return struct.pack("<QIHH", addr, length, flags, following)


class Guest:
    def __init__(self):
        self.bytes = bytearray()

    def put(self, at, data):
        self.bytes.extend(bytes(max(0, at + len(data) - len(self.bytes))))
        self.bytes[at:at + len(data)] = data

    def avail(self, at, base, heads):
        size = 16
        ring = [0] * size
        for i, head in enumerate(heads):
            ring[(base + i) % size] = head
        self.put(at, struct.pack("<HH16HH", 0, (base + len(heads)) & 0xFFFF, *ring, base))

    def seed(self, name, tx=ALL, rx=ALL, flow=0, waits=0, base=0, pokes=()):
        head = struct.pack("<8B", 4, 4, tx, rx, flow, waits, len(pokes), base)
        with open(os.path.join(CORPUS, name), "wb") as file:
            file.write(head + b"".join(struct.pack("<HH", *poke) for poke in pokes) + bytes(self.bytes))


def guest(frame, cuts=(), indirect=False, chains=1, buffers=8, room=1600, net=bytes(12), base=0, bad=False):
    """One packet in pieces cut at these offsets, offered several times; receive buffers in the other region."""
    made = Guest()
    data = net + frame
    made.put(AT_DATA, data)
    edges = [0, *cuts, len(data)]
    table = AT_DATA + len(data) + 16
    pieces = []
    for i, (start, end) in enumerate(zip(edges, edges[1:])):
        last = i + 2 == len(edges)
        pieces.append(desc(BASE + AT_DATA + start, end - start, 0 if last else NEXT, 0 if last else i + 1))
    if indirect:
        made.put(table, b"".join(pieces))
        made.put(AT_TX_DESC, desc(BASE + table, 16 * len(pieces), INDIRECT))
    else:
        made.put(AT_TX_DESC, b"".join(pieces))
    made.avail(AT_TX_AVAIL, base, [0] * chains)
    for i in range(buffers):
        at = BASE + REGION_0 + (i * room) % (0x1000 - room)
        made.put(AT_RX_DESC + 16 * i, desc(0 if bad and i == 3 else at, room, WRITE))
    made.avail(AT_RX_AVAIL, base, list(range(buffers)))
    return made


def main():
    os.makedirs(CORPUS, exist_ok=True)
    checksum = struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 6, 0)
    segments = struct.pack("<BBHHHHH", 1, 1, 54, 100, 34, 16, 0)
    large = tcp(bytes(range(250)) * 4)

    guest(UDP).seed("one")
    guest(UDP, chains=16, base=0xF8).seed("many", base=0xF8)
    guest(UDP, cuts=(12,)).seed("header-apart")
    guest(UDP, cuts=(5, 12, 30, 60)).seed("pieces")
    guest(UDP, cuts=(12, 40), indirect=True).seed("indirect")
    guest(UDP, cuts=(10,), chains=2).seed("legacy", tx=0x06, rx=0x06)
    guest(UDP, chains=4, room=32).seed("merged")
    guest(UDP, chains=4, room=32).seed("too-long", rx=PLAIN)
    guest(UDP, chains=6, bad=True, room=64).seed("bad-buffer", rx=MERGED)
    guest(UDP, chains=8, buffers=2).seed("waits", waits=1, pokes=[(AT_RX_AVAIL + 2, 4), (AT_RX_AVAIL + 2, 8)])
    guest(UDP, chains=8, buffers=2).seed("full")
    guest(UDP, chains=5).seed("two-copies", flow=1)
    guest(UDP, net=checksum).seed("checksum", rx=MERGED)
    guest(UDP, net=checksum, cuts=(33, 70)).seed("checksum-passed")
    guest(large, net=segments, room=200).seed("segments", rx=MERGED)
    guest(large, net=segments, room=64, cuts=(12, 300, 301)).seed("segments-merged", rx=MERGED)
    guest(large, net=segments, room=64, buffers=3).seed("segments-wait", rx=MERGED, waits=1,
                                                         pokes=[(AT_RX_AVAIL + 2, i) for i in range(4, 17)])
    guest(large, net=segments, room=1200).seed("large")
    guest(UDP).seed("jump", pokes=[(AT_TX_AVAIL + 2, 17)])
    guest(UDP, cuts=(20,)).seed("loop", pokes=[(AT_TX_DESC + 16 + 12, 1), (AT_TX_AVAIL + 2, 3)])
    control = Guest()
    control.put(AT_DATA, bytes([4, 0, 1, 0, 0xAA]))
    control.put(AT_TX_DESC, desc(BASE + AT_DATA, 2, NEXT, 1) + desc(BASE + AT_DATA + 2, 2, NEXT, 2) +
                desc(BASE + AT_DATA + 4, 1, WRITE))
    control.avail(AT_TX_AVAIL, 0, [0, 0])
    control.seed("control")


if __name__ == "__main__":
    main()
