"""The rows of the table of routes about an orchestrator as a whole: its backup, and the machine that it runs on."""

from __future__ import annotations

from grafos_scheduler import machine_handlers, machine_messages
from grafos_scheduler.authorize import OPERATOR
from grafos_scheduler.machine_messages import BACKUP_BYTES_MAX, BACKUP_S_MAX
from grafos_scheduler.route import Route, gate
from grafos_scheduler.settings import ORCHESTRATOR

MACHINE_ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/api/v1/admin/backup",
        gate("backup:read", OPERATOR),
        machine_handlers.backup,
        "A backup of the orchestrator: keys, state and what runs under way need. All of it is secret.",
        bytes,
        media_type="application/octet-stream",
        only=ORCHESTRATOR,
    ),
    Route(
        "PUT",
        "/api/v1/admin/backup",
        gate("machine:write", OPERATOR),
        machine_handlers.restore,
        "Fill an orchestrator that nobody uses yet from a backup; it starts anew as the one that the backup is of.",
        machine_messages.RestoreTaken,
        body=bytes,
        body_bytes_max=BACKUP_BYTES_MAX,
        body_s_max=BACKUP_S_MAX,
        only=ORCHESTRATOR,
    ),
    Route(
        "GET",
        "/api/v1/admin/machine",
        gate("machine:write", OPERATOR),
        machine_handlers.show_machine,
        "When the orchestrator's machine ends, and which software it runs.",
        machine_messages.MachineView,
        only=ORCHESTRATOR,
    ),
    Route(
        "PUT",
        "/api/v1/admin/machine",
        gate("machine:write", OPERATOR),
        machine_handlers.order_machine,
        "Move the end of the orchestrator's machine, or have it run another bundle that was stored here.",
        machine_messages.MachineView,
        body=machine_messages.MachineOrders,
        only=ORCHESTRATOR,
    ),
)
