"""`grafos cloud sweep`: finds whatever is left of the fabric in its accounts, and deletes it when asked to."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import PARTIAL, GrafosError

if TYPE_CHECKING:
    from grafos_cli.every_cloud import Question
    from grafos_cli.steps import Steps
    from grafos_cli.terminal import Terminal
    from grafos_connectors.contract import Connector
    from grafos_core.fabric import Fabric
    from grafos_stacks.direct import Hands
    from grafos_stacks.inventory import Judged
    from grafos_stacks.progress import Progress
    from grafos_stacks.sweeping import Sight, Swept

EVERY_S_MIN = 10
"""Seconds between two rounds of a watch: a look at all regions of a cloud takes up to that long."""

TAUGHT = taught(
    examples=(
        "grafos cloud sweep",
        "grafos cloud sweep --provider aws --delete",
        "grafos cloud sweep --delete --yes --watch --every 10m",
    ),
    next="grafos cloud sweep --delete",
)


def sweep(
    ctx: typer.Context,
    provider: Annotated[str, typer.Option(metavar="NAME", help="aws, azure, gcp, or all of them")] = "all",
    region: Annotated[str, typer.Option(metavar="NAME", help="look at one region only; default: all")] = "",
    delete: Annotated[bool, typer.Option("--delete", help="delete what is condemned, and prove it gone")] = False,  # noqa: FBT002
    watch: Annotated[bool, typer.Option("--watch", help="again and again, until Ctrl-C")] = False,  # noqa: FBT002
    every: Annotated[str, typer.Option(metavar="TIME", help="how often to look with --watch: 30s, 5m")] = "5m",
    fabric_id: Annotated[
        str, typer.Option(metavar="ID", help="list what bears this fabric's tags; without its key nothing is deleted")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="agree to deleting without being asked")] = False,  # noqa: FBT002
) -> None:
    """Looks in every region for what the fabric has left: overdue, orphaned, half made, stopped and still billing.

    Changes nothing without --delete. Touches only what is proved the fabric's own, never a cell that lives or that
    another command works on. The exit code is 9 if something is left that must not be there.
    """
    from grafos_cli.accounts import ALL
    from grafos_cli.sizes import read_duration
    from grafos_cli.wishes import cloud_of_region

    terminal = terminal_of(ctx)
    every_s = read_duration("--every", every)
    if every_s < EVERY_S_MIN:
        raise GrafosError("usage", f"--every {every} is too often", next=f"choose {EVERY_S_MIN}s or more")
    if delete and fabric_id:
        raise GrafosError(
            "usage",
            "--fabric-id only lists: what is there can be proved its own by its key alone",
            next="grafos fabric key import FILE, then sweep --delete without --fabric-id",
        )
    regions = (region,) if region else ()
    provider = cloud_of_region(region) if region and provider == ALL else provider
    while True:
        left = _round(terminal, provider, regions, fabric_id, delete=delete, yes=yes)
        if not watch:
            break
        terminal.note(f"the next look is in {every}; Ctrl-C ends it")
        time.sleep(every_s)
    if left:
        raise typer.Exit(PARTIAL)


def _round(
    terminal: Terminal, provider: str, regions: tuple[str, ...], fabric_id: str, *, delete: bool, yes: bool
) -> bool:
    """One look, and one deleting if that is wanted; whether something is left."""
    from grafos_core.fabric import fabric_home, known_id

    home = fabric_home()
    if fabric_id or (known_id(home) and not (home / "fabric-key.pem").exists()):
        if delete:
            raise GrafosError(
                "fabric_invalid",
                "the fabric's key is not here, so nothing can be proved its own",
                where=str(home),
                next="grafos fabric key import FILE, then sweep again",
            )
        return _list_only(terminal, provider, regions, fabric_id or known_id(home))
    return _look_and_sweep(terminal, provider, regions, delete=delete, yes=yes)


def _list_only(terminal: Terminal, provider: str, regions: tuple[str, ...], fabric_id: str) -> bool:
    from grafos_cli.every_cloud import Question, failures_document, look_around, tell_failures
    from grafos_stacks.sweeping import list_only

    question = Question(lambda connector, _: list_only(connector, fabric_id, regions), _counted, _where(regions))
    around = look_around(provider, question, terminal)
    sights = around.found
    count = sum(len(sight.judged) for sight in sights)
    note = f"{count} resources bear the tags of {fabric_id}. Without its key nothing is proved, and nothing deleted.\n"
    document = {
        "accounts": [_document(sight) for sight in sights],
        "failures": failures_document(around.failures),
        "deleted": False,
    }
    terminal.emit(document, _table(sights, terminal) + note)
    tell_failures(around.failures, terminal)
    return count > 0 or bool(around.failures)


def _look_and_sweep(terminal: Terminal, provider: str, regions: tuple[str, ...], *, delete: bool, yes: bool) -> bool:
    from grafos_cli.accounts import clouds_with_cells
    from grafos_cli.every_cloud import failures_document, look_around, tell_failures, work_around
    from grafos_cli.fabric import open_default

    fabric = open_default(terminal)
    around = look_around(provider, _question(fabric, regions), terminal, clouds_with_cells(fabric))
    sights, failures = around.found, around.failures
    todo = sum(len(sight.condemned) + len(sight.forgotten) for sight in sights)
    if not delete or not todo:
        document = {"accounts": [_document(sight) for sight in sights], "deleted": False}
        text = _table(sights, terminal) + _closing(sights, delete=delete)
        left = any(sight.condemned for sight in sights)
    else:
        terminal.note(_table(sights, terminal).rstrip())
        if not yes:
            terminal.confirm(f"Delete all {todo} that must not be there?", "--yes")
        failures = (*failures, *_ended_by_pulumi(sights, terminal))
        swept = work_around(around.clouds, fabric, terminal, partial(_sweep_one, regions))
        failures = (*failures, *swept.failures)
        document = {"accounts": [_swept_document(one) for one in swept.found], "deleted": True}
        text = _swept_text(swept.found, terminal)
        left = any(one.after.condemned or any(outcome.error for outcome in one.outcomes) for one in swept.found)
    terminal.emit({**document, "failures": failures_document(failures)}, text)
    tell_failures(failures, terminal)
    return left or bool(failures)


def _ended_by_pulumi(sights: list[Sight], terminal: Terminal) -> list[tuple[str, GrafosError]]:
    """What must not be there of cells that Pulumi made here ends by Pulumi; the sweep that follows looks anew."""
    from grafos_cli.by_pulumi_ends import end_by_pulumi
    from grafos_cli.steps import show_steps
    from grafos_stacks.inventory import Verdict

    failures = []
    for sight in sights:
        cells = {one.stack for one in sight.condemned if one.verdict is not Verdict.SURPLUS}
        cells |= {row.stack for row in sight.forgotten}
        with show_steps(terminal) as steps:
            refused = end_by_pulumi(cells, sight.provider, terminal, steps).refused
        failures += [(sight.provider, error) for error in refused.values()]
    return failures


def _question(fabric: Fabric, regions: tuple[str, ...]) -> Question[Sight]:
    from grafos_cli.accounts import hands_for
    from grafos_cli.every_cloud import Question
    from grafos_stacks.sweeping import look

    def ask(connector: Connector, progress: Progress) -> Sight:
        with hands_for([connector], fabric) as (hands,):
            return look(replace(hands, progress=progress), regions)

    return Question(ask, _counted, _where(regions))


def _sweep_one(regions: tuple[str, ...], hands: Hands, sight: Sight, steps: Steps) -> Swept:
    from grafos_cli.accounts import told_of
    from grafos_cli.project import project_folder
    from grafos_stacks.sweeping import sweep as sweep_account

    return sweep_account(hands, project_folder(), regions, sight, lambda cell_id: told_of(steps, cell_id))


# --- how it looks -----------------------------------------------------------------------------------------------


def _counted(sight: Sight) -> str:
    count = len(sight.judged)
    return f"{count} resource{'' if count == 1 else 's'}"


def _where(regions: tuple[str, ...]) -> str:
    return regions[0] if regions else "every region"


def _table(sights: list[Sight], terminal: Terminal) -> str:
    from grafos_cli.tables import short_id, table

    rows = [
        [
            one.verdict.value,
            one.stack,
            one.found.ref.kind.value,
            f"{sight.provider} {one.region}",
            short_id(one.found.ref.id),
        ]
        for sight in sights
        for one in sorted(sight.judged, key=_order)
    ]
    rows += [
        ["unsettled", row.stack, "-", f"{sight.provider} {row.region}", "nothing there; its bill is open"]
        for sight in sights
        for row in sight.forgotten
    ]
    return table(("STATE", "CELL", "KIND", "WHERE", "ID"), rows, terminal) + "\n" if rows else ""


def _order(one: Judged) -> tuple[str, str, str, str]:
    return one.verdict.value, one.stack, one.found.ref.kind.value, one.found.ref.id


def _closing(sights: list[Sight], *, delete: bool) -> str:
    condemned = sum(len(sight.condemned) for sight in sights)
    unsettled = sum(len(sight.forgotten) for sight in sights)
    where = ", ".join(f"{sight.provider} {sight.account}" for sight in sights)
    if condemned or unsettled:
        bills = f", and {unsettled} bills are open" if unsettled else ""
        return f"{condemned} resources must not be there{bills} ({where}). Delete them: grafos cloud sweep --delete\n"
    return f"Nothing is left that must not be there ({where}).\n" + ("Nothing was deleted.\n" if delete else "")


def _swept_text(swept: list[Swept], terminal: Terminal) -> str:
    lines = []
    for one in swept:
        for outcome in one.outcomes:
            if outcome.torn is not None:
                lines.append(f"{outcome.target.cell_id}: {len(outcome.torn.receipt.resources)} removed, proved gone\n")
            elif outcome.error is not None:
                lines.append(f"{outcome.target.cell_id}: {outcome.error}\n")
        lines += [f"{failure}\n" for failure in one.failures]
    return (
        "".join(lines)
        + _table([one.after for one in swept], terminal)
        + _closing([one.after for one in swept], delete=False)
    )


def _document(sight: Sight) -> dict[str, Any]:
    return {
        "provider": sight.provider,
        "account": sight.account,
        "condemned": len(sight.condemned),
        "resources": [
            {
                "state": one.verdict.value,
                "cell_id": one.stack,
                "kind": one.found.ref.kind.value,
                "id": one.found.ref.id,
                "region": one.region,
                "billable": one.found.billable,
            }
            for one in sorted(sight.judged, key=_order)
        ],
        "unsettled": [{"cell_id": row.stack, "region": row.region} for row in sight.forgotten],
    }


def _swept_document(swept: Swept) -> dict[str, Any]:
    torn = [outcome for outcome in swept.outcomes if outcome.torn is not None]
    failed = [outcome for outcome in swept.outcomes if outcome.error is not None]
    return {
        **_document(swept.after),
        "torn_down": [outcome.target.cell_id for outcome in torn],
        "failures": [
            *({"cell_id": outcome.target.cell_id, **outcome.error.to_wire()} for outcome in failed if outcome.error),
            *({"cell_id": "", **failure.to_wire()} for failure in swept.failures),
        ],
    }
