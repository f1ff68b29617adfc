"""`grafos cloud provision --engine pulumi`: the same cells by Pulumi's engine, in a stack of the cell's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grafos_cli.terminal import Terminal
    from grafos_cli.wishes import Wish
    from grafos_stacks.pulumi.engine import EngineStack, Workplace

INSTALL_EXPECTED_S = 60.0
"""For 100 MB over an ordinary line."""
DESTRUCTIVE = ("delete", "replace", "create-replacement", "delete-replaced")
"""What a provision never does, in the engine's words."""


def provision_by_pulumi(wish: Wish, plan_out: str, terminal: Terminal, *, dry_run: bool, yes: bool) -> None:
    """Shows what Pulumi would do, asks, does it, and tells what the program gave. Until then nothing is kept."""
    from grafos_cli.accounts import told_by
    from grafos_cli.interrupts import resumable
    from grafos_cli.settings import value_of
    from grafos_cli.steps import show_steps
    from grafos_stacks.owners import PULUMI

    settings = _settings_of(wish, plan_out)
    name = _name_of(wish)
    place = workplace(terminal, value_of("pulumi_backend"))
    ensure_engine(place, terminal, yes=yes)
    changes = _previewed(place, name, settings, terminal)
    document: dict[str, Any] = {"engine": PULUMI, "stack": name, "dry_run": dry_run, "changes": changes, "outputs": {}}
    if dry_run:
        terminal.emit(document, f"Pulumi would do in {name}: {_changes_text(changes)}\n")
        return
    _refuse_destruction(wish.providers[0], name, changes)
    if not yes:
        terminal.confirm(f"Do this in the Pulumi stack {name}: {_changes_text(changes)}?", "--yes")
    again = f"grafos cloud provision {wish.providers[0]} --cell-id {name} --engine pulumi"
    undo = f"grafos cloud teardown {wish.providers[0]} --cell-id {name}"
    stopped = resumable(f"Stopped while {name} was made", f"{again}   goes on; {undo}   undoes")
    with stopped, show_steps(terminal, waiting="pulumi up") as steps:
        outputs = dict(_stack(place, name, settings).up(told_by(steps)))
    terminal.emit({**document, "outputs": outputs}, _made_text(name, outputs))


def workplace(terminal: Terminal, backend: str = "") -> Workplace:
    """Where Pulumi works for the person's fabric; ``unsupported`` without what speaks to it. ``backend`` is for stacks
    that begin; one that is there stays where its state is."""
    from grafos_cli.fabric import open_default
    from grafos_cli.project import project_folder

    try:
        from grafos_stacks.pulumi.engine import Workplace
    except ModuleNotFoundError as missing:
        raise GrafosError(
            "unsupported",
            "what speaks to Pulumi is not installed",
            why=f"there is no module {missing.name}",
            next="pip install 'grafos-stacks[pulumi]'",
        ) from missing
    return Workplace(open_default(terminal), project_folder(), backend)


def ensure_engine(place: Workplace, terminal: Terminal, *, yes: bool) -> None:
    """Pulumi's command line is there, or is fetched for grafos alone once the person agrees."""
    from grafos_cli.steps import show_steps
    from grafos_stacks.pulumi.command import INSTALLER, find_engine, install_engine

    private = place.home / "engine"
    try:
        find_engine(private)
        return
    except GrafosError as error:
        if not yes and not terminal.interactive:
            error.next = "repeat the command with --yes, and it is fetched for grafos alone; or install it yourself"
            raise
    if not yes:
        terminal.confirm(f"Pulumi's command line is not here. Fetch it from {INSTALLER} for grafos alone?", "--yes")
    with show_steps(terminal, INSTALL_EXPECTED_S) as steps:
        steps.began("fetch pulumi", INSTALLER)
        install_engine(private, place.home / "home")
        steps.ended("fetch pulumi", str(private))


def _stack(place: Workplace, name: str, settings: Mapping[str, str]) -> EngineStack:
    from grafos_stacks.pulumi.engine import EngineStack

    return EngineStack(place, name, _named(name, settings))


def _named(name: str, settings: Mapping[str, str]) -> dict[str, str]:
    return {"cellId": name, **settings}


