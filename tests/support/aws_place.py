"""The emulated AWS as a place where the contract's claims are tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import boto3
from contract_work import AWS_KINDS

from grafos_connectors.aws.elastic import ELASTIC_SHAPES
from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, Connector, Kind, Scalar
from grafos_connectors.registry import open_connector
from grafos_core.clock import VirtualClock
from grafos_emulators.aws.host import host_architecture
from grafos_emulators.emulator import EmulatedClouds
from grafos_emulators.http import DropConnectionError

EC2_KINDS = replace(
    AWS_KINDS,
    # An address is released when the machine has gone that it is at, so it is made first.
    shapes={Kind.ADDRESS: ELASTIC_SHAPES[Kind.ADDRESS], **AWS_KINDS.shapes, **ELASTIC_SHAPES},
    ground={
        **AWS_KINDS.ground,
        Kind.ADDRESS: (),
        Kind.ADDRESS_ATTACHMENT: (Kind.ADDRESS, *AWS_KINDS.ground[Kind.MACHINE], Kind.MACHINE),
    },
    used=(*AWS_KINDS.used, (Kind.ADDRESS, Kind.ADDRESS_ATTACHMENT)),
    retagged=(*AWS_KINDS.retagged, Kind.ADDRESS),
    parts=(*AWS_KINDS.parts, Kind.ADDRESS_ATTACHMENT),
)
"""With the elastic address of an orchestrator's machine, which the twin does without."""
MADE_WITH_MACHINES = {"volume", "nic"}
CORES_OF_THE_TYPE = 2
HOST_TYPES = {"x86_64": ("amd64", "t3.medium"), "arm64": ("arm64", "t4g.medium")}  # an emulated image is the host's


class AwsPlace:
    kinds = EC2_KINDS
    region = "us-east-1"
    own_inputs: Mapping[str, Scalar] = {}

    def __init__(self, aws: EmulatedClouds, clock: VirtualClock) -> None:
        self.aws = aws
        self.clock = clock
        self.arch, self.machine_type = HOST_TYPES[host_architecture()]

    def open(self) -> Connector:
        return open_connector("aws", environment=self.aws.environment(), clock=self.clock)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def world(self) -> list[str]:
        return [thing.id for thing in self.aws.world() if thing.kind not in MADE_WITH_MACHINES]

    def plant(self, fabric: str, key: str) -> str:
        ec2 = boto3.client("ec2", **self.aws.client_arguments())
        tags = [{"Key": name, "Value": value} for name, value in ((TAG_FABRIC, fabric), (TAG_KEY, key)) if value]
        tagged = [{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": "theirs"}, *tags]}]
        return str(ec2.create_vpc(CidrBlock="10.99.0.0/16", TagSpecifications=tagged)["Vpc"]["VpcId"])

    @contextmanager
    def losing_the_answer(self) -> Iterator[None]:
        def drop(phase: str, action: str, parameters: Mapping[str, Any]) -> None:
            if phase == "after-effect":
                raise DropConnectionError

        self.aws.hook = drop
        yield
        self.aws.hook = None

    @contextmanager
    def with_room_for(self, machines: int) -> Iterator[None]:
        before = self.aws.set({})["vcpu_limit"]
        self.aws.set({"vcpu_limit": machines * CORES_OF_THE_TYPE})
        yield
        self.aws.set({"vcpu_limit": before})
