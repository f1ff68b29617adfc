"""The plan of a cell: every cloud resource that it consists of, with no choice left open.

A plan is plain data: immutable, comparable, kept in the journal. It is the only description of what a cell consists
of; every engine makes and unmakes exactly this. It holds no secret: what a machine's user data says of one is put in
at the moment of the create call.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from grafos_connectors.contract import Desired, Image, Kind, Offer, Price, Scalar
from grafos_core.fabric import Fabric
from grafos_core.ids import FabricId
from grafos_stacks.bill import Bill, rate_per_hour, rates_billed
from grafos_stacks.names import cloud_name, key_of, sealed_tags, token_of
from grafos_stacks.spec import SHARED_PREFIX, TTL_S_MAX, CellSpec


class Planned(msgspec.Struct, frozen=True):
    """One resource of a plan. ``needs`` maps a role to the plan name of what must exist before.

    ``stack`` is the cell's own stack or the shared network's. ``expires_at`` (Unix seconds, 0 = never) goes into its
    tags. ``early``: of what it needs it is enough that the cloud has taken it on, so it is made while that becomes
    ready; a cloud that wants more of it gets it afterwards.
    """

    name: str
    stack: str
    kind: Kind
    key: str
    cloud_name: str
    region: str
    zone: str = ""
    needs: dict[str, str] = {}
    inputs: dict[str, Scalar] = {}
    expires_at: int = 0
    early: bool = False


class BundlePin(msgspec.Struct, frozen=True):
    """The software that the machine will accept: these bytes and no others."""

    sha256: str
    size_bytes: int


class CellFacts(msgspec.Struct, frozen=True):
    """What was read from the cloud for a plan, and resolved from it. ``baked`` is the beginning of the SHA-256 of an
    image that was published, "" for a stock image: then the machine fetches the bundle. ``secure_boot``: that image
    was published with the certificate for which it is signed."""

    account: str
    emulated: bool
    offer: Offer
    image: Image
    price: Price
    bundle: BundlePin
    baked: str = ""
    secure_boot: bool = False


class Lifetime(msgspec.Struct, frozen=True):
    """When a cell ends, in Unix seconds. It can be extended up to ``held_until`` without holding more money."""

    expires_at: int
    held_until: int


class StackPlan(msgspec.Struct, frozen=True):
    """``resources`` stand in the order in which they are made. Times are Unix seconds.

    ``held_until`` is what the bill covers: the expiry, or with a longest TTL that. ``timer_at`` is when the machine's
    operating system switches it off by itself.
    """

    fabric: str
    stack: str
    shared_stack: str
    spec: CellSpec
    facts: CellFacts
    made_at: float
    expires_at: int
    resources: tuple[Planned, ...]
    bill: Bill
    predicted_s: float
    held_until: int = 0
    timer_at: int = 0

    @property
    def life(self) -> Lifetime:
        """Its times together."""
        return Lifetime(self.expires_at, self.held_until or self.expires_at)

    @property
    def ends_at_most(self) -> int:
        """The latest end that the machine itself will take: of its longest TTL, else of any."""
        return int(self.made_at) + (self.spec.max_ttl_s or TTL_S_MAX)

    @property
    def rate_micro_cents_per_hour(self) -> int:
        """What the cell costs by the hour; its runs are priced by it."""
        return rate_per_hour(self.facts.price, self.spec.disk_gib)

    @property
    def billed_micro_cents_per_hour(self) -> int:
        """What the cell costs by the hour as it is billed now; the hold is by the on-demand price, which bounds it."""
        return sum(rates_billed(self.facts.price, self.spec.disk_gib, spot=self.is_spot))

    @property
    def is_spot(self) -> bool:
        """Whether the machine is one that the cloud may take back, at the price for those."""
        return any(what.inputs.get("spot") is True for what in self.resources if what.kind is Kind.MACHINE)

    def resource(self, name: str) -> Planned:
        """The resource of that plan name."""
        return next(planned for planned in self.resources if planned.name == name)

    @property
    def machine(self) -> Planned:
        """The machine; every cell has one."""
        return next(planned for planned in self.resources if planned.kind is Kind.MACHINE)


def shared_stack_of(provider: str, region: str) -> str:
    """The stack of the network that all cells of a region share."""
    return f"{SHARED_PREFIX}{provider}-{region}"


def planned(
    fabric: FabricId,
    stack: str,
    kind: Kind,
    name: str,
    spec: CellSpec,
    *,
    zone: str = "",
    needs: Mapping[str, str] | None = None,
    inputs: Mapping[str, Scalar] | None = None,
    replace_inputs: Mapping[str, Scalar] | None = None,
    expires_at: int = 0,
    early: bool = False,
) -> Planned:
    """A resource whose key and name follow from the rest. ``replace_inputs`` are ``inputs`` unless given."""
    region = {"provider": spec.provider, "region": spec.region}
    distinct = region | dict((inputs or {}) if replace_inputs is None else replace_inputs)
    key = key_of(fabric, stack, kind, name, distinct)
    return Planned(
        name,
        stack,
        kind,
        key,
        cloud_name(stack, name, key),
        spec.region,
        zone,
        dict(needs or {}),
        dict(inputs or {}),
        expires_at,
        early,
    )


def desired(
    fabric: Fabric, what: Planned, attempt: int, needs: Mapping[str, str], late_inputs: Mapping[str, Scalar]
) -> tuple[Desired, str]:
    """The create call of one attempt, and its token. ``needs`` has the cloud's ids by role; ``late_inputs`` are
    those that no journal may hold."""
    tags = sealed_tags(fabric, what.stack, what.kind, what.key, attempt, what.expires_at)
    call = Desired(
        key=what.key,
        kind=what.kind,
        name=what.cloud_name,
        region=what.region,
        zone=what.zone,
        needs=dict(needs),
        inputs={**what.inputs, **late_inputs},
        tags=tags,
    )
    return call, token_of(what.key, attempt)
