"""Books in the fabric's ledger while the orchestrator keeps it.

What is to be booked is decided here, on the ledger as it was read, and told there as what it changes. When somebody
else booked in between, it is decided anew. What could not be booked while nobody could reach the orchestrator goes
before everything else. A move that was cut short is gone on with first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from grafos_core import booking
from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.ledger import Decide, Ledger
from grafos_core.ledger_place import Standing
from grafos_core.paths import locked
from grafos_scheduler.ledger_messages import LedgerState
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_stacks.ledger_moves import bring_ledger_home, check_keeper, move_ledger
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.records import OPERATOR

TRIES_MAX = 50
"""Each try that fails is one that somebody else's booking won, so so many commands may book at once."""
PAUSE_FIRST_S, PAUSE_MOST_S = 0.01, 0.5
Answer = TypeVar("Answer")
UNREACHABLE_NEXT = "start the orchestrator again; what takes machines down works without it: grafos cloud teardown"


class FarBooks:
    """The ledger at the orchestrator of one fabric; ``grafos_core.ledger_place.Books``."""

    def __init__(
        self, fabric: Fabric, sleep: Callable[[float], object] = time.sleep, chance: random.Random | None = None
    ) -> None:
        self._fabric = fabric
        self._home = OrchestratorHome(fabric)
        self._sleep = sleep
        self._chance = chance or random.SystemRandom()

    def read(self) -> Ledger:
        """The ledger as the orchestrator has it."""
        if self._is_here_again():
            return self._fabric.read_ledger()
        with self._home.client(OPERATOR) as client:
            self._book_waiting(client)
            return self._ledger(client)

    def book(self, decide: Decide) -> Ledger:
        """As ``Fabric.book``; ``scheduler_unreachable`` before anything was booked."""
        if self._is_here_again():
            return self._fabric.book(decide)
        with self._home.client(OPERATOR) as client:
            self._book_waiting(client)
            return self._booked(client, decide)

    def _is_here_again(self) -> bool:
        """Whether the ledger turns out to be in the fabric's home, once a move that was cut short is finished."""
        place = self._fabric.ledger_place()
        if place.standing is Standing.MOVING:
            _told(partial(move_ledger, self._fabric))
        elif place.standing is Standing.COMING:
            _told(partial(bring_ledger_home, self._fabric, sleep=self._sleep))
            return True
        elif place.standing is Standing.MOVED:
            check_keeper(self._home, place)
        return place.is_here

    def _ledger(self, client: OrchestratorClient) -> Ledger:
        """The ledger there; ``ledger_elsewhere`` if it is not the one that moved there, as after an old backup."""
        seen, ledger = _told(client.ledger)
        place = self._fabric.ledger_place()
        if (seen.state, seen.generation) != (LedgerState.OPEN, place.generation):
            raise GrafosError(
                "ledger_elsewhere",
                f"the orchestrator {place.keeper} does not have the ledger that moved there",
                where=place.url,
                why=f"there it is {seen.state}" + (f", in generation {seen.generation}" if seen.generation else ""),
                next=f"grafos fabric claim {place.url}  moves it there again; grafos doctor says what stands here",
            )
        return ledger

    def _booked(self, client: OrchestratorClient, decide: Decide) -> Ledger:
        pause_s = PAUSE_FIRST_S
        for tried in range(1, TRIES_MAX + 1):
            ledger = self._ledger(client)
            batch = decide(ledger)
            asked = booking.booking_of(ledger, batch)
            if asked == booking.Booking():
                return ledger
            try:
                ledger.apply(_told(partial(client.book, asked)))
            except GrafosError as error:
                if error.code != "ledger_conflict" or tried == TRIES_MAX:
                    raise
            else:
                return ledger
            self._sleep(self._chance.uniform(0.0, pause_s))
            pause_s = min(2 * pause_s, PAUSE_MOST_S)
        raise AssertionError("the last try returns or raises")

    def _book_waiting(self, client: OrchestratorClient) -> None:
        """Books what ended while nobody could reach the ledger; one command at a time, so none of it comes late."""
        with self._fabric.ledger() as local:
            if not local.waiting:
                return
        with locked(self._fabric.home / "ledger-waiting.lock"):
            with self._fabric.ledger() as local:
                waiting = dict(local.waiting)
            if not waiting:
                return
            each = [partial(booking.ended, ending=ending) for ending in waiting.values()]
            self._booked(client, partial(ledgers.in_turn, decisions=each))
            with self._fabric.ledger() as local:
                local.forget_waiting(frozenset(waiting))


def _told(ask: Callable[[], Answer]) -> Answer:
    """What the orchestrator answers; one that cannot be reached is told with what still works."""
    try:
        return ask()
    except GrafosError as error:
        if error.code == "scheduler_unreachable":
            error.what = "the orchestrator, which keeps the fabric's ledger, did not answer"
            error.next = UNREACHABLE_NEXT
        raise
