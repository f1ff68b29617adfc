"""Teardown: bring home what the cell knows, delete all that it consists of, prove it gone, settle, and sign for it.

Nothing in it needs the cell to answer: one that cannot be reached, was never claimed, or is gone already is torn down
all the same, and the receipt says what could not be brought home. It may be interrupted anywhere; the same command
again finishes it.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import TAG_STACK, Found, Kind, State
from grafos_core import ledger as ledgers
from grafos_core.booking import Ending
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_core.receipts import Signed, TeardownReceipt, open_signed
from grafos_stacks.bill import DEAD_MAN_GRACE_S, actual_cost, cost_left_behind
from grafos_stacks.cell_holds import held_from, open_hold, open_hold_in
from grafos_stacks.direct import ENDED_BY_ITSELF, STOPPED_BY_ITSELF, Engine, Hands
from grafos_stacks.homecoming import DRAIN_PATIENCE_S, bring_home, open_slices, release_slices, spend_slices
from grafos_stacks.journal import DIRECT, Homecoming, Life, ResourceRow, StackRow, StackState
from grafos_stacks.layouts import layout_of, left_behind, outliving
from grafos_stacks.names import expiry_in
from grafos_stacks.orchestrated import leave
from grafos_stacks.orchestrator_machine import STACK
from grafos_stacks.owners import check_owner
from grafos_stacks.progress import BEGUN, DONE, Step
from grafos_stacks.records import OPERATOR, CellHome, drop_from_project
from grafos_stacks.spec import SHARED_PREFIX
from grafos_stacks.unmaking import Unmade, begin_unmaking, is_anything_of, machine_rows, resources_left, unmake_stack

REACH_PATIENCE_S = 5.0
"""How long a teardown tries to reach a cell whose machine runs; a cell that is just starting again gets this."""


class TornDownCell(NamedTuple):
    """The receipt, signed by the fabric, and what it says."""

    signed: Signed
    receipt: TeardownReceipt


def teardown(
    hands: Hands,
    cell_id: str,
    project: Path,
    region: str = "",
    provider: str = "aws",
    *,
    seen: bool = False,
    engine: str = DIRECT,
    spared: Collection[Kind] = (),
) -> TornDownCell:
    """Takes the cell down and gives the signed receipt that nothing is left; the same receipt if it is gone already.

    ``region`` and ``provider`` are used when nothing is known of the cell. ``seen``: a listing shows something of it,
    so an earlier receipt of its end is not the last word. ``spared``: kinds that the next one of the name needs, and
    that the receipt does not speak of. ``resources_left`` (the receipt is kept, and the hold stays)
    when something is not proved gone, ``cell_unknown`` when neither a record nor the cloud shows such a cell,
    ``cloud_auth`` when the credentials are for another account, ``stack_busy`` when it is not the ``engine``'s,
    ``interrupted`` on Ctrl-C.
    """
    try:
        with hands.journal.lock(cell_id):
            home = CellHome(hands.fabric, cell_id)
            known_end = None if seen else _known_end(hands, home)
            if known_end is not None:
                return known_end
            _refuse_keeper(hands, cell_id)
            _refuse_other_engine(hands, cell_id, engine)
            return _take_down(hands, home, project, Place(provider, region), spared)
    except KeyboardInterrupt:
        again = f"grafos cloud teardown {provider} --cell-id {cell_id}"
        raise GrafosError("interrupted", f"stopped while {cell_id} was torn down", next=f"finish it: {again}") from None


def keeps_ledger(hands: Hands, cell_id: str) -> bool:
    """Whether it is the fabric's orchestrator and keeps the ledger: its machine is there, stopped or not. One that ran
    out keeps nothing any more, and must not go on billing; of one that only the cloud's listing tells, nobody here
    knows its end."""
    if cell_id != STACK or hands.fabric.ledger_place().is_here:
        return False
    row = hands.journal.stack(cell_id)
    if row is None or row.plan is None:
        return True
    return row.plan.expires_at > hands.clock.now() and _has_machine(hands, row)


def _refuse_keeper(hands: Hands, cell_id: str) -> None:
    if keeps_ledger(hands, cell_id):
        raise GrafosError(
            "ledger_elsewhere",
            f"{cell_id} is the machine of the fabric's orchestrator, which keeps its ledger",
            where=hands.fabric.ledger_place().url,
            next="grafos fabric down  brings all of it home first",
        )


def _refuse_other_engine(hands: Hands, cell_id: str, engine: str) -> None:
    row = hands.journal.stack(cell_id)
    if row is not None and row.state is not StackState.GONE:
        check_owner(row, engine)


class Place(NamedTuple):
    """Where a cell is looked for of which nothing is known; no region means all."""

    provider: str
    region: str


def _take_down(hands: Hands, home: CellHome, project: Path, place: Place, spared: Collection[Kind]) -> TornDownCell:
    account = hands.identity().account
    row = _begun(hands, home, place, account)
    identity = leave(hands, row, DRAIN_PATIENCE_S if _has_machine(hands, row) else 0.0)
    row = _brought_home(hands, row, home)
    unmade = unmake_stack(hands, row, spared)
    torn = _signed_for(hands, row, home, unmade, identity)
    home.keep_receipt(torn.signed)
    if unmade.left:
        raise resources_left(unmade, row)
    _close(hands, row, home, project)
    return torn


def _known_end(hands: Hands, home: CellHome) -> TornDownCell | None:
    """The receipt of a cell whose end was signed for; none while something of it is there that was spared then."""
    row, signed = hands.journal.stack(home.cell_id), home.receipt()
    if row is None or row.state is not StackState.GONE or signed is None or is_anything_of(hands.journal, row.stack):
        return None
    return TornDownCell(signed, open_signed(signed, TeardownReceipt, hands.fabric.key.public_key()))


# --- what there is to take down ---------------------------------------------------------------------------------


def _begun(hands: Hands, home: CellHome, place: Place, account: str) -> StackRow:
    """The stack's row in the state ``unmaking``; made from the cloud's listing if no journal knows it."""
    row = hands.journal.stack(home.cell_id)
    if row is None or (row.state is StackState.GONE and not is_anything_of(hands.journal, row.stack)):
        row = _from_listing(hands, home, place, account)
    return begin_unmaking(hands, row, account, f"{home.cell_id} was made")


def _from_listing(hands: Hands, home: CellHome, place: Place, account: str) -> StackRow:
    """A cell that no journal knows: the journal is lost, or another machine of the operator made it."""
    engine, cell_id = Engine(hands), home.cell_id
    region = place.region or home.region()
    at, found = engine.listing(region)
    named = _named(found, cell_id)
    settled = hands.journal.lost_at + hands.connector.traits.listing_lag_s
    if not named and hands.journal.lost_at and at < settled:
        engine.wait_until(settled, cell_id)
        named = _named(engine.listing(region)[1], cell_id)
    region = named[0].ref.region if named else region or _region_of_network(found, place.provider)
    if not region or not (named or open_hold(hands.fabric, cell_id)):
        raise GrafosError(
            "cell_unknown",
            f"neither a record nor the cloud shows a cell {cell_id!r}",
            where=f"{place.provider} {region or 'in every region'}",
            next="grafos cloud ls",
        )
    now, ledger = hands.clock.now(), hands.fabric.ledger_if_reached()
    held = open_hold_in(ledger, cell_id) if ledger is not None else None
    hold_id = held.hold_id if held else ""
    return StackRow(cell_id, place.provider, region, account, StackState.MAKING, now, now, hold_id=hold_id)


def _region_of_network(found: tuple[Found, ...], provider: str) -> str:
    """The only region in which the fabric has a network, if it is only one."""
    prefix = f"{SHARED_PREFIX}{provider}-"
    regions = {one.ref.region for one in found if one.tags.get(TAG_STACK, "").startswith(prefix)}
    return regions.pop() if len(regions) == 1 else ""


def _named(found: tuple[Found, ...], cell_id: str) -> list[Found]:
    return [one for one in found if one.tags.get(TAG_STACK) == cell_id]


# --- bringing home ----------------------------------------------------------------------------------------------


def _brought_home(hands: Hands, row: StackRow, home: CellHome) -> StackRow:
    """Runs and settlement, as far as the cell gives them; what could not be had is said, and no reason to stop."""
    before = row.homecoming
    if before is not None and (before.settled or not home.is_granted(OPERATOR)):
        return row
    began = hands.clock.now()
    hands.progress(Step("bring home", BEGUN, 0.0))
    came = homecoming_of(hands, row, home)
    if before is not None and not came.settled and came.runs < before.runs:
        came = before  # a later look at a machine that is gone takes nothing back
    row = row.moved(StackState.UNMAKING, row.changed_at, homecoming=came)
    hands.journal.write(row)
    note = f"{came.runs} runs" + (f"; {came.why}" if came.why else "")
    hands.progress(Step("bring home", DONE, hands.clock.now() - began, note))
    return row


def homecoming_of(hands: Hands, row: StackRow, home: CellHome) -> Homecoming:
    """Closes the cell's admission and brings home what it gives; a cell that cannot be asked is no error."""
    if not home.is_granted(OPERATOR):
        return _of_unclaimed(hands, row)
    if row.plan is not None and not _has_machine(hands, row):
        return Homecoming(0, settled=False, spent_micro_cents=0, why="the machine had ended before")
    try:
        with home.client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
            return bring_home(hands.fabric, home, client, hands.clock, hands.sleep)
    except GrafosError as error:
        return Homecoming(0, settled=False, spent_micro_cents=0, why=f"the cell could not be asked: {error.what}")


