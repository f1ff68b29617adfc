"""What an emulator that runs as a daemon leaves in its state directory, and whether it still holds.

The lock tells whether an emulator is alive, for the kernel gives it back with the process: a process number that
another program has by now cannot deceive. The file beside it tells where the emulator listens.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.paths import write_private

LOCK_NAME = "emulator.lock"
STATE_NAME = "emulator.json"
LOG_NAME = "emulator.log"


class State(msgspec.Struct, frozen=True):
    """``started_ticks`` is the process' start as ``/proc`` tells it: pid and start together never come again."""

    pid: int
    started_ticks: int
    endpoint: str
    account_id: str
    started_at: float
    schema_version: int = 1


def is_locked(state_dir: Path) -> bool:
    """Whether an emulator is alive with this state directory."""
    try:
        lock = os.open(state_dir / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def write(state_dir: Path, state: State) -> None:
    write_private(state_dir / STATE_NAME, msgspec.json.encode(state))


def load(state_dir: Path) -> State | None:
    """The file's contents, None without a file; ``emulator_invalid`` when it is not an emulator's."""
    path = state_dir / STATE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise GrafosError(
            "emulator_invalid",
            "the emulator's state file cannot be read",
            where=str(path),
            why=str(problem),
            next="stop the emulator's process, remove the file, and start anew",
        ) from problem


def remove(state_dir: Path) -> None:
    (state_dir / STATE_NAME).unlink(missing_ok=True)


def started_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since the host booted; None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def is_alive(state: State) -> bool:
    return started_ticks(state.pid) == state.started_ticks
