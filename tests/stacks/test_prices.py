"""The person's price table in its file, and the price that a plan is made by."""

from __future__ import annotations

import multiprocessing
import stat
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import msgspec
import pytest

from grafos_connectors.contract import CloudError, Identity, Offer, Price
from grafos_connectors.pricing.table import PriceRow
from grafos_connectors.twin.cloud import TwinCloud
from grafos_connectors.twin.connector import TwinConnector
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_stacks.prices import PriceBook, Wanted, read_price, refresh, refuse_over, wanted_of

DAY_S = 86400.0
REGION = "twin-1"
MEDIUM, ARM = "twin.medium", "twin.medium-arm"
CLOCK = VirtualClock()


class TwinOfARealCloud(TwinConnector):
    """The twin, as if somebody were billed by it. ``said`` replaces what a price says; an error is raised."""

    def __init__(self, clock: VirtualClock, **said: Any) -> None:
        super().__init__(TwinCloud(clock))
        self.said: dict[str, Any] = {"fictional": False, **said}
        self.refusal: dict[str, CloudError] = {}
        self.asked: list[str] = []

    def identity(self) -> Identity:
        return msgspec.structs.replace(super().identity(), emulated=False)

    def price(self, region: str, machine_type: str) -> Price:
        self.asked.append(machine_type)
        if machine_type in self.refusal:
            raise self.refusal[machine_type]
        return msgspec.structs.replace(super().price(region, machine_type), **self.said)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def book(clock: VirtualClock) -> PriceBook:
    return PriceBook(clock)


def offer(connector: TwinConnector, machine_type: str = MEDIUM) -> Offer:
    return connector.offers(REGION, machine_type)[0]


def both(book: PriceBook, connector: TwinConnector) -> list[Any]:
    return refresh(book, connector, [Wanted("memory", REGION, MEDIUM), Wanted("memory", REGION, ARM)], lambda _: None)


def refusal_of(book: PriceBook, connector: TwinConnector) -> GrafosError:
    with pytest.raises(GrafosError) as refused:
        book.price(connector, connector.identity(), offer(connector))
    return refused.value


# --- the price of a plan -------------------------------------------------------------------------------------------


def test_an_emulated_cloud_is_asked_itself_and_its_price_is_fictional(book: PriceBook, clock: VirtualClock) -> None:
    connector = TwinConnector(TwinCloud(clock))
    price = book.price(connector, connector.identity(), offer(connector))
    assert price.fictional
    assert not book.file.exists()


def test_an_emulator_that_does_not_call_its_prices_fictional_is_not_believed(
    book: PriceBook, clock: VirtualClock
) -> None:
    connector = TwinOfARealCloud(clock)
    emulated = msgspec.structs.replace(connector.identity(), emulated=True)
    assert book.price(connector, emulated, offer(connector)).fictional


def test_an_emulated_price_of_zero_is_refused_too(book: PriceBook, clock: VirtualClock) -> None:
    connector = TwinOfARealCloud(clock, fictional=True, address_per_hour=0)
    emulated = msgspec.structs.replace(connector.identity(), emulated=True)
    with pytest.raises(GrafosError) as refused:
        book.price(connector, emulated, offer(connector))
    assert refused.value.code == "price_implausible"


def test_a_real_cloud_s_price_comes_from_the_table_and_is_as_old_as_its_refresh(
    book: PriceBook, clock: VirtualClock
) -> None:
    connector = TwinOfARealCloud(clock)
    assert refusal_of(book, connector).code == "price_missing"
    both(book, connector)
    read = len(connector.asked)
    price = book.price(connector, connector.identity(), offer(connector))
    assert not price.fictional
    assert price.as_of == book.today.isoformat()
    assert price.source == "twin, listed 2026-11-21"
    clock.advance(30 * DAY_S)
    assert book.price(connector, connector.identity(), offer(connector)) == price
    clock.advance(DAY_S)
    refused = refusal_of(book, connector)
    assert refused.code == "price_stale"
    assert "31 days old" in refused.what
    assert refused.next == f"grafos cloud prices refresh --provider memory --region {REGION} --type {MEDIUM}"
    assert len(connector.asked) == read, "a plan on a real cloud asks the table alone"
    both(book, connector)
    assert book.price(connector, connector.identity(), offer(connector)).as_of == book.today.isoformat()