def _of_unclaimed(hands: Hands, row: StackRow) -> Homecoming:
    """Of a cell that this home planned and never claimed nobody can have spent, and its slices come back. One that the
    journal does not know may have been claimed by another home of the fabric, which is lost: then they were spent."""
    if row.plan is not None:
        release_slices(hands.fabric, row.stack)
        return Homecoming(0, settled=True, spent_micro_cents=0)
    ledger = hands.fabric.ledger_if_reached()
    if ledger is not None and not open_slices(ledger, row.stack):
        return Homecoming(0, settled=True, spent_micro_cents=0)
    why = "another home may have claimed it, and nobody here can ask it"
    return Homecoming(0, settled=False, spent_micro_cents=0, why=why)


def _has_machine(hands: Hands, row: StackRow) -> bool:
    """Whether a machine of it is there that the journal knows; one that was stopped has its disk."""
    refs = [one.ref for one in machine_rows(hands, row) if one.ref is not None and one.life is not Life.GONE]
    engine = Engine(hands)
    return any(engine.observe(ref).state in (State.READY, State.PENDING, State.STOPPED) for ref in refs)


# --- the bill and the receipt -----------------------------------------------------------------------------------


def _signed_for(hands: Hands, row: StackRow, home: CellHome, unmade: Unmade, identity: str) -> TornDownCell:
    """Settles the hold if nothing is left, and signs for what was found."""
    held, ended = _money(hands, row)
    machines = machine_rows(hands, row)
    seconds = sum(_billed_s(row, machine) for machine in machines)
    cost = ended.actual_micro_cents if held is None and ended else _cost(row, home, held, machines, seconds)
    if held is not None and not unmade.left:
        hands.fabric.end(Ending(held.hold_id, actual_micro_cents=cost, ended_at=hands.clock.now()))
    came = row.homecoming or Homecoming(0, settled=False, spent_micro_cents=0, why="nothing was asked")
    receipt = TeardownReceipt(
        fabric=str(hands.fabric.id),
        stack=row.stack,
        provider=row.provider,
        account=row.account,
        region=row.region,
        cell_id=row.stack,
        resources=unmade.resources,
        left=len(unmade.left),
        held_micro_cents=ended.amount_micro_cents if ended else 0,
        cost_micro_cents=cost,
        machine_seconds=seconds,
        runs_brought_home=came.runs,
        settlement="settled" if came.settled else f"unsettled, its whole slice counts as spent: {came.why}",
        began_at=row.changed_at,
        ended_at=hands.clock.now(),
        emulated=hands.identity().emulated,
        identity=identity,
    )
    return TornDownCell(hands.fabric.sign(receipt), receipt)


