"""`grafos fabric bring-home`: the fabric's ledger comes back from the orchestrator, or is opened without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.ledger_place import Place

TAUGHT = taught(
    examples=("grafos fabric bring-home", "grafos fabric bring-home --yes --json", "grafos fabric bring-home --lost"),
    next="grafos cloud budget show",
)


def bring_home(
    ctx: typer.Context,
    lost: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option(
            "--lost", help="the orchestrator, or the home that fetched the ledger, is lost: open what is left"
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Brings the fabric's ledger home from its orchestrator, which from then on admits no runs.

    Runs under way there get half a minute to end; then what they hold counts as spent. With --lost it is brought home
    also where another home of the fabric has fetched it, and is lost. If the orchestrator does not answer, the copy
    from the day of the move is opened, and what the journal and the teardown receipts tell since then is booked into
    it; what tenants spent at the orchestrator is not in it, until that is there again and the ledger moves there.
    """
    from grafos_cli.fabric import open_default
    from grafos_stacks.ledger_moves import bring_ledger_home, is_begun_here

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    place = fabric.ledger_place()
    if place.is_here and not (lost and is_begun_here(fabric)):
        _tell(terminal, place, 0, (), "The fabric's ledger is here.\n")
        return
    if not yes:
        terminal.confirm(_question(place, lost=lost), "--yes")
    if lost:
        from grafos_stacks.lost_ledger import reopen_ledger

        reopened = reopen_ledger(fabric)
        text = "".join(f"{note}\n" for note in reopened.notes)
        _tell(terminal, reopened.place, 0, reopened.notes, f"The fabric's ledger is open here again.\n{text}")
        return
    home = bring_ledger_home(fabric)
    spent = f"{home.running} runs had not ended: what they held counts as spent.\n" if home.running else ""
    _tell(terminal, home.place, home.running, (), f"The fabric's ledger is here again, with what was spent.\n{spent}")


def ledger_document(place: Place) -> dict[str, str]:
    """Where the ledger is kept, for `--json`."""
    return {"standing": place.standing.value, "keeper": place.keeper, "url": place.url}


def ledger_text(place: Place) -> str:
    """The same for people."""
    from grafos_core.ledger_place import Standing

    return {
        Standing.HERE: "in this fabric's home",
        Standing.MOVING: f"on its way to {place.keeper} at {place.url}; nothing is booked until it is there",
        Standing.MOVED: f"kept by {place.keeper} at {place.url}",
        Standing.COMING: f"on its way home from {place.keeper} at {place.url}; nothing is booked until it is here",
    }[place.standing]


def _question(place: Place, *, lost: bool) -> str:
    if lost and place.is_here:
        return (
            "Begin with the copy of the ledger that stayed at the orchestrator? If the home that fetched it is not "
            "lost, there are two ledgers then, and the cap holds in neither."
        )
    if lost:
        return (
            f"Fetch the ledger from {place.keeper} at {place.url}, or, if that does not answer, open the copy from "
            "before it moved there? If that orchestrator lives, or a home that fetched the ledger, there are two "
            "ledgers then, and the cap holds in neither."
        )
    return f"Close the ledger at {place.keeper} ({place.url}) and bring it home? It admits no runs from then on."


def _tell(terminal: Terminal, place: Place, running: int, notes: tuple[str, ...], text: str) -> None:
    document = {"ledger": ledger_document(place), "runs_counted_as_spent": running, "notes": list(notes)}
    terminal.emit(document, text)
