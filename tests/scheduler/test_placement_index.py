"""The index chooses as the scan does, whatever happened before."""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from desk import MIB, SETTINGS, Desk
from msgspec.structs import replace as replace_fields

from grafos_core.changes import Change
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_core.tiers import Tier
from grafos_scheduler import events, frames, leases, messages, rows
from grafos_scheduler.decide import decide
from grafos_scheduler.effects import Decision
from grafos_scheduler.image_messages import IMAGE_DEMAND, ImagesDemanded
from grafos_scheduler.placement import Candidate, Demand, choose, vetoes
from grafos_scheduler.placement_index import BUCKET_CELLS_MAX, Column, PlacementIndex, Rank, Shape
from grafos_scheduler.state import State

STEPS = 150
IMAGES = ("", "a" * 64, "b" * 64)
TOTALS = (
    Resources(cpu_cores=2, mem_bytes=2 * MIB),
    Resources(cpu_cores=4, mem_bytes=4 * MIB),
    Resources(cpu_cores=3, mem_bytes=3 * MIB, block_bytes=1000, gpu_count=3, nic_count=1),
    Resources(cpu_cores=1),
)
MOMENT = replace(SETTINGS, healthy_after_s=3.0)


class History:
    """A desk at which one random thing happens after the other. Everything follows from ``seed``."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.desk = Desk(MOMENT, budget_micro_cents=20_000_000)
        self.asked = 0

    def step(self) -> None:
        happen: list[Callable[[str], object]] = [
            self._comes,
            self._dials,
            self._dials,
            self._beats,
            self._all_beat,
            self._hangs_up,
            self._drains,
            self._terms,
            self._marks,
            self._conforms,
            self._demands,
            self._asks,
            self._asks,
            self._asks,
            self._ends,
            lambda _: self.desk.wait(self.chance.choice((1, 3, 20))),
        ]
        # What a random thing is refused for is no matter here: the next one goes on from where this one left it.
        try:
            self.chance.choice(happen)(f"cell-{self.chance.randrange(8)}")
        except GrafosError:
            pass

    def request(self) -> messages.RunRequest:
        chance, self.asked = self.chance, self.asked + 1
        return self.desk.request(
            run_key=f"a-key-of-run-{self.asked}",
            provider=chance.choice(("aws", "aws", "aws", "local")),
            deadline_s=chance.choice((1.0, 10.0, 60.0)),
            lease_mem_bytes=chance.choice((0, 0, 1, MIB, 2 * MIB, 3 * MIB)),
            lease_block_bytes=chance.choice((0, 0, 0, 300, 1000)),
            lease_gpu_count=chance.choice((0, 0, 0, 1, 2)),
            lease_nic_count=chance.choice((0, 0, 0, 1)),
            tier=chance.choice(list(Tier)),
            cell_id=chance.choice(("",) * 9 + ("cell-3",)),
        )

    def _comes(self, cell_id: str) -> None:
        provider = "local" if cell_id == "cell-7" else "aws"
        has, image = self.chance.choice(TOTALS), self.chance.choice(IMAGES)
        told = messages.CellRegistration(cell_id, provider, "here", "1", has, image_sha256=image)
        self.desk.tell(events.CellRegistered(told, f"key-of-{cell_id}"))

    def _dials(self, cell_id: str) -> None:
        self._comes(cell_id)
        self._terms(cell_id)
        self.desk.dial(cell_id, boot_epoch=self.chance.choice((1, 1, 1, 2)))
        self.desk.wait(4, cell_id)

    def _beats(self, cell_id: str) -> None:
        self.desk.say(cell_id, frames.Heartbeat(leased=Resources()))

    def _all_beat(self, _: str) -> None:
        for cell_id in self.desk.state.cells:
            self._beats(cell_id)

    def _hangs_up(self, cell_id: str) -> None:
        self.desk.tell(events.LinkClosed(cell_id, self.desk.state.link_of(cell_id)))

    def _drains(self, cell_id: str) -> None:
        self.desk.tell(events.DrainAsked(cell_id, draining=self.chance.random() < 0.5))

    def _terms(self, cell_id: str) -> None:
        self.desk.set_terms(cell_id, rate=self.chance.choice((0, 3_600_000, 720_000_000)), life_s=self._life_s())

    def _marks(self, _: str) -> None:
        self.desk.tell(events.ProviderMarked("aws", self.chance.random() < 0.15, "op"))

    def _conforms(self, cell_id: str) -> None:
        wrong = ("a-case",) if self.chance.random() < 0.3 else ()
        self.desk.tell(events.TrialOpened(cell_id, "ada", 60.0))
        self.desk.tell(events.ConformanceReported(cell_id, messages.Conformance("1", 5, wrong), "op"))

    def _demands(self, _: str) -> None:
        demanded = IMAGES[1:] if self.chance.random() < 0.2 else ()
        self.desk.tell(ImagesDemanded(demanded, "op"))

    def _life_s(self) -> float:
        return self.chance.choice((0.0, 0.0, 60.0, 400.0))

    def _asks(self, _: str) -> None:
        self.desk.tell(events.RunRequested("ada", self.request()))

    def _ends(self, _: str) -> None:
        under_way = list(self.desk.state.runs_under_way())
        if under_way:
            run = self.chance.choice(under_way)
            self.desk.grant_all(run)
            self.desk.tear_down(run, fenced=self.chance.random() < 0.2)


def outcome(state: State, request: messages.RunRequest, now: float) -> Decision:
    return decide(state, events.RunRequested("ada", request), now, random.Random(3))


def by_scan(state: State) -> State:
    """The same state, whose index knows of no cell."""
    other = copy.copy(state)
    other.placement = PlacementIndex()
    return other


def by_index(state: State) -> State:
    """The same state, whose scan finds no cell."""
    other = copy.copy(state)
    other.cells_by_provider = defaultdict(dict)
    return other


def agree(seed: int) -> int:
    """How many of the history's askings found a cell; fails where index and scan differ."""
    history, placed = History(seed), 0
    for _ in range(STEPS):
        history.step()
        # Of the lowest tier and naming no cell: a run that index and scan alone decide about.
        request = replace_fields(history.request(), tier=Tier.SCAVENGER, cell_id="")
        state, now = history.desk.state, history.desk.now
        scanned = outcome(by_scan(state), request, now)
        assert outcome(state, request, now).batch == scanned.batch
        said = outcome(state, request, now).refusal
        assert (said and (said.code, said.what, said.context)) == (
            scanned.refusal and (scanned.refusal.code, scanned.refusal.what, scanned.refusal.context)
        )
        indexed = outcome(by_index(state), request, now)
        if scanned.refusal is None:
            assert indexed.batch == scanned.batch
            placed += 1
        elif scanned.refusal.code != "quota_exceeded":
            assert indexed.refusal is not None, "the index gave a cell that the scan refuses"
    return placed


