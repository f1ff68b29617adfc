"""How a plan looks: what is made, what it costs by the hour, at most in all, until when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grafos_cli.moments import moment_text
from grafos_cli.sizes import size_text
from grafos_cli.tables import facts, table
from grafos_core.money import format_cents

if TYPE_CHECKING:
    from grafos_cli.planning import Planned
    from grafos_cli.terminal import Terminal
    from grafos_connectors.contract import Price
    from grafos_stacks.candidates import Candidate, Provided
    from grafos_stacks.fleet import Made
    from grafos_stacks.journal import Move
    from grafos_stacks.plan import StackPlan
    from grafos_stacks.provision import Prepared
    from grafos_stacks.records import CellRecord
    from grafos_stacks.spec import CellSpec

NOBODY = "by nobody: it dials out"


def plan_text(prepared: Prepared, terminal: Terminal) -> str:
    """The plan for people."""
    from grafos_stacks.bill import BURST_CREDITS
    from grafos_stacks.failover import zone_of
    from grafos_stacks.spec import REGISTERED

    plan = prepared.plan
    offer, spec = plan.facts.offer, plan.spec
    notes = (", emulated" if plan.facts.emulated else "") + (", continued" if prepared.resumed else "")
    bound = format_cents(plan.bill.total_micro_cents)
    rows = [[what.kind.value, what.name, what.stack] for what in plan.resources]
    label = " (fictional)" if plan.facts.price.fictional else ""
    hours = f"{(plan.life.held_until - int(plan.made_at)) / 3600:g} h"
    machine = f"{offer.machine_type}, {offer.cpu_cores} cores, {size_text(offer.mem_bytes)}, {offer.arch}"
    lines = [
        (
            "machine of" if spec.orchestrates else "cell",
            f"{plan.stack} on {spec.provider} in {zone_of(offer)}{notes}",
        ),
        ("machine", machine),
        ("price", f"{_rate_text(plan)}{label}, disk and address included"),
        ("worst case", f"{bound}{label} for {hours}, held before anything is made"),
        *_parts_of(plan),
        ("not in it", ", ".join(plan.bill.excluded)),
        ("CPU credits", BURST_CREDITS.get(spec.provider, "unknown")),
        ("prices", _priced_by(plan.facts.price)),
        ("ends", _ends(plan) + (", as it was first planned: grafos cloud extend" if prepared.resumed else "")),
        ("starts from", _starts_from(plan)),
        ("reachable", _reachable(spec)),
        *([("joins", _joins(plan))] if spec.pattern == REGISTERED else []),
        ("expected", _expected(plan)),
    ]
    lines += [("not known", note) for note in prepared.notes]
    return table(("RESOURCE", "NAME", "STACK"), rows, terminal) + "\n" + facts(lines, terminal)


def _starts_from(plan: StackPlan) -> str:
    image = plan.facts.image
    if plan.facts.baked:
        return f"the published image {image.name}: nothing is installed at its first boot"
    installs = "the software is installed at its first boot" if plan.facts.bundle.sha256 else "nothing is installed"
    return f"the stock image {image.name}: {installs}"


def _expected(plan: StackPlan) -> str:
    """How long it will take, and how long the other way would."""
    from grafos_stacks.planner import predicted_ways

    told = f"about {plan.predicted_s:.0f} s"
    if not plan.spec.is_told_what_it_is:
        return told
    ways = predicted_ways(plan)
    if plan.facts.baked:
        return f"{told}; from a stock image about {ways.stock:.0f} s"
    return f"{told}; from a published image about {ways.image:.0f} s"


def _joins(plan: StackPlan) -> str:
    """How the machine comes to its orchestrator."""
    from grafos_stacks.spec import BY_WORD

    if not plan.spec.joins:
        return "nothing: it boots, and runs nothing"
    way = "its cloud's word, with no secret in user data" if plan.spec.joining == BY_WORD else "a token for one use"
    return f"the fabric's orchestrator, with {way}"


def _reachable(spec: CellSpec) -> str:
    if spec.orchestrates and spec.operator_cidr == "0.0.0.0/0":
        return f"port {spec.port} from anywhere: its cells dial in there"
    return f"port {spec.port} from {spec.operator_cidr} only" if spec.operator_cidr else NOBODY


def _parts_of(plan: StackPlan) -> list[tuple[str, str]]:
    """What the worst case is made of; what the cell's end may leave behind stands apart, with how long."""
    from grafos_stacks.bill import AFTERWARDS

    running = [part for part in plan.bill.parts if not part.name.endswith(AFTERWARDS)]
    behind = [part for part in plan.bill.parts if part.name.endswith(AFTERWARDS)]
    told = [("  of it", ", ".join(f"{part.name} {format_cents(part.micro_cents)}" for part in running))]
    if behind:
        amounts = ", ".join(f"{part.name} {format_cents(part.micro_cents)}" for part in behind)
        told.append(("  and", f"{amounts}: {behind[0].how}"))
    return told


def _rate_text(plan: StackPlan) -> str:
    most = f"{format_cents(plan.rate_micro_cents_per_hour)} an hour"
    now = format_cents(plan.billed_micro_cents_per_hour)
    return f"{now} an hour as a spot machine now, at most {most}" if plan.is_spot else most


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
    from grafos_stacks.planner import predicted_ways

    found: dict[str, object] = msgspec.to_builtins(plan)
    found["rate_micro_cents_per_hour"] = plan.rate_micro_cents_per_hour
    found["worst_case_micro_cents"] = plan.bill.total_micro_cents
    found["cpu_credits"] = BURST_CREDITS.get(plan.spec.provider, "unknown")
    found["installs_at_first_boot"] = bool(plan.facts.bundle.sha256)
    found["predicted_ways_s"] = predicted_ways(plan)._asdict() if plan.spec.is_told_what_it_is else {}
    return found


