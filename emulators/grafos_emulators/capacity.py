"""Where an emulated cloud has no hardware left.

There is room for any number of machines, but where a limit says otherwise. The limits of all clouds are kept in this
one place; how each cloud says that there is no room is its own. What nobody can lift, unlike a quota, and nobody is
told of before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec

ANY_TYPE = "*"


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most ``machines`` of a type, or of all types together, hold hardware at a place of a provider.

    A place is a zone (``us-east-1a``); of Azure, a location or ``location/zone``.
    """

    provider: str
    place: str
    machine_type: str = ANY_TYPE
    machines: Annotated[int, msgspec.Meta(ge=0)] = 0


class Capacity:
    """The limits of all clouds of a world; guarded by its lock."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, str, str], Limit] = {}

    def limit(self, limit: Limit) -> None:
        """Holds from now on; machines that are there stay. A later one for the same takes its place."""
        self._limits[limit.provider, limit.place, limit.machine_type] = limit

    def fill(self, provider: str, place: str, machine_type: str = ANY_TYPE) -> None:
        """No room for one more there."""
        self.limit(Limit(provider, place, machine_type))

    def clear(self) -> int:
        """Lifts all limits; how many there were."""
        count = len(self._limits)
        self._limits.clear()
        return count

    def limits(self) -> tuple[Limit, ...]:
        """In the order in which they were set."""
        return tuple(self._limits.values())

    def fits(
        self, provider: str, place: str, machine_type: str, running: Callable[[], Mapping[str, int]], count: int = 1
    ) -> bool:
        """Whether ``count`` more find room. ``running`` tells how many machines of each type hold hardware there; it is
        asked only where a limit needs it."""
        for pattern in (machine_type, ANY_TYPE):
            limit = self._limits.get((provider, place, pattern))
            if limit is None:
                continue
            there = running()
            taken = sum(there.values()) if pattern == ANY_TYPE else there.get(machine_type, 0)
            if taken + count > limit.machines:
                return False
        return True
