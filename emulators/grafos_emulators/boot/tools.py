#!/usr/bin/env python3
"""The commands of an emulated machine that stand for systemd's: each hands its arguments to the machine's own init.

This file is copied into every emulated machine and found there as ``shutdown``, ``poweroff``, ``systemd-run`` and
``systemctl``. It knows nothing of the host, and cannot switch it off.
"""

import json
import os
import socket
import sys
from pathlib import Path

REPLY_TIMEOUT_S = 30.0
MAX_REPLY_BYTES = 65536


def main() -> int:
    tool = Path(sys.argv[0]).absolute()
    order = {"tool": tool.name, "arguments": sys.argv[1:]}
    directory = os.open(tool.parent.parent.parent / "run", os.O_RDONLY | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(REPLY_TIMEOUT_S)
        connection.connect(f"/proc/self/fd/{directory}/init.sock")  # a socket's path may have 107 bytes only
        connection.sendall(json.dumps(order).encode() + b"\n")
        reply = b""
        while not reply.endswith(b"\n") and len(reply) < MAX_REPLY_BYTES:
            part = connection.recv(MAX_REPLY_BYTES)
            if not part:
                break
            reply += part
    if not reply:
        return 1  # the machine went off before it could answer
    answer = json.loads(reply)
    if answer["text"]:
        stream = sys.stderr if answer["status"] == 1 else sys.stdout  # 3 is an answer: "inactive"
        stream.write(answer["text"] + "\n")
    return int(answer["status"])


if __name__ == "__main__":
    sys.exit(main())
