"""The inputs of our resources as a program writes them, and what follows from them.

A credential is never among them: the clouds' own tools keep those, and inputs are written into state. So a name that no
resource knows is refused, and not passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from grafos_core.durations import read_duration
from grafos_core.errors import GrafosError
from grafos_stacks.plan import StackPlan
from grafos_stacks.rails import Rails
from grafos_stacks.spec import BY_TOKEN, CELL_PORT, REGISTERED, CellSpec, check_spec

LOOPBACK = "127.0.0.1/32"
"""From where the machines of an emulated cloud are reached."""

Inputs = TypeVar("Inputs", bound=msgspec.Struct)


class PlanInputs(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A cell, as a person asks for it. What is left open is resolved once, when the plan is made, and stays.

    ``ttl`` and ``max_ttl`` are written like 90m, 8h, 2d. ``allow`` is who may reach a standalone cell, your address as
    203.0.113.7/32. A raised ``renewal`` gives a cell that ran out a new life, and one that lives its whole ``ttl`` from
    now on. The last four are guard rails: what the plan comes to must keep inside them.
    """

    cell_id: str
    provider: str
    region: str
    ttl: str = "8h"
    max_ttl: str = ""
    renewal: int = 0
    zone: str = ""
    type: str = ""
    arch: str = ""
    disk_gib: int = 0
    port: int = CELL_PORT
    spot: bool = False
    allow: str = ""
    joining: str = BY_TOKEN
    max_hourly_cents: int = 0
    longest_ttl: str = ""
    allowed_regions: Sequence[str] = ()
    allowed_types: Sequence[str] = ()


REPLACING = ("cellId", "provider", "region", "zone", "type", "arch", "diskGib", "port", "spot", "joining")
"""Inputs of a plan whose change means another machine."""


class PartInputs(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One cloud resource of a cell: which one of its plan (``role``), that one's ``key``, and the ids of what it needs
    by their roles."""

    cell_id: str
    provider: str
    region: str
    role: str
    key: str
    needs: Mapping[str, str] = {}


PART_REPLACING = ("cellId", "provider", "region", "role", "key")
"""Inputs of a part whose change means another one."""


class HandoverInputs(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """From a machine that runs, named by its id, to a cell that is ready."""

    cell_id: str
    provider: str
    region: str
    machine: str


def read_inputs(kind: type[Inputs], values: Mapping[str, Any]) -> Inputs:
    """The inputs, or ``config_invalid`` naming the one that is wrong."""
    try:
        return msgspec.convert(dict(values), kind)
    except msgspec.ValidationError as error:
        raise GrafosError("config_invalid", str(error), next="see the inputs in the schema") from error


def inputs_in(kind: type[Inputs], outputs: Mapping[str, Any], **beside: Any) -> Inputs:
    """The inputs that a resource's outputs repeat; ``beside`` counts more."""
    names = kind.__struct_encode_fields__
    return read_inputs(kind, {**{name: outputs[name] for name in names if name in outputs}, **beside})


def spec_of(inputs: PlanInputs, *, emulated: bool) -> CellSpec:
    """What is asked for; ``config_invalid``, ``name_invalid`` or ``usage`` if that is no cell."""
    ttl_s = read_duration("ttl", inputs.ttl)
    asked = CellSpec(
        provider=inputs.provider,
        cell_id=inputs.cell_id,
        region=inputs.region,
        operator_cidr=inputs.allow,
        zone=inputs.zone,
        machine_type=inputs.type,
        arch=inputs.arch,
        ttl_s=ttl_s,
        port=inputs.port,
        disk_gib=inputs.disk_gib,
        max_ttl_s=read_duration("maxTtl", inputs.max_ttl) if inputs.max_ttl else 0,
        spot=inputs.spot,
        joining=inputs.joining,
    )
    if emulated and not inputs.allow and asked.pattern != REGISTERED:
        asked = msgspec.structs.replace(asked, operator_cidr=LOOPBACK)
    return check_spec(asked)


def check_rails(inputs: PlanInputs) -> None:
    """What a guard rail bars and the inputs alone tell; see ``rails``."""
    _rails_in(inputs).check_asked(spec_of(inputs, emulated=True))  # it only decides on an address that is left open


def check_plan(inputs: PlanInputs, plan: StackPlan) -> None:
    """What a guard rail bars and only the plan tells."""
    _rails_in(inputs).check_planned(plan)


def _rails_in(inputs: PlanInputs) -> Rails:
    return Rails(
        regions=tuple(inputs.allowed_regions),
        types=tuple(inputs.allowed_types),
        ttl_s=read_duration("longestTtl", inputs.longest_ttl) if inputs.longest_ttl else 0,
        cents_per_hour=inputs.max_hourly_cents,
    )
