"""The guard rails that are among the settings of a person or of their machine; see ``grafos_stacks.rails``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafos_cli.settings import value_of
from grafos_cli.sizes import read_duration
from grafos_cli.wishes import words
from grafos_core.errors import GrafosError
from grafos_stacks.candidates import Candidate, ordered
from grafos_stacks.rails import Rails

if TYPE_CHECKING:
    from collections.abc import Iterable


def rails_here() -> Rails:
    """As the settings have them."""
    longest = value_of("longest_ttl")
    return Rails(
        regions=words(value_of("allowed_regions")),
        types=words(value_of("allowed_types")),
        ttl_s=read_duration("longest_ttl", longest) if longest else 0,
        cells=int(value_of("most_cells") or 0),
        cents_per_hour=int(value_of("most_cents_per_hour") or 0),
    )


def within_rails(candidates: Iterable[Candidate], count: int) -> tuple[Candidate, ...]:
    """The same, each with what the guard rails bar of ``count`` cells there among its refusals."""
    rails = rails_here()
    return ordered(one._replace(refusals=(*one.refusals, *_barred(rails, one, count))) for one in candidates)


def _barred(rails: Rails, one: Candidate, count: int) -> list[GrafosError]:
    try:
        rails.check_asked(one.spec, count)
        if one.prepared is not None:
            rails.check_planned(one.prepared.plan, count)
    except GrafosError as error:
        return [error]
    return []
