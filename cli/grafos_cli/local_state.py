"""`.grafos/dev/dev.json`: what runs on this machine for this project, and how it is reached.

.grafos/dev/dev.json     this record
.grafos/dev/trust/       the cell's CA, the server's certificate, the tenant's certificate, key and token
.grafos/dev/state/       the durable state of scheduler and cell
.grafos/dev/*.log        what the two daemons and the helper said; kept after `dev down`
.grafos/dev/bearer       what the "Run locally" helper wants to be shown; a new one at every `dev up` that starts it
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from grafos_cli.daemons import Daemon
from grafos_cli.project import state_folder
from grafos_core.errors import GrafosError
from grafos_core.paths import locked, write_private

STATE_SCHEMA = 1
STATE_NAME = "dev.json"
BEARER_NAME = "bearer"
TENANT = "dev-tenant"
UNWRITABLE = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
"""What the system says of a folder that cannot be written, for whatever reason."""


class LocalFabric(msgspec.Struct, frozen=True):
    """The record. ``ready`` is false until the first `dev up` has made the cell ours: then its state is worth keeping.
    ``ending``: a `dev down` has closed admission. The three files are the tenant's credentials. ``folder`` is where the
    record was when the daemons started. The helper is no part of the fabric, runs go on without it; ``origins`` are the
    web pages beside its own that it lets in."""

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
    folder: str = ""
    helper: Daemon | None = None
    helper_url: str = ""
    origins: list[str] = []
    schema_version: int = STATE_SCHEMA

    @property
    def is_alive(self) -> bool:
        """Whether both daemons run."""
        return all(daemon.is_alive for daemon in self.daemons)

    @property
    def processes(self) -> list[Daemon]:
        """All that `dev up` started."""
        return [*self.daemons, *([self.helper] if self.helper else [])]


def dev_folder(project: Path) -> Path:
    """The project's `.grafos/dev`."""
    return state_folder(project, "dev")


def read_local_fabric(project: Path) -> LocalFabric | None:
    """The record, or None; ``dev_state_invalid`` for a file that is none."""
    path = project / ".grafos" / "dev" / STATE_NAME
    try:
        record = msgspec.json.decode(path.read_bytes(), type=LocalFabric)
    except (FileNotFoundError, NotADirectoryError):
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


def only_one(project: Path, announce: Callable[[str], object]) -> AbstractContextManager[None]:
    """Two `dev up` or `dev down` of one project wait for each other, and say so."""
    waiting = "another grafos dev is at work in this project; waiting for it"
    return locked(dev_folder(project) / "lock", lambda: announce(waiting))


@contextlib.contextmanager
def writing(project: Path) -> Iterator[None]:
    """Inside, a file of the local fabric that cannot be written is ``config_invalid``."""
    folder = project / ".grafos"
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE or not str(error.filename or "").startswith(str(folder)):
            raise
        raise GrafosError(
            "config_invalid",
            "The local fabric's folder cannot be written",
            where=str(error.filename),
            why=error.strerror or "",
            next="make room there, or move away what stands in the way; or run it in a folder that you may write to",
        ) from error


def _invalid(path: Path, why: str) -> GrafosError:
    return GrafosError(
        "dev_state_invalid",
        "The local fabric's record cannot be read",
        where=str(path),
        why=why,
        next="grafos dev down  (it ends what still runs and sets the file aside), then grafos dev up",
    )
