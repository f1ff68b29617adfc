"""Replicas of one orchestrator over one PostgreSQL database, as real processes: one leads."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestrator import Orchestrator
from postgresql import PASSWORD, Server

from grafos_scheduler import messages

PATIENCE_S = 60.0
Found = TypeVar("Found")


class Replica(Orchestrator):
    """One of several orchestrators with the same keys, blobs and database."""

    def __init__(self, folder: Path, first: Orchestrator) -> None:
        folder.mkdir()
        super().__init__(folder, **first.flags)
        self.fabric, self.secret_file, self._first = first.fabric, first.secret_file, first

    @property
    def state(self) -> Path:
        return self._first.state

    @property
    def trust(self) -> Path:
        return self._first.trust


class Fleet:
    """Three replicas, of which the first began to lead, with its operator and a tenant."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.server, self.database = server, server.make("fleet")
        (folder / "one").mkdir()
        url = server.url(self.database, password=PASSWORD.replace("/", "%2F"))
        first = Orchestrator(folder / "one", database=url)
        self.replicas = [first, *(Replica(folder / name, first) for name in ("two", "three"))]

    def start(self) -> Fleet:
        for replica in self.replicas:
            replica.start()
        self.operator = self.replicas[0].claimed()
        self.tenant = self.replicas[0].employ(self.operator, "acme")
        return self

    def discard(self) -> None:
        for replica in self.replicas:
            replica.discard()

    def lapse(self) -> None:
        """As if the time of the lease had passed."""
        self.server.sql(self.database, "UPDATE grafos.leader SET until = '-infinity'")

    def health(self, replica: Orchestrator) -> messages.Health:
        with replica.client(self.operator) as client:
            return client.health()

    def others(self, leader: Orchestrator) -> list[Orchestrator]:
        return [replica for replica in self.replicas if replica is not leader]

    def leader(self) -> Orchestrator:
        """Who leads; waits until one does and the other living ones know it."""
        living = [one for one in self.replicas if one.scheduler is not None and one.scheduler.popen.poll() is None]
        return self.leader_of(living)

    def leader_of(self, some: list[Orchestrator]) -> Orchestrator:
        """As ``leader``, of some that live; the others are not asked."""
        return until(lambda: self._leader_of(some))

    def _leader_of(self, living: list[Orchestrator]) -> Orchestrator | None:
        said = {one.url: self.health(one).leader for one in living}
        leading = [one for one in living if not said[one.url]]
        agreed = len(leading) == 1 and set(said.values()) <= {"", leading[0].url}
        return leading[0] if agreed else None


def until(look: Callable[[], Found | None]) -> Found:
    end = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found
