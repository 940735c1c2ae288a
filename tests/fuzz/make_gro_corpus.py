#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the seeds of fuzz_gro into corpus/gro: batches in which something is merged, for the fuzzer to spoil.

The input's form is told in fuzz_gro.c.
"""
import os

ALL = 0x1F
STREAM_TCP4, STREAM_TCP6, STREAM_UDP4, STREAM_UDP6 = 0, 1, 2, 3
RAW, PATCH, MEND, NET, PAYLOAD = 0x08, 0x10, 0x20, 0x40, 0x80
NEEDS_CSUM, DATA_VALID = 1, 2
CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "gro")


def seed(name, *commands, features=ALL, pieces=64):
    with open(os.path.join(CORPUS, name), "wb") as file:
        file.write(bytes([features, pieces]))
        for command in commands:
            file.write(bytes(command))


def main():
    os.makedirs(CORPUS, exist_ok=True)
    for stream in range(8):
        seed(f"stream-{stream}", *[[stream]] * 6, [stream | PAYLOAD, 10], [stream])
    seed("interleaved", *[[n % 8] for n in range(40)])
    seed("large", [PAYLOAD, 250], *[[0]] * 63)
    seed("pieces", *[[n % 2] for n in range(40)], pieces=5)
    seed("short-header", *[[2]] * 5, features=ALL & ~1)
    seed("tcp-only", *[[n % 4] for n in range(20)], features=0x07)
    # 14 bytes of Ethernet, 20 of IPv4, TCP's flags at 13.
    seed("push", [0], [0 | PATCH | MEND, 14 + 20 + 13, 0x08], [0], [0])
    seed("fin", [0], [0], [0 | PATCH | MEND, 14 + 20 + 13, 0x01], [0])
    seed("corrupt", [0], [0], [0 | PATCH, 100, 1], [0])
    seed("corrupt-ip", [0], [0], [0 | PATCH, 14 + 8, 1], [0])
    seed("fragment", [0], [0], [0 | PATCH | MEND, 14 + 6, 0x20], [0], [0])
    seed("sequence", [0], [0], [0 | PATCH | MEND, 14 + 20 + 7, 0x40], [0], [0])
    # Stream 1 has a VLAN tag.
    seed("extension", [1], [1], [1 | PATCH | MEND, 18 + 6, 6], [1], [1])
    seed("label", [1], [1], [1 | PATCH | MEND, 18 + 3, 1], [1], [1])
    seed("valid", *[[2 | NET, DATA_VALID, 0, 0, 0]] * 4)
    seed("partial", *[[0 | NET, NEEDS_CSUM, 0, 34, 16]] * 4)
    seed("large-already", [0], [0], [0 | NET, NEEDS_CSUM, 1, 34, 16], [0], [0])
    seed("raw", [0], [RAW, 20] + [0xFF] * 12 + [0x08, 0x06] + [0] * 6, [0], [RAW, 3, 1, 2, 3], [0])


if __name__ == "__main__":
    main()
