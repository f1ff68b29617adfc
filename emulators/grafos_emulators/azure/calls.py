"""What a request to the emulated ARM asks for, and who asks."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from grafos_emulators.azure import places
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.places import Place
from grafos_emulators.http import Request

DUMMY_AUTHORIZATION = "Bearer grafos-emulated"
"""The one Authorization header that is taken, beside none at all. It opens nothing."""

MAX_PARAMETERS = 50
_API_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview|-alpha|-beta)?")


@dataclass(frozen=True)
class ArmCall:
    """One call. ``query`` has its names lower-cased (``$filter``, ``api-version``), for ARM reads them so."""

    request: Request
    place: Place
    query: Mapping[str, str]
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def method(self) -> str:
        return self.request.method

    @property
    def mutating(self) -> bool:
        """Whether the call may change something. Asking for boot diagnostics is a POST that does not."""
        return self.method in {"PUT", "PATCH", "DELETE"} or (
            self.method == "POST" and self.place.tail != "retrievebootdiagnosticsdata"
        )

    def header(self, name: str) -> str:
        return self.request.headers.get(name, "")

    def body(self) -> dict[str, Any]:
        """The JSON object in the body; ``InvalidRequestContent`` for anything else."""
        try:
            document = json.loads(self.request.body or b"{}")
        except ValueError as problem:
            raise ArmError(
                400,
                "InvalidRequestContent",
                f"The request content was invalid and could not be deserialized: {problem}",
            ) from problem
        if not isinstance(document, dict):
            raise ArmError(400, "InvalidRequestContent", "The request content was invalid: it is no JSON object.")
        return document


def read(request: Request) -> ArmCall:
    query = dict(parse_qsl(request.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS))
    return ArmCall(request, places.read(request.path), {name.lower(): value for name, value in query.items()})


def check_authorization(request: Request) -> None:
    """Refuses every token but the dummy one: a real one must never be sent here, not even by mistake."""
    sent = request.headers.get("authorization", DUMMY_AUTHORIZATION)
    if sent != DUMMY_AUTHORIZATION:
        raise ArmError(
            401,
            "InvalidAuthenticationToken",
            "The access token is invalid (an emulator takes no token but its own dummy, and no real one).",
        )


def check_api_version(call: ArmCall) -> None:
    version = call.query.get("api-version", "")
    if not version:
        raise ArmError(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    if not _API_VERSION.fullmatch(version):
        raise ArmError(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")
