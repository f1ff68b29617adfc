"""`grafos cloud provision --engine pulumi`: the same cells by Pulumi's engine, in a stack of the cell's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grafos_cli.terminal import Terminal
    from grafos_cli.wishes import Wish
    from grafos_stacks.pulumi.engine import EngineStack


def provision_by_pulumi(wish: Wish, plan_out: str, terminal: Terminal, *, dry_run: bool, yes: bool) -> None:
    """Shows what Pulumi would do, asks, does it, and tells what the program gave."""
    from grafos_cli.steps import show_steps
    from grafos_stacks.owners import PULUMI

    settings = _settings_of(wish, plan_out)
    name = _name_of(wish)
    with show_steps(terminal, waiting="pulumi preview") as steps:
        steps.began("preview", "by Pulumi")
        stack = _opened(name, settings, terminal)
        changes = dict(stack.preview())
        steps.ended("preview", _changes_text(changes))
    document: dict[str, Any] = {"engine": PULUMI, "stack": name, "dry_run": dry_run, "changes": changes, "outputs": {}}
    if dry_run:
        terminal.emit(document, f"Pulumi would do in {name}: {_changes_text(changes)}\n")
        return
    if not yes:
        terminal.confirm(f"Do this in the Pulumi stack {name}: {_changes_text(changes)}?", "--yes")
    with show_steps(terminal, waiting="pulumi up") as steps:
        steps.began("up", "by Pulumi")
        outputs = dict(stack.up())
        steps.ended("up", name)
    terminal.emit({**document, "outputs": outputs}, _made_text(name, outputs))


def _name_of(wish: Wish) -> str:
    import random

    from grafos_stacks.spec import new_cell_id

    return wish.cell_id or new_cell_id(wish.providers[0], random.SystemRandom())


def _settings_of(wish: Wish, plan_out: str) -> dict[str, str]:
    """The program's settings; ``usage`` for what Pulumi is not asked for."""
    from grafos_cli.regions import region_at_hand
    from grafos_stacks.spec import typed

    several = len(wish.providers) != 1 or len(wish.regions) > 1 or len(wish.zones) > 1 or len(wish.markets) > 1
    if wish.any_place or several or plan_out:
        raise GrafosError(
            "usage",
            "Pulumi makes cells at one place, which is named, and keeps plans itself",
            next="leave out --any, --spot-or-on-demand and --plan-out, and name one cloud, region and zone",
        )
    provider = wish.providers[0]
    region = next(iter(wish.regions), "") or region_at_hand(provider)
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
        "allow": wish.allow,
        "joining": wish.joining,
        "spot": "true" if wish.markets == (True,) else "",
        "maxHourlyCents": str(wish.max_hourly_cents * wish.count) if wish.max_hourly_cents is not None else "",
    }
    if not region:
        raise GrafosError("usage", "no region was named", where="--region", next="name one with --region")
    return {key: value for key, value in found.items() if value}


def _opened(name: str, settings: Mapping[str, str], terminal: Terminal) -> EngineStack:
    from grafos_cli.fabric import open_default
    from grafos_cli.project import project_folder

    try:
        from grafos_stacks.pulumi.engine import EngineStack, Workplace
    except ModuleNotFoundError as missing:
        raise GrafosError(
            "unsupported",
            "what speaks to Pulumi is not installed",
            why=f"there is no module {missing.name}",
            next="pip install 'grafos-stacks[pulumi]'",
        ) from missing
    return EngineStack(Workplace(open_default(terminal), project_folder()), name, {"cellId": name, **settings})


def _changes_text(changes: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count} to {word}" if word != "same" else f"{count} as they are" for word, count in changes.items()
    )


def _made_text(name: str, outputs: Mapping[str, Any]) -> str:
    urls = dict(outputs.get("scheduler_url", {}))
    prices = dict(outputs.get("price", {}))
    lines = [f"{cell}  {prices.get(cell, '')}  {urls[cell] or 'at its orchestrator'}" for cell in urls]
    return "\n".join([f"The Pulumi stack {name} is as declared.", *lines]) + "\n"