def test_a_shipped_row_is_stale_until_it_was_refreshed(book: PriceBook, clock: VirtualClock) -> None:
    class TwinOfAws(TwinOfARealCloud):
        provider = "aws"

    connector = TwinOfAws(clock)
    shipped = Offer("us-east-1", "us-east-1a", "t4g.medium", "arm64", 2, 4 << 30)
    with pytest.raises(GrafosError) as refused:
        book.price(connector, connector.identity(), shipped)
    assert refused.value.code == "price_stale"
    assert "unknown date" in refused.value.what


# --- refreshing ----------------------------------------------------------------------------------------------------


def test_what_fails_leaves_what_was_there_and_loses_no_other(book: PriceBook, clock: VirtualClock) -> None:
    connector = TwinOfARealCloud(clock)
    both(book, connector)
    before = {row.name: row for row in book.table() if row.provider == "memory"}
    clock.advance(DAY_S)
    connector.refusal[MEDIUM] = CloudError("price_missing", "none")
    outcomes = both(book, connector)
    assert [outcome.error and outcome.error.code for outcome in outcomes] == ["price_missing", None]
    after = {row.name: row for row in book.table() if row.provider == "memory"}
    assert after[MEDIUM] == before[MEDIUM]
    assert after[ARM].as_of == book.today.isoformat() != before[ARM].as_of


@pytest.mark.parametrize("said", [{"machine_per_hour": 0}, {"spot_per_hour": 10**9}, {"disk_per_gib_month": 10**9}])
def test_what_cannot_be_believed_is_not_kept(said: dict[str, int], book: PriceBook, clock: VirtualClock) -> None:
    outcomes = both(book, TwinOfARealCloud(clock, **said))
    assert {outcome.error.code for outcome in outcomes} == {"price_implausible"}
    assert not book.file.exists()


def test_a_refusal_that_meets_every_question_ends_the_asking(book: PriceBook, clock: VirtualClock) -> None:
    connector = TwinOfARealCloud(clock)
    connector.refusal[MEDIUM] = CloudError("cloud_denied", "no")
    assert len(both(book, connector)) == 1
    connector.refusal = {ARM: CloudError("cloud_auth", "expired")}
    assert len(both(book, connector)) == 2
    assert {row.name for row in book.table() if row.provider == "memory"} >= {MEDIUM}, "what came before is kept"


def test_regions_are_asked_at_the_same_time_and_the_answers_come_in_order(book: PriceBook, clock: VirtualClock) -> None:
    """A price list is slow and the tables are long: one question after the other is more than a person waits for."""
    together = threading.Barrier(2)

    class Met(TwinOfARealCloud):
        def price(self, region: str, machine_type: str) -> Price:
            together.wait(30)  # nobody answers before both regions are asked
            return super().price(region, machine_type)

    connector = Met(clock)
    wanted = [Wanted("memory", region, name) for region in (REGION, "twin-2") for name in (ARM, MEDIUM)]
    assert [outcome.wanted for outcome in refresh(book, connector, wanted, lambda _: None)] == wanted


def test_a_type_that_is_not_offered_has_no_price(book: PriceBook, clock: VirtualClock) -> None:
    outcome = read_price(TwinOfARealCloud(clock), Wanted("memory", REGION, "huge"), book.table(), book.today)
    assert outcome.error is not None
    assert outcome.error.code == "cloud_capacity"


def test_prices_of_an_emulator_never_get_into_the_table(book: PriceBook, clock: VirtualClock) -> None:
    outcomes = both(book, TwinConnector(TwinCloud(clock)))
    assert all(outcome.rows and outcome.error is None for outcome in outcomes)
    assert not book.file.exists()


