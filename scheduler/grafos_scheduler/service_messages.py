"""REST bodies about services; see ``messages`` for the others.

A *service* is a module that keeps ``replica_count`` *instances* of itself alive on as many cells. Its spec has the
fields of the public recipe for native services, and ours for fuel and linear memory.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from grafos_core.resources import Resources
from grafos_core.tiers import Tier
from grafos_scheduler.messages import END, Hex256, Name
from grafos_scheduler.service_frames import DRAIN_S_MAX, SESSIONS_MAX

REPLICAS_MAX = 32
"""Of one service; each has a cell for itself."""
NAMES_MAX = 32
"""Services to stay away from, cells to choose from."""
RIGHT_TO_LISTEN = "RIGHTS_SVC_LISTEN"
"""The only right that there is for a service, and that each one needs."""
MEM_BYTES_DEFAULT = 64 * 1024 * 1024

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Replicas = Annotated[int, msgspec.Meta(ge=1, le=REPLICAS_MAX)]


class ActiveActive(msgspec.Struct, frozen=True, tag="active_active", tag_field="mode", forbid_unknown_fields=True):
    """All replicas serve at once."""

    replica_count: Replicas


class Strategy(StrEnum):
    """How the instances of a service are laid out."""

    SPREAD = "spread"


class Policy(StrEnum):
    """How the instance of a session is chosen from those that are healthy."""

    ROUND_ROBIN = "round_robin"
    LEAST_SESSIONS = "least_sessions"


class NodeConstraint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which cells may have an instance: what is empty constrains nothing."""

    provider: Annotated[str, msgspec.Meta(max_length=40)] = ""
    region: Annotated[str, msgspec.Meta(max_length=100)] = ""
    cell_ids: Annotated[tuple[Name, ...], msgspec.Meta(max_length=NAMES_MAX)] = ()


class ResourceRequirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``capacity`` is in cores, or in bytes."""

    resource_type: Annotated[str, msgspec.Meta(pattern=f"^(cpu|mem){END}")]
    capacity: Annotated[int, msgspec.Meta(ge=1, le=2**53)]


ONE_CORE_AND_MEMORY = (ResourceRequirement("cpu", 1), ResourceRequirement("mem", MEM_BYTES_DEFAULT))


class ServiceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wanted of a service. Its tenant is who asks.

    ``fuel_per_session`` is what an instance gets with each session that it accepts, ``fuel_per_s_max`` what it may get
    per second on the average; ``memory_bytes`` bounds its linear memory. Seconds are wall time.
    """

    name: Name
    module_hash: Hex256
    listener_port: Port
    version: Annotated[str, msgspec.Meta(max_length=100)] = "0.1.0"
    program: Annotated[str, msgspec.Meta(max_length=40)] = ""
    replication: ActiveActive = ActiveActive(1)
    priority: Tier = Tier.STANDARD
    strategy: Strategy = Strategy.SPREAD
    node_constraint: NodeConstraint = NodeConstraint()
    anti_affinity_services: Annotated[tuple[Name, ...], msgspec.Meta(max_length=NAMES_MAX)] = ()
    resources_per_instance: Annotated[tuple[ResourceRequirement, ...], msgspec.Meta(min_length=1, max_length=8)] = (
        ONE_CORE_AND_MEMORY
    )
    max_sessions: Annotated[int, msgspec.Meta(ge=1, le=SESSIONS_MAX)] = 64
    drain_deadline_s: Annotated[float, msgspec.Meta(ge=0, le=DRAIN_S_MAX)] = 30.0
    required_rights: Annotated[tuple[str, ...], msgspec.Meta(max_length=8)] = (RIGHT_TO_LISTEN,)
    memory_bytes: Annotated[int, msgspec.Meta(ge=65536, le=4 * 1024**3)] = 32 * 1024 * 1024
    fuel_per_session: Annotated[int, msgspec.Meta(ge=1, le=10**12)] = 10_000_000
    fuel_per_s_max: Annotated[int, msgspec.Meta(ge=1, le=10**12)] = 1_000_000_000

    @property
    def replica_count(self) -> int:
        return self.replication.replica_count

    @property
    def resources(self) -> Resources:
        """What an instance leases, beside its port: one core at least."""
        wanted = Resources()
        for requirement in self.resources_per_instance:
            wanted += Resources.of(requirement.resource_type, requirement.capacity)
        return wanted if wanted.cpu_cores else wanted + Resources(cpu_cores=1)


class InstanceView(msgspec.Struct, frozen=True):
    """One replica's life on one cell. ``state``: planned, starting, active, draining, fenced or ended. ``slot`` is
    which of the replicas it is; ``why`` what it was provisioned for: deploy, failover, cutover or restart.
    ``connected``: its cell holds a link. ``code`` and ``what`` tell why it drains, is fenced or has ended. ``follows``
    is the one before it in its slot. Moments are Unix seconds, 0 for what has not been: ``active_at`` it began to
    serve, from ``left_at`` on it takes no session, and ``drain_until`` those that it has may last if it drains."""

    instance_id: str
    slot: int
    state: str
    cell_id: str
    region: str
    listener_port: int
    revision: int
    why: str
    connected: bool
    sessions: int
    restarts: int
    code: str
    what: str
    created_at: float
    ended_at: float
    fuel_used: int
    sessions_served: int
    cost_micro_cents: int
    follows: str = ""
    active_at: float = 0.0
    left_at: float = 0.0
    drain_until: float = 0.0


class ServiceView(msgspec.Struct, frozen=True):
    """A service with its topology. ``generation`` grows with every change of who may serve; ``revision`` with every
    spec that was deployed. ``waiting`` says of each replica that has no instance why. ``ended`` are the instances that
    ended last, the newest first."""

    name: str
    tenant: str
    spec: ServiceSpec
    revision: int
    generation: int
    removing: bool
    created_at: float
    healthy: int
    instances: list[InstanceView]
    waiting: dict[str, str]
    ended: list[InstanceView]


class ServiceList(msgspec.Struct, frozen=True):
    services: list[ServiceView]


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    replica_count: Replicas


class OfInstance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``instance_id`` empty: each instance in its turn (cutover), or the only one (failover)."""

    instance_id: Annotated[str, msgspec.Meta(max_length=128)] = ""


class Removal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``at_once``: without waiting for the sessions."""

    at_once: bool = False


class InstanceLogView(msgspec.Struct, frozen=True):
    instance_id: str
    cell_id: str
    code: str
    ended_at: float
    log: str


class ServiceLogs(msgspec.Struct, frozen=True):
    """What the instances that ended left of their logs, the newest last."""

    logs: list[InstanceLogView]
