"""`.grafos/dev/dev.json`: what runs on this machine for this project, and how it is reached.

.grafos/dev/dev.json     this record
.grafos/dev/trust/       the cell's CA, the server's certificate, the tenant's certificate, key and token
.grafos/dev/state/       the durable state of scheduler and cell
.grafos/dev/*.log        what the two daemons said; kept after `dev down`
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from grafos_cli.daemons import Daemon
from grafos_cli.project import state_folder
from grafos_core.errors import GrafosError
from grafos_core.paths import write_private

STATE_SCHEMA = 1
STATE_NAME = "dev.json"
TENANT = "dev-tenant"


class LocalFabric(msgspec.Struct, frozen=True):
    """The record. ``ready`` is false until the first `dev up` has made the cell ours: then its state is worth keeping.
    ``ending``: a `dev down` has closed admission. The three files are the tenant's credentials."""

    fabric: str
    cell_id: str
    scheduler_url: str
    mem_capacity_bytes: int
    started_at: float
    daemons: list[Daemon]
    ready: bool = False
    ending: bool = False
    tenant: str = TENANT
    tenant_certificate: str = ""
    tenant_key: str = ""
    tenant_token: str = ""
    schema_version: int = STATE_SCHEMA

    @property
    def is_alive(self) -> bool:
        """Whether every daemon runs."""
        return all(daemon.is_alive for daemon in self.daemons)


def dev_folder(project: Path) -> Path:
    """The project's `.grafos/dev`."""
    return state_folder(project, "dev")


def read_local_fabric(project: Path) -> LocalFabric | None:
    """The record, or None; ``dev_state_invalid`` for a file that is none."""
    path = project / ".grafos" / "dev" / STATE_NAME
    try:
        record = msgspec.json.decode(path.read_bytes(), type=LocalFabric)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _invalid(path, str(error)) from error
    if record.schema_version > STATE_SCHEMA:
        raise GrafosError("schema_newer", "The local fabric was started by a newer grafos", where=str(path))
    if not record.daemons or any(daemon.pid <= 1 for daemon in record.daemons):
        raise _invalid(path, "it names no processes")
    return record


def write_local_fabric(project: Path, record: LocalFabric) -> None:
    """Replaces the record."""
    write_private(dev_folder(project) / STATE_NAME, msgspec.json.format(msgspec.json.encode(record), indent=1))


def forget_local_fabric(project: Path) -> None:
    """Removes the record; all else stays."""
    (dev_folder(project) / STATE_NAME).unlink(missing_ok=True)


@contextlib.contextmanager
def only_one(project: Path) -> Iterator[None]:
    """Two `dev up` or `dev down` of one project wait for each other; the lock dies with its process."""
    handle = os.open(dev_folder(project) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _invalid(path: Path, why: str) -> GrafosError:
    return GrafosError(
        "dev_state_invalid",
        "The local fabric's record cannot be read",
        where=str(path),
        why=why,
        next="grafos dev down  (it ends what still runs and sets the file aside), then grafos dev up",
    )