@pytest.mark.parametrize("seed", range(6))
def test_index_and_scan_agree_on_every_decision_of_a_random_history(seed: int) -> None:
    assert agree(seed) > 0, "no asking found a cell: this history shows nothing"


@pytest.mark.deep
def test_index_and_scan_agree_on_many_histories() -> None:
    for seed in range(100, 400):
        agree(seed)


@pytest.mark.parametrize("seed", range(3))
def test_an_index_made_anew_from_the_rows_is_the_one_that_grew_with_them(seed: int) -> None:
    history = History(seed)
    for _ in range(STEPS):
        history.step()
    while not history.desk.state.placement.places:  # a moment at which every cell was off shows nothing
        history.step()
    state = history.desk.state
    tables: dict[str, dict[str, Any]] = {
        rows.CELL: state.cells,
        rows.TERMS: state.terms,
        rows.PRESENCE: state.presences,
        rows.LEASE: state.leases,
        rows.DRAIN: state.drains,
        rows.PRODUCTION: state.productions,
        rows.CONFORMANCE: state.conformed,
        IMAGE_DEMAND: state.image_demands,
    }
    changes = [Change(kind, key, row) for kind, table in tables.items() for key, row in table.items()]
    history.chance.shuffle(changes)
    anew = State(MOMENT, 0.0)
    anew.apply(changes)
    assert state.placement.places
    assert anew.placement.places == state.placement.places
    for cell_id, (_, _, rank) in state.placement.places.items():
        taken = [lease.resources for lease in state.leases_at(cell_id) if leases.counts(lease)]
        assert rank.mem_bytes_leased == sum(each.mem_bytes for each in taken)


