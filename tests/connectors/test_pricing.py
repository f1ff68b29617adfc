"""Which prices are believed, and what the table says that ships with grafos."""

from __future__ import annotations

import math
from datetime import date, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafos_connectors.contract import Offer, Price
from grafos_connectors.pricing import rules
from grafos_connectors.pricing.table import DISK, KINDS, UNITS, VM, PriceRow, PriceTable, price_of, rows_of, seed_rows
from grafos_core.errors import GrafosError

TODAY = date(2026, 11, 21)
SEED = PriceTable(seed_rows())


def row(**fields: object) -> PriceRow:
    """A believable row of today, but for what is said otherwise."""
    good = PriceRow("aws", VM, "t4g.medium", "us-east-1", "hour", 3_360_000, "AWS price list", "2026-11-21")
    return msgspec.structs.replace(good, **{"cpu_millicores": 2000, "spot_micro_cents": 1_380_000, **fields})


def refused(asked: PriceRow, table: PriceTable = SEED) -> str:
    """The code of what is said against a row, and its words; "" if it is believed."""
    try:
        rules.refuse_stale(asked, TODAY)
        rules.refuse_implausible(asked, table)
    except GrafosError as error:
        return f"{error.code}: {error.what}"
    return ""


# --- age -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("as_of", "stale"),
    [
        ("2026-11-21", False),
        ("2026-10-22", False),
        ("2026-10-21", True),
        ("2025-11-21", True),
        ("2026-11-22", False),
        ("2026-11-23", True),
        ("unknown", True),
        ("2026", True),
        ("", True),
    ],
)
def test_a_price_of_a_real_cloud_is_good_for_thirty_days_of_a_known_date(as_of: str, *, stale: bool) -> None:
    assert refused(row(as_of=as_of)).startswith("price_stale") == stale


def test_a_stale_price_names_the_refresh_that_helps() -> None:
    with pytest.raises(GrafosError) as refusal:
        rules.refuse_stale(row(as_of="unknown"), TODAY)
    assert refusal.value.next == "grafos cloud prices refresh --provider aws --region us-east-1 --type t4g.medium"


def test_what_an_emulator_says_is_never_stale_and_one_s_own_machine_neither() -> None:
    assert not rules.is_stale(row(as_of="unknown", fictional=True), TODAY)
    assert not rules.is_stale(row(provider="local", as_of="unknown"), TODAY)


@given(days=st.integers(-400, 400))
def test_a_row_is_stale_exactly_outside_of_its_days(days: int) -> None:
    dated = row(as_of=(TODAY - timedelta(days=days)).isoformat())
    assert rules.is_stale(dated, TODAY) == (not -1 <= days <= 30)


# --- plausibility --------------------------------------------------------------------------------------------------


def test_a_price_that_is_usual_is_believed() -> None:
    assert refused(row()) == ""


def test_nothing_is_free_but_one_s_own_machine() -> None:
    for kind, name in ((VM, "t4g.medium"), (DISK, "boot-disk"), ("address", "public-ipv4"), ("egress", "internet")):
        free = row(kind=kind, name=name, price_micro_cents=0, spot_micro_cents=0)
        assert "costs nothing" in refused(free)
    for kind in (VM, DISK):
        assert refused(row(kind=kind, provider="local", name="here", price_micro_cents=0, spot_micro_cents=0)) == ""


def test_a_spot_price_above_on_demand_is_refused_and_one_that_is_equal_is_not() -> None:
    assert refused(row(spot_micro_cents=3_360_001)).startswith("price_implausible")
    assert refused(row(spot_micro_cents=3_360_000)) == ""


def test_ten_times_the_median_of_the_family_is_the_most() -> None:
    usual = rules.family_median(row(), SEED)
    assert usual is not None
    most = int(10 * usual * 2)  # for two cores
    assert refused(row(price_micro_cents=most)) == ""
    assert refused(row(price_micro_cents=most + 1)).startswith("price_implausible")


def test_a_tenth_of_the_median_of_the_family_is_the_least() -> None:
    """Too low a price is the worse slip: the money that is held by it bounds nothing."""
    usual = rules.family_median(row(), SEED)
    assert usual is not None
    least = math.ceil(usual * 2 / 10)  # for two cores
    assert refused(row(price_micro_cents=least, spot_micro_cents=0)) == ""
    below = refused(row(price_micro_cents=least - 1, spot_micro_cents=0))
    assert below.startswith("price_implausible")
    assert "a tenth" in below


