"""Sweep: find whatever is left of a fabric in an account, in every region, and delete what is condemned.

It needs neither journal nor record, and does no harm where they are: what another command works on is left to it, a
cell that lives is left alone, and what is not proved ours is only told. Each condemned cell goes by its own teardown,
with its receipt, several at once; then the networks that no cell uses any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from grafos_connectors.contract import Connector, Found, Kind, Scope, State
from grafos_core.errors import GrafosError
from grafos_stacks.batch import Outcome, Target, teardown_batch
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.inventory import CONDEMNED, Judged, Known, Verdict, forgotten, judge
from grafos_stacks.journal import Life, StackRow, StackState
from grafos_stacks.layouts import UNMAKE_ORDER, check_clock
from grafos_stacks.names import attempt_in, ours_among
from grafos_stacks.plan import shared_stack_of
from grafos_stacks.progress import Progress
from grafos_stacks.records import CellHome
from grafos_stacks.recovery import is_live, row_of
from grafos_stacks.spec import SHARED_PREFIX
from grafos_stacks.unmaking import Listing, Site, unmake_network

ROUNDS_MAX = 3
"""Looking and deleting again: a network goes after its cells, and what a listing missed shows up in the next."""


@dataclass(frozen=True)
class Sight:
    """What a look at an account found. ``forgotten``: cells of the journal of which nothing is there any more."""

    provider: str
    account: str
    judged: tuple[Judged, ...]
    forgotten: tuple[StackRow, ...] = ()

    @property
    def condemned(self) -> tuple[Judged, ...]:
        """What must not be there."""
        return tuple(one for one in self.judged if one.verdict in CONDEMNED)


@dataclass(frozen=True)
class Swept:
    """What a sweep did: the first look, what came of each cell, what could not be deleted, and the last look."""

    before: Sight
    outcomes: tuple[Outcome, ...]
    failures: tuple[GrafosError, ...]
    after: Sight


def look(hands: Hands, regions: tuple[str, ...] = ()) -> Sight:
    """Lists the account in these regions, in all without any, and judges. Changes nothing.

    With the journal lost, or after a command that was interrupted, it waits until a listing can be believed.
    ``config_invalid`` with a clock that is off the cloud's: what has run out is told by it.
    """
    engine, provider, lag_s = Engine(hands), hands.connector.provider, hands.connector.traits.listing_lag_s
    identity = hands.identity()
    check_clock(identity, hands.clock.now())
    account = identity.account
    engine.wait_until(_unsettled(hands) + lag_s, "listing")
    _, tagged = engine.tagged(regions)
    known = _known(hands, lag_s, account, regions)
    known = replace(known, disguised=frozenset(_disguised(hands, engine, known, tagged)))
    judged = judge(hands.fabric, provider, tagged, known)
    # A listing may show for a while what is gone.
    still = tuple(one for one in judged if one.verdict not in CONDEMNED or _is_there(engine, one.found))
    return Sight(provider, account, still, forgotten(provider, still, known))


def list_only(connector: Connector, fabric: str, regions: tuple[str, ...] = ()) -> Sight:
    """What bears a fabric's tags, where its key is not: nothing is proved, so nothing can be judged or deleted."""
    identity = connector.identity()
    found = [found for page in connector.list(Scope(fabric, regions)) for found in page]
    there = tuple(Judged(one, Verdict.UNPROVED) for one in found if one.state is not State.GONE)
    return Sight(connector.provider, identity.account, there)


def sweep(
    hands: Hands,
    project: Path,
    regions: tuple[str, ...] = (),
    before: Sight | None = None,
    told: Callable[[str], Progress] | None = None,
) -> Swept:
    """Deletes what is condemned, and proves it gone. ``before`` is the look that the person agreed to: what has been
    condemned only since then is left for the next sweep, and what is condemned no longer is left alone."""
    sight = look(hands, regions)
    first = before or sight
    agreed = {_name(one) for one in first.condemned}
    outcomes: tuple[Outcome, ...] = ()
    failures: list[GrafosError] = []
    for _ in range(ROUNDS_MAX):
        todo = tuple(one for one in sight.condemned if _name(one) in agreed or one.verdict is Verdict.UNUSED)
        done = {outcome.target for outcome in outcomes if outcome.error is None}
        targets = [one for one in _targets(sight, todo) if one not in done]
        if not todo and not targets:
            break
        outcomes = (*outcomes, *teardown_batch(hands, targets, project, told))
        empty = {one.region for one in todo if one.stack.startswith(SHARED_PREFIX)}
        failures = [*_delete_surplus(hands, todo), *remove_networks(hands, empty)]
        sight = look(hands, regions)
    return Swept(first, _last_of_each(outcomes), tuple(failures), sight)


