"""The rows about services; see ``rows`` for the others. Times are Unix seconds, money is micro-cents."""

from __future__ import annotations

import msgspec

from grafos_core.receipts import Signed
from grafos_scheduler.service_messages import ServiceSpec

SERVICE, INSTANCE, INSTANCE_LOG = "service", "instance", "instance_log"
LOAD, SHORTAGE = "instance_load", "service_shortage"


class Service(msgspec.Struct, frozen=True):
    """A service of a tenant, under ``TENANT/NAME``. ``generation`` is that of its topology: it grows whenever it
    changes who may serve. ``revision`` counts the specs; an instance of an older one is cut over. ``removing``: it goes
    once its last instance has ended."""

    tenant: str
    name: str
    spec: ServiceSpec
    created_at: float
    revision: int = 1
    generation: int = 1
    removing: bool = False

    @property
    def key(self) -> str:
        return f"{self.tenant}/{self.name}"


class Instance(msgspec.Struct, frozen=True):
    """One replica's life on one cell, in the ``slot`` of its service.

    ``spec`` is what it was made of. ``serves_until`` is the latest end of a lease that was ever asked for it: until
    then, by any clock, it may serve. ``again_at`` is when a planned one is to be started; ``restarts`` counts the
    crashes in a row before it. ``drain_until`` is the end of its drain, and since ``left_at`` it takes no session any
    more. The open hold pays for what is used since
    ``billed_from``; what was settled before is in ``cost_micro_cents``. ``follows`` is the instance before it in its
    slot, and ``why`` tells what it is for.
    """

    instance_id: str
    service: str
    tenant: str
    slot: int
    revision: int
    spec: ServiceSpec
    state: str
    cell_id: str
    provider: str
    region: str
    why: str
    created_at: float
    lease_ids: tuple[str, ...] = ()
    follows: str = ""
    hold_id: str = ""
    holds: int = 0
    billed_from: float = 0.0
    rate_micro_cents_per_hour: int = 0
    share: str = "0"
    serves_until: float = 0.0
    active_at: float = 0.0
    again_at: float = 0.0
    restarts: int = 0
    drain_until: float = 0.0
    left_at: float = 0.0
    code: str = ""
    what: str = ""
    ended_at: float = 0.0
    fuel_used: int = 0
    sessions_served: int = 0
    cost_micro_cents: int = 0

    @property
    def service_key(self) -> str:
        return f"{self.tenant}/{self.service}"


class InstanceLog(msgspec.Struct, frozen=True):
    """What an instance left, as its cell told it. Cold: read from the store when somebody asks."""

    instance_id: str
    log: str
    receipt: Signed


class InstanceLoad(msgspec.Struct, frozen=True):
    """Volatile: how much an instance has to do, as its cell said last."""

    instance_id: str
    sessions: int
    fuel_used: int


class Shortage(msgspec.Struct, frozen=True):
    """Volatile: the service has an empty slot for which there was no cell, or no money, and ``why``. It is looked for
    again at ``again_at``, after each of ``attempts`` in a row a while later."""

    service_key: str
    attempts: int
    again_at: float
    why: str


STORED_KINDS: dict[str, type[msgspec.Struct]] = {
    SERVICE: Service,
    INSTANCE: Instance,
    INSTANCE_LOG: InstanceLog,
}
