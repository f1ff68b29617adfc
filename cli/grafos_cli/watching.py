"""`grafos dev watch`: notices a saved file, builds, runs, shows the answer, and waits for the next one.

Files are looked at by their times and sizes, a few times a second. A program is some dozen files, so that costs a
thousandth of a core; it needs no library, and it works where the system's own notices do not come: on network and
container mounts, and for editors that write a new file in the old one's place.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from grafos_core.errors import GrafosError

LOOK_EVERY_S = 0.1
QUIET_S = 0.1
"""How long nothing must have changed: a save is often several writes, and a branch switch many."""
QUIET_S_MAX = 3.0
"""Whatever goes on for longer is built as it is then."""
FILES_MAX = 20_000
LEFT_OUT = ("target", "zig-out", "node_modules", "__pycache__")
"""Folders that builds fill; so is whatever begins with a dot, our own `.grafos` among it."""

OUTPUTS = (1, 2)
"""The descriptors of stdout and stderr."""

Sight = dict[str, tuple[int, int]]
"""Each file with its time (nanoseconds) and size."""


def sight_of(folder: Path) -> Sight:
    """All files of a program but for those that this process itself writes its words to, each of which would be a
    change to tell of; ``limit_exceeded`` for a folder that is none."""
    found: Sight = {}
    own = _own_outputs()
    for entry in _files(folder):
        try:
            stat = entry.stat()
        except OSError:
            continue  # gone meanwhile
        if (stat.st_dev, stat.st_ino) in own:
            continue
        found[entry.path] = (stat.st_mtime_ns, stat.st_size)
        if len(found) > FILES_MAX:
            raise GrafosError(
                "limit_exceeded",
                f"There are more than {FILES_MAX:,} files to watch",
                where=str(folder),
                next="name the program's own folder: grafos dev watch PROGRAM",
            )
    return found


def _own_outputs() -> set[tuple[int, int]]:
    """What stdout and stderr are written to, by device and number there."""
    found = set()
    for descriptor in OUTPUTS:
        with contextlib.suppress(OSError):  # closed by whoever started us
            stat = os.fstat(descriptor)
            found.add((stat.st_dev, stat.st_ino))
    return found


def _files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in LEFT_OUT:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif entry.is_file():
            yield entry


def changed_names(before: Sight, after: Sight, folder: Path) -> list[str]:
    """The files that came, went or differ, as the person knows them."""
    names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return sorted(os.path.relpath(name, folder) for name in names)


class Watch(NamedTuple):
    """``look`` gives the files as they are; time and waiting are arguments, so that a test needs neither."""

    look: Callable[[], Sight]
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep

    def next_change(self, before: Sight) -> Sight:
        """Waits until something differs from ``before`` and then keeps still; gives the files as they are then."""
        seen = self.look()
        while seen == before:
            self.sleep(LOOK_EVERY_S)
            seen = self.look()
        began = self.now()
        while self.now() - began < QUIET_S_MAX:
            self.sleep(QUIET_S)
            again = self.look()
            if again == seen:
                break
            seen = again
        return seen
