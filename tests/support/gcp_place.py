"""The emulated Google Cloud as a place where the contract's claims are tried."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from contract_work import Kinds

from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, Connector, Kind, Scalar
from grafos_connectors.gcp.shapes import GCP_SHAPES
from grafos_connectors.registry import open_connector
from grafos_core.clock import VirtualClock
from grafos_core.emulated import EMULATED_PROJECT
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.http import DropConnectionError

GCP_KINDS = Kinds(
    shapes=GCP_SHAPES,
    ground={
        Kind.NETWORK: (),
        Kind.ADDRESS: (),
        Kind.SUBNET: (Kind.NETWORK,),
        Kind.FIREWALL_RULE: (Kind.NETWORK,),
        Kind.MACHINE: (Kind.NETWORK, Kind.SUBNET),
    },
    used=((Kind.NETWORK, Kind.SUBNET), (Kind.NETWORK, Kind.FIREWALL_RULE), (Kind.SUBNET, Kind.MACHINE)),
    one_by_place=tuple(GCP_SHAPES),
    many=Kind.MACHINE,
    retagged=(Kind.MACHINE,),
    zones=r"[a-z]+-[a-z]+\d+-[a-z]",
    actions=("compute.instances.create",),
)
CORES_OF_THE_TYPE = 2
HOST_TYPES = {"X86_64": ("amd64", "e2-medium", "CPUS"), "ARM64": ("arm64", "t2a-standard-2", "T2A_CPUS")}
LIFE_S = 6 * 3600
OPERATION_S = 60.0  # longer than any operation of the emulator
MADE_WITH_MACHINES = {"disk"}


@contextmanager
def gcp_place(state_dir: Path) -> Iterator[GcpPlace]:
    """A place with an emulator of its own, whose machines are states only."""
    clock = VirtualClock()
    with EmulatedClouds(state_dir, Settings(clouds=("gcp",), boots=False), clock=clock) as clouds:
        yield GcpPlace(clouds, clock)


class GcpPlace:
    kinds = GCP_KINDS
    region = "us-central1"

    def __init__(self, clouds: EmulatedClouds, clock: VirtualClock) -> None:
        self.clouds = clouds
        self.project = clouds.gcp
        self.clock = clock
        self.arch, self.machine_type, self._metric = HOST_TYPES[self.project.architecture]
        self.own_inputs: Mapping[str, Scalar] = {"ends_at": int(clock.now()) + LIFE_S, "target": "grafos-door"}
        self._names = itertools.count(1)

    def open(self) -> Connector:
        return open_connector("gcp", self.region, environment=self.clouds.environment(), clock=self.clock)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def world(self) -> list[str]:
        return [thing.id for thing in self.clouds.world() if thing.kind not in MADE_WITH_MACHINES]

    def plant(self, fabric: str, key: str) -> str:
        tags = {name: value for name, value in ((TAG_FABRIC, fabric), (TAG_KEY, key)) if value}
        name = f"grafos-theirs-{next(self._names)}"
        body = {
            "name": name,
            "autoCreateSubnetworks": False,
            "description": json.dumps({**tags, "region": self.region}),
        }
        url = f"{self.clouds.endpoint}/compute/v1/projects/{EMULATED_PROJECT}/global/networks"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=60) as answer:  # noqa: S310  loopback
            assert answer.status == HTTPStatus.OK
        self.clock.advance(OPERATION_S)
        return f"global/networks/{name}"

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
        limits = self.project.quota_limits
        limits[(self._metric, self.region)] = machines * CORES_OF_THE_TYPE
        yield
        del limits[(self._metric, self.region)]

    def asked(self) -> list[str]:
        """Every call so far, by the cloud's name for it."""
        return [call.action for call in self.clouds.journal()]

    def changes(self) -> list[str]:
        """Every changing call so far."""
        return [call.action for call in self.clouds.journal() if call.mutating]
