"""The tables of `grafos.toml`, and what each of their keys may be."""

from __future__ import annotations

from typing import NamedTuple

from grafos_cell import abi
from grafos_cli import settings
from grafos_scheduler.service_frames import DRAIN_S_MAX, SESSIONS_MAX
from grafos_scheduler.service_messages import REPLICAS_MAX


class Key(NamedTuple):
    """One key: its TOML type, bounds for a number, and whether it must stand there."""

    kind: type
    required: bool = False
    least: float = 0
    most: float = 0


TABLES: dict[str, dict[str, Key]] = {
    "program": {
        "name": Key(str, required=True),
        "version": Key(str),
        "language": Key(str, required=True),
    },
    "tasklets": {
        "name": Key(str, required=True),
        "source": Key(str, required=True),
        "input": Key(str),
        "needs": Key(list),
        "retry": Key(bool),
        "fuel": Key(int, least=1, most=abi.FUEL_MAX),
        "memory_bytes": Key(int, least=abi.MEMORY_BYTES_MIN, most=abi.MEMORY_BYTES_MAX),
        "deadline_s": Key(float, least=0.001, most=abi.DEADLINE_S_MAX),
        "tier": Key(str),
        "provider": Key(str),
        "mem": Key(int, least=0, most=2**53),
        "block": Key(int, least=0, most=2**52),
    },
    "services": {
        "name": Key(str, required=True),
        "port": Key(int, required=True, least=1, most=65535),
        "tasklet": Key(str),
        "replicas": Key(int, least=1, most=REPLICAS_MAX),
        "priority": Key(str),
        "strategy": Key(str),
        "provider": Key(str),
        "region": Key(str),
        "cell_ids": Key(list),
        "anti_affinity_services": Key(list),
        "cpu": Key(int, least=1, most=2**53),
        "mem": Key(int, least=0, most=2**53),
        "max_sessions": Key(int, least=1, most=SESSIONS_MAX),
        "drain_deadline_s": Key(float, least=0, most=DRAIN_S_MAX),
        "required_rights": Key(list),
        "memory_bytes": Key(int, least=abi.MEMORY_BYTES_MIN, most=abi.MEMORY_BYTES_MAX),
        "fuel_per_session": Key(int, least=1, most=abi.FUEL_MAX),
        "fuel_per_s_max": Key(int, least=1, most=abi.FUEL_MAX),
    },
    "runnable_targets": {},
    "settings": {setting.name: Key(str) for setting in settings.SETTINGS if setting.in_project},
}
"""Bounds are those of the ABI and the wire; the keys of `runnable_targets` are environments, its values providers."""
