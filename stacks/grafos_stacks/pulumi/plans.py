"""`grafos:cell:Plan`: a cell's plan and its hold.

Making one resolves what the inputs leave open, pins it in the journal, and takes the worst case from the fabric's
ledger, before anything of the cell exists. Ending one is a whole teardown: by then its parts are gone, and whatever a
killed run left of them beside Pulumi's state is found by its tags and goes now, with a signed receipt.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from grafos_connectors.contract import Kind
from grafos_core.durations import read_duration
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_core.ids import FabricId
from grafos_core.money import format_cents
from grafos_stacks.allowing import allow
from grafos_stacks.cell_holds import hold_worst_case, open_hold, open_hold_in
from grafos_stacks.direct import Hands
from grafos_stacks.extending import Wish, extend, planned_until
from grafos_stacks.journal import Journal, Life, StackRow, StackState
from grafos_stacks.making import opened, pinned_plan
from grafos_stacks.orchestrated import check_free, check_way, in_the_way
from grafos_stacks.owners import PULUMI, check_owner
from grafos_stacks.plan import CellFacts, StackPlan
from grafos_stacks.planner import plan_cell
from grafos_stacks.preflight import survey, together
from grafos_stacks.prices import PriceBook
from grafos_stacks.provision import begin_anew, judged, refuse_other_account
from grafos_stacks.pulumi.bench import Bench
from grafos_stacks.pulumi.codec import UNKNOWN, Properties
from grafos_stacks.pulumi.handlers import Asker, Change, Had, changed_names
from grafos_stacks.pulumi.inputs import REPLACING, PlanInputs, check_plan, check_rails, read_inputs, spec_of
from grafos_stacks.pulumi.roles import keys_of
from grafos_stacks.records import CellHome
from grafos_stacks.spec import CellSpec
from grafos_stacks.teardown import teardown

LATER = ("expiresAt", "madeAt", "document")
"""Outputs that follow from the moment of making."""


class Pinned(msgspec.Struct, frozen=True):
    """What a plan is made from: with it, and the fabric's key, the plan is made anew wherever the journal is lost."""

    spec: CellSpec
    facts: CellFacts
    made_at: float
    expires_at: int


