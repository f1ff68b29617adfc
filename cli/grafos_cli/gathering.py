"""Runs from everywhere: the schedulers of the fabric that live, and what was brought home from those that do not.

A scheduler that does not answer is a remark where its runs may be at home already, and the error where nothing is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from grafos_cli.cancelling import UNDER_WAY, cancel_and_wait
from grafos_cli.everywhere import Everywhere
from grafos_cli.reach import Reach
from grafos_core.errors import GrafosError
from grafos_core.ids import RUN_ID_PATTERN
from grafos_scheduler import messages
from grafos_stacks.homecoming import kept_artifacts, kept_runs

ALIVE, HOME = "live", "home"


class Gathered(NamedTuple):
    """A run, and whether a live scheduler told of it or the archive."""

    view: messages.RunView
    source: str


def gather_runs(around: Everywhere, limit: int) -> list[Gathered]:
    """The newest runs of the fabric, each once; what a live scheduler says counts more than what is at home."""
    found = {view.run_id: Gathered(view, HOME) for view in kept_runs(around.fabric)}

    def newest_runs(reach: Reach) -> list[messages.RunView]:
        with reach.reader() as client:
            return client.runs(limit=limit).runs

    for _, views in around.ask(newest_runs):
        found |= {view.run_id: Gathered(view, ALIVE) for view in views}
    newest = sorted(found.values(), key=lambda one: (-one.view.created_at, one.view.run_id))
    return newest[:limit]


def find_run(around: Everywhere, run_id: str) -> Gathered:
    """The run, from whoever knows it; ``run_unknown``."""
    for reach, view in _asked(around, run_id):
        del reach
        return Gathered(view, ALIVE)
    return Gathered(_at_home(around, run_id), HOME)


def cancel_run(around: Everywhere, run_id: str) -> tuple[messages.RunView, bool]:
    """The run once it was cancelled, and whether it was still under way when we asked. ``run_unknown``, or
    ``cell_gone`` for one that was under way when its scheduler ended."""
    for reach, view in _asked(around, run_id):
        if view.state not in UNDER_WAY:
            return view, False
        with reach._replace(tenant=view.tenant).client() as client:
            return cancel_and_wait(client, run_id), True
    kept = _at_home(around, run_id)
    if kept.state in UNDER_WAY:
        raise GrafosError(
            "cell_gone",
            f"Run {run_id} was {kept.state} when its cell {kept.cell_id} ended; there is nobody to cancel it",
            next="grafos runs ls",
        )
    return kept, False


def find_artifacts(around: Everywhere, run_id: str) -> tuple[messages.Artifacts, str]:
    """What the run left, and from where; ``run_unknown``, or ``artifact_missing`` for a run that left nothing."""
    for reach, _ in _asked(around, run_id):
        with reach.reader() as client:
            return _of(run_id, client.artifacts(run_id)), ALIVE
    _at_home(around, run_id)
    return _of(run_id, kept_artifacts(around.fabric, run_id)), HOME


def _at_home(around: Everywhere, run_id: str) -> messages.RunView:
    """The run as it was brought home, once nobody who answers knows it."""
    kept = next((view for view in kept_runs(around.fabric) if view.run_id == run_id), None)
    if kept is None:
        unknown = GrafosError("run_unknown", f"There is no run {run_id[:80]!r} in this fabric", next="grafos runs ls")
        raise around.unless_silent(unknown)
    return kept


def _of(run_id: str, left: messages.Artifacts) -> messages.Artifacts:
    """What was asked for, and not what another run left."""
    if left.run.run_id != run_id:
        raise GrafosError("receipt_invalid", f"The answer is of run {left.run.run_id[:60]!r}, not of {run_id}")
    return left


def _asked(around: Everywhere, run_id: str) -> Iterator[tuple[Reach, messages.RunView]]:
    """The schedulers that know the run, with what they say; nobody is asked for what is no run id."""

    def view_of(reach: Reach) -> messages.RunView:
        with reach.reader() as client:
            return client.run(run_id)

    if RUN_ID_PATTERN.fullmatch(run_id):
        yield from around.ask(view_of, "run_unknown")
