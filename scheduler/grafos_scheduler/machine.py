"""What an orchestrator and the supervisor of its machine tell each other: files in one folder.

    end-wanted, end       Unix seconds: when the machine is to end, and when its timer makes it end
    software-wanted       the SHA-256 of the bundle that is to run
    software-in-use       the one that runs; written by the supervisor
    software-refused      the one that was tried and given up, and why; written by the supervisor
    restore.tar           a backup that is to take the place of all there is

The orchestrator has no right to anything but writing them; what they ask for is done by the supervisor, which is root.
"""

from __future__ import annotations

from pathlib import Path

from grafos_core.errors import GrafosError
from grafos_core.ids import SHA256_PATTERN
from grafos_core.paths import write_private
from grafos_scheduler.machine_messages import MachineView

END_WANTED, END = "end-wanted", "end"
SOFTWARE_WANTED, SOFTWARE_IN_USE, SOFTWARE_REFUSED = "software-wanted", "software-in-use", "software-refused"
RESTORE = "restore.tar"
DIGITS_MAX = 12
"""Of Unix seconds; enough for thirty thousand years."""
TEXT_BYTES_MAX = 4096


class Machine:
    """The folder. ``unsupported`` from everything where nobody supervises the orchestrator."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def order_end(self, ends_at: float) -> None:
        self._write(END_WANTED, f"{ends_at:.0f}\n".encode())

    def order_software(self, sha256: str) -> None:
        """Also one that was refused before is tried again."""
        (self._place(SOFTWARE_REFUSED)).unlink(missing_ok=True)
        self._write(SOFTWARE_WANTED, f"{sha256}\n".encode())

    def order_restore(self, archive: bytes) -> None:
        self._write(RESTORE, archive)

    def view(self) -> MachineView:
        refused, _, why = self._read(SOFTWARE_REFUSED).partition(" ")
        ends_at, in_use = self._read(END), self._read(SOFTWARE_IN_USE)
        return MachineView(
            ends_at=float(ends_at) if ends_at.isdecimal() and len(ends_at) <= DIGITS_MAX else 0.0,
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
