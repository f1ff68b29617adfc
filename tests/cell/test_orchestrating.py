"""The supervisor of an orchestrator's machine: how it ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from grafos_cell.orchestrating import ROWS, OrchestratorSupervisor

PATIENCE_S = 20.0
RUNNER = """
import sys
from pathlib import Path
from grafos_cell.orchestrating import OrchestratorSupervisor
from grafos_cell.standalone import Program
note, folder = sys.argv[1:]
child = f"import os, time; print(os.getpid(), file=open({note!r}, 'a'), flush=True); time.sleep(600)"
program = Program("orchestrator", [sys.executable, "-c", child])
OrchestratorSupervisor([program], 0.0, ["true"], state=Path(folder), software=Path(folder) / "software").run()
"""


def test_it_ends_with_its_program_after_sigterm_and_starts_it_no_more(tmp_path: Path) -> None:
    note = tmp_path / "starts"
    with subprocess.Popen([sys.executable, "-c", RUNNER, str(note), str(tmp_path)]) as running:
        try:
            end = time.monotonic() + PATIENCE_S
            while not (note.exists() and note.read_text().strip()):
                assert time.monotonic() < end
                time.sleep(0.02)
            running.send_signal(signal.SIGTERM)
            assert running.wait(PATIENCE_S) == 0
        finally:
            running.kill()
    [started] = (int(line) for line in note.read_text().split())
    assert not Path(f"/proc/{started}").exists()


def test_what_an_upgrade_left_that_was_cut_off_is_put_back_and_half_a_copy_is_not(tmp_path: Path) -> None:
    rows, kept, part = (tmp_path / name for name in ("scheduler", "rows-before", "rows-before.part"))
    for folder, text in ((rows, "migrated"), (part, "half")):
        folder.mkdir()
        (folder / ROWS[0]).write_text(text)
    supervisor = OrchestratorSupervisor([], 0.0, state=tmp_path, software=tmp_path / "software")
    supervisor.begin()
    assert (rows / ROWS[0]).read_text() == "migrated"
    kept.mkdir()
    (kept / ROWS[0]).write_text("before")
    supervisor.begin()
    assert ((rows / ROWS[0]).read_text(), kept.exists()) == ("before", False)
