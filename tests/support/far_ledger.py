"""A fabric whose ledger an orchestrator keeps: a real process, over TLS."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from orchestrator import Orchestrator

from grafos_core import ledger as ledgers
from grafos_core.booking import Ending
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, Fabric, open_fabric
from grafos_core.ledger import Account, Hold, Ledger, Meter
from grafos_core.money import from_cents
from grafos_stacks.claiming import take_orchestrator
from grafos_stacks.far_books import FarBooks
from grafos_stacks.handover import SliceWanted, hold_slice
from grafos_stacks.ledger_moves import bring_ledger_home, move_ledger
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.progress import Step

SPAWN = multiprocessing.get_context("spawn")
CAP = from_cents(2000)
METER = Meter("gcp", 3_600, since=1_000.0, until=5_000.0, fictional=True)


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


_numbers = itertools.count(1)


def keeper_of(folder: Path) -> Iterator[Keeper]:
    """A claimed orchestrator; the fabric's ledger, with three holds, is still in its home. It ends with the test."""
    started = Keeper(folder, f"far-{next(_numbers)}")
    try:
        fabric = started.begin()
        hold(fabric, "cell/web/1/5", from_cents(300), meter=METER)
        hold(fabric, "cell/old/1/4", from_cents(100))
        fabric.end(Ending("cell/old/1/4", actual_micro_cents=70))
        hold_slice(fabric, SystemClock(), wanted("web"))
        yield started
    finally:
        started.discard()


def wanted(scheduler: str) -> SliceWanted:
    return SliceWanted(f"slice-{scheduler}", scheduler, "default", from_cents(50), time.time() + 3600)


def hold(fabric: Fabric, hold_id: str, amount: int, meter: Meter | None = None) -> Ledger:
    return fabric.book(lambda ledger: ledgers.hold(ledger, hold_id, OPERATOR_ACCOUNT, amount, "a cell", meter=meter))


def contents(ledger: Ledger) -> tuple[dict[str, Account], dict[str, Hold]]:
    return ledger.accounts, ledger.holds


def refused(action: object, *args: object, **kwargs: object) -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        action(*args, **kwargs)  # type: ignore[operator]
    return caught.value


def killed_after(steps: int, name: str, verb: str) -> bool:
    """Whether the process was killed at that step; one that has no such step ends by itself."""
    process = SPAWN.Process(target=move_until, args=(name, verb, steps))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def open_places(keeper: Keeper, name: str = "") -> list[str]:
    """Where the ledger is open for writing at this moment, as the home of that name sees it."""
    fabric = opened(name) if name else keeper.opened
    with OrchestratorHome(fabric).client("operator") as client:
        there = client.ledger()[0].state == "open"
    return [name for name, is_open in (("here", fabric.ledger_place().is_here), ("there", there)) if is_open]


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
