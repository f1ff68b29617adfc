"""Real processes, killed by the system at random moments while they make, undo, sweep or recover a cell.

Unlike the crash sweeps nothing here chooses a moment between two calls: the kill falls where it falls, also in the
middle of a write to the journal or of a request. What exists is counted in the emulator, which no kill reaches.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_ground import AwsCloud
from azure_ground import AzureCloud
from doomed import Nursery
from emulated_ground import EmulatedCloud
from gcp_ground import GcpCloud

from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.lifecycle import LifecycleTimes

SEED = 20261121
KILLS, KILLS_DEEP = 3, 67
"""On each of three clouds: nine in `make test`, two hundred in `make deep`; a last round may add one."""
BUSY_HOST_S = 600
"""For two dozen real processes one after the other, and the emulator that they ask, which loads a cloud's SDK first:
ten seconds of work, for which a host that runs eight other suites may take minutes."""
KINDS: dict[str, type[EmulatedCloud]] = {"aws": AwsCloud, "azure": AzureCloud, "gcp": GcpCloud}


class Account:
    """An emulated account, and the processes that work on it."""

    def __init__(self, provider: str, folder: Path) -> None:
        self.provider, self._folder = provider, folder
        times = LifecycleTimes(starting_s=0.0, stopping_s=0.0, ending_s=0.0)
        self.clouds = EmulatedClouds(folder / "state", Settings(clouds=(provider,), times=times, boots=False))
        self.clouds.start()
        self.nursery = Nursery(provider, self.clouds.environment())

    def home(self, number: int) -> Path:
        return self._folder / f"home-{number}"

    def kinds(self) -> Counter[str]:
        uncounted = KINDS[self.provider].uncounted
        return Counter(thing.kind for thing in self.clouds.world() if thing.kind not in uncounted)

    def close(self) -> None:
        self.nursery.__exit__()
        self.clouds.close()


@pytest.fixture(scope="module", params=sorted(KINDS))
def account(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    account = Account(request.param, tmp_path_factory.mktemp(request.param))
    yield account
    account.close()


@pytest.mark.timeout(BUSY_HOST_S)
def test_a_process_that_is_killed_leaves_nothing_and_makes_nothing_twice(account: Account) -> None:
    kill_often(account, KILLS)


@pytest.mark.deep
def test_a_process_that_is_killed_many_times_leaves_nothing_and_makes_nothing_twice(account: Account) -> None:
    kill_often(account, KILLS_DEEP)


def kill_often(account: Account, kills: int) -> None:
    chance, done, number = random.Random(f"{SEED}{account.provider}"), Counter[str](), 0
    takes_s = measured(account)
    while done.total() < kills:
        number += 1
        home = account.home(number)
        done += kill_one(account, home, chance, takes_s)
        account.nursery.run("undo", home)
        account.nursery.run("recover", home)
        assert account.kinds() == Counter(), f"{account.provider}, home {number}, seed {SEED}"
    kinds = ", ".join(f"{count} in {act}" for act, count in sorted(done.items()))
    print(f"\nSIGKILL on {account.provider}: {done.total()} ({kinds}); 0 left, 0 duplicates")


def kill_one(account: Account, home: Path, chance: random.Random, takes_s: dict[str, float]) -> Counter[str]:
    """A cell whose provision is killed; then it is finished, undone, swept or recovered, and that is killed too."""
    killed: Counter[str] = Counter()
    if not account.nursery.run("make", home, chance.uniform(0.0, takes_s["make"])):
        killed["make"] += 1
    if chance.random() < 0.3:
        for file in (home / "grafos" / "default").glob("journal.db*"):
            file.unlink()
    act = chance.choice(("make", "undo", "sweep", "recover"))
    if not account.nursery.run(act, home, chance.uniform(0.0, takes_s.get(act, takes_s["undo"]))):
        killed[act] += 1
    account.nursery.run(act, home)
    whole = KINDS[account.provider].whole
    if act == "make":
        assert account.kinds() == Counter(whole), f"{account.provider}, seed {SEED}"
    else:
        assert account.kinds() in (Counter(), Counter(whole)), f"{account.provider}, seed {SEED}, {act}"
    return killed


def measured(account: Account) -> dict[str, float]:
    """How long the acts take when nobody kills them."""
    found: dict[str, float] = {}
    for act in ("make", "undo"):
        began = time.monotonic()
        account.nursery.run(act, account.home(0))
        found[act] = time.monotonic() - began
    return found
