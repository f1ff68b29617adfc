"""Whose program is at the other end of a loopback connection, as the kernel's own table tells.

Everybody who has an account on the host can connect to 127.0.0.1, and the key of an emulator is public. Yet whoever may
launch a machine may run programs with the rights of the emulator's owner, and the metadata of a machine holds its
secrets. So an emulator serves its owner only. Source: proc(5), /proc/net/tcp.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

Address = tuple[str, int]

_TABLES = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}
_ROOT = 0
_LOCAL, _REMOTE, _UID, _INODE = 1, 2, 7, 9  # columns


def is_trusted(client: Address, server: Address) -> bool:
    """Whether ``client``'s end of the connection to ``server`` is held by our own user, or by root."""
    for family, table in _TABLES.items():
        try:
            owner = owner_in(table.read_text(encoding="ascii"), column(family, client), column(family, server))
        except OSError:
            continue  # a host without IPv6
        if owner is not None:
            return owner in {os.geteuid(), _ROOT}
    return False


def owner_in(table: str, local: str, remote: str) -> int | None:
    """The user whose socket goes from ``local`` to ``remote``, both as the table writes them; None if there is none.

    A connection that no program holds any more (its inode is 0) is shown as root's, and counts for nothing.
    """
    for row in table.splitlines()[1:]:
        columns = row.split()
        if columns[_LOCAL] == local and columns[_REMOTE] == remote:
            return int(columns[_UID]) if columns[_INODE] != "0" else None
    return None


def column(family: socket.AddressFamily, address: Address) -> str:
    """An IPv4 address as a table of this family has it: words in the host's byte order, in hexadecimal."""
    host, port = address
    packed = socket.inet_pton(family, host if family == socket.AF_INET else f"::ffff:{host}")
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
