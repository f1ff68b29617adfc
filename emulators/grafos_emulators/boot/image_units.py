#!/usr/bin/env python3
"""What the units of a cell's image do at each boot, on an emulated machine, which has no kernel to boot a disk with.

This file is copied into a machine that was made from a published image, and is its first program there. The two
programs that it runs are those of the image; but they come from where the emulator runs, since what is on the disk is
for a kernel and a Python of its own. They read their cloud and their user data as they would on the disk.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

SOFTWARE, FIRMWARE = "GRAFOS_IMAGE_SOFTWARE", "sys/class/dmi/id"
FIRST_BOOT, AGENT = "grafos_cell.first_boot", "grafos_cell.baked"
RESTART_S = 2  # as its unit has it
NOT_AGAIN = (0, 2, 4, 8)  # exit codes after which the unit starts the agent no more
RUN = (
    "import os, runpy, sys; sys.path[:0] = sys.argv[1].split(os.pathsep); sys.argv[:] = sys.argv[2:]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def main() -> int:
    root = Path(os.environ["STATE_DIRECTORY"]).parents[2]
    store = root / "run/credstore"
    told = runs(FIRST_BOOT, "--firmware", str(root / FIRMWARE), "--store", str(store))
    if told:
        return told
    os.environ["CREDENTIALS_DIRECTORY"] = str(store)
    while (ended := runs(AGENT)) not in NOT_AGAIN:
        time.sleep(RESTART_S)
    return ended


def runs(module: str, *arguments: str) -> int:
    software = os.environ[SOFTWARE]
    return subprocess.run([sys.executable, "-I", "-S", "-c", RUN, software, module, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
