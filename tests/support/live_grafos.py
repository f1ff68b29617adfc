"""The command line as it is, with every cloud's answers recorded: ``python live_grafos.py cloud provision gcp …``."""

from __future__ import annotations

import sys

from live_recordings import Recorder, folder_named
from live_tap import recording

from grafos_cli.main import run

RECORD_VARIABLE = "GRAFOS_LIVE_RECORD"

if __name__ == "__main__":
    folder = folder_named(RECORD_VARIABLE)
    assert folder is not None, f"{RECORD_VARIABLE} names no folder"
    with recording(Recorder(folder)):
        sys.exit(run(sys.argv[1:]))
