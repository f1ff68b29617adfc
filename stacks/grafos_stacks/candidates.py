"""Several places for one cell: ordered by price, tried one after the other, of which one gets the machine.

A candidate is a plan of its own, with a region's price, its limits and its bound. Its zones are tried by ``failover``;
when a region has no machine left the next candidate's turn comes:

* on another market of the same region (spot, then on demand) the network and the firewall stay, and the journal's plan
  is exchanged;
* in another region or cloud what the attempt left is torn down first, with proof and receipt, and its hold ends. Only
  then the next one is held and begun. A crash between goes on with the teardown, then chooses anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import CloudError
from grafos_core.errors import GrafosError
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.failover import MOVES_ON, as_it_lives, left_nothing, machines_of, moved, place_of, told
from grafos_stacks.journal import Move, StackRow, StackState
from grafos_stacks.orchestrated import in_the_way
from grafos_stacks.plan import StackPlan
from grafos_stacks.planner import instead_of
from grafos_stacks.preflight import Survey, survey, together
from grafos_stacks.prices import PriceBook, refuse_over
from grafos_stacks.provision import Prepared, judged, provision
from grafos_stacks.records import CellRecord
from grafos_stacks.side_by_side import HandsOf
from grafos_stacks.spec import CellSpec
from grafos_stacks.teardown import teardown

SURVEYS_AT_ONCE_MAX = 16
"""Regions that are asked at the same time; each takes up to eight requests at once."""
CANDIDATES_MAX = 64
"""More would only meet the clouds' request limits; no person reads more."""

SPOT_TYPES = {("azure", "amd64"): "Standard_D2s_v5", ("azure", "arm64"): "Standard_D2ps_v5"}
"""A type that is sold as a spot machine, where the one that a cell has by default is not."""
UNSOLD_AS_SPOT = re.compile(r"Standard_B[0-9]+m?s")
"""Azure's B series of the first generation: its price list has no spot row of any, and its SKUs say so
(``LowPriorityCapable``)."""
NOWHERE_NEXT = "try again later, or name another machine type or more regions: --type, --region"
"""What helps when every place that was asked for was tried."""


class Candidate(NamedTuple):
    """One place for the cell: a plan that can be carried out, or why not. ``prepared`` is None when nothing could be
    planned at all."""

    spec: CellSpec
    prepared: Prepared | None
    refusals: tuple[GrafosError, ...] = ()

    @property
    def plan(self) -> StackPlan | None:
        """The plan, if the candidate can be tried."""
        return self.prepared.plan if self.prepared is not None and not self.refusals else None

    @property
    def place(self) -> str:
        """Where it is, and how it is bought."""
        if self.prepared is not None:
            return place_of(self.prepared.plan)
        return f"{self.spec.provider} {self.spec.zone or self.spec.region}" + (" spot" if self.spec.spot else "")

    @property
    def hourly_micro_cents(self) -> int | None:
        """What it is ordered by: its price by the hour as it is billed, for a spot machine the spot price of now."""
        return self.prepared.plan.billed_micro_cents_per_hour if self.prepared is not None else None

    @property
    def why_not(self) -> str:
        """The reasons, or nothing."""
        return "; ".join(f"{error.code}: {error.what}" for error in self.refusals)


class Provided(NamedTuple):
    """The cell, and from where to where it was moved until one place had a machine."""

    record: CellRecord
    moves: tuple[Move, ...]


