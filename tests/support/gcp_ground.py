"""A ground on the emulated Google Cloud."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from crash_sweep import REGIONS
from emulated_ground import EmulatedCloud

from grafos_connectors.contract import Connector, Kind
from grafos_connectors.gcp.connector import PAUSE_S, GcpConnector
from grafos_connectors.gcp.labels import labels
from grafos_core.emulated import EMULATED_PROJECT
from grafos_emulators.gcp.quotas import PROJECT_LIMITS, REGION_LIMITS

REGION = REGIONS["gcp"]
ZONE = f"{REGION}-a"
ONE_OF_EACH = ("network", "subnetwork", "instance", "disk")
GROUND = "theirs"  # a network and a subnet that decoys stand in
OPERATION_S = 60.0  # longer than any operation of the emulator


class GcpCloud(EmulatedCloud):
    """An emulated project with its connector."""

    provider = "gcp"
    whole = dict.fromkeys(ONE_OF_EACH, 1)
    whole_orchestrator: Mapping[str, int] = {**whole, "address": 1, "firewall": 1}
    plantable = (Kind.NETWORK, Kind.SUBNET, Kind.DISK, Kind.MACHINE)

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.clouds.gcp.quota_limits |= dict.fromkeys(((metric, "") for metric in REGION_LIMITS | PROJECT_LIMITS), 1e6)
        self._number = 0
        self._taken: Counter[tuple[Kind, str]] = Counter()
        before = {thing.id for thing in self.clouds.world()}
        self.plant(Kind.NETWORK, {}, GROUND)
        self.plant(Kind.SUBNET, {}, GROUND)
        self.planting(before)

    def open(self, lag_s: float) -> Connector:
        connector = GcpConnector(
            REGION,
            environment=self.clouds.environment(),
            clock=self.clock,
            listing_lag_s=lag_s,
            watch=self.moment,
        )
        connector._pause_s = PAUSE_S  # as on a real cloud: the clock is stepped, so nobody waits
        return connector

    def show_after(self, lag_s: float) -> None:
        self.clouds.set({"visible_after_s": lag_s})

    def plant(self, kind: Kind, tags: Mapping[str, str], name: str) -> None:
        self._number += 1
        again = self._taken[kind, name]
        self._taken[kind, name] += 1
        if again:  # names are unique
            name = f"{name}-{again}"
        described = {"name": name, "description": json.dumps({**tags, "region": REGION}) if tags else ""}
        labelled = {"name": name, "labels": labels(tags)}
        match kind:
            case Kind.NETWORK:
                self._insert("global/networks", {**described, "autoCreateSubnetworks": False})
            case Kind.SUBNET:
                cidr = f"10.{50 + self._number // 4096}.{self._number // 16 % 256}.{self._number % 16 * 16}/28"
                body = {**described, "network": f"global/networks/{GROUND}", "ipCidrRange": cidr}
                self._insert(f"regions/{REGION}/subnetworks", body)
            case Kind.DISK:
                self._insert(f"zones/{ZONE}/disks", {**labelled, "sizeGb": "10"})
            case _:
                self._insert(f"zones/{ZONE}/instances", {**labelled, **_small_machine()})

    def _insert(self, collection: str, body: dict[str, Any]) -> None:
        url = f"{self.clouds.endpoint}/compute/v1/projects/{EMULATED_PROJECT}/{collection}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=60) as answer:  # noqa: S310  loopback
            assert answer.status == HTTPStatus.OK
        self.clock.advance(OPERATION_S)


def _small_machine() -> dict[str, Any]:
    image = "projects/debian-cloud/global/images/family/debian-13"
    return {
        "machineType": f"zones/{ZONE}/machineTypes/e2-micro",
        "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": image}}],
        "networkInterfaces": [{"subnetwork": f"regions/{REGION}/subnetworks/{GROUND}"}],
    }
