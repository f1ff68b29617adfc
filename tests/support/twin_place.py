"""The in-memory twin as a place where the contract's claims are tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from contract_work import AWS_KINDS

from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, Connector, Desired, Kind, Scalar
from grafos_connectors.twin import Effect, Fault, FaultPlan, Timings, TwinCloud, TwinConnector
from grafos_core.clock import VirtualClock

MADE_WITH_MACHINES = {Kind.DISK, Kind.NIC}
PARTS = {Kind.ROUTE, Kind.FIREWALL_RULE, Kind.GATEWAY_ATTACHMENT}


TWIN_KINDS = replace(AWS_KINDS, zones=r"twin-\d[a-z]")


class TwinPlace:
    kinds = TWIN_KINDS
    region = "twin-1"
    own_inputs: Mapping[str, Scalar] = {}
    machine_type = "twin.medium"
    arch = "amd64"

    def __init__(self, listing_lag_s: float = 0.0, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.cloud = TwinCloud(self.clock, timings=Timings(listing_lag_s=listing_lag_s), **settings)
        self.faults = FaultPlan()

    def open(self) -> Connector:
        return TwinConnector(self.cloud, faults=self.faults)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def world(self) -> list[str]:
        left_out = MADE_WITH_MACHINES | PARTS
        return [found.ref.id for found in self.cloud.world() if found.ref.kind not in left_out]

    def plant(self, fabric: str, key: str) -> str:
        tags = {name: value for name, value in ((TAG_FABRIC, fabric), (TAG_KEY, key)) if value}
        return self.cloud.plant(
            Desired(key=key, kind=Kind.NETWORK, name="theirs", region=self.region, tags=tags)
        ).ref.id

    @contextmanager
    def losing_the_answer(self) -> Iterator[None]:
        self.faults.add(Fault("begin_create", Effect.LOSE_ANSWER))
        yield

    @contextmanager
    def with_room_for(self, machines: int) -> Iterator[None]:
        before, self.cloud.limits = self.cloud.limits, replace(self.cloud.limits, machines=machines)
        yield
        self.cloud.limits = before
