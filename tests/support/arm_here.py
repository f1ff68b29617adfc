"""The emulated Azure alone, in the test's process, with the real SDK's clients and plain HTTP."""

from __future__ import annotations

import base64
import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from grafos_core.clock import Clock, SystemClock, VirtualClock
from grafos_core.emulated import EMULATED_SUBSCRIPTION
from grafos_emulators.azure import catalogue
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import DUMMY_AUTHORIZATION
from grafos_emulators.census import Thing
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_emulators.world import World

SUBSCRIPTION = f"/subscriptions/{EMULATED_SUBSCRIPTION}"
GROUP = f"{SUBSCRIPTION}/resourceGroups/g"
NETWORK = f"{GROUP}/providers/Microsoft.Network"
COMPUTE = f"{GROUP}/providers/Microsoft.Compute"
MACHINE = f"{COMPUTE}/virtualMachines/vm"
SCHEDULE = f"{GROUP}/providers/Microsoft.DevTestLab/schedules/shutdown-computevm-vm"
QUICK = LifecycleTimes(starting_s=0.05, stopping_s=0.05, ending_s=0.05)
VERSION = "2025-04-01"
WAIT_LIMIT_S = 60.0  # a busy host is slow; a test that would wait for ever fails instead
STEP_S = 0.5  # how far a stepped clock goes while something is waited for
_PUBLIC_KEY = base64.b64encode(b"\x00\x00\x00\x0bssh-ed25519" + bytes(36)).decode()


@dataclass(frozen=True)
class Answer:
    """What came back: the body is JSON, or None."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(repr=False)

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.body["error"]["code"])


class ArmHere:
    """Time stands still on a ``VirtualClock`` until ``settle`` or the test moves it."""

    def __init__(self, state_dir: Path, *, clock: Clock | None = None, boots: bool = False) -> None:
        self.clock = clock or SystemClock()
        settings = Settings(clouds=("azure",), times=QUICK, boots=boots)
        self.clouds = EmulatedClouds(state_dir, settings, clock=self.clock)
        self._open = contextlib.ExitStack()

    @property
    def account(self) -> AzureAccount:
        return self.clouds.azure

    @property
    def world(self) -> World:
        return self.account.world

    @property
    def endpoint(self) -> str:
        return self.clouds.endpoint

    def __enter__(self) -> Self:
        self._open.enter_context(self.clouds)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def break_next(self, operation: str, effect: Effect, error: ErrorClass = ErrorClass.INTERNAL, **more: Any) -> None:
        """The next call of ``operation`` goes wrong."""
        self.clouds.faults.add(FaultRule(Fault(effect, error, **more), operation=operation))

    def things(self) -> tuple[Thing, ...]:
        return self.clouds.world()

    def kinds(self) -> list[str]:
        """The kinds of all that is there."""
        return sorted(thing.kind for thing in self.things())

    def billed(self) -> list[str]:
        """The kinds of all that costs by existing."""
        return sorted(thing.kind for thing in self.things() if thing.billable)

    def ask(self, method: str, path: str, body: Any = None, version: str = VERSION, **headers: str) -> Answer:
        """One call over plain HTTP. ``path`` may be a whole link; header names have underscores for hyphens."""
        url = path if path.startswith("http") else self.endpoint + path.replace(" ", "%20")
        if version and "api-version" not in url:
            url += ("&" if "?" in url else "?") + f"api-version={version}"
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, sent, method=method)  # noqa: S310  loopback only
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                return _answer(response.status, response.read(), response.headers)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return _answer(refusal.code, refusal.read(), refusal.headers)

    def settle(self, answer: Answer) -> dict[str, Any]:
        """Polls the operation to its end, and gives its last status."""
        assert answer.status < 300, answer
        link = answer.headers.get("Azure-AsyncOperation") or ""
        return self.until(lambda: status if (status := self.ask("GET", link).body)["status"] != "InProgress" else None)

    def until(self, look: Callable[[], Any]) -> Any:
        """Looks until what it sees is true, moving a stepped clock on."""
        deadline = time.monotonic() + WAIT_LIMIT_S
        while time.monotonic() < deadline:
            seen = look()
            if seen:
                return seen
            if isinstance(self.clock, VirtualClock):
                self.clock.advance(STEP_S)
            else:
                time.sleep(0.02)
        raise AssertionError(f"not within {WAIT_LIMIT_S} s: {look}")

    def make(self, path: str, body: Any, **headers: str) -> dict[str, Any]:
        """PUTs, waits until it is done, and reads it."""
        status = self.settle(self.ask("PUT", path, body, **headers))
        assert status["status"] == "Succeeded", status
        made: dict[str, Any] = self.ask("GET", path).body
        return made

    def make_network(self, location: str = "eastus") -> None:
        """Group g, network v, subnet s, firewall f, address ip, interface nic."""
        assert self.ask("PUT", GROUP, {"location": location}).status == 201
        self.make(f"{NETWORK}/virtualNetworks/v", network(location))
        self.make(f"{NETWORK}/virtualNetworks/v/subnets/s", {"properties": {"addressPrefix": "10.0.1.0/24"}})
        self.make(f"{NETWORK}/networkSecurityGroups/f", {"location": location})
        self.make(f"{NETWORK}/publicIPAddresses/ip", address(location))
        self.make(f"{NETWORK}/networkInterfaces/nic", interface(location))

    def make_machine(self, **changes: Any) -> dict[str, Any]:
        self.make_network()
        return self.make(MACHINE, machine(**changes))

    def power(self) -> str:
        """The machine's power state, as its instance view tells it."""
        view = self.ask("GET", f"{MACHINE}/instanceView").body
        states = [each["code"] for each in view["statuses"] if each["code"].startswith("PowerState/")]
        return states[0].removeprefix("PowerState/") if states else ""

    def _client(self, made: Any) -> Any:
        return self._open.enter_context(made)

    @property
    def sdk_arguments(self) -> dict[str, Any]:
        """How a client of the real SDK is sent here: http, no token, one attempt."""
        return {
            "credential": NoCredential(),
            "subscription_id": EMULATED_SUBSCRIPTION,
            "base_url": self.endpoint,
            "credential_scopes": [f"{self.endpoint}/.default"],
            "authentication_policy": dummy_policy(),
            "retry_total": 0,
        }

    @cached_property
    def compute(self) -> Any:
        from azure.mgmt.compute import ComputeManagementClient

        return self._client(ComputeManagementClient(**self.sdk_arguments))

    @cached_property
    def network(self) -> Any:
        from azure.mgmt.network import NetworkManagementClient

        return self._client(NetworkManagementClient(**self.sdk_arguments))

    @cached_property
    def resources(self) -> Any:
        from azure.mgmt.resource.resources import ResourceManagementClient

        return self._client(ResourceManagementClient(**self.sdk_arguments))


