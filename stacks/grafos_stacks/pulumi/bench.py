"""What every call of the provider works with: fabric, journal, account, and a way to be stopped."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from grafos_connectors.contract import Connector
from grafos_connectors.registry import open_connector
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric, open_fabric
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.far_books import FarBooks
from grafos_stacks.journal import Journal
from grafos_stacks.listings import Listings

LOCK_PATIENCE_S = 120.0
"""How long one resource of a cell waits for another one; each is a call or two of the cloud."""
PROJECT_VARIABLE = "GRAFOS_PROJECT"
"""The folder of the project whose record names the cells; without it, where the provider was started."""


class Bench:
    """Serves calls in many threads. All waiting of theirs ends when ``stop`` is called, until ``resume``."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.bundles = Bundles()
        self.has_program = False
        """Whether the run goes by a program that declares what there is to be; one that only ends things has none."""
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._fabric: Fabric | None = None
        self._connectors: dict[tuple[str, str], tuple[Connector, Listings]] = {}

    @property
    def fabric(self) -> Fabric:
        """The person's fabric; made at first use."""
        with self._guard:
            if self._fabric is None:
                self._fabric = open_fabric(self.clock, elsewhere=FarBooks)
            return self._fabric

    @property
    def project(self) -> Path:
        """Whose record of cells is kept."""
        return Path(os.environ.get(PROJECT_VARIABLE) or Path.cwd())

    def _account(self, provider: str, region: str) -> tuple[Connector, Listings]:
        """Opened once for each region."""
        with self._guard:
            if (provider, region) not in self._connectors:
                self._connectors[provider, region] = (open_connector(provider, region), Listings())
            return self._connectors[provider, region]

    @contextlib.contextmanager
    def hands(self, provider: str, region: str) -> Iterator[Hands]:
        """For one call, in one thread."""
        with contextlib.closing(Journal(self.fabric, self.clock)) as journal:
            connector, listings = self._account(provider, region)
            yield Hands(self.fabric, connector, journal, self.clock, self.sleep, listings=listings)

    @contextlib.contextmanager
    def hands_on(self, cell_id: str, provider: str, region: str) -> Iterator[Hands]:
        """The same, and nobody else works on that cell meanwhile."""
        with (
            self.hands(provider, region) as hands,
            hands.journal.lock(cell_id, patience_s=LOCK_PATIENCE_S, sleep=hands.sleep),
        ):
            yield hands

    # --- being stopped ------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """No call waits for anything any more: what it had begun is in the journal."""
        self._stopping.set()

    def resume(self) -> None:
        """A new run of the engine begins: that an earlier one was stopped, or only ended, says nothing of it."""
        self._stopping.clear()

    def sleep(self, seconds: float) -> None:
        """Lets time pass; ``interrupted`` as soon as the engine wants no more."""
        if self._stopping.wait(seconds):
            self.check_going()

    def check_going(self) -> None:
        """``interrupted`` if the engine wants no more."""
        if self._stopping.is_set():
            raise GrafosError(
                "interrupted", "stopped before it was finished", next="run the same command again: it goes on"
            )