class Plans:
    """See the module."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._guard = threading.Lock()
        self._seen: dict[CellSpec, StackPlan] = {}
        self._promised: dict[str, int] = {}

    # --- before anything is changed -----------------------------------------------------------------------------

    def check(self, asker: Asker, old: Properties, new: Properties) -> Mapping[str, Any]:
        """Guard rails; and of a cell that is to be made, whether it can be, and whether the ledger has the money."""
        if new.unknown:
            return new.values
        inputs = read_inputs(PlanInputs, new.values)
        check_rails(inputs)
        if not (old.values and not set(changed_names(old.values, new)) & set(REPLACING)):
            with self._bench.hands(inputs.provider, inputs.region) as hands:
                plan = self._planned(hands, asker, inputs)
                self._check_money(hands, plan)
        return new.values

    def change(self, outputs: Mapping[str, Any], old: Mapping[str, Any], new: Properties) -> Change:
        """A cell that ran out stays gone until its TTL is renewed, and then is another one."""
        changed = changed_names(old, new)
        replacing = [name for name in changed if name in REPLACING]
        ran_out = 0 < float(outputs.get("expiresAt", 0)) <= self._bench.clock.now()
        renewed = [name for name in changed if name in ("ttl", "renewal")]
        return Change(changed, tuple(replacing + (renewed if ran_out else [])))

    # --- making -------------------------------------------------------------------------------------------------

    def create(self, asker: Asker, new: Properties, *, preview: bool) -> Had:
        """Resolves, pins and holds; the same again when a run was killed in between."""
        if preview and new.unknown:
            return Had("", {**new.values, **dict.fromkeys((*LATER, "keys", "zone", "account"), UNKNOWN)})
        inputs = read_inputs(PlanInputs, new.values)
        with self._bench.hands(inputs.provider, inputs.region) as hands:
            if preview:
                plan = self._planned(hands, asker, inputs)
                return Had("", {**_outputs(plan), **dict.fromkeys(LATER, UNKNOWN)})
            with hands.journal.lock(inputs.cell_id):
                plan = self._held(hands, asker, inputs)
        with self._guard:
            self._promised.pop(plan.stack, None)
        return Had(inputs.cell_id, {**_outputs(plan), "renewal": inputs.renewal})

    def _held(self, hands: Hands, asker: Asker, inputs: PlanInputs) -> StackPlan:
        spec = spec_of(inputs, emulated=hands.identity().emulated)
        pinned = pinned_plan(hands, spec, asker.owner)
        plan = pinned or self._planned(hands, asker, inputs)
        check_way(hands.fabric, plan.spec, emulated=plan.facts.emulated)
        if pinned is None:
            if spec.joins:
                check_free(hands, spec)
            begin_anew(hands, CellHome(hands.fabric, plan.stack))
        else:
            refuse_other_account(hands, pinned)
        row = opened(hands, plan, engine=asker.owner)
        if row.engine != asker.owner:  # it was handed over to whichever Pulumi stack declares it
            row = row.moved(row.state, hands.clock.now(), engine=asker.owner)
            hands.journal.write(row)
        hold_worst_case(hands, row, plan)
        return plan

    def _planned(self, hands: Hands, asker: Asker, inputs: PlanInputs) -> StackPlan:
        """The plan of a cell: the pinned one, or a new one. What the cloud says is asked once for all like it."""
        spec = spec_of(inputs, emulated=hands.identity().emulated)
        if (pinned := self._pinned(hands, asker, spec)) is not None:
            return pinned
        same = msgspec.structs.replace(spec, cell_id="any")
        with self._guard:
            seen = self._seen.get(same)
        if seen is None:
            seen = _surveyed(hands, spec, self._bench)
            with self._guard:
                self._seen[same] = seen
        plan = plan_cell(spec, seen.facts, FabricId(hands.fabric.id), hands.clock.now())
        check_plan(inputs, plan)
        return plan

    def _pinned(self, hands: Hands, asker: Asker, spec: CellSpec) -> StackPlan | None:
        """The plan that is pinned, unless the cell as it is goes first because it is replaced."""
        row = hands.journal.stack(spec.cell_id)
        if row is None or row.plan is None or row.state is StackState.GONE:
            return None
        check_owner(row, asker.owner)
        replaced = row.plan.spec.replace_inputs() != spec.replace_inputs() or row.plan.expires_at <= hands.clock.now()
        return None if replaced else pinned_plan(hands, spec, asker.owner)

    def _check_money(self, hands: Hands, plan: StackPlan) -> None:
        """``budget_exceeded`` if the plan does not fit beside the others of this run. The hold itself is taken when the
        cell is made; by then somebody else may have been faster, and that is the same refusal."""
        ledger = hands.fabric.read_ledger()
        own = open_hold_in(ledger, plan.stack)
        wanted = plan.bill.total_micro_cents
        with self._guard:
            others = sum(amount for stack, amount in self._promised.items() if stack != plan.stack)
            free = ledger.account(OPERATOR_ACCOUNT).free_micro_cents + (own.amount_micro_cents if own else 0) - others
            if wanted <= free:
                self._promised[plan.stack] = 0 if own else wanted
                return
        raise GrafosError(
            "budget_exceeded",
            f"{plan.stack} may cost {format_cents(wanted)}, and {format_cents(max(0, free))} of the cap are free",
            where="the fabric's ledger",
            next="choose something smaller or shorter, or raise the cap: grafos cloud budget set CENTS",
        )

    # --- afterwards ---------------------------------------------------------------------------------------------

    def read(self, asker: Asker, had: Had, inputs: Mapping[str, Any]) -> Had | None:
        """The plan as the journal has it; a lost journal learns it from here. One that was torn down is gone, unless
        it had run out: then it stays what it is."""
        del inputs
        provider, region = str(had.outputs.get("provider", "")), str(had.outputs.get("region", ""))
        if not provider:
            raise _no_import("Plan")
        with self._bench.hands(provider, region) as hands:
            row = hands.journal.stack(had.id) or self._repinned(hands, asker, had)
            if row is not None and row.plan is not None and row.state is not StackState.GONE:
                return Had(had.id, _as_it_is(row.plan, had))
        ran_out = 0 < float(had.outputs.get("expiresAt", 0)) <= self._bench.clock.now()
        return had if ran_out else None

    def _repinned(self, hands: Hands, asker: Asker, had: Had) -> StackRow | None:
        """The row of a stack that the journal lost, if the ledger still holds money for it."""
        pinned = msgspec.json.decode(str(had.outputs.get("document", "")), type=Pinned)
        held = open_hold(hands.fabric, had.id)
        if held is None:
            return None
        plan = plan_cell(pinned.spec, pinned.facts, FabricId(hands.fabric.id), pinned.made_at)
        if plan.machine.key not in dict(had.outputs.get("keys", {})).values():
            raise GrafosError(
                "fabric_mismatch",
                f"{had.id} was made by another fabric than {hands.fabric.id}",
                where=str(hands.fabric.home),
                next="run where its fabric is, or bring its key here: grafos fabric import",
            )
        if pinned.expires_at != plan.expires_at:
            plan = planned_until(plan, pinned.expires_at)
        row = msgspec.structs.replace(opened(hands, plan, engine=asker.owner), hold_id=held.hold_id)
        hands.journal.write(row)
        return row

    def update(self, asker: Asker, had: Had, new: Properties, *, preview: bool) -> Had:
        """A later end, or another address that may reach the cell."""
        if preview and new.unknown:
            return Had(had.id, {**had.outputs, **dict.fromkeys((*LATER, "keys"), UNKNOWN)})
        inputs = read_inputs(PlanInputs, new.values)
        with self._bench.hands(inputs.provider, inputs.region) as hands:
            spec = spec_of(inputs, emulated=hands.identity().emulated)
            plan = pinned_plan(hands, spec, asker.owner)
            if plan is None:
                raise _unknown(inputs.cell_id)
            if preview:
                return Had(had.id, {**_as_it_is(plan, had), **dict.fromkeys(LATER, UNKNOWN)})
            _let_in(hands, plan, asker)
            since = self._lasting(hands, had, inputs, plan, asker)
            row = hands.journal.stack(inputs.cell_id)
            assert row is not None
            assert row.plan is not None
            return Had(had.id, {**_outputs(row.plan), "renewal": inputs.renewal, "since": since})

    def _lasting(self, hands: Hands, had: Had, inputs: PlanInputs, plan: StackPlan, asker: Asker) -> float:
        """Has the cell live as long as it is asked for, and gives since when that is counted: its making, or its last
        renewal."""
        renewed = inputs.renewal > int(had.outputs.get("renewal", 0))
        since = hands.clock.now() if renewed else float(had.outputs.get("since", plan.made_at))
        until = int(since) + read_duration("ttl", inputs.ttl)
        try:
            if until != plan.expires_at:
                extend(hands, inputs.cell_id, Wish(until=until), self._bench.project, asker.owner)
        except GrafosError as error:
            if error.code == "cell_not_ready":
                error.next = "set ttl and renewal back and run pulumi up: it goes on; or end it: pulumi destroy"
            raise
        return since

    def delete(self, asker: Asker, had: Had) -> None:
        """Whatever is left of the cell goes, its hold is settled, its receipt is signed."""
        provider, region = str(had.outputs["provider"]), str(had.outputs["region"])
        with self._bench.hands(provider, region) as hands:
            try:
                teardown(hands, had.id, self._bench.project, region, provider, engine=asker.owner)
            except GrafosError as error:
                self._bench.check_going()
                if error.code != "cell_unknown":
                    raise

    def list(self) -> list[tuple[str, str]]:
        """The cells that the journal knows as Pulumi's."""
        with contextlib.closing(Journal(self._bench.fabric, self._bench.clock)) as journal:
            rows = [row for row in journal.stacks() if row.plan is not None and row.state is not StackState.GONE]
        return [(row.stack, row.stack) for row in rows if row.engine.startswith(PULUMI)]


