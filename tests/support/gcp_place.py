"""The emulated Google Cloud as a place where the contract's claims are tried."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import requests
from contract_work import Kinds
from gce_here import GceHere

from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, Connector, Kind, Scalar
from grafos_connectors.gcp.connector import GcpConnector
from grafos_connectors.gcp.shapes import GCP_SHAPES
from grafos_core.clock import VirtualClock
from grafos_core.emulated import EMULATED_PROJECT

GCP_KINDS = Kinds(
    shapes=GCP_SHAPES,
    ground={Kind.NETWORK: (), Kind.SUBNET: (Kind.NETWORK,), Kind.MACHINE: (Kind.NETWORK, Kind.SUBNET)},
    used=((Kind.NETWORK, Kind.SUBNET), (Kind.SUBNET, Kind.MACHINE)),
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


class GcpPlace:
    kinds = GCP_KINDS
    region = "us-central1"

    def __init__(self, gcp: GceHere, clock: VirtualClock) -> None:
        self.gcp = gcp
        self.clock = clock
        self.arch, self.machine_type, self._metric = HOST_TYPES[gcp.front.project.architecture]
        self.own_inputs: Mapping[str, Scalar] = {"ends_at": int(clock.now()) + LIFE_S}
        self._loses = False
        self._names = itertools.count(1)

    def environment(self) -> dict[str, str]:
        return self.gcp.front.environment(self.gcp.endpoint)

    def open(self) -> Connector:
        return GcpConnector(self.region, environment=self.environment(), clock=self.clock, watch=self._moment)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def world(self) -> list[str]:
        resources = self.gcp.front.project.resources
        return sorted(path for path, made in resources.items() if made.kind not in MADE_WITH_MACHINES)

    def plant(self, fabric: str, key: str) -> str:
        tags = {name: value for name, value in ((TAG_FABRIC, fabric), (TAG_KEY, key)) if value}
        name = f"grafos-theirs-{next(self._names)}"
        body = {
            "name": name,
            "autoCreateSubnetworks": False,
            "description": json.dumps({**tags, "region": self.region}),
        }
        url = f"{self.gcp.endpoint}/compute/v1/projects/{EMULATED_PROJECT}/global/networks"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10) as answer:  # noqa: S310  loopback
            assert answer.status == requests.codes.ok
        self.clock.advance(OPERATION_S)
        return f"global/networks/{name}"

    @contextmanager
    def losing_the_answer(self) -> Iterator[None]:
        self._loses = True
        yield
        self._loses = False

    @contextmanager
    def with_room_for(self, machines: int) -> Iterator[None]:
        limits = self.gcp.front.project.quota_limits
        limits[(self._metric, self.region)] = machines * CORES_OF_THE_TYPE
        yield
        del limits[(self._metric, self.region)]

    def _moment(self, phase: str) -> None:
        if self._loses and phase == "after":
            raise requests.ConnectionError("the answer is lost")
