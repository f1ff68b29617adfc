"""How the emulated Azure Resource Manager says no: ARM's codes, status numbers and envelope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from grafos_emulators.http import Response

JSON = {"content-type": "application/json; charset=utf-8"}


class ArmError(Exception):
    """A refusal, raised anywhere below the front. ``details`` are ARM's, ``headers`` go into the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        target: str | None = None,
        details: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status, self.code, self.message = status, code, message
        self.target, self.details, self.headers = target, details or [], dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The envelope: ``{"error": {"code": …, "message": …}}``."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.target is not None:
            error["target"] = self.target
        if self.details:
            error["details"] = self.details
        return {"error": error}


def render(error: ArmError) -> Response:
    return Response(error.status, json.dumps(error.document()).encode(), {**JSON, **error.headers})


def code_in(response: Response) -> str:
    """``ok``, or the error code that an answer tells."""
    if response.status < 400:
        return "ok"
    try:
        return str(json.loads(response.body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return str(response.status)


def group_not_found(name: str) -> ArmError:
    return ArmError(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")


def not_found(kind: str, name: str, group: str) -> ArmError:
    return ArmError(
        404,
        "ResourceNotFound",
        f"The Resource '{kind}/{name}' under resource group '{group}' was not found. For more details please go to "
        "https://aka.ms/ARMResourceNotFoundFix",
    )


def not_emulated(what: str) -> ArmError:
    """What the emulator does not do. The code is ours: no ARM answers so, and nobody takes it for ARM's word."""
    return ArmError(501, "NotEmulated", f"the emulated Azure does not know {what}")


def busy(resource_id: str) -> ArmError:
    """Another operation on the same resource runs; retrying later helps. Compute and network say it differently."""
    if "/microsoft.compute/" in resource_id.lower():
        text = "The request failed due to conflict with a concurrent request. To resolve it, please refer to "
        return ArmError(409, "Conflict", f"{text}https://aka.ms/activitylog: {resource_id}")
    return ArmError(
        409,
        "AnotherOperationInProgress",
        "Another operation on this or dependent resource is in progress. To retrieve status of the operation use uri: "
        f"{resource_id}",
    )
