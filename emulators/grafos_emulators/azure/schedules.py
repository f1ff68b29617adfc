"""Shutdown schedules (Microsoft.DevTestLab): once a day, at a time of a time zone, a machine is deallocated.

Deallocated, not deleted: the machine's disk and its public address bill on. There is no SDK package for this kind in
use; what a body may hold is written down here, after the REST reference of DevTest Labs, "Global Schedules".
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.kind import Ask, Kind
from grafos_emulators.azure.operations import Operation, timestamp
from grafos_emulators.azure.references import referenced
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import SCHEDULE, VIRTUAL_MACHINE
from grafos_emulators.faults import Fault

TASK = "ComputeVmShutdownTask"
NAME_PREFIX = "shutdown-computevm-"
_FIELDS = {
    "status",
    "taskType",
    "dailyRecurrence",
    "weeklyRecurrence",
    "hourlyRecurrence",
    "timeZoneId",
    "notificationSettings",
    "targetResourceId",
    "createdDate",
    "provisioningState",
    "uniqueIdentifier",
}
_TOP = {"location", "tags", "properties", "id", "name", "type"}
# Windows' names of time zones, which DevTest Labs demands, and what they are elsewhere. The common ones only.
_ZONES = {
    "UTC": "UTC",
    "GMT Standard Time": "Europe/London",
    "W. Europe Standard Time": "Europe/Berlin",
    "Romance Standard Time": "Europe/Paris",
    "Eastern Standard Time": "America/New_York",
    "Pacific Standard Time": "America/Los_Angeles",
}
_TIME = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9])")


class Schedules(Kind):
    type: ClassVar[str] = SCHEDULE
    model: ClassVar[str] = ""

    def __init__(self, account: AzureAccount, deallocate: Callable[[Resource], None]) -> None:
        super().__init__(account)
        self._deallocate = deallocate

    def accept(self, ask: Ask) -> dict[str, Any]:
        _check_fields(ask.body, _TOP, "")
        properties = dict(ask.body.get("properties") or {})
        _check_properties(properties)
        target = str(properties.get("targetResourceId") or "")
        machine = referenced(self.account, target, VIRTUAL_MACHINE, ask.call.place.id, ask.location)
        if ask.call.place.name.lower() != f"{NAME_PREFIX}{machine.name}".lower():
            raise ArmError(
                400,
                "InvalidScheduleName",
                f"A schedule that shuts a machine down is called '{NAME_PREFIX}' and the machine's name, not "
                f"'{ask.call.place.name}'.",
            )
        return {
            **ask.body,
            "properties": {"status": "Enabled", "notificationSettings": {"status": "Disabled"}, **properties},
        }

    def begin_make(self, resource: Resource, operation: Operation, fault: Fault | None) -> None:  # noqa: ARG002
        """Done at once: DevTest Labs makes schedules without a long-running operation."""
        self.settle(resource, operation)
        self.account.operations.succeed(operation)

    def settle(self, resource: Resource, operation: Operation) -> None:
        super().settle(resource, operation)
        self._arm(resource)

    def begin_remove(self, resource: Resource, done: Callable[[], None]) -> None:  # noqa: ARG002  at once, too
        done()

    def patch(self, resource: Resource, body: dict[str, Any]) -> None:
        _check_fields(body, {"tags", "properties"}, "")
        properties = {**resource.properties, **(body.get("properties") or {})}
        _check_properties(properties)
        if properties["targetResourceId"].lower() != resource.properties["targetResourceId"].lower():
            raise ArmError(409, "PropertyChangeNotAllowed", "Changing property 'targetResourceId' is not allowed.")
        resource.body["properties"] = properties
        self._arm(resource)

    def view(self, resource: Resource) -> dict[str, Any]:
        properties = {
            **resource.properties,
            "createdDate": timestamp(resource.made_at),
            "uniqueIdentifier": resource.guid,
        }
        return {**resource.body, "properties": properties}

    def shown_state(self, resource: Resource) -> str:
        return str(resource.properties["status"])

    def _arm(self, schedule: Resource) -> None:
        """Waits for the next time of day; a schedule that was changed or removed meanwhile lets the old one pass."""
        turn = schedule.runtime["turn"] = schedule.runtime.get("turn", 0) + 1
        clock = self.account.world.clock
        due = next_time(clock.now(), schedule.properties["dailyRecurrence"]["time"], schedule.properties["timeZoneId"])

        def come_due() -> None:
            there = self.account.store.get(schedule.id) is schedule
            if not there or schedule.runtime["turn"] != turn:
                return
            machine = self.account.store.get(schedule.properties["targetResourceId"])
            if schedule.properties["status"].lower() == "enabled" and machine is not None:
                self._deallocate(machine)
            self._arm(schedule)

        self.account.world.at(clock.monotonic() + (due - clock.now()), come_due)


def next_time(now: float, time: str, zone_id: str) -> float:
    """Unix seconds of the next ``HHMM`` in the zone, after ``now``."""
    zone = zoneinfo.ZoneInfo(_ZONES[zone_id]) if zone_id != "UTC" else UTC
    here = datetime.fromtimestamp(now, zone)
    due = here.replace(hour=int(time[:2]), minute=int(time[2:]), second=0, microsecond=0)
    return (due if due > here else due + timedelta(days=1)).timestamp()


def _check_properties(properties: dict[str, Any]) -> None:
    _check_fields(properties, _FIELDS, "properties.")
    if str(properties.get("taskType")) != TASK:
        raise _invalid("taskType", f"only {TASK} is emulated")
    if str(properties.get("status", "Enabled")).lower() not in {"enabled", "disabled"}:
        raise _invalid("status", "Enabled or Disabled")
    time = (properties.get("dailyRecurrence") or {}).get("time")
    if not isinstance(time, str) or not _TIME.fullmatch(time):
        raise _invalid("dailyRecurrence.time", "four digits, hours and minutes")
    if properties.get("timeZoneId") not in _ZONES:
        raise _invalid("timeZoneId", f"Windows' name of a time zone; the emulator knows {', '.join(sorted(_ZONES))}")


def _check_fields(document: dict[str, Any], known: set[str], where: str) -> None:
    for name in document:
        if name not in known:
            raise ArmError(
                400,
                "InvalidRequestContent",
                "The request content was invalid and could not be deserialized: "
                f"'Could not find member '{name}' on object of type 'Schedule'. Path '{where}{name}''.",
                target=f"{where}{name}",
            )


def _invalid(field: str, wanted: str) -> ArmError:
    return ArmError(400, "InvalidParameter", f"The value of parameter '{field}' is invalid: {wanted}.", target=field)
