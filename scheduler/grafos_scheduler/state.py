"""A scheduler's state: its rows in memory, and what is derived from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from grafos_core.changes import Change
from grafos_core.ledger import Ledger
from grafos_core.resources import Resources

from grafos_scheduler import rows

DEFAULT_QUOTA = Resources(
    cpu_cores=1024, mem_bytes=1 << 40, block_bytes=1 << 44, gpu_count=64, nic_count=64
)
"""What a tenant may lease at once where its operator named no quota: more than one cell has, and yet a bound."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a scheduler is started with. ``scheduler`` is its name in run ids and certificates; seconds are wall time.

    A cell is healthy after ``healthy_after_s`` of heartbeats of which none was missed; it has missed when nothing
    came for ``missed_beats_max`` times the interval. ``clock_skew_max_s`` is how far a cell's clock may be off.
    """

    scheduler: str
    providers: frozenset[str]
    heartbeat_every_s: float = 5.0
    missed_beats_max: int = 3
    healthy_after_s: float = 30.0
    clock_skew_max_s: float = 5.0
    default_quota: Resources = DEFAULT_QUOTA


class State:
    """The rows in memory. Only ``apply`` changes it; the attributes are for reading."""

    def __init__(self, settings: Settings, started_at: float) -> None:
        self.settings = settings
        self.started_at = started_at
        self.ledger = Ledger()

    @classmethod
    def load(cls, settings: Settings, stored: Iterable[Change], started_at: float) -> State:
        """The state whose rows are ``stored`` (each as a ``Change``), as of a process that started at ``started_at``."""
        state = cls(settings, started_at)
        state.apply(stored)
        return state

    def apply(self, changes: Iterable[Change]) -> None:
        """Takes in what a decision changes, rows of cold kinds passed over."""
