"""How a process is asked for at the socket of `forking`, with nothing imported that takes time: a shell may ask too."""

from __future__ import annotations

import _socket
import os
import signal
import struct
import sys
from collections.abc import Mapping, Sequence

ANSWER_BYTES_MAX = 64


def ask(
    address: str, words: Sequence[str], cwd: str, umask: int, variables: Mapping[str, str], streams: Sequence[int]
) -> _socket.socket:
    """Asks for `grafos` with these words, there, on these three streams; its number and later its end come back."""
    parts = [cwd, str(umask), str(len(words)), *words, *(f"{name}={value}" for name, value in variables.items())]
    asked = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        asked.connect(address)
    except OSError:
        asked.close()
        raise
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("3i", *streams))
    asked.sendmsg(["\0".join(parts).encode(errors="surrogateescape")], [rights])
    return asked


def listens(address: str) -> bool:
    """Whether somebody may be asked there: not while it still imports, and not when it was ended."""
    asked = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        asked.connect(address)
    except OSError:
        return False
    finally:
        asked.close()
    return True


def current_umask() -> int:
    """It can only be read by setting it."""
    os.umask(found := os.umask(0o077))
    return found


def front(address: str, program: str) -> int:
    """Stands for the program in a shell: same streams, folder and variables, signals handed on, the same exit code.

    While nobody listens it becomes the program.
    """
    if not listens(address):
        os.execv(program, [program, *sys.argv[1:]])  # noqa: S606 - no shell, as intended
    cwd = os.getcwd()  # noqa: PTH109 - importing pathlib takes time
    asked = ask(address, sys.argv[1:], cwd, current_umask(), os.environ, (0, 1, 2))
    number = int(asked.recv(ANSWER_BYTES_MAX))
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda which, _: os.kill(number, which))
    return int(asked.recv(ANSWER_BYTES_MAX))