def _previewed(place: Workplace, name: str, settings: Mapping[str, str], terminal: Terminal) -> dict[str, int]:
    """What the engine would do, by its word for it and how often."""
    from grafos_cli.steps import show_steps
    from grafos_stacks.pulumi.engine import on_trial

    with show_steps(terminal, waiting="pulumi preview") as steps:
        steps.began("preview", "by Pulumi")
        with on_trial(place, name, _named(name, settings)) as stack:
            changes = dict(stack.preview())
        steps.ended("preview", _changes_text(changes))
    return changes


def _refuse_destruction(provider: str, name: str, changes: Mapping[str, int]) -> None:
    """``plan_stale``: with other inputs it would be another machine, with a smaller count there would be less of them;
    both mean an end, which is a command of its own."""
    if any(changes.get(word) for word in DESTRUCTIVE):
        raise GrafosError(
            "plan_stale",
            f"{name} exists with other inputs, and Pulumi would end what is there: {_changes_text(changes)}",
            next=f"ask for the same, name another cell, or first: grafos cloud teardown {provider} --cell-id {name}",
        )


def _name_of(wish: Wish) -> str:
    import random

    from grafos_stacks.spec import new_cell_id

    return wish.cell_id or new_cell_id(wish.providers[0], random.SystemRandom())


def _settings_of(wish: Wish, plan_out: str) -> dict[str, str]:
    """The program's settings; ``usage`` for what Pulumi is not asked for."""
    from grafos_cli.guard_rails import rails_here
    from grafos_cli.regions import region_at_hand
    from grafos_stacks.pulumi.shares import CELLS_OF_A_STACK_MAX
    from grafos_stacks.spec import typed

    several = len(wish.providers) != 1 or len(wish.regions) > 1 or len(wish.zones) > 1 or len(wish.markets) > 1
    if wish.any_place or several or plan_out:
        raise GrafosError(
            "usage",
            "Pulumi makes cells at one place, which is named, and keeps plans itself",
            next="leave out --any, --spot-or-on-demand and --plan-out, and name one cloud, region and zone",
        )
    if wish.image:
        raise GrafosError(
            "usage",
            "a Pulumi stack's cells start from the newest published image, or from a stock image",
            where="--image",
            next="leave --image out, or leave --engine out",
        )
    if wish.count > CELLS_OF_A_STACK_MAX:
        raise GrafosError(
            "limit_exceeded",
            f"a Pulumi stack has {CELLS_OF_A_STACK_MAX} cells at most: its engine writes all of its state at each step",
            where="--count",
            next="make several, each with a --cell-id of its own; or leave --engine out",
        )
    provider, rails = wish.providers[0], rails_here()
    region = next(iter(wish.regions), "") or region_at_hand(provider)
    bounds = [wish.max_hourly_cents * wish.count] if wish.max_hourly_cents is not None else []
    bounds += [rails.cents_per_hour] if rails.cents_per_hour else []
    found = {
        "provider": provider,
        "region": region,
        "zone": next(iter(wish.zones), ""),
        "type": wish.machine_type,
        "ttl": typed(wish.ttl_s),
        "maxTtl": typed(wish.max_ttl_s) if wish.max_ttl_s else "",
        "count": str(wish.count),
        "cellId": wish.cell_id,
        "port": str(wish.port),
        "allow": wish.allow if "/" in wish.allow or not wish.allow else f"{wish.allow}/32",
        "joining": wish.joining,
        "spot": "true" if wish.markets == (True,) else "",
        "maxHourlyCents": str(min(bounds)) if bounds else "",
        "maxCells": str(rails.cells or ""),
        "longestTtl": typed(rails.ttl_s) if rails.ttl_s else "",
        "allowedRegions": ",".join(rails.regions),
        "allowedTypes": ",".join(rails.types),
    }
    if not region:
        raise GrafosError("usage", "no region was named", where="--region", next="name one with --region")
    return {key: value for key, value in found.items() if value}


def _changes_text(changes: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count} to {word}" if word != "same" else f"{count} as they are" for word, count in changes.items()
    )


def _made_text(name: str, outputs: Mapping[str, Any]) -> str:
    urls = dict(outputs.get("scheduler_url", {}))
    prices = dict(outputs.get("price", {}))
    lines = [f"{cell}  {prices.get(cell, '')}  {urls[cell] or 'at its orchestrator'}" for cell in urls]
    return "\n".join([f"The Pulumi stack {name} is as declared.", *lines]) + "\n"
