"""`grafos fabric up`: the fabric's orchestrator on a machine of a cloud."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.planning import Planned
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric
    from grafos_stacks.direct import Hands
    from grafos_stacks.journal import StackRow
    from grafos_stacks.raising import Raised
    from grafos_stacks.spec import CellSpec

TAUGHT = taught(
    examples=(
        "grafos fabric up --on gcp --region us-central1 --dry-run",
        "grafos fabric up --on aws --region eu-central-1 --ttl 22h --yes",
        "grafos fabric up --on gcp --restore orchestrator-2026-11-21.backup",
    ),
    next="grafos cloud provision gcp",
)


def up(
    ctx: typer.Context,
    on: Annotated[str, typer.Option("--on", metavar="PROVIDER", help="aws, azure or gcp; left out to go on")] = "",
    region: Annotated[
        str, typer.Option(metavar="NAME", help="region; default: what the cloud's own tools read, like AWS_REGION")
    ] = "",
    zone: Annotated[str, typer.Option(metavar="NAME", help="zone; default: the first that has a machine")] = "",
    machine_type: Annotated[
        str, typer.Option("--type", metavar="NAME", help="machine type; default: a small one that fits the image")
    ] = "",
    ttl: Annotated[
        str, typer.Option(metavar="TIME", help="after this the machine ends itself: 90m, 8h; default: 12h")
    ] = "",
    max_ttl: Annotated[
        str, typer.Option(metavar="TIME", help="how long it may be extended to live at most; held for from the start")
    ] = "",
    port: Annotated[int | None, typer.Option(metavar="N", help="where it answers; default: 8443")] = None,
    allow: Annotated[
        str, typer.Option(metavar="CIDR", help="from where operators and cells come; default: from anywhere")
    ] = "",
    image: Annotated[
        str, typer.Option(metavar="NAME", help="a published image, or stock; default: the newest published")
    ] = "",
    restore: Annotated[
        str, typer.Option(metavar="FILE", help="a backup, for a machine that is lost: the same orchestrator again")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and change nothing")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="agree to the plan without being asked")] = False,  # noqa: FBT002
) -> None:
    """Makes the fabric's orchestrator on a cloud: plan with price and bound, machine, software, claim, ledger.

    It starts from the newest image that was published to the region, else from a stock image and the software. It is a
    stack of its own that cloud ls, show, extend, cost and sweep know, with one open port. The fabric's ledger
    moves there with all that it holds. Stopped or failed at any moment, the same command goes on; once all is done it
    changes nothing. The machine ends itself when its time is over, and what the orchestrator keeps goes with it: make
    backups, and extend it in time.
    """
    from grafos_cli.plan_view import planned_document, planned_text

    terminal = terminal_of(ctx)
    given = {"zone": zone, "machine_type": machine_type, "ttl": ttl, "max_ttl": max_ttl, "port": port, "allow": allow}
    given["image"] = image
    with _planned(terminal, on, region, given, restore) as (work, archive):
        document: dict[str, Any] = planned_document(work)
        if dry_run:
            terminal.emit({**document, "dry_run": True}, planned_text(work, terminal))
            return
        if not work.first.resumed:
            if not terminal.json:
                terminal.err.write(planned_text(work, terminal))
            if not yes:
                terminal.confirm("Make the fabric's orchestrator?", "--yes")
        raised, took_s = _carried_out(work, archive, terminal)
    terminal.emit({**document, **_document(raised)}, _text(raised, took_s))


@contextlib.contextmanager
def _planned(
    terminal: Terminal, on: str, region: str, given: dict[str, Any], restore: str
) -> Iterator[tuple[Planned, bytes]]:
    """Reads what the plan needs, changing nothing; and the backup."""
    from importlib.metadata import version

    from grafos_cli.fabric import open_default
    from grafos_cli.interrupts import resumable
    from grafos_cli.planning import Planned, hands_for_all
    from grafos_cli.steps import show_steps
    from grafos_connectors.registry import open_connector
    from grafos_core.backup_archive import about_in, refuse_newer
    from grafos_core.sealed_backup import open_sealed
    from grafos_stacks.bundle import Bundles
    from grafos_stacks.orchestrator_machine import STACK
    from grafos_stacks.raising import refuse_another

    fabric = open_default(terminal)
    refuse_another(fabric)
    archive = open_sealed(fabric, Path(restore)) if restore else b""
    if archive:
        refuse_newer(about_in(archive), version("grafos-scheduler"))
    row = living_machine(fabric)
    provider, where = _place(row, on, region)
    again = "nothing was made yet; run it again when you like"
    with contextlib.ExitStack() as closing:
        with resumable("Stopped while the plan was made", again), show_steps(terminal) as steps:
            steps.began("plan", "who we are")
            hands_of = closing.enter_context(hands_for_all({provider: open_connector(provider, where)}, fabric))
            hands, bundles = hands_of[provider], Bundles()
            steps.changed("plan", "offers, image, price, software, limits, permissions")
            spec = _spec(row, provider, where, given)
            prepared = _prepared(hands, spec, bundles, archive)
            steps.ended("plan", f"{len(prepared.plan.resources)} resources")
        yield Planned(hands_of, bundles, (STACK,), (prepared,)), archive


def living_machine(fabric: Fabric) -> StackRow | None:
    """The journal's row of a machine that was begun, if there is one."""
    from grafos_core.clock import SystemClock
    from grafos_stacks.journal import Journal
    from grafos_stacks.looking import living_row
    from grafos_stacks.orchestrator_machine import STACK

    if not (fabric.home / "journal.db").exists():
        return None
    with contextlib.closing(Journal(fabric, SystemClock())) as journal:
        return living_row(journal, STACK)


