"""What was begun under a key and whose end nobody has seen yet: on the disk before anything is asked for.

The same command, after whatever stopped it, finds the key here, and the scheduler sees the same asking: nothing is done
or charged twice. Single runs have ``run_keys``, which know the place as well.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from grafos_cli.project import state_folder
from grafos_cli.run_keys import digest_of
from grafos_core.paths import write_private_once


class Pending(Protocol):
    """``asked_at`` is Unix seconds."""

    @property
    def key(self) -> str: ...
    @property
    def asked_at(self) -> float: ...


Kind = TypeVar("Kind", bound=Pending)


class PendingFile(Generic[Kind]):
    """One asking of a project, in `.grafos/runs/`. ``asked`` is all that makes two the same; after ``kept_s`` nobody
    asks about it any more."""

    def __init__(self, project: Path, name: str, asked: dict[str, object], kind: type[Kind], kept_s: float) -> None:
        self._path = state_folder(project, "runs") / f"{name}-{digest_of(asked)}.json"
        self._name, self._kind, self._kept_s = name, kind, kept_s

    def find(self) -> Kind | None:
        """The one that was begun and whose end nobody saw, if there is one."""
        return _read(self._path, self._kind, self._kept_s)

    def begin(self, new: Kind) -> Kind:
        """A new one, on the disk when this returns; of several commands that begin it at once, all get the same."""
        for path in self._path.parent.glob(f"{self._name}-*.json"):
            if _read(path, self._kind, self._kept_s) is None:
                path.unlink(missing_ok=True)
        return new if write_private_once(self._path, msgspec.json.encode(new)) else self.find() or new

    def done(self, key: str) -> None:
        """Its end was seen; the next asking is a new one."""
        pending = self.find()
        if pending is None or pending.key == key:
            self._path.unlink(missing_ok=True)


def forget(project: Path, name: str, kind: type[Kind], key: str) -> None:
    """The same for whoever knows the key, and not what was asked for."""
    for path in state_folder(project, "runs").glob(f"{name}-*.json"):
        pending = _read(path, kind, float("inf"))
        if pending is not None and pending.key == key:
            path.unlink(missing_ok=True)


def _read(path: Path, kind: type[Kind], kept_s: float) -> Kind | None:
    """None for one that is too old, and for a file that is none: the worst that follows is a second asking."""
    try:
        pending = msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return pending if time.time() - pending.asked_at < kept_s else None
