"""Which cell gets a run: hard vetoes first, then the best score.

A ``Demand`` says what a run needs, a ``Candidate`` what a ready cell offers; cells that are not ready never get this
far. The scan here looks at every candidate; it says what is right, and words the refusal. ``placement_index`` finds the
same cell by the same vetoes and score without looking at them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from types import MappingProxyType

from grafos_core.errors import GrafosError
from grafos_core.money import cost_micro_cents, format_cents
from grafos_core.resources import Resources

WORST_CASES_KEPT_MAX = 4096
"""Cells have few totals and rates, and demands repeat: most of what runs may cost was worked out before."""

CELLS_TOLD_MAX = 50
"""Cells that are named in a sentence, which a person reads."""
VETOES_KEPT_MAX = 1000
"""Cells whose vetoes are in a refusal's context: a fleet's would be megabytes."""
NOBODY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Demand:
    """``until``: when the run has ended in any case (Unix seconds); ``purse_micro_cents``: the most it may cost."""

    provider: str
    wanted: Resources
    until: float
    purse_micro_cents: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A ready cell. ``ends_at`` 0 means never; ``worst_case_micro_cents`` is what this run could cost there;
    ``image_veto`` is why its image is not let in, if it is not; ``is_too_old``: its software knows nothing of what is
    asked for."""

    cell_id: str
    total: Resources
    leased: Resources
    ends_at: float
    draining: bool
    worst_case_micro_cents: int
    image_veto: str = ""
    is_too_old: bool = False


def choose(candidates: Iterable[Candidate], demand: Demand, not_ready: Mapping[str, str] = NOBODY) -> Candidate:
    """The best candidate without a veto, or ``placement_failed`` with each cell's vetoes in words and in context. The
    cells of ``not_ready`` are none, and are told with why."""
    vetoed: dict[str, str] = {}
    fit: list[Candidate] = []
    for candidate in candidates:
        against = vetoes(candidate, demand)
        if against:
            vetoed[candidate.cell_id] = "; ".join(against)
        else:
            fit.append(candidate)
    if not fit:
        others = f"; not ready: {told(not_ready)}" if not_ready else ""
        raise GrafosError(
            "placement_failed",
            f"every ready cell of {demand.provider} was vetoed: {told(vetoed)}{others}",
            next="ask for less, wait if other runs hold it, or get a cell that has more",
            context={"vetoes": dict(islice((vetoed | dict(not_ready)).items(), VETOES_KEPT_MAX))},
        )
    fit.sort(key=lambda candidate: candidate.cell_id)  # so that equals are told apart the same way each time
    return max(fit, key=lambda candidate: score(candidate, demand))


def told(why: Mapping[str, str]) -> str:
    """Each cell with its reason, by name; of very many, how many more there are."""
    named = sorted(why.items())
    more = f" and {len(named) - CELLS_TOLD_MAX} more" if len(named) > CELLS_TOLD_MAX else ""
    return ", ".join(f"{cell_id} ({reason})" for cell_id, reason in named[:CELLS_TOLD_MAX]) + more


@lru_cache(WORST_CASES_KEPT_MAX)
def worst_case_micro_cents(
    total: Resources, rate_micro_cents_per_hour: int, wanted: Resources, deadline_s: float
) -> int:
    """The most that a run may cost on a cell of this total and rate."""
    return cost_micro_cents(wanted.share_of(total), rate_micro_cents_per_hour, deadline_s)


def vetoes(candidate: Candidate, demand: Demand) -> list[str]:
    """Every reason why the run cannot go there; none of them can be outweighed."""
    against = []
    if candidate.draining:
        against.append("draining")
    if candidate.is_too_old:
        against.append("its software is too old for this")
    if candidate.image_veto:
        against.append(candidate.image_veto)
    free = candidate.total - candidate.leased
    against += [
        f"{kind}: {getattr(demand.wanted, kind)} wanted, {max(0, getattr(free, kind))} of "
        f"{getattr(candidate.total, kind)} free"
        for kind in demand.wanted.lacking(free)
    ]
    if candidate.ends_at and candidate.ends_at < demand.until:
        against.append("the cell may end before the run does")
    if candidate.worst_case_micro_cents > demand.purse_micro_cents:
        against.append(f"may cost {format_cents(candidate.worst_case_micro_cents)}, more than is left")
    return against


def score(candidate: Candidate, demand: Demand) -> tuple[Fraction, Fraction]:
    """Higher is better: the share of memory that stays free there (locality), then the share of cores."""
    after = candidate.total - candidate.leased - demand.wanted
    return (
        Fraction(after.mem_bytes, max(1, candidate.total.mem_bytes)),
        Fraction(after.cpu_cores, max(1, candidate.total.cpu_cores)),
    )
