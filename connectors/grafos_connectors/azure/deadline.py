"""The cloud's own end of a machine: a schedule that deallocates it, whatever becomes of the cell and of us.

Microsoft.DevTestLab's schedules know a time of day and no date: one fires when that time comes next, and then every
day. So a deadline may be at most ``DEADLINE_MAX_S`` away when it is set; for one that is farther it would fire too
early. One that is nearer than ``DEADLINE_MIN_S`` is set that late: a minute that passed while the call was on its way
would come again only after a day. Sources: the REST reference of DevTest Labs, "Global Schedules".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from grafos_connectors.azure import tags
from grafos_connectors.azure.shapes import DEADLINE_MAX_S, DEADLINE_MIN_S
from grafos_connectors.contract import CloudError, Desired

MINUTE_S = 60


def deadline_body(desired: Desired, now: float) -> dict[str, Any]:
    """The whole schedule, as its PUT asks for it."""
    properties = {
        "status": "Enabled",
        "taskType": "ComputeVmShutdownTask",
        "timeZoneId": "UTC",
        "notificationSettings": {"status": "Disabled"},
        "targetResourceId": desired.needs["machine"],
        **_recurrence(desired, now),
    }
    return {"location": desired.region, "tags": tags.of(desired), "properties": properties}


def moved_body(there: Mapping[str, Any], desired: Desired, now: float) -> dict[str, Any]:
    """The same schedule with the tags and the moment of ``desired``. A PATCH would change the tags alone."""
    properties = there.get("properties") or {}
    kept = ("taskType", "timeZoneId", "notificationSettings", "targetResourceId")
    return {
        "location": there["location"],
        "tags": tags.renewed(there.get("tags"), desired),
        "properties": {
            **{name: properties[name] for name in kept if properties.get(name)},
            "status": "Enabled",
            **_recurrence(desired, now),
        },
    }


def time_of_day(ends_at: float, now: float) -> str:
    """When the schedule fires, as ``HHMM`` in UTC: the whole minute at or after ``ends_at``, never one that passed."""
    moment = max(ends_at, now + DEADLINE_MIN_S)
    return datetime.fromtimestamp(math.ceil(moment / MINUTE_S) * MINUTE_S, UTC).strftime("%H%M")


def _recurrence(desired: Desired, now: float) -> dict[str, Any]:
    ends_at = int(desired.inputs["ends_at"])
    if ends_at - now > DEADLINE_MAX_S:
        raise CloudError(
            "cloud_invalid",
            f"Azure can end a machine by itself within {DEADLINE_MAX_S // 3600} hours, not later.",
            where=f"azure {desired.region}",
            why="its schedule is a time of day, and would end the machine a day too early",
            next="Ask for a shorter life, and extend it before it ends.",
        )
    return {"dailyRecurrence": {"time": time_of_day(ends_at, now)}}
