"""How a program that ran whole looks: a row for each tasklet, then what the last of them answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from grafos_cli import graph
from grafos_cli.fictional import amount_text, emulated_cells
from grafos_cli.tables import facts, table

if TYPE_CHECKING:
    from grafos_cli.manifest import Program
    from grafos_cli.running import Ended
    from grafos_cli.terminal import Terminal
    from grafos_cli.whole_program import ProgramEnd, Ran
    from grafos_core.fabric import Fabric


def document(program: Program, end: ProgramEnd) -> dict[str, Any]:
    """The end as JSON; the tasklets in the program's order, and the responses of those that no other needs."""
    return {
        "program": program.name,
        "tasklets": [
            {
                "name": tasklet.name,
                "needs": tasklet.needs,
                "attempts": end.ran[tasklet.name].attempts,
                "run": msgspec.to_builtins(end.ran[tasklet.name].ended.view),
            }
            for tasklet in program.tasklets
        ],
        "responses": {name: _response(end.ran[name]) for name in _last_ones(program)},
        "reserved_micro_cents": end.money.amount_micro_cents,
        "spent_micro_cents": end.money.spent_micro_cents,
    }


def text(program: Program, end: ProgramEnd, fabric: Fabric, terminal: Terminal) -> str:
    """The same for people."""
    emulated, rows = emulated_cells(fabric), []
    views = {name: ran.ended.view for name, ran in end.ran.items()}
    for tasklet in program.tasklets:
        view, attempts = views[tasklet.name], end.ran[tasklet.name].attempts
        state = view.state if attempts == 1 else f"{view.state}, {attempts} runs"
        cost = amount_text(view.cost.micro_cents, fictional=view.cell_id in emulated)
        rows.append((tasklet.name, view.run_id, view.cell_id, state, cost))
    fictional = any(view.cell_id in emulated for view in views.values())
    said = [
        ("program", program.name),
        ("held", amount_text(end.money.amount_micro_cents, fictional=fictional)),
        ("spent", amount_text(end.money.spent_micro_cents, fictional=fictional)),
    ]
    shown = table(("TASKLET", "RUN_ID", "CELL_ID", "STATE", "COST"), rows, terminal, "    r")
    answers = [_answer_text(name, end.ran[name].ended) for name in _last_ones(program)]
    return "\n".join((shown, facts(said, terminal), "".join(answers)))


def _answer_text(name: str, ended: Ended) -> str:
    text = ended.artifacts.response_json if ended.artifacts else ""
    return f"{name}: {text}\n" if text else f"{name} answered nothing\n"


def _last_ones(program: Program) -> list[str]:
    return graph.last_ones({tasklet.name: tasklet.needs for tasklet in program.tasklets})


def _response(ran: Ran) -> object:
    left = ran.ended.artifacts
    return msgspec.json.decode(left.response_json) if left and left.response_json else None
