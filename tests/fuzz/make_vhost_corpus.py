#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the seeds of fuzz_vhost_message into corpus/vhost_message: what real front ends say, for the fuzzer to spoil.

The input's form is told in fuzz_vhost_message.c. What libFuzzer found worth keeping lies beside the seeds, under the
names that it gave.
"""
import os
import struct

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "vhost_message")
NEED_REPLY = 8
MEMORY, EVENT, PIPE_READ, PIPE_WRITE, NULL, SOCKET = 0, 3, 4, 5, 6, 7
LISTEN, HANG_UP = b"\x03", b"\x04"
GUEST, USER = 0x40000000, 0x7F0000000000
VERSION_1, PROTOCOL = 1 << 32, 1 << 30
REPLY_ACK = 1 << 3

(GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE) = range(1, 6)
(SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR,
 GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE, SEND_RARP, NET_SET_MTU,
 SET_BACKEND_REQ_FD) = range(8, 22)
GET_CONFIG, SET_CONFIG, RESET_DEVICE = 24, 25, 34
GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG, SET_STATUS, GET_STATUS = range(36, 41)


def message(request, payload=b"", fds=(), flags=0, size=None):
    size = len(payload) if size is None else size
    return bytes([0, request, 1 | flags, len(fds), *fds]) + struct.pack("<H", size) + payload


def u64(value):
    return struct.pack("<Q", value)


def state(index, num):
    return struct.pack("<II", index, num)


def addr(index, base=USER):
    at = base + index * 0x4000
    return struct.pack("<IIQQQQ", index, 0, at, at + 0x2000, at + 0x1000, 0)


def region(guest, size, user, offset=0):
    return struct.pack("<QQQQ", guest, size, user, offset)


def table(*regions, pad=0):
    return struct.pack("<II", len(regions), 0) + b"".join(regions) + bytes(pad)


def ring(index, flags=0, base=USER, call=EVENT):
    return (message(SET_VRING_CALL, u64(index), [call], flags) + message(SET_VRING_NUM, state(index, 64), flags=flags) +
            message(SET_VRING_BASE, state(index, 0), flags=flags) +
            message(SET_VRING_ADDR, addr(index, base), flags=flags) +
            message(SET_VRING_KICK, u64(index), [EVENT], flags) +
            message(SET_VRING_ENABLE, state(index, 1), flags=flags) + LISTEN)


WHOLE = region(GUEST, 16 * 4096, USER)
GREETING = (message(GET_FEATURES) + message(GET_PROTOCOL_FEATURES) + message(SET_PROTOCOL_FEATURES, u64(0x1A21C)) +
            message(GET_MAX_MEM_SLOTS) + message(SET_OWNER) + LISTEN)
FEATURES = message(SET_FEATURES, u64(VERSION_1 | PROTOCOL))
MEMORY_TABLE = message(SET_MEM_TABLE, table(WHOLE), [MEMORY])
STARTED = GREETING + FEATURES + MEMORY_TABLE + ring(0) + ring(1)

seeds = {
    "qemu": (4, GREETING + message(SET_VRING_ERR, u64(0), [EVENT]) + message(SET_VRING_ENABLE, state(0, 1)) + FEATURES +
             message(GET_STATUS) + message(SET_STATUS, u64(8)) +
             message(ADD_MEM_REG, u64(0) + WHOLE, [MEMORY], NEED_REPLY) + ring(0) + ring(1) + message(SET_STATUS, u64(15)) + LISTEN),
    "qemu-stop": (4, STARTED + message(SET_STATUS, u64(0)) + message(GET_VRING_BASE, state(0, 0)) +
                  message(GET_VRING_BASE, state(1, 0)) + FEATURES + ring(0) + HANG_UP + STARTED),
    "pairs": (3, GREETING + message(GET_QUEUE_NUM) + FEATURES + MEMORY_TABLE + ring(0) + ring(1) +
              message(SET_FEATURES, u64(VERSION_1 | PROTOCOL)) + ring(2) + ring(3) +
              message(SET_VRING_ENABLE, state(2, 0))),
    "uml": (4, message(SET_OWNER) + message(GET_PROTOCOL_FEATURES) +
            message(SET_PROTOCOL_FEATURES, u64(REPLY_ACK | 1 << 9 | 1 << 5), flags=NEED_REPLY) +
            message(SET_BACKEND_REQ_FD, b"", [PIPE_WRITE], NEED_REPLY) +
            message(SET_FEATURES, u64(VERSION_1 | PROTOCOL | 1 << 17), flags=NEED_REPLY) + LISTEN +
            message(GET_CONFIG, struct.pack("<III", 0, 12, 0) + bytes(12)) +
            message(SET_CONFIG, struct.pack("<IIIB", 5, 1, 0, 9), flags=NEED_REPLY) +
            message(SET_MEM_TABLE, table(region(0x1000, 0xF000, 0x1000, 0x1000), pad=32), [MEMORY], NEED_REPLY) +
            ring(0, NEED_REPLY, 0x1000, PIPE_WRITE) + ring(1, NEED_REPLY, 0x1000, PIPE_WRITE)),
    "hotplug": (0, STARTED + b"".join(message(ADD_MEM_REG, u64(0) + region(1 << 32 | i << 20, 4096, 1 << 40 | i << 20),
                                              [MEMORY + i % 3], NEED_REPLY) for i in range(8)) +
                message(REM_MEM_REG, u64(0) + WHOLE, [], NEED_REPLY) + LISTEN +
                message(ADD_MEM_REG, u64(0) + WHOLE, [MEMORY]) +
                message(REM_MEM_REG, u64(0) + region(1 << 32, 4096, 1 << 40), [MEMORY])),
    "shrink": (0, STARTED + b"\x02\x00\x00" + message(SET_VRING_ENABLE, state(0, 0)) + b"\x02\x00\x0f" +
               message(SET_VRING_ENABLE, state(0, 1)) + MEMORY_TABLE + message(RESET_DEVICE)),
    "net": (0, GREETING + message(NET_SET_MTU, u64(9000)) + message(SEND_RARP, bytes([2, 0, 0, 0, 0, 1, 0, 0])) +
            message(RESET_OWNER)),
    "pieces": (0, GREETING + bytes([1, 5]) + struct.pack("<IB", GET_FEATURES, 1) + bytes([1, 7]) + bytes(7) + LISTEN),
    "polled": (0, STARTED + message(SET_VRING_KICK, u64(0x100)) + message(SET_VRING_CALL, u64(0x101))),
    "bad-size": (0, message(SET_FEATURES, bytes(8), size=9) + message(SET_MEM_TABLE, bytes(8), size=0xFFFF)),
    "bad-descriptors": (0, message(GET_FEATURES, b"", [EVENT] * 12) + message(SET_VRING_KICK, u64(0), [NULL]) +
                        message(SET_VRING_CALL, u64(1), [MEMORY, EVENT]) +
                        message(SET_MEM_TABLE, table(WHOLE), [SOCKET])),
    "bad-regions": (0, message(SET_MEM_TABLE, table(WHOLE, WHOLE), [MEMORY, MEMORY]) +
                    message(SET_MEM_TABLE, table(region(0, 1 << 40, 0)), [MEMORY]) +
                    message(SET_MEM_TABLE, table(region((1 << 64) - 4096, 8192, 0)), [MEMORY])),
    "bad-ring": (0, GREETING + FEATURES + MEMORY_TABLE + message(SET_VRING_NUM, state(0, 32768)) +
                 message(SET_VRING_ENABLE, state(0, 1)) + message(SET_VRING_KICK, u64(0), [EVENT]) +
                 message(SET_VRING_ADDR, addr(0))),
}

os.makedirs(CORPUS, exist_ok=True)
for name, (choice, steps) in seeds.items():
    with open(os.path.join(CORPUS, name), "wb") as file:
        file.write(bytes([choice]) + steps)