def test_a_cell_that_fell_silent_is_passed_over_without_anybody_telling_the_index() -> None:
    desk = Desk(SETTINGS)
    desk.add_cell("cell-large", mem=8 * MIB)
    desk.add_cell("cell-small")
    desk.ask(run_key="takes-the-free-cell", lease_mem_bytes=MIB // 4)
    desk.wait(20, "cell-small")
    before = dict(desk.state.placement.places)
    assert desk.ask(run_key="takes-what-is-left").cell_id == "cell-small"
    assert before["cell-large"] == desk.state.placement.places["cell-large"]


def test_a_drained_cell_is_not_in_the_index_and_comes_back_with_its_leases() -> None:
    desk = Desk(SETTINGS)
    desk.add_cell()
    desk.ask(lease_mem_bytes=MIB)
    filed = dict(desk.state.placement.places)
    desk.tell(events.DrainAsked("cell-1", draining=True))
    assert desk.state.placement.places == {}
    desk.tell(events.DrainAsked("cell-1", draining=False))
    assert desk.state.placement.places == filed


def test_a_full_fleet_is_refused_with_the_vetoes_of_each_cell() -> None:
    desk = Desk(SETTINGS)
    for number in range(3):
        desk.add_cell(f"cell-{number}", cores=1)
        desk.ask(run_key=f"a-key-of-run-{number}")
    with pytest.raises(GrafosError) as refusal:
        desk.ask(run_key="a-key-of-one-more")
    assert refusal.value.code == "placement_failed"
    assert refusal.value.context["vetoes"] == {f"cell-{n}": "cpu_cores: 1 wanted, 0 of 1 free" for n in range(3)}


def test_a_choice_looks_at_few_cells_however_many_there_are_and_however_full() -> None:
    index, shape = PlacementIndex(), Shape("aws", Resources(cpu_cores=4, mem_bytes=1000), 1)
    for number in range(5000):
        index.put(f"cell-{number:05}", shape, Resources(cpu_cores=4 if number % 50 else 3, mem_bytes=number % 7))
    looked: list[str] = []
    index.best(Demand("aws", Resources(cpu_cores=1, mem_bytes=10), 0.0, 10), 1.0, looked.append)
    assert len(looked) == 100, "only those with a core left"


def test_fleets_of_any_shapes_and_leases_are_ranked_as_the_scan_ranks_them() -> None:
    chance = random.Random(11)
    for _ in range(400):
        index, candidates = PlacementIndex(), {}
        for number in range(chance.randrange(1, 12)):
            total = Resources(cpu_cores=chance.randrange(1, 9), mem_bytes=chance.randrange(5), gpu_count=number % 2)
            leased = Resources(cpu_cores=chance.randrange(9), mem_bytes=chance.randrange(3))
            name, rate = f"cell-{number}", chance.choice((0, 3600))
            index.put(name, Shape("aws", total, rate), leased)
            candidates[name] = Candidate(name, total, leased, 0.0, draining=False, worst_case_micro_cents=rate)
        wanted = Resources(cpu_cores=chance.randrange(4), mem_bytes=chance.randrange(3), gpu_count=chance.randrange(2))
        demand = Demand("aws", wanted, 0.0, 5000)
        fit = {name: each for name, each in candidates.items() if not vetoes(each, demand)}
        chosen = index.best(demand, 1.0, fit.get)
        assert chosen is (choose(candidates.values(), demand) if fit else None)


def test_a_column_keeps_its_order_while_it_grows_and_shrinks() -> None:
    chance, worst = random.Random(5), Rank(1000, 0, "")
    column, expected = Column(worst), {worst}
    for number in range(6 * BUCKET_CELLS_MAX):
        rank = Rank(chance.randrange(1000), chance.randrange(4), f"cell-{number}")
        expected.add(rank)
        column.add(rank)
    assert list(column) == sorted(expected)
    for rank in chance.sample(sorted(expected), len(expected)):
        assert column.first == min(expected)
        column.remove(rank)
        expected.remove(rank)
        if len(expected) % 500 == 0:
            assert list(column) == sorted(expected)
    assert not column
