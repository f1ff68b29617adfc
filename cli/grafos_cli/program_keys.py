"""The key of a whole program's run is written down before anything is asked for, as that of a single run is.

Each run of a tasklet has a key that follows from it. So the same command, after whatever stopped it, finds the money
that is held and every run that was begun, and goes on from there: nothing runs or is charged twice.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path

import msgspec

from grafos_cli.project import state_folder
from grafos_cli.run_keys import RUN_KEY_BYTES, digest_of
from grafos_core.paths import write_private_once
from grafos_scheduler.reservation_messages import TTL_S_MAX


class PendingProgram(msgspec.Struct, frozen=True):
    """What is held for it, under which key. ``asked_at`` is Unix seconds."""

    key: str
    micro_cents: int
    ttl_s: float
    asked_at: float

    def run_key(self, tasklet: str, attempt: int) -> str:
        """The run key of the tasklet's n-th attempt."""
        text = f"{self.key}/{tasklet}/{attempt}"
        return hashlib.sha256(text.encode()).hexdigest()[: 2 * RUN_KEY_BYTES]


class ProgramKeys:
    """The programs of one project that are under way, in `.grafos/runs/`; ``asked`` is all that makes two the same."""

    def __init__(self, project: Path, asked: dict[str, object]) -> None:
        self._path = state_folder(project, "runs") / f"program-{digest_of(asked)}.json"

    def find(self) -> PendingProgram | None:
        """The one that was begun and whose end nobody saw, if there is one and its money may still be held."""
        return _read(self._path)

    def begin(self, micro_cents: int, ttl_s: float) -> PendingProgram:
        """A new one, on the disk when this returns; of several commands that begin it at once, all get the same."""
        new = PendingProgram(secrets.token_hex(RUN_KEY_BYTES), micro_cents, ttl_s, time.time())
        for path in self._path.parent.glob("program-*.json"):
            if _read(path) is None:
                path.unlink(missing_ok=True)
        return new if write_private_once(self._path, msgspec.json.encode(new)) else self.find() or new

    def done(self, key: str) -> None:
        """Its end was seen; the next asking is a new one."""
        pending = self.find()
        if pending is None or pending.key == key:
            self._path.unlink(missing_ok=True)


def _read(path: Path) -> PendingProgram | None:
    """None for one whose money nobody can hold any more, and for a file that is none."""
    try:
        pending = msgspec.json.decode(path.read_bytes(), type=PendingProgram)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return pending if time.time() - pending.asked_at < TTL_S_MAX else None
