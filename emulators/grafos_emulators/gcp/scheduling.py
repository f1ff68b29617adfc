"""How long an instance may run, whether it may be preempted, and what becomes of it then.

Source: "Limit the run time of a VM" and "Spot VMs" in Compute Engine's documentation, and the discovery document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grafos_emulators.gcp.catalog import MachineType
from grafos_emulators.gcp.errors import bad_request, invalid
from grafos_emulators.gcp.times import unix_s

SHORTEST_RUN_S, LONGEST_RUN_S = 30, 120 * 24 * 3600
PREEMPTION_GRACE_S = 30.0  # from the notice until the machine is ended
DELETE, STOP = "DELETE", "STOP"
_WHERE = "resource.scheduling"


@dataclass(frozen=True)
class Scheduling:
    """What an instance asked for. ``ends_at`` is unix seconds; ``run_s`` counts from each start."""

    shown: Mapping[str, Any]
    spot: bool
    action: str
    ends_at: float | None
    run_s: float | None
    notice_s: float

    @property
    def deletes(self) -> bool:
        return self.action == DELETE


def means_spot(asked: Mapping[str, Any]) -> bool:
    """Whether a machine with such a ``scheduling`` is one that Compute Engine may take back."""
    return asked.get("provisioningModel") == "SPOT" or bool(asked.get("preemptible"))


def parse(asked: Mapping[str, Any], machine_type: MachineType, now: float) -> Scheduling:
    """Reads ``scheduling``; refuses what contradicts itself as Compute Engine does. ``now`` is unix seconds."""
    spot = means_spot(asked)
    ends_at = unix_s(asked["terminationTime"], f"{_WHERE}.terminationTime") if asked.get("terminationTime") else None
    run_s = _seconds(asked["maxRunDuration"]) if asked.get("maxRunDuration") else None
    action = asked.get("instanceTerminationAction", "")
    _check_limits(ends_at, run_s, now)
    if action and not (spot or ends_at or run_s):
        raise bad_request(
            "Instance termination action may only be specified for Spot VMs or VMs with a limited run time.", "invalid"
        )
    stays = not spot and not machine_type.gpu
    shown = {
        "automaticRestart": not spot,
        "onHostMaintenance": "MIGRATE" if stays else "TERMINATE",
        "preemptible": spot,
        "provisioningModel": "SPOT" if spot else "STANDARD",
        **{name: value for name, value in asked.items() if value is not None},
    }
    if spot or ends_at or run_s:
        shown["instanceTerminationAction"] = action or STOP
    _check_host_maintenance(shown, machine_type, spot=spot)
    notice_s = _seconds(asked["preemptionNoticeDuration"]) if asked.get("preemptionNoticeDuration") else 0.0
    return Scheduling(shown, spot, str(shown.get("instanceTerminationAction", STOP)), ends_at, run_s, notice_s)


def _check_limits(ends_at: float | None, run_s: float | None, now: float) -> None:
    if ends_at is not None and run_s is not None:
        raise bad_request("Only one of maxRunDuration and terminationTime may be specified.", "invalid")
    name = "terminationTime" if ends_at is not None else "maxRunDuration"
    lasts_s = ends_at - now if ends_at is not None else run_s
    if lasts_s is not None and not SHORTEST_RUN_S <= lasts_s <= LONGEST_RUN_S:
        raise invalid(f"{_WHERE}.{name}", f"{lasts_s:.0f} s from now", "Must be from 30 seconds to 120 days.")


def _check_host_maintenance(shown: Mapping[str, Any], machine_type: MachineType, *, spot: bool) -> None:
    if machine_type.gpu and shown["onHostMaintenance"] != "TERMINATE":
        raise bad_request("Instances with guest accelerators do not support live migration.", "invalid")
    if spot and (shown["onHostMaintenance"] != "TERMINATE" or shown["automaticRestart"]):
        raise bad_request(
            "Scheduling must have onHostMaintenance TERMINATE and automaticRestart false for Spot VMs.", "invalid"
        )


def _seconds(duration: Mapping[str, Any]) -> float:
    return int(duration.get("seconds", 0)) + int(duration.get("nanos", 0)) / 1e9
