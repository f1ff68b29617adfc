#!/usr/bin/env python3
"""What the units of a cell's image do at each boot, on an emulated machine, which has no kernel to boot a disk with.

This file is copied into a machine that was made from a published image, and is its first program there. The
programs that it runs are those of the image; but they come from where the emulator runs, since what is on the disk is
for a kernel and a Python of its own. They read their cloud and their user data as they would on the disk, and the third
one runs whenever the second asks for another end of the machine.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

SOFTWARE, FIRMWARE = "GRAFOS_IMAGE_SOFTWARE", "sys/class/dmi/id"
FIRST_BOOT, DAEMON, END = "grafos_cell.first_boot", "grafos_cell.baked", "grafos_cell.moving_end"
LOOK_EVERY_S = 0.2  # whether another end was asked for
RESTART_S = 2  # as its unit has it
NOT_AGAIN = (0, 2, 4, 8)  # exit codes after which the unit starts the daemon no more
RUN = (
    "import os, runpy, sys; sys.path[:0] = sys.argv[1].split(os.pathsep); sys.argv[:] = sys.argv[2:]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def main() -> int:
    root = Path(os.environ["STATE_DIRECTORY"]).parents[2]
    run, kept = root / "run", root / "var/lib/private"
    asked = run / "grafos"
    asked.mkdir(exist_ok=True)
    places = ("--run", str(run), "--kept", str(kept))
    told = started(FIRST_BOOT, "--firmware", str(root / FIRMWARE), *places).wait()
    if told:
        return told
    os.environ |= {"CREDENTIALS_DIRECTORY": str(run / "credstore"), "RUNTIME_DIRECTORY": str(asked)}
    while (ended := watched(asked / "end-wanted", places)) not in NOT_AGAIN:
        time.sleep(RESTART_S)
    return ended


def watched(asked: Path, places: tuple[str, ...]) -> int:
    """Runs the daemon to its end, and what moves the machine's end as often as that is asked for."""
    daemon, seen = started(DAEMON), written(asked)
    while daemon.poll() is None:
        time.sleep(LOOK_EVERY_S)
        if (now := written(asked)) != seen:
            seen = now
            started(END, *places).wait()
    return daemon.returncode


def written(asked: Path) -> int:
    """When that was written; 0 if it was not."""
    return asked.stat().st_mtime_ns if asked.exists() else 0


def started(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    software = os.environ[SOFTWARE]
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", RUN, software, module, *arguments])


if __name__ == "__main__":
    sys.exit(main())
