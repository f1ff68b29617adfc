"""An account that may be a person's own, as a place where the contract's claims are tried, and every cent is counted.

It has no emulator's clock, hook or census: time is waited for, a lost answer is lost on this side of the wire, and what
exists is what two listings show. Each claim begins and ends with nothing of the run in its region.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from contract_work import AWS_KINDS, Kinds
from live_clearing import clear, left
from live_meter import SpendMeter
from live_plants import plant, planted, uproot
from live_tap import Tap

from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, Connector, Desired, Kind, Operation, Price, Scalar
from grafos_connectors.registry import open_connector
from grafos_core.errors import GrafosError
from grafos_core.money import cost_micro_cents
from grafos_stacks.bill import actual_cost, rate_per_hour

MACHINE_LIFE_S = 1800
"""How long a claim's machine may live. It then switches itself off, which ends it on AWS; Google deletes it. On Azure
nothing does but the run itself, and after it whoever runs `make live` again."""
CLEARED_WITHIN_S = 900.0
USABLE_TOKEN, TOKEN_CHARACTERS = re.compile(r"[!-~]{1,64}"), 48
USER_DATA = f"#!/bin/sh\nshutdown -h +{MACHINE_LIFE_S // 60} 2>/dev/null || true\necho hello\n"


class RunInfo(msgspec.Struct, frozen=True):
    """What the processes of one live run share: whose account, what is made, what it costs. ``disk_gib`` is of the
    image; ``folder`` is the run's own, and ``record_to`` takes the recordings."""

    cloud: str
    account: str
    region: str
    machine_type: str
    arch: str
    disk_gib: int
    price: Price
    fabric: str
    prefix: str
    cap_micro_cents: int
    emulated: bool
    folder: str
    record_to: str

    @property
    def fabrics(self) -> tuple[str, str]:
        """The ids under which the run makes anything."""
        return self.fabric, f"{self.fabric}-stranger"

    @property
    def plants(self) -> str:
        """How the names of planted things begin."""
        return f"{self.prefix}-theirs"

    @property
    def meter(self) -> SpendMeter:
        return SpendMeter(Path(self.folder) / "spent.json", self.cap_micro_cents)

    @property
    def machine_worst_micro_cents(self) -> int:
        """The most that one machine of a claim may cost."""
        return cost_micro_cents(1, rate_per_hour(self.price, self.disk_gib), MACHINE_LIFE_S)

    def connector(self) -> Connector:
        return open_connector(self.cloud, self.region)


def read_info(folder: Path) -> RunInfo:
    """The run that a folder is of."""
    return msgspec.json.decode((folder / "run.json").read_bytes(), type=RunInfo)


def kinds_of(cloud: str) -> Kinds:
    """What the claims must know of a cloud's kinds; only that cloud's SDK is imported."""
    if cloud == "azure":
        from azure_place import AZURE_KINDS

        return AZURE_KINDS
    if cloud == "gcp":
        from gcp_place import GCP_KINDS

        return GCP_KINDS
    return AWS_KINDS


@dataclass
class LivePlace:
    """See ``contract_work.Place``."""

    info: RunInfo
    tap: Tap
    begun: dict[str, float] = field(default_factory=dict)
    changed: bool = False
    refused: GrafosError | None = None

    def __post_init__(self) -> None:
        info = self.info
        self.kinds = kinds_of(info.cloud)
        self.region, self.machine_type, self.arch = info.region, info.machine_type, info.arch
        # Names of their own for each claim: clouds remember names and tokens for hours.
        self.fabric, self.prefix = info.fabric, f"{info.prefix}-{secrets.token_hex(3)}"
        ends_at = int(time.time()) + MACHINE_LIFE_S
        self.own_inputs: Mapping[str, Scalar] = {"ends_at": ends_at, "user_data": USER_DATA}

    def open(self) -> Connector:
        counting: Any = Counting(self.info.connector(), self)
        return counting  # type: ignore[no-any-return]

    def pass_time(self, seconds: float) -> None:
        time.sleep(seconds)

    def world(self) -> list[str]:
        connector = self.info.connector()
        shown = {*self.kinds.whole} - {*self.kinds.uncounted, *self.kinds.parts}
        found = [one.ref.id for one in left(connector, self.info.fabrics, (self.region,)) if one.ref.kind in shown]
        return sorted({*found, *planted(connector, self.region, self.info.plants)})

    def plant(self, fabric: str, key: str) -> str:
        self.changed = True
        tags = {name: value for name, value in ((TAG_FABRIC, fabric), (TAG_KEY, key)) if value}
        return plant(self.info.connector(), self.region, self.info.plants, tags)

    @contextmanager
    def losing_the_answer(self) -> Iterator[None]:
        self.tap.losing = True
        try:
            yield
        finally:
            self.tap.losing = False

    @contextmanager
    def with_room_for(self, machines: int) -> Iterator[None]:
        pytest.skip(f"the account's quota is its owner's: it is not set to {machines} machines for a claim")
        yield

    def count(self, desired: Desired) -> None:
        """Before anything is created: a machine counts with all that it may cost."""
        self.changed = True
        if desired.kind is Kind.MACHINE:
            name = f"claim {time.time_ns()}"
            try:
                self.info.meter.begin(name, self.info.machine_worst_micro_cents)
            except GrafosError as refusal:
                self.refused = refusal
                raise
            self.begun[name] = time.time()

    def clear(self) -> None:
        """Removes all that a claim made; then its machines count with what they cost."""
        if not self.changed:
            return
        connector = self.info.connector()
        remains: list[Any] = uproot(connector, self.region, self.info.plants)
        remains += clear(connector, self.info.fabrics, (self.region,), CLEARED_WITHIN_S)
        assert not remains, f"left in the account: {remains}"
        for name, at in self.begun.items():
            lived_s = time.time() - at
            self.info.meter.end(name, actual_cost(self.info.price, self.info.disk_gib, lived_s))
        self.begun, self.changed = {}, False


class Counting:
    """A connector that has every creation counted before it is begun."""

    def __init__(self, connector: Connector, place: LivePlace) -> None:
        self._connector = connector
        self._place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def begin_create(self, desired: Desired, token: str) -> Operation:
        self._place.count(desired)
        if USABLE_TOKEN.fullmatch(token):  # the same claim's own, that is; others are there to be refused
            token = hashlib.sha256(f"{self._place.prefix} {token}".encode()).hexdigest()[:TOKEN_CHARACTERS]
        return self._connector.begin_create(desired, token)
