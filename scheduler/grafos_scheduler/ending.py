"""What a standalone scheduler and the supervisor of its machine tell each other about the machine's end: two files."""

from __future__ import annotations

from pathlib import Path

from grafos_core.errors import GrafosError
from grafos_core.paths import write_private
from grafos_scheduler.settings import Settings

DIGITS_MAX = 12
"""Of Unix seconds; enough for thirty thousand years."""


def tell(settings: Settings, expires_at: float) -> float:
    """Tells the supervisor when the machine is to end, and gives when it does end by now (Unix seconds, 0: unknown).

    ``store_failed`` when it cannot be written. Repeating it is harmless.
    """
    if expires_at and settings.end_wanted_file is not None:
        try:
            write_private(settings.end_wanted_file, f"{expires_at:.0f}\n".encode())
        except OSError as error:
            where = str(settings.end_wanted_file)
            raise GrafosError("store_failed", "the machine's end cannot be written", where=where) from error
    return float(_moment(settings.end_file)) if settings.end_file is not None else 0.0


def _moment(path: Path) -> int:
    try:
        text = path.read_bytes()[: DIGITS_MAX + 1].decode("ascii", "replace").strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() and len(text) <= DIGITS_MAX else 0