def _outputs(plan: StackPlan) -> dict[str, Any]:
    """Of a plan that was made just now."""
    pinned = Pinned(plan.spec, plan.facts, plan.made_at, plan.expires_at)
    return {
        "cellId": plan.stack,
        "provider": plan.spec.provider,
        "region": plan.spec.region,
        "account": plan.facts.account,
        "emulated": plan.facts.emulated,
        "pattern": plan.spec.pattern,
        "zone": plan.facts.offer.zone,
        "machineType": plan.facts.offer.machine_type,
        "image": plan.facts.image.id,
        "arch": plan.facts.image.arch,
        "operatorCidr": plan.spec.operator_cidr,
        "price": f"{format_cents(plan.rate_micro_cents_per_hour)}/h",
        "rateMicroCentsPerHour": plan.rate_micro_cents_per_hour,
        "heldMicroCents": plan.bill.total_micro_cents,
        "madeAt": plan.made_at,
        "expiresAt": plan.expires_at,
        "renewal": 0,
        "since": plan.made_at,
        "keys": keys_of(plan),
        "document": msgspec.json.encode(pinned).decode(),
    }


def _as_it_is(plan: StackPlan, had: Had) -> dict[str, Any]:
    """Of a plan that is known; what only its resource knows stays."""
    kept = {name: had.outputs[name] for name in ("renewal", "since") if name in had.outputs}
    return {**_outputs(plan), **kept}


