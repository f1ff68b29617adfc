"""The control path of an emulator, for tests and for ``status``: ``/_grafos/…``, JSON in and out.

``GET health`` · ``GET journal`` (every call) · ``GET world`` (everything that somebody made and nobody removed) ·
``GET machines`` · ``POST set`` (lifecycle times in seconds, the vCPU limit).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from grafos_emulators.http import Request, Response

PREFIX = "/_grafos/"
_JSON = {"content-type": "application/json"}

Reading = Callable[[], Any]
Setting = Callable[[Mapping[str, float]], Any]


class Control:
    """``readings`` are served for GET; ``set_`` takes the numbers of ``POST set`` and gives what holds then."""

    def __init__(self, readings: Mapping[str, Reading], set_: Setting) -> None:
        self._readings = readings
        self._set = set_

    def answer(self, request: Request) -> Response:
        name = request.path.removeprefix(PREFIX)
        if request.method == "GET" and name in self._readings:
            return Response(200, msgspec.json.encode(self._readings[name]()), _JSON)
        if request.method == "POST" and name == "set":
            return self._settings(request.body)
        return _error(
            404, f"there is no {request.method} {request.path}; known: {', '.join(sorted(self._readings))}, set"
        )

    def _settings(self, body: bytes) -> Response:
        try:
            return Response(
                200, msgspec.json.encode(self._set(msgspec.json.decode(body, type=dict[str, float]))), _JSON
            )
        except (msgspec.DecodeError, ValueError, TypeError) as problem:
            return _error(400, str(problem))


def _error(status: int, what: str) -> Response:
    return Response(status, msgspec.json.encode({"error": what}), _JSON)
