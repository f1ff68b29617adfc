"""What befalls a machine after it ran: an eviction with its notice, or a death without one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.machine_life import MachineLife
from grafos_emulators.azure.quotas import is_spot
from grafos_emulators.azure.store import Resource
from grafos_emulators.faults import Effect, Fault

NOTICE_S = 30.0  # Azure promises at least this between the notice and the eviction
_HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"


@dataclass(frozen=True)
class ScheduledEvent:
    """One event of the metadata service's ``scheduledevents``; ``not_before`` is unix seconds."""

    event_id: str
    not_before: float
    machine: str

    def document(self) -> dict[str, Any]:
        return {
            "EventId": self.event_id,
            "EventType": "Preempt",
            "ResourceType": "VirtualMachine",
            "Resources": [self.machine],
            "EventStatus": "Scheduled",
            "NotBefore": datetime.fromtimestamp(self.not_before, UTC).strftime(_HTTP_DATE),
            "Description": "Virtual machine is being deallocated because of capacity.",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        }


class Mishaps:
    """``remove`` removes a machine as its owner's delete would. Called with the world's lock held."""

    def __init__(self, account: AzureAccount, life: MachineLife, remove: Callable[[Resource], None]) -> None:
        self._account, self._life, self._remove = account, life, remove
        self._events: dict[str, ScheduledEvent] = {}
        self._incarnations: dict[str, int] = {}

    def befall(self, machine: Resource, fault: Fault | None) -> None:
        """The machine runs; what the fault plan holds for it comes in its time."""
        if fault is None:
            return
        if fault.effect is Effect.LAUNCH_THEN_DIE:
            self._after(fault.after_s, lambda: self._die(machine))
        if fault.effect is Effect.SPOT_NOTICE and is_spot(machine):
            self._after(fault.after_s, lambda: self._give_notice(machine))

    def events(self, machine: Resource) -> dict[str, Any]:
        """What the metadata service tells of the machine's events."""
        event = self._events.get(machine.runtime["vm_id"])
        incarnation = self._incarnations.get(machine.runtime["vm_id"], 1)
        return {"DocumentIncarnation": incarnation, "Events": [event.document()] if event else []}

    def forget(self, machine: Resource) -> None:
        self._events.pop(machine.runtime["vm_id"], None)

    def _die(self, machine: Resource) -> None:
        """The host fails: the machine is down, and billed on, until somebody looks after it."""
        if self._is_there(machine):
            self._life.stop(machine, deallocate=False, reason="crash")

    def _give_notice(self, machine: Resource) -> None:
        if not self._is_there(machine) or self._life.power_of(machine) != "running":
            return
        vm_id = machine.runtime["vm_id"]
        not_before = self._account.world.clock.now() + NOTICE_S
        self._events[vm_id] = ScheduledEvent(str(uuid.uuid4()).upper(), not_before, machine.name)
        self._incarnations[vm_id] = self._incarnations.get(vm_id, 1) + 1
        self._account.world.give_notice(vm_id, not_before)
        self._after(NOTICE_S, lambda: self._evict(machine))

    def _evict(self, machine: Resource) -> None:
        """Deallocates or deletes, as the machine's eviction policy says."""
        self.forget(machine)
        if not self._is_there(machine):
            return
        if str(machine.properties.get("evictionPolicy")).lower() == "delete":
            self._remove(machine)
        else:
            self._life.stop(machine, deallocate=True, reason="evicted")

    def _is_there(self, machine: Resource) -> bool:
        return self._account.store.get(machine.id) is machine and machine.state != "Deleting"

    def _after(self, lasts_s: float, act: Callable[[], None]) -> None:
        self._account.world.at(self._account.world.clock.monotonic() + lasts_s, act)
