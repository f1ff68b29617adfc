"""How the contract's claims work on a cloud, whichever it is.

A cloud is told by a ``Place``: a way to open connectors to one account, to let time pass in it, to break it, and to
count what truly exists in it. ``Work`` is what one process does there.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pytest

from grafos_connectors.contract import (
    TAG_EXPIRES,
    TAG_FABRIC,
    TAG_KEY,
    TAG_SIGNATURE,
    TAG_STACK,
    CloudError,
    Connector,
    Desired,
    Done,
    Failed,
    Found,
    Kind,
    Operation,
    Pending,
    Scope,
)
from grafos_connectors.shapes import SHAPES

FABRIC = "contract"
LONGEST_WAIT_S = 600.0
TOKEN = "token"
KINDS = list(SHAPES)
# What must exist before a resource of the kind can, in the order in which it is made.
GROUND: dict[Kind, tuple[Kind, ...]] = {
    Kind.NETWORK: (),
    Kind.GATEWAY: (),
    Kind.SUBNET: (Kind.NETWORK,),
    Kind.FIREWALL: (Kind.NETWORK,),
    Kind.GATEWAY_ATTACHMENT: (Kind.NETWORK, Kind.GATEWAY),
    Kind.ROUTE: (Kind.NETWORK, Kind.GATEWAY, Kind.GATEWAY_ATTACHMENT),
    Kind.FIREWALL_RULE: (Kind.NETWORK, Kind.FIREWALL),
    Kind.MACHINE: (Kind.NETWORK, Kind.SUBNET, Kind.FIREWALL),
}


class Place(Protocol):
    """One account in one cloud, as a test sees it."""

    region: str
    machine_type: str
    arch: str

    def open(self) -> Connector:
        """A connector of a process that has just started."""
        ...

    def pass_time(self, seconds: float) -> None: ...

    def world(self) -> list[str]:
        """The ids of everything that truly exists and that somebody made, but for what machines bring with them."""
        ...

    def plant(self, fabric: str, key: str) -> str:
        """A network that grafos did not make, with these tags; gives its id."""
        ...

    def losing_the_answer(self) -> AbstractContextManager[None]:
        """Inside, changing calls have their effect and their answers are lost."""
        ...

    def with_room_for(self, machines: int) -> AbstractContextManager[None]:
        """Inside, the account's quota allows that many machines."""
        ...


class Work:
    """One process's work on a place: makes what is asked for and waits by letting time pass."""

    def __init__(self, place: Place, fabric: str = FABRIC) -> None:
        self.place = place
        self.fabric = fabric
        self.connector = place.open()
        self.ids: dict[str, str] = {}
        offers = self.connector.offers(place.region, place.machine_type)
        self.zone = min(offer.zone for offer in offers)
        self.image = self.connector.image(place.region, place.arch)

    def desired(self, kind: Kind, name: str = "", **inputs: Any) -> Desired:
        name = name or f"grafos-{kind.value.replace('_', '-')}"
        key = hashlib.sha256(f"{self.fabric} {kind.value} {name}".encode()).hexdigest()[:32]

        shape = SHAPES[kind]
        return Desired(
            key=key,
            kind=kind,
            name=name,
            region=self.place.region,
            zone=self.zone if kind in {Kind.SUBNET, Kind.MACHINE} else "",
            needs={role: self.ids[role] for role in shape.needs},
            inputs={**self.usual_inputs(kind), **inputs},
            tags=self.tags(key) if shape.tagged else {},
        )

    def tags(self, key: str) -> dict[str, str]:
        return {
            TAG_FABRIC: self.fabric,
            TAG_STACK: "cell-1",
            TAG_KEY: key,
            TAG_SIGNATURE: "a" * 52,
            TAG_EXPIRES: "1900000000",
        }

    def usual_inputs(self, kind: Kind) -> dict[str, Any]:
        if kind is Kind.MACHINE:
            return {
                "machine_type": self.place.machine_type,
                "image": self.image.id,
                "root_device": self.image.root_device,
                "disk_gib": self.image.disk_gib,
                "user_data": "#!/bin/sh\necho hello\n",
            }
        return {
            Kind.NETWORK: {"cidr": "10.77.0.0/16"},
            Kind.SUBNET: {"cidr": "10.77.1.0/24"},
            Kind.ROUTE: {"cidr": "0.0.0.0/0"},
            Kind.FIREWALL: {"description": "a cell of grafos"},
            Kind.FIREWALL_RULE: {"port": 7443, "cidr": "192.0.2.7/32"},
        }.get(kind, {})

    def lay_ground(self, kind: Kind) -> None:
        for needed in GROUND[kind]:
            self.make(needed)

    def make(self, kind: Kind, name: str = "", **inputs: Any) -> Found:
        """Creates one resource and waits until it is ready; what hangs on it later finds it in ``ids``."""
        desired = self.desired(kind, name, **inputs)
        found = self.finish(self.connector.begin_create(desired, token=f"token-{desired.name}"))
        assert found is not None
        self.ids[kind.value] = found.ref.id
        return found

    def finish(self, operation: Operation) -> Found | None:
        done = self.outcome(operation)
        assert isinstance(done, Done), done
        return done.found

    def outcome(self, operation: Operation) -> Done | Failed:
        waited_s = 0.0
        while isinstance(progress := self.connector.poll(operation), Pending):
            assert waited_s < LONGEST_WAIT_S, f"still pending: {progress}"
            step_s = max(progress.again_after_s, 0.05)
            self.place.pass_time(step_s)
            waited_s += step_s
        return progress

    def settle(self) -> None:
        """Lets the listing lag pass."""
        self.place.pass_time(self.connector.traits.listing_lag_s + 0.01)

    def listed(self, *regions: str) -> list[Found]:
        scope = Scope(fabric=self.fabric, regions=regions or (self.place.region,))
        return [found for page in self.connector.list(scope) for found in page]

    def listed_everywhere(self) -> list[Found]:
        return [found for page in self.connector.list(Scope(fabric=self.fabric)) for found in page]

    def refused(self, desired: Desired, token: str = TOKEN) -> CloudError:
        with pytest.raises(CloudError) as raised:
            self.connector.begin_create(desired, token)
        return raised.value


def other_id(id: str) -> str:
    """An id of the same form that nobody has."""
    last = id[-1]
    return id[:-1] + ("0" if last != "0" else "1")
