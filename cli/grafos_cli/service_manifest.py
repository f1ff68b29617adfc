"""`[[services]]` in `grafos.toml`: what a program serves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from grafos_core.tiers import Tier
from grafos_scheduler.service_messages import (
    RIGHT_TO_LISTEN,
    NodeConstraint,
    ServiceSpec,
    Strategy,
)

NOT_BUILT = "0" * 64
"""The hash of a module that nobody has looked at yet."""


@dataclass(frozen=True)
class ServiceEntry:
    """One service of a program: the tasklet that serves, and its spec but for the module."""

    name: str
    tasklet: str
    spec: ServiceSpec


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table as it is written."""

    name: str
    port: int
    tasklet: str = ""
    replicas: int = 1
    priority: Tier = Tier.STANDARD
    strategy: Strategy = Strategy.SPREAD
    provider: str = ""
    region: str = ""
    cell_ids: tuple[str, ...] = ()
    anti_affinity_services: tuple[str, ...] = ()
    cpu: int = 1
    mem: int = 0
    max_sessions: int = 64
    drain_deadline_s: float = 30.0
    required_rights: tuple[str, ...] = (RIGHT_TO_LISTEN,)
    memory_bytes: int = 32 * 1024 * 1024
    fuel_per_session: int = 10_000_000
    fuel_per_s_max: int = 1_000_000_000


def read_service(values: Mapping[str, Any]) -> ServiceEntry:
    """The service; ``msgspec.ValidationError`` says which key is wrong, and how."""
    asked = msgspec.convert(values, _Table)
    given = {
        "name": asked.name,
        "module_hash": NOT_BUILT,
        "listener_port": asked.port,
        "replication": {"mode": "active_active", "replica_count": asked.replicas},
        "priority": asked.priority,
        "strategy": asked.strategy,
        "node_constraint": NodeConstraint(asked.provider, asked.region, asked.cell_ids),
        "anti_affinity_services": asked.anti_affinity_services,
        "resources_per_instance": [
            {"resource_type": kind, "capacity": amount}
            for kind, amount in (("cpu", asked.cpu), ("mem", asked.mem))
            if kind == "cpu" or amount
        ],
        "max_sessions": asked.max_sessions,
        "drain_deadline_s": asked.drain_deadline_s,
        "required_rights": asked.required_rights,
        "memory_bytes": asked.memory_bytes,
        "fuel_per_session": asked.fuel_per_session,
        "fuel_per_s_max": asked.fuel_per_s_max,
    }
    spec = msgspec.convert(msgspec.to_builtins(given), ServiceSpec)
    return ServiceEntry(asked.name, asked.tasklet or asked.name, spec)


def fault_in(error: msgspec.ValidationError) -> tuple[str, str]:
    """The key that is wrong, "" if that cannot be told, and what is wrong with it, in the words of the table."""
    what, _, place = str(error).rpartition(" - at `$.")
    path = place.rstrip("`").removeprefix("node_constraint.")
    key = _KEYS_OF_SPEC.get(path, re.split(r"[.\[]", path)[0])
    return (key, what) if what and key in KEYS else ("", str(error))


KEYS = tuple(field.name for field in msgspec.structs.fields(_Table))
"""Every key that may stand in the table."""
_KEYS_OF_SPEC = {
    "listener_port": "port",
    "replication.replica_count": "replicas",
    "resources_per_instance[0].capacity": "cpu",
    "resources_per_instance[1].capacity": "mem",
}
"""What the spec has under another name than the table."""
