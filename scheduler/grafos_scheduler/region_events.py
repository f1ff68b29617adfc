"""What can happen to shared regions of leased memory; ``events`` has all else."""

from __future__ import annotations

from dataclasses import dataclass

from grafos_scheduler.region_messages import RegionRequest


@dataclass(frozen=True, slots=True)
class RegionAsked:
    """A tenant wants a region. The same key again changes nothing. Answer: ``RegionView``."""

    tenant: str
    request: RegionRequest


@dataclass(frozen=True, slots=True)
class RegionRenewalAsked:
    """A tenant wants its region to last ``ttl_s`` from now on. Answer: ``RegionView``."""

    tenant: str
    lease_id: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class RegionEndAsked:
    """A tenant wants its region no more, or an operator (``tenant`` is empty) ends it. Answer: ``RegionView``."""

    tenant: str
    lease_id: str


OfRegions = RegionAsked | RegionRenewalAsked | RegionEndAsked
