"""How the contract's claims work on a cloud, whichever it is.

A cloud is told by its ``Kinds`` and by a ``Place``: a way to open connectors to one account, to let time pass in it,
to break it, and to count what truly exists in it. ``Work`` is what one process does there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
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
    Scalar,
    Scope,
)
from grafos_connectors.shapes import SHAPES, Shape

FABRIC = "contract"
LONGEST_WAIT_S = 600.0
TOKEN = "token"


@dataclass(frozen=True)
class Kinds:
    """Which kinds of resources a cloud has, and what the claims must know of them.

    ``ground``: what must exist before a resource of the kind can, in the order in which it is made. ``used``: pairs of
    a kind and one that keeps it from being deleted. ``parts``: kinds that go with what they are part of, and that
    neither a list nor a count shows; ``uncounted`` those that a list shows and ``Place.world`` does not count.
    ``one_by_place``: of which no second fits under one name or in one place. ``many``: of which any number fits beside
    each other. ``retagged``: kinds whose tags can be changed. ``zones``: what a zone is called there, as a pattern.
    ``actions``: permissions by the cloud's own names.
    """

    shapes: Mapping[Kind, Shape]
    ground: Mapping[Kind, tuple[Kind, ...]]
    used: tuple[tuple[Kind, Kind], ...]
    one_by_place: tuple[Kind, ...]
    many: Kind
    retagged: tuple[Kind, ...]
    zones: str
    actions: tuple[str, ...]
    parts: tuple[Kind, ...] = ()
    uncounted: tuple[Kind, ...] = ()

    @property
    def whole(self) -> tuple[Kind, ...]:
        """The kinds that a list shows, each after all that it stands on; the first is the one that is planted."""
        wholes = [kind for kind in Kind if kind in self.shapes and kind not in self.parts]
        return tuple(sorted(wholes, key=lambda kind: len(self.ground[kind])))

    @property
    def tagged(self) -> tuple[Kind, ...]:
        return tuple(kind for kind, shape in self.shapes.items() if shape.tagged)

    def all_of(self, *kinds: Kind) -> tuple[Kind, ...]:
        """The kinds and all that they stand on, in the order in which they are made."""
        return tuple(dict.fromkeys(step for kind in kinds for step in (*self.ground[kind], kind)))


# Of AWS, and of the twin, which is as AWS is.
AWS_KINDS = Kinds(
    shapes=SHAPES,
    ground={
        Kind.NETWORK: (),
        Kind.GATEWAY: (),
        Kind.SUBNET: (Kind.NETWORK,),
        Kind.FIREWALL: (Kind.NETWORK,),
        Kind.GATEWAY_ATTACHMENT: (Kind.NETWORK, Kind.GATEWAY),
        Kind.ROUTE: (Kind.NETWORK, Kind.GATEWAY, Kind.GATEWAY_ATTACHMENT),
        Kind.FIREWALL_RULE: (Kind.NETWORK, Kind.FIREWALL),
        Kind.MACHINE: (Kind.NETWORK, Kind.SUBNET, Kind.FIREWALL),
    },
    used=(
        (Kind.NETWORK, Kind.SUBNET),
        (Kind.NETWORK, Kind.FIREWALL),
        (Kind.NETWORK, Kind.GATEWAY_ATTACHMENT),
        (Kind.GATEWAY, Kind.GATEWAY_ATTACHMENT),
        (Kind.SUBNET, Kind.MACHINE),
        (Kind.FIREWALL, Kind.MACHINE),
    ),
    one_by_place=(Kind.SUBNET, Kind.FIREWALL, Kind.FIREWALL_RULE),
    many=Kind.FIREWALL,
    retagged=(Kind.NETWORK, Kind.SUBNET, Kind.GATEWAY, Kind.FIREWALL, Kind.MACHINE),
    zones=r"[a-z]+(-[a-z]+)*-\d[a-z]",
    actions=("ec2:RunInstances",),
    parts=(Kind.ROUTE, Kind.FIREWALL_RULE),
    uncounted=(Kind.GATEWAY_ATTACHMENT,),
)


class Place(Protocol):
    """One account in one cloud, as a test sees it. ``own_inputs``: values of inputs that only its cloud asks for."""

    kinds: Kinds
    region: str
    machine_type: str
    arch: str
    own_inputs: Mapping[str, Scalar]

    def open(self) -> Connector:
        """A connector of a process that has just started."""
        ...

    def pass_time(self, seconds: float) -> None: ...

    def world(self) -> list[str]:
        """The ids of everything that truly exists and that somebody made, but for what machines bring with them."""
        ...

    def plant(self, fabric: str, key: str) -> str:
        """A resource of a kind that stands alone (network or group) that grafos did not make, with these tags.

        Gives its id. Where names are unique it has a name of its own.
        """
        ...

    def losing_the_answer(self) -> AbstractContextManager[None]:
        """Inside, changing calls have their effect and their answers are lost."""
        ...

    def with_room_for(self, machines: int) -> AbstractContextManager[None]:
        """Inside, the account's quota allows that many machines."""
        ...


