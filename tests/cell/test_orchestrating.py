"""The supervisor of an orchestrator's machine: how it ends when it is told to."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from grafos_cell.orchestrating import ROWS, OrchestratorSupervisor
from grafos_cell.standalone import Program
from grafos_core.machine_files import RESTORE_FILE

PATIENCE_S = 60.0
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


def test_a_backup_without_keys_takes_no_place_and_a_whole_one_takes_all(tmp_path: Path) -> None:
    about = b'{"fabric":"fab-1","name":"orchestrator","version":"1","made_at":1.0,"store":"sqlite","format":1}'
    trust, rows = tmp_path / "trust", tmp_path / "scheduler"
    for folder, name in ((trust, "ca.pem"), (rows, ROWS[0])):
        folder.mkdir()
        (folder / name).write_text("before")
    supervisor = OrchestratorSupervisor(
        [Program("orchestrator", [])], 0.0, state=tmp_path, software=tmp_path / "software"
    )

    def given(**files: bytes) -> None:
        with tarfile.open(tmp_path / RESTORE_FILE, "w") as archive:
            for name, data in {"about.json": about, **files}.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        supervisor.begin()
        assert not (tmp_path / RESTORE_FILE).exists()

    given(**{"state/scheduler.db": b"after"})
    given(**{"trust/ca.pem": b"after"})
    given(**{"trust/ca.pem": b"after", "state/scheduler.db": b"after", "state/up/../../../out": b"after"})
    assert ((trust / "ca.pem").read_text(), (rows / ROWS[0]).read_text()) == ("before", "before")
    given(**{"trust/ca.pem": b"after", "state/scheduler.db": b"after", "state/blobs/acme/b": b"blob"})
    assert ((trust / "ca.pem").read_text(), (rows / ROWS[0]).read_text()) == ("after", "after")
    assert (rows / "blobs" / "acme" / "b").read_text() == "blob"
    assert {path.stat().st_mode & 0o777 for path in (trust, rows, rows / "blobs" / "acme")} == {0o700}
