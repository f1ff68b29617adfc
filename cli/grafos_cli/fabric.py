"""`grafos fabric`: the operator's fabric, its money and its cells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric

app = new_group(
    help="Your fabric: one key, one ledger, and every cell that you provisioned or claimed.",
    examples=("grafos fabric show", "grafos fabric show --json"),
    next="grafos fabric show",
)


def open_default(terminal: Terminal) -> Fabric:
    """The fabric `default`; made at first use, which is told in one line on stderr."""
    from grafos_core.clock import SystemClock
    from grafos_core.fabric import open_fabric

    return open_fabric(SystemClock(), announce=terminal.note)


@app.command(
    "show",
    cls=taught(examples=("grafos fabric show", "grafos fabric show --json"), next="grafos runs ls"),
)
def show(ctx: typer.Context) -> None:
    """Shows who the fabric is, where it keeps its key, what its money is bound to, and its cells."""
    from grafos_cli.tables import facts, table
    from grafos_core.money import format_cents

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    with fabric.ledger() as transaction:
        accounts = sorted(transaction.ledger.accounts.values(), key=lambda account: account.name)
    cells = _cells(fabric)
    document = {
        "fabric": {"name": fabric.name, "id": fabric.id, "home": str(fabric.home)},
        "accounts": [
            {
                "name": account.name,
                "cap_micro_cents": account.cap_micro_cents,
                "held_micro_cents": account.held_micro_cents,
                "spent_micro_cents": account.spent_micro_cents,
                "free_micro_cents": account.free_micro_cents,
            }
            for account in accounts
        ],
        "cells": cells,
    }
    amounts = [
        [
            account.name,
            format_cents(account.cap_micro_cents),
            format_cents(account.held_micro_cents),
            format_cents(account.spent_micro_cents),
            format_cents(account.free_micro_cents),
        ]
        for account in accounts
    ]
    head = facts([("fabric", f"{fabric.name} ({fabric.id})"), ("home", str(fabric.home))], terminal)
    money = table(("ACCOUNT", "CAP", "HELD", "SPENT", "FREE"), amounts, terminal, " rrrr")
    living = [cell["cell_id"] for cell in cells if not cell["gone"]]
    ended = len(cells) - len(living)
    known = facts([("cells", f"{', '.join(living) or 'none'}" + (f" ({ended} ended)" if ended else ""))], terminal)
    terminal.emit(document, f"{head}\n{money}\n{known}")


def _cells(fabric: Fabric) -> list[dict[str, Any]]:
    """The cells that the fabric took over, each with whether it has ended."""
    found = []
    for cell_id in fabric.cell_ids():
        try:
            record = json.loads((fabric.home / "cells" / cell_id / "cell.json").read_bytes())
        except (OSError, ValueError):
            continue  # a name that was only asked for
        found.append({"cell_id": cell_id, "provider": record.get("provider", ""), "gone": bool(record.get("gone_at"))})
    return found
