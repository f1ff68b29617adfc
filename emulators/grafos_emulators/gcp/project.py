"""What one emulated project holds, and what all its kinds of resources share: names, ids, links, times."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from grafos_core.emulated import EMULATED_PROJECT
from grafos_emulators.addresses import LoopbackNetwork
from grafos_emulators.disk_files import DiskFile
from grafos_emulators.gcp.buckets import Bucket
from grafos_emulators.gcp.errors import already_exists, not_found, not_ready
from grafos_emulators.gcp.operations import Operations
from grafos_emulators.gcp.times import rfc3339
from grafos_emulators.world import World

PROJECT_NUMBER = "424200004242"
API_PATH = "/compute/v1/"
FIRST_ID = 4_242_000_000_000_000_000  # ids are decimal uint64; clients keep them as text


@dataclass
class Resource:
    """One resource. ``kind`` is GCE's word in the singular; ``path`` is below the project, ``zones/Z/disks/N``.

    ``body`` holds what an answer shows, but for what follows from the state of others. ``ready`` comes with the end of
    the operation that makes it; ``leaving`` with the beginning of the one that deletes it. ``made_at`` is the world's
    monotonic time.
    """

    kind: str
    path: str
    body: dict[str, Any]
    made_at: float
    ready: bool = False
    leaving: bool = False

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def scope(self) -> str:
        """``global``, ``regions/R`` or ``zones/Z``."""
        return scope_of(self.path)

    @property
    def uses_quota(self) -> bool:
        """Whether it counts against what only running machines take."""
        return True

    @property
    def reserved(self) -> str:
        """The path of the reserved address that it has, if any."""
        return ""

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.body.get("labels", {}))


@dataclass
class Project:
    """The state of one project. Everything here is guarded by the world's lock.

    ``architecture`` is GCE's word for the host's, ``X86_64`` or ``ARM64``: only its stock image runs a startup script.
    ``denied`` are IAM permissions that the caller lacks; ``disabled_services`` are APIs that nobody switched on.
    ``launched`` are the instances that have a machine, by its id. ``image_archives`` are what the project's own images
    were made from, by path. ``quota_limits`` are limits that were set, by metric and region (empty: all regions, or the
    project's own).
    """

    world: World
    addresses: LoopbackNetwork
    architecture: str
    project_id: str = EMULATED_PROJECT
    number: str = PROJECT_NUMBER
    endpoint: str = ""
    denied: set[str] = field(default_factory=set)
    disabled_services: set[str] = field(default_factory=set)
    quota_limits: dict[tuple[str, str], float] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    image_archives: dict[str, DiskFile] = field(default_factory=dict)
    launched: dict[str, Resource] = field(default_factory=dict)
    operations: Operations = field(init=False)
    _users: dict[str, dict[str, None]] = field(default_factory=dict, repr=False)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(FIRST_ID), repr=False)

    def __post_init__(self) -> None:
        self.operations = Operations(self)

    # Names and links

    def link(self, path: str) -> str:
        """The full URL of a resource, at this emulator's own address: whoever follows it stays on loopback."""
        return f"{self.endpoint}{API_PATH}projects/{self.project_id}/{path}"

    def path_of(self, reference: str) -> str | None:
        """A resource's path from a full or partial URL; None when it names another project or cannot be read."""
        path = urlsplit(reference).path.removeprefix(API_PATH).lstrip("/")
        if not path.startswith("projects/"):
            return path or None
        _, project, path = path.split("/", 2) if path.count("/") > 1 else ("", "", "")
        return path if project in {self.project_id, self.number} else None

    def zones_with_room(self, zone: str, offering: frozenset[str], machine_type: str) -> tuple[str, ...]:
        """The other zones of the region that offer the type and have room for it."""
        region = region_of(f"zones/{zone}")
        others = (each for each in sorted(offering - {zone}) if region_of(f"zones/{each}") == region)
        return tuple(each for each in others if self.has_room(each, machine_type))

    def has_room(self, zone: str, machine_type: str) -> bool:
        """Whether the zone has hardware for one more."""

        def running() -> Counter[str]:
            found = (each for each in self.of_kind("instance", f"zones/{zone}") if each.uses_quota)
            return Counter(each.body["machineType"].rpartition("/")[2] for each in found)

        return self.world.capacity.fits("gcp", zone, machine_type, running)

    def fingerprint_of(self, resource: Resource) -> str:
        return fingerprint(sorted(resource.body))

    def fresh_id(self) -> str:
        return str(next(self._ids))

    def stamp(self) -> str:
        """The world's time as Compute Engine writes it."""
        return rfc3339(self.world.clock.now())

    # Resources

    def add(self, kind: str, path: str, body: Mapping[str, Any], *, made: Callable[..., Resource] = Resource) -> Any:
        """A new resource with the fields that all have; ``alreadyExists`` when the name is taken."""
        self.refuse_taken(path)
        common = {
            "kind": f"compute#{kind}",
            "id": self.fresh_id(),
            "name": path.rpartition("/")[2],
            "creationTimestamp": self.stamp(),
            "selfLink": self.link(path),
        }
        resource = made(kind, path, {**body, **common}, self.world.clock.monotonic())
        self.resources[path] = resource
        for named in self._named_in(body):  # no method changes what a resource is made of
            self._users.setdefault(named, {})[path] = None
        return resource

    def remove(self, path: str) -> None:
        """The resource is gone, and uses nothing any more; harmless for one that is gone already."""
        resource = self.resources.pop(path, None)
        if resource is not None and resource.kind == "address":
            self.addresses.give_back(resource.body["address"])
        for named in self._named_in(resource.body) if resource else ():
            self._users.get(named, {}).pop(path, None)

    def refuse_taken(self, path: str) -> None:
        """Asked before quotas are: who asks for the same once more is told so, even where nothing more would fit."""
        if path in self.resources:
            raise already_exists(path, self.project_id)

    def get(self, path: str) -> Resource:
        """The resource; ``notFound`` without one."""
        resource = self.resources.get(path)
        if resource is None:
            raise not_found(path, self.project_id)
        return resource

    def changeable(self, path: str) -> Resource:
        """The same for a resource that is to be changed or used: ``resourceNotReady`` while it is made or deleted."""
        resource = self.get(path)
        if not resource.ready or resource.leaving:
            raise not_ready(path, self.project_id)
        return resource

    def of_kind(self, kind: str, scope: str = "") -> list[Resource]:
        """All resources of a kind, in a scope or in all of them, in the order of their names."""
        found = (each for each in self.resources.values() if each.kind == kind and scope in {"", each.scope})
        return sorted(found, key=lambda each: each.path)

    def users_of(self, path: str, *, kinds: frozenset[str]) -> list[Resource]:
        """The resources of ``kinds`` that name ``path``, in the order in which they were made."""
        return [user for each in self._users.get(path, ()) if (user := self.resources[each]).kind in kinds]

    def user_of(self, path: str, *, kinds: frozenset[str]) -> Resource | None:
        """One resource of ``kinds`` that names ``path``; None when nobody does."""
        return next(iter(self.users_of(path, kinds=kinds)), None)

    def holder_of(self, address: Resource) -> Resource | None:
        """The instance that has a reserved address; it names it by its number alone."""
        return next((each for each in self.of_kind("instance") if each.reserved == address.path), None)

    def _named_in(self, content: Any) -> Iterator[str]:
        """The paths of this project's resources that a body names."""
        if isinstance(content, dict):
            for key, value in content.items():
                if key != "selfLink":
                    yield from self._named_in(value)
        elif isinstance(content, list):
            for each in content:
                yield from self._named_in(each)
        elif isinstance(content, str) and content.startswith(self.link("")):
            yield content.removeprefix(self.link(""))


def scope_of(path: str) -> str:
    """The scope of a resource's path: ``global``, ``regions/R`` or ``zones/Z``."""
    return "/".join(path.split("/")[: 1 if path.startswith("global/") else 2])


def region_of(scope: str) -> str:
    """The region of a scope: itself, a zone's, or empty for what is global."""
    where, _, name = scope.partition("/")
    return {"zones": name.rpartition("-")[0], "regions": name}.get(where, "")


def fingerprint(content: object) -> str:
    """A short hash, in base64 as GCE has them, of what optimistic locking compares."""
    return base64.urlsafe_b64encode(hashlib.sha256(repr(content).encode()).digest()[:8]).decode()
