"""What the provider asks of each type of resource, and what a call is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import msgspec

from grafos_stacks.owners import pulumi_owner
from grafos_stacks.pulumi.codec import Properties
from grafos_stacks.pulumi.inputs import read_inputs


class Asker(NamedTuple):
    """On whose behalf a call is made, as its URN tells: a resource of a Pulumi stack."""

    project: str
    stack: str

    @property
    def owner(self) -> str:
        """The Pulumi stack as an owner of cells."""
        return pulumi_owner(self.project, self.stack)


def asker_of(urn: str) -> Asker:
    """Reads ``urn:pulumi:<stack>::<project>::<types>::<name>``."""
    stack, project, *_ = urn.removeprefix("urn:pulumi:").split("::")
    return Asker(project, stack)


class Change(NamedTuple):
    """What a change of inputs means: the names that change, and those of them that mean another resource."""

    changed: tuple[str, ...] = ()
    replacing: tuple[str, ...] = ()


class Had(NamedTuple):
    """A resource that exists: its id and its outputs."""

    id: str
    outputs: Mapping[str, Any]


class Handler(Protocol):
    """One type of resource. All but ``check`` and ``change`` may raise a ``GrafosError``, and those that make also an
    ``UnfinishedError`` for what exists and cannot be used yet. A preview changes nothing."""

    def check(self, asker: Asker, old: Properties, new: Properties) -> Mapping[str, Any]:
        """The inputs, or what is wrong with them, as a ``GrafosError``."""
        ...

    def change(self, outputs: Mapping[str, Any], old: Mapping[str, Any], new: Properties) -> Change:
        """What differs between old and new inputs. What is not known yet may differ."""
        ...

    def create(self, asker: Asker, new: Properties, *, preview: bool) -> Had:
        """Makes it, or adopts what exists and is ours."""
        ...

    def read(self, asker: Asker, had: Had, inputs: Mapping[str, Any]) -> Had | None:
        """It as it is now; None if it is proved gone."""
        ...

    def update(self, asker: Asker, had: Had, new: Properties, *, preview: bool) -> Had:
        """Changes it in place, or goes on with one that was not finished."""
        ...

    def delete(self, asker: Asker, had: Had) -> None:
        """Ends it; ending it twice is no error."""
        ...

    def list(self) -> list[tuple[str, str]]:
        """Ids and names of all that exist, as far as they can be told without an input."""
        ...


class Replaced:
    """What types share whose inputs need only have the right shape, and of which any change is another resource."""

    inputs: ClassVar[type[msgspec.Struct]]

    def check(self, asker: Asker, old: Properties, new: Properties) -> Mapping[str, Any]:
        """As ``Handler.check``."""
        del asker, old
        if not new.unknown:
            read_inputs(self.inputs, new.values)
        return new.values

    def change(self, outputs: Mapping[str, Any], old: Mapping[str, Any], new: Properties) -> Change:
        """As ``Handler.change``."""
        del outputs
        changed = changed_names(old, new)
        return Change(changed, changed)


def changed_names(old: Mapping[str, Any], new: Properties) -> tuple[str, ...]:
    """The inputs that differ, or may."""
    unknown = new.unknown
    names = sorted({*old, *new.values})
    return tuple(name for name in names if name in unknown or old.get(name) != new.values.get(name))
