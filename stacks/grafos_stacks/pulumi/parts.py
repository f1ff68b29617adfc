"""`grafos:cell:Machine`, `Network` and the like: one cloud resource of a cell, made by the steps of the direct engine.

Intent, call and outcome go through the same journal, under the same locks, with the same keys, tags and tokens. So a
call that is killed anywhere is gone on with by the next one, whichever engine makes that.

What a region's cells share is never deleted here: it goes with the last cell, when that cell's plan ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from grafos_connectors.contract import CloudError, Found, Kind, Ref, Scalar, State
from grafos_core.errors import GrafosError
from grafos_stacks.asking import check_account
from grafos_stacks.creating import Creator, LateInputs, no_late_inputs
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.failover import CAPACITY, make_somewhere
from grafos_stacks.journal import Journal, Life, ResourceRow, StackRow
from grafos_stacks.layouts import layout_of
from grafos_stacks.making import SHARED_PATIENCE_S, in_time, note_shared
from grafos_stacks.plan import Planned, StackPlan
from grafos_stacks.provision import PATIENCE, late_inputs_of
from grafos_stacks.pulumi.answers import UnfinishedError
from grafos_stacks.pulumi.bench import LOCK_PATIENCE_S, Bench
from grafos_stacks.pulumi.codec import UNKNOWN, Properties
from grafos_stacks.pulumi.handlers import Asker, Change, Had, Replaced
from grafos_stacks.pulumi.inputs import PART_REPLACING, PartInputs, inputs_in, read_inputs
from grafos_stacks.pulumi.lifetimes import living_plan, owned_row, ran_out
from grafos_stacks.pulumi.roles import in_role, kinds_upon
from grafos_stacks.recovery import made_at
from grafos_stacks.unmaking import resources_left, unmake_kinds

TOLD = ("public_ip", "private_ip", "machine_type", "image")
"""Attributes of a resource that are outputs, by our names for them."""


class Parts(Replaced):
    """All resources of one kind."""

    inputs = PartInputs

    def __init__(self, bench: Bench, kind: Kind) -> None:
        self._bench, self._kind = bench, kind

    def change(self, outputs: Mapping[str, Any], old: Mapping[str, Any], new: Properties) -> Change:
        """As ``Handler.change``. While its key is the same it is the same resource, whatever it hangs on: a machine for
        which its zone had no room is in another zone's subnet, of which a program hears afterwards."""
        changed = super().change(outputs, old, new).changed
        return Change(changed, tuple(name for name in changed if name in PART_REPLACING))

    def create(self, asker: Asker, new: Properties, *, preview: bool) -> Had:
        """Makes or adopts it, and what the cloud wants made while it becomes ready. A machine for which its zone has no
        room is made in another one, unless the person named the zone."""
        if preview:
            return Had("", {**new.values, **dict.fromkeys(("name", "zone", "account", "state"), UNKNOWN)})
        return self._have(asker, new.values)

    def update(self, asker: Asker, had: Had, new: Properties, *, preview: bool) -> Had:
        """Goes on with one that was not ready."""
        return had if preview else self._have(asker, new.values)

    def _have(self, asker: Asker, values: Mapping[str, Any]) -> Had:
        inputs = read_inputs(PartInputs, values)
        with self._bench.hands(inputs.provider, inputs.region) as hands:
            plan = living_plan(hands, inputs.cell_id, asker)
            what = in_role(plan, inputs.role)
            _check_key(what, inputs)
            account = plan.facts.account
            patience_s = max(LOCK_PATIENCE_S, SHARED_PATIENCE_S)
            with hands.journal.lock(what.stack, patience_s=patience_s, sleep=hands.sleep):
                if what.stack == plan.shared_stack:
                    note_shared(hands, plan)
                try:
                    found = self._made(hands, plan, what, inputs)
                except GrafosError as error:
                    raise _unfinished(hands, what, values, account, error) from error
        return Had(found.ref.id, _outputs(values, what, found, account))

    def _made(self, hands: Hands, plan: StackPlan, what: Planned, inputs: PartInputs) -> Found:
        known = {
            name: Found(ref=Ref("", Kind.NETWORK, inputs.needs[role], what.region), state=State.READY)
            for role, name in what.needs.items()
        }
        known |= _journalled(hands, plan, what)  # of a cell that moved to another zone it knows the other subnet
        early = [one for one in plan.resources if one.early and _last_needed(plan, one) == what.name]
        for one in early:  # what they need besides has been made before, and the journal has it
            known |= {name: found for name, found in _journalled(hands, plan, one).items() if name != what.name}
        try:
            return Creator(hands).make([what, *early], known, self._late(hands, plan, what))[what.name]
        except CloudError as refusal:
            if what.kind is not Kind.MACHINE or refusal.code != CAPACITY or plan.spec.zone:
                raise
        return make_somewhere(hands, plan, lambda tried: self._late(hands, tried, tried.machine)).machine

    def _late(self, hands: Hands, plan: StackPlan, what: Planned) -> LateInputs:
        if what.kind is not Kind.MACHINE:
            return no_late_inputs
        late = in_time(hands, plan, late_inputs_of(hands, plan, self._bench.bundles, PATIENCE))

        def going_on(what: Planned, attempt: int) -> Mapping[str, Scalar]:
            self._bench.check_going()  # no machine is made for an engine that is about to end
            return late(what, attempt)

        return going_on

    def read(self, asker: Asker, had: Had, inputs: Mapping[str, Any]) -> Had | None:
        """It as the cloud shows it. Gone is only what the right account did not show, twice if it is young."""
        asked = inputs_in(PartInputs, had.outputs, **inputs)
        with self._bench.hands(asked.provider, asked.region) as hands:
            _check_account(hands, had)
            ref = Ref(asked.key, self._kind, had.id, asked.region, str(had.outputs.get("zone", "")))
            found = self._observed(hands, had, ref, asked)
            if found.state in (State.GONE, State.DELETING):
                return had if ran_out(hands, asked.cell_id) else None
            row = owned_row(hands, asked.cell_id, asker)
        seen = Had(had.id, {**had.outputs, **_attributes(found), "state": found.state.value})
        if found.state is not State.READY and row is not None:
            raise UnfinishedError(had.id, seen.outputs, _not_ready(found, asked), msgspec.to_builtins(asked))
        return seen

    def _observed(self, hands: Hands, had: Had, ref: Ref, asked: PartInputs) -> Found:
        engine = Engine(hands)
        found = engine.observe(ref)
        row = self._row(hands, had, asked.key)
        if found.state is State.GONE and row is not None and row.life is Life.READY:
            settled = row.changed_at + hands.connector.traits.listing_lag_s
            if settled > hands.clock.now():  # what was made a moment ago may not be shown yet
                engine.wait_until(settled, row.name)
                found = engine.observe(ref)
        return found

    def delete(self, asker: Asker, had: Had) -> None:
        """Deletes it and waits until it is gone, with what goes along; what is shared stays."""
        asked = inputs_in(PartInputs, had.outputs)
        if str(had.outputs.get("stack", "")) != asked.cell_id:
            return
        with self._bench.hands_on(asked.cell_id, asked.provider, asked.region) as hands:
            _check_account(hands, had)
            cell = owned_row(hands, asked.cell_id, asker)
            row = self._row(hands, had, asked.key) or self._as_row(hands, had, asked)
            if row.life is not Life.GONE:
                if cell is not None:
                    self._end_what_is_upon_it(hands, cell, asked.role)
                Engine(hands).unmake(row)
            _note_what_went_along(hands, asked, self._kind)

    def _end_what_is_upon_it(self, hands: Hands, cell: StackRow, role: str) -> None:
        """Ends what needs this part and is there all the same: the cloud would not let the part go before.

        The engine ends first what needs a part, so it does not know of this: it was killed before it heard that it is
        there. Under a program what is ready may only stay for the next step; what is not is a killed run's there too.
        """
        kinds = kinds_upon(cell.provider, role)
        staying = (Life.GONE, Life.READY) if self._bench.has_program else (Life.GONE,)
        rows = [row for row in hands.journal.resources(cell.stack).values() if row.kind in kinds]
        if any(row.life not in staying and (row.life is not Life.REFUSED or row.doubt_at) for row in rows):
            unmade = unmake_kinds(hands, cell, kinds)
            if unmade.left:
                raise resources_left(unmade, cell)

    def list(self) -> list[tuple[str, str]]:
        """Those that the journal knows and that are not gone."""
        with contextlib.closing(Journal(self._bench.fabric, self._bench.clock)) as journal:
            rows = [row for stack in journal.stacks() for row in journal.resources(stack.stack).values()]
        living = [row for row in rows if row.kind is self._kind and row.ref is not None and row.life is not Life.GONE]
        return [(row.ref.id, f"{row.stack}/{row.name}") for row in living if row.ref is not None]

    def _row(self, hands: Hands, had: Had, key: str) -> ResourceRow | None:
        """The journal's row of that very resource."""
        rows = hands.journal.resources(str(had.outputs.get("stack", ""))).values()
        return next((row for row in rows if row.key == key and row.ref is not None and row.ref.id == had.id), None)

    def _as_row(self, hands: Hands, had: Had, asked: PartInputs) -> ResourceRow:
        """Of one that the journal lost."""
        now, zone = hands.clock.now(), str(had.outputs.get("zone", ""))
        ref = Ref(asked.key, self._kind, had.id, asked.region, zone)
        found = Engine(hands).observe(ref)
        return ResourceRow(
            key=asked.key,
            stack=asked.cell_id,
            name=asked.role,
            kind=self._kind,
            region=asked.region,
            zone=zone,
            attempt=1,
            token="",
            life=Life.READY,
            first_at=made_at(found, now),
            intended_at=now,
            changed_at=now,
            tags=dict(found.tags),
            ref=ref,
        )


