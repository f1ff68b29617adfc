"""This project's local fabric, and the emulated clouds of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from grafos_cli.checkups.findings import Finding, Status
from grafos_cli.emulator_here import emulator_folder
from grafos_cli.local_state import LocalFabric, read_local_fabric
from grafos_cli.project import project_folder
from grafos_core.clock import SystemClock
from grafos_core.fabric import open_fabric
from grafos_emulators import daemon, state
from grafos_stacks.records import OPERATOR, CellHome

LOCAL = "local fabric"
EMULATOR = "emulator"


def check_local_fabric() -> Iterator[Finding]:
    """Whether the daemons of this project's `dev up` run and answer as the ones that were started."""
    record = read_local_fabric(project_folder())
    if record is None:
        yield Finding(LOCAL, "daemons", Status.NONE, "none runs in this project")
        return
    dead = [one.name for one in record.daemons if not one.is_alive]
    if dead:
        what = f"the {' and the '.join(dead)} daemon died"
        log = next(one.log for one in record.daemons if one.name == dead[0])
        yield Finding(
            LOCAL, "daemons", Status.FAIL, f"{what}; its log is {log}", "grafos dev up  goes on with its state"
        )
        return
    yield Finding(LOCAL, "daemons", Status.OK, f"{len(record.daemons)} run at {record.scheduler_url}")
    if record.ready:
        yield _answers(record)
    if record.ending:
        yield Finding(LOCAL, "ending", Status.WARN, "a dev down was interrupted: no run is admitted", "grafos dev up")


def _answers(record: LocalFabric) -> Finding:
    """Over mTLS, as any command asks; another program on the port shows another certificate."""
    home = CellHome(open_fabric(SystemClock()), record.cell_id)
    with home.client(OPERATOR, record.scheduler_url) as client:
        cells = client.cells()
    unmet = sorted(name for cell in cells for name, signal in cell.readiness.items() if not signal.met)
    if unmet:
        what = f"not ready: {', '.join(unmet)}"
        return Finding(LOCAL, "cell", Status.WARN, what, "grafos dev down, then grafos dev up")
    return Finding(LOCAL, "cell", Status.OK, f"{record.cell_id} answers and is ready")


def check_emulator(*, fix: bool) -> Iterator[Finding]:
    """Whether one runs, and whether a dead one left something."""
    folder = emulator_folder()
    info = daemon.read(folder)
    if info is not None:
        yield Finding(EMULATOR, "daemon", Status.OK, f"runs at {info.endpoint}")
    elif _left_something(folder):
        yield _cleared(folder, fix=fix)
    else:
        yield Finding(EMULATOR, "daemon", Status.NONE, "none runs")


def _left_something(folder: Path) -> bool:
    return (folder / state.STATE_NAME).exists() and not state.is_locked(folder)


def _cleared(folder: Path, *, fix: bool) -> Finding:
    if not fix:
        what = "one was killed and left its file and perhaps machines"
        return Finding(EMULATOR, "daemon", Status.WARN, what, "grafos doctor --fix, or grafos emulate down")
    daemon.stop(folder)
    return Finding(EMULATOR, "daemon", Status.FIXED, "what a killed one left is removed")
