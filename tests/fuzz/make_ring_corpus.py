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
PACKED, AVAILABLE, WRAP = 0x80, 0x80, 0x80  # of a size, of flags in the first lap, of the base: that lap
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

    def seed(self, name, tx=ALL, rx=ALL, flow=0, waits=0, base=0, pokes=(), sizes=(4, 4)):
        head = struct.pack("<8B", *sizes, tx, rx, flow, waits, len(pokes), base)
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


def packed_guest(frame, cuts=(), indirect=False, chains=1, buffers=8, room=1600, net=bytes(12)):
    """The same with packed rings of 16, where each chain has descriptors of its own."""
    made = Guest()
    data = net + frame
    made.put(AT_DATA, data)
    edges = [0, *cuts, len(data)]
    table = AT_DATA + len(data) + 16
    pieces = list(zip(edges, edges[1:]))
    entries = b"".join(desc(BASE + AT_DATA + start, end - start) for start, end in pieces)
    ring = b""
    for number in range(chains):
        if indirect:
            made.put(table, entries)
            ring += desc(BASE + table, len(entries), number, AVAILABLE | INDIRECT)
            continue
        for i, (start, end) in enumerate(pieces):
            more = NEXT if i + 1 < len(pieces) else 0
            ring += desc(BASE + AT_DATA + start, end - start, number, AVAILABLE | more)
    made.put(AT_TX_DESC, ring)
    made.put(AT_TX_AVAIL, bytes(4))
    for i in range(buffers):
        at = BASE + REGION_0 + (i * room) % (0x1000 - room)
        made.put(AT_RX_DESC + 16 * i, desc(at, room, i, AVAILABLE | WRITE))
    made.put(AT_RX_AVAIL, bytes(4))
    return made


def packed_seeds(large, segments):
    sizes = (PACKED | 15, PACKED | 15)
    packed_guest(UDP, chains=16).seed("packed-many", base=WRAP, sizes=sizes)
    packed_guest(UDP, cuts=(5, 12, 30), chains=4).seed("packed-pieces", base=WRAP, sizes=sizes)
    packed_guest(UDP, cuts=(12,), indirect=True, chains=3).seed("packed-indirect", base=WRAP, sizes=sizes)
    packed_guest(UDP, chains=4, room=32).seed("packed-merged", base=WRAP, sizes=sizes)
    # What is said is wrong, and the ring knows better: the last bit of its flags says where.
    packed_guest(UDP, chains=5).seed("packed-recovers", base=0x43, sizes=sizes)
    packed_guest(UDP, chains=8, buffers=2).seed("packed-waits", base=WRAP, waits=1, sizes=sizes,
                                               pokes=[(AT_TX_DESC + 16 * i + 14, AVAILABLE | NEXT) for i in range(8)])
    packed_guest(large, net=segments, room=200).seed("packed-segments", rx=MERGED, base=WRAP, sizes=sizes)
    # Of the ring only the first seven are one, and the chain goes round it.
    packed_guest(UDP, cuts=(5, 12, 30)).seed("packed-loop", base=WRAP, sizes=(PACKED | 2, PACKED | 6))
    packed_guest(UDP, chains=3).seed("packed-to-split", base=WRAP, sizes=(PACKED | 15, 4))


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

    # A driver's report: version, link, queues, mtu, speed, kind, device, mode, counters, drops.
    status = struct.pack("<BBHIII16s16s32s12Q", 1, 1, 1, 1500, 0, 0, b"tap", b"tap0", b"copy", *range(12))
    report = Guest()
    report.put(AT_DATA, bytes([0xD0, 0]) + status + b"\xaa")
    report.put(AT_TX_DESC, desc(BASE + AT_DATA, 2 + len(status), NEXT, 1) +
               desc(BASE + AT_DATA + 2 + len(status), 1, WRITE, 0))
    report.avail(AT_TX_AVAIL, 0, [0])
    report.seed("driver-report")
    packed_seeds(large, segments)


if __name__ == "__main__":
    main()
