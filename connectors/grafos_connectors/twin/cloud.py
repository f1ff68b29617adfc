"""The small cloud behind the twin: resources, time, dependencies, limits.

It behaves as EC2 does where clouds differ, because EC2 promises least: networks and gateways are made anew by each
call, whatever its token; reads do not see a resource before the listing lag is over; a machine that was told to end
holds its firewall and subnet until it is gone.

What it does not imitate: permissions, request rates, routing, anything that runs on a machine.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from grafos_connectors.contract import CloudError, Desired, Found, Kind, Ref, Scalar, State, Traits
from grafos_connectors.shapes import SHAPES, Shape
from grafos_core.clock import Clock

# A place that holds only one: the key of the mapping is the kind, the value tells the place from needs and inputs.
PLACES: dict[Kind, tuple[str, ...]] = {
    Kind.SUBNET: ("network", "cidr"),
    Kind.GATEWAY_ATTACHMENT: ("network",),
    Kind.ROUTE: ("network", "cidr"),
    Kind.FIREWALL: ("network", "name"),
    Kind.FIREWALL_RULE: ("firewall", "port", "cidr"),
}
# Parts go with what they hang on, and do not keep it from going.
PARTS: dict[Kind, str] = {Kind.ROUTE: "network", Kind.FIREWALL_RULE: "firewall"}
CARRIERS: dict[Kind, str] = {
    Kind.GATEWAY_ATTACHMENT: "gateway",
    Kind.ROUTE: "network",
    Kind.FIREWALL_RULE: "firewall",
}
ID_PREFIXES: dict[Kind, str] = {Kind.NETWORK: "net", Kind.FIREWALL: "fw", Kind.FIREWALL_RULE: "rule"}
TWIN_TRAITS = Traits(
    kinds=tuple(SHAPES),
    once=tuple(kind for kind in SHAPES if kind not in {Kind.NETWORK, Kind.GATEWAY}),
    listing_lag_s=0.0,
)


@dataclass(frozen=True)
class Timings:
    """How long things take, in seconds. All but machines are made and deleted at once."""

    machine_start_s: float = 20.0
    machine_end_s: float = 30.0
    listing_lag_s: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What the account may have and what the zones hold; None is no limit."""

    machines: int | None = None
    networks: int | None = None
    machines_per_zone: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Thing:
    """One resource, truly; what readers see of it lags behind."""

    id: str
    desired: Desired
    made_at: float
    ready_at: float
    visible_at: float
    dies_of: CloudError | None = None
    ends_at: float | None = None
    reason: str = ""
    console: str = ""
    parent: str = ""  # the machine that a disk or NIC was made with


