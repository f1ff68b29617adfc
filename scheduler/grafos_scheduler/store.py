"""The scheduler's store: which rows it holds, and where.

SQLite beside the process for now; a second kind of store takes the same seam (``grafos_core.rowstore.Store``) and the
same suite of tests, and would be chosen here.
"""

from __future__ import annotations

from typing import Any

from grafos_core.changes import RowCodec
from grafos_core.rowstore import Store, open_sqlite
from grafos_scheduler import claim, rows
from grafos_scheduler.settings import Settings

CODEC = RowCodec({**rows.STORED_KINDS, **claim.KINDS})


def open_store(settings: Settings) -> Store:
    """Opens the store that the settings name and takes its next epoch. ``store_invalid``, ``schema_newer``."""
    return open_sqlite(settings.database, CODEC, "scheduler's store")


def load(store: Store) -> tuple[list[tuple[str, str, Any]], claim.Possession | None]:
    """The rows of the scheduler's state, and the shell's own row beside them."""
    stored = list(store.load(without=rows.COLD_KINDS))
    own = [row for kind, _, row in stored if kind == claim.POSSESSION]
    return [row for row in stored if row[0] != claim.POSSESSION], own[0] if own else None
