"""All the ways to die: which act dies, what is run after it, with the journal kept or lost, with and without a lag.

A *case* is one of them: a scenario, a lag, the journal, the moment of the first death and, in a pair, that of a second
one during the repeat. Its number replays it: ``GRAFOS_CRASH_CASE=<number> pytest tests/scenarios -k replay``.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import pytest
from crash_sweep import (
    TTL_S,
    Act,
    Fuse,
    Ground,
    check_whole,
    dies,
    held,
    make,
    make_half,
    orchestrating,
    recover,
    sweep,
    undo,
)

from grafos_core.errors import GrafosError
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal

LAGS_S = (0.0, 30.0)
POINTS_MAX = 1000
POINTS_BY_CHANCE_MAX = 150
"""Most acts have fewer moments than that."""

Fresh = Callable[[float], Ground]
"""A fresh ground whose listings lag by so many seconds, with its decoys."""


@dataclass(frozen=True)
class Scenario:
    """``act`` dies; ``then`` is run, dies in a pair, and is run to its end. ``ends`` is what there must be then."""

    name: str
    act: Act
    then: Act
    before: tuple[Act, ...] = ()
    ran_out: bool = False
    ends: str = "gone"


def scenarios_of(make: Act, make_half: Act) -> tuple[Scenario, ...]:
    """All of them, for what these two make."""

    def remake(hands: Hands) -> None:
        undo(hands)
        make(hands)

    return (
        Scenario("provision, provision", make, make, ends="whole"),
        Scenario("provision, teardown", make, undo),
        Scenario("provision, recover", make, recover, ends="whole or gone"),
        Scenario("provision, sweep", make, sweep),
        Scenario("teardown, teardown", undo, undo, (make,)),
        Scenario("teardown, recover", undo, recover, (make,), ends="whole or gone"),
        Scenario("teardown, sweep", undo, sweep, (make,), ends="whole or gone"),
        Scenario("teardown, provision", undo, remake, (make,), ends="whole"),
        Scenario("recover, recover", recover, recover, (make_half,), ends="whole or gone"),
        Scenario("sweep of what ran out, sweep", sweep, sweep, (make,), ran_out=True),
        Scenario("sweep of what is half made, sweep", sweep, sweep, (make_half,)),
    )


SCENARIOS = scenarios_of(make, make_half)
ORCHESTRATORS = scenarios_of(orchestrating(make), orchestrating(make_half))


class Case(NamedTuple):
    """One way to die. ``second`` is -1 for a single death."""

    scenario: int
    lag: int
    lost: int
    first: int
    second: int = -1

    @property
    def number(self) -> int:
        """One integer for all of it."""
        place = (self.scenario * len(LAGS_S) + self.lag) * 2 + self.lost
        return (place * POINTS_MAX + self.first) * (POINTS_MAX + 1) + self.second + 1

    @classmethod
    def of(cls, number: int) -> Case:
        """The case of a number."""
        rest, second = divmod(number, POINTS_MAX + 1)
        rest, first = divmod(rest, POINTS_MAX)
        rest, lost = divmod(rest, 2)
        scenario, lag = divmod(rest, len(LAGS_S))
        return cls(scenario, lag, lost, first, second - 1)


class Came(Enum):
    """What came of a case."""

    HELD = "held"  # it died, and all was well in the end
    NEVER = "never"  # the act was over before that moment
    ONCE = "once"  # the repeat was over before its moment


@dataclass
class Tally:
    """How many points and pairs there are, and how many of them were died at. At the others nothing had happened since
    the moment before: disk and cloud are the same, and a dead process leaves nothing else."""

    points: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)

    def show(self, title: str) -> None:
        """The table."""
        print(
            f"\n{title}\n{'died in, then':36} {'points':>9} {'pairs':>9} {'died at':>9}  orphans  duplicates  touched"
        )
        for scenario in SCENARIOS:
            name = scenario.name
            tried = self.points[name], self.pairs[name], self.checked[name]
            if any(tried):
                print(f"{name:36} {tried[0]:9,} {tried[1]:9,} {tried[2]:9,}        0           0        0")
        totals = self.points.total(), self.pairs.total(), self.checked.total()
        print(f"{'all':36} {totals[0]:9,} {totals[1]:9,} {totals[2]:9,}        0           0        0")


class Recorder(Fuse):
    """Never burns, and notes how disk and cloud stand at each moment."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.states: list[object] = []
        self.live: list[list[str]] = []
        self._ground = ground

    def moment(self, *_: Any, **__: Any) -> None:
        """One more."""
        self.states.append(_state(self._ground))
        self.live.append(self._ground.live())
        self.moments += 1

    def telling(self) -> list[tuple[int, int]]:
        """The moments before which something happened, each with how many are the same as it."""
        found: list[tuple[int, int]] = []
        for moment, state in enumerate(self.states):
            if moment and state == self.states[moment - 1]:
                found[-1] = (found[-1][0], found[-1][1] + 1)
            else:
                found.append((moment, 1))
        return found