def _place(row: StackRow | None, on: str, region: str) -> tuple[str, str]:
    """Where it is, or shall be; ``usage`` for another cloud than the one that it is on, and where none is named."""
    from grafos_cli.accounts import provider_named
    from grafos_cli.regions import REGION_VARIABLES, region_at_hand
    from grafos_cli.wishes import EXAMPLE_REGIONS
    from grafos_connectors.registry import PROVIDERS
    from grafos_core.errors import GrafosError

    if row is not None:
        if on not in ("", row.provider) or region not in ("", row.region):
            raise GrafosError(
                "plan_stale",
                f"the fabric's orchestrator is on {row.provider} in {row.region}, or was begun there",
                next="leave --on and --region out to go on with it; or first: grafos fabric down",
            )
        return row.provider, row.region
    if not on:
        raise GrafosError(
            "usage", "No cloud was named", where="--on", next=f"grafos fabric up --on one of: {', '.join(PROVIDERS)}"
        )
    provider = provider_named(on)
    where = region or region_at_hand(provider)
    if not where:
        names = ("--region", *REGION_VARIABLES.get(provider, ()))
        raise GrafosError(
            "config_invalid",
            "No region was given",
            why=f"neither {' nor '.join(names)} names one",
            next=f"grafos fabric up --on {provider} --region {EXAMPLE_REGIONS.get(provider, 'NAME')}",
        )
    return provider, where


def _spec(row: StackRow | None, provider: str, region: str, given: dict[str, Any]) -> CellSpec:
    """What is asked for; what is left open is as it was begun, if it was."""
    import msgspec

    from grafos_cli.sizes import read_duration
    from grafos_stacks.orchestrator_machine import orchestrator_spec

    asked: dict[str, Any] = {name: given[name] for name in ("zone", "machine_type", "port", "image") if given[name]}
    for name in ("ttl", "max_ttl"):
        if given[name]:
            asked[f"{name}_s"] = read_duration(f"--{name.replace('_', '-')}", given[name])
    if given["allow"]:
        asked["cidr"] = given["allow"] if "/" in given["allow"] else f"{given['allow']}/32"
    if row is None or row.plan is None:
        return orchestrator_spec(provider, region, **asked)
    if "cidr" in asked:
        asked["operator_cidr"] = asked.pop("cidr")
    return msgspec.structs.replace(row.plan.spec, **asked)


def _prepared(hands: Hands, spec: CellSpec, bundles: Any, archive: bytes) -> Any:
    """The plan, inside of the guard rails; for a machine that ran out it is a new one, if there is a backup to go on
    with."""
    from grafos_cli.guard_rails import rails_here
    from grafos_core.errors import GrafosError
    from grafos_stacks.provision import prepare
    from grafos_stacks.raising import check_standing, ran_out

    try:
        prepared = prepare(hands, spec, bundles, anew=bool(archive) and ran_out(hands) is not None)
    except GrafosError as error:
        if error.code == "cell_gone":
            error.next = "grafos fabric up --restore FILE; without a backup: grafos fabric down --lost"
        raise
    if not prepared.resumed:
        rails = rails_here()
        rails.check_asked(spec)
        rails.check_planned(prepared.plan)
    check_standing(hands, prepared.plan if prepared.resumed else None, with_backup=bool(archive))
    return prepared


def _carried_out(work: Planned, archive: bytes, terminal: Terminal) -> tuple[Raised, float]:
    from dataclasses import replace

    from grafos_cli.accounts import told_by
    from grafos_cli.interrupts import parting
    from grafos_cli.steps import show_steps
    from grafos_stacks.raising import raise_orchestrator

    began, plan = time.monotonic(), work.first.plan
    [quiet] = work.hands_of.values()
    left = parting("Stopped; next: grafos fabric up   goes on; grafos fabric down   undoes")
    with left, show_steps(terminal, plan.predicted_s) as steps:
        raised = raise_orchestrator(replace(quiet, progress=told_by(steps)), plan, work.bundles, archive)
    return raised, time.monotonic() - began


def _document(raised: Raised) -> dict[str, Any]:
    import msgspec

    from grafos_cli.ledger_home import ledger_document
    from grafos_cli.plan_view import cell_document

    return {
        "orchestrator": msgspec.to_builtins(raised.orchestrator),
        "machine": cell_document(raised.machine),
        "ledger": ledger_document(raised.ledger),
        "restored": raised.filled,
    }


def _text(raised: Raised, took_s: float) -> str:
    from grafos_cli.ledger_home import ledger_text
    from grafos_cli.moments import moment_text
    from grafos_stacks.failover import zone_of

    machine, how = raised.machine, "is back" if raised.filled else "answers"
    moved = ""
    if raised.moved_from:
        moved = f"It was at {raised.moved_from} before: whatever dials that has to be told, cells by enrolling anew.\n"
    return (
        f"The orchestrator {how} after {took_s:.1f} s: {machine.machine_type} in {zone_of(machine)}, "
        f"{raised.orchestrator.url}. The fabric's ledger: {ledger_text(raised.ledger)}.\n{moved}"
        f"It ends itself:       {moment_text(machine.expires_at)}\n"
        f"Let it live longer:   grafos cloud extend --cell-id {machine.cell_id} --ttl +8h\n"
        "Keep what it keeps:   grafos fabric backup FILE\n"
        "Let a cell join:      grafos cloud provision gcp\n"
        "End it:               grafos fabric down\n"
    )
