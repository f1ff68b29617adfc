"""The OpenAPI 3.1 document of the scheduler, made from the table of routes and the structs of the wire."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import msgspec

from grafos_scheduler.messages import ErrorBody
from grafos_scheduler.route import Route
from grafos_scheduler.routes import ROUTES

_REFERENCE = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    """The whole document, as whoever reads its JSON gets it."""
    structs = {each for route in ROUTES for each in (route.body, route.answer) if each not in (None, bytes)}
    kinds = [*sorted(structs, key=lambda struct: struct.__name__), ErrorBody]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    named = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, named)
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "grafos scheduler", "version": version("grafos-scheduler")},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "certificate": {"type": "mutualTLS"},
                "token": {"type": "http", "scheme": "bearer", "description": "bound to the certificate's key"},
            },
        },
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))  # a default may be a tuple until here
    return plain


def _operation(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": route.handler.__name__,
        "security": [{"certificate": [], "token": []}] if route.gate else [],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            "200": {"description": "done", "content": _content(route.answer, route.media_type, schemas)},
            "default": {"description": "an error", "content": _content(ErrorBody, "application/json", schemas)},
        },
    }
    if route.gate:
        operation["x-identity-kinds"] = sorted(route.gate.kinds)
        operation["x-right"] = route.gate.right
    if route.only:
        operation["x-only-mode"] = route.only
    if route.body is not None:
        media_type = "application/octet-stream" if route.body is bytes else "application/json"
        operation["requestBody"] = {"required": True, "content": _content(route.body, media_type, schemas)}
        operation["x-body-bytes-max"] = route.body_bytes_max
    return operation


def _content(kind: type, media_type: str, schemas: dict[Any, Any]) -> dict[str, Any]:
    return {media_type: {"schema": {} if kind is bytes else schemas[kind]}}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    _, components = msgspec.json.schema_components([route.query], ref_template=_REFERENCE)
    fields = components[route.query.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in fields.items()]
