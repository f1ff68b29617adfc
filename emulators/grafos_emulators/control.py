"""The control path of an emulator, for tests and for `grafos emulate`: ``/_grafos/…``, JSON in and out.

``GET health`` · ``GET journal`` (every call) · ``GET world`` (everything that somebody made and nobody removed) ·
``GET machines`` · ``GET faults`` · ``GET room`` · ``POST set`` (lifecycle times in seconds, limits) · ``POST faults``
(one more rule) · ``POST faults/clear`` · ``POST clock`` (``{"advance_s": 60}``, for a stepped clock) · ``POST room``
(``{"provider": "gcp", "place": "us-central1-a", "machine_type": "*", "machines": 0}``) · ``POST room/clear``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from grafos_emulators.http import Request, Response

PREFIX = "/_grafos/"
_JSON = {"content-type": "application/json"}

Reading = Callable[[], Any]
Change = Callable[[bytes], Any]


class Control:
    """``readings`` are served for GET, ``changes`` for POST; what a change raises as ValueError is the caller's."""

    def __init__(self, readings: Mapping[str, Reading], changes: Mapping[str, Change]) -> None:
        self._readings = readings
        self._changes = changes

    def answer(self, request: Request) -> Response:
        name = request.path.removeprefix(PREFIX)
        if request.method == "GET" and name in self._readings:
            return Response(200, msgspec.json.encode(self._readings[name]()), _JSON)
        if request.method == "POST" and name in self._changes:
            return self._changed(self._changes[name], request.body)
        known = ", ".join(sorted({*self._readings, *self._changes}))
        return _error(404, f"there is no {request.method} {request.path}; known: {known}")

    def _changed(self, change: Change, body: bytes) -> Response:
        try:
            return Response(200, msgspec.json.encode(change(body)), _JSON)
        except (msgspec.DecodeError, ValueError, TypeError) as problem:
            return _error(400, str(problem))


def _error(status: int, what: str) -> Response:
    return Response(status, msgspec.json.encode({"error": what}), _JSON)
