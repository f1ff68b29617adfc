"""Whether the record of a local fabric still tells the truth: about its processes, its folder and the clock.

The processes may have ended, and others may bear their numbers by now; the project may have been moved or copied while
they ran; the clock may have been set. Nothing here asks the fabric itself: that is ``dev_doctor``.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from grafos_cli.daemons import Daemon, last_words
from grafos_cli.local_state import LocalFabric, dev_folder, read_local_fabric
from grafos_core.errors import GrafosError
from grafos_emulators.state import started_ticks

CLOCK_TOLERANCE_S = 30.0
"""Between starting the scheduler and writing its record; leases are told by the clock to a few seconds."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

GO_ON = "grafos dev up  (it goes on with the state that is on disk)"
ANEW = "grafos dev down, then grafos dev up"
DISCARD = "grafos dev down --discard  (its runs that are not at home are lost), then grafos dev up"
_DAMAGE = re.compile(r"error\[(store_invalid|schema_newer)\]:(.*)")
"""What a daemon says as it ends when no further start can help it."""


class Trouble(NamedTuple):
    """``name`` is what it is about: folder, clock, or a daemon's name. ``stops``: nothing can be run as it is."""

    name: str
    what: str
    next: str
    stops: bool = True


class Damage(NamedTuple):
    """Why a daemon could not use its state: the error's code and its words."""

    code: str
    why: str


def check(record: LocalFabric, project: Path) -> None:
    """``runtime_not_ready`` with the first trouble that stops the fabric from being used."""
    for trouble in troubles(record, project):
        if trouble.stops:
            where = str(dev_folder(project))
            raise GrafosError("runtime_not_ready", trouble.what, where=where, next=trouble.next)


def troubles(record: LocalFabric, project: Path) -> Iterator[Trouble]:
    """All that is wrong, what comes first being the reason of what follows."""
    if is_copy(record, project):
        what = f"This project is a copy of another, whose local fabric runs for {record.folder}"
        yield Trouble("folder", what, "grafos dev up  (it makes this copy a fabric of its own)")
        return
    dead = [daemon for daemon in record.daemons if not daemon.is_alive]
    if dead:
        names = " and ".join(daemon.name for daemon in dead)
        yield Trouble(dead[0].name, f"The local fabric has crashed: its {names} ended{_reused(dead)}", way_on(dead))
        return
    if is_moved(record, project):
        what = f"The project was moved while its local fabric ran; it was in {record.folder}"
        yield Trouble("folder", what, "grafos dev up  (it goes on in the new place)")
    if clock := clock_text(clock_moved_s(record, time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))):
        yield Trouble("clock", clock, f"set the clock; if that was right: {ANEW}", stops=False)


def damage_of(daemon: Daemon) -> Damage | None:
    """The last such words of its log, or None when it ended of something else."""
    found = _DAMAGE.findall(last_words(daemon))
    return Damage(found[-1][0], found[-1][1].strip()) if found else None


def way_on(dead: list[Daemon]) -> str:
    """The step after daemons have ended: they go on with their state, unless one of them cannot use its own."""
    return DISCARD if any(damage_of(daemon) for daemon in dead) else GO_ON


def is_moved(record: LocalFabric, project: Path) -> bool:
    """Whether the fabric was started for another folder than the one that the record is in now."""
    return bool(record.folder) and Path(record.folder) != dev_folder(project)


def is_copy(record: LocalFabric, project: Path) -> bool:
    """Whether that other folder is still there with the same record: then its processes are not ours to touch."""
    if not is_moved(record, project):
        return False
    try:
        original = read_local_fabric(Path(record.folder).parents[1])
    except GrafosError:
        return False
    return original is not None and original.folder == record.folder and original.cell_id == record.cell_id


def clock_moved_s(record: LocalFabric, now: float, since_boot_s: float) -> float:
    """By how much the clock was set since the scheduler started, in seconds; below 0 if it was set back. Pure.

    The scheduler's start is known by the clock, and in ticks since the machine booted, which nobody can set.
    """
    ran_s = since_boot_s - record.daemons[0].started_ticks / TICKS_PER_S
    return (now - record.started_at) - ran_s


def clock_text(moved_s: float) -> str:
    """Words for a clock that was set; empty for one that was not."""
    if abs(moved_s) <= CLOCK_TOLERANCE_S:
        return ""
    how = "forward" if moved_s > 0 else "back"
    return f"The clock was set {how} by {abs(moved_s):,.0f} s since the local fabric started"


def _reused(dead: list[Daemon]) -> str:
    """Which of the numbers other programs have by now."""
    others = [(daemon.pid, program) for daemon in dead if (program := reused_by(daemon))]
    return "".join(f" (process {pid} is another program now: {program})" for pid, program in others)


def reused_by(daemon: Daemon) -> str:
    """The name of the program that has a dead daemon's number by now, or nothing. One that nobody has waited for yet
    still has it itself."""
    return program_of(daemon.pid) if started_ticks(daemon.pid) not in (None, daemon.started_ticks) else ""


def program_of(pid: int) -> str:
    """The name of the program that has this number, or nothing."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""