class NoCredential:
    """Has no token, and says so when somebody asks."""

    def get_token(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nobody asks for a real token in a test")


def dummy_policy() -> Any:
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    class Dummy(SansIOHTTPPolicy):  # type: ignore[type-arg]
        def on_request(self, request: Any) -> None:
            request.http_request.headers["Authorization"] = DUMMY_AUTHORIZATION

    return Dummy()


def _answer(status: int, raw: bytes, headers: Any) -> Answer:
    try:
        body = json.loads(raw) if raw else None
    except ValueError:
        body = raw
    return Answer(status, body, headers)


def network(location: str = "eastus") -> dict[str, Any]:
    return {"location": location, "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}}}


def address(location: str = "eastus") -> dict[str, Any]:
    return {
        "location": location,
        "sku": {"name": "Standard"},
        "properties": {"publicIPAllocationMethod": "Static"},
    }


def interface(location: str = "eastus") -> dict[str, Any]:
    configuration = {
        "subnet": {"id": f"{NETWORK}/virtualNetworks/v/subnets/s"},
        "publicIPAddress": {"id": f"{NETWORK}/publicIPAddresses/ip", "properties": {"deleteOption": "Delete"}},
    }
    return {
        "location": location,
        "properties": {
            "networkSecurityGroup": {"id": f"{NETWORK}/networkSecurityGroups/f"},
            "ipConfigurations": [{"name": "only", "properties": configuration}],
        },
    }


def machine(location: str = "eastus", user_data: str = "", **properties: Any) -> dict[str, Any]:
    """A machine of the host's architecture that takes disk, interface and address along when it goes."""
    arm = catalogue.host_architecture() == catalogue.ARM64
    key = {"path": "/home/grafos/.ssh/authorized_keys", "keyData": f"ssh-ed25519 {_PUBLIC_KEY}"}
    zones = properties.pop("zones", None)
    tags = properties.pop("tags", {"grafos": "yes"})
    asked = {
        "hardwareProfile": {"vmSize": "Standard_B2pls_v2" if arm else "Standard_B2s"},
        "storageProfile": {
            "imageReference": {
                "publisher": "Debian",
                "offer": "debian-13",
                "sku": "13-arm64-gen2" if arm else "13-gen2",
                "version": "latest",
            },
            "osDisk": {
                "name": "vm-disk",
                "createOption": "FromImage",
                "deleteOption": "Delete",
                "managedDisk": {"storageAccountType": "StandardSSD_LRS"},
            },
        },
        "osProfile": {
            "computerName": "vm",
            "adminUsername": "grafos",
            "customData": base64.b64encode(user_data.encode()).decode(),
            "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": {"publicKeys": [key]}},
        },
        "networkProfile": {
            "networkInterfaces": [
                {"id": f"{NETWORK}/networkInterfaces/nic", "properties": {"deleteOption": "Delete", "primary": True}}
            ]
        },
        "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
        **properties,
    }
    body = {"location": location, "tags": tags, "properties": asked}
    return {**body, "zones": zones} if zones else body


def schedule(time_of_day: str) -> dict[str, Any]:
    return {
        "location": "eastus",
        "tags": {"grafos": "yes"},
        "properties": {
            "status": "Enabled",
            "taskType": "ComputeVmShutdownTask",
            "dailyRecurrence": {"time": time_of_day},
            "timeZoneId": "UTC",
            "targetResourceId": MACHINE,
        },
    }
