"""This machine: its Python, its disk, its clock."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from grafos_cli.checkups.findings import Finding, Status
from grafos_core.paths import data_home

AREA = "machine"
FREE_BYTES_LOW, FREE_BYTES_MIN = 1 << 30, 64 << 20
"""Software bundles, modules and ledgers take some hundred MB; below the second, a commit may fail half-way."""
CLOCK_FILES = ("ledger.db", "journal.db", "fabric.json")
CLOCK_TOLERANCE_S = 60.0
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
"""Made by systemd's time service when it has reached a server."""


def check_machine() -> Iterator[Finding]:
    """Python, room on the disk, and whether the clock can be believed as far as this machine itself knows."""
    yield Finding(AREA, "python", Status.OK, f"{platform.python_version()} on {platform.machine()}")
    yield _room(_existing(data_home()))
    yield _clock()


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    what = f"{free / (1 << 30):.1f} GiB free where grafos keeps its data ({folder})"
    if free >= FREE_BYTES_LOW:
        return Finding(AREA, "disk", Status.OK, what)
    status = Status.WARN if free >= FREE_BYTES_MIN else Status.FAIL
    return Finding(AREA, "disk", status, what, "make room: a ledger that cannot be written refuses every provision")


def _clock() -> Finding:
    """Nothing of ours can be younger than now."""
    homes = data_home()
    files = [home / name for home in homes.glob("*") for name in CLOCK_FILES] if homes.is_dir() else []
    newest = max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
    ahead_s = newest - time.time()
    if ahead_s > CLOCK_TOLERANCE_S:
        what = f"the clock was set back: a file of the fabric is {ahead_s:.0f} s younger than now"
        return Finding(AREA, "clock", Status.FAIL, what, "set the clock; leases, tokens and expiries are told by it")
    by = "kept by systemd-timesyncd" if SYNCHRONISED.exists() else "nothing here contradicts it"
    return Finding(AREA, "clock", Status.OK, by)
