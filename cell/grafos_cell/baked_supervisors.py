"""The supervisors of machines with a baked image that have a port: of a standalone cell, and of an orchestrator.

They are the programs that a stock machine runs, under an account without rights: the machine's timer is root's, who
moves it when it is asked (``moving_end``), and ends the machine by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grafos_cell import orchestrating, standalone
from grafos_cell.baked import CLAIM_FILE, Serves, Told, folder_of
from grafos_cell.moving_end import ENDS
from grafos_core.errors import GrafosError
from grafos_core.machine_files import END_FILE, END_WANTED_FILE


def supervise(told: Told, serves: Serves, state: Path, addresses: Sequence[str]) -> None:
    """Becomes the supervisor; returns after SIGTERM."""
    program = orchestrating.main if serves.pattern == "orchestrator" else standalone.main
    program(arguments(told, serves, state, addresses))


def arguments(told: Told, serves: Serves, state: Path, addresses: Sequence[str]) -> list[str]:
    """The supervisor's command line. ``addresses``: the one to bind to, then more by which the machine is dialled."""
    if not addresses:
        raise GrafosError("config_invalid", "nobody told the machine an address of its own", where=told.cell_id)
    local, *others = addresses
    asking = folder_of("RUNTIME_DIRECTORY")
    given: dict[str, object] = {
        "state": state,
        "bind": f"{local}:{serves.port}",
        "fabric": serves.fabric,
        "cell-id": told.cell_id,
        "region": told.region,
        "claim-secret-file": state / CLAIM_FILE,
        "expires-at": told.expires_at,
        "ends-at-most": serves.ends_at_most,
        "end-asked": asking / END_WANTED_FILE,
        "end-told": asking.parent / ENDS / END_FILE,
    }
    if serves.pattern == "orchestrator":
        given |= {"healthy-after-s": serves.healthy_after_s, "heartbeat-every-s": serves.heartbeat_every_s}
    else:
        given |= {"provider": told.provider, "mem-capacity": serves.mem_capacity}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return words + [word for name in dict.fromkeys((*serves.names, *others)) for word in ("--name", name)]
