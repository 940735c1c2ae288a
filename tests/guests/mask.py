#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Hides virtio features of a vhost-user back end from its front end: mask.py LISTEN CONNECT

User-mode Linux accepts whatever it is offered, and then waits for ever on a control queue that DPDK's back end offers
and does not serve. This stands between the two: it listens on one path, connects to the other for each front end,
passes messages and descriptors on, and takes the bits of HIDDEN out of the answer to GET_FEATURES. Packets do not come
this way.
"""

import array
import os
import select
import socket
import struct
import sys
import threading

GET_FEATURES = 1
HEADER = struct.Struct("<III")  # request, flags, size of the payload
IS_REPLY = 0x4
# Control queue and what needs it (17 to 19, 21 to 23), IOMMU, packed rings, in-order.
HIDDEN = sum(1 << bit for bit in (17, 18, 19, 21, 22, 23, 33, 34, 35))


def receive(connection):
    """One message with its descriptors; (b"", []) at the end."""
    message, descriptors = b"", []
    while len(message) < HEADER.size or len(message) < HEADER.size + HEADER.unpack_from(message)[2]:
        want = HEADER.size if len(message) < HEADER.size else HEADER.size + HEADER.unpack_from(message)[2]
        data, ancillary, _, _ = connection.recvmsg(want - len(message), socket.CMSG_SPACE(64 * 4))
        if not data:
            return b"", []
        message += data
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors += array.array("i", payload[:len(payload) // 4 * 4])
    return message, descriptors


def masked(message):
    request, flags, size = HEADER.unpack_from(message)
    if request != GET_FEATURES or not flags & IS_REPLY or size != 8:
        return message
    features = struct.unpack_from("<Q", message, HEADER.size)[0] & ~HIDDEN
    return message[:HEADER.size] + struct.pack("<Q", features)


def serve(front, back):
    with front, back:
        while True:
            for source in select.select([front, back], [], [])[0]:
                message, descriptors = receive(source)
                if not message:
                    return
                target, message = (back, message) if source is front else (front, masked(message))
                socket.send_fds(target, [message], descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)


def main(listen, connect):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(listen)
        listener.listen()
        while True:
            front = listener.accept()[0]
            back = socket.socket(socket.AF_UNIX)
            back.connect(connect)
            threading.Thread(target=serve, args=(front, back), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
