"""Keeps a Python process on loopback: who reaches out, listens to the world or asks a name server is refused.

It is an audit hook of the interpreter, so nothing is patched and C extensions that use the socket module are
seen as well. Each refusal is also written to the file named by GRAFOS_TEST_REFUSALS, because a library may
swallow the exception; the test that was running then fails all the same.

Not seen here: what uvloop connects by itself (only the scheduler uses uvloop, and it never dials), programs
that are not Python (uv is kept offline by UV_OFFLINE), and Pythons started with -I or -S, as emulated
machines are: those get no address but the loopback ones that the emulator's metadata names.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

REFUSALS_VARIABLE = "GRAFOS_TEST_REFUSALS"
LOCAL_NAMES = {"localhost", "ip6-localhost"}


class LeftLoopbackError(RuntimeError):
    """Something under test tried to speak to another machine."""


def is_local(host: object) -> bool:
    """True for a loopback address, or a name that always means one. No look-up is made to find out."""
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii", "replace")
    text = str(host).rstrip(".").split("%")[0]
    if text in LOCAL_NAMES or text.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def refuse(event: str, target: object) -> None:
    """Write the refusal down, then raise."""
    refusals = os.environ.get(REFUSALS_VARIABLE)
    if refusals:
        with Path(refusals).open("a", encoding="utf-8") as out:
            out.write(f"{event} {target!r} by {sys.orig_argv[:4]!r}\n")
    raise LeftLoopbackError(f"{event} {target!r}: tests speak to loopback only")


def check_address(event: str, args: tuple[object, ...]) -> None:
    """connect, bind, sendto, sendmsg: the socket and where it would go."""
    endpoint, address = args[0], args[1]
    family = getattr(endpoint, "family", None)
    if family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return
    if not is_local(address[0]):
        refuse(event, address)


def check_name(event: str, args: tuple[object, ...]) -> None:
    """getaddrinfo and its elders: the name, where nothing and None mean this machine."""
    if args[0] and not is_local(args[0]):
        refuse(event, args[0])


Check = Callable[[str, tuple[object, ...]], None]
Find = Callable[[str], "Check | None"]

CHECKS: dict[str, Check] = {
    "socket.bind": check_address,
    "socket.connect": check_address,
    "socket.sendmsg": check_address,
    "socket.sendto": check_address,
    "socket.getaddrinfo": check_name,
    "socket.gethostbyaddr": check_name,
    "socket.gethostbyname": check_name,
}


def watch(event: str, args: tuple[object, ...], find_check: Find = CHECKS.get) -> None:
    """The audit hook; called very often, so it looks at the event's name first, and also at the very end, when a
    module's names are gone."""
    check = find_check(event)
    if check is not None:
        check(event, args)


def install() -> None:
    """Watch this process to its end; an audit hook cannot be taken away again."""
    sys.addaudithook(watch)
