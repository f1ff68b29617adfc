"""`grafos cloud provision`: one cell or many, at one place or at the first of several that has a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import PARTIAL

if TYPE_CHECKING:
    from grafos_cli.planning import Planned
    from grafos_cli.terminal import Terminal
    from grafos_cli.wishes import Wish

TAUGHT = taught(
    examples=(
        "grafos cloud provision aws --region eu-central-1 --ttl 2h --dry-run",
        "grafos cloud provision gcp --cell-id build --count 8 --ttl 2h --plan-out build.plan",
        "grafos cloud provision --any --spot-or-on-demand --max-hourly 4 --yes --json",
    ),
    next="grafos deploy run --provider aws",
)

TypeFlag = Annotated[
    str, typer.Option("--type", metavar="NAME", help="machine type; default: a small one that fits the image")
]
KeylessFlag = Annotated[
    bool, typer.Option("--keyless", help="on azure and gcp: enrol by the cloud's word, with no secret in user data")
]
NoJoinFlag = Annotated[
    bool, typer.Option("--no-join", help="on azure and gcp: boot the machine and no more; it runs nothing")
]
LongestFlag = Annotated[
    str, typer.Option(metavar="TIME", help="how long it may be extended to live at most; held for from the start")
]
SpotOrNotFlag = Annotated[
    bool, typer.Option("--spot-or-on-demand", help="a spot machine, or an ordinary one if there is none")
]
AnyPlaceFlag = Annotated[
    bool, typer.Option("--any", help="the cheapest place that has a machine: of the named ones, else of all")
]
ImageFlag = Annotated[
    str, typer.Option(metavar="NAME", help="a published image, by name or SHA-256; stock; or bake: it is made first")
]
EngineFlag = Annotated[str, typer.Option(metavar="NAME", help="direct, or pulumi: the same cells by Pulumi's engine")]
PlanFileFlag = Annotated[
    str, typer.Option(metavar="FILE", help="write the plan there and make nothing; grafos cloud apply makes it")
]
AllowFlag = Annotated[str, typer.Option(metavar="CIDR", help="who may reach the cell, your address as 203.0.113.7/32")]


def provision(
    ctx: typer.Context,
    provider: Annotated[
        str, typer.Argument(metavar="PROVIDER", help="aws, azure or gcp; with --any several: aws,gcp")
    ] = "",
    region: Annotated[
        str, typer.Option(metavar="NAME", help="region; default: what the cloud's own tools read, like AWS_REGION")
    ] = "",
    zone: Annotated[str, typer.Option(metavar="NAME", help="zone; default: the first that has a machine")] = "",
    machine_type: TypeFlag = "",
    any_place: AnyPlaceFlag = False,  # noqa: FBT002
    spot: Annotated[bool, typer.Option("--spot", help="a machine that the cloud may take back")] = False,  # noqa: FBT002
    spot_or_on_demand: SpotOrNotFlag = False,  # noqa: FBT002
    ttl: Annotated[str, typer.Option(metavar="TIME", help="after this the machine ends itself: 90m, 8h, 2d")] = "8h",
    max_ttl: LongestFlag = "",
    max_hourly: Annotated[
        int | None, typer.Option(metavar="CENTS", help="refuse what costs more by the hour, disk and address included")
    ] = None,
    cell_id: Annotated[
        str, typer.Option(metavar="ID", help="the cell's name; naming one that is unfinished goes on with it")
    ] = "",
    count: Annotated[int, typer.Option(metavar="N", help="so many cells at once: ID-1 to ID-N")] = 1,
    port: Annotated[int, typer.Option(metavar="N", help="where the cell's scheduler answers")] = 8443,
    allow: AllowFlag = "",
    keyless: KeylessFlag = False,  # noqa: FBT002
    no_join: NoJoinFlag = False,  # noqa: FBT002
    image: ImageFlag = "",
    engine: EngineFlag = "direct",
    plan_out: PlanFileFlag = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and change nothing")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="agree to the plan without being asked")] = False,  # noqa: FBT002
) -> None:
    """Makes a cell: plan with price and worst-case bill, then machine, software, claim, readiness.

    On aws a cell is a small fabric of its own. On azure and gcp its machine lets nobody in and joins the fabric's
    orchestrator by itself (grafos fabric init); one that never gets ready there is torn down again, and you hear why.
    A cell starts from the newest image that was published to the region, else from a stock image and the software;
    with --image bake the image of today's software is baked and published first, if it is not there.
    All that stands in the way is told at once; then the worst case is held in the fabric's ledger. A zone without a
    machine is followed by the next, with --any also region and cloud. Stopped or failed at any moment, the same command
    with the same --cell-id goes on, and teardown undoes.
    """
    from grafos_cli.sizes import read_duration
    from grafos_cli.wishes import Wish, joining_of, markets_of, providers_of, words
    from grafos_stacks.owners import check_engine

    terminal = terminal_of(ctx)
    wish = Wish(
        providers=providers_of(provider, any_place=any_place),
        regions=words(region),
        zones=words(zone),
        machine_type=machine_type,
        ttl_s=read_duration("--ttl", ttl),
        cell_id=cell_id,
        port=port,
        allow=allow,
        max_ttl_s=read_duration("--max-ttl", max_ttl) if max_ttl else 0,
        any_place=any_place,
        markets=markets_of(spot=spot, or_on_demand=spot_or_on_demand),
        max_hourly_cents=max_hourly,
        count=count,
        joining=joining_of(keyless=keyless, no_join=no_join),
        image=image,
    )
    _by_its_way(wish, check_engine(engine, "--engine"), plan_out, terminal, dry_run=dry_run, yes=yes)


def _by_its_way(wish: Wish, engine: str, plan_out: str, terminal: Terminal, *, dry_run: bool, yes: bool) -> None:
    """With an image that is made first, by Pulumi, or directly: to a file, or to the end."""
    from grafos_cli.by_pulumi import provision_by_pulumi
    from grafos_cli.image_on_demand import BAKE, provision_from_bake
    from grafos_cli.planning import planned
    from grafos_stacks.owners import PULUMI

    if wish.image == BAKE:
        _refuse_beside_bake(plan_out, engine, wish)
        provision_from_bake(wish, terminal, dry_run=dry_run, yes=yes)
    elif engine == PULUMI:
        provision_by_pulumi(wish, plan_out, terminal, dry_run=dry_run, yes=yes)
    else:
        with planned(wish, terminal) as work:
            _kept(work, plan_out, terminal) if plan_out else agree_and_make(work, terminal, dry_run=dry_run, yes=yes)


def _refuse_beside_bake(plan_out: str, engine: str, wish: Wish) -> None:
    """What is planned for another command to make is planned from an image that is there."""
    from grafos_core.errors import GrafosError
    from grafos_stacks.journal import DIRECT

    if plan_out or engine != DIRECT:
        provider = wish.providers[0] if wish.providers else "PROVIDER"
        raise GrafosError(
            "usage",
            f"--image bake goes without {'--plan-out' if plan_out else f'--engine {engine}'}",
            next=f"first: grafos cloud image bake, and grafos cloud image publish {provider}; then leave --image out",
        )


def agree_and_make(work: Planned, terminal: Terminal, *, dry_run: bool, yes: bool) -> None:
    """Shows the plan, asks, makes it, and tells what came of it."""
    from grafos_cli.plan_view import planned_document, planned_text

    if dry_run:
        terminal.emit({**planned_document(work), "dry_run": True}, planned_text(work, terminal))
        return
    if not terminal.json:
        terminal.err.write(planned_text(work, terminal))
    if not yes:
        terminal.confirm(_question(work), "--yes")
    if len(work.names) > 1:
        _many(work, terminal)
    else:
        _one(work, terminal)


def _question(work: Planned) -> str:
    from grafos_core.money import format_cents

    most = format_cents(work.most_micro_cents)
    if len(work.names) > 1:
        return f"Make {len(work.names)} cells, {work.names[0]} to {work.names[-1]}, for at most {most} together?"
    if len(work.places) > 1:
        return f"Make cell {work.names[0]} at the first of {len(work.places)} places that has it, for at most {most}?"
    return f"Make cell {work.names[0]}?"


def _kept(work: Planned, file: str, terminal: Terminal) -> None:
    """Writes the plan to a file, and makes nothing."""
    from pathlib import Path

    from grafos_cli.plan_view import planned_document, planned_text
    from grafos_core.errors import GrafosError
    from grafos_stacks.planfile import Place, PlanFile, keep

    if any(one.resumed for one in work.places):
        raise GrafosError(
            "plan_stale",
            f"{work.names[0]} exists, or was begun: its plan is pinned",
            next="leave out --plan-out to go on with it, or name another cell",
        )
    places = tuple(Place(one.plan, one.quotas) for one in work.places)
    keep(Path(file), PlanFile(work.names, places, work.max_hourly_cents))
    text = f"{planned_text(work, terminal)}\nNothing was made. Make it:  grafos cloud apply {file}\n"
    terminal.emit({**planned_document(work), "plan_file": file}, text)


def _one(work: Planned, terminal: Terminal) -> None:
    from grafos_cli.plan_view import cell_document, made_text, moves_document, planned_document
    from grafos_cli.planning import carry_out

    made, took_s = carry_out(work, terminal)
    document = {**planned_document(work), "cell": cell_document(made.record), "moves": moves_document(made.moves)}
    terminal.emit(document, made_text(made, took_s))


def _many(work: Planned, terminal: Terminal) -> None:
    from grafos_cli.plan_view import fleet_document, fleet_text, planned_document
    from grafos_cli.planning import carry_out_many

    outcomes, took_s = carry_out_many(work, terminal)
    document: dict[str, Any] = {**planned_document(work), **fleet_document(outcomes)}
    terminal.emit(document, fleet_text(outcomes, took_s, terminal))
    if any(one.error for one in outcomes):
        raise typer.Exit(PARTIAL)
