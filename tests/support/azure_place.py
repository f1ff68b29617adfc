"""The emulated Azure as a place where the contract's claims are tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from contract_work import Kinds

from grafos_connectors.azure.connector import AzureConnector
from grafos_connectors.azure.shapes import SHAPES
from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, Connector, Kind, Scalar
from grafos_core.clock import VirtualClock
from grafos_core.emulated import EMULATED_SUBSCRIPTION
from grafos_emulators.azure.catalogue import host_architecture
from grafos_emulators.emulator import EmulatedClouds
from grafos_emulators.http import DropConnectionError

_NIC = (Kind.GROUP, Kind.NETWORK, Kind.SUBNET, Kind.FIREWALL, Kind.ADDRESS)
_MACHINE = (*_NIC, Kind.NIC)
AZURE_KINDS = Kinds(
    shapes=SHAPES,
    ground={
        Kind.GROUP: (),
        Kind.NETWORK: (Kind.GROUP,),
        Kind.FIREWALL: (Kind.GROUP,),
        Kind.SUBNET: (Kind.GROUP, Kind.NETWORK),
        Kind.ADDRESS: (Kind.GROUP,),
        Kind.NIC: _NIC,
        Kind.MACHINE: _MACHINE,
        Kind.DEADLINE: (*_MACHINE, Kind.MACHINE),
    },
    used=(
        (Kind.GROUP, Kind.NETWORK),
        (Kind.NETWORK, Kind.NIC),
        (Kind.SUBNET, Kind.NIC),
        (Kind.FIREWALL, Kind.NIC),
        (Kind.ADDRESS, Kind.NIC),
        (Kind.NIC, Kind.MACHINE),
    ),
    one_by_place=(Kind.GROUP, Kind.NETWORK, Kind.FIREWALL, Kind.ADDRESS, Kind.NIC, Kind.MACHINE, Kind.DEADLINE),
    many=Kind.FIREWALL,
    retagged=tuple(kind for kind, shape in SHAPES.items() if shape.tagged),
    zones=r"[1-3]?",
    actions=("Microsoft.Compute/virtualMachines/write",),
    parts=(Kind.SUBNET,),
    uncounted=(Kind.ADDRESS, Kind.NIC),
)
MADE_WITH_MACHINES = {"subnet", "disk", "networkInterface", "publicIPAddress"}
CORES_OF_THE_TYPE = 2
HOST_TYPES = {"x64": ("amd64", "Standard_B2s"), "Arm64": ("arm64", "Standard_B2pls_v2")}  # an image is the host's
LIFE_S = 6 * 3600
API_VERSION = "2025-04-01"


class AzurePlace:
    kinds = AZURE_KINDS
    region = "eastus"

    def __init__(self, clouds: EmulatedClouds, clock: VirtualClock) -> None:
        self.clouds = clouds
        self.clock = clock
        self.arch, self.machine_type = HOST_TYPES[host_architecture()]
        self.own_inputs: Mapping[str, Scalar] = {"ends_at": int(clock.now()) + LIFE_S}
        self._loses = False
        self._names = itertools.count(1)

    def environment(self) -> dict[str, str]:
        return self.clouds.environment()

    def open(self) -> Connector:
        return self.connector()

    def connector(self) -> AzureConnector:
        return AzureConnector(self.region, environment=self.environment(), clock=self.clock)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def world(self) -> list[str]:
        things = self.clouds.world()
        return sorted(thing.id for thing in things if thing.kind not in MADE_WITH_MACHINES)

    def plant(self, fabric: str, key: str) -> str:
        tags = {name: value for name, value in ((TAG_FABRIC, fabric), (TAG_KEY, key)) if value}
        path = f"/subscriptions/{EMULATED_SUBSCRIPTION}/resourceGroups/theirs-{next(self._names)}"
        url = f"{self.clouds.endpoint}{path}?api-version={API_VERSION}"
        answer = requests.put(url, json={"location": self.region, "tags": tags}, timeout=60)
        assert answer.status_code == requests.codes.created
        return path

    @contextmanager
    def losing_the_answer(self) -> Iterator[None]:
        def drop(phase: str, action: str, parameters: Mapping[str, Any]) -> None:
            if phase == "after-effect":
                raise DropConnectionError

        self.clouds.hook = drop
        yield
        self.clouds.hook = None

    @contextmanager
    def with_room_for(self, machines: int) -> Iterator[None]:
        limits = self.clouds.azure.limits
        limits["cores"] = machines * CORES_OF_THE_TYPE
        yield
        del limits["cores"]
