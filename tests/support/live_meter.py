"""How much a live run may have cost by now, at the worst: what was begun counts in full until it is proved gone.

Several processes count in one file, and none begins what would pass the cap. Amounts are micro-cents.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grafos_core.errors import GrafosError
from grafos_core.money import format_cents


class SpendMeter:
    """Counts in ``file``. A thing is begun with the most that it may cost, and ends with what it did cost."""

    def __init__(self, file: Path, cap_micro_cents: int) -> None:
        self._file = file
        self._cap = cap_micro_cents

    def begin(self, name: str, worst_micro_cents: int) -> None:
        """Before the call that begins it. ``budget_exceeded`` when the worst case would pass the cap; then nothing is
        counted, and nothing may be begun. The same name again counts once more only by what it costs more."""
        assert worst_micro_cents > 0, "what costs nothing is not counted"
        with self._alone() as counted:
            would_be = self._sum(counted) - counted.get(name, 0) + worst_micro_cents
            if would_be > self._cap:
                raise GrafosError(
                    "budget_exceeded",
                    f"{name} might bring the run to {format_cents(would_be)}, and {format_cents(self._cap)} is its cap",
                    next="run it again with a larger MAX_CENTS",
                )
            counted[name] = worst_micro_cents

    def end(self, name: str, actual_micro_cents: int) -> None:
        """After it was proved gone."""
        with self._alone() as counted:
            counted[name] = min(actual_micro_cents, counted.get(name, actual_micro_cents))

    @property
    def counted_micro_cents(self) -> int:
        """What the run may have cost, at the worst."""
        with self._alone() as counted:
            return self._sum(counted)

    @staticmethod
    def _sum(counted: dict[str, int]) -> int:
        return sum(counted.values())

    @contextmanager
    def _alone(self) -> Iterator[dict[str, int]]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            counted: dict[str, int] = json.loads(file.read() or "{}")
            before = dict(counted)
            yield counted
            if counted != before:
                file.seek(0)
                file.truncate()
                file.write(json.dumps(counted))
                file.flush()