def _money(hands: Hands, row: StackRow) -> tuple[ledgers.Hold | None, ledgers.Hold | None]:
    """The cell's open hold, and the same or else the one that an earlier, interrupted teardown settled already. While
    nobody can reach the ledger it is the hold that the journal knows; without a journal it is waited for, and nothing
    of the cell is left by now."""
    ledger = hands.fabric.ledger_if_reached()
    if ledger is None and row.plan is not None and row.hold_id:
        amount = row.plan.bill.total_micro_cents
        held = ledgers.Hold(row.hold_id, OPERATOR_ACCOUNT, amount, f"cell {row.stack}")
        return held, held
    if ledger is None:
        ledger = hands.fabric.read_ledger()
    held_now = open_hold_in(ledger, row.stack)
    return held_now, held_now or ledger.holds.get(row.hold_id)


def _billed_s(row: StackRow, machine: ResourceRow) -> float:
    """How long a machine can have billed. One that ended itself did so at its end, whenever that was noticed."""
    until = machine.changed_at
    ended_at = _ended_at(row, machine)
    if machine.why in (ENDED_BY_ITSELF, STOPPED_BY_ITSELF) and ended_at:
        until = min(until, ended_at + DEAD_MAN_GRACE_S)
    return max(0.0, until - (machine.first_at or row.created_at))