class TwinCloud:
    """Resources of one account; connectors to it come and go as processes do. ``lock`` guards all of it."""

    def __init__(self, clock: Clock, *, timings: Timings | None = None, limits: Limits | None = None) -> None:
        self.clock = clock
        self.timings = timings or Timings()
        self.limits = limits or Limits()
        self.lock = threading.RLock()
        self.changing_calls: Counter[str] = Counter()
        self._things: dict[str, Thing] = {}
        self._tokens: dict[tuple[Kind, str, str], tuple[Desired, str]] = {}
        self._sequence = itertools.count(1)

    # What is true ---------------------------------------------------------------------------------------------------

    def world(self) -> tuple[Found, ...]:
        """Everything that exists, whoever made it and whether or not a read would show it yet: for counting."""
        with self.lock:
            return tuple(self.found(thing) for thing in self._things.values() if self.alive(thing))

    def alive(self, thing: Thing) -> bool:
        return self.state(thing) is not State.GONE

    def state(self, thing: Thing) -> State:
        """Follows from the clock and from what was ordered."""
        now = self.clock.now()
        if thing.ends_at is not None:
            return State.GONE if now >= thing.ends_at else State.DELETING
        if now < thing.ready_at:
            return State.PENDING
        return State.GONE if thing.dies_of is not None else State.READY

    def things(self) -> list[Thing]:
        return list(self._things.values())

    def live(self, kind: Kind) -> list[Thing]:
        return [thing for thing in self.things() if thing.desired.kind is kind and self.alive(thing)]

    # What readers see -----------------------------------------------------------------------------------------------

    def seen(self, id: str) -> Thing | None:
        """The thing as a read shows it: None before the listing lag is over. One that ended stays visible."""
        thing = self._things.get(id)
        return thing if thing is not None and self.clock.now() >= thing.visible_at else None

    def all_seen(self) -> Iterator[Thing]:
        for thing in self.things():
            if self.seen(thing.id) is not None and self.alive(thing):
                yield thing

    def found(self, thing: Thing) -> Found:
        """What a read tells of one thing."""
        desired = thing.desired
        carrier = self._things.get(desired.needs.get(CARRIERS.get(desired.kind, ""), ""))
        borrows = carrier is not None and desired.kind is Kind.GATEWAY_ATTACHMENT
        tags = carrier.desired.tags if carrier is not None and borrows else desired.tags
        return Found(
            ref=Ref(
                key=desired.key if SHAPES.get(desired.kind, Shape()).tagged else "",
                kind=desired.kind,
                id=thing.id,
                region=desired.region,
                zone=desired.zone,
            ),
            state=self.state(thing),
            tags=dict(tags),
            attributes=self._attributes(thing, carrier),
            billable=desired.kind in {Kind.MACHINE, Kind.DISK, Kind.ADDRESS},
        )

    def _attributes(self, thing: Thing, carrier: Thing | None) -> dict[str, str]:
        desired = thing.desired
        attributes = {"name": desired.name, "reason": thing.reason, **desired.needs, "machine": thing.parent}
        shown = {"cidr", "port", "machine_type", "image"}
        attributes |= {name: str(value) for name, value in desired.inputs.items() if name in shown}
        if carrier is not None:
            attributes["carrier"] = carrier.id
        if desired.kind is Kind.MACHINE:
            number = int(thing.id.rsplit("-", 1)[1])
            attributes["made_at"] = str(int(thing.made_at))
            attributes["private_ip"] = f"10.77.{number // 250 % 250}.{number % 250 + 1}"
            if desired.inputs.get("public_address", True):
                attributes["public_ip"] = f"198.51.{number // 250 % 250}.{number % 250 + 1}"
        return {name: value for name, value in attributes.items() if value}

    # What changes ---------------------------------------------------------------------------------------------------

    def make(self, desired: Desired, token: str, *, dies_of: CloudError | None = None) -> Thing:
        """One create call, by the token's and the place's rules."""
        self.changing_calls[f"create {desired.kind.value}"] += 1
        remembers_token = desired.kind not in PLACES and desired.kind in TWIN_TRAITS.once
        slot = (desired.kind, desired.region, token)
        if remembers_token and slot in self._tokens:
            return self._same_again(desired, *self._tokens[slot])
        for role in desired.needs:
            self._check_need(desired, role)
        occupant = self._occupant(desired)
        if occupant is not None:
            return self._adopted(desired, occupant)
        self._check_limits(desired)
        thing = self._add(desired, dies_of)
        if remembers_token:
            self._tokens[slot] = (desired, thing.id)
        return thing

    def end(self, thing: Thing, *, reason: str = "") -> None:
        """One delete call on a thing that exists; ``cloud_in_use`` while something hangs on it."""
        self.changing_calls[f"delete {thing.desired.kind.value}"] += 1
        if thing.ends_at is not None:
            return
        users = [user for user in self.things() if self._uses(user, thing)]
        if users:
            raise CloudError(
                "cloud_in_use",
                f"The {thing.desired.kind.value} {thing.id} is used by {users[0].id}.",
                cloud_code="DependencyViolation",
            )
        duration = self.timings.machine_end_s if thing.desired.kind is Kind.MACHINE else 0.0
        thing.reason = reason or thing.reason
        for ended in [thing, *self._parts(thing)]:
            ended.ends_at = self.clock.now() + duration

    def retag(self, thing: Thing, tags: Mapping[str, str]) -> None:
        """One update call: new tags for the thing and for what was made with it."""
        kind = thing.desired.kind
        if not SHAPES.get(kind, Shape()).tagged:
            raise CloudError("unsupported", f"A {kind.value} bears no tags here.", where="memory")
        self.changing_calls[f"update {kind.value}"] += 1
        for each in [thing, *(part for part in self.things() if part.parent == thing.id)]:
            each.desired = msgspec.structs.replace(each.desired, tags=dict(tags))

    # What a test may do to it ---------------------------------------------------------------------------------------

    def plant(self, desired: Desired) -> Found:
        """Puts a resource there that grafos did not make: no tag, name or place is checked."""
        with self.lock:
            return self.found(self._add(desired, None))

    def halt(self, id: str, reason: str = "Client.InstanceInitiatedShutdown") -> None:
        """The machine powers itself off, and so ends: shutdown means terminate."""
        with self.lock:
            self.end(self._things[id], reason=reason)

    def write_console(self, id: str, text: str) -> None:
        with self.lock:
            self._things[id].console += text

    # Rules ----------------------------------------------------------------------------------------------------------

    def _add(self, desired: Desired, dies_of: CloudError | None) -> Thing:
        thing = self._place(desired, dies_of=dies_of)
        if desired.kind is Kind.MACHINE:
            disk = replace_desired(desired, Kind.DISK, {}, {"size_gib": desired.inputs.get("disk_gib", 8)})
            nic = replace_desired(desired, Kind.NIC, desired.needs, {})
            for part in (disk, nic):
                self._place(part, parent=thing.id)
        return thing

    def _place(self, desired: Desired, *, dies_of: CloudError | None = None, parent: str = "") -> Thing:
        now = self.clock.now()
        prefix = ID_PREFIXES.get(desired.kind, desired.kind.value)
        start_s = self.timings.machine_start_s if desired.kind is Kind.MACHINE else 0.0
        thing = Thing(
            id=f"{prefix}-{next(self._sequence):06d}",
            desired=desired,
            made_at=now,
            ready_at=now + start_s,
            visible_at=now + self.timings.listing_lag_s,
            dies_of=dies_of,
            reason=dies_of.why if dies_of else "",
            parent=parent,
        )
        if parent:  # what a machine was made with dies as it dies
            machine = self._things[parent]
            thing.ends_at = machine.ready_at if machine.dies_of else None
        self._things[thing.id] = thing
        return thing

    def _same_again(self, desired: Desired, first: Desired, id: str) -> Thing:
        thing = self._things[id]
        if desired != first:
            raise _conflict(desired, "the token came with another request before", "IdempotentParameterMismatch")
        if self.state(thing) in {State.GONE, State.DELETING}:
            raise _conflict(desired, f"the token's machine {id} is dead", "IdempotentInstanceTerminated")
        return thing

    def _check_need(self, desired: Desired, role: str) -> None:
        needed = self._things.get(desired.needs[role])
        if needed is None or self.state(needed) in {State.GONE, State.DELETING}:
            raise CloudError("cloud_not_found", f"There is no {role} {desired.needs[role]}.", cloud_code="NotFound")

    def _occupant(self, desired: Desired) -> Thing | None:
        if desired.kind not in PLACES:
            return None
        same = (thing for thing in self.live(desired.kind) if place(thing.desired) == place(desired))
        return next(same, None)

    def _adopted(self, desired: Desired, occupant: Thing) -> Thing:
        mine = occupant.desired.key == desired.key or not desired.tags
        if mine and dict(occupant.desired.needs) == dict(desired.needs):
            return occupant
        raise _conflict(desired, f"{occupant.id} is there already", "Duplicate")

    def _check_limits(self, desired: Desired) -> None:
        if desired.kind is Kind.NETWORK:
            self._check_quota(desired, "networks", self.limits.networks)
        if desired.kind is Kind.MACHINE:
            self._check_quota(desired, "machines", self.limits.machines)
            self._check_capacity(desired)

    def _check_quota(self, desired: Desired, name: str, limit: int | None) -> None:
        if limit is not None and len(self.live(desired.kind)) >= limit:
            raise CloudError("cloud_quota", f"The account may have {limit} {name}.", cloud_code="LimitExceeded")

    def _check_capacity(self, desired: Desired) -> None:
        taken = Counter(thing.desired.zone for thing in self.live(Kind.MACHINE))
        room = {zone: size - taken[zone] for zone, size in self.limits.machines_per_zone.items()}
        if room.get(desired.zone, 1) <= 0:
            raise CloudError(
                "cloud_capacity",
                f"The zone {desired.zone} has no machine of that type now.",
                cloud_code="InsufficientInstanceCapacity",
                alternatives=sorted(zone for zone, free in room.items() if free > 0),
            )

    def _uses(self, user: Thing, thing: Thing) -> bool:
        if user.desired.kind in PARTS or user.parent == thing.id or not self.alive(user):
            return False
        return thing.id in user.desired.needs.values()

    def _parts(self, thing: Thing) -> list[Thing]:
        return [
            part
            for part in self.things()
            if part.ends_at is None
            and (part.parent == thing.id or part.desired.needs.get(PARTS.get(part.desired.kind, "")) == thing.id)
        ]


def place(desired: Desired) -> tuple[object, ...]:
    """What no two live resources of the kind can share."""
    facts: dict[str, object] = {"name": desired.name, **desired.needs, **desired.inputs}
    return (desired.region, *(facts.get(name) for name in PLACES[desired.kind]))


def replace_desired(desired: Desired, kind: Kind, needs: Mapping[str, str], inputs: Mapping[str, Scalar]) -> Desired:
    """Another kind that bears the same name, key and tags, as a machine's disk does."""
    return Desired(
        key=desired.key,
        kind=kind,
        name=desired.name,
        region=desired.region,
        zone=desired.zone,
        needs=needs,
        inputs=inputs,
        tags=desired.tags,
    )


def _conflict(desired: Desired, why: str, cloud_code: str) -> CloudError:
    return CloudError(
        "cloud_conflict",
        f"The {desired.kind.value} {desired.name} cannot be made so: {why}.",
        cloud_code=cloud_code,
    )