class Traveller:
    """Walks through cases, and counts them."""

    def __init__(self, fresh: Fresh, scenarios: tuple[Scenario, ...] = SCENARIOS) -> None:
        self.fresh = fresh
        self.scenarios = scenarios
        self.tally = Tally()
        self.moments = 0
        """How many there were in the act that came to its end before it was to die."""

    def run(self, case: Case) -> Came:
        """One case from its beginning to its end. Fails with the case's number."""
        name = self.scenarios[case.scenario].name
        try:
            came = self._run(case)
        except (AssertionError, GrafosError) as error:
            again = f"replay it with GRAFOS_CRASH_CASE={case.number}"
            pytest.fail(f"case {case.number} ({name}; {case}): {error!r}; {again}")
        self.tally.checked[name] += came is not Came.NEVER
        return came

    def _run(self, case: Case) -> Came:
        scenario = self.scenarios[case.scenario]
        ground = self._prepared(case)
        fuse = Fuse(case.first)
        if not dies(ground, scenario.act, fuse):
            self.moments = fuse.moments
            return self._ended(ground, Came.NEVER)
        if case.lost:
            ground.lose_journal()
        came = Came.HELD
        if case.second >= 0:
            fuse = Fuse(case.second)
            came = Came.HELD if dies(ground, scenario.then, fuse) else Came.ONCE
            self.moments = fuse.moments
            if case.lost:
                ground.lose_journal()
        scenario.then(ground.hands())
        check(ground, scenario)
        return self._ended(ground, came)

    def _prepared(self, case: Case) -> Ground:
        scenario = self.scenarios[case.scenario]
        ground = self.fresh(LAGS_S[case.lag])
        for act in scenario.before:
            act(ground.hands())
        if scenario.ran_out:
            ground.pass_time(TTL_S + 1)
        return ground

    def _ended(self, ground: Ground, came: Came) -> Came:
        """Whatever came of it, nothing stays for the next case, and nobody else's things were touched."""
        planted = ground.decoys()
        undo(ground.hands())
        recover(ground.hands())
        assert ground.live() == []
        assert held(ground) == []
        assert ground.decoys() == planted
        assert ground.untouched(), "a decoy is gone or altered"
        return came

    # --- ways through -----------------------------------------------------------------------------------------------

    def all_points(self, scenario: int, lag: int, lost: int) -> None:
        """Every moment at which the act can die."""
        recorder = self._recorded(Case(scenario, lag, lost, 0))
        self.tally.points[self.scenarios[scenario].name] += recorder.moments
        for first, _ in recorder.telling():
            assert self.run(Case(scenario, lag, lost, first)) is Came.HELD

    def all_pairs(self, scenario: int, lag: int, lost: int) -> None:
        """Every moment of the act with every moment of the repeat."""
        for first, alike in self._recorded(Case(scenario, lag, lost, 0)).telling():
            repeat = self._recorded_repeat(Case(scenario, lag, lost, first))
            self.tally.pairs[self.scenarios[scenario].name] += alike * repeat.moments
            for second, _ in repeat.telling():
                self.run(Case(scenario, lag, lost, first, second))

    def some(self, chance: random.Random, until: float, *, pairs: float = 0.3) -> None:
        """Cases by chance until the time is up, ``pairs`` of them with a second death."""
        firsts, seconds = (dict.fromkeys(range(len(self.scenarios)), POINTS_BY_CHANCE_MAX) for _ in range(2))
        while time.monotonic() < until or not self.tally.checked.total():
            number = chance.randrange(len(self.scenarios))
            first, second = chance.randrange(firsts[number]), chance.randrange(seconds[number])
            is_pair = chance.random() < pairs
            case = Case(number, chance.randrange(len(LAGS_S)), chance.randrange(2), first, second if is_pair else -1)
            came = self.run(case)
            if came is Came.NEVER:  # how many moments there are is learnt on the way
                firsts[number] = self.moments
            elif came is Came.ONCE:
                seconds[number] = max(1, self.moments)
            if came is not Came.NEVER:
                (self.tally.pairs if is_pair and came is Came.HELD else self.tally.points)[
                    self.scenarios[number].name
                ] += 1

    def _recorded(self, case: Case) -> Recorder:
        """The moments of the act that dies."""
        ground = self._prepared(case)
        recorder = Recorder(ground)
        self.scenarios[case.scenario].act(ground.hands(recorder))
        self._ended(ground, Came.NEVER)
        return recorder

    def _recorded_repeat(self, case: Case) -> Recorder:
        """The moments of what is run after the first death."""
        ground, scenario = self._prepared(case), self.scenarios[case.scenario]
        assert dies(ground, scenario.act, Fuse(case.first))
        if case.lost:
            ground.lose_journal()
        recorder = Recorder(ground)
        scenario.then(ground.hands(recorder))
        self._ended(ground, Came.NEVER)
        return recorder


def check(ground: Ground, scenario: Scenario) -> None:
    """What the scenario promised. Money held for what is nowhere is left to recover by a sweep."""
    if scenario.ends == "whole" or (scenario.ends == "whole or gone" and ground.live()):
        check_whole(ground, -1)
        return
    assert ground.live() == []
    assert scenario.then is sweep or held(ground) == []


def _state(ground: Ground) -> object:
    """The disk and the cloud, as whoever comes next finds them."""
    with contextlib.closing(Journal(ground.fabric, ground.clock)) as journal:
        stacks = journal.stacks()
        rows = [row for one in stacks for row in journal.resources(one.stack).values()]
        lost_at = journal.lost_at
    with ground.fabric.ledger() as transaction:
        money = list(transaction.ledger.holds.values())
    return lost_at, msgspec.json.encode([stacks, rows, money]), tuple(ground.live()), ground.clock.now()
