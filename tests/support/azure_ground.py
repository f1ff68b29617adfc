"""A ground on the emulated Azure."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from crash_sweep import REGIONS
from emulated_ground import EmulatedCloud

from grafos_connectors.azure.client import POLL_PAUSE_S
from grafos_connectors.azure.connector import AzureConnector
from grafos_connectors.azure.ids import SCHEDULE_PREFIX, TYPES
from grafos_connectors.azure.kind_calls import SCHEDULES_API
from grafos_connectors.contract import Connector, Kind
from grafos_core.emulated import EMULATED_SUBSCRIPTION
from grafos_emulators.azure.catalogue import DEFAULT_LIMITS

REGION = REGIONS["azure"]
ONE_OF_EACH = (
    "resourceGroup",
    "virtualNetwork",
    "networkSecurityGroup",
    "subnet",
    "publicIPAddress",
    "networkInterface",
    "virtualMachine",
    "disk",
    "schedule",
)
API_VERSION = "2025-04-01"
THEIRS = "theirs-all"  # the group of the decoys; a second one of a name is put into a group of its own
ENOUGH = 1_000_000  # of whatever a quota limits
IMAGE = {"publisher": "Debian", "offer": "debian-13", "sku": "13-gen2", "version": "latest"}
KEY = "ssh-ed25519 " + base64.b64encode(b"\x00\x00\x00\x0bssh-ed25519" + bytes(36)).decode()


class AzureCloud(EmulatedCloud):
    """An emulated subscription with its connector."""

    provider = "azure"
    whole = dict.fromkeys(ONE_OF_EACH, 1)
    whole_orchestrator: Mapping[str, int] = {**whole, "networkSecurityGroup": 2}
    uncounted = ("securityRule",)
    plantable = (
        Kind.GROUP,
        Kind.NETWORK,
        Kind.FIREWALL,
        Kind.ADDRESS,
        Kind.NIC,
        Kind.DISK,
        Kind.MACHINE,
        Kind.DEADLINE,
    )

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.clouds.azure.limits.update(dict.fromkeys(DEFAULT_LIMITS, ENOUGH))
        self._http = requests.Session()
        self._taken: Counter[tuple[Kind, str]] = Counter()
        before = {thing.id for thing in self.clouds.world()}
        self._group(THEIRS, {})
        space = {"addressSpace": {"addressPrefixes": ["10.50.0.0/16"]}}
        network = self._put(THEIRS, Kind.NETWORK, "theirs", {}, space)
        self._subnet = f"{network}/subnets/theirs"
        self._send(self._subnet, {"properties": {"addressPrefix": "10.50.0.0/16"}})
        self.planting(before)

    def open(self, lag_s: float) -> Connector:
        connector = AzureConnector(
            REGION, environment=self.clouds.environment(), clock=self.clock, listing_lag_s=lag_s, watch=self.moment
        )
        connector._calls.pause_s = POLL_PAUSE_S  # as on a real cloud: the clock is stepped, so nobody waits
        return connector

    def show_after(self, lag_s: float) -> None:
        self.clouds.set({"visible_after_s": lag_s})

    def close(self) -> None:
        self._http.close()
        super().close()

    def plant(self, kind: Kind, tags: Mapping[str, str], name: str) -> None:
        again = self._taken[kind, name]
        self._taken[kind, name] += 1
        if kind is Kind.GROUP:
            self._group(f"{name}-{again}" if again else name, tags)
            return
        group = THEIRS
        if again:
            group = f"theirs-{again}"
            self._group(group, {})
        if kind is Kind.DEADLINE:
            self._schedule(group, name, tags)
        elif kind is Kind.MACHINE:
            self._machine(group, name, tags)
        else:
            self._put(group, kind, name, tags, self._properties(kind))

    def _properties(self, kind: Kind) -> dict[str, Any]:
        subnet = {"name": "ip", "properties": {"subnet": {"id": self._subnet}}}
        return {
            Kind.NETWORK: {"addressSpace": {"addressPrefixes": ["10.77.0.0/16"]}},
            Kind.FIREWALL: {},
            Kind.ADDRESS: {"publicIPAllocationMethod": "Static"},
            Kind.NIC: {"ipConfigurations": [subnet]},
            Kind.DISK: {"creationData": {"createOption": "Empty"}, "diskSizeGB": 4},
        }[kind]

    def _machine(self, group: str, name: str, tags: Mapping[str, str]) -> str:
        card = self._put(group, Kind.NIC, f"{name}-theirs", {}, self._properties(Kind.NIC))
        key = {"path": "/home/them/.ssh/authorized_keys", "keyData": KEY}
        profile = {"disablePasswordAuthentication": True, "ssh": {"publicKeys": [key]}}
        properties = {
            "hardwareProfile": {"vmSize": "Standard_B2s"},
            "storageProfile": {"imageReference": IMAGE, "osDisk": {"createOption": "FromImage"}},
            "osProfile": {"computerName": "theirs", "adminUsername": "them", "linuxConfiguration": profile},
            "networkProfile": {"networkInterfaces": [{"id": card}]},
        }
        return self._put(group, Kind.MACHINE, name, tags, properties)

    def _schedule(self, group: str, name: str, tags: Mapping[str, str]) -> None:
        """Switched off, since it is their machine that it would end."""
        properties = {
            "status": "Disabled",
            "taskType": "ComputeVmShutdownTask",
            "dailyRecurrence": {"time": "0000"},
            "timeZoneId": "UTC",
            "targetResourceId": self._machine(group, name, {}),
        }
        self._put(group, Kind.DEADLINE, SCHEDULE_PREFIX + name, tags, properties)

    def _group(self, name: str, tags: Mapping[str, str]) -> None:
        path = f"/subscriptions/{EMULATED_SUBSCRIPTION}/resourceGroups/{name}"
        self._send(path, {"location": REGION, "tags": dict(tags)})

    def _put(self, group: str, kind: Kind, name: str, tags: Mapping[str, str], properties: dict[str, Any]) -> str:
        path = f"/subscriptions/{EMULATED_SUBSCRIPTION}/resourceGroups/{group}/providers/{TYPES[kind]}/{name}"
        body = {"location": REGION, "tags": dict(tags), "properties": properties}
        sku = {Kind.ADDRESS: "Standard", Kind.DISK: "StandardSSD_LRS"}.get(kind)
        self._send(path, {**body, "sku": {"name": sku}} if sku else body)
        return path

    def _send(self, path: str, body: dict[str, Any]) -> None:
        version = SCHEDULES_API if TYPES[Kind.DEADLINE] in path else API_VERSION
        answer = self._http.put(f"{self.clouds.endpoint}{path}?api-version={version}", json=body, timeout=60)
        assert answer.ok, answer.text
        self.clock.advance(1.0)  # what was begun is done by the next call
