"""The JSON Schema of what each command prints with ``--json``, for `grafos describe --schema` and the documentation.

What is a record inside is described from its type; what a command puts together itself is described here. A test holds
every document that any test sees against its schema, in which nothing may be missing and nothing be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from grafos_cli.terminal import SCHEMA_VERSION, is_moment, is_money
from grafos_core.money import CURRENCY

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
YES_NO: Schema = {"type": "boolean"}
ANY: Schema = {}
MOMENT: Schema = {"type": ["string", "null"], "format": "date-time"}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def record(
    fields: Mapping[str, Schema] | None = None,
    /,
    *,
    texts: str = "",
    numbers: str = "",
    flags: str = "",
    moments: str = "",
    maybe: str = "",
    counts: str = "",
    **others: Schema,
) -> Schema:
    """An object with these fields, by the type of each; ``maybe`` are those that need not be there."""
    properties: dict[str, Schema] = dict(fields or {})
    for names, schema in ((texts, TEXT), (counts, COUNT), (numbers, NUMBER), (flags, YES_NO), (moments, MOMENT)):
        properties |= dict.fromkeys(names.split(), schema)
    return _object(properties | others, maybe)


def _object(properties: dict[str, Schema], maybe: str = "") -> Schema:
    """An object with these fields and no other; with an amount among them, it says the currency too."""
    if any(map(is_money, properties)):
        properties = {**properties, "currency": {"const": CURRENCY}}
    required = [name for name in properties if name not in maybe.split()]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def listed(entry: Schema) -> Schema:
    """A list of such entries."""
    return {"type": "array", "items": entry}


def mapped(entry: Schema) -> Schema:
    """An object whose keys are names."""
    return {"type": "object", "additionalProperties": entry}


def or_none(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def of(kind: Any, **more: Schema) -> Schema:
    """A record as its type says it, and ``more`` fields that the command adds."""
    whole = msgspec.json.schema(kind)
    found: Schema = _inlined(whole, whole.get("$defs", {}))
    return _object({**found["properties"], **more})


def _inlined(schema: Any, definitions: Mapping[str, Any], name: str = "") -> Any:
    """The schema with each reference replaced by what it means, moments as programs get them, and every field of a
    record required, for all are printed."""
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if is_moment(name):
        return {**schema, "items": MOMENT} if schema.get("type") == "array" else MOMENT
    kept = {key: value for key, value in schema.items() if key not in ("$defs", "default", "title", "description")}
    if "properties" not in kept:
        return {key: _inlined(value, definitions) for key, value in kept.items()}
    return _object({key: _inlined(value, definitions, key) for key, value in kept["properties"].items()})


ERROR = record(texts="code what where why next docs", flags="retryable", maybe="docs", context={"type": "object"})
"""What every command prints instead when it fails."""


def document_of(command: str) -> Schema:
    """The schema of all that a command may print with ``--json``; ``command`` as in `grafos runs ls`."""
    from grafos_cli.documents import DOCUMENTS

    shapes = DOCUMENTS[command.removeprefix("grafos ")]
    whole = [_with_version(shape) for shape in (shapes if isinstance(shapes, tuple) else (shapes,))]
    return {
        "$schema": DIALECT,
        "title": f"{command} --json",
        "anyOf": [*whole, _with_version(record(error=ERROR))],
    }


def entry_of(command: str, key: str) -> Schema:
    """The schema of one line that a command prints with ``--stream``; ``key`` names its list."""
    from grafos_cli.documents import DOCUMENTS

    shapes = DOCUMENTS[command.removeprefix("grafos ")]
    first = shapes[0] if isinstance(shapes, tuple) else shapes
    return {"$schema": DIALECT, "title": f"{command} --stream", **_with_version(first["properties"][key]["items"])}


def _with_version(shape: Schema) -> Schema:
    properties = {**shape["properties"], "schema_version": {"const": SCHEMA_VERSION}}
    required = [*(name for name in shape["required"] if name != "schema_version"), "schema_version"]
    return {**shape, "properties": properties, "required": required}
