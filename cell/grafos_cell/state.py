"""The cell's durable rows on its own disk: what survives the daemon."""

from __future__ import annotations

from pathlib import Path

from grafos_cell.holdings import STORED_KINDS, BrokerSettings, BrokerState
from grafos_core.changes import RowCodec
from grafos_core.rowstore import Store, open_sqlite


def open_state(path: Path, settings: BrokerSettings) -> tuple[Store, BrokerState]:
    """The store in ``path`` and the broker's state as it was left. ``store_invalid``, ``schema_newer``."""
    store = open_sqlite(path, RowCodec(STORED_KINDS), "cell's state")
    return store, BrokerState.load(settings, store.load())
