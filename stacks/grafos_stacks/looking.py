"""Looking at one cell: what is recorded of it, when each layer ends it, and what the cloud has of it now.

Of a cell without a record, which an interrupted command began or another home made, the journal and the signed tags
tell what they can.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import TAG_STACK, CloudError, Found, Kind, State
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_stacks.cell_holds import open_hold_in
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.journal import Journal, Life, ResourceRow, StackRow, StackState
from grafos_stacks.layouts import UNMAKE_ORDER
from grafos_stacks.names import expiry_in, plan_name_in
from grafos_stacks.plan import StackPlan
from grafos_stacks.records import READY, CellHome, CellRecord
from grafos_stacks.recovery import made_at

UNKNOWN = "unknown"
FOUND_AGAIN = "found"
"""The state of a cell that was taken into the journal by its signed tags, with no record of its price and address."""
UNRECORDED = "unrecorded"
"""The state of a cell that only its cloud knows."""


class Layer(NamedTuple):
    """One of those that end the cell without anybody: who, what it does then, and when (Unix seconds)."""

    by: str
    what: str
    at: float


class Part(NamedTuple):
    """A resource of the cell. ``state`` is the cloud's, in our words, or ``unknown`` when it did not answer."""

    kind: str
    name: str
    state: str
    id: str


class Look(NamedTuple):
    """The cell as it stands. ``state`` is live, booted, making, unmaking, found, unrecorded, expired or gone.

    Of one that is not ``recorded`` the record is what journal and tags tell, with 0 and "" for what they do not. Of it,
    and of one whose teardown has begun, ``next`` is the command that goes on.
    """

    record: CellRecord
    state: str
    machine_state: str
    layers: tuple[Layer, ...]
    resources: tuple[Part, ...]
    held_micro_cents: int
    extending_to: int
    recorded: bool = True
    next: str = ""

    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            **msgspec.to_builtins(self.record),
            "state": self.state,
            "reached": self.record.state,
            "machine_state": self.machine_state,
            "layers": [layer._asdict() for layer in self.layers],
            "resources": [part._asdict() for part in self.resources],
            "held_micro_cents": self.held_micro_cents,
            "extending_to": self.extending_to,
            "recorded": self.recorded,
            "next": self.next,
        }


def state_of(record: CellRecord, row: StackRow | None, now: float) -> str:
    """Where a recorded cell is in its life: ``live`` when it is ready, else how far it came, or how it ended; and
    ``unmaking``, whatever it was, once its teardown has begun by the journal's living ``row``."""
    if record.gone_at:
        return "gone"
    if row is not None and row.state is StackState.UNMAKING:
        return row.state.value
    if 0 < record.expires_at < now:
        return "expired"
    return "live" if record.state == READY else record.state


def look(hands: Hands, cell_id: str, region: str = "") -> Look:
    """Reads record, ledger, journal and cloud. Without a record the cloud's listing of ``region`` is read too, of every
    region without one; ``cell_unknown`` if it shows nothing either."""
    home, row = CellHome(hands.fabric, cell_id), living_row(hands.journal, cell_id)
    known, leaving = is_known(home, row), row is not None and row.state is StackState.UNMAKING
    if known:
        record, seen = home.record(), parts_of(hands, cell_id)
    else:
        shown = shown_of(hands, cell_id, row.region if row else region)
        if row is None and not shown:
            home.record()
        record, seen = _told_by(hands, cell_id, row, shown), _with_shown(parts_of(hands, cell_id), shown)
    plan = row.plan if row is not None and not record.gone_at else None
    return Look(
        record=record,
        state=state_of(record, row, hands.clock.now()),
        machine_state=next((part.state for part in seen if part.kind == Kind.MACHINE.value), "gone"),
        layers=layers_of(plan, _lost(seen)) if plan is not None else (),
        resources=tuple(seen),
        held_micro_cents=_held(hands, cell_id, row),
        extending_to=row.extending_to if row is not None else 0,
        recorded=known,
        next="" if known and not leaving else way_on(hands.journal, cell_id, row),
    )


