"""Allow: a standalone cell is reached from another address; from the one before it is reached no longer."""

from __future__ import annotations

import msgspec

from grafos_connectors.contract import Kind, State
from grafos_core.errors import GrafosError
from grafos_stacks.creating import Creator
from grafos_stacks.direct import Hands
from grafos_stacks.journal import DIRECT
from grafos_stacks.making import close_old_doors, pinned_plan
from grafos_stacks.plan import StackPlan
from grafos_stacks.spec import STANDALONE, check_spec


def allow(hands: Hands, cell_id: str, operator_cidr: str, engine: str = DIRECT) -> StackPlan:
    """Opens the cell's port to ``operator_cidr`` ("203.0.113.7/32"), closes it to any other, and gives the plan then.

    The new rule is made before the old ones go, so whoever is stopped in between is locked out of nothing; the same
    call again ends it. ``cell_unknown``, ``cell_gone``, ``unsupported`` for what is no standalone cell,
    ``config_invalid`` for an address that is none, ``resources_left`` if the old rule cannot be deleted,
    ``stack_busy`` when it is not the ``engine``'s.
    """
    with hands.journal.lock(cell_id):
        row = hands.journal.stack(cell_id)
        if row is None or row.plan is None:
            raise GrafosError("cell_unknown", f"the journal knows no cell {cell_id!r}", next="grafos cloud ls")
        if row.plan.spec.orchestrates:
            raise GrafosError(
                "unsupported",
                f"{cell_id} is the machine of the fabric's orchestrator, at whose port its cells arrive, too",
                next=f"grafos fabric up --allow {operator_cidr}",
            )
        if row.plan.spec.pattern != STANDALONE:
            raise GrafosError(
                "unsupported",
                f"{cell_id} dials out and has no open port, so there is nothing to allow",
                next=f"its console shows what it does: grafos cloud logs --cell-id {cell_id}",
            )
        wanted = check_spec(msgspec.structs.replace(row.plan.spec, operator_cidr=operator_cidr))
        plan = pinned_plan(hands, wanted, engine)
        if plan is None:
            raise GrafosError("cell_unknown", f"the cell {cell_id!r} is gone", next="grafos cloud ls")
        hands.journal.write(row.moved(row.state, hands.clock.now(), plan=plan))
        _open(hands, plan)
        close_old_doors(hands, Creator(hands), plan)
        return plan


def _open(hands: Hands, plan: StackPlan) -> None:
    """The rule for the new address, in the firewall that the cell has."""
    engine, rows = Creator(hands), hands.journal.resources(plan.stack)
    firewalls = [what for what in plan.resources if what.kind is Kind.FIREWALL]
    known = {}
    for what in firewalls:
        row = rows.get(what.key)
        found = engine.observe(row.ref) if row is not None and row.ref is not None else None
        if found is None or found.state is not State.READY:
            raise GrafosError(
                "cell_not_ready",
                f"the firewall of {plan.stack} is not there",
                next=f"grafos cloud provision {plan.spec.provider} --cell-id {plan.stack}  (it goes on)",
            )
        known[what.name] = found
    engine.make((what for what in plan.resources if what.kind is Kind.FIREWALL_RULE), known)
