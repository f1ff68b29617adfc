"""How a deploy's plan looks, and which exit code it comes to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from grafos_cli.fictional import amount_text, emulated_cells
from grafos_cli.foreseeing import Foreseen, Need, chosen
from grafos_cli.manifest import Program
from grafos_cli.sizes import size_text
from grafos_cli.tables import facts
from grafos_cli.terminal import Terminal
from grafos_core.errors import CODES, FAILURE
from grafos_core.fabric import Fabric
from grafos_core.tiers import Tier
from grafos_scheduler.messages import Admission


def document(program: Program, needs: Sequence[Need], asked: Sequence[Foreseen]) -> dict[str, Any]:
    """The plan as JSON."""
    best = chosen(asked)
    return {
        "program": program.name,
        "provider": best.provider,
        "admitted": best.admits and not any(need.obstacle for need in needs),
        "tasklets": [
            {
                "name": need.tasklet.name,
                "module_sha256": need.module_sha256,
                "built": need.obstacle is None,
                "requirements": _requirements(need),
                "admission": msgspec.to_builtins(answer),
            }
            for need, answer in zip(needs, best.answers, strict=True)
        ],
        "hold": msgspec.to_builtins(best.hold),
        "considered": [
            {
                "provider": one.provider,
                "cell_id": one.answers[0].cell_id,
                "admits": one.admits,
                "code": _refusal(one).code,
                "what": _refusal(one).what,
                "worst_case_micro_cents": sum(answer.worst_case_micro_cents for answer in one.answers),
            }
            for one in asked
        ],
    }


def text(program: Program, needs: Sequence[Need], asked: Sequence[Foreseen], fabric: Fabric, terminal: Terminal) -> str:
    """The plan for people: a paragraph for each tasklet, then what the other providers said."""
    best, emulated = chosen(asked), emulated_cells(fabric)
    parts = []
    for need, where, answer in zip(needs, best.providers, best.answers, strict=True):
        entries = [
            ("tasklet", f"{program.name} / {need.tasklet.name}"),
            ("module", need.module_sha256 or f"{need.obstacle.why if need.obstacle else ''}: grafos tasklet build"),
            ("needs", _needs_text(need)),
            ("bounds", f"fuel {need.tasklet.fuel:,}, {need.tasklet.deadline_s:g} s"),
            *([] if need.tier is Tier.STANDARD else [("tier", need.tier.value)]),
            ("provider", where),
            *_admission_facts(answer, fictional=answer.cell_id in emulated),
        ]
        parts.append(facts(entries, terminal))
    if best.hold is not None:
        parts.append(facts(_hold_facts(program, best, emulated), terminal))
    others = [one for one in asked if one is not best]
    said = "".join(f"{_name(one, others)} would {_verdict(one)}\n" for one in others)
    return "\n".join([*parts, said] if said else parts)


def exit_code(needs: Sequence[Need], asked: Sequence[Foreseen]) -> int:
    """0 when a run could start now, else the exit code of the first thing in its way."""
    for need in needs:
        if need.obstacle is not None:
            return need.obstacle.exit_code
    refused = _refusal(chosen(asked))
    return 0 if refused.admitted else CODES[refused.code].exit_code if refused.code in CODES else FAILURE


def _requirements(need: Need) -> dict[str, Any]:
    tasklet = need.tasklet
    return {
        "cpu_cores": 1,
        "lease_mem_bytes": need.lease_mem_bytes,
        "lease_block_bytes": need.lease_block_bytes,
        "memory_bytes": tasklet.memory_bytes,
        "fuel": tasklet.fuel,
        "deadline_s": tasklet.deadline_s,
        "tier": need.tier.value,
    }


def _needs_text(need: Need) -> str:
    leased = f", {size_text(need.lease_mem_bytes)} of fabric memory" if need.lease_mem_bytes else ""
    leased += f", {size_text(need.lease_block_bytes)} of blocks" if need.lease_block_bytes else ""
    return f"1 core{leased}; linear memory up to {size_text(need.tasklet.memory_bytes)}"


def _admission_facts(answer: Admission, *, fictional: bool) -> list[tuple[str, str]]:
    if not answer.admitted:
        return [("admission", f"refused ({answer.code}): {answer.what}"), ("next", answer.next)]
    cost = amount_text(answer.worst_case_micro_cents, fictional=fictional)
    way = f"; {answer.giving_way} of a lower tier would give way" if answer.giving_way else ""
    return [
        ("admission", f"would be admitted on {answer.cell_id}{way}"),
        ("cost", f"at most {cost}, {answer.share} of the cell"),
    ]


def _hold_facts(program: Program, best: Foreseen, emulated: Collection[str]) -> list[tuple[str, str]]:
    """What a whole program is told of its money."""
    assert best.hold is not None
    fictional = any(answer.cell_id in emulated for answer in best.answers)
    entries = [
        ("program", f"{program.name}, all of it"),
        ("hold", f"{amount_text(best.hold.worst_case_micro_cents, fictional=fictional)} at once, before it begins"),
    ]
    if best.hold.admitted:
        return entries
    return [*entries, ("admission", f"refused ({best.hold.code}): {best.hold.what}"), ("next", best.hold.next)]


def _refusal(one: Foreseen) -> Admission:
    """The first refusal, or the first answer if there is none."""
    return one.refusal or one.answers[0]


def _name(one: Foreseen, others: Sequence[Foreseen]) -> str:
    """The provider, or the cell where several of them are told of."""
    several = sum(other.provider == one.provider for other in others) > 1
    return f"{one.answers[0].cell_id} of {one.provider}" if several else one.provider


def _verdict(one: Foreseen) -> str:
    refused = _refusal(one)
    return "admit it too" if refused.admitted else f"refuse ({refused.code}): {refused.what}"
