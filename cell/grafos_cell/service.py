"""A cell's daemon as a service of systemd: what it tells its manager, and the unit that suits it.

All of it is plain standard library, and harmless where there is no systemd.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from grafos_core.errors import AUTH, CONFLICT, USAGE

WATCHDOG_S = 30
"""An event loop that does not come round for so long is stuck: nothing in the daemon may wait on it."""
OF_THE_MANAGER = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""What a unit's main process is told of its manager, and a program that it starts is not: only the first is listened
to."""
FINAL_EXIT_CODES = (USAGE, AUTH, CONFLICT)
"""After these the same start again can only fail the same way; somebody has to do something first."""

UNIT = """[Unit]
Description=grafos cell {cell_id}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
User={user}
UMask=0077
TimeoutStartSec=infinity
TimeoutStopSec=30
WatchdogSec={watchdog_s}
Restart=always
RestartSec=2
RestartPreventExitStatus={final}
ReadWritePaths={writable}
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def notify(text: str) -> None:
    """Tells the service manager, if there is one; one that does not listen does not matter."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
        way.setblocking(False)
        way.connect("\0" + address[1:] if address[0] == "@" else address)
        way.send(text.encode())


def watchdog_s() -> float:
    """How often the manager wants to hear of us at least; 0 if it does not watch this process."""
    wanted_of, interval_us = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    is_ours = wanted_of in ("", str(os.getpid()))
    return int(interval_us) / 1e6 if is_ours and interval_us.isdecimal() else 0.0


@contextlib.contextmanager
def unwatched(seconds: float) -> Iterator[None]:
    """The block may take so long without a word to the manager."""
    before_s = watchdog_s()
    if before_s:
        notify(f"WATCHDOG_USEC={seconds * 1e6:.0f}")
    try:
        yield
    finally:
        if before_s:
            notify(f"WATCHDOG_USEC={before_s * 1e6:.0f}\nWATCHDOG=1")


async def feed_watchdog() -> None:
    """Says twice as often as it must that the event loop comes round, until cancelled."""
    every_s = watchdog_s() / 2
    while every_s:
        notify("WATCHDOG=1")
        await asyncio.sleep(every_s)
    await asyncio.Event().wait()


def unit(cell_id: str, command: Sequence[str], writable: Iterable[Path]) -> str:
    """The text of a unit that runs ``command`` as whoever asks for it.

    Workers close themselves off with a filter of system calls of their own, which needs ``NoNewPrivileges`` and no
    other right; compiled guests need memory that becomes executable, so that alone is not forbidden.
    """
    return UNIT.format(
        cell_id=cell_id,
        command=" ".join(quoted(word).replace("$", "$$") for word in command),
        user=getpass.getuser(),
        watchdog_s=WATCHDOG_S,
        final=" ".join(map(str, FINAL_EXIT_CODES)),
        writable=" ".join(dict.fromkeys(quoted(str(path)) for path in writable)),
    )


def quoted(word: str) -> str:
    """A word of a unit's line, where ``%`` has a meaning of its own (and in a command's, ``$`` too)."""
    safe = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{safe}"' if not word or any(letter in word for letter in " \t\"'\\;") else safe
