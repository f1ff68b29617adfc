"""The routes of the fabric's ledger, over TLS: of an orchestrator on SQLite, and of one on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from orchestrator import Orchestrator
from postgresql import PASSWORD, Server
from standalone import Identity

from grafos_core import ledger as ledgers
from grafos_core.booking import Booking, HoldStep, LedgerCopy, booking_of, digest_of
from grafos_core.errors import GrafosError
from grafos_core.ledger import Account, Hold, Ledger
from grafos_scheduler.ledger_messages import LedgerView
from grafos_scheduler.orchestrator_client import OrchestratorClient

OPERATOR, TENANT = "operator", "tenant/acme"
MINE, ANOTHERS = "a" * 32, "b" * 32
CELLS = 2_500
"""More than one page has."""
HELD = tuple(Hold(f"cell/c{number}/1/5", OPERATOR, 3, "a cell") for number in range(CELLS))
SLICE = Hold("slice-web", TENANT, 200, "runs", slice_for="web", expires_at=9_000_000_000.0)
COPY = LedgerCopy(
    1,
    (
        Account(OPERATOR, 10**6, spent_micro_cents=70, held_micro_cents=3 * CELLS),
        Account(TENANT, 10**6, spent_micro_cents=5, held_micro_cents=200),
    ),
    (*HELD, SLICE),
)
_numbers = itertools.count(1)


class Keeper:
    """An orchestrator that was claimed, with a tenant whose budget is 7 cents; starts again as often as wanted."""

    def __init__(self, folder: Path, server: Server | None) -> None:
        self.server, self.name = server, f"ledger_{next(_numbers)}"
        flags = {"database": self._url(server.make(self.name))} if server is not None else {}
        self.at = Orchestrator(folder, **flags)
        self.at.start()
        self.operator: Identity = self.at.claimed()
        self.at.employ(self.operator, "acme", budget_cents=7)

    def _url(self, database: str) -> str:
        assert self.server is not None
        return self.server.url(database, password=quote(PASSWORD, safe=""))

    def client(self) -> OrchestratorClient:
        return self.at.client(self.operator, patience_s=20.0)

    def restart(self) -> None:
        """In good order: the lease of a database is given back."""
        assert self.at.scheduler is not None
        self.at.scheduler.end()
        self.at.start()

    def restart_from(self, dump: bytes) -> None:
        """Another, empty database is filled with what was dumped from the first."""
        assert self.at.scheduler is not None
        assert self.server is not None
        self.at.scheduler.end()
        self.server.restore(self.server.make(f"{self.name}_after"), dump)
        self.server.sql(f"{self.name}_after", "UPDATE grafos.leader SET until = '-infinity'")
        self.at.flags["database"] = self._url(f"{self.name}_after")
        self.at.start()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keeper]:
    server = request.getfixturevalue("database_server") if request.param == "postgresql" else None
    made = Keeper(tmp_path, server)
    try:
        yield made
    finally:
        made.at.discard()


@pytest.fixture
def on_postgresql(tmp_path: Path, database_server: Server) -> Iterator[Keeper]:
    made = Keeper(tmp_path, database_server)
    try:
        yield made
    finally:
        made.at.discard()


def refused(action: object, *args: object, **kwargs: object) -> str:
    with pytest.raises(GrafosError) as caught:
        action(*args, **kwargs)  # type: ignore[operator]
    return caught.value.code


def seen(keeper: Keeper) -> tuple[LedgerView, Ledger]:
    with keeper.client() as client:
        return client.ledger()


def holds_of(ledger: Ledger) -> dict[str, Hold]:
    return dict(sorted(ledger.holds.items()))


def test_a_ledger_is_taken_booked_in_closed_and_fetched_with_a_restart_after_each(keeper: Keeper) -> None:
    with keeper.client() as client:
        assert client.ledger()[0].state == "none"
        assert client.take_ledger(COPY, digest_of(COPY)).state == "open"
        assert client.take_ledger(COPY, digest_of(COPY)).revision == 1
        other = LedgerCopy(1, COPY.accounts[:1], HELD)
        assert refused(client.take_ledger, other, digest_of(other)) == "ledger_elsewhere"
    keeper.restart()
    view, ledger = seen(keeper)
    assert holds_of(ledger) == {held.hold_id: held for held in sorted(COPY.holds, key=lambda held: held.hold_id)}
    assert ledger.accounts[TENANT] == Account(TENANT, 7_000_000, 5, 200), "its cap is set here"

    ended = ledgers.in_turn(ledger, [lambda known: ledgers.settle(known, SLICE.hold_id, 150, ended_at=8.0)])
    step = HoldStep(Hold("cell/new/1/6", OPERATOR, 500, "a cell"))
    with keeper.client() as client:
        client.book(booking_of(ledger, ended))
        client.book(booking_of(ledger, ended))  # its answer was lost
        client.book(Booking((step,)))
        over = HoldStep(Hold("cell/over/1/7", OPERATOR, 10**6, "a cell"))
        assert refused(client.book, Booking((over,))) == "ledger_conflict"
    keeper.restart()
    view, ledger = seen(keeper)
    assert view.revision == 3
    assert ledger.accounts[TENANT] == Account(TENANT, 7_000_000, 155, 0)
    assert ledger.accounts[OPERATOR] == Account(OPERATOR, 10**6, 70, 3 * CELLS + 500)

    with keeper.client() as client:
        closed = client.close_ledger(1, fetch=MINE)
        assert closed.state == "closed"
    keeper.restart()
    with keeper.client() as client:
        assert refused(client.book, Booking((step,))) == "ledger_elsewhere"
        assert refused(client.close_ledger, 1, fetch=ANOTHERS) == "ledger_elsewhere"
        assert client.close_ledger(1, fetch=MINE) == closed
        _, ledger = client.ledger()
    home = LedgerCopy(1, tuple(ledger.accounts.values()), tuple(ledger.holds.values()))
    assert digest_of(home) == closed.digest


def test_an_orchestrator_that_was_given_up_joins_what_comes_to_what_it_had(keeper: Keeper) -> None:
    with keeper.client() as client:
        client.take_ledger(COPY, digest_of(COPY))
        client.book(Booking((HoldStep(Hold("cell/new/1/6", OPERATOR, 500, "a cell")),)))
        again = LedgerCopy(2, COPY.accounts, COPY.holds, lost=(1,))
        client.take_ledger(again, digest_of(again))
    keeper.restart()
    view, ledger = seen(keeper)
    assert (view.generation, view.lost) == (2, (1,))
    assert ledger.accounts[OPERATOR] == Account(OPERATOR, 10**6, 70, 3 * CELLS + 500)
    assert set(ledger.holds) == {held.hold_id for held in COPY.holds} | {"cell/new/1/6"}


@pytest.mark.needs("postgresql")
def test_an_orchestrator_put_back_from_a_dump_has_the_ledger_of_that_moment_and_goes_on(on_postgresql: Keeper) -> None:
    keeper = on_postgresql
    assert keeper.server is not None
    with keeper.client() as client:
        client.take_ledger(COPY, digest_of(COPY))
    before = seen(keeper)[1]
    dump = keeper.server.dump(keeper.name)
    with keeper.client() as client:
        client.book(booking_of(before, ledgers.settle(before, HELD[0].hold_id, 1)))
    keeper.restart_from(dump)
    view, ledger = seen(keeper)
    assert (view.state, view.revision) == ("open", 1)
    assert holds_of(ledger) == holds_of(before)
    assert ledger.accounts == before.accounts
    with keeper.client() as client:
        client.book(booking_of(ledger, ledgers.settle(ledger, HELD[0].hold_id, 1)))
        assert client.take_ledger(COPY, digest_of(COPY)).revision == 2, "the copy that moved is told again, and stays"
    assert seen(keeper)[1].holds[HELD[0].hold_id].state == "settled"
