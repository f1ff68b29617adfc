"""What a machine's processes may do to their host: the kernel's Landlock holds them; Linux, standard library only.

User data runs with the rights of whoever runs the emulator, often root. Inside the confinement a process executes
nothing of the host's but Python and a shell, so neither ``/sbin/shutdown`` nor ``systemctl`` can be reached, by
whatever path or environment; it writes nowhere but in its machine's directory; and, from Linux 6.12, it signals
nobody outside its machine.
It can still read what its user can read, and use the network. Source: landlock(7).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls, the same on all architectures
_ASK_VERSION = 1
_RULE_PATH_BENEATH = 1
LEAST_VERSION = 2  # of Landlock; the first one forbids every rename from one directory to another
_TRUNCATE_SINCE = 3
SCOPES_SINCE = 6  # from here on, signals to others can be forbidden

_EXECUTE, _WRITE_FILE, _REMOVE_FILE, _MAKE_FILE = 1 << 0, 1 << 1, 1 << 5, 1 << 8
_ALL_BUT_READING = 0x3FF3  # execute, write, remove, make anything, move
_TRUNCATE = 1 << 14
_NO_ABSTRACT_SOCKETS_NOR_SIGNALS = 0b11

HOST_PROGRAMS = ("/bin/sh", "/bin/bash", "/usr/bin/env")  # with Python, what a script's first line may name
DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
SHARED_MEMORY = "/dev/shm"  # noqa: S108  Python's multiprocessing keeps its locks there

_libc = ctypes.CDLL(None, use_errno=True)


def confine(root: Path) -> bool:
    """Confines the calling process, and all that it starts, to the machine in ``root``; False if the kernel cannot.

    It must have no thread beside its own, and must have given up gaining privileges.
    """
    version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_ASK_VERSION))
    if version < LEAST_VERSION:
        return False
    truncate = _TRUNCATE if version >= _TRUNCATE_SINCE else 0
    handled = _ALL_BUT_READING | truncate
    attributes = struct.pack("=Q", handled)
    if version >= SCOPES_SINCE:
        attributes += struct.pack("=QQ", 0, _NO_ABSTRACT_SOCKETS_NOR_SIGNALS)
    rules = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    try:
        _allow(rules, root, handled)
        for program in (*HOST_PROGRAMS, sys.executable, *_loaders()):
            _allow(rules, Path(program), _EXECUTE)
        for device in DEVICES:
            _allow(rules, Path(device), _WRITE_FILE | truncate)
        _allow(rules, Path(SHARED_MEMORY), _WRITE_FILE | _REMOVE_FILE | _MAKE_FILE | truncate)
        _call(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0))
    finally:
        os.close(rules)
    return True


def _loaders() -> Iterator[str]:
    """The dynamic loader, which the kernel executes for every program: this very process has it in memory."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        _, _, path = line.partition("/")
        if Path(path).name.startswith("ld"):
            yield f"/{path}"


def _allow(rules: int, path: Path, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # this host has none
    try:
        rule = struct.pack("=Qi", access, place)
        _call(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_RULE_PATH_BENEATH), rule, ctypes.c_uint(0))
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"landlock, system call {number}")
    return result
