"""Two copies of one ledger that went apart are joined: each cent that either tells of is in it, and once."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from grafos_core import ledger as ledgers
from grafos_core.booking import LedgerCopy, check_adds_up
from grafos_core.ledger import Account, Hold, Ledger, Meter
from grafos_core.ledger_merge import beside_holds, merged

ACCOUNTS = ("operator", "tenant/a", "tenant/b")
CAP = 10**9


def ledger_of(*holds: Hold, spent_beside: int = 0) -> Ledger:
    """A ledger with these holds, and so much that runs spent on each account."""
    made = Ledger()
    for name in ACCOUNTS:
        made.apply(ledgers.open_account(made, name, CAP))
        made.accounts[name] = replace(made.accounts[name], spent_micro_cents=spent_beside)
    for held in holds:
        made.apply(ledgers.hold(made, held.hold_id, held.account, held.amount_micro_cents, held.purpose))
        if held.state != ledgers.OPEN:
            made.apply(ledgers.settle(made, held.hold_id, held.actual_micro_cents))
    return made


def copy_of(ledger: Ledger, **more: Any) -> LedgerCopy:
    return LedgerCopy(2, tuple(ledger.accounts.values()), tuple(ledger.holds.values()), **more)


def joined(here: Ledger, copy: LedgerCopy, basis: dict[str, int] | None) -> Ledger:
    """What the merge comes to; that it adds up is checked on the way."""
    made = merged(here.accounts.values(), here.holds.values(), copy, basis, {})
    check_adds_up(LedgerCopy(2, made.accounts, made.holds))
    ledger = Ledger()
    ledger.accounts = {account.name: account for account in made.accounts}
    ledger.holds = {held.hold_id: held for held in made.holds}
    return ledger


class Story:
    """One ledger that went apart: ``common`` of it both sides have, then each goes its own way."""

    def __init__(self, common: list[tuple[str, str, int]], spent: int) -> None:
        holds = [Hold(hold_id, account, amount, "x") for hold_id, account, amount in common]
        self.here, self.home = ledger_of(*holds, spent_beside=spent), ledger_of(*holds, spent_beside=spent)
        self.basis = beside_holds(self.home.accounts.values(), self.home.holds.values())
        self.spent_by_runs: dict[str, int] = {}
        self.common_spent = spent

    def run(self, side: str, account: str, cost: int) -> None:
        """A run at the orchestrator: nothing of it stays but what was spent. The home's was at another orchestrator,
        from which the ledger came home meanwhile."""
        accounts = getattr(self, side).accounts
        accounts[account] = replace(accounts[account], spent_micro_cents=accounts[account].spent_micro_cents + cost)
        self.spent_by_runs[account] = self.spent_by_runs.get(account, 0) + cost


AMOUNTS = st.integers(0, 1_000)
PLACES = st.sampled_from(("here", "home"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), PLACES, st.sampled_from(ACCOUNTS), AMOUNTS),
        st.tuples(st.just("hold"), PLACES, st.sampled_from(ACCOUNTS), AMOUNTS),
        st.tuples(st.just("end"), PLACES, st.integers(0, 30), AMOUNTS),
    ),
    max_size=25,
)
COMMON = st.lists(st.tuples(st.sampled_from(ACCOUNTS), AMOUNTS), max_size=6)


def played(common: list[tuple[str, int]], spent: int, steps: list[Any]) -> Story:
    story = Story([(f"common-{n}", account, amount) for n, (account, amount) in enumerate(common)], spent)
    for number, step in enumerate(steps):
        if step[0] == "run":
            story.run(*step[1:])
            continue
        ledger = getattr(story, step[1])
        if step[0] == "hold":
            ledger.apply(ledgers.hold(ledger, f"{step[1]}-{number}", step[2], step[3], "x"))
        elif ledger.holds:
            hold_id = sorted(ledger.holds)[step[2] % len(ledger.holds)]
            ledger.apply(ledgers.settle(ledger, hold_id, step[3]))
    return story


@given(COMMON, AMOUNTS, STEPS)
@settings(max_examples=300, deadline=None)
def test_no_cent_is_lost_and_none_counts_twice(common: list[tuple[str, int]], spent: int, steps: list[Any]) -> None:
    story = played(common, spent, steps)
    result = joined(story.here, copy_of(story.home), story.basis)
    assert set(result.holds) == set(story.here.holds) | set(story.home.holds)
    for hold_id, held in result.holds.items():
        known = [side.holds[hold_id] for side in (story.here, story.home) if hold_id in side.holds]
        assert held in known
        assert (held.state == "open") == all(one.state == "open" for one in known), "what ended stays ended"
    for name, account in result.accounts.items():
        ended = sum(held.actual_micro_cents for held in result.holds.values() if held.account == name)
        assert account.spent_micro_cents == story.common_spent + story.spent_by_runs.get(name, 0) + ended


@given(COMMON, AMOUNTS, STEPS, STEPS)
@settings(max_examples=150, deadline=None)
def test_given_up_twice_it_still_counts_once(
    common: list[tuple[str, int]], spent: int, steps: list[Any], later: list[Any]
) -> None:
    """The home never learns what was joined there, and gives the orchestrator up once more."""
    story = played(common, spent, steps)
    given_twice = joined(story.here, copy_of(story.home), story.basis)
    story.here, story.basis = given_twice, beside_holds(story.home.accounts.values(), story.home.holds.values())
    for number, step in enumerate(later):
        if step[0] == "run":
            story.run(*step[1:])
        elif step[0] == "hold":
            ledger = getattr(story, step[1])
            ledger.apply(ledgers.hold(ledger, f"later-{step[1]}-{number}", step[2], step[3], "x"))
    result = joined(story.here, copy_of(story.home), story.basis)
    for name, account in result.accounts.items():
        ended = sum(held.actual_micro_cents for held in result.holds.values() if held.account == name)
        assert account.spent_micro_cents == spent + story.spent_by_runs.get(name, 0) + ended


@given(COMMON, AMOUNTS, STEPS)
@settings(max_examples=150, deadline=None)
def test_what_went_home_whole_and_comes_again_is_what_it_was(
    common: list[tuple[str, int]], spent: int, steps: list[Any]
) -> None:
    """Also at an orchestrator from a backup, which is behind what went home."""
    story = played(common, spent, steps)
    came_home = copy_of(story.here)
    behind = Story([(f"common-{n}", account, amount) for n, (account, amount) in enumerate(common)], spent).here
    for here in (story.here, behind):
        result = joined(here, came_home, None)
        assert result.accounts == story.here.accounts
        assert result.holds == story.here.holds


def test_a_hold_that_was_extended_on_both_sides_is_as_large_and_as_long_as_either() -> None:
    meter = Meter("aws", 5, since=1.0, until=10.0)
    home = Hold("h", "operator", 70, "x", meter=replace(meter, until=30.0))
    here = Hold("h", "operator", 90, "x", meter=replace(meter, until=20.0))
    accounts = (Account("operator", CAP, held_micro_cents=90),)
    copy = LedgerCopy(2, (Account("operator", CAP, held_micro_cents=70),), (home,))
    [held] = merged(accounts, (here,), copy, {}, {}).holds
    assert (held.amount_micro_cents, held.meter) == (90, replace(meter, until=30.0))


def test_what_was_settled_wins_over_what_only_ran_out() -> None:
    out = Hold("s", "tenant/a", 50, "x", state="expired", actual_micro_cents=50, slice_for="c", expires_at=9.0)
    settled = replace(out, state="settled", actual_micro_cents=20)
    for here, came in ((out, settled), (settled, out)):
        sides = [Account("tenant/a", CAP, spent_micro_cents=held.actual_micro_cents) for held in (here, came)]
        made = merged((sides[0],), (here,), LedgerCopy(2, (sides[1],), (came,)), {}, {})
        assert made.holds == (settled,)
        assert made.accounts[0].spent_micro_cents == 20


def test_what_runs_hold_here_stays_held_beside_what_the_copy_holds() -> None:
    account = Account("tenant/a", CAP, held_micro_cents=30)
    copy = LedgerCopy(2, (Account("tenant/a", CAP, held_micro_cents=5),), (Hold("s", "tenant/a", 5, "x"),))
    made = merged((account,), (), copy, {}, {"tenant/a": 30})
    assert made.accounts[0].held_micro_cents == 35


def test_a_copy_that_tells_less_than_was_taken_here_takes_nothing_back() -> None:
    """A home from a backup of before the copy that was taken here does not know what that one said was spent."""
    here, old = ledger_of(spent_beside=57), ledger_of(spent_beside=0)
    after = joined(here, copy_of(old, lost=(1,)), dict.fromkeys(ACCOUNTS, 50))
    assert {account.spent_micro_cents for account in after.accounts.values()} == {57}