def _last_needed(plan: StackPlan, one: Planned) -> str:
    """The name of what is made last of all that it needs."""
    return [each.name for each in plan.resources if each.name in one.needs.values()][-1]


def _check_key(what: Planned, inputs: PartInputs) -> None:
    if what.key != inputs.key:
        raise GrafosError(
            "plan_stale",
            f"the {inputs.role} of {inputs.cell_id} is another one by its plan",
            next="run pulumi up for the whole stack, without --target",
        )


def _check_account(hands: Hands, had: Had) -> None:
    """In another account everything looks gone."""
    made_in, account = str(had.outputs.get("account", "")), hands.identity().account
    if made_in:
        check_account(f"{had.id} was made", made_in, account)


def _journalled(hands: Hands, plan: StackPlan, one: Planned) -> dict[str, Found]:
    """What a resource of the plan needs, as far as the journal knows it to be there."""
    found: dict[str, Found] = {}
    for name in one.needs.values():
        needed = plan.resource(name)
        row = hands.journal.resources(needed.stack).get(needed.key)
        if row is not None and row.ref is not None and row.life is Life.READY:
            found[name] = Found(ref=row.ref, state=State.READY)
    return found


def _unfinished(hands: Hands, what: Planned, values: Mapping[str, Any], account: str, error: GrafosError) -> Exception:
    """The error as it is, or with the id of what exists all the same."""
    row = hands.journal.resources(what.stack).get(what.key)
    if row is None or row.ref is None or row.life not in (Life.BEGUN, Life.READY):
        return error
    found = Found(ref=row.ref, state=State.PENDING)
    return UnfinishedError(row.ref.id, _outputs(values, what, found, account), error, values)


