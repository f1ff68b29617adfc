"""From what was asked for to plans that can be shown and carried out: clouds opened, places weighed, cells named."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from grafos_cli.accounts import ABSENT, ASKED_AT, told_of
from grafos_cli.clouds import EMULATED_OPERATOR
from grafos_cli.fabric import open_default
from grafos_cli.guard_rails import within_rails
from grafos_cli.interrupts import parting, resumable
from grafos_cli.project import project_folder
from grafos_cli.regions import region_at_hand
from grafos_cli.settings import value_of
from grafos_cli.steps import show_steps
from grafos_cli.wishes import Wish, priced_regions, refuse_unmeant, regions_for, set_up
from grafos_connectors.contract import Connector
from grafos_connectors.registry import open_connector
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_stacks.asking import identity_of
from grafos_stacks.bundle import Bundles
from grafos_stacks.candidates import (
    Candidate,
    Provided,
    chosen,
    is_leaving,
    is_same_place,
    live_row,
    provide,
    weigh,
    where_it_lives,
)
from grafos_stacks.direct import Hands
from grafos_stacks.fleet import Made, names_of, plans_for, provision_fleet
from grafos_stacks.journal import Journal, StackState
from grafos_stacks.making import pinned_plan
from grafos_stacks.plan import StackPlan
from grafos_stacks.prices import PriceBook
from grafos_stacks.provision import Prepared
from grafos_stacks.spec import BY_TOKEN, BY_WORD, STANDALONE, STOCK, CellSpec, new_cell_id

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal

ANY_NAME = "cell"
"""What the name of a cell begins with that may come to lie on any cloud."""


@dataclass(frozen=True)
class Planned:
    """What was planned, and what it takes to carry it out. ``places`` are the plans in the order of trying, under the
    first of ``names``; ``candidates`` are also those that cannot be tried."""

    hands_of: Mapping[str, Hands]
    bundles: Bundles
    names: tuple[str, ...]
    places: tuple[Prepared, ...]
    candidates: tuple[Candidate, ...] = ()
    max_hourly_cents: int | None = None

    @property
    def first(self) -> Prepared:
        """The place that is tried first."""
        return self.places[0]

    @property
    def most_micro_cents(self) -> int:
        """What all cells may cost, each at the dearest of its places: what a yes agrees to."""
        return len(self.names) * max(one.plan.bill.total_micro_cents for one in self.places)


@contextlib.contextmanager
def planned(wish: Wish, terminal: Terminal) -> Iterator[Planned]:
    """Reads what the plans need, changing nothing; the journal is closed at the end of the block."""
    again = "nothing was made yet; run it again when you like"
    with contextlib.ExitStack() as closing:
        with resumable("Stopped while the plan was made", again), show_steps(terminal) as steps:
            steps.began("plan", "who we are")
            connectors = _connectors(wish, terminal)
            hands_of = closing.enter_context(hands_for_all(connectors, open_default(terminal)))
            steps.changed("plan", "offers, image, price, software, limits, permissions")
            found = _plan(wish, hands_of)
            steps.ended("plan", _summary(found))
        yield found


@contextlib.contextmanager
def hands_for_all(connectors: Mapping[str, Connector], fabric: Fabric) -> Iterator[dict[str, Hands]]:
    """What it takes to work on each cloud, with one journal for all of them."""
    clock = SystemClock()
    with contextlib.closing(Journal(fabric, clock)) as journal:
        yield {name: Hands(fabric, one, journal, clock, time.sleep) for name, one in connectors.items()}


def carry_out(work: Planned, terminal: Terminal) -> tuple[Provided, float]:
    """Makes the one cell; what came of it and the seconds that it took."""
    began, name, provider = time.monotonic(), work.names[0], work.first.plan.spec.provider
    again = f"grafos cloud provision {provider} --cell-id {name}"
    undo = f"grafos cloud teardown {provider} --cell-id {name}"
    left = parting(f"Stopped while {name} was made; next: {again}   goes on; {undo}   undoes")
    with left, show_steps(terminal, work.first.plan.predicted_s) as steps:
        hands_of = {name: replace(hands, progress=told_of(steps, "")) for name, hands in work.hands_of.items()}
        try:
            made = provide(hands_of, [one.plan for one in work.places], work.bundles, project_folder())
        except GrafosError as error:
            raise _with_way_back(error, work) from error
    return made, time.monotonic() - began


def _with_way_back(error: GrafosError, work: Planned) -> GrafosError:
    """The error; of a cell that was begun it also says that it is there, and how it is undone: unless another command
    works on it, which nobody should undo."""
    name = work.names[0]
    if error.code == "stack_busy":
        return error
    row = live_row(next(iter(work.hands_of.values())), name)
    if row is not None and row.state is StackState.MAKING and "teardown" not in error.next:
        begun = f"{name} was begun and its money is held: the same command with --cell-id {name} goes on,"
        undo = f"and this undoes it: grafos cloud teardown {row.provider} --cell-id {name}"
        error.next = "\n".join(line for line in (error.next, begun, undo) if line)
    return error


def base_of(names: Sequence[str]) -> str:
    """The cell id that was asked for, of whose cells these are the names."""
    return names[0] if len(names) == 1 else names[0].rpartition("-")[0]


def going_on(names: Sequence[str]) -> str:
    """How to go on with cells that were stopped: whatever else was asked for counts again."""
    return f"the same command with --cell-id {base_of(names)} goes on"


def carry_out_many(work: Planned, terminal: Terminal) -> tuple[tuple[Made, ...], float]:
    """Makes all cells at once; what came of each and the seconds that it took."""
    began = time.monotonic()
    again = f"{going_on(work.names)}; teardown undoes"
    cells = plans_for([one.plan for one in work.places], work.names)
    with resumable("Stopped while the cells were made", again), show_steps(terminal) as steps:
        made = provision_fleet(
            work.hands_of, cells, work.bundles, project_folder(), lambda cell_id: told_of(steps, cell_id)
        )
    return made, time.monotonic() - began


# --- which clouds -------------------------------------------------------------------------------------------------


def _connectors(wish: Wish, terminal: Terminal) -> dict[str, Connector]:
    """An open connector for each cloud in question. With ``--any`` alone one that nobody set up is left out, and one
    that does not let us in is too, and that is said."""
    named = wish.providers or set_up()
    refuse_unmeant(wish, named)
    found: dict[str, Connector] = {}
    refusals: list[GrafosError] = []
    for provider in named:
        region = region_at_hand(provider)
        try:
            if len(named) == 1:
                return {provider: open_connector(provider, wish.regions[0] if wish.regions else region)}
            found[provider] = open_connector(provider, region or ASKED_AT[provider])
            identity_of(found[provider], time.sleep)
        except GrafosError as error:
            if len(named) == 1 or (error.code in ABSENT and wish.providers):
                raise
            found.pop(provider, None)
            refusals.append(error)
            terminal.note(f"{provider} is left out: {error.what}")
    if not found:
        raise refusals[0] if refusals else _no_cloud()
    return found


def _no_cloud() -> GrafosError:
    return GrafosError(
        "credentials_missing",
        "no cloud is set up here",
        next='sign in to one, or try an emulated one: grafos emulate up, then eval "$(grafos emulate env)"',
    )


# --- which places -------------------------------------------------------------------------------------------------


def _plan(wish: Wish, hands_of: Mapping[str, Hands]) -> Planned:
    some = next(iter(hands_of.values()))
    bundles = Bundles()
    kind = next(iter(hands_of)) if len(hands_of) == 1 else ANY_NAME
    names = names_of(wish.cell_id or new_cell_id(kind, random.SystemRandom()), wish.count)
    specs = _specs(wish, hands_of, names[0])
    row = live_row(some, names[0]) if wish.count == 1 else None
    pinned = _pinned(some, names[0], specs) if wish.count == 1 else None
    if pinned is not None:
        specs = [spec for spec in specs if not is_same_place(spec, pinned.spec)]
        if row is None or row.state is not StackState.MAKING or not specs:
            return Planned(hands_of, bundles, names, (Prepared(pinned, resumed=True),))
    living = sum(live_row(some, name) is not None for name in names)
    candidates = weigh(hands_of, specs, bundles, wish.max_hourly_cents, max(1, len(names) - living))
    candidates = within_rails(candidates, len(names))
    if pinned is not None:
        others = [one.prepared for one in candidates if one.plan is not None and one.prepared is not None]
        places = [Prepared(pinned, resumed=True), *others]
    else:
        places = chosen(candidates, f"{names[0]}{' and the others' if len(names) > 1 else ''}")
        if wish.cell_id and wish.count == 1:
            places = where_it_lives(hands_of, names[0], places)
    return Planned(hands_of, bundles, names, tuple(places), candidates, wish.max_hourly_cents)


def _pinned(hands: Hands, cell_id: str, specs: Sequence[CellSpec]) -> StackPlan | None:
    """The plan that the journal has of a cell of that name, if it is one of those that were asked for."""
    row = hands.journal.stack(cell_id)
    if is_leaving(row):
        return None
    before = row.plan.spec if row is not None and row.plan is not None else specs[0]
    asked = [spec for spec in specs if is_same_place(spec, before)]
    return pinned_plan(hands, (asked or specs)[0])


def _specs(wish: Wish, hands_of: Mapping[str, Hands], cell_id: str) -> list[CellSpec]:
    """One for each region, zone and market that is in question."""
    found = []
    for provider, hands in hands_of.items():
        emulated = hands.identity().emulated
        book = PriceBook(hands.clock)
        fresh = (
            priced_regions(book.table(), provider, wish.machine_type, book.today, emulated=emulated)
            if wish.any_place and not wish.regions
            else []
        )
        base = _spec(wish, provider, cell_id, emulated=emulated)
        for region in regions_for(provider, wish, fresh):
            found += [
                msgspec.structs.replace(base, region=region, zone=zone, spot=spot)
                for zone in wish.zones or ("",)
                for spot in wish.markets
            ]
    if not found:
        raise GrafosError(
            "price_missing",
            "no region is known in which a machine could be priced",
            where=", ".join(hands_of),
            next="read prices: grafos cloud prices refresh --provider NAME --region NAME; or name regions: --region",
        )
    return found


def _spec(wish: Wish, provider: str, cell_id: str, *, emulated: bool) -> CellSpec:
    spec = CellSpec(
        provider=provider,
        cell_id=cell_id,
        region="",
        operator_cidr="",
        machine_type=wish.machine_type,
        ttl_s=wish.ttl_s,
        port=wish.port,
        max_ttl_s=wish.max_ttl_s,
    )
    standalone = spec.pattern == STANDALONE
    only_open = wish.allow if not wish.any_place else ""
    operator = _operator(wish.allow, emulated=emulated) if standalone else only_open
    spec = msgspec.structs.replace(spec, operator_cidr=operator, joining=_joining(wish, spec))
    return msgspec.structs.replace(spec, image=_image(wish, spec))


def _joining(wish: Wish, spec: CellSpec) -> str:
    """As the flags say it, else the setting; a standalone cell, which joins nothing, has the one that says nothing,
    unless no other cloud was named: then the flag was a mistake, and is told."""
    if spec.pattern == STANDALONE:
        return wish.joining if wish.joining and len(wish.providers) == 1 else spec.joining
    return wish.joining or (BY_WORD if value_of("keyless") == "true" else BY_TOKEN)


def _image(wish: Wish, spec: CellSpec) -> str:
    """What its machine starts from. One that joins nothing starts from a stock image whatever is said, unless no other
    cloud was named: then the flag was a mistake, and is told."""
    if spec.is_told_what_it_is:
        return wish.image
    return wish.image if wish.image != STOCK and len(wish.providers) == 1 else ""


def _operator(allow: str, *, emulated: bool) -> str:
    """From where the cell may be reached. Our own public address cannot be known without asking somebody."""
    if allow:
        return allow if "/" in allow else f"{allow}/32"
    if emulated:
        return EMULATED_OPERATOR
    raise GrafosError(
        "confirmation_needed",
        "The cell's port is opened to one address only, and nobody said to which",
        next="add --allow YOUR.PUBLIC.IP.ADDRESS, for instance --allow $(curl -s https://checkip.amazonaws.com)",
    )


def _summary(found: Planned) -> str:
    cells = f"{len(found.names)} cells, " if len(found.names) > 1 else ""
    places = f", {len(found.places)} of {len(found.candidates)} places" if len(found.candidates) > 1 else ""
    return f"{cells}{len(found.first.plan.resources)} resources{places}"
