"""`grafos fabric`: the operator's fabric, its money and its cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli import backing_up, console, fleet_list, ledger_home, lowering, orchestrating, raising, upgrading
from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric

app = new_group(
    help="Your fabric: one key, one ledger, and every cell that you provisioned or claimed.",
    examples=("grafos fabric show", "grafos fabric show --json"),
    next="grafos fabric show",
)
keys = new_group(
    help="The one key that everything of the fabric hangs on; whoever has it can tear all of it down.",
    examples=("grafos fabric key export fabric-key.pem", "grafos fabric key import fabric-key.pem"),
    next="grafos fabric key export FILE",
)
app.add_typer(keys, name="key")
app.command("init", cls=orchestrating.INIT)(orchestrating.init)
app.command("claim", cls=orchestrating.CLAIM)(orchestrating.claim)
app.command("up", cls=raising.TAUGHT)(raising.up)
app.command("down", cls=lowering.TAUGHT)(lowering.down)
app.command("backup", cls=backing_up.BACKUP)(backing_up.backup)
app.command("restore", cls=backing_up.RESTORE)(backing_up.restore)
app.command("upgrade", cls=upgrading.TAUGHT)(upgrading.upgrade)
app.command("bring-home", cls=ledger_home.TAUGHT)(ledger_home.bring_home)
app.command("console", cls=console.CONSOLE)(console.console)
app.command("cells", cls=fleet_list.TAUGHT)(fleet_list.cells)


def open_default(terminal: Terminal) -> Fabric:
    """The fabric `default`; made at first use, which is told in one line on stderr."""
    from grafos_cli.opening import open_home

    return open_home(terminal.note_once)


@app.command(
    "show",
    cls=taught(examples=("grafos fabric show", "grafos fabric show --json"), next="grafos runs ls"),
)
def show(ctx: typer.Context) -> None:
    """Shows who the fabric is, where it keeps its key, what its money is bound to, and its cells."""
    from grafos_cli.fictional import emulated_cells, fictional_of, fictional_text
    from grafos_cli.tables import facts, table
    from grafos_core.money import format_cents
    from grafos_stacks.orchestrators import OrchestratorHome

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    orchestrator = OrchestratorHome(fabric).record()
    ledger, place = fabric.ledger_if_reached(), fabric.ledger_place()
    accounts = sorted(ledger.accounts.values(), key=lambda account: account.name) if ledger else []
    holds = tuple(ledger.holds.values()) if ledger else ()
    if ledger is None:
        terminal.note(
            f"note: the ledger is {ledger_home.ledger_text(place)}, which did not answer: no account is shown"
        )
    cells, emulated = _cells(fabric), emulated_cells(fabric)
    fictional = {account.name: fictional_of(holds, account.name, emulated) for account in accounts}
    document = {
        "fabric": {"name": fabric.name, "id": fabric.id, "home": str(fabric.home)},
        "accounts": [
            {
                "name": account.name,
                "cap_micro_cents": account.cap_micro_cents,
                "held_micro_cents": account.held_micro_cents,
                "spent_micro_cents": account.spent_micro_cents,
                "free_micro_cents": account.free_micro_cents,
                "fictional_held_micro_cents": fictional[account.name][0],
                "fictional_spent_micro_cents": fictional[account.name][1],
            }
            for account in accounts
        ],
        "orchestrator": {"name": orchestrator.name, "url": orchestrator.url} if orchestrator else None,
        "ledger": ledger_home.ledger_document(place),
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
    at = f"{orchestrator.name} at {orchestrator.url}" if orchestrator else "none"
    who = [("fabric", f"{fabric.name} ({fabric.id})"), ("home", str(fabric.home)), ("orchestrator", at)]
    who.append(("ledger", ledger_home.ledger_text(place)))
    head = facts(who, terminal)
    money = table(("ACCOUNT", "CAP", "HELD", "SPENT", "FREE"), amounts, terminal, " rrrr")
    told = [(name, fictional_text(*amounts_of)) for name, amounts_of in fictional.items()]
    money += facts([(f"{name} (fictional)", text) for name, text in told if text], terminal)
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
        if record.get("pattern") == "orchestrator":
            continue  # its machine, and no cell
        found.append({"cell_id": cell_id, "provider": record.get("provider", ""), "gone": bool(record.get("gone_at"))})
    return found


@keys.command(
    "export",
    cls=taught(
        examples=("grafos fabric key export fabric-key.pem", "grafos fabric key export /media/stick/key.pem --yes"),
        next="grafos fabric show",
    ),
)
def export_key(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="where to write it; must not exist yet")],
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Writes the fabric's key to a file that only you can read: a backup, or for another machine of yours.

    From then on cells that this home does not know are left alone until they run out: the other may have made them.
    """
    from grafos_core import fabric as fabrics

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    if not yes:
        terminal.confirm(f"Write the key of fabric {fabric.id} to {file}?", "--yes")
    fabrics.export_key(fabric, Path(file))
    text = f"Wrote the key of fabric {fabric.id} to {file} (0600). Keep it as you keep a password.\n"
    terminal.emit({"fabric": {"name": fabric.name, "id": fabric.id}, "file": file}, text)


@keys.command(
    "import",
    cls=taught(
        examples=("grafos fabric key import fabric-key.pem", "grafos fabric key import fabric-key.pem --yes --json"),
        next="grafos cloud recover",
    ),
)
def import_key(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="a key that was exported")],
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Makes this home one of the fabric whose key it is, or gives a home its lost key back.

    Refused where another fabric lives. A new home has a ledger of its own, with whole caps.
    """
    from grafos_core import fabric as fabrics
    from grafos_core.clock import SystemClock

    terminal = terminal_of(ctx)
    if not yes:
        terminal.confirm(f"Make {fabrics.fabric_home()} a home of the fabric whose key is {file}?", "--yes")
    fabric = fabrics.import_key(SystemClock(), Path(file))
    text = f"This is now a home of fabric {fabric.id}. What lives on clouds is found by:  grafos cloud recover\n"
    terminal.emit({"fabric": {"name": fabric.name, "id": fabric.id, "home": str(fabric.home)}}, text)