def test_without_names_the_machines_of_the_table_are_wanted_and_a_named_one_always() -> None:
    table = PriceBook(CLOCK).table()
    every = wanted_of(table, ("aws", "gcp", "azure"))
    assert {one.provider for one in every} == {"aws", "gcp", "azure"}
    assert set(wanted_of(table, ("aws",), ("us-east-1",))) < set(every)
    named = Wanted("aws", "sa-east-1", "t4g.nano")
    assert named not in every
    assert wanted_of(table, ("aws",), ("sa-east-1",), ("t4g.nano",)) == (named,)


def test_machines_of_other_disks_do_not_price_each_other_s(book: PriceBook, clock: VirtualClock) -> None:
    """Some series of a cloud take another sort of disk than the rest."""
    connector = TwinOfARealCloud(clock)
    refresh(book, connector, [Wanted("memory", REGION, MEDIUM)], lambda _: None)
    connector.said["disk_per_gib_month"] = 9_999_999
    refresh(book, connector, [Wanted("memory", REGION, ARM)], lambda _: None)
    for name, disk in ((MEDIUM, 8_000_000), (ARM, 9_999_999)):
        assert book.price(connector, connector.identity(), offer(connector, name)).disk_per_gib_month == disk


# --- the file ------------------------------------------------------------------------------------------------------


def own(name: str) -> PriceRow:
    return PriceRow("aws", "vm", name, "us-east-1", "hour", 1, "test", "2026-11-21")


def test_the_file_is_for_its_owner_and_holds_what_was_kept(book: PriceBook) -> None:
    book.keep([own("a")])
    book.keep([own("b")])
    assert stat.S_IMODE(book.file.stat().st_mode) == 0o600
    assert {row.name for row in PriceBook(CLOCK).table() if row.source == "test"} == {"a", "b"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rows": [{"provider": 1}]}'])
def test_a_table_that_cannot_be_read_is_told_and_not_overwritten(text: str, book: PriceBook) -> None:
    book.file.parent.mkdir(parents=True)
    book.file.write_text(text)
    for act in (book.table, lambda: book.keep([own("a")])):
        with pytest.raises(GrafosError) as refused:
            act()
        assert refused.value.code == "store_invalid"
        assert "grafos cloud prices refresh" in refused.value.next
    assert book.file.read_text() == text


def test_a_table_of_a_newer_grafos_is_left_alone(book: PriceBook) -> None:
    book.file.parent.mkdir(parents=True)
    book.file.write_text('{"rows": [], "schema_version": 2}')
    with pytest.raises(GrafosError) as refused:
        book.keep([own("a")])
    assert refused.value.code == "schema_newer"


def _keep_some(folder: Path, number: int, at_once: Barrier) -> None:
    at_once.wait(60)
    for step in range(20):
        PriceBook(CLOCK, folder).keep([own(f"w{number}.{step}")])


def test_several_processes_that_refresh_at_once_lose_no_row(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    at_once = context.Barrier(3)
    workers = [context.Process(target=_keep_some, args=(tmp_path, number, at_once)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    kept = {row.name for row in PriceBook(CLOCK, tmp_path).table() if row.source == "test"}
    assert kept == {f"w{number}.{step}" for number in range(3) for step in range(20)}


# --- a bound by the hour -------------------------------------------------------------------------------------------


def test_a_rate_above_what_was_allowed_is_refused() -> None:
    refuse_over(5_000_000, None, "cell a")
    refuse_over(5_000_000, 5, "cell a")
    with pytest.raises(GrafosError) as refused:
        refuse_over(5_000_001, 5, "cell a")
    assert refused.value.code == "budget_exceeded"
    assert "--max-hourly" in refused.value.next
    assert "fictional" not in refused.value.what
    with pytest.raises(GrafosError, match=r"\(fictional\) an hour"):
        refuse_over(5_000_001, 5, "cell a", fictional=True)
