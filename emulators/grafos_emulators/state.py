"""What an emulator that runs as a daemon leaves in its state directory, and whether it still holds.

The lock tells whether an emulator is alive, for the kernel gives it back with the process: a process number that
another program has by now cannot deceive. The file beside it tells where the emulator listens.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.paths import PRIVATE_FOLDER, private_folder, write_private

LOCK_NAME = "emulator.lock"
STATE_NAME = "emulator.json"
LOG_NAME = "emulator.log"
MACHINES_NAME, CONSOLES_NAME = OWN_FOLDERS = ("machines", "consoles")  # emptied when an emulator starts
LOCK_TRIES, LOCK_PAUSE_S = 20, 0.005


class State(msgspec.Struct, frozen=True):
    """``started_ticks`` is the process' start as ``/proc`` tells it: pid and start together never come again."""

    pid: int
    started_ticks: int
    endpoint: str
    account_id: str
    started_at: float
    schema_version: int = 1


def take(state_dir: Path) -> int:
    """Takes the state directory for the calling process and gives the lock, a file descriptor; made if it is missing.

    The kernel lets go of it when the process ends, however it ends. Errors: ``emulator_running`` when another emulator
    has it; ``emulator_invalid`` when it is not our own, or holds folders that no emulator made: an emulator empties its
    folders, and must not do that to anybody's files.
    """
    _check_own(private_folder(state_dir))
    path = state_dir / LOCK_NAME
    foreign = [] if path.exists() else [name for name in OWN_FOLDERS if os.path.lexists(state_dir / name)]
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(lock, state_dir)
        if foreign:
            path.unlink()
            raise GrafosError(
                "emulator_invalid",
                f"the directory holds {' and '.join(foreign)}, made by no emulator",
                where=str(state_dir),
                next="choose another state directory",
            )
        state_dir.chmod(PRIVATE_FOLDER)  # it may have been there before
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_own(state_dir: Path) -> None:
    owner = state_dir.stat().st_uid
    if owner != os.geteuid():
        raise GrafosError(
            "emulator_invalid",
            f"the state directory is the user {owner}'s, and you are {os.geteuid()}",
            where=str(state_dir),
            next="choose another state directory, or be that user",
        )


def _lock(lock: int, state_dir: Path) -> None:
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)  # whoever only looks holds it for some microseconds
        else:
            return
    raise GrafosError(
        "emulator_running",
        "an emulated cloud runs already with this state directory",
        where=str(state_dir),
        next="use the one that runs (grafos emulate status) or stop it (grafos emulate down)",
    )


def is_locked(state_dir: Path) -> bool:
    """Whether an emulator is alive with this state directory; ``emulator_invalid`` when that is another user's."""
    try:
        lock = os.open(state_dir / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as problem:
        raise GrafosError(
            "emulator_invalid",
            "the state directory is another user's",
            where=str(state_dir),
            why=str(problem),
            next="be the user who started the emulator",
        ) from problem
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
