"""Checks JSON against the schemas of a discovery document: what comes in, and what we are about to send out.

Requests are judged as Google's JSON parser judges them: a 64-bit integer may be a number or a string, a string may hold
a 32-bit integer, null is as good as nothing. Our own answers must have the exact form that the document promises.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_INTEGER = re.compile(r"-?[0-9]+")
_RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}


@dataclass(frozen=True)
class Fault:
    """What is wrong with a document, and where. ``kind``: ``unknown`` field, bad ``value``, ``pattern`` or
    ``required`` field.
    """

    kind: str
    where: str
    text: str


class Schemas:
    """All schemas of one discovery document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Any] = document["schemas"]

    def fault_of_request(self, name: str, value: Any, method_id: str) -> Fault | None:
        """The first fault of a request's body, which Google calls ``resource``; None for a good one."""
        return self._judge({"$ref": name}, value, "resource", method_id)

    def fault_of_answer(self, name: str, value: Any) -> Fault | None:
        """The first fault of an answer of ours."""
        return self._judge({"$ref": name}, value, name, "")

    def fault_of_parameter(self, schema: Mapping[str, Any], name: str, text: str) -> Fault | None:
        """The same for a parameter, which is always text."""
        value: Any = {"true": True, "false": False}.get(text, text) if schema["type"] == "boolean" else text
        return self._judge(schema, value, name, "parameters")

    def writable(self, name: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """The request without what only the cloud may set: it ignores such fields."""
        properties = self._schemas[name].get("properties", {})
        return {key: each for key, each in value.items() if not _is_output(properties[key])}

    def _judge(self, schema: Mapping[str, Any], value: Any, where: str, asked: str) -> Fault | None:
        """``asked`` is the method's id for a request, and empty for an answer of ours."""
        if "$ref" in schema:
            return self._judge(self._schemas[schema["$ref"]], value, where, asked)
        kind = schema.get("type")
        if value is None:
            return None if asked else Fault("value", where, "null")
        if kind == "object":
            return self._judge_object(schema, value, where, asked)
        if kind == "array":
            if not isinstance(value, list):
                return Fault("value", where, f"not a list: {value!r}")
            found = (self._judge(schema["items"], each, f"{where}[{n}]", asked) for n, each in enumerate(value))
            return next((fault for fault in found if fault), None)
        if kind == "any":
            return None
        return _judge_scalar(schema, value, where, lenient=bool(asked))

    def _judge_object(self, schema: Mapping[str, Any], value: Any, where: str, asked: str) -> Fault | None:
        if not isinstance(value, dict):
            return Fault("value", where, f"not an object: {value!r}")
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties")
        for name, each in value.items():
            of_this = properties.get(name, others)
            if of_this is None:
                return Fault("unknown", where, name)
            fault = self._judge(of_this, each, f"{where}.{name}", asked)
            if fault:
                return fault
        for name, of_this in properties.items():
            if asked and asked in of_this.get("annotations", {}).get("required", ()) and not value.get(name):
                return Fault("required", f"{where}.{name}", "missing")
        return None


def _is_output(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("readOnly")) or schema.get("description", "").startswith("[Output Only]")


def _judge_scalar(schema: Mapping[str, Any], value: Any, where: str, *, lenient: bool) -> Fault | None:
    kind, form = schema.get("type"), schema.get("format")
    if kind == "boolean":
        return None if isinstance(value, bool) else Fault("value", where, f"not true or false: {value!r}")
    if kind == "number":
        good = isinstance(value, int | float) and not isinstance(value, bool)
        return None if good else Fault("value", where, f"not a number: {value!r}")
    if kind == "integer" or form in {"int64", "uint64"}:
        return _judge_integer(schema, value, where, lenient=lenient)
    if not isinstance(value, str):
        return Fault("value", where, f"not text: {value!r}")
    if form == "byte" and not _is_base64(value):
        return Fault("value", where, f"not base64: {value!r}")
    if "enum" in schema and value not in schema["enum"]:
        return Fault("value", where, f"not one of its values: {value!r}")
    if "pattern" in schema and not _compiled(schema["pattern"]).fullmatch(value):
        return Fault("pattern", where, schema["pattern"])
    return None


def _judge_integer(schema: Mapping[str, Any], value: Any, where: str, *, lenient: bool) -> Fault | None:
    as_text = schema.get("type") == "string"  # how JSON carries 64 bits
    good_types: tuple[type, ...] = (str, int) if lenient else ((str,) if as_text else (int,))
    if not isinstance(value, good_types) or isinstance(value, bool) or not _INTEGER.fullmatch(str(value)):
        return Fault("value", where, f"not a {schema['format']}: {value!r}")
    number = int(str(value))
    least, most = _RANGES[schema["format"]]
    low, high = max(least, int(schema.get("minimum", least))), min(most, int(schema.get("maximum", most)))
    return None if low <= number <= high else Fault("value", where, f"not from {low} to {high}: {value}")


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