def _ended_at(row: StackRow, machine: ResourceRow) -> int:
    """When the layers that nobody starts had ended the machine: at its expiry, or, where its own end cannot be moved,
    at the longest TTL that it was made with. 0 if nothing tells."""
    expires_at = expiry_in(machine.tags) or (row.plan.expires_at if row.plan else 0)
    if row.plan is None or layout_of(row.provider).moves_deadline:
        return expires_at
    return max(expires_at, row.plan.life.held_until)


def _left_cost(row: StackRow, machine: ResourceRow) -> int:
    """What hung on a machine that had stopped itself, from then until it was deleted; what outlives one that had
    ended itself."""
    if row.plan is None or machine.why not in (ENDED_BY_ITSELF, STOPPED_BY_ITSELF):
        return 0
    spec = row.plan.spec
    stopped = left_behind(spec.provider, orchestrates=spec.orchestrates)
    parts = stopped if machine.why == STOPPED_BY_ITSELF else outliving(orchestrates=spec.orchestrates)
    left_s = machine.changed_at - (machine.first_at or row.created_at) - _billed_s(row, machine)
    return cost_left_behind(row.plan.facts.price, spec.disk_gib, left_s, parts)


def _cost(row: StackRow, home: CellHome, held: ledgers.Hold | None, machines: list[ResourceRow], seconds: float) -> int:
    """At the price that was recorded at the start. Without a journal there is only the hold: then it is the part of it
    that the machine's time is of the time held for, since all that is in it costs by time; and all of it for a machine
    that was recorded and that no listing shows any more."""
    if row.plan is not None:
        ran = actual_cost(row.plan.facts.price, row.plan.spec.disk_gib, seconds, spot=row.plan.is_spot)
        return ran + sum(_left_cost(row, machine) for machine in machines)
    if held is None:
        return 0
    if seconds <= 0:
        ran = home.is_recorded and not home.record().gone_at
        return held.amount_micro_cents if ran else 0
    held_until = max(expiry_in(machine.tags) for machine in machines) + DEAD_MAN_GRACE_S
    part = Fraction(seconds) / Fraction(max(1.0, held_until - held_from(held)))
    return min(held.amount_micro_cents, ceil(held.amount_micro_cents * part))


def _close(hands: Hands, row: StackRow, home: CellHome, project: Path) -> None:
    """The records follow the facts, the journal last. With the credentials goes the last way to a settlement."""
    spend_slices(hands.fabric, row.stack)
    if home.is_recorded:
        home.keep_record(msgspec.structs.replace(home.record(), gone_at=hands.clock.now()))
    home.forget_credentials()
    drop_from_project(project, row.provider, row.stack)
    hands.journal.write(row.moved(StackState.GONE, hands.clock.now()))
