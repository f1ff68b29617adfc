"""The run key is written down before the run is asked for.

When the answer is lost (the connection broke, the command was killed) the same command finds the same key here, and
the scheduler sees the same run: it neither runs nor charges twice. Once a person has seen how the run ended the key
is dropped, so asking again on purpose is a new run.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import msgspec

from grafos_cli.project import state_folder
from grafos_core.paths import write_private_once

RUN_KEY_BYTES = 16
KEPT_S = 7 * 86400
"""A key older than this belongs to a run that nobody asks about any more."""


class Place(msgspec.Struct, frozen=True):
    """Where a run was asked for that may go to any of several schedulers: which one, of which fabric, for which
    provider, and by the name of a cell if it has several."""

    fabric: str
    scheduler: str
    provider: str
    pin: str


class PendingRun(msgspec.Struct, frozen=True):
    """What was asked for, by everything that makes two askings the same one. ``cell_id`` is the scheduler's name where
    there is only one to ask, else ``place`` is the one that was."""

    run_key: str
    program: str
    tasklet: str
    module_sha256: str
    input_sha256: str
    fuel: int
    memory_bytes: int
    lease_mem_bytes: int
    deadline_s: float
    asked_at: float
    lease_block_bytes: int = 0
    cell_id: str = ""
    place: Place | None = None


def digest_of(asked: dict[str, object]) -> str:
    """Names the file of what is asked for: the same for the same asking."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


class RunKeys:
    """The pending runs of one project, in `.grafos/runs/`."""

    def __init__(self, project: Path) -> None:
        self._folder = state_folder(project, "runs")

    def key_for(self, asked: dict[str, object], chance_hex: str, place: Place | None = None) -> PendingRun:
        """The pending run of this very asking, if there is one, else a new one that is on disk when this returns.

        Two commands that ask at once get the same, and so the same place.
        """
        self._drop_old()
        path = self._path(asked)
        new = msgspec.convert({**asked, "run_key": chance_hex, "asked_at": time.time(), "place": place}, PendingRun)
        # A file that is there and is none, and cannot be removed, counts for nothing here too.
        is_ours = write_private_once(path, msgspec.json.encode(new))
        return new if is_ours else _read(path) or new

    def find(self, asked: dict[str, object]) -> PendingRun | None:
        """The pending run of this very asking, if there is one."""
        return _read(self._path(asked))

    def done(self, asked: dict[str, object], run_key: str) -> None:
        """The end of that run was seen; the next asking is a new one."""
        pending = _read(self._path(asked))
        if pending is not None and pending.run_key == run_key:
            self._path(asked).unlink(missing_ok=True)

    def _path(self, asked: dict[str, object]) -> Path:
        return self._folder / f"pending-{digest_of(asked)}.json"

    def _drop_old(self) -> None:
        for path in self._folder.glob("pending-*.json"):
            pending = _read(path)
            if pending is None or time.time() - pending.asked_at > KEPT_S:
                path.unlink(missing_ok=True)


def _read(path: Path) -> PendingRun | None:
    """A file that is not one counts for nothing: the worst that follows is a second run under a new key."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=PendingRun)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
