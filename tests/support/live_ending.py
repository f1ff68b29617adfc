"""The end of a live run: cell and orchestrator are torn down with proof, the account swept, every region listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from live_clearing import clear, left
from live_commands import Commands
from live_place import CLEARED_WITHIN_S, RunInfo
from live_plan import CELL, ORCHESTRATOR
from live_plants import planted, uproot

from grafos_core.errors import GrafosError

Step = Callable[[str, Callable[[], object]], None]
"""Does what it is given under a name, and notes how it went."""


def end(info: RunInfo, commands: Commands, step: Step) -> list[str]:
    """Takes down all that the run made, each way after the other, whatever fails; gives what is left, in words."""
    failures: list[str] = []
    for name, act in (
        ("teardown", lambda: _teardown(info, commands)),
        ("orchestrator's end", lambda: _lower(info, commands)),
        ("sweep", lambda: _sweep(info, commands)),
        ("clearing", lambda: _clear(info)),
    ):
        try:
            step(name, act)
        except GrafosError as error:
            failures.append(f"{name}: {error}")
    found: list[str] = []
    step("listing", lambda: found.extend(_listing(info)))
    return [*found, *(failures if found else [])]


def _teardown(info: RunInfo, commands: Commands) -> None:
    """All cells of the run's fabric; their signed receipts are kept beside the recordings."""
    prove = () if commands.needs_orchestrator else ("--prove",)  # with one the proof comes after its end
    document = commands.asked("cloud", "teardown", info.cloud, "--all", *prove, "--yes")
    kept = Path(info.record_to).with_name("receipts.json")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(document, indent=1) + "\n")
    if document.get("failures"):
        raise GrafosError.from_wire(document["failures"][0])
    info.meter.end(CELL, sum(int(receipt["cost_micro_cents"]) for receipt in document["receipts"]))


def _lower(info: RunInfo, commands: Commands) -> None:
    """The orchestrator, if the run came so far; one that does not answer is given up, its machine is not."""
    for more in ((), ("--lost",)):
        try:
            receipt = commands.asked("fabric", "down", "--force", "--prove", "--yes", *more)["receipt"]
        except GrafosError as error:
            if error.code == "not_found":
                return
            if error.code != "scheduler_unreachable" or more:
                raise
        else:
            info.meter.end(ORCHESTRATOR, int(receipt["cost_micro_cents"]) if receipt else 0)
            return


def _sweep(info: RunInfo, commands: Commands) -> None:
    document = commands.asked("cloud", "sweep", "--provider", info.cloud, "--delete", "--yes")
    if condemned := sum(account["condemned"] for account in document["accounts"]):
        raise GrafosError("resources_left", f"{condemned} resources are there after the sweep")


def _clear(info: RunInfo) -> None:
    """What claims made that were stopped in the middle."""
    connector = info.connector()
    if remains := uproot(connector, info.region, info.plants):
        raise GrafosError("resources_left", f"planted things are left: {', '.join(remains)}")
    clear(connector, info.fabrics, (info.region,), CLEARED_WITHIN_S)


def _listing(info: RunInfo) -> list[str]:
    connector = info.connector()
    tagged = [f"{one.ref.kind.value} {one.ref.id} in {one.ref.region}" for one in left(connector, info.fabrics)]
    return tagged + planted(connector, info.region, info.plants)
