"""The package as Pulumi sees it: its types, their inputs and outputs."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec

from grafos_connectors.contract import Kind
from grafos_stacks.pulumi.inputs import PART_REPLACING, REPLACING, HandoverInputs, PartInputs, PlanInputs

PACKAGE = "grafos"
PLAN, HANDOVER = "grafos:cell:Plan", "grafos:cell:Handover"
SETTINGS = {
    "provider": "aws, azure or gcp",
    "region": "the cloud's name for the region",
    "zone": "a zone of it; without one, the first that has a machine",
    "type": "the machine type; without one, a small one that fits",
    "ttl": "how long a cell lives: 90m, 8h, 2d",
    "maxTtl": "how long it may be extended to live at most",
    "count": "how many cells",
    "share": "of more than 64 cells, which stack this is: 1, 2, ...; each has 64 of them",
    "cellId": "the cell's name, or what the names of many begin with",
    "port": "where a standalone cell's scheduler answers",
    "allow": "who may reach a standalone cell: 203.0.113.7/32",
    "joining": "how a registered cell joins its orchestrator: token, keyless or none",
    "spot": "whether to ask for machines that the cloud may take back",
    "maxCells": "a guard rail: at most so many cells",
    "maxHourlyCents": "a guard rail: at most so many cents an hour for all of them",
    "longestTtl": "a guard rail: no longer TTL than this",
    "allowedRegions": "a guard rail: these regions and no others",
    "allowedTypes": "a guard rail: these machine types and no others",
    "renewal": "raised by one, it renews cells that ran out",
}
"""What ``pulumi config set grafos:…`` takes. No credential is among it."""


def token_of_kind(kind: Kind) -> str:
    """``grafos:cell:FirewallRule`` and the like."""
    return f"grafos:cell:{''.join(word.capitalize() for word in kind.value.split('_'))}"


@cache
def schema() -> str:
    """The schema's JSON text."""
    parts = {token_of_kind(kind): _part() for kind in Kind}
    document = {
        "name": PACKAGE,
        "displayName": "grafos",
        "description": "Cells of one fabric on many cloud accounts",
        "config": {"variables": {name: _described("string", text) for name, text in SETTINGS.items()}},
        "resources": {PLAN: _plan(), HANDOVER: _handover(), **parts},
    }
    return json.dumps(document, sort_keys=True)


def _described(kind: str, text: str) -> dict[str, str]:
    return {"type": kind, "description": text}


_TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "array": {"type": "array", "items": {"type": "string"}},
    "object": {"type": "object", "additionalProperties": {"type": "string"}},
}


def _inputs_of(kind: type[msgspec.Struct], replacing: tuple[str, ...] | None) -> dict[str, Any]:
    (_, definitions) = msgspec.json.schema_components([kind])
    described = definitions[kind.__name__]
    properties = {name: dict(_TYPES[part["type"]]) for name, part in described["properties"].items()}
    for name, part in properties.items():
        part["willReplaceOnChanges"] = replacing is None or name in replacing
    return {"inputProperties": properties, "requiredInputs": sorted(described.get("required", ()))}


def _resource(text: str, inputs: dict[str, Any], outputs: dict[str, str]) -> dict[str, Any]:
    told = {name: _TYPES[kind] for name, kind in outputs.items()}
    return {"description": text, **inputs, "properties": {**inputs["inputProperties"], **told}}


def _plan() -> dict[str, Any]:
    outputs = dict.fromkeys(("account", "pattern", "machineType", "image", "operatorCidr", "price"), "string")
    numbers = dict.fromkeys(("rateMicroCentsPerHour", "heldMicroCents", "madeAt", "expiresAt", "since"), "integer")
    text = "A cell's plan, with every choice resolved, and the hold of its worst case in the fabric's ledger."
    more = {"emulated": "boolean", "keys": "object", "document": "string"}
    return _resource(text, _inputs_of(PlanInputs, REPLACING), {**outputs, **numbers, **more})


def _part() -> dict[str, Any]:
    names = ("name", "stack", "zone", "account", "state", "publicIp", "privateIp", "machineType", "image")
    text = "One cloud resource of a cell, made or adopted by its key."
    return _resource(text, _inputs_of(PartInputs, PART_REPLACING), dict.fromkeys(names, "string"))


def _handover() -> dict[str, Any]:
    text = "From a machine that runs to a cell that is ready; its end brings the cell's runs home."
    return _resource(
        text, _inputs_of(HandoverInputs, None), dict.fromkeys(("schedulerUrl", "state", "tenant"), "string")
    )
