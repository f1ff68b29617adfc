"""Teardown of many cells at once: in parallel, each for itself; what fails for one keeps no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from grafos_core.errors import GrafosError
from grafos_stacks.direct import Hands
from grafos_stacks.publishing_end import unpublish
from grafos_stacks.side_by_side import HandsOf, Told, side_by_side
from grafos_stacks.spec import is_image
from grafos_stacks.teardown import TornDownCell, teardown


class Target(NamedTuple):
    """One cell that is to go, or one published image. ``seen``: a listing shows something of it, whatever the records
    say."""

    cell_id: str
    provider: str
    region: str = ""
    seen: bool = False


class Outcome(NamedTuple):
    """What came of one cell: its receipt, or the error that stood in the way."""

    target: Target
    torn: TornDownCell | None
    error: GrafosError | None


def teardown_batch(
    hands: Hands, targets: Sequence[Target], project: Path, told: Told | None = None
) -> tuple[Outcome, ...]:
    """Tears all of them down; an outcome for each, in their order. Raises nothing but ``KeyboardInterrupt``, after
    which every cell's own teardown has stopped where it can go on."""
    provider = hands.connector.provider

    def one(own: HandsOf, target: Target) -> TornDownCell:
        if is_image(target.cell_id):
            return unpublish(own[provider], target.cell_id, target.region, ended=target.seen)
        return teardown(own[provider], target.cell_id, project, target.region, target.provider, seen=target.seen)

    came = side_by_side({provider: hands}, [(target.cell_id, target) for target in targets], one, told)
    return tuple(
        Outcome(target, None, torn) if isinstance(torn, GrafosError) else Outcome(target, torn, None)
        for target, torn in zip(targets, came, strict=True)
    )
