"""What all parts of the one emulated subscription share, and what a test may set about it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from grafos_core.emulated import EMULATED_SUBSCRIPTION
from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.azure import places
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.operations import Operations
from grafos_emulators.azure.places import Place
from grafos_emulators.azure.store import Resource, Store
from grafos_emulators.azure.type_names import VIRTUAL_MACHINE
from grafos_emulators.world import World

TENANT_ID = "67726166-6f73-4000-8000-0000000000aa"
ALL_ACTIONS = "*"
NAMESPACES = ("Microsoft.Compute", "Microsoft.Network", "Microsoft.DevTestLab")
ALWAYS_REGISTERED = frozenset({"microsoft.authorization", "microsoft.resources"})  # as in every real subscription
QUICK_SHARE = 0.2  # a network or disk step takes this share of the time that a machine needs to start
REMEMBERED_REMOVALS = 1000  # how many removed resources a lagging list may still show


@dataclass(frozen=True)
class Removal:
    """A resource that was removed, and when; a list that lags still shows it."""

    resource: Resource
    at_monotonic: float


@dataclass
class AzureAccount:
    """One subscription. A test may change what follows ``endpoint`` at any time.

    ``registered``: namespaces in use, lower case. ``allowed`` and ``denied``: the caller's actions and not-actions.
    ``locks``: ``CanNotDelete`` or ``ReadOnly`` by scope. ``restricted``: sizes that are not sold to us, with ARM's
    reason code, by ``(size, location)`` or ``(size, "location/zone")``. ``limits``: quotas by usage name, where
    they are not the usual ones. ``launched``: the resources that have a machine, by its ``vmId``.
    """

    world: World
    network: LoopbackNetwork
    subscription: str = EMULATED_SUBSCRIPTION
    endpoint: str = ""
    registered: set[str] = field(default_factory=lambda: {name.lower() for name in NAMESPACES})
    allowed: tuple[str, ...] = (ALL_ACTIONS,)
    denied: tuple[str, ...] = ()
    locks: dict[str, str] = field(default_factory=dict)
    restricted: dict[tuple[str, str], str] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    store: Store = field(default_factory=Store)
    launched: dict[str, Resource] = field(default_factory=dict)
    removals: deque[Removal] = field(default_factory=lambda: deque(maxlen=REMEMBERED_REMOVALS))

    def __post_init__(self) -> None:
        self.operations = Operations(self.world, self.subscription)

    def serve_at(self, endpoint: str) -> None:
        """The emulator's own address, known once it serves."""
        self.endpoint = self.operations.endpoint = endpoint

    @property
    def quick_s(self) -> float:
        """How long a step of the network or of a disk takes."""
        return self.world.times.starting_s * QUICK_SHARE

    def has_room(self, location: str, zones: list[str], size: str) -> bool:
        """Whether there is hardware for one more machine. One without a zone finds room while the location has some."""

        def running_at(place: str) -> Counter[str]:
            machines = (each for each in self.store.of_type(VIRTUAL_MACHINE) if each.runtime.get("allocated"))
            sizes = ((each, str(each.properties["hardwareProfile"]["vmSize"])) for each in machines)
            return Counter(size for each, size in sizes if place in _places_of(each.location, each.body.get("zones")))

        fits = self.world.capacity.fits
        return all(fits("azure", place, size, partial(running_at, place)) for place in _places_of(location, zones))

    def remove(self, resource: Resource) -> None:
        self.store.remove(resource)
        self.removals.append(Removal(resource, self.world.clock.monotonic()))

    def new_resource(self, place: Place, kind: str, location: str, body: dict[str, Any]) -> Resource:
        """A resource of ``kind`` at ``place``, kept; ``body`` may hold its tags."""
        clock = self.world.clock
        kept = dict(body)
        tags = dict(kept.pop("tags", None) or {})
        group = self.store.get(f"/subscriptions/{self.subscription}/resourceGroups/{place.group}")
        types = kind.split("/")
        words = [word for pair in zip(types[1:], place.names, strict=True) for word in pair]
        spelled = Place(self.subscription, group.name if group else place.group, types[0], tuple(words))
        resource = Resource(
            spelled.id, kind, place.name, location, tags, kept, clock.now(), clock.monotonic(), clock.monotonic()
        )
        self.store.put(resource)
        return resource

    def check_lock(self, resource_id: str, *, deleting: bool) -> None:
        """``ScopeLocked`` when a lock on the resource, or on what it is part of, forbids the change."""
        wanted = places.key(resource_id)
        for scope, level in self.locks.items():
            locked = places.key(scope)
            above = wanted == locked or wanted.startswith(locked + "/")
            below = deleting and locked.startswith(wanted + "/")  # a group cannot go before what is locked in it
            if (above or below) and (deleting or level == "ReadOnly"):
                what = "delete" if deleting else "write"
                raise ArmError(
                    409,
                    "ScopeLocked",
                    f"The scope '{resource_id}' cannot perform {what} operation because following scope(s) are locked: "
                    f"'{scope}'. Please remove the lock and try again.",
                )


def _places_of(location: str, zones: Sequence[str] | None) -> list[str]:
    """Where a machine takes hardware, in the words of ``capacity.Limit``."""
    return [location, *(f"{location}/{zone}" for zone in zones or ())]
