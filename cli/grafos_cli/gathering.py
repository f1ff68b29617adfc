"""Runs from everywhere: the schedulers of the fabric that live, and what was brought home from those that do not.

A scheduler that does not answer is a remark, never a failure: its runs may be at home already.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from grafos_cli.cancelling import UNDER_WAY, cancel_and_wait
from grafos_cli.reach import Reach, known_reaches
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.ids import RUN_ID_PATTERN
from grafos_scheduler import messages
from grafos_stacks.homecoming import kept_artifacts, kept_runs

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal

ALIVE, HOME = "live", "home"


class Gathered(NamedTuple):
    """A run, and whether a live scheduler told of it or the archive."""

    view: messages.RunView
    source: str


def gather_runs(fabric: Fabric, project: Path, terminal: Terminal, limit: int) -> list[Gathered]:
    """The newest runs of the fabric, each once; what a live scheduler says counts more than what is at home."""
    found = {view.run_id: Gathered(view, HOME) for view in kept_runs(fabric)}
    for view in _live_runs(fabric, project, terminal, limit):
        found[view.run_id] = Gathered(view, ALIVE)
    newest = sorted(found.values(), key=lambda one: (-one.view.created_at, one.view.run_id))
    return newest[:limit]


def _live_runs(fabric: Fabric, project: Path, terminal: Terminal, limit: int) -> Iterator[messages.RunView]:
    for reach in known_reaches(fabric, project, terminal):
        try:
            with reach.reader() as client:
                yield from client.runs(limit=limit).runs
        except GrafosError as error:
            terminal.note(f"note: {reach.cell_id} at {reach.url} could not be asked: {error.what}")


def find_run(fabric: Fabric, project: Path, run_id: str, terminal: Terminal) -> Gathered:
    """The run, from whoever knows it; ``run_unknown``."""
    for reach, view in _asked(fabric, project, run_id, terminal):
        del reach
        return Gathered(view, ALIVE)
    kept = next((view for view in kept_runs(fabric) if view.run_id == run_id), None)
    if kept is None:
        raise GrafosError("run_unknown", f"There is no run {run_id[:80]!r} in this fabric", next="grafos runs ls")
    return Gathered(kept, HOME)


def cancel_run(fabric: Fabric, project: Path, run_id: str, terminal: Terminal) -> tuple[messages.RunView, bool]:
    """The run once it was cancelled, and whether it was still under way when we asked. ``run_unknown``, or
    ``cell_gone`` for one that was under way when its scheduler ended."""
    for reach, view in _asked(fabric, project, run_id, terminal):
        if view.state not in UNDER_WAY:
            return view, False
        with reach._replace(tenant=view.tenant).client() as client:
            return cancel_and_wait(client, run_id), True
    kept = find_run(fabric, project, run_id, terminal).view
    if kept.state in UNDER_WAY:
        raise GrafosError(
            "cell_gone",
            f"Run {run_id} was {kept.state} when its cell {kept.cell_id} ended; there is nobody to cancel it",
            next="grafos runs ls",
        )
    return kept, False


def find_artifacts(fabric: Fabric, project: Path, run_id: str, terminal: Terminal) -> tuple[messages.Artifacts, str]:
    """What the run left, and from where; ``run_unknown``, or ``artifact_missing`` for a run that left nothing."""
    for reach, _ in _asked(fabric, project, run_id, terminal):
        with reach.reader() as client:
            return _of(run_id, client.artifacts(run_id)), ALIVE
    return _of(run_id, kept_artifacts(fabric, run_id)), HOME


def _of(run_id: str, left: messages.Artifacts) -> messages.Artifacts:
    """What was asked for, and not what another run left."""
    if left.run.run_id != run_id:
        raise GrafosError("receipt_invalid", f"The answer is of run {left.run.run_id[:60]!r}, not of {run_id}")
    return left


def _asked(fabric: Fabric, project: Path, run_id: str, terminal: Terminal) -> Iterator[tuple[Reach, messages.RunView]]:
    """The schedulers that know the run, with what they say; nobody is asked for what is no run id."""
    if not RUN_ID_PATTERN.fullmatch(run_id):
        return
    for reach in known_reaches(fabric, project, terminal):
        try:
            with reach.reader() as client:
                view = client.run(run_id)
        except GrafosError as error:
            if error.code != "run_unknown":
                terminal.note(f"note: {reach.cell_id} at {reach.url} could not be asked: {error.what}")
            continue
        yield reach, view
