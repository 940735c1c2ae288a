#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Joins a vhost-user front end and a back end that both only connect: meet.py FRONT BACK

OVS offers segmentation only on ports that connect to the VMM (dpdkvhostuserclient), and User-mode Linux too can only
connect. This listens for both, and joins each front end to the next back end; the messages between them pass through
tests/guests/mask.py's filter, for the reason given there. Packets do not come this way.
"""

import socket
import sys
import threading
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "guests"))

from mask import serve  # noqa: E402


def main(front_path, back_path):
    with socket.socket(socket.AF_UNIX) as fronts, socket.socket(socket.AF_UNIX) as backs:
        for listener, path in ((backs, back_path), (fronts, front_path)):
            listener.bind(path)
            listener.listen()
        while True:
            back = backs.accept()[0]
            front = fronts.accept()[0]
            threading.Thread(target=serve, args=(front, back), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
