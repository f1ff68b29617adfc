"""Moves the timer that ends a baked machine, when the supervisor of its daemons asks for that.

    python3 -m grafos_cell.moving_end        as root, whenever ``end-wanted`` was written

    /run/grafos/end-wanted             Unix seconds; the supervisor, which has no rights, asks for them
    /var/lib/private/grafos-end/end    what holds, also after a reboot
    /run/grafos-end/end                the same, for the supervisor to read

No end is taken that lies past the last moment that the machine was born with, whatever the daemons ask for.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from grafos_cell.baked import CREDENTIAL, Told, read_told
from grafos_cell.ending import set_timer, write_moment
from grafos_core.errors import GrafosError
from grafos_core.machine_files import END_FILE, END_WANTED_FILE, moment_text, read_moment
from grafos_core.paths import write_private
from grafos_core.program import say

RUN, KEPT = Path("/run"), Path("/var/lib/private")
ENDS = "grafos-end"
"""The folder below both in which root keeps the end and tells it."""
ASKS = "grafos"
"""Below the first: the runtime folder that systemd gives the daemons' unit."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the end is where it was asked to be, or stays for good; 1 when the timer could not be moved."""
    parser = argparse.ArgumentParser(prog="grafos_cell.moving_end", allow_abbrev=False)
    parser.add_argument("--run", type=Path, default=RUN, help="the folder of what runs")
    parser.add_argument("--kept", type=Path, default=KEPT, help="the folder of what outlives a reboot")
    given = parser.parse_args(arguments)
    try:
        told = read_told((Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / CREDENTIAL).read_bytes())
    except (OSError, GrafosError) as error:
        say(f"this machine was not told when it ends: {error}")
        return 1
    wanted = read_moment(given.run / ASKS / END_WANTED_FILE)
    at, at_most = end_of(told, given.kept), latest_of(told)
    if not wanted or wanted > at_most:
        say(f"an end at {wanted} is not taken: this machine ends at {at_most} at the latest")
        return 0
    if wanted != at and not set_timer(wanted, at, say):
        return 1
    note_end(wanted, given.run, given.kept)
    return 0


def end_of(told: Told, kept: Path = KEPT) -> int:
    """When the machine ends: as it was born, or where that was moved to before a reboot."""
    moved = read_moment(kept / ENDS / END_FILE)
    return moved if 0 < moved <= latest_of(told) else told.timer_at


def latest_of(told: Told) -> int:
    """The latest end that is taken; 0 where nobody moves it."""
    return told.serves.ends_at_most if told.serves is not None else 0


def note_end(at: int, run: Path, kept: Path | None = None) -> None:
    """Keeps the end, where it has moved, before it is told: whoever hears of it may count on it."""
    try:
        if kept is not None:
            (kept / ENDS).mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(kept / ENDS / END_FILE, moment_text(at))
        (run / ENDS).mkdir(mode=0o755, parents=True, exist_ok=True)
        (run / ENDS).chmod(0o755)
        write_moment(run / ENDS / END_FILE, at)
    except OSError as error:
        say(f"the machine ends at {at}, and that cannot be noted: {error}")


if __name__ == "__main__":
    sys.exit(main())
