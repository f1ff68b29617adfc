"""The emulated Google Cloud alone, in the test's process, without the other clouds, and asked over plain HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from grafos_core.clock import Clock, VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.lifecycle import LifecycleTimes

if TYPE_CHECKING:
    from grafos_emulators.gcp.front import GcpFront


PROJECT, ZONE, REGION = "grafos-emulated", "us-central1-a", "us-central1"
SECOND_S = 1.0  # longer than any operation takes with the usual times
QUICK = LifecycleTimes(starting_s=0.05, stopping_s=0.05, ending_s=0.05)  # for machines that boot in real time


class GceHere(EmulatedClouds):
    def __init__(self, state_dir: Path, *, clock: Clock, boots: bool) -> None:
        super().__init__(state_dir, Settings(("gcp",), QUICK if boots else LifecycleTimes(), boots), clock=clock)

    @property
    def front(self) -> GcpFront:
        return cast("GcpFront", self._fronts["gcp"])

    @property
    def architecture(self) -> str:
        """GCE's word for the host's, whose image alone runs a startup script."""
        return self.gcp.architecture


@dataclass
class Gce:
    """``gce("GET", "zones/Z/instances/N")`` asks below the project and gives status and body."""

    emulator: GceHere
    clock: VirtualClock

    def __call__(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, dict[str, Any]]:
        return self.raw(method, f"/compute/v1/projects/{PROJECT}/{path}", body, query=query)

    def raw(
        self, method: str, path: str, body: Any = None, *, query: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        url = f"{self.emulator.endpoint}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, method=method)  # noqa: S310  loopback
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                return response.status, _parsed(response.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, _parsed(refusal.read())

    def reason(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, str]:
        status, answer = self(method, path, body, **query)
        return status, answer["error"]["errors"][0]["reason"]

    def operation(self, begun: tuple[int, dict[str, Any]]) -> dict[str, Any]:
        """The operation as it is now."""
        status, operation = begun
        assert status == 200, operation
        scope = operation["selfLink"].partition(f"projects/{PROJECT}/")[2]
        return self("GET", scope)[1]

    def done(self, begun: tuple[int, dict[str, Any]], seconds: float = SECOND_S) -> dict[str, Any]:
        """The operation when ``seconds`` have passed, which must be enough."""
        self.clock.advance(seconds)
        operation = self.operation(begun)
        assert operation["status"] == "DONE", operation
        return operation

    def network(self, name: str = "net") -> None:
        made = self("POST", "global/networks", {"name": name, "autoCreateSubnetworks": False})
        assert "error" not in self.done(made)
        subnet = {"name": name, "network": f"global/networks/{name}", "ipCidrRange": "10.7.0.0/24"}
        assert "error" not in self.done(self("POST", f"regions/{REGION}/subnetworks", subnet))

    def launch(self, name: str = "vm", **changes: Any) -> tuple[int, dict[str, Any]]:
        return self("POST", f"zones/{ZONE}/instances", machine(name, **changes))

    def instance(self, name: str = "vm") -> dict[str, Any]:
        status, body = self("GET", f"zones/{ZONE}/instances/{name}")
        assert status == 200, body
        return body


def machine(name: str, *, disk: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    parameters = {"sourceImage": "projects/debian-cloud/global/images/family/debian-13", "labels": {"a": "b"}}
    return {
        "name": name,
        "machineType": f"zones/{ZONE}/machineTypes/e2-medium",
        "disks": [{"boot": True, "autoDelete": True, "initializeParams": parameters, **(disk or {})}],
        "networkInterfaces": [{"subnetwork": f"regions/{REGION}/subnetworks/net"}],
        **changes,
    }


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text or b"{}")
    except ValueError:
        return {"text": text.decode()}
    return body if isinstance(body, dict) else {"value": body}