class Work:
    """One process's work on a place: makes what is asked for and waits by letting time pass.

    In a real account a place has a ``fabric`` and a ``prefix`` of names of its own, which nobody else there uses.
    """

    def __init__(self, place: Place, fabric: str = "") -> None:
        self.place = place
        self.kinds = place.kinds
        self.fabric = fabric or getattr(place, "fabric", FABRIC)
        self.prefix = getattr(place, "prefix", "grafos")
        self.connector = place.open()
        self.ids: dict[str, str] = {}
        offers = self.connector.offers(place.region, place.machine_type)
        self.zone = min(offer.zone for offer in offers)
        self.image = self.connector.image(place.region, place.arch)

    def another(self) -> Work:
        """The work of a process that has just started."""
        return Work(self.place, self.fabric)

    def stranger(self) -> Work:
        """The work of another fabric in the same account."""
        return Work(self.place, f"{self.fabric}-stranger")

    def desired(self, kind: Kind, name: str = "", **inputs: Any) -> Desired:
        name = name or f"{self.prefix}-{kind.value.replace('_', '-')}"
        key = hashlib.sha256(f"{self.fabric} {kind.value} {name}".encode()).hexdigest()[:32]
        shape = self.kinds.shapes[kind]
        return Desired(
            key=key,
            kind=kind,
            name=name,
            region=self.place.region,
            zone=self.zone if shape.zoned or kind is Kind.MACHINE else "",
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

    def usual_inputs(self, kind: Kind) -> dict[str, Scalar]:
        cidrs = {Kind.NETWORK: "10.77.0.0/16", Kind.SUBNET: "10.77.1.0/24", Kind.ROUTE: "0.0.0.0/0"}
        usual: dict[str, Scalar] = {
            "machine_type": self.place.machine_type,
            "image": self.image.id,
            "root_device": self.image.root_device,
            "disk_gib": self.image.disk_gib,
            "user_data": "#!/bin/sh\necho hello\n",
            "description": "a cell of grafos",
            "port": 7443,
            "cidr": cidrs.get(kind, "192.0.2.7/32"),
            **self.place.own_inputs,
        }
        return {name: usual[name] for name in self.kinds.shapes[kind].inputs}

    def lay_ground(self, *kinds: Kind) -> None:
        for needed in self.kinds.all_of(*kinds):
            if needed not in kinds:
                self.make(needed)

    def make_all(self) -> list[Found]:
        """One of each kind that a list shows, with what it stands on."""
        return [self.make(kind) for kind in self.kinds.all_of(*self.kinds.whole)]

    def pretend_ground(self) -> None:
        """As if all that anything needs existed: for what is refused before any call."""
        roles = {role for shape in self.kinds.shapes.values() for role in shape.needs}
        self.ids = dict.fromkeys(roles, "x") | self.ids

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

    def fails(self, desired: Desired, token: str = TOKEN) -> CloudError:
        """Why it cannot be made."""
        return self.why_not(lambda: self.connector.begin_create(desired, token))

    def why_not(self, begin: Callable[[], Operation]) -> CloudError:
        """Why a change cannot be made, whether its call says so or what the call began."""
        try:
            operation = begin()
        except CloudError as refusal:
            return refusal
        outcome = self.outcome(operation)
        assert isinstance(outcome, Failed), outcome
        return outcome.cloud_error()


def other_id(id: str) -> str:
    """An id of the same form that nobody has."""
    last = id[-1]
    return id[:-1] + ("0" if last != "0" else "1")
