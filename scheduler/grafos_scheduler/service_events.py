"""What can happen to services; see ``events`` for the others."""

from __future__ import annotations

from dataclasses import dataclass

from grafos_core.receipts import InstanceReceipt
from grafos_scheduler import service_frames
from grafos_scheduler.service_messages import ServiceSpec


@dataclass(frozen=True, slots=True)
class Asked:
    """What a tenant wants."""

    tenant: str


@dataclass(frozen=True, slots=True)
class ServiceDeployed(Asked):
    """A tenant wants a service, or another spec of one that it has. Answer: ``ServiceView``. The same spec again
    changes nothing."""

    spec: ServiceSpec


@dataclass(frozen=True, slots=True)
class ServiceScaled(Asked):
    """Answer: ``ServiceView``; ``service_unknown`` for anybody else's, as with all below."""

    name: str
    replica_count: int


@dataclass(frozen=True, slots=True)
class ServiceCutOver(Asked):
    """A planned replacement of one instance, or of each in its turn. Answer: ``ServiceView``."""

    name: str
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class ServiceFailedOver(Asked):
    """An instance is fenced at once, and replaced. Answer: ``ServiceView``."""

    name: str
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class ServiceRemoved(Asked):
    """The service ends with its sessions, or at once. Answer: ``ServiceView``."""

    name: str
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class InstanceSaid:
    """A frame about an instance came over a link."""

    cell_id: str
    link_id: int
    frame: service_frames.InstanceListening | service_frames.InstanceLoad


@dataclass(frozen=True, slots=True)
class InstanceReported:
    """A cell reports the end of an instance. ``receipt`` is what ``ended.receipt`` says, its signature by this very
    cell's key already verified."""

    cell_id: str
    link_id: int
    ended: service_frames.InstanceEnded
    receipt: InstanceReceipt


OfServices = (
    ServiceDeployed
    | ServiceScaled
    | ServiceCutOver
    | ServiceFailedOver
    | ServiceRemoved
    | InstanceSaid
    | InstanceReported
)