# --- several places, several cells --------------------------------------------------------------------------------


def planned_text(work: Planned, terminal: Terminal) -> str:
    """All that was planned: the places where there are several, the plan of the first, the sum of many."""
    parts = []
    if len(work.candidates) > 1:
        parts.append(candidates_text(work.candidates, terminal))
    parts.append(plan_text(work.first, terminal))
    if len(work.names) > 1:
        total = format_cents(work.most_micro_cents)
        label = " (fictional)" if work.first.plan.facts.price.fictional else ""
        cells = f"{len(work.names)}: {work.names[0]} to {work.names[-1]}"
        together = f"{total}{label} at worst, held before any is made"
        parts.append(facts([("cells", cells), ("together", together)], terminal))
    return "\n".join(parts)


def candidates_text(candidates: Sequence[Candidate], terminal: Terminal) -> str:
    """Every place with its price, in the order of trying; and why some are none."""
    rows = [
        [
            one.place,
            one.prepared.plan.facts.offer.machine_type if one.prepared else one.spec.machine_type or "-",
            _price_text(one),
            format_cents(one.prepared.plan.bill.total_micro_cents) if one.prepared else "-",
            one.why_not or "-",
        ]
        for one in candidates
    ]
    return table(("PLACE", "TYPE", "PER HOUR", "WORST CASE", "WHY NOT"), rows, terminal)


def _price_text(one: Candidate) -> str:
    price = one.hourly_micro_cents
    if price is None or one.prepared is None:
        return "-"
    return format_cents(price) + (" (fictional)" if one.prepared.plan.facts.price.fictional else "")


def planned_document(work: Planned) -> dict[str, Any]:
    """The same for programs."""
    return {
        "plan": plan_document(work.first.plan),
        "resumed": work.first.resumed,
        "notes": list(work.first.notes),
        "cell_ids": list(work.names),
        "most_micro_cents": work.most_micro_cents,
        "candidates": [
            {
                "provider": one.spec.provider,
                "region": one.spec.region,
                "place": one.place,
                "spot": one.spec.spot,
                "machine_type": one.prepared.plan.facts.offer.machine_type if one.prepared else one.spec.machine_type,
                "micro_cents_per_hour": one.hourly_micro_cents,
                "worst_case_micro_cents": one.prepared.plan.bill.total_micro_cents if one.prepared else None,
                "refusals": [error.to_wire() for error in one.refusals],
            }
            for one in work.candidates
        ],
    }


# --- what came of it ----------------------------------------------------------------------------------------------


def made_text(made: Provided, took_s: float) -> str:
    """One cell, where it came to lie and why there, and what can be done with it."""
    from grafos_stacks.failover import zone_of

    record = made.record
    moved = "".join(f"{move.before} had none: {move.why}\n" for move in made.moves)
    where = f"{record.machine_type} in {zone_of(record)}"
    teardown = f"End it:               grafos cloud teardown {record.provider} --cell-id {record.cell_id}\n"
    if record.state == "booted":
        return (
            f"{moved}Cell {record.cell_id} has booted after {took_s:.1f} s: {where}. "
            "Its deadline stands; nobody gets in.\n"
            "It was asked to join nothing (--no-join), so it runs nothing.\n"
            f"See it:               grafos cloud show --cell-id {record.cell_id}\n{teardown}"
        )
    return (
        f"{moved}Cell {record.cell_id} is ready after {took_s:.1f} s: {where}, "
        f"{record.url or 'at the orchestrator'}.\n"
        f"Run something on it:  grafos deploy run --provider {record.provider}\n{teardown}"
    )


def fleet_text(outcomes: Sequence[Made], took_s: float, terminal: Terminal) -> str:
    """Each cell in a line, and how many there are."""
    from grafos_stacks.failover import zone_of

    rows = []
    for one in outcomes:
        record = one.provided.record if one.provided else None
        where = f"{record.provider} {zone_of(record)}" if record else "-"
        rows.append([one.cell_id, record.state if record else "failed", where, _why(one)])
    made = [one for one in outcomes if one.error is None]
    summary = f"{len(made)} of {len(outcomes)} cells after {took_s:.1f} s.\n"
    if len(made) < len(outcomes):
        base = outcomes[0].cell_id.rpartition("-")[0]
        summary += f"The same command with --cell-id {base} makes the others; their money stays held.\n"
    return table(("CELL", "STATE", "WHERE", "WHY"), rows, terminal) + summary


def _why(one: Made) -> str:
    if one.error is not None:
        return f"{one.error.code}: {one.error.what}"
    moves = one.provided.moves if one.provided else ()
    return "; ".join(f"{move.before} had none" for move in moves) or "-"


def fleet_document(outcomes: Sequence[Made]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "cells": [
            {
                "cell_id": one.cell_id,
                "cell": cell_document(one.provided.record) if one.provided else None,
                "moves": moves_document(one.provided.moves if one.provided else ()),
                "error": one.error.to_wire() if one.error else None,
            }
            for one in outcomes
        ],
        "made": sum(one.error is None for one in outcomes),
        "failed": sum(one.error is not None for one in outcomes),
    }


def moves_document(moves: Sequence[Move]) -> list[dict[str, Any]]:
    """Where the cell was tried before, and why not there."""
    import msgspec

    return [msgspec.to_builtins(move) for move in moves]


def cell_document(cell: CellRecord) -> dict[str, object]:
    """The cell's record for programs."""
    import msgspec

    found: dict[str, object] = msgspec.to_builtins(cell)
    return found
