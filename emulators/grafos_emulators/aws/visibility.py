"""What was made a moment ago may be missing from EC2's reads, by id and in lists: eventual consistency.

While a read is answered, what is younger than ``visible_after_s`` is taken out of moto's collections, and put back
afterwards. The caller holds the world's lock for all of it, so nobody else meets the gap.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


class Veil:
    """The ages of a region's resources, by the world's monotonic clock; known from the first ``note`` on."""

    def __init__(self) -> None:
        self._seen_at: dict[str, float] = {}

    def note(self, backend: Any, now: float) -> None:
        """After a changing call: whatever was not there before is as young as now."""
        for collection in collections(backend):
            for each in collection:
                self._seen_at.setdefault(each, now)
        for address in backend.addresses:
            self._seen_at.setdefault(address.allocation_id, now)

    @contextlib.contextmanager
    def over(self, backend: Any, older_than: float) -> Iterator[None]:
        """For the block, what came after ``older_than`` does not exist."""
        hidden: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for collection in collections(backend):
            young = [each for each in collection if self._seen_at.get(each, older_than) > older_than]
            hidden.append((collection, {each: collection.pop(each) for each in young}))
        known = list(backend.addresses)  # moto has them in a list
        backend.addresses[:] = [one for one in known if self._seen_at.get(one.allocation_id, older_than) <= older_than]
        try:
            yield
        finally:
            backend.addresses[:] = known
            for collection, young_ones in hidden:
                collection.update(young_ones)


def collections(backend: Any) -> Iterator[dict[str, Any]]:
    """Moto's own, by id: all that can be missing for a while."""
    yield backend.vpcs
    yield backend.internet_gateways
    yield backend.volumes
    yield backend.enis
    yield backend.snapshots
    yield backend.amis
    yield backend.reservations
    yield backend.reservation_of
    yield from backend.subnets.values()
    yield from backend.groups.values()
