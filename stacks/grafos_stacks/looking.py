"""Looking at one cell: what is recorded of it, when each layer ends it, and what the cloud has of it now."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import CloudError, Kind, State
from grafos_core.errors import GrafosError
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.journal import Journal, Life, ResourceRow, StackState
from grafos_stacks.layouts import UNMAKE_ORDER
from grafos_stacks.making import open_hold
from grafos_stacks.plan import StackPlan
from grafos_stacks.records import READY, CellHome, CellRecord

UNKNOWN = "unknown"


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
    """The cell as it stands. ``state`` is live, booted, making, expired or gone."""

    record: CellRecord
    state: str
    machine_state: str
    layers: tuple[Layer, ...]
    resources: tuple[Part, ...]
    held_micro_cents: int
    extending_to: int

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
        }


def state_of(record: CellRecord, now: float) -> str:
    """Where a recorded cell is in its life: ``live`` when it is ready, else how far it came, or how it ended."""
    if record.gone_at:
        return "gone"
    if 0 < record.expires_at < now:
        return "expired"
    return "live" if record.state == READY else record.state


def look(hands: Hands, cell_id: str) -> Look:
    """Reads record, ledger, journal and cloud; ``cell_unknown`` without a record."""
    record, row = CellHome(hands.fabric, cell_id).record(), hands.journal.stack(cell_id)
    rows = [one for one in hands.journal.resources(cell_id).values() if one.ref is not None]
    living = sorted((one for one in rows if one.life is not Life.GONE), key=lambda one: UNMAKE_ORDER.index(one.kind))
    parts = [Part(one.kind.value, one.name, _state(hands, one), one.ref.id if one.ref else "") for one in living]
    held = open_hold(hands.fabric, cell_id)
    plan = row.plan if row is not None and not record.gone_at else None
    return Look(
        record=record,
        state=state_of(record, hands.clock.now()),
        machine_state=next((part.state for part in parts if part.kind == Kind.MACHINE.value), "gone"),
        layers=layers_of(plan, _lost(parts)) if plan is not None else (),
        resources=tuple(parts),
        held_micro_cents=held.amount_micro_cents if held is not None else 0,
        extending_to=row.extending_to if row is not None else 0,
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


def console_of(hands: Hands, cell_id: str) -> str:
    """What the cell's machine last wrote to its console. ``cell_unknown``, ``cell_gone``, or the cloud's refusal."""
    CellHome(hands.fabric, cell_id).record()
    machines = [one for one in hands.journal.resources(cell_id).values() if one.kind is Kind.MACHINE]
    living = [one for one in machines if one.ref is not None and one.life is not Life.GONE]
    if not living or living[0].ref is None:
        raise GrafosError("cell_gone", f"{cell_id} has no machine any more", next="see: grafos cloud ls")
    return hands.connector.console(living[0].ref)


def _lost(parts: Iterable[Part]) -> set[str]:
    return {part.name for part in parts if part.state in (State.GONE.value, State.FAILED.value)}


def _state(hands: Hands, row: ResourceRow) -> str:
    assert row.ref is not None
    try:
        return Engine(hands).observe(row.ref).state.value
    except CloudError:
        return UNKNOWN
