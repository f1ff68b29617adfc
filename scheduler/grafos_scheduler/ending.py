"""What a standalone scheduler and the supervisor of its machine tell each other about the machine's end: two files."""

from __future__ import annotations

from grafos_core.errors import GrafosError
from grafos_core.machine_files import moment_text, read_moment
from grafos_core.paths import write_private
from grafos_scheduler.settings import Settings


def tell(settings: Settings, expires_at: float) -> float:
    """Tells the supervisor when the machine is to end, and gives when it does end by now (Unix seconds, 0: unknown).

    ``store_failed`` when it cannot be written. Repeating it is harmless.
    """
    if expires_at and settings.end_wanted_file is not None:
        try:
            write_private(settings.end_wanted_file, moment_text(expires_at))
        except OSError as error:
            where = str(settings.end_wanted_file)
            raise GrafosError("store_failed", "the machine's end cannot be written", where=where) from error
    return float(read_moment(settings.end_file)) if settings.end_file is not None else 0.0
