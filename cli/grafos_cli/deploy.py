"""`grafos deploy`: a tasklet of a program onto a cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli import deploy_programs
from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.manifest import Program
    from grafos_cli.running import Ended
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric
    from grafos_core.tiers import Tier

app = new_group(
    help="Runs a program, or a tasklet of it, on cells: the same modules on every provider. Bare, it is deploy run.",
    examples=(
        "grafos deploy",
        "grafos deploy plan",
        "grafos deploy run --provider aws --input picture.png",
    ),
    next="grafos deploy run --provider local",
    bare="run",
)

# What a plan and a run are asked in the same words.
ProgramFolder = Annotated[str, typer.Argument(metavar="PROGRAM", help="folder with a grafos.toml; default: this one")]
Environment = Annotated[
    str, typer.Option(metavar="NAME", help="an environment of [runnable_targets], which names the provider")
]
LeasedMemory = Annotated[
    str, typer.Option(metavar="BYTES", help="fabric memory to lease from the cell: 32768, 128k, 1m")
]
LeasedBlocks = Annotated[
    str, typer.Option(metavar="BYTES", help="blocks to lease from the cell's disk: 4096, 1m; whole blocks of 512")
]
OneCell = Annotated[
    str, typer.Option(metavar="ID", help="which standalone cell; default: the newest that is not past its expiry")
]
WhatTier = Annotated[
    str,
    typer.Option(metavar="TIER", help="guaranteed, standard or scavenger; default: what grafos.toml says, or standard"),
]
WhoPays = Annotated[str, typer.Option(metavar="NAME", help="the tenant whose run it is; default: the fabric's own")]
MostCents = Annotated[
    str, typer.Option(metavar="N", help="the cheapest cell that fits, and none whose worst case is above N US cents")
]


def _named(program: Program, provider: str, environment: str) -> str:
    """The provider that was named, by its own name or an environment's, which GRAFOS_ENV may say; empty when none
    was."""
    from grafos_cli.settings import value_of
    from grafos_core.errors import GrafosError

    if provider and environment:
        raise GrafosError("usage", "--provider and --env both name a provider", next="leave one of them out")
    if not provider and (environment := environment or value_of("env")):
        return program.provider_of(environment)
    return provider


def _tier(word: str) -> Tier | None:
    """The tier of that name, or None where none was named; ``usage``."""
    from grafos_core.tiers import tier_named

    return tier_named(word, "--tier") if word else None


@app.command(
    "plan",
    cls=taught(
        examples=(
            "grafos deploy plan",
            "grafos deploy plan --env production",
            "grafos deploy plan --json | jq .admitted",
        ),
        next="grafos deploy run --provider local",
    ),
)
def plan(
    ctx: typer.Context,
    program: ProgramFolder = "",
    provider: Annotated[
        str,
        typer.Option(metavar="NAME", help="or any; default: the first in [runnable_targets] that admits, else local"),
    ] = "",
    env: Environment = "",
    tasklet: Annotated[str, typer.Option(metavar="NAME", help="which tasklet; default: all of them")] = "",
    mem: LeasedMemory = "",
    block: LeasedBlocks = "",
    cell_id: OneCell = "",
    tier: WhatTier = "",
    tenant: WhoPays = "",
    max_cents: MostCents = "",
) -> None:
    """Shows what a run would need, where it would go and what it could cost; nothing is begun.

    Of a program of several tasklets it shows what is held for all of them at once, too, and whether there is so much.
    The scheduler is asked for the decision that it would make now. The exit code is that of the first obstacle.
    """
    from grafos_cli import foreseeing, plan_text
    from grafos_cli.choosing import ANY, reaches_of, read_cents
    from grafos_cli.fabric import open_default
    from grafos_cli.manifest import load_program
    from grafos_cli.project import program_folder, project_folder
    from grafos_cli.sizes import read_size
    from grafos_core.errors import GrafosError

    terminal = terminal_of(ctx)
    what = load_program(program_folder(program))
    tasklets = [what.tasklet(tasklet)] if tasklet else _those_that_run(what).tasklets
    memory, blocks = read_size("--mem", mem) if mem else None, read_size("--block", block) if block else None
    most = read_cents(max_cents) if max_cents else None
    needs = foreseeing.needs_of(what, tasklets, memory, blocks, _tier(tier))
    fabric, project = open_default(terminal), project_folder()
    asked = []
    for name in foreseeing.providers_to_ask(what, _named(what, provider, env)):
        if name == ANY or most is not None:
            reaches = reaches_of(name, fabric, project, cell_id, terminal)
            reaches = [reach._replace(tenant=tenant or reach.tenant) for reach in reaches]
            asked += foreseeing.foresee_each(what, needs, name, reaches, most)
        else:
            is_whole = not tasklet and len(what.tasklets) > 1
            asked.append(foreseeing.foresee(what, needs, name, fabric, project, cell_id, tenant, whole=is_whole))
    if not asked:
        raise GrafosError("runtime_not_ready", "There is no cell to ask", next="grafos provider list")
    terminal.emit(plan_text.document(what, needs, asked), plan_text.text(what, needs, asked, fabric, terminal))
    if code := plan_text.exit_code(needs, asked):
        raise typer.Exit(code)


@app.command(
    "run",
    cls=taught(
        examples=(
            "grafos deploy run --provider local",
            "grafos deploy run cookbook/png-metadata --provider aws --input picture.png",
            "grafos deploy run --provider any --max-cents 0.5 --mem 32768 --json",
        ),
        next="grafos artifacts RUN_ID --verify",
    ),
)
def run(
    ctx: typer.Context,
    program: ProgramFolder = "",
    provider: Annotated[
        str, typer.Option(metavar="NAME", help="local, aws, azure, gcp, or any: the cheapest that fits; default: local")
    ] = "",
    env: Environment = "",
    tasklet: Annotated[
        str, typer.Option(metavar="NAME", help="which tasklet; default: all, each after those that it needs")
    ] = "",
    input_file: Annotated[
        str, typer.Option("--input", metavar="FILE", help="the input; default: what grafos.toml names")
    ] = "",
    mem: LeasedMemory = "",
    block: LeasedBlocks = "",
    cell_id: OneCell = "",
    tier: WhatTier = "",
    tenant: WhoPays = "",
    max_cents: MostCents = "",
) -> None:
    """Admits, leases, runs and settles a program, and shows its answer, where it ran and what it cost.

    A program of several tasklets runs whole: their worst cases are held together, each runs after those that it needs
    by grafos.toml, and is given what they left. --tasklet runs one of them alone.

    Which cell: --provider aws goes to the standalone cell of this project, of several to the newest that is not past
    its expiry or to the one of --cell-id; where there is none, and on azure and gcp, the orchestrator picks the cell
    with the most free memory. --provider any asks them all and takes the cheapest that fits. A run of a higher tier
    that fits nowhere has those of lower ones give way.

    The module must be built: grafos tasklet build. --mem is leased fabric memory; the linear memory of the module is
    bounded in grafos.toml. A run whose answer was lost is asked for again by the same command and is not charged twice.
    """
    from grafos_cli.choosing import ANY, read_cents
    from grafos_cli.deploying import Wish, run_on_cheapest, run_on_provider
    from grafos_cli.fabric import open_default
    from grafos_cli.manifest import load_program
    from grafos_cli.project import program_folder, project_folder
    from grafos_cli.reach import LOCAL
    from grafos_cli.running import Asking, prepare
    from grafos_cli.sizes import read_size, whole_blocks
    from grafos_core.errors import GrafosError

    terminal = terminal_of(ctx)
    what = load_program(program_folder(program))
    where = _named(what, provider, env) or LOCAL
    running = what if tasklet else _those_that_run(what)
    if not tasklet and len(what.tasklets) > 1:
        of_one = {"--input": input_file, "--mem": mem, "--block": block, "--max-cents": max_cents}
        refused = [flag for flag, value in of_one.items() if value] + (["--provider any"] if where == ANY else [])
        _run_whole(running, where, cell_id, _tier(tier), tenant, refused, terminal)
        return
    chosen = what.tasklet(tasklet)
    if chosen.input_of is not None and not input_file:
        raise GrafosError(
            "usage",
            f"{chosen.name} is given what {' and '.join(chosen.needs)} leave",
            next="add --input FILE to run it alone, or run the whole program: grafos deploy",
        )
    lease_bytes = read_size("--mem", mem) if mem else chosen.mem
    block_bytes = whole_blocks(read_size("--block", block) if block else chosen.block)
    most = read_cents(max_cents) if max_cents else None
    module, data = prepare(what, chosen, Path(input_file) if input_file else None)
    fabric = open_default(terminal)
    asking = Asking(what.name, chosen, module, data, lease_bytes, block_bytes, _tier(tier) or chosen.tier, tenant)
    wish = Wish(asking, where, cell_id, most)
    act = run_on_cheapest if where == ANY or most is not None else run_on_provider
    _show(act(wish, fabric, project_folder(), terminal), fabric, terminal)


app.command("ls", cls=deploy_programs.LS)(deploy_programs.ls)
app.command("cancel", cls=deploy_programs.CANCEL)(deploy_programs.cancel)


def _those_that_run(what: Program) -> Program:
    """The program without the tasklets that only serve: these are deployed, and end at once as a run. ``usage`` where
    there are no others."""
    from dataclasses import replace

    from grafos_core.errors import GrafosError

    needed = {other for tasklet in what.tasklets for other in tasklet.needs}
    serving = {service.tasklet for service in what.services} - needed
    tasklets = tuple(tasklet for tasklet in what.tasklets if tasklet.name not in serving)
    if not tasklets:
        raise GrafosError("usage", f"All tasklets of {what.name} are services", next="grafos service deploy")
    return replace(what, tasklets=tasklets)


def _run_whole(
    what: Program, where: str, cell_id: str, tier: Tier | None, tenant: str, refused: list[str], terminal: Terminal
) -> None:
    """All tasklets, at one scheduler, since one hold pays for them. ``refused`` are flags that were given and do not go
    with that."""
    from grafos_cli.fabric import open_default
    from grafos_cli.program_view import document, text
    from grafos_cli.project import project_folder
    from grafos_cli.reach import resolve
    from grafos_cli.whole_program import prepare_all, run_program
    from grafos_core.errors import GrafosError

    if refused:
        raise GrafosError(
            "usage",
            f"{refused[0]} is for one tasklet, and {what.name} has {len(what.tasklets)}",
            next=f"leave it out, or add --tasklet {what.tasklets[0].name}",
        )
    fabric, project = open_default(terminal), project_folder()
    reach = resolve(where, fabric, project, cell_id)
    if reach.note:
        terminal.note(reach.note)
    reach = reach._replace(tenant=tenant or reach.tenant)
    end = run_program(prepare_all(what, tier, tenant), reach, project, terminal)
    terminal.emit(document(what, end), text(what, end, fabric, terminal))


def _show(ended: Ended, fabric: Fabric, terminal: Terminal) -> None:
    """The run's facts and answer; a run that did not finish is its error."""
    import msgspec

    from grafos_cli.fictional import emulated_cells
    from grafos_cli.running import failed_run
    from grafos_cli.runs import run_facts
    from grafos_cli.tables import facts

    view, left = ended.view, ended.artifacts
    if error := failed_run(ended):
        raise error
    response = left.response_json if left else ""
    text = facts(run_facts(view, emulated_cells(fabric)), terminal) + f"\n{response}\n"
    document = {"run": msgspec.to_builtins(view), "run_id": view.run_id, "cell_id": view.cell_id, "state": view.state}
    if ended.considered:
        document["considered"] = ended.considered
    terminal.emit({**document, "response": msgspec.json.decode(response) if response else None}, text)
