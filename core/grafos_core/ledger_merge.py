"""Two copies of one ledger that went apart, joined again: nothing that either tells is lost, and nothing counts twice.

They go apart when an orchestrator that keeps the ledger is given up as lost, and is there again later. Both began with
the same copy. What is told of holds is joined hold by hold, since an id is given out once and a hold that has ended
stays ended. What was spent without a hold, which is what runs cost at the orchestrator, is the home's, and beside it
whatever came here since: what is here, less the ``basis``, which is what the copy said of it that was taken here.

A ledger that came home whole brings all of that back, so that nothing is put beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from grafos_core import ledger as ledgers
from grafos_core.booking import LedgerCopy
from grafos_core.ledger import Account, Hold

Amounts = dict[str, int]
"""Micro-cents by account."""


class Merged(NamedTuple):
    """Every account and hold as it is to be; none of either copy is missing."""

    accounts: tuple[Account, ...]
    holds: tuple[Hold, ...]


def merged(
    here: Iterable[Account], own: Iterable[Hold], copy: LedgerCopy, basis: Mapping[str, int] | None, running: Amounts
) -> Merged:
    """What comes of the accounts ``here`` and of ``own``, the holds here that a copy tells, when ``copy`` is taken.

    ``basis`` None: what is here went home, and is in the copy. ``running`` is held here by runs, which no copy tells.
    Caps here stay, for they are set here. Pure.
    """
    there, known = {account.name: account for account in copy.accounts}, {account.name: account for account in here}
    before = {held.hold_id: held for held in own}
    holds = before | {held.hold_id: _joined(held, before.get(held.hold_id)) for held in copy.holds}
    spent_here, spent_there = beside_holds(known.values(), before.values()), beside_holds(there.values(), copy.holds)
    ended, held_now = _ended(holds.values()), open_holds(holds.values())
    accounts = []
    for name in {**known, **there}:
        if basis is None:
            beside = max(spent_here.get(name, 0), spent_there.get(name, 0))
        else:
            # No copy since tells less than its basis, but one of a home from a backup of before.
            told = max(spent_there.get(name, 0), basis.get(name, 0))
            beside = told + spent_here.get(name, 0) - basis.get(name, 0)
        account = known.get(name) or there[name]
        spent, held = beside + ended.get(name, 0), held_now.get(name, 0) + running.get(name, 0)
        accounts.append(replace(account, spent_micro_cents=spent, held_micro_cents=held))
    return Merged(tuple(accounts), tuple(holds.values()))


def beside_holds(accounts: Iterable[Account], holds: Iterable[Hold]) -> Amounts:
    """What was spent on each account that none of ``holds`` came to."""
    ended = _ended(holds)
    return {account.name: account.spent_micro_cents - ended.get(account.name, 0) for account in accounts}


def open_holds(holds: Iterable[Hold]) -> Amounts:
    """What is held on each account."""
    return _sums((held.account, held.amount_micro_cents) for held in holds if held.state == ledgers.OPEN)


def _ended(holds: Iterable[Hold]) -> Amounts:
    """What those that ended came to."""
    return _sums((held.account, held.actual_micro_cents) for held in holds if held.state != ledgers.OPEN)


def _sums(amounts: Iterable[tuple[str, int]]) -> Amounts:
    sums: Amounts = {}
    for name, amount in amounts:
        sums[name] = sums.get(name, 0) + amount
    return sums


def _joined(came: Hold, here: Hold | None) -> Hold:
    """The one that went further. Of two that ended, the one here counts, which was told by who knew; unless it only ran
    out: then the home's."""
    if here is None or here == came:
        return came
    if came.state == ledgers.OPEN and here.state == ledgers.OPEN:
        return _larger(came, here)
    if came.state == ledgers.OPEN:
        return here
    return came if here.state in (ledgers.OPEN, ledgers.EXPIRED) else here


def _larger(came: Hold, here: Hold) -> Hold:
    """One that was extended at one side, or at both: as much and as long as either."""
    meter = came.meter or here.meter
    if came.meter is not None and here.meter is not None:
        meter = replace(came.meter, until=max(came.meter.until, here.meter.until))
    return replace(came, amount_micro_cents=max(came.amount_micro_cents, here.amount_micro_cents), meter=meter)
