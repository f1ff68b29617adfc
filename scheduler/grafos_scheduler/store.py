"""The scheduler's store: which rows it holds, and where.

A SQLite file beside the process, or a PostgreSQL database that several replicas of one scheduler share; both are behind
the same seam (``grafos_core.rowstore.Store``) and pass the same suite of tests.
"""

from __future__ import annotations

from typing import Any

from grafos_core.changes import RowCodec
from grafos_core.errors import GrafosError
from grafos_core.rowfile import RowFile
from grafos_core.rowstore import RowKeeper, Store
from grafos_scheduler import claim, rows
from grafos_scheduler.settings import Settings

CODEC = RowCodec({**rows.STORED_KINDS, **claim.KINDS})
NOUN = "scheduler's store"


def open_keeper(settings: Settings, url: str) -> RowKeeper:
    """Opens or makes what the settings name. ``url`` is where clients reach this process.

    ``store_invalid``, ``store_failed``, ``schema_newer``; ``tool_missing`` without the driver for a database.
    """
    if settings.database is None:
        return RowFile(settings.database_file, CODEC, noun=NOUN)
    try:
        from grafos_scheduler.postgresql import RowDatabase
    except ModuleNotFoundError as error:
        raise GrafosError(
            "tool_missing",
            f"a store in PostgreSQL needs the package {error.name}, which is not installed",
            next="pip install 'grafos-scheduler[postgresql]'",
        ) from error
    return RowDatabase(settings.database, CODEC, noun=NOUN, address=url)


def load(store: Store) -> tuple[list[tuple[str, str, Any]], claim.Possession | None]:
    """The rows of the scheduler's state, and the shell's own row beside them."""
    stored = list(store.load(without=rows.COLD_KINDS))
    own = [row for kind, _, row in stored if kind == claim.POSSESSION]
    return [row for row in stored if row[0] != claim.POSSESSION], own[0] if own else None
