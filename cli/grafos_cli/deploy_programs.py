"""`grafos deploy ls` and `grafos deploy cancel`: whole programs under way, by the money that is held for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.everywhere import Everywhere
    from grafos_cli.reach import Reach
    from grafos_scheduler.reservation_messages import ReservationView

LS = taught(
    examples=("grafos deploy ls", "grafos deploy ls --json | jq -r '.programs[].reservation_key'"),
    next="grafos deploy cancel KEY",
    streams="programs",
)
CANCEL = taught(
    examples=("grafos deploy cancel KEY", "grafos deploy cancel KEY --json | jq .program.spent_micro_cents"),
    next="grafos deploy ls",
)


def ls(ctx: typer.Context) -> None:
    """Lists the whole programs that money is held for, with their runs, and those that ended within the hour."""
    import msgspec

    from grafos_cli.everywhere import everywhere
    from grafos_cli.fictional import amount_text, emulated_cells
    from grafos_cli.moments import moment_text
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    found = _programs(around)
    around.check_list(found)
    emulated = emulated_cells(around.fabric)
    rows = []
    for reach, view in found:
        held_for_it = 0 if view.state == "settled" else view.amount_micro_cents
        amounts = (held_for_it, view.spent_micro_cents)
        held, spent = (amount_text(amount, fictional=reach.cell_id in emulated) for amount in amounts)
        until = moment_text(view.expires_at)
        rows.append([view.reservation_key, view.program or "-", reach.cell_id, view.state, held, spent,
                     str(len(view.run_ids)), until])  # fmt: skip
    head = ("KEY", "PROGRAM", "AT", "STATE", "HELD", "SPENT", "RUNS", "UNTIL")
    text = table(head, rows, terminal, "    rrr", spare=("UNTIL", "AT", "RUNS")) if rows else "No program yet.\n"
    programs = [{**msgspec.to_builtins(view), "scheduler": reach.cell_id} for reach, view in found]
    terminal.emit({"programs": programs, "silent": around.documents()}, text)


def cancel(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="as deploy ls and an interrupted deploy print it")],
) -> None:
    """Gives a whole program up: nothing of it begins any more, its runs are cancelled, and what it did not use is free.

    Runs that have ended stay as they are, and so does what they cost. Asked for again, the program runs anew.
    """
    import msgspec

    from grafos_cli.cancelling import cancel_all_and_wait
    from grafos_cli.everywhere import everywhere
    from grafos_cli.fictional import amount_text, emulated_cells
    from grafos_cli.program_keys import forget_program
    from grafos_core.errors import GrafosError

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    found = next(((reach, view) for reach, view in _programs(around) if view.reservation_key == key), None)
    if found is None:
        what = f"No money is held for a program of key {key[:80]!r}"
        raise around.unless_silent(GrafosError("not_found", what, next="grafos deploy ls"))
    reach, view = found
    with reach._replace(tenant=view.tenant).client() as client:
        client.end_reservation(key)
        # Those that began until then.
        still = next((each.run_ids for each in client.reservations() if each.reservation_key == key), ())
        ended = cancel_all_and_wait(client, still)
        money = client.end_reservation(key)
    forget_program(around.project, key)
    spent = amount_text(money.spent_micro_cents, fictional=reach.cell_id in emulated_cells(around.fabric))
    runs = "".join(f"run {run.run_id} of {run.tasklet} is {run.state}\n" for run in ended)
    name = view.program or "The program"
    told = f"{name} is given up; it cost {spent}.\n"
    if money.held_micro_cents:
        told = (
            f"{name} is given up; what its last runs do not need is free once their cells have said that they ended.\n"
        )
    document = {"program": msgspec.to_builtins(money), "runs": [msgspec.to_builtins(run) for run in ended]}
    terminal.emit(document, runs + told)


def _programs(around: Everywhere) -> list[tuple[Reach, ReservationView]]:
    """What each scheduler holds money for."""

    def held_at(reach: Reach) -> list[ReservationView]:
        with reach.reader() as client:
            return client.reservations()

    return [(reach, view) for reach, views in around.ask(held_at, "not_found") for view in views]
