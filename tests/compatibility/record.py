"""Makes what is kept here of an older version: its database, and the frames that its agent says. Rarely run.

    python tests/compatibility/record.py COMMIT NAME [--orchestrator]

The commit's files go into a temporary folder, and its own code plays one small story there (`older_story.py`): a
scheduler that is claimed, a tenant, a run that finishes on a real cell, one that is refused, and one under way when all
is killed. What is kept is `NAME.db`, `NAME.json` (what must be found in it) and, of a cell's version,
`NAME-frames.json`. Of that version's tests only what does not change from one commit to the next is used.
"""

from __future__ import annotations

import argparse
import io
import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROOMS = ("core", "scheduler", "cell")
CELL_STORY, ORCHESTRATOR_STORY = "cell", "orchestrator"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("name")
    parser.add_argument("--orchestrator", action="store_true", help="the story of an orchestrator, not of a cell")
    asked = parser.parse_args()
    mode = ORCHESTRATOR_STORY if asked.orchestrator else CELL_STORY
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        archive = subprocess.run(["git", "archive", asked.commit], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(tree, filter="data")
        path = os.pathsep.join(str(tree / room) for room in (*ROOMS, "tests/support"))
        played = Path(folder) / "played"
        played.mkdir()
        command = [sys.executable, str(HERE / "older_story.py"), mode, str(played)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path}, cwd=tree)
        (HERE / f"{asked.name}.db").unlink(missing_ok=True)
        with sqlite3.connect(played / "state" / "scheduler.db") as database:
            database.execute("VACUUM INTO ?", (str(HERE / f"{asked.name}.db"),))
        for made, kept in (("found.json", ""), ("frames.json", "-frames")):
            if (played / made).exists():
                (HERE / f"{asked.name}{kept}.json").write_text((played / made).read_text())


if __name__ == "__main__":
    main()
