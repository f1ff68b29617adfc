"""A fabric whose ledger an orchestrator keeps: a real process, over TLS."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from orchestrator import Orchestrator

from grafos_core.clock import SystemClock
from grafos_core.fabric import Fabric, open_fabric
from grafos_stacks.claiming import take_orchestrator
from grafos_stacks.far_books import FarBooks
from grafos_stacks.ledger_moves import bring_ledger_home, move_ledger
from grafos_stacks.progress import Step


def opened(name: str) -> Fabric:
    """The fabric as the command line opens it."""
    return open_fabric(SystemClock(), name, elsewhere=FarBooks)


class Keeper(Orchestrator):
    """An orchestrator that a fabric has claimed."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder)
        self.name = name
        self.fabric = opened(name)  # type: ignore[assignment]  # whose id is all that an orchestrator is told

    def begin(self) -> Fabric:
        """Starts and claims it; the ledger is where it was."""
        self.start()
        take_orchestrator(self.opened, self.url, self.secret_file)
        return self.opened

    @property
    def opened(self) -> Fabric:
        return opened(self.name)

    def stop(self) -> None:
        assert self.scheduler is not None
        self.scheduler.end(signal.SIGKILL)


def move_until(name: str, verb: str, steps: int) -> None:
    """In a process of its own: moves the ledger, or brings it home, and is killed after so many of its steps."""
    told: list[Step] = []

    def count(step: Step) -> None:
        told.append(step)
        if len(told) == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    if verb == "move":
        move_ledger(opened(name), progress=count)
    else:
        bring_ledger_home(opened(name), progress=count)


def hold_all_it_gets(name: str, who: str, count: int, amount: int) -> None:
    """In a process of its own: holds as often as there is room, each time under another id; exits with how often."""
    from grafos_core import ledger as ledgers
    from grafos_core.errors import GrafosError

    fabric, got = opened(name), 0
    for number in range(count):
        hold_id = f"cell/{who}/{number}/5"
        try:
            fabric.book(lambda ledger, hold_id=hold_id: ledgers.hold(ledger, hold_id, "operator", amount, "a cell"))
        except GrafosError as error:
            assert error.code == "budget_exceeded", error  # noqa: PT017  # in a process of its own
        else:
            got += 1
    os._exit(got)