def test_a_slip_of_two_decimals_is_refused_for_every_row_of_a_family_that_is_known() -> None:
    for each in SEED:
        now = msgspec.structs.replace(each, as_of="2026-11-21")
        assert refused(now) == ""
        slipped = msgspec.structs.replace(now, price_micro_cents=100 * now.price_micro_cents)
        assert refused(slipped).startswith("price_implausible"), slipped
        slipped = msgspec.structs.replace(now, price_micro_cents=now.price_micro_cents // 100, spot_micro_cents=0)
        assert refused(slipped).startswith("price_implausible"), slipped


def test_a_large_machine_of_a_series_is_not_dear_for_being_large() -> None:
    assert refused(row(name="t4g.2xlarge", cpu_millicores=8000, price_micro_cents=26_880_000)) == ""


def test_a_family_that_nothing_is_known_of_has_no_median_and_only_the_other_rules() -> None:
    unknown = row(name="p9.48xlarge", cpu_millicores=192_000, price_micro_cents=9_800_000_000)
    assert rules.family_median(unknown, SEED) is None
    assert refused(unknown) == ""


def test_a_price_is_no_witness_for_itself() -> None:
    wrong = row(price_micro_cents=336_000_000)
    assert refused(wrong, SEED.with_rows([wrong])).startswith("price_implausible")


@pytest.mark.parametrize(
    ("provider", "name", "series"),
    [
        ("aws", "t4g.medium", "t4g"),
        ("aws", "u-6tb1.metal", "u-6tb1"),
        ("gcp", "e2-standard-2", "e2"),
        ("gcp", "a3-highgpu-8g", "a3"),
        ("azure", "Standard_B2ats_v2", "B"),
        ("azure", "Standard_NC4as_T4_v3", "NC"),
        ("memory", "small", "small"),
    ],
)
def test_a_family_is_the_series_of_the_type(provider: str, name: str, series: str) -> None:
    assert rules.family_of(row(provider=provider, name=name)) == (VM, provider, series)


def test_a_fictional_price_is_called_so_when_it_is_refused() -> None:
    assert "(fictional)" in refused(row(price_micro_cents=0, spot_micro_cents=0, fictional=True))


# --- the table that ships ------------------------------------------------------------------------------------------


def test_every_shipped_row_says_what_it_is_who_said_so_and_when_or_that_nobody_knows() -> None:
    assert {each.provider for each in SEED} == {"aws", "gcp", "azure"}
    for each in SEED:
        assert each.kind in KINDS
        assert each.unit == UNITS[each.kind]
        assert each.price_micro_cents > 0
        assert each.source
        assert each.as_of == "unknown" or date.fromisoformat(each.as_of) < TODAY
        assert not each.fictional
        assert each.kind != VM or (each.arch in ("amd64", "arm64") and each.cpu_millicores and each.mem_mib)


def test_no_plan_is_made_by_a_shipped_row() -> None:
    assert all(rules.is_stale(each, TODAY) for each in SEED)


def test_shared_cores_are_priced_by_their_share() -> None:
    """The public catalogue has them as two whole cores, about five times too much."""
    whole = SEED.find("gcp", VM, "e2-standard-2", "europe-west1")
    assert whole
    for name, share in (("e2-micro", 8), ("e2-small", 4), ("e2-medium", 2)):
        found = SEED.find("gcp", VM, name, "europe-west1")
        assert found
        assert found.price_micro_cents == pytest.approx(whole.price_micro_cents / share, abs=100)
        assert found.cpu_millicores == 2000 / share


# --- from a connector's price and back -----------------------------------------------------------------------------

PRICE = Price(
    "us-east-1", "t4g.medium", 3_360_000, 8_000_000, 500_000, "AWS price list", "2026-11-01", False, 1_380_000
)
OFFER = Offer("us-east-1", "us-east-1a", "t4g.medium", "arm64", 2, 4 << 30)


def test_what_a_connector_says_becomes_three_rows_of_the_day_and_comes_back() -> None:
    rows = rows_of(PRICE, "aws", OFFER, "2026-11-21")
    assert [each.name for each in rows] == ["t4g.medium", "boot-disk:t4g.medium", "public-ipv4"]
    assert {each.as_of for each in rows} == {"2026-11-21"}
    assert {each.source for each in rows} == {"AWS price list, listed 2026-11-01"}
    assert [refused(each) for each in rows] == ["", "", ""]
    back = price_of(*rows)
    assert msgspec.structs.replace(back, as_of=PRICE.as_of, source=PRICE.source) == PRICE


def test_a_price_is_as_old_as_the_oldest_of_its_rows_and_fictional_if_one_is() -> None:
    machine, disk, address = rows_of(PRICE, "aws", OFFER, "2026-11-21")
    older = msgspec.structs.replace(disk, as_of="2026-11-02")
    assert price_of(machine, older, address).as_of == "2026-11-02"
    assert price_of(machine, msgspec.structs.replace(disk, fictional=True), address).fictional


def test_a_shared_core_is_compared_by_what_is_billed_though_it_is_offered_whole() -> None:
    offer = Offer("europe-west1", "europe-west1-b", "e2-micro", "amd64", 2, 1 << 30)
    price = msgspec.structs.replace(PRICE, region="europe-west1", machine_type="e2-micro", machine_per_hour=921_500)
    assert rows_of(price, "gcp", offer, "2026-11-21")[0].cpu_millicores == 250


def test_one_s_own_row_counts_before_the_shipped_one() -> None:
    newer = row(price_micro_cents=3_000_000)
    table = SEED.with_rows([newer])
    assert table.find("aws", VM, "t4g.medium", "us-east-1") == newer
    assert SEED.find("aws", VM, "t4g.medium", "us-east-1") != newer, "the table itself did not change"
    assert len(list(table)) == len(list(SEED))
