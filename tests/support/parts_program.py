"""A Pulumi program of cells whose machines are states only. It imports what a person's program does, and no more."""

from __future__ import annotations

from typing import Any

import pulumi

from grafos_stacks.pulumi.program import secret_or_plain
from grafos_stacks.pulumi.resources import Part, Plan, declare_parts
from grafos_stacks.spec import NOT_AT_ALL

REGION = "us-east-1"
CELL = "aws-one"


def parts_only() -> None:
    """Declares ``grafos:count`` of them; there is nothing to hand over."""
    config = pulumi.Config("grafos")
    count, provider = config.get_int("count") or 1, config.get("provider") or "aws"
    wanted: dict[str, Any] = {name: config.get(name) for name in ("type", "zone") if config.get(name)}
    if config.get("allow"):
        wanted["allow"] = secret_or_plain(config, "allow")
    parts: dict[str, Part] | None = None
    for number in range(1, count + 1):
        name = CELL if count == 1 else f"{CELL}-{number}"
        place = {"cellId": name, "provider": provider, "region": config.get("region") or REGION}
        asked = {**place, **wanted, "ttl": config.get("ttl") or "2h", "renewal": config.get_int("renewal") or 0}
        if provider != "aws":
            asked["joining"] = NOT_AT_ALL
        parts = declare_parts(name, provider, place, Plan(f"{name}-plan", asked), beside=parts)
        pulumi.export(name, parts["machine"].id)
