"""What is kept of a cell: its home in the fabric, and its line in the project's record.

    <fabric>/cells/<cell_id>/   cell.json       what the cell is, and where it answers
                                ca.pem          the cell's CA, pinned at the claim; receipts are checked by it for ever
                                operator-*      key, request, certificate and token of the operator there
                                tenant-<name>-* the same of a tenant
                                teardown.json   the signed receipt of its end
    .grafos/cloud/aws-cells.json    the cells that this project uses, without any secret

A request is written before it is sent, so a claim or a registration whose answer was lost is repeated with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.paths import locked, private_folder, project_home, write_private
from grafos_core.receipts import Signed
from grafos_scheduler.client import SchedulerClient

SCHEMA_VERSION = 1
OPERATOR = "operator"
MAKING, BOOTED, READY = "making", "booted", "ready"
"""How far a cell came: a registered one booted, a standalone one is ready when its scheduler obeys us."""
_PEM_END = "-----END CERTIFICATE-----\n"

Client = TypeVar("Client", bound=SchedulerClient)


def kept(file: Path, data: bytes) -> None:
    """Writes a private file; ``store_failed`` when the disk does not take it."""
    try:
        write_private(file, data)
    except OSError as error:
        raise GrafosError(
            "store_failed",
            f"{file.name} could not be written",
            where=str(file),
            why=str(error),
            next="make room on the disk, then the same command again: it goes on",
        ) from error


class CellRecord(msgspec.Struct, frozen=True):
    """A cell as it was provisioned. Times are Unix seconds; ``gone_at`` is 0 while it lives.

    ``state`` is how far it came; only a ``ready`` cell can be asked to run anything. ``url`` is empty for a registered
    cell, which nobody can dial.
    """

    cell_id: str
    fabric: str
    provider: str
    region: str
    url: str
    rate_micro_cents_per_hour: int
    expires_at: float
    provisioned_at: float
    machine_type: str = ""
    machine_id: str = ""
    zone: str = ""
    emulated: bool = False
    operator: str = OPERATOR
    tenant: str = "default"
    gone_at: float = 0.0
    pattern: str = "standalone"
    state: str = READY
    schema_version: int = SCHEMA_VERSION


class CellList(msgspec.Struct, frozen=True):
    """The project's record of one provider's cells."""

    cells: list[CellRecord]
    schema_version: int = SCHEMA_VERSION


class SchedulerHome:
    """Who we are at one scheduler: a folder with the CA that was pinned at its claim, and what it granted."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name

    def request_for(self, who: str) -> str:
        """The certificate request (PEM) of ``operator`` or ``tenant-<name>``; made once, with its key."""
        key_file, csr_file = self._file(who, "key.pem"), self._file(who, "csr.pem")
        if not key_file.exists():
            kept(key_file, trust.key_to_pem(trust.new_key()))
        if not csr_file.exists():
            kept(csr_file, trust.make_csr(trust.key_from_pem(key_file.read_bytes()), who).encode())
        return csr_file.read_text()

    def keep_grant(self, who: str, certificate_pem: str, api_token: str) -> None:
        """Keeps what was granted for the request; the token last, since its presence says that all is there."""
        kept(self._file(who, "cert.pem"), certificate_pem.encode())
        kept(self._file(who, "token"), api_token.encode())

    def is_granted(self, who: str) -> bool:
        """Whether credentials are there."""
        return self._file(who, "token").exists() and self.ca_file.exists()

    def check_granted(self, who: str) -> None:
        """``credentials_missing`` if nothing was granted."""
        if not self.is_granted(who):
            raise GrafosError("credentials_missing", f"there are no credentials of {who} for {self.name}")

    def open_client(self, kind: type[Client], who: str, url: str, patience_s: float = 0.0) -> Client:
        """A way to the scheduler at ``url`` as that person, who was granted it."""
        return kind(
            url,
            self.newest_ca_pem,
            self._file(who, "cert.pem"),
            self._file(who, "key.pem"),
            self._file(who, "token").read_text().strip(),
            patience_s=patience_s,
        )

    @property
    def ca_file(self) -> Path:
        """The pinned CA."""
        return self.folder / "ca.pem"

    @property
    def ca_pem(self) -> str:
        """Every CA that was ever pinned under this name, the newest first."""
        return self.ca_file.read_text()

    @property
    def newest_ca_pem(self) -> str:
        """The CA of whom to talk to; an earlier one of the name is nobody any more."""
        return self.ca_pem.partition(_PEM_END)[0] + _PEM_END

    def pin_ca(self, ca_pem: str) -> None:
        """Pins a CA; earlier ones stay below it, since receipts under them are still verified."""
        before = self.ca_pem if self.ca_file.exists() else ""
        if not before.startswith(ca_pem):
            kept(self.ca_file, (ca_pem + before.replace(ca_pem, "")).encode())

    def _file(self, who: str, what: str) -> Path:
        return self.folder / f"{who}-{what}"


