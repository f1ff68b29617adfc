"""Whatever comes in whatever order, of cells, thieves and operators: who is in is in by right, and money comes even.

One integer draws a story of enrolments, replays, clones, renewed tokens, runs, revocations and restarts; after each
step the state is held against what a bystander wrote down.
"""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from desk import ORCHESTRATOR, Desk

from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import enrolment, events, frames, messages, rows, runs

CELLS = ("cell-1", "cell-2", "cell-3")
KEYS = tuple(f"key-{number}" for number in range(24))
STEPS = 120
SHARE_OF_SEEDS_S = 4.0
SEEDS_AT_LEAST = 30
DEEP_SEEDS = 3_000


class Story:
    """Everybody who wants something of an orchestrator, and who saw what."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.desk = Desk(ORCHESTRATOR, budget_micro_cents=10**9)
        self.tokens: list[rows.Enrolment] = []
        self.users: dict[str, str] = {}
        self.revoked: set[str] = set()
        self.epochs: Counter[str] = Counter()
        self.asked = 0
        self.seen: Counter[str] = Counter()

    def play(self) -> Story:
        deeds = [
            *(self.mint, self.enrol, self.enrol, self.register, self.register, self.dial, self.dial),
            *(self.ask, self.ask, self.answer, self.answer, self.wait, self.revoke, self.restart),
        ]
        for _ in range(STEPS):
            deed = self.chance.choice(deeds)
            try:
                deed()
                self.seen[deed.__name__] += 1
            except GrafosError as error:
                self.seen[error.code] += 1
            self.check()
        return self

    # --- what they do ---

    def mint(self) -> None:
        end = self.chance.choice([0.0, self.desk.now + 3000.0])
        valid_s = self.chance.choice([20.0, 900.0])
        self.tokens.append(self.desk.mint(self.chance.choice(CELLS), expires_at=end, valid_s=valid_s))

    def enrol(self) -> None:
        """By whoever holds a token, often not for the first time, with any key that there is."""
        token = self.chance.choice(self.tokens or [self.desk.mint("cell-1")])
        key = self.chance.choice(KEYS)
        identity = self.desk.enrol(token, key)
        assert self.users.setdefault(token.token_id, key) == key, "one token, two keys"
        assert key not in self.revoked, "a revoked key got in"
        assert token.valid_until > self.desk.now, "a lapsed token opened"
        assert (identity.cell_id, identity.key_sha256) == (token.cell_id, key)

    def register(self) -> None:
        cell_id, key = self.somebody()
        cores = self.chance.choice([2, 4, 64, enrolment.TOTAL_MAX.cpu_cores + 1])
        has = Resources(cpu_cores=cores, mem_bytes=1 << 30)
        leased = self.desk.state.leased_by_cell.get(cell_id, Resources())
        before = self.desk.state.cells.get(cell_id)
        said = messages.CellRegistration(cell_id, "aws", "", "1", has)
        self.desk.tell(events.CellRegistered(said, key))
        assert self.is_in(cell_id, key), "somebody registered who is not in"
        assert leased == Resources() or self.desk.state.cells[cell_id].total.fits(before.total), "grown under leases"

    def dial(self) -> None:
        cell_id, key = self.somebody()
        self.epochs[cell_id] += self.chance.choice([0, 0, 1])
        hello = frames.Hello(cell_id, max(1, self.epochs[cell_id]), "1")
        self.desk._links += 1
        self.desk.tell(events.LinkOpened(self.desk._links, hello, key))
        assert self.is_in(cell_id, key), "a link was opened for somebody who is not in"

    def ask(self) -> None:
        self.asked += 1
        self.desk.ask(run_key=f"key-of-run-number-{self.asked}")

    def answer(self) -> None:
        """A cell says something of a run that is on it."""
        run = self.chance.choice(list(self.desk.state.runs_under_way()) or [None])
        if run is None or not self.desk.state.link_of(run.cell_id):
            return
        if run.state == runs.ADMITTED:
            self.desk.grant_all(run)
        elif run.state == runs.PLACED and self.chance.random() < 0.5:
            self.desk.say(run.cell_id, frames.RunStarted(run.run_id))
        else:
            self.desk.report(run)
            self.desk.tear_down(run)

    def wait(self) -> None:
        linked = [cell_id for cell_id in CELLS if self.desk.state.link_of(cell_id)]
        self.desk.wait(self.chance.choice([1, 5, 30]), *linked)

    def revoke(self) -> None:
        if self.chance.random() < 0.6:
            return
        cell_id = self.chance.choice(CELLS)
        self.desk.tell(events.CellRevokeAsked(cell_id, self.chance.choice([0.0, 3.0, 60.0]), "why not"))

    def restart(self) -> None:
        if self.chance.random() < 0.6:
            return
        self.desk.restart()

    def somebody(self) -> tuple[str, str]:
        """A cell with its key, mostly; or whoever takes himself for it."""
        cell_id, key = self.chance.choice(CELLS), self.chance.choice(KEYS)
        identity = self.desk.state.identities.get(cell_id)
        return cell_id, identity.key_sha256 if identity is not None and self.chance.random() < 0.8 else key

    # --- what must be true ---

    def is_in(self, cell_id: str, key: str) -> bool:
        identity = self.desk.state.identities.get(cell_id)
        return identity is not None and identity.key_sha256 == key and not identity.revoked_at

    def check(self) -> None:
        state = self.desk.state
        for key in self.revoked:
            assert key in state.revoked_keys, f"{key} is forgiven"
        self.revoked = set(state.revoked_keys)
        for identity in state.identities.values():
            assert bool(identity.revoked_at) == (identity.key_sha256 in self.revoked), identity
            assert not identity.revoked_at or identity.revoke_at, identity
            if identity.revoked_at:
                assert not state.runs_at(identity.cell_id), "a run goes on at a revoked cell"
                assert not any(state.leases_at(identity.cell_id)), "a lease stands on a revoked cell"
                assert not state.link_of(identity.cell_id), "a revoked cell is linked"
            if identity.revoke_at:
                assert state.draining(identity.cell_id), "a cell on its way out is not drained"
        for cell_id in CELLS:
            cell = state.cells.get(cell_id)
            if cell is not None and state.link_of(cell_id):
                assert self.is_in(cell_id, cell.key_sha256), f"{cell_id} is linked and not in"
        self.check_money()

    def check_money(self) -> None:
        state = self.desk.state
        account = state.ledger.account("slice-1")
        held = sum(hold.amount_micro_cents for hold in state.ledger.holds.values())
        assert account.held_micro_cents == held
        assert {hold.hold_id for hold in state.ledger.holds.values()} == {it.hold_id for it in state.runs_under_way()}
        assert account.spent_micro_cents == sum(run.cost_micro_cents for run in state.runs.values())
        leased = sum((lease.resources for lease in state.leases.values() if lease.state != "lapsed"), Resources())
        assert sum(state.leased_by_cell.values(), Resources()) == leased


def test_who_is_in_is_in_by_right_and_money_comes_out_even_in_every_story() -> None:
    until, seeds = time.monotonic() + SHARE_OF_SEEDS_S, 0
    seen: Counter[str] = Counter()
    while seeds < SEEDS_AT_LEAST or time.monotonic() < until:
        seen += play(seeds)
        seeds += 1
    print(f"{seeds} stories: {dict(seen)}")
    # A story in which nobody is ever refused or revoked proves nothing about it.
    for what in ("enrol", "register", "dial", "ask", "answer", "revoke", "restart"):
        assert seen[what], what
    for code in ("enrolment_refused", "enrolment_expired", "certificate_refused", "cell_revoked", "limit_exceeded"):
        assert seen[code], code


@pytest.mark.deep
def test_many_stories() -> None:
    seen = sum((play(seed) for seed in range(DEEP_SEEDS)), Counter())
    print(f"{DEEP_SEEDS} stories: {dict(seen)}")


def play(seed: int) -> Counter[str]:
    try:
        return Story(seed).play().seen
    except (AssertionError, KeyError, AttributeError) as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
