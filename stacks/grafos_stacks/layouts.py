"""What a cell consists of on each cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from grafos_connectors.contract import Kind
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId
from grafos_stacks.aws import AwsLayout
from grafos_stacks.plan import CellFacts, Planned
from grafos_stacks.spec import CellSpec


class Layout(Protocol):
    """One cloud's way to build a cell."""

    default_types: Mapping[str, str]
    """The machine type for an architecture when the person named none; the first one is tried first."""
    dies_with: Mapping[Kind, Kind]
    """Kinds that go when another goes, without a call of their own."""

    def standalone(self, fabric: FabricId, spec: CellSpec, facts: CellFacts, expires_at: int) -> tuple[Planned, ...]:
        """A standalone cell's resources, the shared network's first, each after all that it needs."""
        ...


_LAYOUTS: dict[str, Layout] = {"aws": AwsLayout()}


def layout_of(provider: str) -> Layout:
    """The layout of a cloud, or ``unsupported``."""
    if provider not in _LAYOUTS:
        raise GrafosError(
            "unsupported",
            f"cells on {provider!r} cannot be provisioned by this version",
            next=f"use one of: {', '.join(_LAYOUTS)}",
        )
    return _LAYOUTS[provider]


UNMAKE_ORDER = (
    Kind.MACHINE,
    Kind.DEADLINE,
    Kind.NIC,
    Kind.ADDRESS,
    Kind.DISK,
    Kind.FIREWALL_RULE,
    Kind.FIREWALL,
    Kind.ROUTE,
    Kind.SUBNET,
    Kind.GATEWAY_ATTACHMENT,
    Kind.GATEWAY,
    Kind.NETWORK,
    Kind.GROUP,
)
"""What is deleted before what, on every cloud: whatever needs another goes before it."""
