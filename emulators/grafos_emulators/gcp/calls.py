"""One call of Compute Engine's API, read and checked against the discovery document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from grafos_emulators.gcp.errors import (
    GceRefusal,
    OperationError,
    bad_request,
    invalid,
    not_emulated,
    required,
)
from grafos_emulators.gcp.routing import Method, Router
from grafos_emulators.gcp.schema import Fault, Schemas
from grafos_emulators.http import Request


@dataclass(frozen=True)
class Trouble:
    """What the fault plan wants of this call's effect, in Compute Engine's words.

    ``error`` ends the operation. ``hollow``: it ends well, and nothing came of it. A machine dies ``dies_after_s``
    after it runs; a Spot VM gets its preemption notice ``preempted_after_s`` after it runs.
    """

    error: OperationError | None = None
    hollow: bool = False
    dies_after_s: float | None = None
    preempted_after_s: float | None = None

    @property
    def fails(self) -> bool:
        """Whether nothing comes of the call, said or unsaid."""
        return self.hollow or self.error is not None


@dataclass(frozen=True)
class ApiCall:
    """``path`` and ``query`` are the parameters by name; ``body`` has no field that only the cloud may set."""

    method: Method
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    trouble: Trouble = Trouble()

    @property
    def scope(self) -> str:
        """``zones/Z``, ``regions/R`` or ``global``, from the path's parameters."""
        for where in ("zone", "region"):
            if where in self.path:
                return f"{where}s/{self.path[where]}"
        return "global"

    @property
    def request_id(self) -> str:
        return self.query.get("requestId", "")

    @property
    def target(self) -> str:
        """The path of the resource that the call names: its last parameter, in its collection and scope."""
        segments = self.method.segments[2:]  # without projects/{project}
        last = max((n for n, each in enumerate(segments) if each.startswith("{")), default=-1)
        named = segments[: last + 1]  # …/instances/{instance}/setLabels changes the instance
        return "/".join(self.path[each[1:-1]] if each.startswith("{") else each for each in named)


Handler = Callable[[ApiCall], dict[str, Any]]
Route = tuple[Method, dict[str, str]]


def read(router: Router, schemas: Schemas, route: Route, request: Request) -> ApiCall:
    """The call that a request for ``route`` means; what is wrong with it is refused in Google's words."""
    method, values = route
    for name, value in values.items():
        _check(schemas.fault_of_parameter(method.parameters[name], name, value), value)
    query = _query(router, schemas, method, request.query)
    return ApiCall(method, values, query, _body(schemas, method, request.body))


def _query(router: Router, schemas: Schemas, method: Method, text: str) -> dict[str, str]:
    query = {name.removeprefix("$"): value for name, value in parse_qsl(text, keep_blank_values=True)}
    if "fields" in query:
        raise not_emulated("partial responses (the parameter fields)")
    for name, value in query.items():
        schema = method.parameters.get(name)
        if schema is None and name not in router.common_parameters:
            raise bad_request(
                f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.', "invalid"
            )
        if schema is not None:
            _check(schemas.fault_of_parameter(schema, name, value), value)
    missing = [name for name, each in method.parameters.items() if each.get("required") and each["location"] == "query"]
    for name in missing:
        if name not in query:
            raise required(name)
    return query


def _body(schemas: Schemas, method: Method, body: bytes) -> dict[str, Any]:
    if not method.request_schema:
        return {}
    try:
        document = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise bad_request(f"Invalid JSON payload received. {problem}", "parseError") from problem
    if not isinstance(document, dict):
        raise bad_request("Invalid JSON payload received. Unexpected token.", "parseError")
    _check(schemas.fault_of_request(method.request_schema, document, method.method_id), document)
    return schemas.writable(method.request_schema, document)


def only(body: Mapping[str, Any], known: frozenset[str], what: str, usual: Mapping[str, Any] | None = None) -> None:
    """Refuses a field that the document allows and that nothing here would heed, but for one that says nothing or asks
    for what is ``usual`` anyway.
    """
    harmless = {"name", "kind"} | known
    for name, value in body.items():
        if value and name not in harmless and value != (usual or {}).get(name):
            raise not_emulated(f"the field {name} of {what}")


def _check(fault: Fault | None, value: object) -> None:
    if fault is None:
        return
    if fault.kind == "unknown":
        place = fault.where.removeprefix("resource").lstrip(".")
        at = f" at '{place}'" if place else ""
        text = f'Invalid JSON payload received. Unknown name "{fault.text}"{at}: Cannot find field.'
        raise GceRefusal(400, "invalid", text, status="INVALID_ARGUMENT")
    if fault.kind == "required":
        raise required(fault.where)
    if fault.kind == "pattern":
        raise invalid(fault.where, _at(value, fault.where), f"Must be a match of regex '{fault.text}'")
    raise GceRefusal(400, "invalid", f"Invalid value at '{fault.where}': {fault.text}", status="INVALID_ARGUMENT")


def _at(value: object, where: str) -> object:
    """The value that stands at ``where`` in a body; a parameter's is the value itself."""
    for part in where.replace("[", ".[").split(".")[1:]:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list):
            value = value[int(part[1:-1])]
    return value
