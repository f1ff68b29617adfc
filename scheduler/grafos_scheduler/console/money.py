"""What each provider's cells and runs have cost, from the runs that are kept and the ledger. Pure.

A look at each run that is kept, so it is taken now and then and not for every request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from grafos_core import ledger
from grafos_scheduler import rows
from grafos_scheduler.state import State


class ProviderCost(NamedTuple):
    """Micro-cents: what runs were settled for, what is held for those under way, and what machines on the ledger's
    meters have come to so far; ``fictional``: so much of that an emulator bills."""

    runs: int = 0
    spent_micro_cents: int = 0
    held_micro_cents: int = 0
    machines_micro_cents: int = 0
    fictional_micro_cents: int = 0


NO_COST = ProviderCost()


class Costs(NamedTuple):
    """By provider, those that cost something or will."""

    by_provider: dict[str, ProviderCost]

    def of(self, provider: str) -> ProviderCost:
        return self.by_provider.get(provider, NO_COST)


def costs(state: State, kept: Iterable[rows.Run], now: float) -> Costs:
    """What the runs in ``kept`` and all open holds come to."""
    spent: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for run in kept:
        figures = spent[run.request.provider]
        figures[0] += 1
        figures[1] += run.cost_micro_cents
    for run in state.runs_under_way():
        held = state.ledger.holds.get(run.hold_id)
        if held is not None and held.state == ledger.OPEN:
            spent[run.request.provider][2] += held.amount_micro_cents
    for held in state.ledger.holds.values():
        if held.meter is not None:
            figures, so_far = spent[held.meter.provider], ledger.accrued(held, now)
            figures[3] += so_far
            figures[4] += so_far if held.meter.fictional else 0
    return Costs({name: ProviderCost(*figures) for name, figures in spent.items()})
