"""An orchestrator's orders to the supervisor of its machine, and what that tells: ``machine_files`` in one folder.

The orchestrator has no right to anything but writing them; what they ask for is done by the supervisor.
"""

from __future__ import annotations

from pathlib import Path

from grafos_core.errors import GrafosError
from grafos_core.ids import SHA256_PATTERN
from grafos_core.machine_files import (
    END_FILE,
    END_WANTED_FILE,
    RESTORE_FILE,
    SOFTWARE_FILE,
    SOFTWARE_REFUSED_FILE,
    SOFTWARE_WANTED_FILE,
    moment_text,
    read_moment,
)
from grafos_core.paths import write_private
from grafos_scheduler.machine_messages import MachineView

TEXT_BYTES_MAX = 4096


class Machine:
    """The folder. ``unsupported`` from everything where nobody supervises the orchestrator."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def check_supervised(self) -> None:
        """``unsupported`` where nobody follows orders."""
        self._place(RESTORE_FILE)

    def order_end(self, ends_at: float) -> None:
        self._write(END_WANTED_FILE, moment_text(ends_at))

    def order_software(self, sha256: str) -> None:
        """Also one that was refused before is tried again."""
        (self._place(SOFTWARE_REFUSED_FILE)).unlink(missing_ok=True)
        self._write(SOFTWARE_WANTED_FILE, f"{sha256}\n".encode())

    def order_restore(self, archive: bytes) -> None:
        self._write(RESTORE_FILE, archive)

    def view(self) -> MachineView:
        refused, _, why = self._read(SOFTWARE_REFUSED_FILE).partition(" ")
        in_use = self._read(SOFTWARE_FILE)
        return MachineView(
            ends_at=float(read_moment(self._place(END_FILE))),
            software_sha256=in_use if SHA256_PATTERN.fullmatch(in_use) else "",
            refused=refused,
            why=why,
        )

    def _place(self, name: str) -> Path:
        if self._folder is None:
            raise GrafosError(
                "unsupported",
                "this orchestrator runs on a machine that its operator looks after",
                next="there, end it, change what is to be changed, and start it again",
            )
        return self._folder / name

    def _write(self, name: str, data: bytes) -> None:
        path = self._place(name)
        try:
            write_private(path, data)
        except OSError as error:
            what = "an order for the machine cannot be written"
            raise GrafosError("store_failed", what, where=str(path), why=str(error)) from error

    def _read(self, name: str) -> str:
        try:
            return self._place(name).read_bytes()[:TEXT_BYTES_MAX].decode("utf-8", "replace").strip()
        except OSError:
            return ""
