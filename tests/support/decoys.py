"""Resources of other people in the same account, some with copies of our tags: they stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from crash_sweep import REGIONS, Decoy

from grafos_connectors.contract import TAG_EXPIRES, TAG_SIGNATURE, Kind
from grafos_core.clock import VirtualClock
from grafos_core.fabric import Fabric, open_fabric
from grafos_stacks.names import cloud_name, key_of, sealed_tags
from grafos_stacks.plan import shared_stack_of

OVERDUE = 1_000_000
"""An expiry that passed long ago: what bears it and is taken for ours would be deleted at once."""


def foreign(count: int, kinds: Sequence[Kind]) -> Iterator[Decoy]:
    """Things that have nothing to do with grafos, and the things of another fabric in the account."""
    other = open_fabric(VirtualClock(), "neighbour")
    for number in range(count):
        kind = kinds[number % len(kinds)]
        key = key_of(other.id, "aws-theirs", kind, str(number), {})
        tags = sealed_tags(other, "aws-theirs", kind, key, 1, OVERDUE) if number % 3 == 0 else {}
        yield Decoy(kind, tags, cloud_name("aws-theirs", f"n{number}", key) if tags else f"theirs-{number}")


def copies(fabric: Fabric, provider: str, kinds: Sequence[Kind]) -> Iterator[Decoy]:
    """Things that bear our tags and are not ours. All of them would be overdue, or a network that nobody uses."""
    shared = shared_stack_of(provider, REGIONS[provider])
    for number, kind in enumerate(kinds):
        old = _sealed(fabric, f"{provider}-old", kind)
        yield Decoy(kind, old.tags, f"theirs-copy-{number}")  # all of our tags, on something called otherwise
        another = kinds[(number + 1) % len(kinds)]
        if not _part_of(another, kind):
            yield Decoy(another, old.tags, old.name)  # all of our tags and the name, on something of another kind
        yield Decoy(kind, {**old.tags, TAG_EXPIRES: str(OVERDUE + 1)}, old.name + "x")  # an altered expiry
        unsigned = {name: value for name, value in _sealed(fabric, shared, kind).tags.items() if name != TAG_SIGNATURE}
        yield Decoy(kind, unsigned, f"theirs-unsigned-{number}")


def _sealed(fabric: Fabric, stack: str, kind: Kind) -> Decoy:
    key = key_of(fabric.id, stack, kind, kind.value, {"decoy": 1})
    expires_at = 0 if stack.startswith("net-") else OVERDUE
    return Decoy(kind, sealed_tags(fabric, stack, kind, key, 1, expires_at), cloud_name(stack, "decoy", key))


def _part_of(part: Kind, whole: Kind) -> bool:
    """What comes with a machine may bear its tags and its name."""
    return whole is Kind.MACHINE and part in (Kind.DISK, Kind.NIC, Kind.ADDRESS, Kind.DEADLINE)
