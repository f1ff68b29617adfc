"""How a plan looks: what is made, what it costs by the hour, at most in all, until when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from grafos_cli.sizes import size_text
from grafos_cli.tables import facts, table
from grafos_core.money import format_cents

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_connectors.contract import Price
    from grafos_stacks.plan import StackPlan
    from grafos_stacks.provision import Prepared

NOBODY = "by nobody: it dials out"


def plan_text(prepared: Prepared, terminal: Terminal) -> str:
    """The plan for people."""
    from grafos_stacks.bill import BURST_CREDITS

    plan = prepared.plan
    offer, spec = plan.facts.offer, plan.spec
    notes = (", emulated" if plan.facts.emulated else "") + (", continued" if prepared.resumed else "")
    bound = format_cents(plan.bill.total_micro_cents)
    rows = [[what.kind.value, what.name, what.stack] for what in plan.resources]
    parts = ", ".join(f"{part.name} {format_cents(part.micro_cents)}" for part in plan.bill.parts)
    label = " (fictional)" if plan.facts.price.fictional else ""
    hours = f"{round(plan.life.held_until - plan.made_at) / 3600:g} h"
    machine = f"{offer.machine_type}, {offer.cpu_cores} cores, {size_text(offer.mem_bytes)}, {offer.arch}"
    lines = [
        (
            "cell",
            f"{plan.stack} on {spec.provider} in {offer.zone or offer.region}{notes}",
        ),
        ("machine", machine),
        ("price", f"{format_cents(plan.rate_micro_cents_per_hour)} an hour{label}, disk and address included"),
        (
            "worst case",
            f"{bound}{label} for {hours}, held before anything is made ({parts})",
        ),
        ("not in it", ", ".join(plan.bill.excluded)),
        ("CPU credits", BURST_CREDITS.get(spec.provider, "unknown")),
        ("prices", _priced_by(plan.facts.price)),
        ("ends", _ends(plan)),
        ("reachable", f"port {spec.port} from {spec.operator_cidr} only" if spec.operator_cidr else NOBODY),
        ("expected", f"about {plan.predicted_s:.0f} s"),
    ]
    return table(("RESOURCE", "NAME", "STACK"), rows, terminal) + "\n" + facts(lines, terminal)


def _ends(plan: StackPlan) -> str:
    """By itself at its expiry; or later, if it was made so that it can be extended."""
    longest = plan.life.held_until
    later = f"; it can be extended until {moment_text(longest)}" if longest > plan.expires_at else ""
    return f"{moment_text(plan.expires_at)}, by itself{later}"


def _priced_by(price: Price) -> str:
    """Who said so, and when."""
    if price.fictional:
        return f"fictional, of an emulator: nobody is billed by them ({price.source})"
    return f"{price.source}, as of {price.as_of}"


def plan_document(plan: StackPlan) -> dict[str, object]:
    """The plan for programs; it holds no secret."""
    import msgspec

    from grafos_stacks.bill import BURST_CREDITS

    found: dict[str, object] = msgspec.to_builtins(plan)
    found["rate_micro_cents_per_hour"] = plan.rate_micro_cents_per_hour
    found["worst_case_micro_cents"] = plan.bill.total_micro_cents
    found["cpu_credits"] = BURST_CREDITS.get(plan.spec.provider, "unknown")
    return found


def moment_text(moment: float) -> str:
    """Local time, with its zone; a dash for never."""
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(moment)) if moment else "-"