def _let_in(hands: Hands, plan: StackPlan, asker: Asker) -> None:
    """Opens the cell to the address of its plan. The rule is made here, before the one for the address of before goes:
    whoever makes the change must get in all the time. Of a cell that has no rule yet, the plan alone changes."""
    row = hands.journal.stack(plan.stack)
    assert row is not None
    assert row.plan is not None
    if row.plan.spec.operator_cidr == plan.spec.operator_cidr:
        return
    rows = hands.journal.resources(plan.stack).values()
    if any(one.kind is Kind.FIREWALL_RULE and one.life is Life.READY for one in rows):
        allow(hands, plan.stack, plan.spec.operator_cidr, asker.owner)
        return
    with hands.journal.lock(plan.stack):
        opened(hands, plan, engine=asker.owner)


def _surveyed(hands: Hands, spec: CellSpec, bench: Bench) -> StackPlan:
    """What the cloud says of such a cell, as a plan; all that stands in the way is raised together."""
    seen = survey(hands, spec, bench.bundles.pin, PriceBook(hands.clock).price)
    prepared, refusals = judged(hands, spec, seen)
    if seen.facts is not None and (way := in_the_way(hands.fabric, spec, emulated=seen.facts.emulated)):
        refusals.append(way)
    if prepared is None or refusals:
        raise together(refusals, f"{spec.cell_id} on {spec.provider} in {spec.region}")
    return prepared.plan


def _unknown(cell_id: str) -> GrafosError:
    return GrafosError("cell_unknown", f"the journal knows no cell {cell_id!r} that lives", next="pulumi refresh")


def _no_import(what: str) -> GrafosError:
    return GrafosError(
        "unsupported",
        f"a {what} cannot be imported by its id alone",
        next="declare it and run pulumi up: what exists and is ours is adopted by its keys",
    )
