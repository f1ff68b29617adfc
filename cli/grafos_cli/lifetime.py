"""Warns while the machine of the fabric's orchestrator still lives: what it keeps goes with it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from grafos_core.fabric import Fabric

WARN_S = 3600.0
"""An hour: enough for a backup, and for whoever must be asked whether it may live longer."""


def warn_of_end(fabric: Fabric, note: Callable[[str], object], now: float | None = None) -> None:
    """One line, from an hour before the end on, and after it. Reads one small file, if grafos made such a machine."""
    try:
        record = json.loads((fabric.home / "cells" / "orchestrator" / "cell.json").read_bytes())
    except (OSError, ValueError):
        return
    left_s = float(record.get("expires_at", 0.0)) - (time.time() if now is None else now)
    if record.get("pattern") != "orchestrator" or record.get("gone_at") or left_s > WARN_S:
        return
    if left_s > 0:
        note(
            f"note: the orchestrator's machine ends itself in {left_s / 60:.0f} min, and what it keeps goes with it: "
            "grafos fabric backup FILE; grafos cloud extend --cell-id orchestrator --ttl +8h"
        )
    else:
        note(
            "note: the orchestrator's machine has ended itself: grafos fabric up --restore FILE, or fabric down --lost"
        )
