"""`grafos:cell:Handover`: from a machine that runs to a cell that is ready, and back.

Making one is what follows on the machine in a provision: software, claim and terms, or joining the orchestrator. Ending
one closes the cell's admission and brings its runs and receipts home, and so it comes before the machine goes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from grafos_connectors.contract import Found, State
from grafos_core.errors import GrafosError
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.homecoming import DRAIN_PATIENCE_S
from grafos_stacks.journal import Homecoming, Life, StackRow
from grafos_stacks.making import Made, note_made
from grafos_stacks.names import attempt_in
from grafos_stacks.orchestrated import leave
from grafos_stacks.plan import StackPlan
from grafos_stacks.provision import PATIENCE, carry_through
from grafos_stacks.pulumi.answers import UnfinishedError
from grafos_stacks.pulumi.bench import Bench
from grafos_stacks.pulumi.codec import UNKNOWN, Properties
from grafos_stacks.pulumi.handlers import Asker, Had, Replaced
from grafos_stacks.pulumi.inputs import HandoverInputs, inputs_in, read_inputs
from grafos_stacks.pulumi.lifetimes import living_plan, owned_row, ran_out
from grafos_stacks.records import BOOTED, OPERATOR, READY, CellHome, CellRecord, add_to_project
from grafos_stacks.spec import STANDALONE
from grafos_stacks.teardown import homecoming_of

LOOK_PATIENCE_S = 5.0
"""How long a read waits for a cell that does not answer at once."""


class Handovers(Replaced):
    """See the module. Another machine is another handover: so the runs of the one before come home before it goes."""

    inputs = HandoverInputs

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def create(self, asker: Asker, new: Properties, *, preview: bool) -> Had:
        """Brings the software, claims the cell, waits until it is ready; what was done before is not done again."""
        if preview:
            return Had("", {**new.values, **dict.fromkeys(("schedulerUrl", "state"), UNKNOWN)})
        return self._have(asker, new.values)

    def update(self, asker: Asker, had: Had, new: Properties, *, preview: bool) -> Had:
        """Goes on with one that was not ready."""
        return had if preview else self._have(asker, new.values)

    def _have(self, asker: Asker, values: Mapping[str, Any]) -> Had:
        inputs = read_inputs(HandoverInputs, values)
        with self._bench.hands_on(inputs.cell_id, inputs.provider, inputs.region) as hands:
            plan = living_plan(hands, inputs.cell_id, asker)
            made = Made(plan, found := self._machine(hands, plan, inputs), attempt_in(found.tags))
            _forget_homecoming(hands, inputs.cell_id)
            try:
                record = carry_through(hands, made, self._bench.bundles, PATIENCE)
                if isinstance(record, GrafosError):
                    raise record
            except GrafosError as error:
                raise UnfinishedError(inputs.cell_id, _unready(values), error, values) from error
            add_to_project(self._bench.project, record)
            note_made(hands, inputs.cell_id)
        return Had(inputs.cell_id, _outputs(values, record))

    def _machine(self, hands: Hands, plan: StackPlan, inputs: HandoverInputs) -> Found:
        row = hands.journal.resources(plan.stack).get(plan.machine.key)
        found = Engine(hands).observe(row.ref) if row is not None and row.ref is not None else None
        if found is None or found.ref.id != inputs.machine or found.state is not State.READY:
            raise GrafosError(
                "cell_gone",
                f"the machine {inputs.machine} of {inputs.cell_id} does not run",
                why=f"the cloud calls it {found.state.value}" if found else "the journal does not know it",
                next="pulumi up --refresh  makes another one",
            )
        return found

    def read(self, asker: Asker, had: Had, inputs: Mapping[str, Any]) -> Had | None:
        """Whether the cell is ready now; gone with its machine, unless it had run out."""
        asked = inputs_in(HandoverInputs, had.outputs, **inputs)
        values = msgspec.to_builtins(asked)
        with self._bench.hands(asked.provider, asked.region) as hands:
            if ran_out(hands, asked.cell_id):
                return had
            row = owned_row(hands, asked.cell_id, asker)
            home = CellHome(hands.fabric, asked.cell_id)
            if row is None or row.plan is None or not _machine_runs(hands, row, asked.machine):
                return None
            record = home.record() if home.is_recorded else None
            try:
                reached = record is not None and _is_ready(home, record)
            except GrafosError as error:
                raise UnfinishedError(had.id, _unready(values), error, values) from error
        if record is None or not reached:
            raise UnfinishedError(had.id, _unready(values), _not_ready(asked.cell_id), values)
        return Had(had.id, _outputs(values, record))

    def delete(self, asker: Asker, had: Had) -> None:
        """Brings home what the cell knows; one that cannot be asked stops nothing."""
        asked = inputs_in(HandoverInputs, had.outputs)
        with self._bench.hands_on(asked.cell_id, asked.provider, asked.region) as hands:
            row = owned_row(hands, asked.cell_id, asker)
            home = CellHome(hands.fabric, asked.cell_id)
            if row is None or (row.homecoming is not None and row.homecoming.settled):
                return
            leave(hands, row, DRAIN_PATIENCE_S if _machine_runs(hands, row, asked.machine) else 0.0)
            came = homecoming_of(hands, row, home)
            self._bench.check_going()
            hands.journal.write(msgspec.structs.replace(row, homecoming=_better(row.homecoming, came)))

    def list(self) -> list[tuple[str, str]]:
        """The cells that have a record here and live."""
        homes = [CellHome(self._bench.fabric, cell_id) for cell_id in self._bench.fabric.cell_ids()]
        return [(home.cell_id, home.cell_id) for home in homes if home.is_recorded and not home.record().gone_at]


def _machine_runs(hands: Hands, row: StackRow, machine_id: str) -> bool:
    rows = hands.journal.resources(row.stack).values()
    refs = [one.ref for one in rows if one.ref is not None and one.ref.id == machine_id and one.life is not Life.GONE]
    return any(Engine(hands).observe(ref).state is State.READY for ref in refs)


def _is_ready(home: CellHome, record: CellRecord) -> bool:
    if record.pattern != STANDALONE:
        return record.state in (READY, BOOTED)
    if record.state != READY or not home.is_granted(OPERATOR):
        return False
    with contextlib.closing(home.client(OPERATOR, patience_s=LOOK_PATIENCE_S)) as client:
        cells = client.cells()
    return bool(cells) and cells[0].ready


def _forget_homecoming(hands: Hands, cell_id: str) -> None:
    """What an earlier machine of the cell brought home is no word about this one."""
    row = hands.journal.stack(cell_id)
    if row is not None and row.homecoming is not None:
        hands.journal.write(msgspec.structs.replace(row, homecoming=None))


def _better(before: Homecoming | None, came: Homecoming) -> Homecoming:
    return before if before is not None and not came.settled and came.runs < before.runs else came


def _outputs(values: Mapping[str, Any], record: CellRecord) -> dict[str, Any]:
    return {**values, "schedulerUrl": record.url, "state": record.state, "tenant": record.tenant}


def _unready(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "schedulerUrl": "", "state": "making", "tenant": ""}


def _not_ready(cell_id: str) -> GrafosError:
    return GrafosError("cell_not_ready", f"the cell {cell_id} is not ready", next="pulumi up  goes on with it")
