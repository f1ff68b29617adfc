"""The supervisor of an orchestrator's machine: how it ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

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
