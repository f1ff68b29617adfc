"""What exists in the emulated subscription: resource groups, resources, and what is below them.

Everything is found by its id without regard to case. The caller holds the world's lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from grafos_emulators.azure import places
from grafos_emulators.azure.places import Place
from grafos_emulators.azure.type_names import GALLERY_IMAGE, GALLERY_IMAGE_VERSION

TRACKED_PARTS = frozenset({GALLERY_IMAGE, GALLERY_IMAGE_VERSION})
"""Parts of others that have a location and tags of their own."""


@dataclass
class Resource:
    """One resource, or one resource group.

    ``body`` is what was asked for and what the service filled in: ``properties``, ``sku``, ``zones``. ``state`` is the
    provisioning state (``Creating``, ``Succeeded``, …). ``operation`` names the one that runs on it, or is empty.
    ``runtime`` is its kind's own record of what no request can set.
    """

    id: str
    type: str
    name: str
    location: str
    tags: dict[str, str]
    body: dict[str, Any]
    made_at: float
    made_at_monotonic: float
    changed_at_monotonic: float
    state: str = "Creating"
    operation: str = ""
    etag: str = field(default_factory=lambda: str(uuid.uuid4()))
    guid: str = field(default_factory=lambda: str(uuid.uuid4()))
    runtime: dict[str, Any] = field(default_factory=dict)

    # Read for each resource whenever something is looked for, and never changed.

    @cached_property
    def key(self) -> str:
        return places.key(self.id)

    @cached_property
    def place(self) -> Place:
        return places.read(self.id)

    @property
    def properties(self) -> dict[str, Any]:
        properties: dict[str, Any] = self.body.setdefault("properties", {})
        return properties

    @cached_property
    def is_tracked(self) -> bool:
        """Whether it is listed with the group's resources: a subnet or a rule is not, it is part of another."""
        return len(self.place.rest) == 2 or self.type in TRACKED_PARTS


class Store:
    """Resources by id, in the order in which they were made."""

    def __init__(self) -> None:
        self._resources: dict[str, Resource] = {}
        # Who may name an id, and what ids each ever named: what a body names no longer is seen when it is asked for.
        self._naming: dict[str, dict[str, Resource]] = {}
        self._named: dict[str, set[str]] = {}

    def get(self, resource_id: str) -> Resource | None:
        return self._resources.get(places.key(resource_id))

    def put(self, resource: Resource) -> None:
        self._resources[resource.key] = resource
        self.note_names(resource)

    def give(self, resource: Resource, body: dict[str, Any]) -> None:
        """Another body for what is there."""
        resource.body = body
        self.note_names(resource)

    def note_names(self, resource: Resource) -> None:
        """To be called when the body came to name more than before."""
        named = self._named.setdefault(resource.key, set())
        for each in ids_in(resource.body):
            wanted = places.key(each)
            named.add(wanted)
            self._naming.setdefault(wanted, {})[resource.key] = resource

    def remove(self, resource: Resource) -> None:
        self._resources.pop(resource.key, None)
        for wanted in self._named.pop(resource.key, ()):
            self._naming[wanted].pop(resource.key, None)

    def all(self) -> tuple[Resource, ...]:
        return tuple(self._resources.values())

    def of_type(self, kind: str, group: str = "") -> Iterator[Resource]:
        """The resources of one type, of one group or of all."""
        for resource in self.all():
            in_group = not group or resource.place.group.lower() == group.lower()
            if resource.type.lower() == kind.lower() and in_group:
                yield resource

    def below(self, resource_id: str) -> Iterator[Resource]:
        """What is part of a resource, or is in a group."""
        prefix = places.key(resource_id) + "/"
        return (resource for resource in self.all() if resource.key.startswith(prefix))

    def who_names(self, resource_id: str, *path: str) -> Iterator[Resource]:
        """The resources with this id anywhere in what they were asked for (``path`` narrows it to types).

        Asked for each network interface that is made or shown, so it must not walk through all that is there.
        """
        wanted = places.key(resource_id)
        for resource in tuple(self._naming.get(wanted, {}).values()):
            if (not path or resource.type in path) and wanted in map(places.key, ids_in(resource.body)):
                yield resource


def ids_in(document: Any) -> Iterator[str]:
    """Every id that a document refers to."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == "id" and isinstance(value, str):
                yield value
            else:
                yield from ids_in(value)
    elif isinstance(document, list):
        for each in document:
            yield from ids_in(each)