def _held(hands: Hands, cell_id: str, row: StackRow | None) -> int:
    """By the ledger; by the plan while the orchestrator that keeps the ledger cannot be asked."""
    ledger = hands.fabric.ledger_if_reached()
    if ledger is None:
        return row.plan.bill.total_micro_cents if row is not None and row.plan is not None else 0
    held = open_hold_in(ledger, cell_id)
    return held.amount_micro_cents if held is not None else 0


def is_known(home: CellHome, row: StackRow | None) -> bool:
    """Whether the cell has a record here, and not one of an earlier cell of that name."""
    return home.is_recorded and not (row is not None and home.record().gone_at)


def living_row(journal: Journal, cell_id: str) -> StackRow | None:
    """The journal's row of a cell that was begun and is not gone."""
    row = journal.stack(cell_id)
    return row if row is not None and row.state is not StackState.GONE else None


def way_on(journal: Journal, cell_id: str, row: StackRow | None) -> str:
    """The commands that go on with a cell of which there is no record, or whose teardown has begun."""
    if journal.is_busy(cell_id):
        return "wait: another command works on it right now"
    if row is None:
        return "grafos cloud recover  takes it into the journal, or undoes what cannot be finished"
    undo = f"grafos cloud teardown {row.provider} --cell-id {cell_id}  takes it down"
    if row.state is StackState.UNMAKING:
        return f"grafos cloud teardown {row.provider} --cell-id {cell_id}  finishes what was begun"
    if row.state is StackState.MADE:
        return f"{undo}; only where it was made can it be told to run something"
    return f"grafos cloud recover  finishes what was begun; {undo}"


def shown_of(hands: Hands, cell_id: str, region: str = "") -> tuple[Found, ...]:
    """What a listing shows of the cell and proves ours; of every region without one."""
    _, ours = Engine(hands).listing(region)
    return tuple(one for one in ours if one.tags.get(TAG_STACK) == cell_id and one.state is not State.GONE)


def journal_record(row: StackRow, fabric: Fabric) -> CellRecord:
    """What the journal has to say of a cell without a record; its price is 0 when nobody here knows it any more."""
    plan = row.plan
    return CellRecord(
        cell_id=row.stack,
        fabric=str(fabric.id),
        provider=row.provider,
        region=row.region,
        url="",
        rate_micro_cents_per_hour=plan.rate_micro_cents_per_hour if plan else 0,
        expires_at=plan.expires_at if plan else 0.0,
        provisioned_at=row.created_at,
        machine_type=plan.facts.offer.machine_type if plan else UNKNOWN,
        zone=plan.facts.offer.zone if plan else "",
        emulated=plan.facts.emulated if plan else False,
        pattern=plan.spec.pattern if plan else UNKNOWN,
        state=FOUND_AGAIN if row.state is StackState.MADE else row.state.value,
    )


def without_machine(journal: Journal) -> frozenset[str]:
    """Cells that were begun and for which no machine was ever asked: by what a teardown settles they cost nothing."""
    begun = [row.stack for row in journal.stacks() if row.state is StackState.MAKING and row.plan is not None]
    return frozenset(stack for stack in begun if not any(map(_may_bill, journal.resources(stack).values())))


def _may_bill(row: ResourceRow) -> bool:
    """Whether it is a machine of this cell that is, was or may be there; an earlier cell's has no time of its own."""
    return row.kind is Kind.MACHINE and row.life is not Life.REFUSED and row.first_at > 0


