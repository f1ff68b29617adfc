"""Starts a program that goes on when the command has ended, and ends it later, surely it and no other.

A process is known by its number and its start time together, so a number that another program has by now deceives
nobody.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from grafos_core.errors import GrafosError
from grafos_emulators.state import started_ticks

NOT_FOR_DAEMONS = ("ARM_", "AWS_", "AZURE_", "CLOUDSDK_", "GOOGLE_")
"""Variables of clouds: a cell is a guest without rights, and has no use for them."""
STOP_S_MAX = 8.0
"""What a daemon gets to end in good order before it is killed."""
ASK_EVERY_S = 0.01
LOG_TAIL_BYTES = 1500


class Daemon(msgspec.Struct, frozen=True):
    """A running program. ``started_ticks`` is its start in clock ticks since the machine booted; its words in the log,
    which others may have begun, stand from byte ``log_from`` on."""

    name: str
    pid: int
    started_ticks: int
    log: str
    log_from: int = 0

    @property
    def is_alive(self) -> bool:
        """Whether this very process is still there."""
        return started_ticks(self.pid) == self.started_ticks and not _is_zombie(self.pid)


def start_daemon(name: str, module: str, arguments: Sequence[str], log: Path, pass_fds: Sequence[int] = ()) -> Daemon:
    """Starts `python -m module …` in a session of its own, so that Ctrl-C at the command does not reach it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_FOR_DAEMONS)}
    with log.open("ab") as out:
        log_from = out.tell()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    # It goes on without us: nobody waits for it, and nobody needs to be warned of that.
    process.returncode = 0
    return Daemon(name, process.pid, started_ticks(process.pid) or 0, str(log), log_from)


def stop_daemons(daemons: Sequence[Daemon]) -> None:
    """SIGTERM to all, SIGKILL to what is left after a while; returns when none of them is alive."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for daemon in daemons:
            _signal(daemon, number)
        deadline = time.monotonic() + STOP_S_MAX
        while time.monotonic() < deadline:
            if not any(daemon.is_alive for daemon in daemons):
                return
            time.sleep(ASK_EVERY_S)
    left = ", ".join(f"{daemon.name} (process {daemon.pid})" for daemon in daemons if daemon.is_alive)
    raise GrafosError("internal", f"A process does not end: {left}", next="end it by hand: kill -9 PID")


def daemons_that_name(argument: str, modules: Sequence[str]) -> list[Daemon]:
    """Our programs whose command line has an argument that begins with ``argument``; for when no record tells."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        module = next((module for module in modules if module in words), "")
        if module and any(word.startswith(argument) for word in words):
            found.append(Daemon(module, int(entry.name), started_ticks(int(entry.name)) or 0, ""))
    return found


def last_words(daemon: Daemon) -> str:
    """The end of its log."""
    try:
        said = Path(daemon.log).read_bytes()[daemon.log_from :]
        return said[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
    except OSError:
        return ""


def _signal(daemon: Daemon, number: signal.Signals) -> None:
    try:
        handle = os.pidfd_open(daemon.pid)
    except ProcessLookupError:
        return
    try:
        if daemon.is_alive:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass  # it ended meanwhile
    finally:
        os.close(handle)


def _is_zombie(pid: int) -> bool:
    """Ended, and not yet waited for by whoever started it (this very command, when it is quick)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat[stat.rindex(b")") + 2 :].split()[0] == b"Z"
