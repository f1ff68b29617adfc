"""Several processes in several folders share one ledger, some die at any moment: the cap holds, and no word is broken.

What a process was told is done is written down by it; whatever it was doing when it was killed is there whole, or not
at all. One seed replays what each process asks for; when it dies is the machine's own chance.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, Fabric, open_fabric
from grafos_core.ledger import OPEN, Account, Hold

CLOCK = SystemClock()
CAP = 2_000_000_000  # what a fabric starts with
SPAWN = multiprocessing.get_context("spawn")


def provisions_and_teardowns(folder: Path, seed: int, steps: int) -> None:
    """One process: holds, enlarges, settles and releases by chance; ``heard`` gets a line for all that was answered."""
    os.chdir(folder)
    chance, fabric, mine = random.Random(seed), open_fabric(CLOCK), dict[str, int]()
    heard = os.open(folder / "heard", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for step in range(steps):
        fresh = f"cell/c{seed}/{step}/0"
        name = chance.choice([*mine, fresh, fresh])
        verb = chance.choice(["enlarge", "enlarge", "settle", "release"]) if name in mine else "hold"
        amount = chance.randrange(CAP // 6) + mine.get(name, 0) * (verb == "enlarge")
        try:
            with fabric.ledger() as transaction:
                if verb == "hold":
                    batch = ledgers.hold(transaction.ledger, name, OPERATOR_ACCOUNT, amount, "x")
                elif verb == "enlarge":
                    batch = ledgers.enlarge(transaction.ledger, name, amount)
                else:
                    amount = chance.randrange(1 + mine[name] // 20) if verb == "settle" else 0
                    batch = getattr(ledgers, verb)(transaction.ledger, name, *([amount] if verb == "settle" else []))
                transaction.write(batch)
        except GrafosError as error:
            if error.code != "budget_exceeded":
                raise
            verb = "refused"
        os.write(heard, f"{verb} {name} {amount}\n".encode())
        if verb in ("hold", "enlarge"):
            mine[name] = amount
        elif verb in ("settle", "release"):
            del mine[name]


def books(fabric: Fabric) -> tuple[Account, dict[str, Hold]]:
    with fabric.ledger() as transaction:
        return transaction.ledger.account(OPERATOR_ACCOUNT), dict(transaction.ledger.holds)


def check(fabric: Fabric) -> dict[str, Hold]:
    """The cap holds, and the account's sums are those of its holds."""
    account, holds = books(fabric)
    assert account.spent_micro_cents + account.held_micro_cents <= CAP
    assert account.held_micro_cents == sum(held.amount_micro_cents for held in holds.values() if held.state == OPEN)
    assert account.spent_micro_cents == sum(held.actual_micro_cents for held in holds.values())
    return holds


def heard_in(folder: Path) -> list[tuple[str, str, int]]:
    path = folder / "heard"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(verb, name, int(amount)) for verb, name, amount in (line.split() for line in lines)]


def check_promises(holds: dict[str, Hold], folder: Path) -> None:
    """All that the process in ``folder`` was told is in the ledger; the one step after it may be."""
    last = {name: (verb, amount) for verb, name, amount in heard_in(folder) if verb != "refused"}
    for name, (verb, amount) in last.items():
        held = holds[name]
        if verb in ("hold", "enlarge") and held.state == OPEN:
            assert held.amount_micro_cents >= amount
        elif verb == "settle":
            assert (held.state, held.actual_micro_cents) == ("settled", amount)
        elif verb == "release":
            assert held.state == "released"


def several(folder: Path, seed: int, *, processes: int, steps: int, kills: int) -> int:
    """Runs that many processes, kills some and starts others in their place; how many refusals there were."""
    chance, fabric = random.Random(seed), open_fabric(CLOCK)
    started: list[tuple[Path, BaseProcess]] = []

    def start() -> None:
        place = folder / f"p{len(started)}"
        place.mkdir()
        number = 1000 * seed + len(started)
        process = SPAWN.Process(target=provisions_and_teardowns, args=(place, number, steps))
        process.start()
        started.append((place, process))

    for _ in range(processes):
        start()
    for _ in range(kills):
        place, victim = chance.choice([pair for pair in started if pair[1].is_alive()] or started)
        enough = len(heard_in(place)) + chance.randrange(1, steps // 3)
        while victim.is_alive() and len(heard_in(place)) < enough:
            check(fabric)
        time.sleep(chance.random() / 50)  # anywhere in its next transactions
        victim.kill()
        start()
    for _, process in started:
        process.join(100)
        assert process.exitcode in (0, -9)
    holds = check(fabric)
    for place, _ in started:
        check_promises(holds, place)
    return sum(verb == "refused" for place, _ in started for verb, _, _ in heard_in(place))


def test_processes_that_are_killed_at_any_moment_never_pass_the_cap_or_lose_what_was_promised(tmp_path: Path) -> None:
    assert several(tmp_path, 1, processes=3, steps=60, kills=3) > 0, "the cap was reached, so it was tested"


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(2, 8))
def test_the_same_with_more_of_all(tmp_path: Path, seed: int) -> None:
    assert several(tmp_path, seed, processes=6, steps=150, kills=12) > 0


def lowers_and_raises(caps: list[int]) -> None:
    fabric = open_fabric(CLOCK)
    for cap in caps:
        with fabric.ledger() as transaction:
            transaction.write(ledgers.set_cap(transaction.ledger, OPERATOR_ACCOUNT, cap))


def test_a_cap_that_is_set_by_another_process_counts_from_the_next_hold_on(tmp_path: Path) -> None:
    fabric = open_fabric(CLOCK)
    with fabric.ledger() as transaction:
        transaction.write(ledgers.hold(transaction.ledger, "a", OPERATOR_ACCOUNT, CAP // 2, "cell a"))
    other = SPAWN.Process(target=lowers_and_raises, args=([CAP, CAP // 4],))
    other.start()
    other.join(60)
    with pytest.raises(GrafosError) as refused, fabric.ledger() as transaction:
        ledgers.hold(transaction.ledger, "b", OPERATOR_ACCOUNT, 1, "cell b")
    assert refused.value.code == "budget_exceeded"
    assert books(fabric)[0].held_micro_cents == CAP // 2, "what is held stays held"
