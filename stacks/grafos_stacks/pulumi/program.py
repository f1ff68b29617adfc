"""The program behind the root's Pulumi.yaml, and behind `grafos cloud provision --engine pulumi`: cells by settings.

    pulumi config set grafos:provider aws

and likewise all others that ``schema.SETTINGS`` tells of.
"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.runtime.config import is_config_secret

from grafos_stacks.pulumi.resources import Fleet
from grafos_stacks.pulumi.shares import Share, share_of

RAILS = ("longestTtl", "allowedRegions", "allowedTypes")
MORE = {"zone": "zone", "type": "type", "maxTtl": "max_ttl", "joining": "joining"}


def program() -> None:
    """Declares ``grafos:count`` cells and exports their names, addresses, prices and ends."""
    config = pulumi.Config("grafos")
    provider, region = config.require("provider"), config.require("region")
    count = 1 if config.get_int("count") is None else config.require_int("count")
    share = _checked_share(config, count)
    more: dict[str, Any] = {name: config.get(key) for key, name in MORE.items() if config.get(key)}
    fleet = Fleet(
        config.get("cellId") or f"{provider}-{pulumi.get_stack()}",
        count=share.size,
        first=share.first,
        provider=provider,
        region=region,
        ttl=config.get("ttl") or "8h",
        renewal=config.get_int("renewal") or 0,
        spot=config.get_bool("spot") or False,
        port=config.get_int("port") or 0,
        allow=secret_or_plain(config, "allow"),
        rails=_rails(config, count),
        **more,
    )
    cells = {cell.name: cell for cell in fleet.cells}
    pulumi.export("cell_id", [cell.cell_id for cell in cells.values()])
    pulumi.export("scheduler_url", {name: cell.scheduler_url for name, cell in cells.items()})
    pulumi.export("price", {name: cell.price for name, cell in cells.items()})
    pulumi.export("expires_at", {name: cell.expires_at for name, cell in cells.items()})


def _checked_share(config: pulumi.Config, count: int) -> Share:
    most = config.get_int("maxCells")
    if most is not None and count > most:
        raise pulumi.RunError(f"grafos:count is {count}, and grafos:maxCells allows {most}")
    try:
        return share_of(count, config.get_int("share") or 0)
    except ValueError as error:
        raise pulumi.RunError(str(error)) from error


def secret_or_plain(config: pulumi.Config, key: str) -> pulumi.Input[str]:
    """What was set with ``--secret`` stays one."""
    secret = config.get_secret(key) if is_config_secret(config.full_key(key)) else None
    return config.get(key) or "" if secret is None else secret


def _rails(config: pulumi.Config, count: int) -> dict[str, Any]:
    """The bound of an hour is for all cells together; each gets its part of it."""
    rails: dict[str, Any] = {key: config.get(key) for key in RAILS if config.get(key)}
    for key in ("allowedRegions", "allowedTypes"):
        if key in rails:
            rails[key] = [word.strip() for word in str(rails[key]).split(",")]
    hourly = config.get_int("maxHourlyCents")
    if hourly is not None and count:
        rails["maxHourlyCents"] = max(1, hourly // count)
    return rails