def layers_of(plan: StackPlan, lost: Collection[str] = ()) -> tuple[Layer, ...]:
    """Who ends a cell of that plan, in the order of time (``docs/decisions/dead-man.md``). ``lost`` are the names of
    resources that the cloud does not have any more, or that do nothing."""
    deadlines = [what for what in plan.resources if "ends_at" in what.inputs]
    by_cloud = {
        Kind.MACHINE: "deletes the machine and its disk",
        Kind.DEADLINE: "deallocates the machine; its disk and address bill on",
    }
    by_timer = {
        "aws": "switches the machine off, which terminates it",
        "gcp": "switches the machine off; its disk bills on",
        "azure": "stops the work; the machine bills on",
    }
    nothing = "does nothing: its deadline was deleted or switched off; grafos cloud extend makes it again"
    layers = [
        Layer("the cloud", nothing if what.name in lost else by_cloud[what.kind], float(what.inputs["ends_at"]))
        for what in deadlines
    ]
    timer = Layer("the machine's timer", by_timer[plan.spec.provider], float(plan.timer_at or plan.expires_at))
    sweep = Layer("a sweep", "deletes all of it, when somebody runs one", float(plan.expires_at))
    return tuple(sorted([*layers, timer, sweep], key=lambda layer: layer.at))


def console_of(hands: Hands, cell_id: str, region: str = "") -> str:
    """What the cell's machine last wrote to its console; ``region`` is where one without a record is looked for.
    ``cell_unknown``, ``cell_gone``, or the cloud's refusal."""
    home = CellHome(hands.fabric, cell_id)
    machines = [one for one in hands.journal.resources(cell_id).values() if one.kind is Kind.MACHINE]
    living = [one.ref for one in machines if one.ref is not None and one.life is not Life.GONE]
    if not living and not is_known(home, living_row(hands.journal, cell_id)):
        shown = shown_of(hands, cell_id, region)
        if not shown:
            home.record()
        living = [one.ref for one in shown if one.ref.kind is Kind.MACHINE]
    if not living:
        raise GrafosError("cell_gone", f"{cell_id} has no machine any more", next="see: grafos cloud ls")
    return hands.connector.console(living[0])


def _told_by(hands: Hands, cell_id: str, row: StackRow | None, shown: Iterable[Found]) -> CellRecord:
    """A record of what journal and cloud tell."""
    fabric, provider = hands.fabric, hands.connector.provider
    known = journal_record(row, fabric) if row else CellRecord(cell_id, str(fabric.id), provider, "", "", 0, 0.0, 0.0)
    machine = next((one for one in shown if one.ref.kind is Kind.MACHINE), None)
    moments = [made_at(one, 0.0) for one in shown]
    ends = [float(expiry_in(one.tags)) for one in shown]
    regions = [one.ref.region for one in shown]
    changes = {
        "region": known.region or next(iter(regions), ""),
        "expires_at": max([known.expires_at, *ends]),
        "provisioned_at": known.provisioned_at or min([one for one in moments if one], default=0.0),
        "emulated": hands.identity().emulated,
    }
    if row is None:
        changes |= {"state": UNRECORDED, "pattern": UNKNOWN, "machine_type": UNKNOWN}
    if machine is not None:
        machine_type = machine.attributes.get("machine_type", known.machine_type)
        changes |= {"machine_type": machine_type, "machine_id": machine.ref.id}
    return msgspec.structs.replace(known, **changes)


def parts_of(hands: Hands, cell_id: str) -> list[Part]:
    """What the journal has of it, each as the cloud has it now."""
    rows = [one for one in hands.journal.resources(cell_id).values() if one.ref is not None]
    living = sorted((one for one in rows if one.life is not Life.GONE), key=lambda one: UNMAKE_ORDER.index(one.kind))
    return [Part(one.kind.value, one.name, _state(hands, one), one.ref.id if one.ref else "") for one in living]


def _with_shown(parts: list[Part], shown: Iterable[Found]) -> list[Part]:
    """And what only the listing has."""
    ids = {part.id for part in parts}
    more = sorted((one for one in shown if one.ref.id not in ids), key=lambda one: UNMAKE_ORDER.index(one.ref.kind))
    return parts + [Part(one.ref.kind.value, plan_name_in(one), one.state.value, one.ref.id) for one in more]


def _lost(parts: Iterable[Part]) -> set[str]:
    return {part.name for part in parts if part.state in (State.GONE.value, State.FAILED.value)}


def _state(hands: Hands, row: ResourceRow) -> str:
    assert row.ref is not None
    try:
        return Engine(hands).observe(row.ref).state.value
    except CloudError:
        return UNKNOWN
