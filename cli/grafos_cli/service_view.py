"""Services as people and programs see them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from grafos_cli.moments import age_text
from grafos_cli.tables import facts, table, with_code
from grafos_scheduler.service_messages import InstanceView, ServiceView

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal


def document(view: ServiceView) -> dict[str, Any]:
    return {"service": msgspec.to_builtins(view)}


def documents(views: Sequence[ServiceView]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(view) for view in views]


def listed(views: Sequence[ServiceView], terminal: Terminal) -> str:
    """A table, one row for each service."""
    head = ("SERVICE", "HEALTHY", "PORT", "VERSION", "CELLS", "AGE")
    rows = [
        [
            view.name,
            f"{view.healthy} of {view.spec.replica_count}" + (" (going)" if view.removing else ""),
            str(view.spec.listener_port),
            view.spec.version,
            " ".join(instance.cell_id for instance in view.instances) or "none",
            age_text(time.time() - view.created_at),
        ]
        for view in views
    ]
    return table(head, rows, terminal, "  r  r", spare=("AGE", "VERSION")) if rows else "No service yet.\n"


def shown(view: ServiceView, terminal: Terminal) -> str:
    """The service, then its instances."""
    spec = view.spec
    about = [
        ("service", view.name + (" (being removed)" if view.removing else "")),
        ("healthy", f"{view.healthy} of {spec.replica_count}"),
        ("generation", str(view.generation)),
        ("revision", f"{view.revision}, version {spec.version}"),
        ("port", str(spec.listener_port)),
        ("module_sha256", spec.module_hash),
        *[(f"replica {slot}", why) for slot, why in view.waiting.items()],
    ]
    head = ("SLOT", "INSTANCE", "CELL", "STATE", "FOR", "SESSIONS", "AGE")
    rows = [_row(instance) for instance in view.instances]
    instances = table(head, rows, terminal, "r    rr", spare=("AGE", "FOR")) if rows else "No instance now.\n"
    return f"{facts(about, terminal)}\n{instances}"


def _row(instance: InstanceView) -> list[str]:
    state = instance.state if instance.connected or instance.state != "active" else "active, cell silent"
    return [
        str(instance.slot),
        instance.instance_id,
        instance.cell_id,
        with_code(state, instance.code),
        instance.why,
        str(instance.sessions),
        age_text(time.time() - instance.created_at),
    ]
