"""How it looks what a roll is about to do, and what came of it."""

from __future__ import annotations

import io

from registered import plan

from grafos_cli.rolling import _document, _outcome_text, _plan_text
from grafos_cli.terminal import Terminal
from grafos_core.errors import GrafosError
from grafos_stacks.journal import StackRow, StackState
from grafos_stacks.rolling import Rolled, Turn

PLAIN = Terminal(
    json=False,
    color_out=False,
    color_err=False,
    debug=False,
    out=io.StringIO(),
    err=io.StringIO(),
    interactive=False,
    live=False,
    wide=True,
)


def row(name: str) -> StackRow:
    return StackRow(name, "gcp", "us-central1", "1", StackState.MADE, 1.0, 1.0, plan=plan("gcp", name))


def test_a_cell_for_which_no_successor_can_be_planned_says_why_beside_those_that_go_over() -> None:
    obstacle = GrafosError("stack_busy", "web-2 is being extended")
    going = Turn(row("web-1"), plan("gcp", "web-1-r2"))
    turns = (going, Turn(row("web-2"), None, error=obstacle), Turn(row("web-3"), None))
    text = _plan_text(turns, PLAIN)
    assert "stack_busy: web-2 is being extended" in text
    before = {one["cell_id"]: one["state"] for one in _document(turns, ())["cells"]}
    assert before == {"web-1": "to do", "web-2": "stays", "web-3": "as wanted"}
    done = (Rolled("web-1", untried=True), Rolled("web-2", error=obstacle), Rolled("web-3"))
    [_, stays, _] = _document(turns, done)["cells"]
    assert (stays["state"], stays["error"]["code"]) == ("stays", "stack_busy")
    assert "0 of 2 cells were replaced" in _outcome_text(done, 1.0, PLAIN)