def ordered(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Those that can be tried first, by price and then by name; then the others, by name."""

    def rank(one: Candidate) -> tuple[bool, int, str, str, bool]:
        spec, price = one.spec, one.hourly_micro_cents
        return one.plan is None, price or 0, spec.provider, spec.region, not spec.spot

    return tuple(sorted(candidates, key=rank))


def weigh(
    hands_of: HandsOf, specs: Sequence[CellSpec], bundles: Bundles, max_hourly_cents: int | None = None, count: int = 1
) -> tuple[Candidate, ...]:
    """Surveys every place, in threads, and orders them; changes nothing. ``count`` cells are to fit into each.

    Regions and markets of one region share a survey. What a cloud refuses is in its candidates.
    """
    if len(specs) > CANDIDATES_MAX:
        raise GrafosError(
            "limit_exceeded", f"{len(specs)} places are too many to compare", next="name regions with --region"
        )
    places = {(spec.provider, spec.region, spec.zone, spec.machine_type): spec for spec in specs}
    ask = _asking(hands_of, bundles)
    with ThreadPoolExecutor(min(SURVEYS_AT_ONCE_MAX, len(places)), thread_name_prefix="candidate") as pool:
        surveys = dict(zip(places, pool.map(ask, places.values()), strict=True))
    found = []
    for spec in specs:
        seen = surveys[spec.provider, spec.region, spec.zone, spec.machine_type]
        found.append(_candidate(hands_of[spec.provider], spec, seen, max_hourly_cents, count))
    found = _with_ways(hands_of, found)
    return ordered(found)


def _with_ways(hands_of: HandsOf, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same, with why a cell could not join its orchestrator; that is asked once for each cloud."""
    ways: dict[tuple[str, str], GrafosError | None] = {}
    found = []
    for one in candidates:
        place = one.spec.provider, one.spec.joining
        if one.prepared is not None and place not in ways:
            emulated = one.prepared.plan.facts.emulated
            ways[place] = in_the_way(hands_of[one.spec.provider].fabric, one.spec, emulated=emulated)
        way = ways.get(place)
        found.append(one._replace(refusals=(*one.refusals, way)) if way is not None else one)
    return found


def _asking(hands_of: HandsOf, bundles: Bundles) -> Callable[[CellSpec], Survey]:
    def ask(spec: CellSpec) -> Survey:
        hands = hands_of[spec.provider]
        try:
            return survey(hands, spec, bundles.pin, PriceBook(hands.clock).price)
        except GrafosError as error:
            return Survey(None, refusals=(error,))

    return ask


def _candidate(hands: Hands, spec: CellSpec, seen: Survey, max_hourly_cents: int | None, count: int) -> Candidate:
    prepared, refusals = judged(hands, spec, seen, count)
    if prepared is not None:
        plan = prepared.plan
        if spec.spot and not plan.facts.price.spot_per_hour:
            refusals.append(no_spot_price(plan))
        try:
            rate, fictional = plan.billed_micro_cents_per_hour, plan.facts.price.fictional
            refuse_over(rate, max_hourly_cents, place_of(plan), fictional=fictional)
        except GrafosError as error:
            refusals.append(error)
    return Candidate(spec, prepared, tuple(refusals))


def no_spot_price(plan: StackPlan) -> CloudError:
    """``price_missing`` for a spot machine whose type has no spot price: on Azure some types are never sold as one."""
    offer, provider = plan.facts.offer, plan.spec.provider
    one = SPOT_TYPES.get((provider, offer.arch))
    named = f", as --type {one}," if one else ""
    unsold = UNSOLD_AS_SPOT.fullmatch(offer.machine_type)
    return CloudError(
        "price_missing",
        f"no spot price is known of {offer.machine_type} in {offer.region}",
        where=f"{provider} {offer.region}",
        why=f"{offer.machine_type} is not sold as a spot machine" if unsold else "",
        next=f"choose a type that is sold as a spot machine{named} or leave out --spot",
    )


def chosen(candidates: Sequence[Candidate], what: str) -> list[Prepared]:
    """Those that can be tried, in order; what stands in the way of all of them, as one error, if there is none."""
    usable = [one.prepared for one in candidates if one.plan is not None and one.prepared is not None]
    if usable:
        return usable
    if len({(one.spec.provider, one.spec.region) for one in candidates}) == 1:
        raise together(candidates[0].refusals, what)
    reasons = [error for one in candidates for error in one.refusals[:1]]
    failure = together(reasons, what)
    failure.what = f"none of {len(candidates)} places can have {what}"
    failure.why = "\n".join(f"{one.place}: {one.why_not}" for one in candidates)
    failure.next = "\n".join(dict.fromkeys(error.next for error in reasons if error.next))
    raise failure


# --- the journal's word -------------------------------------------------------------------------------------------


def live_row(hands: Hands, cell_id: str) -> StackRow | None:
    """The journal's row of a cell of that name whose plan is pinned: it exists, or is being made."""
    row = hands.journal.stack(cell_id)
    kept = row is not None and row.plan is not None and row.state in (StackState.MAKING, StackState.MADE)
    return row if kept else None


def is_leaving(row: StackRow | None) -> bool:
    """Whether a move to another place was interrupted after it began to remove what was there."""
    return row is not None and row.leaving and row.state is StackState.UNMAKING


def where_it_lives(hands_of: HandsOf, cell_id: str, prepared: Sequence[Prepared]) -> list[Prepared]:
    """The candidates, or the one alone that the cell is already, of which the journal does not know.

    ``plan_stale`` when it lives in another place, or as another machine, than any of them.
    """
    by_cloud: dict[str, list[str]] = {}
    for one in prepared:
        by_cloud.setdefault(one.plan.spec.provider, []).append(one.plan.spec.region)
    for provider, regions in by_cloud.items():
        hands = hands_of[provider]
        machines = machines_of(hands, cell_id, regions)
        for one in prepared:
            plan = as_it_lives(one.plan, machines) if one.plan.spec.provider == provider else None
            if plan is not None:
                return [one._replace(plan=plan)]
        if machines:
            raise GrafosError(
                "plan_stale",
                f"{cell_id} lives as {machines[0].ref.id} in {machines[0].ref.region}, with other inputs",
                next="make the journal whole: grafos cloud recover; or name another cell",
            )
    return list(prepared)


# --- trying them --------------------------------------------------------------------------------------------------


def provide(hands_of: HandsOf, plans: Sequence[StackPlan], bundles: Bundles, project: Path) -> Provided:
    """The cell at the first of the places that has a machine for it. All plans are of the one cell.

    Raises what stood in the way at the last place, or what no other place would change; ``moves`` tells the rest.
    """
    cell_id = plans[0].stack
    _finish_leaving(hands_of, cell_id, project)
    plans = _where_it_was(live_row(next(iter(hands_of.values())), cell_id), plans)
    moves: tuple[Move, ...] = ()
    for plan, following in zip(plans, [*plans[1:], None], strict=True):
        hands = hands_of[plan.spec.provider]
        try:
            record = provision(hands, plan, bundles, project, moves=moves)
        except CloudError as refusal:
            moves = _moves(hands, cell_id)
            if following is None or refusal.code not in MOVES_ON:
                raise _with_moves(refusal, moves) from refusal
            moves = _move_on(hands, plan, following, refusal, project)
        else:
            return Provided(record, _moves(hands, cell_id))
    raise AssertionError("the last place returns or raises")


def _where_it_was(row: StackRow | None, plans: Sequence[StackPlan]) -> list[StackPlan]:
    """The place that an earlier run came to is the first one for this run; then the others in their order."""
    pinned = row.plan.spec if row is not None and row.plan is not None else None
    return sorted(plans, key=lambda one: pinned is None or not is_same_place(pinned, one.spec))


def is_same_place(one: CellSpec, other: CellSpec) -> bool:
    """Whether two inputs mean one region and one market."""
    return (one.provider, one.region, one.spot) == (other.provider, other.region, other.spot)


def _move_on(
    hands: Hands, before: StackPlan, after: StackPlan, refusal: GrafosError, project: Path
) -> tuple[Move, ...]:
    """Readies the ground for the next candidate; gives the moves until then."""
    with hands.journal.lock(before.stack):
        row = hands.journal.stack(before.stack)
        assert row is not None, "what was tried is in the journal"
        assert row.plan is not None, "what was tried has a plan"
        if _fits_in_place(row.plan, after) and left_nothing(hands, row.plan):
            moved(hands, row.plan, instead_of(row.plan, after), refusal)
            return _moves(hands, before.stack)
        move = Move(place_of(row.plan), place_of(after), refusal.code, refusal.what)
        moves = (*row.moves, move)
        hands.journal.write(row.moved(StackState.UNMAKING, hands.clock.now(), leaving=True, moves=moves))
    told(hands, move)
    teardown(hands, before.stack, project, before.spec.region, before.spec.provider)
    return moves


def _fits_in_place(before: StackPlan, after: StackPlan) -> bool:
    """Whether network, firewall and hold of the one do for the other."""
    same = (before.shared_stack, before.spec.ttl_s, before.spec.max_ttl_s)
    covered = before.bill.total_micro_cents >= after.bill.total_micro_cents
    return covered and same == (after.shared_stack, after.spec.ttl_s, after.spec.max_ttl_s)


def _finish_leaving(hands_of: HandsOf, cell_id: str, project: Path) -> None:
    """Ends a move that was interrupted while it removed what was at the place before."""
    row = next(iter(hands_of.values())).journal.stack(cell_id)
    if not is_leaving(row):
        return
    assert row is not None, "it leaves"
    if row.provider not in hands_of:
        raise GrafosError(
            "stack_busy",
            f"{cell_id} was being moved away from {row.provider}",
            next=f"finish it: grafos cloud teardown {row.provider} --cell-id {cell_id}",
        )
    teardown(hands_of[row.provider], cell_id, project, row.region, row.provider)


def _moves(hands: Hands, cell_id: str) -> tuple[Move, ...]:
    row = hands.journal.stack(cell_id)
    return row.moves if row is not None else ()


def _with_moves(refusal: CloudError, moves: Sequence[Move]) -> CloudError:
    """The last refusal, with those before it; of its own region it may have told them itself."""
    if moves:
        told_before = [f"{move.before}: {move.why}" for move in moves]
        refusal.why = "\n".join(dict.fromkeys([*told_before, *refusal.why.splitlines()]))
        refusal.context["moves"] = [msgspec.to_builtins(move) for move in moves]
    if moves and refusal.code in MOVES_ON:
        refusal.next = NOWHERE_NEXT
    return refusal
