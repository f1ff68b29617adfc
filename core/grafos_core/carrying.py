"""One connection of a virtual machine's to a place on this machine, over this program's input and output.

    python3 -I -S carrying.py ADDRESS PORT

QEMU starts one for each connection. It ends with either side, and so with QEMU, however that ends.
"""

from __future__ import annotations

import os
import select
import socket
import sys

PART_BYTES = 65536
INPUT, OUTPUT = 0, 1


def carry(there: socket.socket) -> None:
    """Carries both ways until one side is gone. Who has said all it had to say may still be answered."""
    watch = select.poll()
    watch.register(INPUT, select.POLLIN)
    watch.register(there, select.POLLIN)
    while True:
        for handle, event in watch.poll():
            source = INPUT if handle == INPUT else there.fileno()
            data = os.read(source, PART_BYTES) if event & select.POLLIN else b""
            if data:
                _send(there.fileno() if source == INPUT else OUTPUT, data)
            elif source != INPUT or event & (select.POLLHUP | select.POLLERR):
                return
            else:
                there.shutdown(socket.SHUT_WR)
                watch.modify(INPUT, 0)  # that it is gone altogether is still told


def _send(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def main() -> int:
    """Exit code 1 where nobody answers, or whoever answered is gone in the middle of it."""
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as there:
            carry(there)
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