def _outputs(values: Mapping[str, Any], what: Planned, found: Found, account: str) -> dict[str, Any]:
    return {
        **values,
        "name": what.cloud_name,
        "stack": what.stack,
        "zone": found.ref.zone or what.zone,
        "account": account,
        "state": found.state.value,
        **_attributes(found),
    }


def _attributes(found: Found) -> dict[str, str]:
    return {_camel(name): found.attributes[name] for name in TOLD if found.attributes.get(name)}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _not_ready(found: Found, asked: PartInputs) -> GrafosError:
    if found.state is State.PENDING:
        return GrafosError(
            "cell_not_ready", f"the {asked.role} of {asked.cell_id} is not ready yet", next="pulumi up  waits for it"
        )
    reason = found.attributes.get("reason", "")
    return GrafosError(
        "cloud_conflict",
        f"the {asked.role} of {asked.cell_id} is {found.state.value}",
        where=found.ref.id,
        why=reason,
        next="end the cell and make it anew: pulumi destroy, then pulumi up",
    )


def _note_what_went_along(hands: Hands, asked: PartInputs, kind: Kind) -> None:
    """A rule goes with its firewall: no call of its own, but a look."""
    dies_with, engine = layout_of(asked.provider).dies_with, Engine(hands)
    for row in hands.journal.resources(asked.cell_id).values():
        along = dies_with.get(row.kind) is kind and row.life is not Life.GONE
        if along and row.ref is not None and engine.observe(row.ref).state is State.GONE:
            hands.journal.write(row.moved(Life.GONE, hands.clock.now()))
