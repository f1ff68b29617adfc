"""The bodies of what an operator tells the machine of an orchestrator that grafos made."""

from __future__ import annotations

import msgspec

from grafos_scheduler.messages import Hex256, UnixTime

BACKUP_DRAFT = "backup-"
"""What begins the name of a file or folder of a backup that is being made, beside the rows."""
BACKUP_BYTES_MAX = 512 * 1024 * 1024
"""A hundred thousand runs with their artifacts; beyond that the folders are copied with the orchestrator stopped."""
BACKUP_S_MAX = 1800.0
"""For a backup over a slow line."""


class MachineOrders(msgspec.Struct, frozen=True):
    """``PUT /api/v1/admin/machine``: what is given is ordered, the rest stays. ``ends_at`` (Unix seconds) is when the
    machine switches itself off; ``software_sha256`` a bundle that was stored here, to run from now on."""

    ends_at: UnixTime = 0.0
    software_sha256: Hex256 | None = None


class MachineView(msgspec.Struct, frozen=True):
    """``ends_at`` is where the machine's timer stands (0: unknown). ``software_sha256`` is what runs, and ``refused``
    the bundle that was tried last and given up, with ``why``; empty for none."""

    ends_at: float
    software_sha256: str
    refused: str = ""
    why: str = ""


class RestoreTaken(msgspec.Struct, frozen=True):
    """``PUT /api/v1/admin/backup``: the machine's supervisor puts it in place and starts the orchestrator anew."""

    size_bytes: int
