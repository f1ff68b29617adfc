"""The files by which a machine's supervisor and the scheduler that it runs tell each other things.

All of them are in the machine's folder. What the scheduler writes is asked for, and what the supervisor, which is root,
writes is so:

    end-wanted, end       Unix seconds: when the machine is to end, and when its timer makes it end
    software-wanted       the SHA-256 of the bundle that is to run
    software-in-use       the one that runs
    software-refused      the one that was tried and given up, and why
    restore.tar           a backup that is to take the place of all there is
"""

from __future__ import annotations

import os
from pathlib import Path

END_WANTED_FILE, END_FILE = "end-wanted", "end"
SOFTWARE_WANTED_FILE, SOFTWARE_FILE, SOFTWARE_REFUSED_FILE = "software-wanted", "software-in-use", "software-refused"
RESTORE_FILE = "restore.tar"
DIGITS_MAX = 12
"""Of Unix seconds; enough for thirty thousand years."""


def moment_text(at: float) -> bytes:
    """What a file says that names a moment (Unix seconds)."""
    return f"{at:.0f}\n".encode()


def read_moment(path: Path) -> int:
    """The Unix seconds in the file; 0 if there is none, or something else in it. Root reads what a program without
    rights wrote: it waits for nobody at a pipe, follows no link, and reads no more than a moment takes."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            text = os.read(file, DIGITS_MAX + 1).decode("ascii", "replace").strip()
        finally:
            os.close(file)
    except OSError:
        return 0
    return int(text) if text.isdecimal() and len(text) <= DIGITS_MAX else 0
