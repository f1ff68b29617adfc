"""The types that frames of every subject are made of: bounded, so that no part of a frame is endless."""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_scheduler.messages import END

ID_CHARACTERS_MAX = 128
"""Of a run id, lease id or code in a frame; ours have less than half of it."""
IDS_LISTED_MAX = 100_000
"""Runs or leases named in one frame; far more than a cell has, far less than a frame can hold."""

Id = Annotated[str, msgspec.Meta(max_length=ID_CHARACTERS_MAX)]
LeaseId = Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{32}}{END}")]
"""Where a lease is made: it names a file of the cell."""
Ids = Annotated[tuple[Id, ...], msgspec.Meta(max_length=IDS_LISTED_MAX)]
