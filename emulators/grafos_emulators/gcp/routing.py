"""Which method of the API a request means, as the discovery document's ``flatPath`` and ``httpMethod`` tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True)
class Method:
    """One method: ``compute.instances.insert`` and its like. Schemas are names, empty where there is no body."""

    method_id: str
    http_method: str
    segments: tuple[str, ...]
    request_schema: str
    response_schema: str
    parameters: Mapping[str, Mapping[str, Any]]

    @property
    def collection(self) -> str:
        """``instances``, ``zoneOperations``, …"""
        return self.method_id.split(".")[1]

    @property
    def verb(self) -> str:
        """``insert``, ``aggregatedList``, …"""
        return self.method_id.split(".")[2]

    @property
    def mutating(self) -> bool:
        """Whether it may change something. Waiting for an operation is a POST that changes nothing."""
        return self.http_method != "GET" and self.verb not in {"wait", "testIamPermissions"}


class Router:
    """All methods of one discovery document, by HTTP method and number of path segments."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._methods: dict[tuple[str, int], list[Method]] = {}
        for method in _methods(document):
            self._methods.setdefault((method.http_method, len(method.segments)), []).append(method)
        self.common_parameters: Mapping[str, Mapping[str, Any]] = document.get("parameters", {})

    def find(self, http_method: str, path: str) -> tuple[Method, dict[str, str]] | None:
        """The method and the values in its path; the one with the most fixed segments when several would do."""
        segments = tuple(unquote(each) for each in path.split("/"))
        found = [
            (len(values), method, values)
            for method in self._methods.get((http_method, len(segments)), ())
            if (values := _values(method.segments, segments)) is not None
        ]
        if not found:
            return None
        _, method, values = min(found, key=lambda each: each[0])
        return method, values


def _values(pattern: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for wanted, segment in zip(pattern, segments, strict=True):
        if wanted.startswith("{"):
            values[wanted[1:-1]] = segment
        elif wanted != segment:
            return None
    return values


def _methods(document: Mapping[str, Any]) -> Iterator[Method]:
    for resource in document["resources"].values():
        for method in resource.get("methods", {}).values():
            yield Method(
                method_id=method["id"],
                http_method=method["httpMethod"],
                segments=tuple(method.get("flatPath", method["path"]).split("/")),
                request_schema=method.get("request", {}).get("$ref", ""),
                response_schema=method.get("response", {}).get("$ref", ""),
                parameters=method.get("parameters", {}),
            )
