"""Runs at home: what a run left, kept in the fabric's home when its scheduler is gone.

$XDG_DATA_HOME/grafos/<fabric>/runs/<run_id>/artifacts.json    the scheduler's whole answer, receipt included
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.ids import RUN_ID_PATTERN
from grafos_core.paths import private_folder, write_private
from grafos_scheduler import messages
from grafos_scheduler.client import SchedulerClient

ENDED = ("finished", "failed", "refused", "expired", "cancelled")


def bring_runs_home(fabric: Fabric, client: SchedulerClient) -> int:
    """Copies every ended run of a scheduler that is not at home yet; how many came."""
    brought = 0
    for view in client.all_runs():
        path = fabric.runs_home / view.run_id / "artifacts.json"
        if view.state not in ENDED or path.exists():
            continue
        try:
            kept = client.artifacts(view.run_id)
        except GrafosError as error:
            if error.code != "artifact_missing":
                raise
            continue
        private_folder(path.parent)
        write_private(path, msgspec.json.encode(kept))
        brought += 1
    return brought


def archived_run(fabric: Fabric, run_id: str) -> messages.Artifacts | None:
    """What is at home of the run, or None; ``artifact_missing`` when it cannot be read."""
    if not RUN_ID_PATTERN.fullmatch(run_id):
        return None
    path = fabric.runs_home / run_id / "artifacts.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=messages.Artifacts)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise GrafosError("artifact_missing", f"What is kept of {run_id} cannot be read", where=str(path)) from error


def archived_runs(fabric: Fabric) -> Iterator[messages.RunView]:
    """Every run at home; one that cannot be read is passed over."""
    for folder in fabric.runs_home.iterdir():
        try:
            kept = archived_run(fabric, folder.name)
        except GrafosError:
            continue
        if kept is not None:
            yield kept.run