class CellHome(SchedulerHome):
    """A cell's folder in the fabric's home."""

    def __init__(self, fabric: Fabric, cell_id: str) -> None:
        super().__init__(fabric.cell_home(cell_id), cell_id)
        self.cell_id = cell_id

    def client(self, who: str, url: str = "", *, patience_s: float = 0.0) -> SchedulerClient:
        """A way to the cell's scheduler as that person; ``credentials_missing`` if nothing was granted."""
        self.check_granted(who)
        return self.open_client(SchedulerClient, who, url or self.record().url, patience_s)

    # --- what it is ---------------------------------------------------------------------------------------------

    def record(self) -> CellRecord:
        """What the cell is, or ``cell_unknown``."""
        try:
            return msgspec.json.decode((self.folder / "cell.json").read_bytes(), type=CellRecord)
        except FileNotFoundError as error:
            raise GrafosError(
                "cell_unknown", f"there is no record of cell {self.cell_id!r}", next="grafos cloud ls"
            ) from error
        except (OSError, msgspec.DecodeError) as error:
            where = str(self.folder / "cell.json")
            raise GrafosError(
                "fabric_invalid", "a cell's record cannot be read", where=where, why=str(error)
            ) from error

    @property
    def is_recorded(self) -> bool:
        """Whether there is a record of what it is."""
        return (self.folder / "cell.json").exists()

    def region(self) -> str:
        """The recorded region, "" without a record."""
        return self.record().region if self.is_recorded else ""

    def keep_record(self, record: CellRecord) -> None:
        """Writes what the cell is."""
        kept(self.folder / "cell.json", _json(record))

    # --- its end ------------------------------------------------------------------------------------------------

    def keep_receipt(self, receipt: Signed) -> None:
        """Keeps the teardown receipt."""
        kept(self.folder / "teardown.json", _json(receipt))

    def receipt(self) -> Signed | None:
        """The receipt of the cell's end, None while it lives."""
        path = self.folder / "teardown.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Signed) if path.exists() else None
        except msgspec.DecodeError as error:
            raise GrafosError("fabric_invalid", "a teardown receipt cannot be read", where=str(path)) from error

    def forget_credentials(self) -> None:
        """Removes keys and tokens; the pinned CAs, the record and the receipt stay."""
        for path in self.folder.iterdir():
            if path.name not in ("ca.pem", "cell.json", "teardown.json"):
                path.unlink()

    def begin_anew(self) -> None:
        """For a new cell of the name: nothing of the earlier one stays but its pinned CAs."""
        self.forget_credentials()
        for name in ("cell.json", "teardown.json"):
            (self.folder / name).unlink(missing_ok=True)


def tenant_name(tenant: str) -> str:
    """How a tenant's files are called in a cell's home."""
    return f"tenant-{tenant}"


# --- the project's record ---------------------------------------------------------------------------------------


def project_cells(project: Path, provider: str) -> list[CellRecord]:
    """The cells of a provider that this project uses."""
    path = _project_file(project, provider)
    try:
        return msgspec.json.decode(path.read_bytes(), type=CellList).cells
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise GrafosError(
            "config_invalid",
            "the project's record of cells cannot be read",
            where=str(path),
            why=str(error),
            next="move the file away; the cells themselves are known to the fabric, and teardown needs no record",
        ) from error


def add_to_project(project: Path, record: CellRecord) -> None:
    """Puts a cell into the project's record, or replaces its line."""
    with _changing(project, record.provider) as path:
        others = [cell for cell in project_cells(project, record.provider) if cell.cell_id != record.cell_id]
        kept(path, _json(CellList([*others, record])))


def drop_from_project(project: Path, provider: str, cell_id: str) -> None:
    """Takes a cell that is gone out of the project's record."""
    if not _project_file(project, provider).exists():
        return
    with _changing(project, provider) as path:
        others = [cell for cell in project_cells(project, provider) if cell.cell_id != cell_id]
        kept(path, _json(CellList(others)))


def _project_file(project: Path, provider: str) -> Path:
    return project / ".grafos" / "cloud" / f"{provider}-cells.json"


@contextlib.contextmanager
def _changing(project: Path, provider: str) -> Iterator[Path]:
    """The file, with no other process changing it meanwhile."""
    folder = private_folder(project_home(project) / "cloud")
    with locked(folder / f".{provider}-cells.lock"):
        yield _project_file(project, provider)


def _json(record: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