def _known(hands: Hands, lag_s: float, account: str, regions: tuple[str, ...]) -> Known:
    journal, provider = hands.journal, hands.connector.provider
    rows = {
        row.stack: row
        for row in journal.stacks()
        if row.provider == provider and row.account in ("", account) and (not regions or row.region in regions)
    }
    living = [stack for stack, row in rows.items() if row.state is not StackState.GONE]
    return Known(
        now=hands.clock.now(),
        lag_s=lag_s,
        stacks=rows,
        resources={stack: tuple(journal.resources(stack).values()) for stack in living},
        recorded=frozenset(_recorded(hands)),
        busy=frozenset(stack for stack in living if hands.journal.is_busy(stack)),
        shared=hands.fabric.is_shared,
    )


def _disguised(hands: Hands, engine: Engine, known: Known, tagged: Iterable[Found]) -> Iterable[str]:
    """Cells whose machine no listing proves, and which is there by its id: somebody changed its tags or its name."""
    proved = {found.ref.id for found in ours_among(hands.fabric, tagged)}
    for stack, row in known.stacks.items():
        machines = [
            one for one in known.resources.get(stack, ()) if one.kind is Kind.MACHINE and one.life is Life.READY
        ]
        hidden = [one.ref for one in machines if one.ref is not None and one.ref.id not in proved]
        if row.state is StackState.MADE and any(is_live(engine.observe(ref)) for ref in hidden):
            yield stack


def _unsettled(hands: Hands) -> float:
    """When something may last have come to be that a listing need not show yet."""
    rows = [row for row in hands.journal.stacks() if row.provider == hands.connector.provider]
    cut_short = [
        row
        for row in rows
        if row.state in (StackState.MAKING, StackState.UNMAKING) and not hands.journal.is_busy(row.stack)
    ]
    shared = {shared_stack_of(row.provider, row.region) for row in cut_short}
    stacks = {row.stack for row in cut_short} | shared
    changes = [own.changed_at for stack in stacks for own in hands.journal.resources(stack).values()]
    return max([hands.journal.lost_at, *changes])


def _recorded(hands: Hands) -> Iterable[str]:
    for cell_id in hands.fabric.cell_ids():
        home = CellHome(hands.fabric, cell_id)
        if home.is_recorded and not home.record().gone_at:
            yield cell_id


def _is_there(engine: Engine, found: Found) -> bool:
    return engine.observe(found.ref).state not in (State.GONE, State.DELETING)


def _targets(sight: Sight, todo: Iterable[Judged]) -> list[Target]:
    """The condemned cells, each once in each region, and those of which only the bill is left."""
    own = {
        Target(one.stack, sight.provider, one.region, seen=True)
        for one in todo
        if not one.stack.startswith(SHARED_PREFIX) and one.verdict is not Verdict.SURPLUS
    }
    bills = {Target(row.stack, sight.provider, row.region) for row in sight.forgotten}
    return sorted(own | bills)


def _delete_surplus(hands: Hands, todo: Iterable[Judged]) -> list[GrafosError]:
    """What is one too many in a cell that lives; the cell stays."""
    failures = []
    surplus = [one for one in todo if one.verdict is Verdict.SURPLUS]
    for one in sorted(surplus, key=lambda one: UNMAKE_ORDER.index(one.found.ref.kind)):
        found = one.found
        try:
            with hands.journal.lock(one.stack):
                Engine(hands).unmake(row_of(found, one.stack, "", attempt_in(found.tags), hands.clock.now()))
        except GrafosError as error:
            failures.append(error)
    return failures


def remove_networks(hands: Hands, regions: Iterable[str]) -> list[GrafosError]:
    """Deletes the shared networks of these regions, unless a cell uses them; gives what stood in the way."""
    failures: list[GrafosError] = []
    for region in sorted(regions):
        now = hands.clock.now()
        try:
            listing = Listing(*Engine(hands).listing(region))
            unmade = unmake_network(hands, Site(hands.connector.provider, region), listing, now)
            failures += unmade.failures
        except GrafosError as error:
            failures.append(error)
    return failures


def _name(one: Judged) -> tuple[str, str]:
    return one.stack, one.region


def _last_of_each(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """A cell whose first teardown failed may have gone by the second."""
    return tuple({outcome.target: outcome for outcome in outcomes}.values())
