"""What an operator does with an orchestrator as a whole: back it up, fill an empty one, order its machine about."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import events
from grafos_scheduler.handlers import Request, Services, Stream
from grafos_scheduler.machine import Machine
from grafos_scheduler.machine_messages import BACKUP_S_MAX, MachineOrders, MachineView, RestoreTaken


async def backup(services: Services, request: Request) -> Stream:
    """Everything that was acknowledged before is in it."""
    from grafos_scheduler.backup import Backup  # as little as a scheduler needs is imported at its start

    await services.shell.settled()
    runs = services.shell.state.runs_under_way()
    needed = {(run.tenant, sha256) for run in runs for sha256 in (run.request.module_sha256, run.request.input_sha256)}
    who = request.who.text
    await services.shell.handle(events.Witnessed(AuditKind.BACKUP_TAKEN, who, services.settings.scheduler_id), by=who)
    made = await asyncio.to_thread(Backup, services.settings, needed, services.shell.clock.now())
    return Stream(made.size_bytes, made.pieces(), BACKUP_S_MAX)


async def restore(services: Services, request: Request) -> RestoreTaken:
    """Only into an orchestrator that nobody uses: there is no way back from it."""
    from grafos_core.backup_archive import check_backup, refuse_newer

    about = await asyncio.to_thread(check_backup, request.body)
    refuse_newer(about, version("grafos-scheduler"))
    state, machine = services.shell.state, _machine(services)
    if about.fabric != services.settings.fabric:
        raise GrafosError(
            "backup_invalid", f"the backup is of fabric {about.fabric[:40]}", where=services.settings.fabric
        )
    if state.identities or state.tenants or state.fabric_ledger is not None:
        raise GrafosError(
            "request_invalid",
            "this orchestrator has tenants, cells or the ledger, and a backup would take their place",
            next="restore into one that was just started: grafos fabric up --restore FILE",
        )
    machine.check_supervised()
    # What is admitted from here on would be gone with all the rest.
    await services.shell.handle(events.DrainAsked("", draining=True), by=request.who.text)
    await asyncio.to_thread(machine.order_restore, request.body)
    return RestoreTaken(len(request.body))


async def show_machine(services: Services, _: Request) -> MachineView:
    return _machine(services).view()


async def order_machine(services: Services, request: Request) -> MachineView:
    """What is ordered is in the audit log before anybody can follow it."""
    asked: MachineOrders = request.body
    machine, who, name = _machine(services), request.who.text, services.settings.scheduler_id
    machine.check_supervised()
    details: tuple[tuple[str, str | int], ...] = (("ends_at", int(asked.ends_at)),) if asked.ends_at else ()
    if asked.software_sha256:
        services.bundles.size_of(asked.software_sha256)
        details += (("software_sha256", asked.software_sha256),)
    if details:
        await services.shell.handle(events.Witnessed(AuditKind.MACHINE_ORDERED, who, name, details=details), by=who)
    if asked.ends_at:
        machine.order_end(asked.ends_at)
    if asked.software_sha256:
        machine.order_software(asked.software_sha256)
    return machine.view()


def _machine(services: Services) -> Machine:
    return Machine(services.settings.machine_folder)
