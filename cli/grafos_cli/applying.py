"""`grafos cloud apply`: makes what a plan file shows, if it still comes to the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grafos_cli.planning import Planned
    from grafos_cli.terminal import Terminal
    from grafos_connectors.contract import Connector
    from grafos_stacks.bundle import Bundles
    from grafos_stacks.candidates import Candidate
    from grafos_stacks.direct import Hands
    from grafos_stacks.planfile import PlanFile
    from grafos_stacks.provision import Prepared

TAUGHT = taught(
    examples=("grafos cloud apply build.plan", "grafos cloud apply build.plan --dry-run", "grafos cloud apply p --yes"),
    next="grafos cloud ls",
)


def apply(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="what grafos cloud provision --plan-out wrote")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say whether the plan holds")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="agree to the plan without being asked")] = False,  # noqa: FBT002
) -> None:
    """Makes the cells of a plan that was written with --plan-out.

    What it asks for is planned anew first. Where that comes to anything else (price, image, offer, quota, account,
    software) the plan is refused, and what has moved is named. The cells' time begins now. Stopped or failed at any
    moment, the same command goes on.
    """
    from grafos_cli.provisioning import agree_and_make
    from grafos_stacks.planfile import read

    terminal = terminal_of(ctx)
    with planned_again(read(Path(file)), terminal) as work:
        agree_and_make(work, terminal, dry_run=dry_run, yes=yes)


@contextlib.contextmanager
def planned_again(file: PlanFile, terminal: Terminal) -> Iterator[Planned]:
    """The plans of the file, as they are now; ``plan_stale`` if the first of them is another one."""
    from grafos_cli.fabric import open_default
    from grafos_cli.interrupts import resumable
    from grafos_cli.planning import Planned, hands_for_all
    from grafos_cli.steps import show_steps
    from grafos_stacks.bundle import Bundles

    again = "nothing was made yet; run it again when you like"
    with contextlib.ExitStack() as closing:
        with resumable("Stopped while the plan was looked at", again), show_steps(terminal) as steps:
            steps.began("plan", "whether it still holds")
            connectors = _connectors(file)
            hands_of = closing.enter_context(hands_for_all(connectors, open_default(terminal)))
            bundles = Bundles()
            places, candidates = _as_now(file, hands_of, bundles, terminal)
            steps.ended("plan", f"{len(places)} of {len(file.places)} places as planned")
        yield Planned(hands_of, bundles, file.names, tuple(places), candidates, file.max_hourly_cents)


def _connectors(file: PlanFile) -> Mapping[str, Connector]:
    """One for each cloud of the plan."""
    from grafos_connectors.registry import open_connector

    regions = {place.plan.spec.provider: place.plan.spec.region for place in reversed(file.places)}
    return {provider: open_connector(provider, region) for provider, region in regions.items()}


def _as_now(
    file: PlanFile, hands_of: Mapping[str, Hands], bundles: Bundles, terminal: Terminal
) -> tuple[list[Prepared], tuple[Candidate, ...]]:
    """The places of the plan that are as they were. A cell that was begun keeps what it was begun with."""
    from grafos_cli.guard_rails import within_rails
    from grafos_core.errors import GrafosError
    from grafos_stacks.candidates import live_row, weigh
    from grafos_stacks.planfile import refuse_moved
    from grafos_stacks.provision import Prepared

    some = next(iter(hands_of.values()))
    _refuse_other_fabric(file, some)
    begun = live_row(some, file.names[0]) if len(file.names) == 1 else None
    if begun is not None and begun.plan is not None and _is_of(file, begun.plan.machine.key):
        return [Prepared(begun.plan, resumed=True)], ()
    living = sum(live_row(some, name) is not None for name in file.names)
    specs = [place.plan.spec for place in file.places]
    weighed = weigh(hands_of, specs, bundles, file.max_hourly_cents, len(file.names) - living)
    found = {one.spec: one for one in within_rails(weighed, len(file.names))}
    kept: list[Prepared] = []
    for place in file.places:
        candidate = found[place.plan.spec]
        try:
            if candidate.plan is None or candidate.prepared is None:
                raise _out_of_reach(candidate)
            refuse_moved(place, candidate.prepared)
            kept.append(candidate.prepared)
        except GrafosError as error:
            if place is file.places[0]:
                raise
            terminal.note(f"{candidate.place} is left out: {error.what}")
    return kept, tuple(found.values())


def _is_of(file: PlanFile, machine_key: str) -> bool:
    return machine_key in {place.plan.machine.key for place in file.places}


def _refuse_other_fabric(file: PlanFile, hands: Hands) -> None:
    from grafos_core.errors import GrafosError

    planned_for = file.places[0].plan.fabric
    if planned_for != hands.fabric.id:
        raise GrafosError(
            "plan_stale",
            f"the plan is of fabric {planned_for}, and this is {hands.fabric.id}",
            where=str(hands.fabric.home),
            next="carry it out where it was made, or plan it anew",
        )


def _out_of_reach(candidate: Candidate) -> Exception:
    from grafos_core.errors import GrafosError
    from grafos_stacks.preflight import together

    met = together(candidate.refusals, candidate.place)
    return GrafosError(
        "plan_stale",
        f"the plan of {candidate.spec.cell_id} can no longer be carried out: {met.what}",
        where=met.where,
        why=met.why,
        next=met.next or "plan it anew",
        context={"moved": [error.to_wire() for error in candidate.refusals]},
    )
